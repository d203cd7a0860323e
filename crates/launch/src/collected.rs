//! The folders that a run fills for others to see: `./logs`, uploaded while it runs, and `./outputs`, uploaded at its end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::files::{FileError, Found, Source, Stamp};
use crate::retry;
use crate::run::Attempt;

/// How soon after the start `./logs` is looked at for the first time.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How long after each look the next one comes, in the long run.
const LATER_LOOKS: Duration = Duration::from_secs(10);

/// Files that the server has, by name, as they were then.
#[derive(Debug, Default)]
pub(crate) struct Uploaded(Mutex<HashMap<String, Stamp>>);

impl Uploaded {
    fn has(&self, name: &str, stamp: Stamp) -> bool {
        self.0.lock().expect("nothing panics with the lock held").get(name) == Some(&stamp)
    }

    fn note(&self, name: &str, stamp: Stamp) {
        self.0.lock().expect("nothing panics with the lock held").insert(name.to_owned(), stamp);
    }
}

/// Uploads what changes below `./logs`, for as long as it is waited for.
pub(crate) async fn follow_logs(attempt: &Attempt) -> Infallible {
    let mut pause = FIRST_LOOK;
    loop {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LATER_LOOKS);
        let Ok((source, found)) = look(attempt, "logs").await else { continue };
        // Whatever goes wrong now is tried again, and said at the end.
        upload(attempt, &source, &found, |_| {}).await;
    }
}

/// Uploads a folder at the end. What cannot be uploaded is said in the log and costs nothing else.
pub(crate) async fn collect(attempt: &Attempt, folder: &str) {
    let logs = &attempt.desk.logs;
    let (source, found) = match look(attempt, folder).await {
        Ok(found) => found,
        Err(error) => return logs.system(&format!("./{folder} could not be looked through: {error}")),
    };
    if found.left_out > 0 {
        let left_out = found.left_out;
        logs.system(&format!(
            "{left_out} entries of ./{folder} are links that lead out or no files, and were left out"
        ));
    }
    upload(attempt, &source, &found, |error| logs.system(&format!("a file could not be uploaded: {error}"))).await;
}

async fn look(attempt: &Attempt, folder: &str) -> std::io::Result<(Arc<Source>, Found)> {
    let source = Arc::new(Source::folder(&attempt.work.tree.join(folder), &attempt.desk.covers)?);
    let found = source.list(Path::new("."), folder).await.map_err(std::io::Error::other)?;
    Ok((source, found))
}

async fn upload(attempt: &Attempt, source: &Arc<Source>, found: &Found, failed: impl Fn(&FileError)) {
    let desk = &attempt.desk;
    for file in &found.files {
        if attempt.uploaded.has(&file.name, file.stamp) {
            continue;
        }
        // A name can hold a value like any other text.
        match source.upload(&desk.session, None, &desk.masking.text(&file.name), &file.path).await {
            Ok(_) => attempt.uploaded.note(&file.name, file.stamp),
            Err(error) => {
                failed(&error);
                // Neither a dead session nor a full server takes the others.
                if matches!(&error, FileError::Server(error) if retry::is_over(error) || retry::is_full(error)) {
                    return;
                }
            }
        }
    }
}
