//! Waiting for something to be committed: hints from the store, a look now and then because hints can be lost, and an end
//! when the server stops.

use std::time::Duration;

use kluis_store::Hint;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::{Error, Result};

/// A waiter. Made before the first look at what is waited for, so that nothing falls between look and wait.
pub(crate) struct Hints {
    hints: Receiver<Hint>,
    stopping: CancellationToken,
}

impl Hints {
    /// From now on.
    pub(crate) fn new(app: &App) -> Self {
        Self { hints: app.store.subscribe(), stopping: app.stopping.clone() }
    }

    /// Waits for a hint that concerns the caller, at most this long; whether there was one (or some were lost, so that
    /// one may have been among them). [`Error::Unavailable`] when the server stops.
    pub(crate) async fn next(&mut self, at_most: Duration, concerns: impl Fn(&Hint) -> bool) -> Result<bool> {
        let hint = async {
            loop {
                match self.hints.recv().await {
                    Ok(hint) if concerns(&hint) => return true,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return true,
                    // The store is closing.
                    Err(RecvError::Closed) => return std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => Err(Error::Unavailable("the server is stopping".into())),
            hint = tokio::time::timeout(at_most, hint) => Ok(hint.unwrap_or(false)),
        }
    }
}
