//! The one thread that writes. It takes what is queued, does it in one transaction with a savepoint around each piece of
//! work, appends the batch's audit records, commits, and only then answers. A caller that goes away changes nothing:
//! once handed over, the work is the writer's.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use kluis_core::audit::{AuditEntry, Frontier, Hash, leaf_hash};
use kluis_core::clock::Timestamp;
use rusqlite::Connection;
use rusqlite::hooks::Wal;
use tokio::sync::{broadcast, mpsc, oneshot};

use super::admit::{self, InName, Session};
use super::failure;
use super::index::Projector;
use super::{audit, sql};
use crate::{Error, Hint, Write};

/// After the first piece of work, at most this many more in one transaction.
const BATCH: usize = 256;
/// No more work is taken into a transaction that has this many audit records.
const BATCH_LEAVES: usize = 4096;
/// How many callers may wait before the next one waits for room.
const QUEUE: usize = 4096;
/// Pages in the write-ahead log after which it is copied into the database, as far as readers allow.
const CHECKPOINT_PAGES: i32 = 1000;
/// Pages after which readers are waited for, as long as the connection's busy timeout says.
const CHECKPOINT_PAGES_HARD: i32 = 16_000;

/// An audit record on its way into a page.
pub(super) struct Leaf {
    pub(super) bytes: Vec<u8>,
    pub(super) hash: Hash,
}

impl Leaf {
    pub(super) fn new(entry: &AuditEntry) -> Self {
        let bytes = entry.leaf();
        Self { hash: leaf_hash(&bytes), bytes }
    }
}

/// One unit of work while it is done. Reads as a connection.
pub(crate) struct Unit<'a> {
    connection: &'a Connection,
    name: RefCell<InName>,
    asked: Cell<bool>,
    time: Cell<Option<Timestamp>>,
    leaves: RefCell<Vec<Leaf>>,
    hints: RefCell<Vec<Hint>>,
    saved: Cell<bool>,
}

impl std::ops::Deref for Unit<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl<'a> Unit<'a> {
    fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            name: RefCell::new(InName::Own),
            asked: Cell::new(false),
            time: Cell::new(None),
            leaves: RefCell::default(),
            hints: RefCell::default(),
            saved: Cell::new(false),
        }
    }

    /// The session that reports. [`Error::NotFound`] when this is not done in a launcher's name.
    pub(super) fn reporter(&self) -> Result<Session, Error> {
        self.reporter_if_any().ok_or(Error::NotFound)
    }

    /// The same, for commands that others may give too.
    pub(super) fn reporter_if_any(&self) -> Option<Session> {
        self.asked.set(true);
        match &*self.name.borrow() {
            InName::Reporter(session) => Some(session.clone()),
            _ => None,
        }
    }

    /// The session that reads with its submitter's rights, if this is done in a run's name.
    pub(super) fn reader_if_any(&self) -> Option<Session> {
        match &*self.name.borrow() {
            InName::Reader(session) => Some(session.clone()),
            _ => None,
        }
    }

    /// A launcher that reports has no rights beyond its run: a command that did not ask for its session is not for it.
    fn require_asked(&self) -> Result<(), Error> {
        match &*self.name.borrow() {
            InName::Reporter(_) if !self.asked.get() => Err(Error::NotFound),
            _ => Ok(()),
        }
    }

    /// When this is done, as its first record says; `None` for a command without records.
    pub(super) fn time(&self) -> Option<Timestamp> {
        self.time.get()
    }

    /// Tells whoever listens, after the commit.
    pub(super) fn hint(&self, hint: Hint) {
        self.hints.borrow_mut().push(hint);
    }

    /// Leaves other records than the command came with: an outcome with its own, or, for a repetition, none.
    pub(super) fn record_instead(&self, leaves: Vec<Leaf>) {
        *self.leaves.borrow_mut() = leaves;
    }

    /// From here on this unit of work changes rows. Work that only delivers gets by without; what fails or panics
    /// after this leaves no trace.
    pub(super) fn save(&self) -> Result<(), Error> {
        if !self.saved.get() {
            sql::run(self, "SAVEPOINT work", [])?;
            self.saved.set(true);
        }
        Ok(())
    }
}

/// What became of the batch.
enum Fate {
    Committed,
    Failed(Error),
}

/// A piece of work, whatever it answers.
trait Work: Send {
    fn run(&mut self, unit: &Unit<'_>) -> Result<(), Error>;
    fn answer(self: Box<Self>, fate: &Fate);
}

struct Task<C, T, F> {
    write: Option<(Write<C>, Vec<Leaf>, F)>,
    saved: bool,
    result: Result<T, Error>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<C: Send, T: Send, F: FnOnce(&Unit<'_>, C) -> Result<T, Error> + Send> Work for Task<C, T, F> {
    fn run(&mut self, unit: &Unit<'_>) -> Result<(), Error> {
        let (write, leaves, command) = self.write.take().expect("work is done once");
        // Assigned only when it returned: after a panic the answer is the one that it was made with.
        self.result = admit::admit(unit, &write.authority).and_then(|name| {
            unit.name.replace(name);
            unit.time.set(write.audit.first().map(|entry| entry.record.time));
            unit.record_instead(leaves);
            if self.saved {
                unit.save()?;
            }
            let answer = command(unit, write.change)?;
            unit.require_asked()?;
            Ok(answer)
        });
        self.result.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    fn answer(self: Box<Self>, fate: &Fate) {
        let answer = match fate {
            Fate::Committed => self.result,
            Fate::Failed(error) => Err(error.clone()),
        };
        // Nobody waits any more: the work is done all the same.
        drop(self.reply.send(answer));
    }
}

enum Message {
    Work(Box<dyn Work>),
    Stop,
}

/// The handle through which work reaches the thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread works with.
pub(super) struct Desk {
    pub(super) connection: Connection,
    pub(super) frontier: Frontier,
    pub(super) hints: broadcast::Sender<Hint>,
    pub(super) projector: Arc<Projector>,
    pub(super) on_fatal: Arc<dyn Fn() + Send + Sync>,
}

impl Writer {
    pub(super) fn start(desk: Desk) -> std::io::Result<Self> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("store-writer".into()).spawn(move || desk.run(receiver))?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a command over and waits for its answer. `saved` work gets a savepoint at once; other work must call
    /// [`Unit::save`] before it changes a row.
    pub(super) async fn write<C, T>(
        &self,
        write: Write<C>,
        saved: bool,
        command: impl FnOnce(&Unit<'_>, C) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error>
    where
        C: Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let leaves = write.audit.iter().map(Leaf::new).collect();
        // What a panic in the command answers.
        let result = Err(Error::Unavailable("a command failed unexpectedly".into()));
        let task = Task { write: Some((write, leaves, command)), saved, result, reply };
        self.queue.send(Message::Work(Box::new(task))).await.map_err(|_| stopped())?;
        answer.await.unwrap_or(Err(Error::Unknown))
    }

    /// Finishes what is queued and joins the thread.
    pub(super) fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        let mut message = Message::Stop;
        while let Err(mpsc::error::TrySendError::Full(back)) = self.queue.try_send(message) {
            message = back;
            std::thread::yield_now();
        }
        if thread.join().is_err() {
            tracing::error!("the store's writer ended by a panic");
        }
    }
}

fn stopped() -> Error {
    Error::Unavailable("it is closed".into())
}

/// Whether the thread goes on.
#[derive(PartialEq)]
enum Next {
    Batch,
    Stop,
}

impl Desk {
    fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        let mut log = Log::default();
        if let Err(error) = self.connection.wal_hook(Some(note_wal(log.pages.clone()))) {
            tracing::error!(code = ?error.sqlite_error_code(), "the write-ahead log can not be watched");
        }
        while let Some(Message::Work(first)) = queue.blocking_recv() {
            if self.batch(first, &mut queue) == Next::Stop {
                break;
            }
            self.checkpoint(&mut log);
        }
        queue.close();
        // Whatever was queued behind the stop is not done.
        while let Ok(message) = queue.try_recv() {
            if let Message::Work(work) = message {
                work.answer(&Fate::Failed(stopped()));
            }
        }
    }

    /// One transaction.
    fn batch(&mut self, first: Box<dyn Work>, queue: &mut mpsc::Receiver<Message>) -> Next {
        let mut done = Vec::new();
        let mut leaves = Vec::new();
        let mut hints = Vec::new();
        let mut next = Next::Batch;

        if let Err(error) = begin(&self.connection) {
            first.answer(&Fate::Failed(error.into()));
            return next;
        }
        let mut waiting = Some(first);
        while let Some(mut work) = waiting.take() {
            let outcome = perform(&self.connection, work.as_mut(), &mut leaves, &mut hints);
            done.push(work);
            if let Err(error) = outcome {
                self.roll_back();
                return answer(done, &Fate::Failed(error), next);
            }
            if done.len() <= BATCH && leaves.len() < BATCH_LEAVES {
                waiting = match queue.try_recv() {
                    Ok(Message::Work(work)) => Some(work),
                    Ok(Message::Stop) => {
                        next = Next::Stop;
                        None
                    }
                    Err(_) => None,
                };
            }
        }

        let mut frontier = self.frontier.clone();
        if let Err(error) = audit::append(&self.connection, &mut frontier, &leaves) {
            self.roll_back();
            return answer(done, &Fate::Failed(error), next);
        }
        if let Err(error) = commit(&self.connection) {
            if failure::is_io(&error) {
                // The system may have thrown away what it could not write: nothing in memory can be trusted now.
                tracing::error!("a commit could not be flushed to the disk");
                (self.on_fatal)();
                return answer(done, &Fate::Failed(Error::Unknown), Next::Stop);
            }
            self.roll_back();
            return answer(done, &Fate::Failed(error.into()), next);
        }
        self.frontier = frontier;
        self.projector.committed(self.frontier.size());
        for hint in hints {
            // Nobody listens: fine.
            drop(self.hints.send(hint));
        }
        answer(done, &Fate::Committed, next)
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() && self.connection.execute_batch("ROLLBACK").is_err() {
            tracing::error!("a failed batch could not be rolled back");
            (self.on_fatal)();
        }
    }

    /// Copies the write-ahead log into the database, each time it has grown enough since the last attempt. Its errors
    /// matter as a commit's do.
    fn checkpoint(&self, log: &mut Log) {
        let pages = log.pages.load(Ordering::Relaxed);
        if pages < log.tried {
            // It was started anew.
            log.tried = 0;
        }
        if pages - log.tried < CHECKPOINT_PAGES {
            return;
        }
        log.tried = pages;
        let sql = if pages < CHECKPOINT_PAGES_HARD {
            "PRAGMA wal_checkpoint(PASSIVE)"
        } else {
            "PRAGMA wal_checkpoint(TRUNCATE)"
        };
        if let Err(error) = self.connection.query_row(sql, [], |_| Ok(())) {
            tracing::error!(code = ?error.sqlite_error_code(), "the write-ahead log could not be copied");
            if failure::is_io(&error) {
                (self.on_fatal)();
            }
        }
    }
}

/// The write-ahead log's length, in pages.
#[derive(Default)]
struct Log {
    /// After the last commit.
    pages: Arc<AtomicI32>,
    /// When it was last copied, as far as readers allowed.
    tried: i32,
}

/// Keeps the log's length after each commit.
fn note_wal(pages: Arc<AtomicI32>) -> impl FnMut(&mut Wal, i32) -> rusqlite::Result<()> + Send {
    move |_, length| {
        pages.store(length, Ordering::Relaxed);
        Ok(())
    }
}

fn answer(done: Vec<Box<dyn Work>>, fate: &Fate, next: Next) -> Next {
    for work in done {
        work.answer(fate);
    }
    next
}

fn begin(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)
}

/// The one place where work becomes durable.
fn commit(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}

/// Does one piece of work. What it answers it keeps; an error here is one that fails the whole batch.
fn perform(
    connection: &Connection,
    work: &mut dyn Work,
    leaves: &mut Vec<Leaf>,
    hints: &mut Vec<Hint>,
) -> Result<(), Error> {
    let unit = Unit::new(connection);
    let result = catch_unwind(AssertUnwindSafe(|| work.run(&unit)));
    let done = matches!(result, Ok(Ok(())));
    if connection.is_autocommit() {
        // A full disk or a failed file ends the transaction, with everything that was done in it.
        return Err(match result {
            Ok(Err(error)) => error,
            _ => Error::Unavailable("the transaction was rolled back".into()),
        });
    }
    if unit.saved.get() {
        if !done {
            sql::run(connection, "ROLLBACK TO work", [])?;
        }
        sql::run(connection, "RELEASE work", [])?;
    }
    if done {
        leaves.append(&mut unit.leaves.borrow_mut());
        hints.append(&mut unit.hints.borrow_mut());
    }
    if result.is_err() {
        tracing::error!("a command panicked; its unit of work was rolled back");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
