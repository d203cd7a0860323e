//! Who may still write blobs: nobody when the disk is nearly full, and a workspace up to its quota. Metrics and child runs
//! ask for the disk too. Reads, secrets and the audit log go on in both cases, which is what the last tenth of the disk is kept for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kluis_core::id::WorkspaceId;
use tokio::time::Instant;

use super::BlobError;

/// How much may be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobLimits {
    /// Sealed bytes per workspace: 50 GiB unless configured.
    pub quota_bytes: u64,
    /// Blobs are refused when less than this share of the disk is free.
    pub least_free_percent: u8,
}

impl Default for BlobLimits {
    fn default() -> Self {
        Self { quota_bytes: 50 * 1024 * 1024 * 1024, least_free_percent: 10 }
    }
}

/// How long a workspace's usage is remembered before it is counted again. What is written meanwhile is added.
const REMEMBERED: Duration = Duration::from_mins(1);

/// The disk, and the bytes on their way.
#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    limits: BlobLimits,
    on_their_way: Mutex<HashMap<WorkspaceId, u64>>,
    usage: Mutex<HashMap<WorkspaceId, (u64, Instant)>>,
}

impl Space {
    pub(super) fn new(folder: &Path, limits: BlobLimits) -> Self {
        Self { folder: folder.to_owned(), limits, on_their_way: Mutex::default(), usage: Mutex::default() }
    }

    pub(super) fn least_free(&self) -> u8 {
        self.limits.least_free_percent
    }

    /// What a workspace uses, when it was counted not long ago.
    pub(super) fn usage(&self, workspace: WorkspaceId) -> Option<u64> {
        let usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.get(&workspace).filter(|(_, counted)| counted.elapsed() < REMEMBERED).map(|(used, _)| *used)
    }

    /// Remembers what a workspace uses.
    pub(super) fn learn(&self, workspace: WorkspaceId, used: u64) {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        usage.retain(|_, (_, counted)| counted.elapsed() < REMEMBERED);
        usage.insert(workspace, (used, Instant::now()));
    }

    /// Starts counting one write. `used` is what is stored already, as the store knows it.
    pub(super) fn reserve(self: &Arc<Self>, workspace: WorkspaceId, used: u64) -> Result<Reservation, BlobError> {
        self.check_disk()?;
        let mut reservation = Reservation { space: self.clone(), workspace, used, bytes: 0 };
        reservation.grow(1)?;
        Ok(reservation)
    }

    pub(super) fn check_disk(&self) -> Result<(), BlobError> {
        let disk = rustix::fs::statvfs(&self.folder).map_err(|e| BlobError::Folder(e.into()))?;
        let enough = u128::from(disk.f_bavail) * 100 >= u128::from(disk.f_blocks) * u128::from(self.least_free());
        if enough { Ok(()) } else { Err(BlobError::DiskFull(self.least_free())) }
    }
}

/// The bytes of one write, counted until it is stored or given up.
#[derive(Debug)]
pub(super) struct Reservation {
    space: Arc<Space>,
    workspace: WorkspaceId,
    used: u64,
    bytes: u64,
}

impl Reservation {
    /// Counts more bytes, or refuses. The disk is looked at again with each call: a caller grows by parts, not by bytes.
    pub(super) fn grow(&mut self, bytes: u64) -> Result<(), BlobError> {
        self.space.check_disk()?;
        let quota = self.space.limits.quota_bytes;
        let mut on_their_way = self.space.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
        let all = on_their_way.entry(self.workspace).or_default();
        if self.used.saturating_add(*all).saturating_add(bytes) > quota {
            return Err(BlobError::Quota(quota));
        }
        *all += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Reservation {
    /// The blob is there: it is part of what the workspace uses.
    pub(super) fn stored(self) {
        let mut usage = self.space.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, _)) = usage.get_mut(&self.workspace) {
            *used = used.saturating_add(self.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut on_their_way = self.space.on_their_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(all) = on_their_way.get_mut(&self.workspace) {
            *all = all.saturating_sub(self.bytes);
            if *all == 0 {
                on_their_way.remove(&self.workspace);
            }
        }
    }
}
