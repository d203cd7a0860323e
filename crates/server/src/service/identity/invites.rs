//! Invitations: a one-time code for a new user or agent, or another login for one that exists.

use std::time::Duration;

use kluis_core::access::{Action, PrincipalKind, Resource, Role};
use kluis_core::api::identity::{CreateInvite, InviteCreated, InviteView};
use kluis_core::api::{Page, PageQuery};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::id::{ComputeId, InviteId, WorkspaceId};
use kluis_core::plaintext::Plaintext;
use kluis_store::Write;
use kluis_store::identity::InviteRow;
use kluis_vault::token;

use super::{Identity, page_of};
use crate::caller::Caller;
use crate::error::{Error, Result};

/// How long a code lives when nothing is said.
const LIFE: Duration = Duration::from_hours(24);
/// How long it may live.
const MAX_LIFE: Duration = Duration::from_hours(30 * 24);

impl Identity<'_> {
    /// Invites. The code is shown once.
    pub async fn invite(&self, caller: &Caller, create: &CreateInvite) -> Result<InviteCreated> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let life = create.life_seconds.map_or(LIFE, Duration::from_secs);
        if life.is_zero() || life > MAX_LIFE {
            return Err(Error::bad_request("`life_seconds` must be 1 to 2592000 (30 days)"));
        }
        let membership = self.membership(caller, create).await?;
        let compute = self.compute(create).await?;
        self.fits_existing(create).await?;

        let now = self.app.now();
        let minted = self.app.mint(token::Kind::Invite);
        let row = InviteRow {
            id: InviteId::generate(&*self.app.rng),
            hash: minted.hash,
            name: create.name.clone(),
            kind: create.kind,
            membership,
            compute,
            created_by: caller.id(),
            created: now,
            expires: now.plus(life),
        };
        let view = view(&row);
        let record = AuditRecord {
            invite: Some(row.id),
            workspace: membership.map(|(workspace, _)| workspace),
            compute,
            name: Some(row.name.to_string()),
            ..caller.record(now, AuditAction::InviteCreated)
        };
        let row = self.app.authenticated(row, InviteRow::canonical);
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), row);
        self.app.store.invite_insert(write).await?;
        Ok(InviteCreated { invite: view, code: Plaintext::from_text(&minted.text).expect("a token is short") })
    }

    /// Invitations that were not used yet, oldest first. A row that is damaged is left out, and in the log.
    pub async fn invites(&self, caller: &Caller, page: &PageQuery) -> Result<Page<InviteView>> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let now = self.app.now();
        let mut rows = self.app.store.invite_list().await?;
        rows.retain(|invite| invite.row.expires > now);
        page_of(
            rows,
            page,
            |invite| invite.row.id,
            |invite| {
                let row = self.app.verified(invite, InviteRow::canonical, "invite", |i| i.id.to_string())?;
                Ok(view(&row))
            },
        )
    }

    /// Takes back an invitation that was not used yet.
    pub async fn invite_revoke(&self, caller: &Caller, invite: InviteId) -> Result<()> {
        self.app.authorize(caller, Action::PrincipalManage, Resource::Installation).await?;
        let record = AuditRecord { invite: Some(invite), ..caller.record(self.app.now(), AuditAction::InviteRevoked) };
        let write = Write::new(caller.authority(), self.app.vault.audit_entry(record), invite);
        self.app.store.invite_revoke(write).await.map_err(|e| Error::from(e).missing("invitation"))
    }

    /// Users may become members at once, if the caller may make them so.
    async fn membership(&self, caller: &Caller, create: &CreateInvite) -> Result<Option<(WorkspaceId, Role)>> {
        let Some(membership) = &create.membership else { return Ok(None) };
        if create.kind != PrincipalKind::User || membership.role == Role::Agent {
            return Err(Error::bad_request(
                "`membership` is for users, as owner, contributor, secrets-writer or reader",
            ));
        }
        let workspace = self.app.workspace_for(caller, &membership.workspace, Action::WorkspaceManage).await?;
        Ok(Some((workspace.id, membership.role)))
    }

    /// An agent serves one compute target from the start.
    async fn compute(&self, create: &CreateInvite) -> Result<Option<ComputeId>> {
        match (create.kind, &create.compute) {
            (PrincipalKind::User, None) => Ok(None),
            (PrincipalKind::Agent, Some(name)) => {
                let found = self.app.compute_named(name).await?;
                Ok(Some(found.ok_or(Error::NotFound("compute target"))?.id))
            }
            (PrincipalKind::Agent, None) => Err(Error::bad_request("an agent needs the `compute` that it will serve")),
            (PrincipalKind::User, Some(_)) => Err(Error::bad_request("`compute` is for agents")),
            (PrincipalKind::ServicePrincipal, _) => {
                Err(Error::bad_request("service principals are not invited; make one and give it a secret"))
            }
        }
    }

    /// A name that is taken must be of the same kind: then the invitation gives it another login.
    async fn fits_existing(&self, create: &CreateInvite) -> Result<()> {
        match self.app.store.principal_by_name(&create.name).await? {
            Some(existing) if existing.row.kind != create.kind => {
                Err(Error::conflict("the name belongs to a principal of another kind"))
            }
            _ => Ok(()),
        }
    }
}

fn view(row: &InviteRow) -> InviteView {
    InviteView {
        id: row.id,
        name: row.name.clone(),
        kind: row.kind,
        invited_by: row.created_by,
        created: row.created,
        expires: row.expires,
    }
}
