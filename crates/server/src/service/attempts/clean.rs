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
/// How many blobs one look takes.
const BATCH: usize = 500;

impl Attempts<'_> {
    /// Closes sessions that outlive their run, and deletes blobs that nothing refers to any more. Cheap.
    pub async fn clean(&self) -> Result<()> {
        let (app, now) = (self.app, self.app.now());
        let change = SessionsDrain { ended_before: before(now, DRAIN) };
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

    /// Looks through all stored objects for those that the store does not know: what a crash left between a blob and its
    /// row. Reads the whole folder.
    pub async fn search(&self) -> Result<()> {
        let app = self.app;
        let old = app.blobs.older_than(before(app.now(), UNKNOWN)).await?;
        for batch in old.chunks(BATCH) {
            let known = app.store.blobs_known(batch.to_vec()).await?;
            for ((workspace, blob), _) in batch.iter().zip(known).filter(|(_, known)| !known) {
                app.blobs.delete(*workspace, *blob).await?;
            }
        }
        Ok(())
    }
}

fn before(now: Timestamp, time: Duration) -> Timestamp {
    Timestamp::from_millis(now.millis().saturating_sub(millis(time)))
}
