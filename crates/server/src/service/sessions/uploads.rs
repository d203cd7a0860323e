//! What a launcher sends: log records, metrics, files. Everything is numbered or has a place, so sending it again is
//! harmless; blobs are written, sealed, before the row that names them, so a row never names what is not there.

use kluis_core::api::runs::{LogRecord, Metric};
use kluis_core::api::session::{AppendLogs, AppendMetrics, Appended, OutputQuery};
use kluis_core::id::BlobId;
use kluis_core::sealed::Canonical;
use kluis_store::Write;
use kluis_store::logs::{Arrived, LogAppend, MetricAppend, OutputPut};

use super::{Sessions, alive, refusal};
use crate::blobs::Upload;
use crate::error::{Error, Result};
use crate::service::runs::{chunk, submission};
use crate::signed::SessionCaller;

/// The most metrics of one request.
const MAX_METRICS: usize = 10_000;
/// How many of them are stored in one unit of work: whoever reads a secret meanwhile waits for so many and no more.
const METRICS_AT_ONCE: usize = 500;
/// The longest metric's name, in bytes.
const MAX_METRIC_NAME: usize = 255;
/// The largest metric's value, in bytes of JSON.
const MAX_METRIC_VALUE: usize = 64 * 1024;

impl Sessions<'_> {
    /// Appends log records. Those that are there are passed over; after a gap nothing is stored, and the answer says
    /// where to go on.
    pub async fn append_logs(&self, session: &SessionCaller, append: AppendLogs) -> Result<Appended> {
        alive(&session.row)?;
        let mut records = &append.records[..];
        check_records(records)?;
        loop {
            let Arrived { next, stored } = self.append_chunk(session, records).await?;
            let known = records.iter().take_while(|record| record.seq < next).count();
            if stored || known == 0 || known == records.len() {
                return Ok(Appended { next });
            }
            // Only the first of them were there.
            records = &records[known..];
        }
    }

    async fn append_chunk(&self, session: &SessionCaller, records: &[LogRecord]) -> Result<Arrived> {
        let workspace = session.row.workspace;
        let (Some(first), Some(last)) = (records.first(), records.last()) else {
            return Err(Error::bad_request("`records` is empty"));
        };
        let blob = BlobId::generate(&*self.app.rng);
        let used = self.app.blob_usage(workspace).await?;
        let bytes = self.app.blobs.put(workspace, blob, used, &chunk::encode(records)).await?;
        let change = LogAppend {
            first: first.seq,
            next: last.seq + 1,
            blob,
            bytes,
            lines: chunk::user_lines(records),
            now: self.app.now(),
        };
        let write = Write { authority: session.authority(), audit: Vec::new(), change };
        let arrived = self.app.store.log_append(write).await;
        // Not after an unknown outcome: the row may be there.
        let unused = match &arrived {
            Ok(arrived) => !arrived.stored,
            Err(kluis_store::Error::Unknown) => false,
            Err(_) => true,
        };
        if unused {
            self.app.blobs.delete(workspace, blob).await?;
        }
        arrived.map_err(refusal)
    }

    /// Appends metrics, numbered like log records. The first ones may be stored and later ones refused.
    pub async fn append_metrics(&self, session: &SessionCaller, append: AppendMetrics) -> Result<Appended> {
        alive(&session.row)?;
        if append.metrics.len() > MAX_METRICS || append.first >= i64::MAX as u64 - MAX_METRICS as u64 {
            return Err(Error::bad_request(format!(
                "`metrics` has more than {MAX_METRICS} entries, or too high a number"
            )));
        }
        for (index, metric) in append.metrics.iter().enumerate() {
            check_metric(&metric.metric).map_err(|why| Error::bad_request(format!("metric {index} {why}")))?;
        }
        self.app.blobs.room()?;
        let (mut first, limits) = (append.first, self.app.settings.run_limits);
        let mut metrics = append.metrics.into_iter().map(|m| (m.run, m.metric)).peekable();
        loop {
            let metrics_now: Vec<_> = metrics.by_ref().take(METRICS_AT_ONCE).collect();
            let end = first + metrics_now.len() as u64;
            let change = MetricAppend { first, metrics: metrics_now, limits };
            let write = Write { authority: session.authority(), audit: Vec::new(), change };
            let arrived = self.app.store.metric_append(write).await.map_err(|e| refusal(e).missing("child run"))?;
            if metrics.peek().is_none() || arrived.next < end {
                return Ok(Appended { next: arrived.next });
            }
            first = end;
        }
    }

    /// A piece of a file. The file appears, in place of an older one, when its last piece is in.
    pub async fn output(&self, session: &SessionCaller, path: &str, piece: OutputQuery, bytes: &[u8]) -> Result<()> {
        alive(&session.row)?;
        submission::relative_path(path).map_err(|why| Error::bad_request(format!("the file's path {why}")))?;
        let blobs = &self.app.blobs;
        let upload = self.upload(session, path, &piece);
        let arrived = blobs.arrived(upload).await?;
        let end = piece.offset.saturating_add(bytes.len() as u64);
        if piece.offset == 0 {
            blobs.discard(upload).await?;
        } else if piece.offset != arrived {
            // The answer to this very piece was lost.
            let again = if piece.last { self.is_stored(session, path, &piece, end).await? } else { end <= arrived };
            return if again {
                Ok(())
            } else {
                Err(Error::conflict(format!("{arrived} bytes of this file have arrived; go on from there, or from 0")))
            };
        }
        let used = self.app.blob_usage(session.row.workspace).await?;
        if !piece.last {
            return Ok(blobs.piece_put(upload, piece.offset, used, bytes).await?);
        }
        self.complete(session, path, piece, upload, used, bytes).await
    }

    async fn complete(
        &self,
        session: &SessionCaller,
        path: &str,
        piece: OutputQuery,
        upload: Upload,
        used: u64,
        tail: &[u8],
    ) -> Result<()> {
        let workspace = session.row.workspace;
        let blob = BlobId::generate(&*self.app.rng);
        let (bytes, _) = self.app.blobs.assemble(upload, blob, used, tail).await?;
        let change = OutputPut { run: piece.run, path: path.to_owned(), blob, bytes, now: self.app.now() };
        let write = Write { authority: session.authority(), audit: Vec::new(), change };
        match self.app.store.output_put(write).await {
            Ok(()) => Ok(self.app.blobs.discard(upload).await?),
            Err(error) => {
                if error != kluis_store::Error::Unknown {
                    self.app.blobs.delete(workspace, blob).await?;
                }
                Err(refusal(error).missing("child run"))
            }
        }
    }

    /// Whether a file of this run and length is there.
    async fn is_stored(&self, session: &SessionCaller, path: &str, piece: &OutputQuery, length: u64) -> Result<bool> {
        let run = piece.run.as_ref().unwrap_or(&session.row.run);
        let stored = self.app.store.output_get(session.row.workspace, run, path).await?;
        Ok(stored.is_some_and(|stored| stored.bytes == length))
    }

    /// A file's upload in this session: another session's pieces are another upload.
    fn upload(self, session: &SessionCaller, path: &str, piece: &OutputQuery) -> Upload {
        let what = Canonical::new("kluis/output/1")
            .bytes(session.row.id.as_bytes())
            .optional(piece.run.as_ref().map(|run| run.key().as_bytes()))
            .text(path)
            .finish();
        self.app.blobs.upload(session.row.workspace, &what)
    }
}

fn check_records(records: &[LogRecord]) -> Result<()> {
    let in_sequence = records.windows(2).all(|two| two[0].seq.checked_add(1) == Some(two[1].seq));
    if !in_sequence || records.last().is_some_and(|record| record.seq >= i64::MAX as u64) {
        return Err(Error::bad_request("`records` are not numbered one after the other"));
    }
    if records.iter().any(|record| record.data.len() > chunk::MAX_RECORD) {
        return Err(Error::bad_request(format!("a record has more than {} bytes", chunk::MAX_RECORD)));
    }
    Ok(())
}

fn check_metric(metric: &Metric) -> Result<(), &'static str> {
    if metric.name.is_empty() || metric.name.len() > MAX_METRIC_NAME || metric.name.chars().any(char::is_control) {
        return Err("has no name of 1 to 255 bytes without control characters");
    }
    let bytes = serde_json::to_vec(&metric.value).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_METRIC_VALUE { Err("has a value of more than 64 KiB") } else { Ok(()) }
}
