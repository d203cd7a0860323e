//! A server's life: open what is there or make it, listen, work in the background, stop in order. What can wait is not
//! done before the port is open.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::name::PrincipalName;
use kluis_core::plaintext::Plaintext;
use kluis_store::installation::{InstallationRow, SealedBlob};
use kluis_store::{Authority as By, OpenError, Options, Store, Write};
use kluis_vault::{InstallationKeys, RootKeyError, Vault, WorkspaceKey};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, CaCertificate, Listening, Parts};
use crate::blobs::{BlobError, Blobs};
use crate::config::{HostName, RootKeyOption, ServerOptions, TlsSource};
use crate::faces;
use crate::listen::{self, ListenError};
use crate::refusals::Refusals;
use crate::throttle::Throttle;
use crate::tls::{self, Authority, Leaf, Shown, TlsError};

mod background;
mod first;
pub mod offline;
mod root;

/// Why a server did not start. Each says what to do; nothing was changed but what an earlier step of a first start has
/// completed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder is not one of ours.
    #[error("{}: {reason}", path.display())]
    Data {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The store does not open: in use, read-only, too new.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no root key to be had.
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    /// The root key is not this data's, or a sealed key is damaged.
    #[error(transparent)]
    Vault(#[from] kluis_vault::Error),
    /// The store did not do its first commands.
    #[error("the store: {0}")]
    Store(#[from] kluis_store::Error),
    /// No certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Nothing listens.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The blob folder is not usable.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// A rule of ours was broken while starting.
    #[error("{0}")]
    Internal(String),
}

impl StartError {
    /// Whether the root key is another one's: of other data, or before or after a rotation.
    fn is_wrong_root_key(&self) -> bool {
        matches!(
            self,
            Self::Vault(kluis_vault::Error::WrongRootKey { .. }) | Self::RootKey(RootKeyError::WrongPassphrase { .. })
        )
    }
}

/// Starts servers.
#[derive(Clone, Copy, Debug)]
pub struct Server;

/// A server that listens. Dropping it leaves its tasks running; call [`Running::shutdown`].
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    app: App,
    root_key: PathBuf,
    first_start: Option<FirstStart>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What exists only at the first start.
#[derive(Debug)]
pub struct FirstStart {
    /// The owner.
    pub owner: PrincipalName,
    /// The owner's login; it is nowhere else.
    pub token: Plaintext,
    /// The root key's file (or the passphrase's parameters): losing it loses everything.
    pub root_key: PathBuf,
}

impl Server {
    /// Opens or makes the installation and listens. Answers when connections are accepted.
    pub async fn start(options: ServerOptions) -> Result<Running, StartError> {
        for weakness in kluis_vault::harden_process() {
            tracing::warn!("{weakness}");
        }
        // First the port: a mistake there should not leave a fresh installation behind.
        let (listener, address) = listen::bind(&options.listen).await?;
        let Prepared { app, first_start, certificate } = prepare(&options).await?;
        let stop = app.stopping.clone();
        let tasks = TaskTracker::new();
        let tls = tls::server_config(certificate.shown.clone());
        tasks.spawn(listen::serve(listener, tls, faces::router(app.clone()), stop.clone()));
        background::start(&app, certificate, options.tls.clone(), &tasks);
        tasks.close();
        Ok(Running { address, app, root_key: root::path(&options), first_start, stop, tasks })
    }

    /// The application without a listener and without background work: for tests, and for work on a stopped server.
    pub async fn open(options: &ServerOptions) -> Result<(App, Option<FirstStart>), StartError> {
        let Prepared { app, first_start, .. } = prepare(options).await?;
        Ok((app, first_start))
    }
}

/// Everything but the port.
struct Prepared {
    app: App,
    first_start: Option<FirstStart>,
    certificate: Certificate,
}

async fn prepare(options: &ServerOptions) -> Result<Prepared, StartError> {
    let Opened { store, vault, installation, first_start } = open(options).await?;
    let certificate = certificate(options, &store, &vault, &installation, options.clock.now()).await?;
    let blobs = Blobs::local(&options.data.join("blobs"), vault.clone(), options.settings.blobs)?;
    let own = certificate.authority.as_ref().map(|a| CaCertificate { pem: a.pem(), sha256: a.sha256() });
    let ca = own.or_else(|| tls::pinned(&certificate.shown.chain())).map(Arc::new);
    let app = App::new(Parts {
        store,
        vault,
        blobs,
        listening: Listening::new(options.clock.now()),
        clock: options.clock.clone(),
        rng: options.rng.clone(),
        settings: options.settings.clone(),
        installation: installation.id,
        epoch: installation.epoch,
        hosts: hosts(options, certificate.authority.as_ref()),
        ca,
        throttle: Throttle::default(),
        refusals: Refusals::default(),
        stopping: CancellationToken::new(),
        log_fits: tokio::sync::OnceCell::new(),
        membership: tokio::sync::Mutex::default(),
    });
    Ok(Prepared { app, first_start, certificate })
}

/// By what clients reach this server: this machine's own names, and what it was ever given.
fn hosts(options: &ServerOptions, authority: Option<&Authority>) -> Vec<HostName> {
    let known = authority.into_iter().flat_map(Authority::names).filter_map(|name| name.parse().ok());
    let mut hosts: Vec<HostName> = tls::own_names().chain(options.hosts.iter().cloned()).chain(known).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What clients pin: the private authority's certificate, or the last one of a site's chain.
    pub fn ca_sha256(&self) -> Option<&str> {
        self.app.ca.as_ref().map(|ca| ca.sha256.as_str())
    }

    /// Whether a token is one of this installation's, and works. Asked in this process: the token goes nowhere.
    pub async fn knows(&self, token: &Plaintext) -> bool {
        self.app.sign_in(token.expose(), IpAddr::V4(Ipv4Addr::LOCALHOST)).await.is_ok()
    }

    /// Where the root key's file, or a passphrase's parameters, are.
    pub fn root_key(&self) -> &Path {
        &self.root_key
    }

    /// The owner's login, at the first start only; taken once.
    pub fn first_start(&mut self) -> Option<FirstStart> {
        self.first_start.take()
    }

    /// What the server works with.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Stops accepting, ends waits, lets requests finish (for at most 10 s), then closes the store.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        let app = self.app;
        app.record_refusals(app.refusals.gathered(true)).await;
        tokio::task::spawn_blocking(move || app.store.close()).await.expect("closing the store does not panic");
    }
}

/// An installation whose keys are open.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) vault: Arc<Vault>,
    pub(crate) installation: InstallationRow,
    pub(crate) first_start: Option<FirstStart>,
}

/// Opens the data folder, making the installation when there is none.
async fn open(options: &ServerOptions) -> Result<Opened, StartError> {
    let store = open_store(&options.data).await?;
    let Some(installation) = store.installation_load().await? else {
        require_nothing_left(options, &store).await?;
        return first::start(options, store).await;
    };
    let vault = open_vault(options, &store, &installation).await?;
    check_last_checkpoint(options, &store, &vault).await?;
    let record = AuditRecord::new(options.clock.now(), AuditAction::ServerStarted);
    store.audit_append(Write::new(By::server(), vault.audit_entry(record), ())).await?;
    Ok(Opened { store, vault, installation, first_start: None })
}

/// The log must reach as far as it did when it was last signed. What lies before is looked at in the background.
async fn check_last_checkpoint(options: &ServerOptions, store: &Store, vault: &Vault) -> Result<(), StartError> {
    let Some(last) = store.checkpoint_last().await? else { return Ok(()) };
    let (head, checkpoint) = (store.audit_head().await?, &last.checkpoint);
    let reaches = checkpoint.size < head.size || (checkpoint.size, checkpoint.root) == (head.size, head.root);
    if reaches && kluis_vault::verify_checkpoint(&last, &vault.public_key()) {
        return Ok(());
    }
    Err(StartError::Data {
        path: options.data.clone(),
        reason: "the audit log does not fit the last checkpoint signed over it, so somebody has changed it; \
                 `kluis admin doctor` tells more; restore the folder from a backup"
            .into(),
    })
}

/// Takes the lock and opens the rows. Nothing of what they hold is changed.
pub(crate) async fn open_store(data: &Path) -> Result<Store, StartError> {
    let data = data.to_owned();
    let open = move || {
        close_folder(&data)?;
        Ok(Store::open(Options::new(data))?)
    };
    tokio::task::spawn_blocking(open).await.map_err(|_| StartError::Internal("opening the store panicked".into()))?
}

/// Opens the keys. With the wrong root key: an error, and nothing was touched.
pub(crate) async fn open_vault(
    options: &ServerOptions,
    store: &Store,
    installation: &InstallationRow,
) -> Result<Arc<Vault>, StartError> {
    let keys = InstallationKeys {
        installation_key: installation.keys.installation_key.clone(),
        signing_key: installation.keys.signing_key.clone(),
        canary: installation.keys.canary.clone(),
    };
    let open = |root| Vault::open(root, installation.id, &keys, options.rng.clone());
    let vault = match root::load(options).await.and_then(|root| Ok(open(root)?)) {
        // A rotation that was committed and then interrupted: the data wants the key that waits.
        Err(refused) if refused.is_wrong_root_key() => match root::waiting(options).await? {
            Some((root, old)) => {
                let Ok(vault) = open(root) else { return Err(refused) };
                root::exchange(options, old)?;
                tracing::warn!("a rotation of the root key that was interrupted is finished now");
                vault
            }
            None => return Err(refused),
        },
        opened => opened?,
    };
    for row in store.workspace_keys_all().await? {
        let key = WorkspaceKey { workspace: row.workspace, id: row.id, wrapped: row.wrapped };
        // One damaged key must not keep the other workspaces from their secrets.
        if let Err(e) = vault.workspace_key_load(&key, row.current) {
            tracing::error!(workspace = %key.workspace, key = %key.id, error = %e, "a workspace key does not open");
        }
    }
    Ok(Arc::new(vault))
}

/// A folder that is ours or empty, reachable by this user alone.
fn close_folder(data: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let wrong = |reason: String| StartError::Data { path: data.to_owned(), reason };
    let metadata = match std::fs::metadata(data) {
        Ok(metadata) => metadata,
        // The store makes it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(wrong(e.to_string())),
    };
    if !metadata.is_dir() {
        return Err(wrong("this is not a folder".into()));
    }
    if !std::fs::metadata(data.join("kluis.db")).is_ok_and(|m| m.len() > 0)
        && let Some(left) = left_behind(data)
    {
        return Err(wrong(lost(left)));
    }
    let ours = data.join("kluis.db").exists() || data.join("kluis.lock").exists();
    let empty = || std::fs::read_dir(data).is_ok_and(|mut entries| entries.all(|e| e.is_ok_and(|e| is_root_key(&e))));
    if !ours && !empty() {
        return Err(wrong("there are other files in this folder; give --data a folder of its own".into()));
    }
    if metadata.mode() & 0o077 != 0 {
        std::fs::set_permissions(data, std::fs::Permissions::from_mode(0o700)).map_err(|e| wrong(e.to_string()))?;
    }
    Ok(())
}

/// What only a database that was used can have left behind. To make a new installation beside it would hide a loss, and
/// the new one would take the old one's files for nobody's.
fn left_behind(data: &Path) -> Option<&'static str> {
    if std::fs::read_dir(data.join("blobs")).is_ok_and(|mut entries| entries.next().is_some()) {
        return Some("`blobs`");
    }
    let names = [("audit-index.db", "`audit-index.db`"), ("kluis.db-wal", "`kluis.db-wal`")];
    let left = names.into_iter().find(|(name, _)| {
        // An empty file is not worth a refusal: a first start that was interrupted may have left it.
        std::fs::metadata(data.join(name)).is_ok_and(|m| m.len() > 0)
    });
    left.map(|(_, told)| told)
}

fn lost(left: &str) -> String {
    format!(
        "{left} in this folder belongs to an installation whose database `kluis.db` is missing or empty; put the database \
         back from where it went or from a backup, or give --data another folder to start anew"
    )
}

/// The database is ours and has no installation in it. That is a first start only when nothing says that there was one.
async fn require_nothing_left(options: &ServerOptions, store: &Store) -> Result<(), StartError> {
    let left = if store.audit_head().await?.size > 0 {
        Some("the audit log")
    } else {
        std::fs::read_dir(options.data.join("blobs")).is_ok_and(|mut e| e.next().is_some()).then_some("`blobs`")
    };
    match left {
        Some(left) => Err(StartError::Data { path: options.data.clone(), reason: lost(left) }),
        None => Ok(()),
    }
}

/// A root key put there beforehand.
fn is_root_key(entry: &std::fs::DirEntry) -> bool {
    [root::FILE, root::PARAMETERS].iter().any(|name| entry.file_name().to_str() == Some(name))
}

/// What is shown to clients, and what it was made from.
pub(crate) struct Certificate {
    pub(crate) shown: Arc<Shown>,
    pub(crate) authority: Option<Authority>,
    pub(crate) leaf: Option<Leaf>,
    /// When a site's files were last changed, as they were when what they held was taken.
    pub(crate) read: Option<background::Changed>,
}

async fn certificate(
    options: &ServerOptions,
    store: &Store,
    vault: &Vault,
    installation: &InstallationRow,
    now: Timestamp,
) -> Result<Certificate, StartError> {
    if let TlsSource::Files { certificate, key } = &options.tls {
        // Before the files are read: a change meanwhile is taken at the next look.
        let read = background::changed(certificate, key);
        let (chain, private) = tls::from_files(certificate, key)?;
        return Ok(Certificate { shown: Shown::new(chain, private)?, authority: None, leaf: None, read });
    }
    let sealed = |name: &'static str| installation.sealed.get(name).ok_or(TlsError::Stored(name));
    let authority = Authority::from_bytes(&vault.unseal_small(Authority::NAME, sealed(Authority::NAME)?)?)?;
    let mut leaf = Leaf::from_bytes(&vault.unseal_small(Leaf::NAME, sealed(Leaf::NAME)?)?)?;
    let grown = authority.with(&options.hosts, now)?;
    let has_grown = grown.is_some();
    let authority = grown.unwrap_or(authority);
    if has_grown {
        tracing::warn!(
            names = authority.names().collect::<Vec<_>>().join(" "),
            "the server has new names, so its authority has a new certificate: clients sign in anew with the new pin"
        );
        keep(store, vault, now, Authority::NAME, &authority.to_bytes()).await?;
    }
    if has_grown || leaf.is_due(now) || !leaf.is_for_vaults_of(&authority) {
        leaf = authority.issue(now)?;
        keep(store, vault, now, Leaf::NAME, &leaf.to_bytes()).await?;
    }
    let (chain, key) = authority.chain(&leaf);
    Ok(Certificate { shown: Shown::new(chain, key)?, authority: Some(authority), leaf: Some(leaf), read: None })
}

/// Stores a new certificate with its key, sealed.
pub(crate) async fn keep(
    store: &Store,
    vault: &Vault,
    now: Timestamp,
    name: &str,
    bytes: &[u8],
) -> Result<(), StartError> {
    let blob = SealedBlob { name: name.to_owned(), bytes: vault.seal_small(name, bytes)? };
    let record = AuditRecord { name: Some(name.to_owned()), ..AuditRecord::new(now, AuditAction::CertificateIssued) };
    Ok(store.sealed_blob_set(Write::new(By::server(), vault.audit_entry(record), blob)).await?)
}

impl RootKeyOption {
    /// As the store notes it, for the doctor.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::File(path) => {
                format!("file {}", path.as_deref().unwrap_or(Path::new(root::FILE)).display())
            }
            Self::Passphrase(_) => "passphrase".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_certificate_of_before_the_vaults_is_made_anew_and_the_pin_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(folder.path().join("data"), PrincipalName::parse("owner").unwrap());
        options.hosts = vec!["kluis.example.org".parse().unwrap()];
        let Prepared { app, certificate, .. } = prepare(&options).await.unwrap();
        let (authority, pin) = (certificate.authority.unwrap(), app.ca.as_ref().unwrap().sha256.clone());
        let old = authority.issue_without_vaults(app.now()).unwrap();
        assert!(!old.is_for_vaults_of(&authority) && !old.is_due(app.now()));
        keep(&app.store, &app.vault, app.now(), Leaf::NAME, &old.to_bytes()).await.unwrap();
        app.store.close();

        let Prepared { app, certificate, .. } = prepare(&options).await.unwrap();
        let leaf = certificate.leaf.unwrap();
        assert!(leaf.is_for_vaults_of(&authority));
        assert_eq!(app.ca.as_ref().unwrap().sha256, pin);
        app.store.close();
        let Prepared { app, certificate, .. } = prepare(&options).await.unwrap();
        assert_eq!(certificate.leaf.unwrap().to_bytes(), leaf.to_bytes(), "once");
        app.store.close();
    }
}
