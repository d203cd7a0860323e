//! Workspaces, their members and settings, and compute targets.

use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::clock::Timestamp;
use crate::id::{ComputeId, PrincipalId, WorkspaceId};
use crate::name::{ComputeName, PrincipalName, WorkspaceName};

/// A workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WorkspaceView {
    /// Its id.
    pub id: WorkspaceId,
    /// Its name.
    pub name: WorkspaceName,
    /// When it was created.
    pub created: Timestamp,
    /// Its settings.
    pub settings: WorkspaceSettings,
    /// The caller's role, when it is a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// What a workspace decides for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct WorkspaceSettings {
    /// Days a deleted secret can be recovered, 7 to 90.
    pub retention_days: u16,
    /// Refuse runs that declare no secrets.
    pub require_declared_secrets: bool,
    /// Refuse reads outside `not_before` and `expires`.
    pub enforce_validity: bool,
}

impl Default for WorkspaceSettings {
    fn default() -> Self {
        Self { retention_days: 90, require_declared_secrets: false, enforce_validity: false }
    }
}

/// A new workspace: `POST /workspaces`. Its creator becomes its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateWorkspace {
    /// Its name.
    pub name: WorkspaceName,
    /// Its settings; the defaults when absent.
    #[serde(default)]
    pub settings: WorkspaceSettings,
}

/// A member of a workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MemberView {
    /// Who.
    pub principal: PrincipalId,
    /// By name.
    pub name: PrincipalName,
    /// As what.
    pub role: Role,
}

/// Giving a role: `PUT /workspaces/{workspace}/members/{principal}` (a name or an id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetMember {
    /// `owner`, `contributor`, `secrets-writer` or `reader`.
    pub role: Role,
}

/// A compute target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComputeView {
    /// Its id.
    pub id: ComputeId,
    /// Its name.
    pub name: ComputeName,
    /// Whether every member who may submit runs may use it; otherwise only those granted it.
    pub open: bool,
    /// When an agent last asked for work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Runs that wait for it.
    pub queued: u64,
}

/// A new compute target: `POST /computes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateCompute {
    /// Its name; `local` is taken.
    pub name: ComputeName,
    /// See [`ComputeView::open`]; true when absent.
    #[serde(default = "yes")]
    pub open: bool,
}

fn yes() -> bool {
    true
}
