//! What a running server does besides answering. Nothing here is needed for the first answer, so it starts after the port
//! is open; each piece can be stopped at any moment and goes on at the next start.

use std::path::PathBuf;
use std::time::Duration;

use kluis_core::clock::Timestamp;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{Certificate, keep};
use crate::app::App;
use crate::config::TlsSource;
use crate::error::Result;
use crate::tls::{self, Leaf};

/// How often the house is kept.
const ROUND: Duration = Duration::from_mins(1);
/// How long the wall clock must have gone evenly before anything is destroyed by it.
const STEADY: Duration = Duration::from_mins(10);
/// How far wall clock and timers may part between two rounds.
const DRIFT: Duration = Duration::from_secs(5);

/// Starts everything; it ends when the server stops.
pub(super) fn start(app: &App, certificate: Certificate, tls: TlsSource, tasks: &TaskTracker) {
    let checkpoints = {
        let app = app.clone();
        async move {
            if let Err(e) = app.audit().keep_checkpoints().await {
                tracing::debug!(error = %e, "no more checkpoints");
            }
        }
    };
    spawn(app, tasks, checkpoints);
    spawn(app, tasks, rounds(app.clone(), certificate, tls));
    let runs = app.clone();
    spawn(app, tasks, async move { crate::service::attempts::watch(&runs).await });
}

fn spawn(app: &App, tasks: &TaskTracker, work: impl Future<Output = ()> + Send + 'static) {
    let stopping = app.stopping.clone();
    tasks.spawn(async move {
        stopping.run_until_cancelled_owned(work).await;
    });
}

async fn rounds(app: App, mut certificate: Certificate, tls: TlsSource) {
    let mut clock = SteadyClock::new(app.now());
    log("key wear", app.workspaces().count_wear().await);
    loop {
        log("rewrapping", app.workspaces().rewrap_all().await);
        if clock.look(app.now()) {
            log("purging", app.secrets().purge_due().await);
        }
        log("forgetting expired logins", app.identity().forget_expired().await);
        renew(&app, &mut certificate, &tls).await;
        tokio::time::sleep(ROUND).await;
    }
}

fn log(what: &'static str, result: Result<()>) {
    if let Err(e) = result {
        tracing::error!(error = %e, what, "work in the background failed; it is tried again");
    }
}

/// Destroying by a clock that jumped would destroy too early. Only a clock that has gone evenly for a while counts.
struct SteadyClock {
    wall: Timestamp,
    timer: Instant,
    since: Instant,
}

impl SteadyClock {
    fn new(now: Timestamp) -> Self {
        let timer = Instant::now();
        Self { wall: now, timer, since: timer }
    }

    fn look(&mut self, now: Timestamp) -> bool {
        let by_timer = self.timer.elapsed();
        let by_wall = now.since(self.wall);
        if now < self.wall || by_wall.abs_diff(by_timer) > DRIFT {
            tracing::warn!("the clock jumped; nothing is purged until it has gone evenly for ten minutes");
            self.since = Instant::now();
        }
        (self.wall, self.timer) = (now, Instant::now());
        self.since.elapsed() >= STEADY
    }
}

/// A new server certificate while a third of the old one's life is left; a site's when its files have changed.
async fn renew(app: &App, certificate: &mut Certificate, tls: &TlsSource) {
    match (&certificate.authority, &certificate.leaf, tls) {
        (Some(authority), Some(leaf), _) if leaf.is_due(app.now()) => {
            let renewed = async {
                let leaf = authority.issue(app.now())?;
                keep(&app.store, &app.vault, Leaf::NAME, &leaf.to_bytes()).await?;
                let (chain, key) = authority.chain(&leaf);
                certificate.shown.show(chain, key)?;
                Ok::<_, super::StartError>(leaf)
            };
            match renewed.await {
                Ok(leaf) => certificate.leaf = Some(leaf),
                Err(e) => tracing::error!(error = %e, "the server's certificate was not renewed"),
            }
        }
        (None, _, TlsSource::Files { certificate: chain, key }) => {
            let (chain, key, shown) = (chain.clone(), key.clone(), certificate.shown.clone());
            if modified(&chain) == certificate.read {
                return;
            }
            certificate.read = modified(&chain);
            match tls::from_files(&chain, &key).and_then(|(chain, key)| shown.renew(chain, key)) {
                Ok(()) => tracing::info!("the site's certificate was read again"),
                Err(e) => tracing::error!(error = %e, "the site's new certificate is not used"),
            }
        }
        _ => {}
    }
}

pub(super) fn modified(path: &PathBuf) -> Option<std::time::SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_destroyed_by_a_clock_that_jumped() {
        let mut wall = Timestamp::from_seconds(1_000_000);
        let mut clock = SteadyClock::new(wall);
        let mut pass = async |minutes: u64, jump: u64| {
            let mut steady = false;
            for minute in 0..minutes {
                tokio::time::advance(ROUND).await;
                wall = wall.plus(ROUND + Duration::from_secs(if minute == 0 { jump } else { 0 }));
                steady = clock.look(wall);
            }
            steady
        };
        assert!(!pass(9, 0).await);
        assert!(pass(1, 0).await);
        assert!(!pass(9, 100 * 24 * 3600).await, "a jump of a hundred days destroys nothing");
        assert!(pass(2, 0).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_back_starts_anew() {
        let wall = Timestamp::from_seconds(1_000_000);
        let mut clock = SteadyClock::new(wall);
        tokio::time::advance(STEADY).await;
        assert!(clock.look(wall.plus(STEADY)));
        assert!(!clock.look(wall));
    }
}
