//! Who may do what. [`allows`] is pure: the grants of one principal, an action, a resource. Deny wins, and
//! what no rule allows is denied. No patterns, no templates: a grant names its scope by id.

use serde::{Deserialize, Serialize};

use crate::id::{ComputeId, PrincipalId, WorkspaceId};
use crate::name::PrincipalName;
use crate::sealed::Canonical;

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A program with an id and a secret: CI, a service.
    ServicePrincipal,
    /// Serves compute targets.
    Agent,
}

/// Whoever can hold a token. The row grants, so it carries a MAC over [`Principal::canonical`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Its id.
    pub id: PrincipalId,
    /// Its name, unique in the installation.
    pub name: PrincipalName,
    /// User, service principal or agent.
    pub kind: PrincipalKind,
    /// A disabled principal's tokens are refused.
    pub enabled: bool,
    /// Moves with every change of the principal, its grants or its tokens. A cached decision made under
    /// another epoch is stale; see the store's `Authority`.
    pub epoch: Epoch,
    /// Counts changes of this row, from 1.
    pub revision: u64,
}

/// A principal's authority generation. Starts at 1, only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl Principal {
    /// What the row MAC covers. The epoch is left out: it moves inside the store, in the unit of work that
    /// changes a grant, and a stale epoch can only refuse.
    pub fn canonical(&self) -> Vec<u8> {
        Canonical::new("kluis/row/principal/1")
            .bytes(self.id.as_bytes())
            .text(self.name.as_str())
            .number(self.kind as u64)
            .number(u64::from(self.enabled))
            .number(self.revision)
            .finish()
    }
}

/// Where a grant holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The installation: workspaces, principals, compute targets, keys, the whole audit log. It reaches no
    /// secret: an installation's owner who wants to read one must first make itself a member, on record.
    Installation,
    /// One workspace.
    Workspace(WorkspaceId),
    /// One compute target.
    Compute(ComputeId),
}

/// What a grant allows in its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything in the scope, members included.
    Owner,
    /// Reads and writes secrets, submits runs.
    Contributor,
    /// Sets, deletes and lists secrets; never reads a value.
    SecretsWriter,
    /// Names, runs, logs; no values.
    Reader,
    /// Leases the runs of a compute target.
    Agent,
}

impl Role {
    /// As written on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Contributor => "contributor",
            Self::SecretsWriter => "secrets-writer",
            Self::Reader => "reader",
            Self::Agent => "agent",
        }
    }
}

/// Whether a grant gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Gives what the role allows.
    Allow,
    /// Takes what the role allows, whatever else is granted.
    Deny,
}

/// One grant to one principal; at most one per principal, scope and effect. Carries a MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// To whom.
    pub principal: PrincipalId,
    /// Where.
    pub scope: Scope,
    /// What.
    pub role: Role,
    /// Allow or deny.
    pub effect: Effect,
    /// Counts changes of this row, from 1.
    pub revision: u64,
}

impl Grant {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        let c = Canonical::new("kluis/row/grant/1").bytes(self.principal.as_bytes());
        match self.scope {
            Scope::Installation => c.text("installation"),
            Scope::Workspace(id) => c.text("workspace").bytes(id.as_bytes()),
            Scope::Compute(id) => c.text("compute").bytes(id.as_bytes()),
        }
        .text(self.role.as_str())
        .number(u64::from(self.effect == Effect::Allow))
        .number(self.revision)
        .finish()
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it; the table in `role_allows` says who may")]
pub enum Action {
    // On the installation.
    WorkspaceCreate,
    PrincipalManage,
    ComputeManage,
    AuditReadAll,
    KeyRotate,
    // On a workspace.
    WorkspaceRead,
    WorkspaceManage,
    SecretList,
    SecretRead,
    SecretSet,
    SecretDelete,
    SecretPurge,
    RunSubmit,
    RunRead,
    RunManage,
    AuditRead,
    // On a compute target.
    ComputeUse,
    ComputeServe,
}

/// What an action is done to.
pub type Resource = Scope;

/// Whether these grants (of one principal) allow the action on the resource. Deny wins; the default is no.
pub fn allows(grants: &[Grant], action: Action, resource: Resource) -> bool {
    let says = |grant: &Grant| covers(grant.scope, action, resource) && role_allows(grant.role, action);
    let mut allowed = false;
    for grant in grants {
        match grant.effect {
            Effect::Deny if says(grant) => return false,
            Effect::Deny => {}
            Effect::Allow => allowed |= says(grant),
        }
    }
    allowed
}

/// Whether a principal with these grants may know that the resource exists.
pub fn sees(grants: &[Grant], resource: Resource) -> bool {
    match resource {
        Resource::Installation => true,
        Resource::Workspace(_) => {
            allows(grants, Action::WorkspaceRead, resource) || allows(grants, Action::SecretList, resource)
        }
        Resource::Compute(_) => {
            allows(grants, Action::ComputeUse, resource) || allows(grants, Action::ComputeServe, resource)
        }
    }
}

/// A scope covers a resource when they are the same; the installation also covers every compute target, and
/// of every workspace its existence, its members and its audit (never its secrets or runs).
fn covers(scope: Scope, action: Action, resource: Resource) -> bool {
    if scope == resource {
        return true;
    }
    match (scope, resource) {
        (Scope::Installation, Resource::Compute(_)) => true,
        (Scope::Installation, Resource::Workspace(_)) => {
            matches!(action, Action::WorkspaceRead | Action::WorkspaceManage | Action::AuditRead)
        }
        _ => false,
    }
}

fn role_allows(role: Role, action: Action) -> bool {
    use Action as A;
    match role {
        Role::Owner => !matches!(action, A::ComputeServe),
        Role::Contributor => matches!(
            action,
            A::WorkspaceRead
                | A::SecretList
                | A::SecretRead
                | A::SecretSet
                | A::SecretDelete
                | A::RunSubmit
                | A::RunRead
                | A::RunManage
                | A::ComputeUse
        ),
        Role::SecretsWriter => matches!(action, A::WorkspaceRead | A::SecretList | A::SecretSet | A::SecretDelete),
        Role::Reader => matches!(action, A::WorkspaceRead | A::SecretList | A::RunRead),
        Role::Agent => matches!(action, A::ComputeServe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: Scope = Scope::Workspace(WorkspaceId::from_bytes([1; 16]));
    const OTHER: Scope = Scope::Workspace(WorkspaceId::from_bytes([2; 16]));
    const C: Scope = Scope::Compute(ComputeId::from_bytes([3; 16]));

    fn grant(scope: Scope, role: Role, effect: Effect) -> Grant {
        Grant { principal: PrincipalId::from_bytes([9; 16]), scope, role, effect, revision: 1 }
    }

    #[test]
    fn the_table_of_roles() {
        use Action as A;
        let table = [
            (
                Role::Owner,
                vec![A::SecretRead, A::SecretPurge, A::WorkspaceManage, A::RunSubmit, A::AuditRead],
                vec![A::ComputeServe],
            ),
            (
                Role::Contributor,
                vec![A::SecretRead, A::SecretSet, A::RunSubmit],
                vec![A::WorkspaceManage, A::SecretPurge, A::AuditRead],
            ),
            (Role::SecretsWriter, vec![A::SecretSet, A::SecretList], vec![A::SecretRead, A::RunSubmit, A::RunRead]),
            (Role::Reader, vec![A::SecretList, A::RunRead], vec![A::SecretRead, A::SecretSet, A::RunSubmit]),
            (Role::Agent, vec![], vec![A::SecretRead, A::WorkspaceRead, A::RunRead]),
        ];
        for (role, yes, no) in table {
            let grants = [grant(W, role, Effect::Allow)];
            for action in yes {
                assert!(allows(&grants, action, W), "{role:?} {action:?}");
                assert!(!allows(&grants, action, OTHER), "{role:?} {action:?} elsewhere");
            }
            for action in no {
                assert!(!allows(&grants, action, W), "{role:?} {action:?}");
            }
        }
    }

    #[test]
    fn deny_wins_in_any_order() {
        let (yes, no) = (grant(W, Role::Owner, Effect::Allow), grant(W, Role::Contributor, Effect::Deny));
        for grants in [[yes, no], [no, yes]] {
            assert!(!allows(&grants, Action::SecretRead, W));
            assert!(allows(&grants, Action::SecretPurge, W));
        }
    }

    #[test]
    fn an_installation_owner_reads_no_secret_without_becoming_a_member() {
        let grants = [grant(Scope::Installation, Role::Owner, Effect::Allow)];
        for action in [Action::SecretRead, Action::SecretList, Action::SecretSet, Action::RunSubmit, Action::RunRead] {
            assert!(!allows(&grants, action, W), "{action:?}");
        }
        assert!(allows(&grants, Action::WorkspaceManage, W));
        assert!(allows(&grants, Action::ComputeUse, C));
        assert!(!allows(&grants, Action::ComputeServe, C));
    }

    #[test]
    fn without_grants_nothing_is_allowed() {
        assert!(!allows(&[], Action::WorkspaceRead, W));
        assert!(!sees(&[], W));
    }
}
