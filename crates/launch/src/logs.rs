//! The run's log: what its processes write, masked, and what the launcher has to say. Both become numbered records that
//! are sent in the order in which they arrived.

use std::sync::Arc;
use std::time::Duration;

use kluis_client::session::Session;
use kluis_core::api::runs::{LogRecord, Stream};
use kluis_core::api::session::AppendLogs;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::console::{self, Screen};
use crate::masking::Masking;
use crate::outbox::{Outbox, Weight};

/// The most bytes of a record.
const MAX_RECORD: usize = 64 * 1024;
/// What is buffered while the server is away, in bytes.
const BUFFER: usize = 64 * 1024 * 1024;
/// Pieces of one stream that arrive so close together become one record.
const JOIN: Duration = Duration::from_millis(100);
/// A stream that says nothing for so long may be waiting in a prompt.
const QUIET: Duration = Duration::from_secs(1);

impl Weight for LogRecord {
    /// The number stands in the record, so something must stand there.
    fn refused(&self) -> Option<Self> {
        let data = format!("{} bytes of the log were refused by the server\n", self.data.len()).into_bytes();
        Some(Self { stream: Stream::System, data, ..*self })
    }

    fn weight(&self) -> usize {
        self.data.len() + 64
    }
}

/// Where log records gather.
#[derive(Debug)]
pub(crate) struct Logs {
    outbox: Outbox<LogRecord>,
    session: Session,
    masking: Arc<Masking>,
    rank: u32,
}

impl Logs {
    pub(crate) fn new(session: Session, masking: Arc<Masking>, rank: u32) -> Self {
        Self { outbox: Outbox::new(BUFFER), session, masking, rank }
    }

    /// A line of our own.
    pub(crate) fn system(&self, line: &str) {
        let mut text = self.masking.text(line);
        // Masked as well: the agent reports the last lines of what is said here.
        tracing::info!("{text}");
        text.push('\n');
        self.append(Stream::System, text.as_bytes());
    }

    fn append(&self, stream: Stream, data: &[u8]) {
        for piece in data.chunks(MAX_RECORD) {
            let time = self.session.now();
            let make = |seq| LogRecord { seq, time, rank: self.rank, stream, data: piece.to_vec() };
            let join = |last: &mut LogRecord| {
                let fits = last.data.len() + piece.len() <= MAX_RECORD;
                let joins = last.stream == stream && fits && time.since(last.time) < JOIN;
                if joins {
                    last.data.extend_from_slice(piece);
                }
                joins
            };
            self.outbox.push(make, join);
        }
    }

    async fn put(&self, stream: Stream, data: &[u8], screen: Option<&Screen>) {
        self.append(stream, data);
        if let Some(screen) = screen {
            screen.show(stream, data).await;
        }
    }

    /// Sends records until the log is closed and everything is sent.
    pub(crate) async fn send_all(&self) {
        self.outbox.send_all(|_, records| async { self.session.logs(&AppendLogs { records }).await }).await;
    }

    /// Waits until everything so far has been sent.
    pub(crate) async fn flush(&self) {
        self.outbox.flush().await;
    }

    /// Whether the server has no room for more.
    pub(crate) fn is_stuck(&self) -> bool {
        self.outbox.is_stuck()
    }

    /// The server takes nothing more: what comes is dropped.
    pub(crate) fn give_up(&self) {
        self.outbox.give_up();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.outbox.close();
    }

    /// Reads one of the process's streams to its end, masks it and puts it in the log.
    ///
    /// When the buffer is full this stops reading, so the process waits in its next write: nothing is lost, and the log
    /// says why.
    ///
    /// Whoever waits for the command at a `screen` sees the same, and sooner.
    pub(crate) async fn capture(&self, mut pipe: pipe::Receiver, stream: Stream, screen: Option<&Screen>) {
        let quiet = if screen.is_some() { console::QUIET } else { QUIET };
        let mut masked = self.masking.stream(stream, self.rank);
        let mut buffer = zeroize::Zeroizing::new(vec![0; MAX_RECORD]);
        loop {
            if self.outbox.is_full() {
                self.system("the server is away and the log's buffer is full: the run's output waits");
                self.outbox.room().await;
                self.system("the run's output goes on");
            }
            let read = pipe.read(&mut buffer);
            let outcome = if masked.holds() {
                match tokio::time::timeout(quiet, read).await {
                    Ok(outcome) => outcome,
                    Err(_quiet) => {
                        let held = masked.idle();
                        self.put(stream, &held, screen).await;
                        // What is still held is most of a value: it waits for more.
                        pipe.read(&mut buffer).await
                    }
                }
            } else {
                read.await
            };
            match outcome {
                Ok(0) => break,
                // A terminal that no process has open any more says so.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => break,
                Ok(length) => self.put(stream, &masked.push(&buffer[..length]), screen).await,
                Err(error) => {
                    self.system(&format!("the run's output can not be read any further: {error}"));
                    break;
                }
            }
        }
        self.put(stream, &masked.finish(), screen).await;
    }
}
