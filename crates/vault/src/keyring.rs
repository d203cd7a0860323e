//! The keys that wrap other keys, and the ring of workspace keys: for each workspace its generations, one of them
//! current. Old generations stay readable until they are forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kluis_core::id::{KeyId, WorkspaceId};
use kluis_core::rng::Rng;

use crate::envelope;
use crate::error::Error;
use crate::memory::Key;

/// How many times one key generation may wrap: 2^31, which leaves two of its random 96-bit nonces equal with a
/// chance of about 2^-35. The count is in memory; [`Vault::wraps_at_least`](crate::Vault::wraps_at_least) carries it over
/// a restart.
pub const MAX_WRAPS: u64 = 1 << 31;

/// How worn a key generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyWear {
    /// The generation.
    pub id: KeyId,
    /// Whether it wraps new data keys.
    pub current: bool,
    /// How often it has wrapped since it was loaded, at most [`MAX_WRAPS`].
    pub wraps: u64,
}

/// A key that seals keys (or other small things), its public name, and how often it has done so.
#[derive(Debug)]
pub(crate) struct WrappingKey {
    pub(crate) key: Key,
    pub(crate) id: KeyId,
    wraps: AtomicU64,
}

impl WrappingKey {
    pub(crate) fn new(key: Key, id: KeyId) -> Self {
        Self { key, id, wraps: AtomicU64::new(0) }
    }

    /// Seals, and counts it.
    pub(crate) fn wrap(&self, associated: &[u8], plaintext: &[u8], rng: &dyn Rng) -> Result<Vec<u8>, Error> {
        self.wraps
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < MAX_WRAPS).then_some(n + 1))
            .map_err(|_| Error::KeyWorn { key: self.id })?;
        Ok(envelope::seal(&self.key, self.id, associated, plaintext, rng))
    }

    /// Opens a wrapped key, straight into locked memory.
    pub(crate) fn unwrap_key(&self, what: &'static str, associated: &[u8], wrapped: &[u8]) -> Result<Key, Error> {
        Key::write(|out| envelope::open_into(what, &self.key, self.id, associated, wrapped, out))
    }
}

/// The workspace keys in memory.
#[derive(Debug, Default)]
pub(crate) struct Keyring(RwLock<HashMap<WorkspaceId, Generations>>);

#[derive(Debug, Default)]
struct Generations {
    current: Option<KeyId>,
    keys: HashMap<KeyId, Arc<WrappingKey>>,
}

impl Keyring {
    /// Adds a generation; one that is there already keeps its count.
    pub(crate) fn insert(&self, workspace: WorkspaceId, key: WrappingKey, current: bool) {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let generations = ring.entry(workspace).or_default();
        if current {
            generations.current = Some(key.id);
        }
        generations.keys.entry(key.id).or_insert_with(|| Arc::new(key));
    }

    pub(crate) fn remove(&self, workspace: WorkspaceId, id: KeyId) {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(generations) = ring.get_mut(&workspace) {
            generations.keys.remove(&id);
            generations.current.take_if(|current| *current == id);
            if generations.keys.is_empty() {
                ring.remove(&workspace);
            }
        }
    }

    pub(crate) fn current(&self, workspace: WorkspaceId) -> Result<Arc<WrappingKey>, Error> {
        self.find(workspace, |g| g.keys.get(&g.current?)).ok_or(Error::NoCurrentKey { workspace })
    }

    pub(crate) fn get(&self, workspace: WorkspaceId, key: KeyId) -> Result<Arc<WrappingKey>, Error> {
        self.find(workspace, |g| g.keys.get(&key)).ok_or(Error::UnknownKey { workspace, key })
    }

    /// Raises a generation's count to what is known from elsewhere.
    pub(crate) fn wraps_at_least(&self, workspace: WorkspaceId, key: KeyId, count: u64) -> Result<(), Error> {
        self.get(workspace, key)?.wraps.fetch_max(count.min(MAX_WRAPS), Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn wear(&self, workspace: WorkspaceId) -> Vec<KeyWear> {
        let ring = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(generations) = ring.get(&workspace) else { return Vec::new() };
        let wear = |key: &Arc<WrappingKey>| KeyWear {
            id: key.id,
            current: generations.current == Some(key.id),
            wraps: key.wraps.load(Ordering::Relaxed),
        };
        generations.keys.values().map(wear).collect()
    }

    fn find(
        &self,
        workspace: WorkspaceId,
        pick: impl FnOnce(&Generations) -> Option<&Arc<WrappingKey>>,
    ) -> Option<Arc<WrappingKey>> {
        let ring = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ring.get(&workspace).and_then(pick).cloned()
    }
}
