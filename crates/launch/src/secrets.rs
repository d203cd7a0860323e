//! The run's secrets on this node. A value is fetched once, kept while the server may be assumed to still allow it, and
//! wiped on revocation, at the end, or after too long without contact. The masker knows it before anybody is answered,
//! and every delivery is noted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kluis_client::Error;
use kluis_client::session::Session;
use kluis_core::api::broker::BrokerError;
use kluis_core::api::code;
use kluis_core::api::session::{ReadSecrets, ReadValue, SecretsRead};
use kluis_core::id::VersionId;
use kluis_core::name::SecretName;
use kluis_core::secret::MAX_BATCH;
use tokio::time::{Instant, timeout_at};

use crate::deliveries::{Asker, Deliveries};
use crate::harden;
use crate::logs::Logs;
use crate::masking::Masking;
use crate::retry::{self, Backoff};

/// How long a read tries to reach the server, unless it said otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a read may ask to be tried for.
const LONGEST_PATIENCE: Duration = Duration::from_hours(24);

/// The node's store of values.
#[derive(Debug)]
pub(crate) struct Secrets {
    session: Session,
    masking: Arc<Masking>,
    logs: Arc<Logs>,
    /// Keep values this long without contact.
    keep: Duration,
    state: Mutex<State>,
    /// One fetch at a time: whoever waits for it most often finds its value in the cache.
    fetching: tokio::sync::Mutex<()>,
    pub(crate) deliveries: Deliveries,
}

#[derive(Debug)]
struct State {
    values: HashMap<SecretName, ReadValue>,
    last_contact: Instant,
    /// Moves with every revocation: a fetch that began before one is not kept.
    revocations: u64,
}

impl Secrets {
    pub(crate) fn new(session: Session, masking: Arc<Masking>, logs: Arc<Logs>, keep: Duration) -> Self {
        let state = State { values: HashMap::new(), last_contact: Instant::now(), revocations: 0 };
        let fetching = tokio::sync::Mutex::new(());
        Self { session, masking, logs, keep, state: Mutex::new(state), fetching, deliveries: Deliveries::new() }
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
        let found = self.find(names, refresh, patience).await?;
        self.deliveries.note(&found.items, asker, self.session.now());
        Ok(found)
    }

    /// One value, if it is of this version: a run reads the version that its attempt has, and another is delivered to
    /// nobody. `None` when it is of another.
    pub(crate) async fn read_version(
        &self,
        name: &SecretName,
        version: VersionId,
        asker: Asker,
        patience: Duration,
    ) -> Result<Option<SecretsRead>, BrokerError> {
        let found = self.find(std::slice::from_ref(name), false, patience).await?;
        if found.items.iter().any(|item| item.version != version) {
            return Ok(None);
        }
        self.deliveries.note(&found.items, asker, self.session.now());
        Ok(Some(found))
    }

    /// Values that are about to be delivered.
    async fn find(&self, names: &[SecretName], refresh: bool, patience: Duration) -> Result<SecretsRead, BrokerError> {
        if names.len() > MAX_BATCH {
            let detail = format!("{} names were asked for; at most {MAX_BATCH} go in one read", names.len());
            return Err(BrokerError { code: code::TOO_LARGE.to_owned(), detail });
        }
        let deadline = Instant::now() + patience.min(LONGEST_PATIENCE);
        // First of all: a value that is found does not wait any more, and so is not revoked meanwhile.
        if timeout_at(deadline, self.deliveries.room_for(names.len())).await.is_err() {
            return Err(unavailable("too many deliveries wait to be reported to it"));
        }
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
        Ok(found.expect("kept or fetched"))
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

    /// As [`Self::preload`]: what is refused is said, and keeps nothing else from being known. One refusal refuses all
    /// that are asked for together, so what is refused is looked for by halves.
    pub(crate) async fn preload_each(
        &self,
        names: &[SecretName],
        patience: Duration,
    ) -> Vec<(SecretName, BrokerError)> {
        let mut refused = Vec::new();
        let mut open = vec![names];
        while let Some(part) = open.pop() {
            match self.preload(part, patience).await {
                Ok(_) => {}
                Err(error) if part.len() == 1 || error.code == code::UNAVAILABLE => {
                    refused.extend(part.iter().map(|name| (name.clone(), error.clone())));
                }
                Err(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                }
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
                    let read = self.learn(read).await;
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

    /// The masker learns values before anybody gets them, off the launcher's own thread.
    async fn learn(&self, read: SecretsRead) -> SecretsRead {
        let masking = self.masking.clone();
        let learning = tokio::task::spawn_blocking(move || {
            let short = masking.learn(&read.items);
            (read, short)
        });
        let (read, short) = learning.await.expect("the masker takes any value");
        for name in short {
            self.logs.system(&format!("the secret `{name}` has fewer than 8 bytes and is not masked in the log"));
        }
        harden::lock_heap();
        read
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
