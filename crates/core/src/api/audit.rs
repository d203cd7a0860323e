//! The audit log on the wire.

use serde::{Deserialize, Serialize};

use crate::audit::{AuditAction, AuditRecord};
use crate::clock::Timestamp;
use crate::id::{
    BlobId, ComputeId, InviteId, KeyId, PrincipalId, SecretId, SessionId, TokenId, VersionId, WorkspaceId,
};
use crate::name::RunId;

/// One record with its number. Absent fields are unknown; principals and workspaces are also named where the reader
/// may know the name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[expect(missing_docs, reason = "the fields are those of kluis_core::audit::AuditRecord")]
pub struct AuditView {
    /// Its place in the log, from 0.
    pub seq: u64,
    pub time: Timestamp,
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub action: AuditAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<PrincipalId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<TokenId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<InviteId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<ComputeId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<BlobId>,
}

/// A page of the log. What it lists is what was written: a record that is damaged, or was changed by somebody without
/// the key, is named by its number and not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditPage {
    /// The records, in the log's order.
    pub items: Vec<AuditView>,
    /// Numbers of damaged records that belong here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<u64>,
    /// Give this as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl AuditView {
    /// A record under its number.
    pub fn new(seq: u64, record: AuditRecord) -> Self {
        let AuditRecord {
            time,
            action,
            principal,
            token,
            workspace,
            secret,
            version,
            revision,
            run,
            attempt,
            node,
            rank,
            pid,
            sequence,
            session,
            subject,
            key,
            count,
            name,
            source,
            credential,
            invite,
            compute,
            snapshot,
        } = record;
        Self {
            seq,
            time,
            action,
            principal,
            principal_name: None,
            token,
            workspace,
            secret,
            version,
            revision,
            run,
            attempt,
            node,
            rank,
            pid,
            sequence,
            session,
            subject,
            key,
            count,
            name,
            source,
            credential,
            invite,
            compute,
            snapshot,
        }
    }
}

/// Which records: `GET /audit`, `GET /workspaces/{workspace}/audit`. Oldest first unless `last` is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// At most this many, 1 to 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// A previous page's `next`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Only the last so many, 1 to 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    /// Only this run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Wait up to so many seconds (at most 30) for a first record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
}
