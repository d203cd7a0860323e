//! A run's log as a stream: what has arrived, then, when asked to follow, what arrives, until the run has ended and all
//! was sent. Pulled by the reader, so a slow one costs nothing but its connection.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::Stream;
use kluis_core::access::{Action, Resource};
use kluis_core::api::runs::LogsQuery;
use kluis_core::name::{RunId, WorkspaceName};
use kluis_core::run::RunStatus;
use kluis_store::logs::{LogChunk, LogFilter};
use kluis_store::runs::RunRow;
use kluis_store::workspaces::Workspace;
use kluis_store::{After, Hint};

use super::Runs;
use super::chunk::{self, MAX_TAIL, Tail};
use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::service::wait::Hints;

/// Chunks looked up at once.
const CHUNKS: u32 = 64;
/// How often a follower looks by itself: hints can be lost, and rights end without one.
const LOOK: Duration = Duration::from_secs(5);
/// How long a canceled run's launcher may still send.
pub(in crate::service) const DRAIN: Duration = Duration::from_mins(10);

impl Runs<'_> {
    /// A run's log, for [`LogFollower::into_stream`].
    pub async fn logs(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        query: LogsQuery,
    ) -> Result<LogFollower> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        if query.tail.is_some_and(|lines| lines > MAX_TAIL) {
            return Err(Error::bad_request(format!("`tail` is at most {MAX_TAIL} lines")));
        }
        // Before the first look: nothing that arrives after it is missed.
        let hints = Hints::new(self.app);
        let row = self.app.run_row(&workspace, run).await?;
        if query.attempt.is_some_and(|attempt| attempt == 0 || attempt > row.attempt) {
            return Err(Error::NotFound("attempt"));
        }
        let mut follower = LogFollower {
            app: self.app.clone(),
            caller: caller.clone(),
            run: row.id.clone(),
            attempt: query.attempt.unwrap_or(row.attempt),
            query,
            workspace,
            hints,
            row,
            over: false,
            after: None,
            fresh: true,
            idle: false,
        };
        follower.over = follower.is_over().await?;
        Ok(follower)
    }
}

/// A reader of a run's log.
pub struct LogFollower {
    app: App,
    caller: Caller,
    workspace: Workspace,
    run: RunId,
    query: LogsQuery,
    attempt: u32,
    hints: Hints,
    /// The run as it was before the chunks were last looked up.
    row: RunRow,
    /// Whether nothing could be appended any more, as of the same moment: then what was found is all.
    over: bool,
    /// The last chunk sent.
    after: Option<u64>,
    /// Nothing of this attempt was sent yet.
    fresh: bool,
    /// All chunks there were have been sent; look at the run again before looking for more.
    idle: bool,
}

impl LogFollower {
    /// JSON lines, as they come. Ends when the run has ended; with an error when the server stops or the reader may not
    /// read any more.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut this| async move {
            Ok(this.next().await?.map(|lines| (Bytes::from(lines), this)))
        })
    }

    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if self.idle && !self.wait().await? {
                return Ok(None);
            }
            if let (true, Some(lines)) = (self.fresh, self.query.tail) {
                self.fresh = false;
                let out = self.tail(lines).await?;
                if !out.is_empty() {
                    return Ok(Some(out));
                }
                continue;
            }
            let page = After { after: self.after, limit: 1 };
            match self.app.store.log_chunks(self.filter(), page).await?.items.first() {
                None => self.idle = true,
                Some(found) => {
                    self.after = Some(found.seq);
                    let out = self.lines(found).await?;
                    if !out.is_empty() {
                        return Ok(Some(out));
                    }
                }
            }
        }
    }

    /// After everything there was has been sent: whether there can be more. Waits for it when following.
    async fn wait(&mut self) -> Result<bool> {
        if !self.query.follow {
            return Ok(false);
        }
        if self.query.attempt.is_none() && self.row.attempt > self.attempt {
            self.attempt += 1;
            (self.after, self.query.from, self.query.tail) = (None, None, None);
            self.over = self.is_over().await?;
            self.idle = false;
            return Ok(true);
        }
        if self.over {
            return Ok(false);
        }
        let (workspace, run) = (self.workspace.id, self.run.clone());
        let caller = self.caller.id();
        let concerns = |hint: &Hint| match hint {
            Hint::LogAppended { workspace: w, run: r } | Hint::RunChanged { workspace: w, run: r } => {
                *w == workspace && *r == run
            }
            Hint::PrincipalChanged { principal } => *principal == caller,
            _ => false,
        };
        self.hints.next(LOOK, concerns).await?;
        self.caller = self.app.caller_again(&self.caller).await?;
        self.app.authorize(&self.caller, Action::RunRead, Resource::Workspace(workspace)).await?;
        self.row = self.app.run_row(&self.workspace, &self.run).await?;
        self.over = self.is_over().await?;
        self.idle = false;
        Ok(true)
    }

    /// Whether nothing more can be appended to this attempt's log, as of `row`.
    async fn is_over(&self) -> Result<bool> {
        if self.row.attempt > self.attempt {
            return Ok(true);
        }
        if !self.row.status.is_terminal() {
            return Ok(false);
        }
        // A canceled run's launcher may still send, if there ever was one.
        if self.row.started.is_none() {
            return Ok(true);
        }
        let drained = || self.row.ended.is_none_or(|ended| self.app.now().since(ended) >= DRAIN);
        if self.row.status != RunStatus::Canceled || drained() {
            return Ok(true);
        }
        let attempt = self.app.store.attempt_get(self.workspace.id, &self.run, self.attempt).await?;
        Ok(attempt.is_none_or(|attempt| attempt.ended.is_some()))
    }

    /// The last lines of what there is.
    async fn tail(&mut self, lines: u32) -> Result<Vec<u8>> {
        let first = if self.query.system { None } else { self.tail_start(u64::from(lines)).await? };
        let mut tail = Tail::new(lines);
        self.after = first;
        loop {
            let page = After { after: self.after, limit: CHUNKS };
            let listed = self.app.store.log_chunks(self.filter(), page).await?;
            for found in &listed.items {
                self.after = Some(found.seq);
                for record in self.records(found).await? {
                    if chunk::wanted(&self.query, &record) {
                        tail.push(record);
                    }
                }
            }
            if listed.next.is_none() {
                break;
            }
        }
        let mut out = Vec::new();
        for record in tail.finish() {
            chunk::line(&mut out, &record);
        }
        Ok(out)
    }

    /// The chunk before the ones that hold the user's last lines; `None` when that is all of them.
    async fn tail_start(&self, lines: u64) -> Result<Option<u64>> {
        let filter = LogFilter { newest: true, ..self.filter() };
        let (mut seen, mut after) = (0, None);
        loop {
            let page = After { after, limit: CHUNKS };
            let listed = self.app.store.log_chunks(filter.clone(), page).await?;
            for found in &listed.items {
                // One line more than asked for, to know where the first one starts.
                if seen > lines {
                    return Ok(Some(found.seq));
                }
                seen += found.lines;
            }
            if listed.next.is_none() {
                return Ok(None);
            }
            after = listed.next;
        }
    }

    async fn lines(&self, found: &LogChunk) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        for record in self.records(found).await?.iter().filter(|record| chunk::wanted(&self.query, record)) {
            chunk::line(&mut out, record);
        }
        Ok(out)
    }

    async fn records(&self, found: &LogChunk) -> Result<Vec<kluis_core::api::runs::LogRecord>> {
        let bytes = self.app.blobs.get(self.workspace.id, found.blob).await?;
        chunk::decode(&bytes).ok_or_else(|| Error::Inconsistent { table: "log_chunk", row: found.seq.to_string() })
    }

    fn filter(&self) -> LogFilter {
        LogFilter {
            workspace: self.workspace.id,
            run: self.run.clone(),
            attempt: self.attempt,
            from: self.query.from.unwrap_or(0),
            newest: false,
        }
    }
}

impl std::fmt::Debug for LogFollower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogFollower").field("run", &self.run).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}
