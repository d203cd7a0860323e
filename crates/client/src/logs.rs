//! A run's log as it arrives: JSON lines, one record each. A followed log outlives lost connections and restarts of the
//! server: it is asked for again from the record after the last one seen.

use std::time::Duration;

use kluis_core::api::runs::{LogRecord, LogsQuery};
use kluis_core::name::{RunId, WorkspaceName};

use crate::client::{Client, Download};
use crate::error::Error;
use crate::http::jittered;

/// A record of 64 KiB is 88 KiB of base64; a line beyond this is not one of ours.
const MAX_LINE: usize = 1024 * 1024;
/// How long a lost server is waited for before a followed log gives up.
const PATIENCE: Duration = Duration::from_mins(10);

/// Records of one run.
#[derive(Debug)]
pub struct LogStream {
    client: Client,
    workspace: WorkspaceName,
    run: RunId,
    query: LogsQuery,
    body: Option<Download>,
    buffer: Vec<u8>,
}

const ACTION: &str = "read the run's log";

impl LogStream {
    pub(crate) async fn open(
        client: Client,
        workspace: WorkspaceName,
        run: RunId,
        query: LogsQuery,
    ) -> Result<Self, Error> {
        let mut stream = Self { client, workspace, run, query, body: None, buffer: Vec::new() };
        stream.body = Some(stream.connect().await?);
        Ok(stream)
    }

    async fn connect(&self) -> Result<Download, Error> {
        let path = ["workspaces", self.workspace.as_str(), "runs", self.run.as_str(), "logs"];
        self.client.download(ACTION, self.client.get(ACTION, &path).query(&self.query)).await
    }

    /// The next record; nothing when the log has ended.
    pub async fn next(&mut self) -> Result<Option<LogRecord>, Error> {
        loop {
            if let Some(record) = self.buffered()? {
                self.query.from = Some(record.seq + 1);
                self.query.tail = None;
                return Ok(Some(record));
            }
            match self.more().await {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(error) if self.query.follow && error.is_transient() => self.reconnect(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads on; false at the end. A followed log may be silent for as long as its run is.
    async fn more(&mut self) -> Result<bool, Error> {
        let Some(body) = &mut self.body else { return Ok(false) };
        let chunk = if self.query.follow {
            body.response.chunk().await.map_err(|error| body.transport.failure(ACTION, &error))?
        } else {
            body.chunk().await?
        };
        match chunk {
            Some(chunk) => {
                self.buffer.extend_from_slice(&chunk);
                if self.buffer.len() > MAX_LINE && !self.buffer.contains(&b'\n') {
                    return Err(self.misunderstood("a line without an end"));
                }
                Ok(true)
            }
            None if self.buffer.is_empty() => Ok(false),
            None => Err(self.misunderstood("the last line was cut")),
        }
    }

    async fn reconnect(&mut self, first: Error) -> Result<(), Error> {
        self.buffer.clear();
        let mut pause = Duration::from_millis(200);
        let again = async {
            loop {
                tokio::time::sleep(jittered(pause)).await;
                pause = (pause * 2).min(Duration::from_secs(10));
                match self.connect().await {
                    Err(error) if error.is_transient() => {}
                    result => return result,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, again).await {
            Ok(body) => self.body = Some(body?),
            Err(_) => return Err(first),
        }
        Ok(())
    }

    fn buffered(&mut self) -> Result<Option<LogRecord>, Error> {
        while let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            if line.iter().all(u8::is_ascii_whitespace) {
                continue; // a sign of life
            }
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|error| self.misunderstood(&format!("bad JSON at column {}", error.column())));
        }
        Ok(None)
    }

    fn misunderstood(&self, reason: &str) -> Error {
        Error::Answer { action: ACTION, origin: self.client.server().origin.clone(), reason: reason.to_owned() }
    }
}
