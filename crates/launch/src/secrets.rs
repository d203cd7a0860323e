//! The run's secrets on this node. A value is fetched once, kept while the server may be assumed to still allow it, and
//! wiped on revocation, at the end, or after too long without contact. The masker knows it before anybody is answered,
//! and every delivery gets a number, so that a missing report shows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kluis_client::Error;
use kluis_client::session::Session;
use kluis_core::api::broker::BrokerError;
use kluis_core::api::code;
use kluis_core::api::session::{ReadRecord, ReadSecrets, ReadValue, SecretsRead};
use kluis_core::name::SecretName;
use kluis_core::secret::MAX_BATCH;
use tokio::time::{Instant, timeout_at};

use crate::masking::Masking;
use crate::retry::{self, Backoff};

/// How long a read tries to reach the server, unless it said otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Read records in one heartbeat.
const MOST_RECORDS: usize = 5000;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) rank: u32,
    pub(crate) pid: i32,
}

/// The node's store of values.
#[derive(Debug)]
pub(crate) struct Secrets {
    session: Session,
    masking: Arc<Masking>,
    /// Keep values this long without contact.
    keep: Duration,
    state: Mutex<State>,
    /// One fetch at a time: whoever waits for it most often finds its value in the cache.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    values: HashMap<SecretName, ReadValue>,
    last_contact: Instant,
    /// Moves with every revocation: a fetch that began before one is not kept.
    revocations: u64,
    /// Deliveries that the server has not acknowledged.
    reads: VecDeque<ReadRecord>,
    next_read: u64,
}

impl Secrets {
    pub(crate) fn new(session: Session, masking: Arc<Masking>, keep: Duration) -> Self {
        let state = State {
            values: HashMap::new(),
            last_contact: Instant::now(),
            revocations: 0,
            reads: VecDeque::new(),
            next_read: 1,
        };
        Self { session, masking, keep, state: Mutex::new(state), fetching: tokio::sync::Mutex::new(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with the lock held")
    }

    /// Values for a process of the run; each that is answered is noted as delivered to it.
    pub(crate) async fn read(
        &self,
        names: &[SecretName],
        refresh: bool,
        asker: Asker,
        patience: Duration,
    ) -> Result<SecretsRead, BrokerError> {
        if names.len() > MAX_BATCH {
            let detail = format!("{} names were asked for; at most {MAX_BATCH} go in one read", names.len());
            return Err(BrokerError { code: code::TOO_LARGE.to_owned(), detail });
        }
        let deadline = Instant::now() + patience;
        let kept = || self.cached(names).filter(|_| !refresh);
        let mut found = kept();
        if found.is_none() {
            let Ok(_turn) = timeout_at(deadline, self.fetching.lock()).await else {
                return Err(unavailable("another read of the run is still waiting for it"));
            };
            // Whoever was first may have fetched it for us.
            found = kept();
            if found.is_none() {
                found = Some(self.fetch(names, refresh, deadline).await?);
            }
        }
        let found = found.expect("kept or fetched");
        self.note_reads(&found.items, asker);
        Ok(found)
    }

    /// Fetches without delivering to anybody: for the masker, and for what the launcher itself hands over.
    pub(crate) async fn preload(&self, names: &[SecretName], patience: Duration) -> Result<SecretsRead, BrokerError> {
        let deadline = Instant::now() + patience;
        let _turn = self.fetching.lock().await;
        let mut all = SecretsRead { items: Vec::new(), missing: Vec::new() };
        for batch in names.chunks(MAX_BATCH) {
            let read = self.fetch(batch, false, deadline).await?;
            all.items.extend(read.items);
            all.missing.extend(read.missing);
        }
        Ok(all)
    }

    /// As [`Self::preload`], one by one: what is refused is said, and keeps nothing else from being known.
    pub(crate) async fn preload_each(
        &self,
        names: &[SecretName],
        patience: Duration,
    ) -> Vec<(SecretName, BrokerError)> {
        let mut refused = Vec::new();
        for name in names {
            if let Err(error) = self.preload(std::slice::from_ref(name), patience).await {
                refused.push((name.clone(), error));
            }
        }
        refused
    }

    /// All of them, or nothing.
    fn cached(&self, names: &[SecretName]) -> Option<SecretsRead> {
        let mut state = self.state();
        if state.last_contact.elapsed() > self.keep {
            state.values.clear();
        }
        let as_asked =
            |name: &SecretName| state.values.get(name).map(|v| ReadValue { name: name.clone(), ..v.clone() });
        let items: Option<Vec<ReadValue>> = names.iter().map(as_asked).collect();
        Some(SecretsRead { items: items?, missing: Vec::new() })
    }

    async fn fetch(&self, names: &[SecretName], refresh: bool, deadline: Instant) -> Result<SecretsRead, BrokerError> {
        let request = ReadSecrets { names: names.to_vec(), refresh };
        let revocations = self.state().revocations;
        let mut backoff = Backoff::new();
        let mut last = None;
        loop {
            match timeout_at(deadline, self.session.secrets(&request)).await {
                Ok(Ok(read)) => {
                    for item in &read.items {
                        self.masking.learn(&item.name, &item.value);
                    }
                    let mut state = self.state();
                    state.last_contact = Instant::now();
                    if state.revocations == revocations {
                        state.values.extend(read.items.iter().map(|item| (item.name.clone(), item.clone())));
                    }
                    return Ok(read);
                }
                Ok(Err(Error::Api(refusal))) if retry::is_definite(&Error::Api(refusal.clone())) => {
                    return Err(BrokerError { code: refusal.code, detail: refusal.detail });
                }
                Ok(Err(error)) => {
                    let wait = timeout_at(deadline, backoff.pause(&error)).await;
                    last = Some(error);
                    if wait.is_ok() {
                        continue;
                    }
                }
                Err(_elapsed) => {}
            }
            return Err(unavailable(&last.map_or_else(|| "it does not answer".to_owned(), |e| e.to_string())));
        }
    }

    fn note_reads(&self, items: &[ReadValue], asker: Asker) {
        let time = self.session.now();
        let mut state = self.state();
        for item in items {
            let sequence = state.next_read;
            state.next_read += 1;
            state.reads.push_back(ReadRecord {
                sequence,
                time,
                name: item.name.clone(),
                version: item.version,
                rank: asker.rank,
                pid: asker.pid.cast_unsigned(),
            });
        }
    }

    /// The oldest deliveries that the server does not know of.
    pub(crate) fn unreported(&self) -> Vec<ReadRecord> {
        self.state().reads.iter().take(MOST_RECORDS).cloned().collect()
    }

    /// Whether there are deliveries to report.
    pub(crate) fn has_unreported(&self) -> bool {
        !self.state().reads.is_empty()
    }

    /// Whether they are more than [`Self::unreported`] gives.
    pub(crate) fn has_more_than_one_report(&self) -> bool {
        self.state().reads.len() > MOST_RECORDS
    }

    /// The server has every delivery up to this number.
    pub(crate) fn reported(&self, up_to: u64) {
        self.state().reads.retain(|read| read.sequence > up_to);
    }

    /// The server was heard.
    pub(crate) fn contact(&self) {
        self.state().last_contact = Instant::now();
    }

    /// Wipes what has been kept too long without contact.
    pub(crate) fn expire(&self) {
        let mut state = self.state();
        if state.last_contact.elapsed() > self.keep {
            state.values.clear();
        }
    }

    /// Wipes these values, also if they are just being fetched.
    pub(crate) fn revoke(&self, names: &[SecretName]) {
        if names.is_empty() {
            return;
        }
        let mut state = self.state();
        state.revocations += 1;
        for name in names {
            state.values.remove(name);
        }
    }

    /// Wipes everything.
    pub(crate) fn wipe(&self) {
        let mut state = self.state();
        state.revocations += 1;
        state.values.clear();
    }
}

fn unavailable(why: &str) -> BrokerError {
    let detail = format!("the server could not be reached in time ({why}); the run goes on, try again later");
    BrokerError { code: code::UNAVAILABLE.to_owned(), detail }
}
