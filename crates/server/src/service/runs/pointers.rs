//! Logs and files by an address alone: some clients fetch what they were pointed at without credentials. The address
//! carries a permission for one file of one run, made for a caller who may see the run, good for minutes, and dead at
//! once when anything about that caller changes: its tokens, its grants, itself.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use futures_util::stream::Stream;
use kluis_core::access::{Action, Epoch, Resource};
use kluis_core::api::runs::Stream as LogStream;
use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, WorkspaceId};
use kluis_core::name::{RunId, WorkspaceName};
use kluis_core::sealed::{Canonical, Mac};
use kluis_store::After;
use kluis_store::logs::LogFilter;

use super::{Runs, chunk};
use crate::app::App;
use crate::blobs::BlobStream;
use crate::caller::Caller;
use crate::error::{Error, Result};

/// The user's log among a run's files.
pub const USER_LOG: &str = "user_logs/std_log.txt";
/// Our own log among them.
pub const SYSTEM_LOG: &str = "system_logs/kluis.txt";
/// How long an address works. Whoever follows a log asks for a new one with each look.
const LIFE: Duration = Duration::from_mins(5);
/// An unfinished line is held back until the run is over, up to so many bytes.
const MAX_HELD: usize = 1024 * 1024;

/// A permission to fetch one file: `WORKSPACE.PRINCIPAL.EPOCH.EXPIRES.MAC`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pointer {
    workspace: WorkspaceId,
    principal: PrincipalId,
    epoch: Epoch,
    expires: Timestamp,
    mac: Mac,
}

impl Pointer {
    fn canonical(&self, run: &RunId, file: &str) -> Vec<u8> {
        Canonical::new("kluis/pointer/1")
            .bytes(self.workspace.as_bytes())
            .text(run.key())
            .text(file)
            .bytes(self.principal.as_bytes())
            .number(self.epoch.0)
            .signed(self.expires.millis())
            .finish()
    }

    /// From an address. What it is good for is seen when it is used.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut next = || parts.next();
        let pointer = Self {
            workspace: next()?.parse().ok()?,
            principal: next()?.parse().ok()?,
            epoch: Epoch(next()?.parse().ok()?),
            expires: Timestamp::from_millis(next()?.parse().ok()?),
            mac: Mac(HEXLOWER.decode(next()?.as_bytes()).ok()?.try_into().ok()?),
        };
        parts.next().is_none().then_some(pointer)
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { workspace, principal, epoch, expires, mac } = self;
        write!(f, "{workspace}.{principal}.{}.{}.{}", epoch.0, expires.millis(), HEXLOWER.encode(&mac.0))
    }
}

/// Without the MAC: whoever has that may fetch.
impl std::fmt::Debug for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pointer").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// What an address points at.
#[derive(Debug)]
pub enum Pointed {
    /// A log, as text.
    Log(LogText),
    /// A file.
    File(BlobStream),
}

impl Runs<'_> {
    /// Addresses of a run's files for the caller. Which files there are is not looked at.
    pub async fn pointers(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        files: &[&str],
    ) -> Result<Vec<Pointer>> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?.id;
        let expires = self.app.now().plus(LIFE);
        let (principal, epoch) = (caller.id(), caller.known.principal.epoch);
        let point = |file: &&str| {
            let mut pointer = Pointer { workspace, principal, epoch, expires, mac: Mac([0; 32]) };
            pointer.mac = self.app.vault.mac(&pointer.canonical(run, file));
            pointer
        };
        Ok(files.iter().map(point).collect())
    }

    /// What an address points at, if whoever it was made for may see it still. One refusal for all reasons.
    pub async fn pointed(&self, pointer: &Pointer, run: &RunId, file: &str, source: IpAddr) -> Result<Pointed> {
        let refused = || Error::NotFound("file at this address (any more)");
        if !self.app.vault.mac_ok(&pointer.canonical(run, file), &pointer.mac) || pointer.expires <= self.app.now() {
            self.app.throttle.count();
            tracing::debug!(%source, "an address of a file is refused");
            return Err(refused());
        }
        let known = self.app.known(pointer.principal).await.map_err(|_| refused())?;
        let same = known.principal.enabled && known.principal.epoch == pointer.epoch;
        if !same || !known.may(Action::RunRead, Resource::Workspace(pointer.workspace)) {
            return Err(refused());
        }
        let row = self.app.store.run_get(pointer.workspace, run).await?.ok_or_else(refused)?;
        let system = match file {
            USER_LOG => false,
            SYSTEM_LOG => true,
            path => {
                let found = self.app.store.output_get(pointer.workspace, &row.id, path).await?.ok_or_else(refused)?;
                return Ok(Pointed::File(self.app.blobs.open(pointer.workspace, found.blob).await?));
            }
        };
        Ok(Pointed::Log(LogText {
            app: self.app.clone(),
            filter: LogFilter {
                workspace: pointer.workspace,
                attempt: row.attempt,
                run: row.id,
                from: 0,
                newest: false,
            },
            system,
            over: row.status.is_terminal(),
            after: None,
            held: Vec::new(),
            done: false,
        }))
    }
}

/// The last attempt's log as bytes, line by line: a reader that counts lines never sees a half one, unless it is the
/// last.
pub struct LogText {
    app: App,
    filter: LogFilter,
    system: bool,
    over: bool,
    after: Option<u64>,
    held: Vec<u8>,
    done: bool,
}

impl LogText {
    /// The bytes, as they are read.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        futures_util::stream::try_unfold(self, |mut this| async move {
            Ok(this.next().await?.map(|bytes| (Bytes::from(bytes), this)))
        })
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        while !self.done {
            let page = After { after: self.after, limit: 1 };
            let listed = self.app.store.log_chunks(self.filter.clone(), page).await?;
            let Some(found) = listed.items.first() else {
                self.done = true;
                let rest = std::mem::take(&mut self.held);
                return Ok((self.over && !rest.is_empty()).then_some(rest));
            };
            self.after = Some(found.seq);
            let bytes = self.app.blobs.get(self.filter.workspace, found.blob).await?;
            let damaged = || Error::Inconsistent { table: "log_chunk", row: found.seq.to_string() };
            for record in chunk::decode(&bytes).ok_or_else(damaged)? {
                if (record.stream == LogStream::System) == self.system {
                    self.held.extend_from_slice(&record.data);
                }
            }
            let whole = match self.held.iter().rposition(|byte| *byte == b'\n') {
                Some(last) => last + 1,
                None if self.held.len() > MAX_HELD => self.held.len(),
                None => 0,
            };
            if whole > 0 {
                let rest = self.held.split_off(whole);
                return Ok(Some(std::mem::replace(&mut self.held, rest)));
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for LogText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogText").field("run", &self.filter.run).finish_non_exhaustive()
    }
}
