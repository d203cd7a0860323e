//! What a process of the run may ask, one method each. Texts are masked here, before they go anywhere.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kluis_client::Error;
use kluis_client::session::Session;
use kluis_core::api::broker::{Answer, BrokerError, Request};
use kluis_core::api::code;
use kluis_core::api::runs::ChangeRun;
use kluis_core::api::session::{CreateChild, EndChild, RunContext};
use kluis_core::name::{RunId, SecretName};
use kluis_core::rng::Rng;
use kluis_core::run::RunStatus;
use tokio::sync::watch;

use crate::confine::Covers;
use crate::deliveries::Asker;
use crate::files::{FileError, Source, output_name};
use crate::logs::Logs;
use crate::masking::Masking;
use crate::membership::{Member, Stranger};
use crate::metrics::Metrics;
use crate::retry;
use crate::secrets::{PATIENCE, Secrets};

/// The longest wait for a rotation.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// The longest reason of a child run's end, in bytes.
const MAX_REASON: usize = 1000;

/// Everything that answering takes.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) context: RunContext,
    pub(crate) session: Session,
    pub(crate) masking: Arc<Masking>,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) covers: Covers,
    pub(crate) news: News,
}

/// What the server last said of the run, and of its secrets' newer versions.
#[derive(Debug)]
pub(crate) struct News {
    status: Mutex<RunStatus>,
    tags: Mutex<BTreeMap<String, String>>,
    /// Each rotation with its number, from 1.
    rotations: watch::Sender<Vec<(u64, SecretName)>>,
    strangers: Mutex<u64>,
}

impl News {
    pub(crate) fn new(context: &RunContext) -> Self {
        Self {
            status: Mutex::new(RunStatus::Running),
            tags: Mutex::new(context.tags.clone()),
            rotations: watch::Sender::new(Vec::new()),
            strangers: Mutex::new(0),
        }
    }

    pub(crate) fn set_status(&self, status: RunStatus) {
        *lock(&self.status) = status;
    }

    /// These secrets have a newer version than the one that the run has read.
    pub(crate) fn rotated(&self, names: &[SecretName]) {
        if names.is_empty() {
            return;
        }
        self.rotations.send_modify(|all| {
            let number = all.last().map_or(1, |(number, _)| number + 1);
            // Only the newest rotation of a name matters.
            all.retain(|(_, name)| !names.contains(name));
            all.extend(names.iter().map(|name| (number, name.clone())));
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics with the lock held")
}

fn refused(code: &str, detail: impl Into<String>) -> BrokerError {
    BrokerError { code: code.to_owned(), detail: detail.into() }
}

/// The server's refusal in the broker's words.
fn from_server(error: Error) -> BrokerError {
    match error {
        Error::Api(refusal) => refused(&refusal.code, refusal.detail),
        other => refused(code::UNAVAILABLE, other.to_string()),
    }
}

impl Desk {
    /// Answers one request. The only place that decides what there is to ask.
    pub(crate) async fn answer(&self, request: Request, member: Member) -> Answer {
        let answer = match request {
            Request::Context {} => Ok(Answer::Context(Box::new(self.context.clone()))),
            Request::GetSecrets { names, refresh, rank, timeout_ms } => {
                let patience = timeout_ms.map_or(PATIENCE, Duration::from_millis);
                let asker = Asker { rank, pid: member.process.pid };
                self.secrets.read(&names, refresh, asker, patience).await.map(Answer::Secrets)
            }
            Request::WaitRotation { timeout_ms, after } => Ok(self.wait_rotation(timeout_ms, after).await),
            Request::LogMetrics { run, metrics } => {
                let added = self.metrics.add(run.as_ref(), metrics).await;
                added.map(|()| Answer::Done {}).map_err(|why| refused(code::BAD_REQUEST, why))
            }
            Request::Change { run, change } => self.change(run.as_ref(), change).await,
            Request::Upload { run, name, path } => self.upload(run.as_ref(), &name, Path::new(&path), member).await,
            Request::CreateChild(create) => self.create_child(create).await,
            Request::EndChild { run, end } => self.end_child(&run, end).await,
            Request::Flush {} => {
                tokio::join!(self.metrics.flush(), self.logs.flush());
                Ok(Answer::Done {})
            }
            Request::Status {} => {
                let (status, tags) = (*lock(&self.news.status), lock(&self.news.tags).clone());
                Ok(Answer::Status { status, tags })
            }
        };
        answer.unwrap_or_else(Answer::Error)
    }

    /// Notes that somebody who is not of the run asked; said once, and counted.
    pub(crate) fn refused(&self, stranger: Stranger) {
        let mut strangers = lock(&self.news.strangers);
        *strangers += 1;
        if *strangers == 1 {
            self.logs
                .system(&format!("a process outside the run asked the run's launcher and was refused: {stranger}"));
        }
    }

    async fn wait_rotation(&self, timeout_ms: u64, after: u64) -> Answer {
        let mut rotations = self.news.rotations.subscribe();
        let newer = |all: &Vec<(u64, SecretName)>| all.last().is_some_and(|(number, _)| *number > after);
        let wait = Duration::from_millis(timeout_ms).min(LONGEST_WAIT);
        drop(tokio::time::timeout(wait, rotations.wait_for(newer)).await);
        let all = rotations.borrow();
        let counter = all.last().map_or(after, |(number, _)| (*number).max(after));
        let names = all.iter().filter(|(number, _)| *number > after).map(|(_, name)| name.clone()).collect();
        Answer::Rotation { counter, names }
    }

    async fn change(&self, run: Option<&RunId>, change: ChangeRun) -> Result<Answer, BrokerError> {
        let change = ChangeRun {
            tags: self.masked_map(change.tags),
            remove_tags: change.remove_tags.into_iter().map(|key| self.masking.text(&key)).collect(),
            properties: self.masked_map(change.properties),
            display_name: change.display_name.map(|name| self.masking.text(&name)),
        };
        retry::persist(|| self.session.change(run, &change)).await.map_err(from_server)?;
        if run.is_none() {
            let mut tags = lock(&self.news.tags);
            tags.extend(change.tags);
            tags.retain(|key, _| !change.remove_tags.contains(key));
        }
        Ok(Answer::Done {})
    }

    fn masked_map(&self, map: BTreeMap<String, String>) -> BTreeMap<String, String> {
        map.into_iter().map(|(key, value)| (self.masking.text(&key), self.masking.text(&value))).collect()
    }

    async fn upload(
        &self,
        run: Option<&RunId>,
        name: &str,
        path: &Path,
        member: Member,
    ) -> Result<Answer, BrokerError> {
        let name = output_name(name).ok_or_else(|| refused(code::INVALID_NAME, "not a name for a file of the run"))?;
        let from_file = |error: FileError| match error {
            FileError::Local { .. } => refused(code::BAD_REQUEST, format!("upload {error}")),
            FileError::Server(error) => from_server(error),
        };
        if !path.is_absolute() || path.components().any(|c| c == Component::ParentDir) {
            return Err(refused(code::BAD_REQUEST, "the path to upload must be absolute and without `..`"));
        }
        let source = Source::seen_by(member.process, &self.covers).map_err(|error| {
            refused(code::BAD_REQUEST, format!("the asking process's files cannot be looked at: {error}"))
        })?;
        let source = Arc::new(source);
        let found = source.list(path, &name).await.map_err(from_file)?;
        for file in &found.files {
            // A name can hold a value like any other text.
            let name = self.masking.text(&file.name);
            source.upload(&self.session, run, &name, &file.path).await.map_err(from_file)?;
        }
        if found.left_out > 0 {
            self.logs.system(&format!("{} entries of the uploaded folder {name} were left out", found.left_out));
        }
        Ok(Answer::Done {})
    }

    async fn create_child(&self, create: CreateChild) -> Result<Answer, BrokerError> {
        if create.run.as_ref().is_some_and(|run| self.masking.text(run.as_str()) != run.as_str()) {
            return Err(refused(code::BAD_REQUEST, "a child run's id must not hold a secret's value"));
        }
        let create = CreateChild {
            // Chosen here when the script did not: a lost answer can then be asked for again.
            run: Some(create.run.unwrap_or_else(|| self.child_id())),
            display_name: create.display_name.map(|name| self.masking.text(&name)),
            tags: self.masked_map(create.tags),
        };
        retry::persist(|| self.session.child_create(&create)).await.map(Answer::Child).map_err(from_server)
    }

    fn child_id(&self) -> RunId {
        let mut tail = [0; 8];
        kluis_client::SystemRng.fill(&mut tail);
        let tail = u64::from_be_bytes(tail);
        let head: String = self.context.run.as_str().chars().take(230).collect();
        RunId::parse(&format!("{head}_{tail:016x}")).expect("a run's id and hex digits make a run's id")
    }

    async fn end_child(&self, run: &RunId, end: EndChild) -> Result<Answer, BrokerError> {
        let reason = end.reason.map(|reason| shortened(self.masking.text(&reason)));
        let end = EndChild { status: end.status, reason };
        self.metrics.flush().await;
        retry::persist(|| self.session.child_end(run, &end)).await.map_err(from_server)?;
        Ok(Answer::Done {})
    }
}

/// At most as long as the server takes, cut between characters.
pub(crate) fn shortened(mut text: String) -> String {
    let mut length = MAX_REASON.min(text.len());
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    text.truncate(length);
    text
}
