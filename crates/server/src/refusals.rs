//! Refusals of known callers. The first of a kind is recorded at once; more of the same within a minute share one record
//! with their count, because the audit log keeps everything for ever and asking again costs a caller nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kluis_core::access::Action;
use kluis_core::audit::AuditRecord;
use kluis_core::id::{PrincipalId, WorkspaceId};
use tokio::time::Instant;

/// How long refusals of one kind are gathered.
const TOGETHER: Duration = Duration::from_mins(1);

/// Who was refused what, and where.
pub type Kind = (PrincipalId, Option<WorkspaceId>, Action);

/// What was refused within the last minute. Bounded by who there is and what there is to refuse.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Kind, Gathered>>);

#[derive(Debug)]
struct Gathered {
    since: Instant,
    /// How many were not recorded yet.
    more: u64,
    last: AuditRecord,
}

impl Gathered {
    fn record(self) -> Option<AuditRecord> {
        (self.more > 0).then_some(AuditRecord { count: Some(self.more), ..self.last })
    }
}

impl Refusals {
    /// Notes a refusal: what is to be recorded now.
    pub fn note(&self, kind: Kind, record: AuditRecord) -> Vec<AuditRecord> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gathered) = kinds.get_mut(&kind).filter(|gathered| gathered.since.elapsed() < TOGETHER) {
            gathered.more += 1;
            gathered.last = record;
            return Vec::new();
        }
        let fresh = Gathered { since: Instant::now(), more: 0, last: record.clone() };
        let before = kinds.insert(kind, fresh).and_then(Gathered::record);
        before.into_iter().chain([record]).collect()
    }

    /// What was gathered and is to be recorded now: of kinds whose minute is over, or of all.
    pub fn gathered(&self, all: bool) -> Vec<AuditRecord> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = kinds.extract_if(|_, gathered| all || gathered.since.elapsed() >= TOGETHER);
        over.filter_map(|(_, gathered)| gathered.record()).collect()
    }
}

#[cfg(test)]
mod tests {
    use kluis_core::audit::AuditAction;
    use kluis_core::clock::Timestamp;

    use super::*;

    const KIND: Kind = (PrincipalId::from_bytes([1; 16]), None, Action::SecretRead);

    fn record() -> AuditRecord {
        AuditRecord::new(Timestamp::from_seconds(1), AuditAction::Refused)
    }

    fn counts(records: &[AuditRecord]) -> Vec<Option<u64>> {
        records.iter().map(|record| record.count).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_recorded_at_once_and_the_rest_together() {
        let refusals = Refusals::default();
        assert_eq!(counts(&refusals.note(KIND, record())), [None]);
        for _ in 0..1000 {
            assert_eq!(refusals.note(KIND, record()), []);
        }
        assert_eq!(counts(&refusals.note((KIND.0, None, Action::SecretSet), record())), [None], "another kind");
        assert_eq!(refusals.gathered(false), []);
        tokio::time::advance(TOGETHER).await;
        assert_eq!(counts(&refusals.note(KIND, record())), [Some(1000), None]);
        refusals.note(KIND, record());
        tokio::time::advance(TOGETHER).await;
        assert_eq!(counts(&refusals.gathered(false)), [Some(1)]);
        assert!(refusals.0.lock().unwrap().is_empty(), "nothing is remembered longer than it counts");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_at_a_stop() {
        let refusals = Refusals::default();
        refusals.note(KIND, record());
        refusals.note(KIND, record());
        assert_eq!(counts(&refusals.gathered(true)), [Some(1)]);
    }
}
