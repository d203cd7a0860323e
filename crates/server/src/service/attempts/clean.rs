//! What outlived its purpose: sessions of runs that ended without their launcher's word, blobs that nothing refers to,
//! uploads that were given up.

use std::time::Duration;

use kluis_core::clock::Timestamp;
use kluis_store::attempts::SessionsDrain;
use kluis_store::logs::BlobsForget;
use kluis_store::{Authority, Write};

use super::Attempts;
use super::sweep::millis;
use crate::error::Result;
use crate::service::runs::DRAIN;

/// A blob that nothing refers to is kept this long: somebody may still be reading it.
const ORPHANED: Duration = Duration::from_hours(1);
/// An object that the store does not know, and the pieces of an upload, are kept this long: somebody may still be
/// writing.
const UNKNOWN: Duration = Duration::from_hours(24);
/// How long the clock must have gone evenly before anything is deleted for its age.
const STEADY: Duration = Duration::from_hours(1);
/// How many blobs one look takes.
const BATCH: usize = 500;

impl Attempts<'_> {
    /// Closes sessions that outlive their run, and deletes blobs that nothing refers to any more. Cheap. Only by a clock
    /// that has gone evenly, in a server that has listened, for as long as a session may outlive its run.
    pub async fn clean(&self) -> Result<()> {
        let (app, now) = (self.app, self.app.now());
        let ended_before = before(now, DRAIN);
        if app.listening.since() > ended_before {
            return Ok(());
        }
        let change = SessionsDrain { ended_before };
        app.store.sessions_drain(Write { authority: Authority::server(), audit: Vec::new(), change }).await?;
        let orphaned = app.store.blobs_orphaned(before(now, ORPHANED), BATCH as u32).await?;
        if orphaned.is_empty() {
            return Ok(());
        }
        for (workspace, blob) in &orphaned {
            app.blobs.delete(*workspace, *blob).await?;
        }
        let change = BlobsForget { blobs: orphaned };
        Ok(app.store.blobs_forget(Write { authority: Authority::server(), audit: Vec::new(), change }).await?)
    }

    /// Looks through all stored objects for those that the store does not know: what a failure left between a blob and its
    /// row. Reads the whole folder.
    ///
    /// Only what was written while this server listened without a break is deleted, for then it is known that no row was
    /// lost with it: the database was this one all the time. An older object may belong to a database that is put back
    /// tomorrow, so it stays, and stands in the log.
    pub async fn search(&self) -> Result<()> {
        let app = self.app;
        let (now, since) = (app.now(), app.listening.since());
        if since > before(now, STEADY) {
            return Ok(());
        }
        let old = app.blobs.older_than(before(now, UNKNOWN)).await?;
        let mut kept = 0_usize;
        for batch in old.chunks(BATCH) {
            let known = app.store.blobs_known(batch.iter().map(|b| (b.workspace, b.blob)).collect()).await?;
            for (stored, _) in batch.iter().zip(known).filter(|(_, known)| !known) {
                if stored.written >= since {
                    app.blobs.delete(stored.workspace, stored.blob).await?;
                } else {
                    kept += 1;
                }
            }
        }
        if kept > 0 {
            tracing::warn!(
                kept,
                "there are stored snapshots, logs or outputs that the database does not know; they are kept, for they may \
                 belong to an older or newer copy of it"
            );
        }
        Ok(())
    }
}

fn before(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp::from_millis(now.millis().saturating_sub(millis(time)))
}
