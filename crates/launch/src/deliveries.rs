//! Who got which value: one record each, numbered without a gap, until the server has it. While it is away they wait here,
//! and when too many wait, readers do.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use kluis_core::api::session::{ReadRecord, ReadValue};
use kluis_core::clock::Timestamp;
use tokio::sync::Notify;

/// Records in one report.
const MOST_AT_ONCE: usize = 5000;
/// So many wait at most.
const MOST: usize = 100_000;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) rank: u32,
    pub(crate) pid: i32,
}

/// Deliveries that the server has not acknowledged.
#[derive(Debug)]
pub(crate) struct Deliveries {
    waiting: Mutex<Waiting>,
    /// Some were acknowledged.
    room: Notify,
}

#[derive(Debug)]
struct Waiting {
    reads: VecDeque<ReadRecord>,
    /// The next one's number.
    next: u64,
}

impl Deliveries {
    pub(crate) fn new() -> Self {
        Self { waiting: Mutex::new(Waiting { reads: VecDeque::new(), next: 1 }), room: Notify::new() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics with the lock held")
    }

    /// Waits until so many more may be noted. What is asked for at once fits in when nothing else waits.
    pub(crate) async fn room_for(&self, count: usize) {
        loop {
            let room = self.room.notified();
            if self.waiting().reads.len() + count <= MOST.max(count) {
                return;
            }
            room.await;
        }
    }

    /// These values go to this process.
    pub(crate) fn note(&self, items: &[ReadValue], asker: Asker, time: Timestamp) {
        let mut waiting = self.waiting();
        for item in items {
            let sequence = waiting.next;
            waiting.next += 1;
            waiting.reads.push_back(ReadRecord {
                sequence,
                time,
                name: item.name.clone(),
                version: item.version,
                rank: asker.rank,
                pid: asker.pid.cast_unsigned(),
            });
        }
    }

    /// The oldest that the server does not know of.
    pub(crate) fn unreported(&self) -> Vec<ReadRecord> {
        self.waiting().reads.iter().take(MOST_AT_ONCE).cloned().collect()
    }

    /// Whether there are any.
    pub(crate) fn has_unreported(&self) -> bool {
        !self.waiting().reads.is_empty()
    }

    /// Whether they are more than [`Self::unreported`] gives.
    pub(crate) fn has_more_than_one_report(&self) -> bool {
        self.waiting().reads.len() > MOST_AT_ONCE
    }

    /// The server has every one up to this number.
    pub(crate) fn reported(&self, up_to: u64) {
        let mut waiting = self.waiting();
        while waiting.reads.pop_front_if(|read| read.sequence <= up_to).is_some() {}
        drop(waiting);
        self.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kluis_core::id::VersionId;
    use kluis_core::name::SecretName;
    use kluis_core::plaintext::Plaintext;
    use std::time::Duration;
    use tokio::time::timeout;

    fn items(count: usize) -> Vec<ReadValue> {
        let item = ReadValue {
            name: SecretName::parse("db").unwrap(),
            version: VersionId::from_bytes([7; 16]),
            value: Plaintext::from_text("correct horse").unwrap(),
        };
        vec![item; count]
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_server_is_away_reads_wait_rather_than_fill_the_memory() {
        let deliveries = Deliveries::new();
        let asker = Asker { rank: 3, pid: 17 };
        let now = Timestamp::from_seconds(7);
        deliveries.note(&items(MOST - 1), asker, now);
        let a_while = Duration::from_hours(1);
        timeout(a_while, deliveries.room_for(1)).await.expect("there is room for one");
        assert!(timeout(a_while, deliveries.room_for(2)).await.is_err(), "and not for two");
        let first = deliveries.unreported();
        assert_eq!((first.len(), first[0].sequence, first[4999].sequence), (5000, 1, 5000));
        let waiting = timeout(a_while, deliveries.room_for(1000));
        let (waited, ()) = tokio::join!(waiting, async { deliveries.reported(5000) });
        waited.expect("what the server has makes room");
        deliveries.reported(1);
        assert_eq!(deliveries.unreported()[0].sequence, 5001);
        deliveries.reported(u64::MAX);
        assert!(!deliveries.has_unreported());
        timeout(a_while, deliveries.room_for(MOST + 1)).await.expect("more than that at once, when nothing waits");
        deliveries.note(&items(1), asker, now);
        assert_eq!(deliveries.unreported()[0].sequence, MOST as u64, "numbered on without a gap");
    }
}
