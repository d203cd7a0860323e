//! Metrics on their way: masked, numbered, sent in batches.

use std::sync::Arc;

use kluis_client::session::Session;
use kluis_core::api::runs::Metric;
use kluis_core::api::session::{AppendMetrics, RunMetric};
use kluis_core::name::RunId;

use crate::masking::Masking;
use crate::outbox::{Outbox, Weight};

/// What waits while the server is away, in bytes.
const BUFFER: usize = 16 * 1024 * 1024;
/// About what a metric takes besides name and value, in bytes.
const OVERHEAD: usize = 200;
/// The longest name and the largest value that the server takes, in bytes.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 64 * 1024;

/// The server would refuse it, and with it others; its script hears of it here. Answers the size in bytes.
fn check(metric: &Metric) -> Result<usize, &'static str> {
    if metric.name.is_empty() || metric.name.len() > MAX_NAME || metric.name.chars().any(char::is_control) {
        return Err("a metric's name has 1 to 255 bytes and no control characters");
    }
    let value = serde_json::to_vec(&metric.value).map_or(usize::MAX, |json| json.len());
    if value > MAX_VALUE { Err("a metric's value has at most 64 KiB of JSON") } else { Ok(metric.name.len() + value) }
}

/// A metric and its size on the wire.
#[derive(Clone, Debug)]
struct Sized {
    metric: RunMetric,
    bytes: usize,
}

impl Weight for Sized {
    fn refused(&self) -> Option<Self> {
        None
    }

    fn weight(&self) -> usize {
        self.bytes
    }
}

/// Where metrics gather.
#[derive(Debug)]
pub(crate) struct Metrics {
    outbox: Outbox<Sized>,
    session: Session,
    masking: Arc<Masking>,
}

impl Metrics {
    pub(crate) fn new(session: Session, masking: Arc<Masking>) -> Self {
        Self { outbox: Outbox::new(BUFFER), session, masking }
    }

    /// Takes metrics in, texts masked, all or none; waits when too many wait already.
    pub(crate) async fn add(&self, run: Option<&RunId>, metrics: Vec<Metric>) -> Result<(), &'static str> {
        let masked = metrics.into_iter().map(|mut metric| {
            metric.name = self.masking.text(&metric.name);
            self.masking.json(&mut metric.value);
            let bytes = check(&metric)?;
            Ok(Sized { metric: RunMetric { run: run.cloned(), metric }, bytes: bytes + OVERHEAD })
        });
        for metric in masked.collect::<Result<Vec<_>, &'static str>>()? {
            self.outbox.room().await;
            self.outbox.push(|_| metric, |_| false);
        }
        Ok(())
    }

    /// How many the server refused, for example because their child run does not exist.
    pub(crate) fn refused(&self) -> u64 {
        self.outbox.left_out()
    }

    /// Sends metrics until there will be no more.
    pub(crate) async fn send_all(&self) {
        let send = |first, batch: Vec<Sized>| async move {
            let metrics = batch.into_iter().map(|sized| sized.metric).collect();
            self.session.metrics(&AppendMetrics { first, metrics }).await
        };
        self.outbox.send_all(send).await;
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
}
