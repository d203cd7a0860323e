//! What no run on this machine may see, whoever serves it: the data and keys of servers that this user started, logins,
//! and the folders of agents. `kluis up` notes where its data and keys lie, in the state folder; agents of the same user
//! read the note. It holds one path a line, each as JSON, and is only ever appended to.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// The note in the state folder.
const NOTE: &str = "covered";

/// Notes what agents of this user have to cover from now on: absolute paths.
pub(crate) fn note(context: &Context<'_>, paths: &[PathBuf]) -> Outcome<()> {
    let state = context.state_folder()?;
    folder(&state)?;
    let file = state.join(NOTE);
    let known = noted(&file)?;
    let mut lines = String::new();
    for path in paths {
        let text = path.to_str().ok_or_else(|| Failure::failed(format!("{} is not text", path.display())))?;
        if !known.contains(path) {
            lines.push_str(&serde_json::json!(text).to_string());
            lines.push('\n');
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let append = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&file);
    append
        .and_then(|mut file| file.write_all(lines.as_bytes()))
        .map_err(|e| Failure::failed(format!("{}: {e}", file.display())))
}

/// Everything to cover: absolute, and all there. This user's own folders are made when they are missing, so that nothing
/// comes into being under a run's eyes; what was noted and is gone is left out.
pub(crate) fn all(context: &Context<'_>) -> Outcome<Vec<PathBuf>> {
    let state = context.state_folder()?;
    let mut covered = vec![context.config_folder()?, context.data_folder(None)?, state.clone()];
    for path in &covered {
        // Where this user can not make it, no run of this user's sees it come into being.
        let _can_not_be = folder(path);
    }
    for path in noted(&state.join(NOTE))? {
        covered.extend(with_copies(&path));
    }
    covered.retain(|path| path.symlink_metadata().is_ok());
    covered.sort();
    covered.dedup();
    Ok(covered)
}

/// The same paths, from the root on: launchers work in folders of their own.
pub(crate) fn absolute_all(paths: &[PathBuf]) -> Outcome<Vec<PathBuf>> {
    let fail = |path: &Path, e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
    paths.iter().map(|path| std::path::absolute(path).map_err(|e| fail(path, e))).collect()
}

fn folder(path: &Path) -> Outcome<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Failure::failed(format!("{}: {e}", path.display())))
}

fn noted(file: &Path) -> Outcome<Vec<PathBuf>> {
    let wrong = |reason: String| Failure::failed(format!("{}: {reason}", file.display()));
    match std::fs::read_to_string(file) {
        Ok(text) => text.lines().map(|line| serde_json::from_str(line).map_err(|e| wrong(e.to_string()))).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// A file with what lies beside it under its name and a further ending: a root key's rotation keeps the old one so.
fn with_copies(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    let (Some(folder), Some(name)) = (path.parent().filter(|_| path.is_file()), path.file_name()) else { return found };
    let prefix = [name.as_encoded_bytes(), &b"."[..]].concat();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_key_are_covered_with_it() {
        let folder = std::env::temp_dir().join(format!("kluis-covered-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("made");
        for name in ["root.key", "root.key.0a1b2c3d", "root.keys", "other"] {
            std::fs::write(folder.join(name), "").expect("written");
        }
        let mut found = with_copies(&folder.join("root.key"));
        found.sort();
        assert_eq!(found, [folder.join("root.key"), folder.join("root.key.0a1b2c3d")]);
        assert_eq!(with_copies(&folder), std::slice::from_ref(&folder));
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
