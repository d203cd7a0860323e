//! How long to go on asking. A run outlives its server's restarts: what may succeed later is asked again with growing
//! pauses, and only a refusal that means it ends the asking.

use std::time::Duration;

use kluis_client::Error;
use kluis_core::api::code;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// Pauses between tries: from 0.2 s, doubling, to 5 s, each shortened by up to half by chance: the launchers of a cluster
/// do not return to their server in step.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// Sleeps until the next try is due, or as long as the server asked for.
    pub(crate) async fn pause(&mut self, error: &Error) {
        let asked = match error {
            Error::Api(refusal) => refusal.retry_after.unwrap_or_default().min(LONGEST * 6),
            _ => Duration::ZERO,
        };
        tokio::time::sleep(kluis_client::jittered(self.0).max(asked)).await;
        self.0 = (self.0 * 2).min(LONGEST);
    }
}

/// Whether asking again is no use: the server understood and refused.
///
/// An answer that is not ours (a proxy's page while the server restarts), a certificate that does not fit right now and
/// a full disk are none of that.
pub(crate) fn is_definite(error: &Error) -> bool {
    match error {
        Error::Api(refusal) => {
            // A clock is set right by the refusal itself; one that is moved about is tried again.
            let passing = [
                code::RUN_UNRESPONSIVE,
                code::STORAGE_FULL,
                code::QUOTA_EXCEEDED,
                code::THROTTLED,
                code::UNAVAILABLE,
                code::CLOCK_SKEW,
            ];
            (400..500).contains(&refusal.status)
                && !matches!(refusal.status, 408 | 429)
                && !passing.contains(&refusal.code.as_str())
        }
        Error::Unreachable { .. } | Error::Untrusted { .. } | Error::Answer { .. } => false,
        Error::Io { .. } | Error::Config(_) => true,
    }
}

/// Whether the session is over: nothing that is asked with it will succeed again.
pub(crate) fn is_over(error: &Error) -> bool {
    matches!(error.code(), Some(code::RUN_ENDED | code::RUN_CANCELED | code::COMPROMISED | code::UNAUTHENTICATED))
}

/// Whether the server has no room, or the workspace's share of it is used up.
pub(crate) fn is_full(error: &Error) -> bool {
    matches!(error.code(), Some(code::STORAGE_FULL | code::QUOTA_EXCEEDED))
}

/// Whether the run has made as much as a run may, so that the server takes nothing more of this kind.
pub(crate) fn is_spent(error: &Error) -> bool {
    error.code() == Some(code::RUN_LIMIT)
}

/// As [`persist`], but a server without room is asked for so long only.
pub(crate) async fn persist_for_room<T, Fut>(patience: Duration, mut ask: impl FnMut() -> Fut) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Error>>,
{
    let started = tokio::time::Instant::now();
    let mut backoff = Backoff::new();
    loop {
        match ask().await {
            Err(error) if is_definite(&error) || (is_full(&error) && started.elapsed() > patience) => {
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(%error, "trying again");
                backoff.pause(&error).await;
            }
            answer => return answer,
        }
    }
}

/// Asks until there is an answer or a definite refusal.
pub(crate) async fn persist<T, Fut>(ask: impl FnMut() -> Fut) -> Result<T, Error>
where
    Fut: Future<Output = Result<T, Error>>,
{
    persist_for_room(Duration::MAX, ask).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kluis_client::ApiError;

    #[test]
    fn only_a_refusal_that_means_it_is_definite() {
        let api = |status, code: &str| {
            Error::Api(ApiError {
                status,
                code: code.to_owned(),
                detail: String::new(),
                request_id: None,
                retry_after: None,
                server_seconds: None,
            })
        };
        for (error, expected) in [
            (api(403, code::RUN_ENDED), true),
            (api(403, code::COMPROMISED), true),
            (api(401, code::UNAUTHENTICATED), true),
            (api(401, code::CLOCK_SKEW), false),
            (api(409, code::RUN_UNRESPONSIVE), false),
            (api(429, code::THROTTLED), false),
            (api(500, code::INTERNAL), false),
            (api(507, code::STORAGE_FULL), false),
            (api(409, code::QUOTA_EXCEEDED), false),
            (api(409, code::RUN_LIMIT), true),
        ] {
            assert_eq!(is_definite(&error), expected, "{error:?}");
        }
        assert!(is_over(&api(409, code::RUN_CANCELED)) && !is_over(&api(401, code::CLOCK_SKEW)));
        assert!(is_over(&api(409, code::RUN_ENDED)) && is_over(&api(401, code::UNAUTHENTICATED)));
        assert!(!is_over(&api(409, code::CONFLICT)) && !is_over(&api(403, code::SECRET_UNDECLARED)));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_stop_growing() {
        let started = tokio::time::Instant::now();
        let mut tries = 0;
        let outcome = persist(|| {
            tries += 1;
            let outcome = if tries == 10 { Ok(tries) } else { Err(lost()) };
            async { outcome }
        });
        assert_eq!(outcome.await.unwrap(), 10);
        // 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 4 * 5, or by chance as little as half of it.
        assert!((13..=26).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    }

    fn lost() -> Error {
        let origin = kluis_client::trust::Origin::parse("localhost").unwrap();
        Error::Unreachable { action: "test", origin, reason: String::new() }
    }
}
