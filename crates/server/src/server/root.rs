//! The root key at start: from a file or a passphrase. A first start makes it, unless it is there already: a start that
//! was interrupted has left it, or the operator has put it there.

use std::path::{Path, PathBuf};

use kluis_core::id::KeyId;
use kluis_vault::{PassphraseCost, PassphraseRoot, RootKey, RootKeyError, RootKeyFile, RootKeySource};
use zeroize::Zeroizing;

use super::StartError;
use crate::config::{RootKeyOption, ServerOptions};

/// The root key's file in the data folder.
pub(super) const FILE: &str = "root.key";
/// A passphrase's salt and cost in the data folder.
pub(super) const PARAMETERS: &str = "root.json";

/// The root key of an installation that exists.
pub(super) async fn load(options: &ServerOptions) -> Result<RootKey, StartError> {
    blocking(options, |source, path| match source {
        RootKeyOption::File(_) => RootKeyFile::new(path).load(),
        RootKeyOption::Passphrase(passphrase) => PassphraseRoot::new(path, passphrase).load(),
    })
    .await
}

/// The root key of an installation that is about to be made.
pub(super) async fn create(options: &ServerOptions) -> Result<RootKey, StartError> {
    let rng = options.rng.clone();
    blocking(options, move |source, path| match source {
        RootKeyOption::File(_) => match RootKeyFile::create_new(&path, &*rng) {
            Ok(file) => file.load(),
            Err(RootKeyError::Exists { .. }) => RootKeyFile::new(path).load(),
            Err(e) => Err(e),
        },
        RootKeyOption::Passphrase(passphrase) => {
            let made = PassphraseRoot::create_new(&path, passphrase.clone(), PassphraseCost::default(), &*rng);
            match made {
                Ok(root) => root.load(),
                Err(RootKeyError::Exists { .. }) => PassphraseRoot::new(path, passphrase).load(),
                Err(e) => Err(e),
            }
        }
    })
    .await
}

/// Makes the root key of a rotation, in a file that waits beside the one in use: a random one, or one from the new
/// passphrase.
pub(super) async fn create_next(
    options: &ServerOptions,
    passphrase: Option<Zeroizing<String>>,
) -> Result<RootKey, StartError> {
    let refused = |reason: &str| StartError::Data { path: options.data.clone(), reason: reason.into() };
    match (&options.root_key, &passphrase) {
        (RootKeyOption::File(_), None) | (RootKeyOption::Passphrase(_), Some(_)) => {}
        (RootKeyOption::Passphrase(_), None) => {
            return Err(refused("its root key comes from a passphrase: rotating it takes a new one"));
        }
        (RootKeyOption::File(_), Some(_)) => {
            return Err(refused("its root key is in a file, which a new passphrase can not replace"));
        }
    }
    let rng = options.rng.clone();
    let next = next_path(options);
    // One that waits there was never committed, or the start would have taken it.
    std::fs::remove_file(&next).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(StartError::Data { path: next.clone(), reason: e.to_string() }),
    })?;
    blocking(options, move |_, _| match passphrase {
        None => RootKeyFile::create_new(&next, &*rng)?.load(),
        Some(new) => PassphraseRoot::create_new(&next, new, PassphraseCost::default(), &*rng)?.load(),
    })
    .await
}

/// Where a new root key's file waits until the rotation to it is committed.
fn next_path(options: &ServerOptions) -> PathBuf {
    let mut name = path(options).into_os_string();
    name.push(".next");
    name.into()
}

/// Puts a new root key's file in the place of the old one, which is kept beside it under its id.
pub(super) fn exchange(options: &ServerOptions, old: KeyId) -> Result<PathBuf, RootKeyError> {
    let (path, next) = (path(options), next_path(options));
    let mut kept = path.clone().into_os_string();
    kept.push(format!(".{}", &old.to_string()[..8]));
    let kept = PathBuf::from(kept);
    let io = |source| RootKeyError::Io { path: path.clone(), source };
    std::fs::hard_link(&path, &kept).or_else(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Ok(()),
        _ => Err(io(e)),
    })?;
    std::fs::rename(&next, &path).map_err(io)?;
    let folder = path.parent().filter(|p| *p != Path::new("")).unwrap_or(Path::new("."));
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
    Ok(kept)
}

/// The root key that waits for a rotation which may have been committed and then interrupted, and the id of the one in
/// its place. `None` when none waits, or the passphrase is not its own.
pub(super) async fn waiting(options: &ServerOptions) -> Result<Option<(RootKey, KeyId)>, StartError> {
    let next = next_path(options);
    if !next.exists() {
        return Ok(None);
    }
    blocking(options, move |source, path| {
        let (waiting, old) = match source {
            RootKeyOption::File(_) => (RootKeyFile::new(next).load(), RootKeyFile::new(path).load()?.id()),
            RootKeyOption::Passphrase(new) => {
                (PassphraseRoot::new(next, new).load(), PassphraseRoot::key_id_in(&path)?)
            }
        };
        Ok(waiting.ok().map(|waiting| (waiting, old)))
    })
    .await
}

/// Where the root key's file, or the passphrase's parameters, are.
pub(super) fn path(options: &ServerOptions) -> PathBuf {
    match &options.root_key {
        RootKeyOption::File(Some(path)) => path.clone(),
        RootKeyOption::File(None) => options.data.join(FILE),
        RootKeyOption::Passphrase(_) => options.data.join(PARAMETERS),
    }
}

/// Stretching a passphrase takes a second, and files block.
async fn blocking<T: Send + 'static>(
    options: &ServerOptions,
    work: impl FnOnce(RootKeyOption, PathBuf) -> Result<T, RootKeyError> + Send + 'static,
) -> Result<T, StartError> {
    let (source, path) = (options.root_key.clone(), path(options));
    warn_about_place(&options.data, &path);
    let root = tokio::task::spawn_blocking(move || work(source, path)).await;
    Ok(root.map_err(|_| StartError::Internal("reading the root key panicked".into()))??)
}

fn warn_about_place(data: &Path, path: &Path) {
    if path.extension().is_some_and(|e| e == "key") && path.starts_with(data) {
        tracing::info!("the root key lies beside the data: whoever copies the whole folder can open it");
    }
}
