//! Hints: what was committed, for waking whoever waits. Sent after the commit and before the answer. Never the truth
//! itself: who is woken looks the row up.

use kluis_core::id::{PrincipalId, SecretId, WorkspaceId};
use kluis_core::name::{ComputeName, RunId};

/// Something was committed that somebody may be waiting for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A run waits for an agent.
    RunQueued {
        /// Of this compute target.
        compute: ComputeName,
    },
    /// A run's row changed: status, notices, tags.
    RunChanged {
        /// Its workspace.
        workspace: WorkspaceId,
        /// The run.
        run: RunId,
    },
    /// A run's log grew.
    LogAppended {
        /// Its workspace.
        workspace: WorkspaceId,
        /// The run.
        run: RunId,
    },
    /// A secret got a version, changed, was deleted, recovered or purged: runs that hold it have a notice.
    SecretChanged {
        /// Its workspace.
        workspace: WorkspaceId,
        /// The secret.
        secret: SecretId,
    },
    /// A principal's epoch moved: what was cached about it is stale.
    PrincipalChanged {
        /// Whose.
        principal: PrincipalId,
    },
}
