//! The root key at start: from a file or a passphrase. A first start makes it, unless it is there already: a start that
//! was interrupted has left it, or the operator has put it there.

use std::path::{Path, PathBuf};

use kluis_core::id::KeyId;
use kluis_vault::{PassphraseCost, PassphraseRoot, RootKey, RootKeyError, RootKeyFile, RootKeySource};

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

/// Where a new root key's file waits until the rotation to it is committed.
pub(super) fn next_path(options: &ServerOptions) -> PathBuf {
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

/// A rotation that was committed and then interrupted: the data wants the key that waits. Its file takes its place.
pub(super) fn finish_rotation(options: &ServerOptions, wanted: KeyId) -> Result<Option<RootKey>, StartError> {
    let RootKeyOption::File(_) = options.root_key else { return Ok(None) };
    let Ok(waiting) = RootKeyFile::new(next_path(options)).load() else { return Ok(None) };
    if waiting.id() != wanted {
        return Ok(None);
    }
    let old = RootKeyFile::new(path(options)).load()?.id();
    exchange(options, old)?;
    tracing::warn!("a rotation of the root key that was interrupted is finished now");
    Ok(Some(waiting))
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
async fn blocking(
    options: &ServerOptions,
    work: impl FnOnce(RootKeyOption, PathBuf) -> Result<RootKey, RootKeyError> + Send + 'static,
) -> Result<RootKey, StartError> {
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
