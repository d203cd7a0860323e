//! What every service works with, once per server: rows, keys, blobs, time and chance. A service is borrowed from it for
//! one call; see [`crate::service`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use kluis_core::clock::{Clock, Timestamp};
use kluis_core::id::InstallationId;
use kluis_core::rng::Rng;
use kluis_store::Store;
use kluis_store::runs::RunLimits;
use kluis_vault::Vault;
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

use crate::blobs::{BlobLimits, Blobs};
use crate::config::HostName;
use crate::refusals::Refusals;
use crate::throttle::Throttle;

/// The application: state of every handler, cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    /// Rows, sealed.
    pub store: Store,
    /// Keys.
    pub vault: Arc<Vault>,
    /// Snapshots, logs, outputs.
    pub blobs: Blobs,
    /// Since when this server listens: before it, nobody was silent.
    pub listening: Listening,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub rng: Arc<dyn Rng>,
    /// What is decided by configuration.
    pub settings: Settings,
    /// The installation's id.
    pub installation: InstallationId,
    /// The installation's epoch: moves when a backup is restored.
    pub epoch: u64,
    /// The names and addresses that clients reach this server by.
    pub hosts: Vec<HostName>,
    /// The certificate authority's certificate, as clients pin it.
    pub ca: Option<Arc<CaCertificate>>,
    /// Failures to sign in.
    pub throttle: Throttle,
    /// Refusals of those who did.
    pub refusals: Refusals,
    /// Cancelled when the server stops: whoever waits for something ends its wait.
    pub stopping: CancellationToken,
    /// Whether the audit log is what was signed; not known before the first look.
    pub log_fits: OnceCell<bool>,
    /// Held while a workspace's members, keys or the root key change, so that what was looked up still holds.
    pub membership: Mutex<()>,
}

/// Since when a server has listened without a break. A start begins it; so does a jump of the wall clock, for how long
/// ago anything from before it was, nobody can tell.
#[derive(Debug)]
pub struct Listening(AtomicI64);

impl Listening {
    /// From now on.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.millis()))
    }

    /// Since when.
    pub fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// Begins anew.
    pub fn begin(&self, now: Timestamp) {
        self.0.store(now.millis(), Ordering::Relaxed);
    }
}

/// The certificate of the authority that vouches for the server: the private one, or a site's.
#[derive(Clone, Debug)]
pub struct CaCertificate {
    /// As PEM, what `GET /ca` answers.
    pub pem: String,
    /// SHA-256 over the DER, lower-case hex: what clients pin.
    pub sha256: String,
}

/// What configuration decides for the services.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many blobs may be stored.
    pub blobs: BlobLimits,
    /// How much the code in a run may make in rows.
    pub run_limits: RunLimits,
    /// A launcher keeps values this long without contact.
    pub cache_without_contact: Duration,
    /// A run without a sign of life for this long is `unresponsive`.
    pub silent_after: Duration,
    /// A run without a sign of life for this long is `lost`.
    pub lost_after: Duration,
    /// An agent confirms a lease within this time, or it goes to another.
    pub lease: Duration,
    /// A ticket works for this long after its confirmation.
    pub ticket: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            blobs: BlobLimits::default(),
            run_limits: RunLimits::default(),
            cache_without_contact: Duration::from_hours(1),
            silent_after: Duration::from_secs(90),
            lost_after: Duration::from_hours(24),
            lease: Duration::from_mins(1),
            ticket: Duration::from_mins(2),
        }
    }
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The time now, by the wall clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("vault", &self.vault).finish_non_exhaustive()
    }
}
