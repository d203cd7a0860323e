//! What waits to be sent, numbered: log records and metrics. The server knows by the numbers what it has, so a batch
//! whose answer was lost is sent again unharmed. While the server is away an outbox holds so much and no more; then
//! whoever fills it waits.

use std::collections::VecDeque;
use std::time::Duration;

use kluis_client::Error;
use kluis_core::api::session::Appended;
use tokio::sync::watch;

use crate::retry;

/// How long small things are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(200);
/// So many bytes are sent at once, without gathering any longer.
const ENOUGH: usize = 256 * 1024;
/// A batch holds about so many bytes at most; JSON and base64 must keep it below the server's limit.
const LARGEST_BATCH: usize = 1024 * 1024;
/// A batch holds so many items at most.
const MOST_ITEMS: usize = 2000;

/// A thing that takes room.
pub(crate) trait Weight {
    /// Whether one that the server refuses can be left out, the next taking its number.
    const CAN_BE_LEFT_OUT: bool;
    /// About how many bytes it takes on the wire.
    fn weight(&self) -> usize;
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    /// The number of the front item.
    first: u64,
    /// So many from the front are being sent and must not change.
    in_flight: usize,
    bytes: usize,
    /// Somebody waits for everything to be sent.
    hurry: bool,
    /// Nothing more will come.
    closed: bool,
    /// The server will take nothing more: what comes is dropped.
    dead: bool,
    /// A batch was refused for one of its items: one at a time, up to this number.
    singly_below: u64,
    /// So many were left out.
    left_out: u64,
    /// The server had no room at the last try.
    stuck: bool,
}

impl<T> Queue<T> {
    /// How many have left the queue, sent or left out.
    fn settled(&self) -> u64 {
        self.first + self.left_out
    }
}

/// A queue with numbers. Cheap to share.
#[derive(Debug)]
pub(crate) struct Outbox<T> {
    queue: watch::Sender<Queue<T>>,
    limit: usize,
}

impl<T: Weight + Clone> Outbox<T> {
    /// `limit` in bytes.
    pub(crate) fn new(limit: usize) -> Self {
        let queue = Queue {
            items: VecDeque::new(),
            first: 0,
            in_flight: 0,
            bytes: 0,
            hurry: false,
            closed: false,
            dead: false,
            singly_below: 0,
            left_out: 0,
            stuck: false,
        };
        Self { queue: watch::Sender::new(queue), limit }
    }

    /// Whether the next [`Self::room`] would wait.
    pub(crate) fn is_full(&self) -> bool {
        let queue = self.queue.borrow();
        queue.bytes >= self.limit && !queue.dead
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        let mut queue = self.queue.subscribe();
        let limit = self.limit;
        drop(queue.wait_for(|queue| queue.bytes < limit || queue.dead).await);
    }

    /// Puts something in the queue, made with its number. `join` may merge it into the last one that is not being sent.
    pub(crate) fn push(&self, make: impl FnOnce(u64) -> T, join: impl FnOnce(&mut T) -> bool) {
        self.queue.send_modify(|queue| {
            if queue.dead {
                return;
            }
            let waiting = queue.items.len() > queue.in_flight;
            if let Some(last) = queue.items.back_mut().filter(|_| waiting) {
                let before = last.weight();
                let joined = join(last);
                queue.bytes += last.weight() - before;
                if joined {
                    return;
                }
            }
            let item = make(queue.first + queue.items.len() as u64);
            queue.bytes += item.weight();
            queue.items.push_back(item);
        });
    }

    /// Waits until everything that is in the queue now has been sent.
    pub(crate) async fn flush(&self) {
        let until = {
            let queue = self.queue.borrow();
            queue.settled() + queue.items.len() as u64
        };
        self.queue.send_modify(|queue| queue.hurry = true);
        let mut queue = self.queue.subscribe();
        drop(queue.wait_for(|queue| queue.settled() >= until || queue.dead).await);
    }

    /// Nothing more will come; [`Self::send_all`] ends when the queue is empty.
    pub(crate) fn close(&self) {
        self.queue.send_modify(|queue| queue.closed = true);
    }

    /// Sends batches, with the number of their first, until the outbox is closed and empty or the server refuses for good.
    pub(crate) async fn send_all<Fut>(&self, mut send: impl FnMut(u64, Vec<T>) -> Fut)
    where
        Fut: Future<Output = Result<Appended, Error>>,
    {
        while let Some((first, batch)) = self.batch().await {
            let count = batch.len() as u64;
            let outcome = retry::persist(|| {
                let sending = send(first, batch.clone());
                async {
                    let outcome = sending.await;
                    let stuck = outcome.as_ref().is_err_and(retry::is_full);
                    self.queue.send_if_modified(|queue| std::mem::replace(&mut queue.stuck, stuck) != stuck);
                    outcome
                }
            });
            match outcome.await {
                // A server that did not move on would be sent the same for ever.
                Ok(appended) if appended.next <= first => self.acknowledge(first + count),
                Ok(appended) => self.acknowledge(appended.next.min(first + count)),
                Err(error) if T::CAN_BE_LEFT_OUT && !retry::is_over(&error) => {
                    tracing::warn!(%error, "a batch was refused");
                    self.leave_out(first, count);
                }
                Err(error) => {
                    tracing::warn!(%error, "the server takes nothing more");
                    self.give_up();
                    return;
                }
            }
        }
    }

    /// Drops everything, now and from now on.
    pub(crate) fn give_up(&self) {
        self.queue.send_modify(|queue| {
            queue.dead = true;
            queue.items.clear();
            queue.bytes = 0;
        });
    }

    /// Whether the server has no room for more.
    pub(crate) fn is_stuck(&self) -> bool {
        self.queue.borrow().stuck
    }

    /// How many the server refused and were left out.
    pub(crate) fn left_out(&self) -> u64 {
        self.queue.borrow().left_out
    }

    /// Of a refused batch, the items are tried one by one; a single one is left out, and what follows moves up.
    fn leave_out(&self, first: u64, count: u64) {
        self.queue.send_modify(|queue| {
            queue.in_flight = 0;
            if count > 1 {
                queue.singly_below = first + count;
            } else if let Some(item) = queue.items.pop_front() {
                queue.bytes -= item.weight();
                queue.left_out += 1;
                queue.singly_below = queue.singly_below.saturating_sub(1);
            }
        });
    }

    async fn batch(&self) -> Option<(u64, Vec<T>)> {
        let mut changes = self.queue.subscribe();
        let over = |queue: &Queue<T>| queue.dead || (queue.closed && queue.items.is_empty());
        changes.wait_for(|queue| !queue.items.is_empty() || over(queue)).await.ok()?;
        let gathered = changes.wait_for(|queue| queue.bytes >= ENOUGH || queue.closed || queue.hurry || queue.dead);
        drop(tokio::time::timeout(GATHER, gathered).await);
        if over(&changes.borrow()) {
            return None;
        }
        let mut taken = None;
        self.queue.send_if_modified(|queue| {
            let mut bytes = 0;
            let fits = |item: &&T| {
                bytes += item.weight();
                bytes <= LARGEST_BATCH
            };
            let most = if queue.first < queue.singly_below { 1 } else { MOST_ITEMS };
            let items: Vec<T> = queue.items.iter().take(most).take_while(fits).cloned().collect();
            // One that is larger than a batch goes alone.
            let items = if items.is_empty() { queue.items.iter().take(1).cloned().collect() } else { items };
            queue.in_flight = items.len();
            taken = Some((queue.first, items));
            false
        });
        taken
    }

    fn acknowledge(&self, next: u64) {
        self.queue.send_modify(|queue| {
            while queue.first < next
                && let Some(item) = queue.items.pop_front()
            {
                queue.first += 1;
                queue.bytes -= item.weight();
            }
            queue.in_flight = 0;
            queue.hurry &= !queue.items.is_empty();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    impl Weight for String {
        const CAN_BE_LEFT_OUT: bool = true;

        fn weight(&self) -> usize {
            self.len()
        }
    }

    fn never(_: &mut String) -> bool {
        false
    }

    fn lost() -> Error {
        let origin = kluis_client::trust::Origin::parse("localhost").unwrap();
        Error::Unreachable { action: "test", origin, reason: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_whose_answer_was_lost_is_sent_again_with_the_same_numbers() {
        let outbox = Outbox::new(1000);
        for text in ["a", "b", "c"] {
            outbox.push(|n| format!("{n}{text}"), never);
        }
        outbox.close();
        let sent = Arc::new(Mutex::new(Vec::new()));
        outbox
            .send_all(|first, batch| {
                let mut sent = sent.lock().unwrap();
                sent.push((first, batch.join(" ")));
                let lose = sent.len() < 3;
                async move { if lose { Err(lost()) } else { Ok(Appended { next: 3 }) } }
            })
            .await;
        let expected = (0, "0a 1b 2c".to_owned());
        assert_eq!(*sent.lock().unwrap(), [expected.clone(), expected.clone(), expected]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_outbox_makes_its_writer_wait_and_loses_nothing() {
        let outbox = Arc::new(Outbox::new(10));
        outbox.push(|_| "0123456789".to_owned(), never);
        assert!(outbox.is_full());
        let waited = tokio::time::timeout(Duration::from_mins(5), outbox.room()).await;
        assert!(waited.is_err(), "there was no room");
        let sender = tokio::spawn({
            let outbox = outbox.clone();
            let take = |first, batch: Vec<String>| async move { Ok(Appended { next: first + batch.len() as u64 }) };
            async move { outbox.send_all(take).await }
        });
        outbox.room().await;
        outbox.push(|n| n.to_string(), never);
        outbox.flush().await;
        outbox.close();
        sender.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn small_pieces_are_joined_unless_they_are_being_sent() {
        let outbox = Outbox::new(1000);
        let join = |text: &'static str| {
            move |last: &mut String| {
                last.push_str(text);
                true
            }
        };
        outbox.push(|_| "a".to_owned(), join("a"));
        outbox.push(|_| "b".to_owned(), join("b"));
        let (first, batch) = outbox.batch().await.unwrap();
        assert_eq!((first, batch.join(" ")), (0, "ab".to_owned()));
        outbox.push(|_| "c".to_owned(), join("c"));
        outbox.acknowledge(1);
        let (first, batch) = outbox.batch().await.unwrap();
        assert_eq!((first, batch.join(" ")), (1, "c".to_owned()));
    }

    fn refused(code: &str) -> Error {
        Error::Api(kluis_client::ApiError {
            status: 400,
            code: code.to_owned(),
            detail: String::new(),
            request_id: None,
            retry_after: None,
            server_seconds: None,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_one_leaves_only_that_one_out_and_numbers_without_a_gap() {
        let outbox = Outbox::new(1000);
        for text in ["a", "bad", "c", "d"] {
            outbox.push(|_| text.to_owned(), never);
        }
        outbox.close();
        let stored = Mutex::new(Vec::new());
        outbox
            .send_all(|first, batch| {
                let mut stored = stored.lock().unwrap();
                let outcome = if batch.contains(&"bad".to_owned()) {
                    Err(refused("bad_request"))
                } else {
                    assert_eq!(first, stored.len() as u64);
                    stored.extend(batch);
                    Ok(Appended { next: stored.len() as u64 })
                };
                async { outcome }
            })
            .await;
        assert_eq!((stored.lock().unwrap().join(" "), outbox.left_out()), ("a c d".to_owned(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_session_drops_what_waits() {
        let outbox = Outbox::new(10);
        outbox.push(|_| "0123456789".to_owned(), never);
        outbox.send_all(|_, _| async { Err(refused("run_ended")) }).await;
        outbox.room().await;
        outbox.flush().await;
        assert!(!outbox.is_full());
    }
}
