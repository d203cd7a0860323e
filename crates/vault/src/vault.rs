//! A vault's life: made once, opened with its root key, its root key changed. What seals values, rows, checkpoints and
//! blobs stands in the files named after them; all of it is methods of [`Vault`].

use std::sync::{Arc, PoisonError, RwLock};

use kluis_core::id::{InstallationId, KeyId, WorkspaceId};
use kluis_core::rng::Rng;

use crate::checkpoint;
use crate::error::Error;
use crate::keyring::{KeyWear, Keyring, WrappingKey};
use crate::memory::Key;
use crate::root::RootKey;
use crate::{binding, derive, envelope};

/// The installation's own keys, sealed: for the store to keep in one row and to hand back at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallationKeys {
    /// The installation key under the root key.
    pub installation_key: Vec<u8>,
    /// The seed of the checkpoint key under a key derived from the installation key.
    pub signing_key: Vec<u8>,
    /// A known text under the root key: opens only under the right one.
    pub canary: Vec<u8>,
}

/// One generation of a workspace's key, sealed under the root key: a row for the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkspaceKey {
    /// Whose key.
    pub workspace: WorkspaceId,
    /// Which generation; derived from the key itself.
    pub id: KeyId,
    /// The key under the root key.
    pub wrapped: Vec<u8>,
}

/// The one thing that opens secrets. Keys stand in locked memory and are wiped on drop; every method may be called
/// from many threads at once, and none waits for anything but short locks.
pub struct Vault {
    pub(crate) installation: InstallationId,
    pub(crate) rng: Arc<dyn Rng>,
    root: RwLock<Arc<WrappingKey>>,
    /// The installation key: never wraps by itself, everything is derived from it.
    pub(crate) installation_key: Key,
    pub(crate) row_mac: Key,
    pub(crate) audit_mac: Key,
    pub(crate) lookup: Key,
    pub(crate) small: WrappingKey,
    pub(crate) signing_seed: Key,
    /// As the store has it; a root rotation does not change it.
    signing_key: Vec<u8>,
    pub(crate) public_key: [u8; 32],
    pub(crate) keyring: Keyring,
}

/// Everything that the root key wraps, under the new root key, ready to be stored in one unit of work. Hand it to
/// [`Vault::adopt_root`] once that is committed; dropped instead, nothing has happened.
#[derive(Debug)]
#[must_use = "store it, then hand it to Vault::adopt_root"]
pub struct RotatedRoot {
    /// Replaces the stored ones.
    pub installation: InstallationKeys,
    /// Replaces the stored ones, in the order given.
    pub workspace_keys: Vec<WorkspaceKey>,
    root: Arc<WrappingKey>,
}

/// What the canary holds.
const CANARY: &[u8; 32] = b"kluis: this root key opens this.";

impl Vault {
    /// Makes the keys of a new installation. Store the returned keys before anything else is sealed.
    pub fn create(
        root: RootKey,
        installation: InstallationId,
        rng: Arc<dyn Rng>,
    ) -> Result<(Self, InstallationKeys), Error> {
        let installation_key = Key::generate(&*rng);
        let seed = Key::generate(&*rng);
        let small = small_key(&installation_key, installation);
        let signing_key =
            small.wrap(&binding::installation("kluis/signing-key", installation, small.id), seed.expose(), &*rng)?;
        let root = root_wrap(&root, installation);
        let keys = seal_installation(&root, installation, &installation_key, signing_key, &*rng)?;
        let vault = Self::open_with(root, installation, &keys, rng)?;
        Ok((vault, keys))
    }

    /// Opens an installation's keys. With the wrong root key: [`Error::WrongRootKey`], and nothing was touched.
    pub fn open(
        root: RootKey,
        installation: InstallationId,
        keys: &InstallationKeys,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, Error> {
        Self::open_with(root_wrap(&root, installation), installation, keys, rng)
    }

    fn open_with(
        root: WrappingKey,
        installation: InstallationId,
        keys: &InstallationKeys,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, Error> {
        let place = |purpose, wrapping| binding::installation(purpose, installation, wrapping);

        asks_for(&root, "canary", &keys.canary)?;
        let canary = envelope::open("canary", &root.key, root.id, &place("kluis/canary", root.id), &keys.canary)?;
        if canary[..] != CANARY[..] {
            return Err(Error::Damaged { what: "canary" });
        }

        let what = "installation key";
        asks_for(&root, what, &keys.installation_key)?;
        let installation_key =
            root.unwrap_key(what, &place("kluis/installation-key", root.id), &keys.installation_key)?;
        let small = small_key(&installation_key, installation);
        let signing_seed = small.unwrap_key("signing key", &place("kluis/signing-key", small.id), &keys.signing_key)?;

        let derived = |purpose| derive::key(&installation_key, purpose, &[installation.as_bytes()]);
        Ok(Self {
            installation,
            rng,
            row_mac: derived("kluis/row-mac"),
            audit_mac: derived("kluis/audit-mac"),
            lookup: derived("kluis/lookup"),
            small,
            public_key: checkpoint::public_key(&signing_seed),
            signing_seed,
            signing_key: keys.signing_key.clone(),
            installation_key,
            root: RwLock::new(Arc::new(root)),
            keyring: Keyring::default(),
        })
    }

    /// Seals everything that the root key wraps under a new root key: O(workspaces), and no value, token, MAC or
    /// signature changes.
    ///
    /// `workspace_keys` must be every generation of every workspace, and none may be added until the result is
    /// stored and adopted: hold whatever guards the creation of workspace keys.
    pub fn rotate_root(&self, new_root: RootKey, workspace_keys: &[WorkspaceKey]) -> Result<RotatedRoot, Error> {
        let root = root_wrap(&new_root, self.installation);
        let signing_key = self.signing_key.clone();
        let installation =
            seal_installation(&root, self.installation, &self.installation_key, signing_key, &*self.rng)?;
        let rewrap = |old: &WorkspaceKey| {
            let key = self.workspace_key_open(old)?;
            self.workspace_key_wrap(&root, old.workspace, &key)
        };
        let workspace_keys = workspace_keys.iter().map(rewrap).collect::<Result<_, _>>()?;
        Ok(RotatedRoot { installation, workspace_keys, root: Arc::new(root) })
    }

    /// Wraps under the new root key from now on. Call it when, and only when, the rotation is committed.
    pub fn adopt_root(&self, rotated: RotatedRoot) {
        *self.root.write().unwrap_or_else(PoisonError::into_inner) = rotated.root;
    }

    /// The id of the root key in use: what a root key file or passphrase in use also says.
    pub fn root_key_id(&self) -> KeyId {
        self.root().id
    }

    /// A new generation for a workspace. Not yet in the keyring: store it, then load it.
    pub fn workspace_key_create(&self, workspace: WorkspaceId) -> Result<WorkspaceKey, Error> {
        self.workspace_key_wrap(&self.root(), workspace, &Key::generate(&*self.rng))
    }

    /// Opens a generation into the keyring. With `current`, it seals from now on; the generations before it stay
    /// readable.
    pub fn workspace_key_load(&self, key: &WorkspaceKey, current: bool) -> Result<(), Error> {
        let opened = self.workspace_key_open(key)?;
        self.keyring.insert(key.workspace, WrappingKey::new(opened, key.id), current);
        Ok(())
    }

    /// Wipes a generation from the keyring: what is sealed under it does not open any more. A workspace whose current
    /// generation is forgotten can not seal until another is loaded.
    pub fn workspace_key_forget(&self, workspace: WorkspaceId, id: KeyId) {
        self.keyring.remove(workspace, id);
    }

    /// How often each loaded generation of a workspace has wrapped, in no order. Rotate long before
    /// [`MAX_WRAPS`](crate::MAX_WRAPS): at that count sealing stops with [`Error::KeyWorn`].
    pub fn wear(&self, workspace: WorkspaceId) -> Vec<KeyWear> {
        self.keyring.wear(workspace)
    }

    /// Tells the vault that a loaded generation has wrapped at least `count` times, for example as many as the store
    /// has rows under it: the count in memory starts at zero with each process.
    pub fn wraps_at_least(&self, workspace: WorkspaceId, key: KeyId, count: u64) -> Result<(), Error> {
        self.keyring.wraps_at_least(workspace, key, count)
    }

    fn workspace_key_wrap(&self, root: &WrappingKey, workspace: WorkspaceId, key: &Key) -> Result<WorkspaceKey, Error> {
        let id = key.id();
        let place = binding::workspace_key(self.installation, workspace, id, root.id);
        Ok(WorkspaceKey { workspace, id, wrapped: root.wrap(&place, key.expose(), &*self.rng)? })
    }

    fn workspace_key_open(&self, key: &WorkspaceKey) -> Result<Key, Error> {
        let what = "workspace key";
        let root = self.root();
        asks_for(&root, what, &key.wrapped)?;
        let place = binding::workspace_key(self.installation, key.workspace, key.id, root.id);
        let opened = root.unwrap_key(what, &place, &key.wrapped)?;
        if opened.id() == key.id { Ok(opened) } else { Err(Error::Damaged { what }) }
    }

    fn root(&self) -> Arc<WrappingKey> {
        self.root.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("installation", &self.installation).finish_non_exhaustive()
    }
}

/// The root key itself wraps nothing: a key derived from it does, under the root key's name.
fn root_wrap(root: &RootKey, installation: InstallationId) -> WrappingKey {
    WrappingKey::new(derive::key(&root.0, "kluis/root-wrap", &[installation.as_bytes()]), root.id())
}

fn small_key(installation_key: &Key, installation: InstallationId) -> WrappingKey {
    WrappingKey::new(derive::key(installation_key, "kluis/small", &[installation.as_bytes()]), installation_key.id())
}

fn seal_installation(
    root: &WrappingKey,
    installation: InstallationId,
    installation_key: &Key,
    signing_key: Vec<u8>,
    rng: &dyn Rng,
) -> Result<InstallationKeys, Error> {
    let place = |purpose| binding::installation(purpose, installation, root.id);
    Ok(InstallationKeys {
        installation_key: root.wrap(&place("kluis/installation-key"), installation_key.expose(), rng)?,
        signing_key,
        canary: root.wrap(&place("kluis/canary"), CANARY, rng)?,
    })
}

/// A box that names another root key: the wrong key was given, or the data is another installation's.
fn asks_for(root: &WrappingKey, what: &'static str, sealed: &[u8]) -> Result<(), Error> {
    match envelope::key_id(what, sealed)? {
        id if id == root.id => Ok(()),
        wanted => Err(Error::WrongRootKey { wanted, given: root.id }),
    }
}
