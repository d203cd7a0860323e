//! The run's side of the launcher: a UNIX socket that answers processes of the run and nobody else.

mod frames;
mod requests;

use std::path::Path;
use std::sync::Arc;

use kluis_core::api::broker::{Answer, BrokerError};
use kluis_core::api::code;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::membership::{self, Member};
pub(crate) use requests::{Desk, News, shortened};

/// The most connections at once: a thousand ranks on one node, and some.
const MOST_CONNECTIONS: usize = 4096;

/// The listening broker; stops when dropped.
#[derive(Debug)]
pub(crate) struct Broker {
    task: tokio::task::JoinHandle<()>,
}

impl Broker {
    /// Listens at `path`, which lies in a private folder.
    pub(crate) fn listen(path: &Path, desk: Arc<Desk>) -> std::io::Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { task: tokio::spawn(accept(listener, desk)) })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: UnixListener, desk: Arc<Desk>) {
    let launcher = std::process::id().cast_signed();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: those that are open have to be served first.
                tracing::warn!(%error, "a connection to the broker could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
        };
        // Asked at once, while the peer is most surely still there.
        let admitted = membership::admit(&stream, launcher);
        if connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        let desk = desk.clone();
        connections.spawn(async move {
            // A peer that hangs up has ended its own conversation.
            let _hung_up = match admitted {
                Ok(member) => converse(stream, member, &desk).await,
                Err(stranger) => {
                    desk.refused(stranger);
                    refuse(stream, &stranger.to_string()).await
                }
            };
        });
    }
}

async fn converse(mut stream: UnixStream, member: Member, desk: &Desk) -> std::io::Result<()> {
    loop {
        let answer = match frames::read(&mut stream).await? {
            None => return Ok(()),
            Some(Ok(request)) => desk.answer(request, member).await,
            Some(Err(error)) => Answer::Error(error),
        };
        frames::write(&mut stream, &answer).await?;
    }
}

/// Tells a stranger why and hangs up. What it has to say is not read.
async fn refuse(mut stream: UnixStream, why: &str) -> std::io::Result<()> {
    let error = BrokerError { code: code::FORBIDDEN.to_owned(), detail: why.to_owned() };
    frames::write(&mut stream, &Answer::Error(error)).await?;
    tokio::io::AsyncWriteExt::shutdown(&mut stream).await
}
