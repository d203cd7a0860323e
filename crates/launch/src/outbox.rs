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
/// The pause before such a batch is sent again.
const STANDSTILL: Duration = Duration::from_secs(1);
/// So often a batch is sent that the server answers without having moved on; then it counts as refused.
const MOST_STANDSTILLS: u32 = 5;

/// A thing that takes room.
pub(crate) trait Weight: Sized {
    /// What takes the place of one that the server refuses, and its number; `None` when it is left out, the next taking
    /// its number.
    fn refused(&self) -> Option<Self>;
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
    /// The number of the last one that was replaced.
    replaced: Option<u64>,
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
            replaced: None,
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
        let mut standstills = 0;
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
                Ok(appended) if appended.next > first => {
                    standstills = 0;
                    self.acknowledge(appended.next.min(first + count));
                }
                // It did not take it, and did not say no.
                Ok(_) if standstills < MOST_STANDSTILLS => {
                    standstills += 1;
                    tokio::time::sleep(kluis_client::jittered(STANDSTILL)).await;
                }
                Ok(_) => {
                    standstills = 0;
                    tracing::warn!("a batch was not taken");
                    self.leave_out(first, count);
                }
                Err(error) if !retry::is_over(&error) && !retry::is_spent(&error) => {
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

    /// Of a refused batch, the items are tried one by one. A single one is left out, and what follows moves up; or it is
    /// replaced, and when the server takes not even that, nothing more is sent.
    fn leave_out(&self, first: u64, count: u64) {
        self.queue.send_modify(|queue| {
            queue.in_flight = 0;
            if count > 1 {
                queue.singly_below = first + count;
            } else if let Some(item) = queue.items.pop_front() {
                queue.bytes -= item.weight();
                match item.refused() {
                    Some(_) if queue.replaced == Some(first) => {
                        queue.dead = true;
                        queue.items.clear();
                        queue.bytes = 0;
                    }
                    Some(instead) => {
                        queue.replaced = Some(first);
                        queue.bytes += instead.weight();
                        queue.items.push_front(instead);
                    }
                    None => {
                        queue.left_out += 1;
                        queue.singly_below = queue.singly_below.saturating_sub(1);
                    }
                }
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
        fn refused(&self) -> Option<Self> {
            None
        }

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

    /// Has its number inside, as a log record does.
    #[derive(Clone, Debug, PartialEq)]
    struct Numbered(u64, &'static str);

    impl Weight for Numbered {
        fn refused(&self) -> Option<Self> {
            Some(Self(self.0, "instead"))
        }

        fn weight(&self) -> usize {
            1
        }
    }

    async fn send_numbered(taken: impl Fn(&Numbered) -> bool) -> Vec<Numbered> {
        let outbox = Outbox::new(1000);
        for text in ["a", "bad", "c"] {
            outbox.push(|n| Numbered(n, text), |_| false);
        }
        outbox.close();
        let stored: Mutex<Vec<Numbered>> = Mutex::new(Vec::new());
        let send = |first: u64, batch: Vec<Numbered>| {
            let mut stored = stored.lock().unwrap();
            assert_eq!((first, batch[0].0), (stored.len() as u64, first));
            let outcome = if batch.iter().all(&taken) {
                stored.extend(batch);
                Ok(Appended { next: stored.len() as u64 })
            } else {
                Err(refused("bad_request"))
            };
            async { outcome }
        };
        outbox.send_all(send).await;
        stored.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_record_is_replaced_under_its_number_and_the_rest_goes_on() {
        let expected = [Numbered(0, "a"), Numbered(1, "instead"), Numbered(2, "c")];
        assert_eq!(send_numbered(|item| item.1 != "bad").await, expected);
        // A server that takes not even that is sent nothing more, and nobody waits for ever.
        assert_eq!(send_numbered(|item| item.1 == "a").await, [Numbered(0, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_the_server_has_not_moved_on_is_no_success() {
        let outbox = Outbox::new(1000);
        outbox.push(|_| "a".to_owned(), never);
        outbox.close();
        let sent = Mutex::new(0);
        let send = |_, _: Vec<String>| {
            let mut sent = sent.lock().unwrap();
            *sent += 1;
            let next = u64::from(*sent == 3);
            async move { Ok(Appended { next }) }
        };
        outbox.send_all(send).await;
        assert_eq!((sent.into_inner().unwrap(), outbox.left_out()), (3, 0));
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
