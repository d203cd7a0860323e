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

/// A metric and its size on the wire.
#[derive(Clone, Debug)]
struct Sized {
    metric: RunMetric,
    bytes: usize,
}

impl Weight for Sized {
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

    /// Takes metrics in, texts masked; waits when too many wait already.
    pub(crate) async fn add(&self, run: Option<&RunId>, metrics: Vec<Metric>) {
        for mut metric in metrics {
            self.outbox.room().await;
            metric.name = self.masking.text(&metric.name);
            self.masking.json(&mut metric.value);
            let metric = RunMetric { run: run.cloned(), metric };
            let bytes = serde_json::to_vec(&metric).map_or(0, |json| json.len());
            self.outbox.push(|_| Sized { metric, bytes }, |_| false);
        }
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

    /// The server takes nothing more: what comes is dropped.
    pub(crate) fn give_up(&self) {
        self.outbox.give_up();
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.outbox.close();
    }
}
