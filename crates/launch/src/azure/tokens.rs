//! What Azure clients in the run carry: bearer tokens of the launcher's own. They are JWT-shaped, because clients look for
//! `exp` in them, and that is all that their claims are for: a token is known by its last part, which is random, and is kept
//! in this process alone. It works for one audience, over loopback, for processes of this run, and ends with the run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use kluis_core::clock::{Clock, Timestamp};
use kluis_core::rng::Rng;
use serde_json::json;
use zeroize::Zeroizing;

/// A header as clients expect one: nothing here is a signature.
const HEADER: &str = r#"{"typ":"JWT","alg":"none"}"#;

/// 256 random bits as hex digits: a secret between the launcher and its run.
pub(super) fn random_hex() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    kluis_client::SystemRng.fill(&mut *bytes);
    Zeroizing::new(HEXLOWER.encode(&*bytes))
}

/// Whether two texts are the same, in a time that does not tell where they differ.
pub(super) fn same(one: &str, other: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

/// How long tokens live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// A quarter of an hour. Clients ask anew in its last five minutes, so a token is handed out again while it has
    /// ten left.
    Short,
    /// As long as the run: it stands in the environment, where a process that is started late finds it. Its claims say
    /// thirty days, and a client that asks for a fresh one gets it.
    Run,
}

impl Life {
    const fn claimed(self) -> Duration {
        match self {
            Self::Short => Duration::from_mins(15),
            Self::Run => Duration::from_hours(30 * 24),
        }
    }

    /// With so much left a token is handed out again.
    const fn fresh(self) -> Duration {
        match self {
            Self::Short => Duration::from_mins(10),
            Self::Run => Duration::from_hours(29 * 24),
        }
    }
}

/// The tokens for one audience.
pub(super) struct Tokens {
    audience: String,
    subject: String,
    life: Life,
    clock: Arc<dyn Clock>,
    /// Few: one in five minutes at most, or in a day.
    live: Mutex<Vec<Token>>,
}

/// One token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Zeroizing<String>,
    /// What its claims say.
    pub(super) expires: Timestamp,
    /// How long that is from now.
    pub(super) left: Duration,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl Tokens {
    pub(super) fn new(audience: impl Into<String>, subject: &str, life: Life, clock: Arc<dyn Clock>) -> Self {
        Self { audience: audience.into(), subject: subject.to_owned(), life, clock, live: Mutex::new(Vec::new()) }
    }

    /// A token that works for a while yet.
    pub(super) fn issue(&self) -> Token {
        let now = self.clock.now();
        let mut live = self.live.lock().expect("nothing panics with the lock held");
        if self.life == Life::Short {
            live.retain(|token| token.expires > now);
        }
        let newest = live.last().filter(|token| token.expires.since(now) >= self.life.fresh());
        let token = newest.cloned().unwrap_or_else(|| {
            let token = self.make(now);
            live.push(token.clone());
            token
        });
        Token { left: token.expires.since(now), ..token }
    }

    /// Whether this is one of them, and not too old.
    pub(super) fn accepts(&self, text: &str) -> bool {
        let now = self.clock.now();
        let live = self.live.lock().expect("nothing panics with the lock held");
        let good = |token: &&Token| self.life == Life::Run || token.expires > now;
        live.iter().filter(good).any(|token| same(&token.text, text))
    }

    fn make(&self, now: Timestamp) -> Token {
        let left = self.life.claimed();
        let expires = now.plus(left);
        let claims = json!({
            "aud": self.audience, "iss": "urn:kluis:launcher", "sub": self.subject, "iat": now.seconds(),
            "nbf": now.seconds(), "exp": expires.seconds(),
        });
        let mut random = Zeroizing::new([0; 32]);
        kluis_client::SystemRng.fill(&mut *random);
        let mut text = Zeroizing::new(String::with_capacity(1024));
        BASE64URL_NOPAD.encode_append(HEADER.as_bytes(), &mut text);
        text.push('.');
        BASE64URL_NOPAD.encode_append(claims.to_string().as_bytes(), &mut text);
        text.push('.');
        BASE64URL_NOPAD.encode_append(&*random, &mut text);
        Token { text, expires, left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kluis_core::clock::ManualClock;

    fn tokens(life: Life) -> (Arc<ManualClock>, Tokens) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000_000)));
        let tokens = Tokens::new("https://vault.localhost:8443", "churn_1", life, clock.clone());
        (clock, tokens)
    }

    #[test]
    fn a_short_token_is_handed_out_while_it_is_fresh_and_dies_after_a_quarter_of_an_hour() {
        let (clock, tokens) = tokens(Life::Short);
        let first = tokens.issue();
        assert_eq!(first.left, Duration::from_mins(15));
        clock.advance(Duration::from_mins(5));
        assert_eq!(*tokens.issue().text, *first.text, "still fresh");
        clock.advance(Duration::from_secs(1));
        let second = tokens.issue();
        assert_ne!(*second.text, *first.text);
        assert!(tokens.accepts(&first.text) && tokens.accepts(&second.text));
        clock.advance(Duration::from_mins(10));
        assert!(!tokens.accepts(&first.text), "expired");
        assert!(tokens.accepts(&second.text));
        for _ in 0..100 {
            tokens.issue();
            clock.advance(Duration::from_mins(6));
        }
        assert!(tokens.live.lock().unwrap().len() <= 4);
    }

    #[test]
    fn a_runs_token_lives_as_long_as_the_run() {
        let (clock, tokens) = tokens(Life::Run);
        let first = tokens.issue();
        clock.advance(Duration::from_hours(40 * 24));
        let second = tokens.issue();
        assert_ne!(*second.text, *first.text);
        assert!(second.expires > clock.now());
        assert!(tokens.accepts(&first.text) && tokens.accepts(&second.text));
    }

    #[test]
    fn claims_can_be_read_and_do_not_make_a_token() {
        let (_, tokens) = tokens(Life::Short);
        let text = tokens.issue().text;
        let parts: Vec<&str> = text.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
        assert_eq!((&claims["exp"], &claims["sub"]), (&json!(1_000_900), &json!("churn_1")));
        for other in [String::new(), text[1..].to_owned(), format!("{}.{}.{}", parts[0], parts[1], "A".repeat(43))] {
            assert!(!tokens.accepts(&other));
        }
        assert!(
            !Tokens::new("x", "y", Life::Run, Arc::new(ManualClock::at(Timestamp::from_seconds(0)))).accepts(&text)
        );
        assert!(!format!("{tokens:?}").contains(&text[..20]));
    }
}
