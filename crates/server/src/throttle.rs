//! Slows down whoever fails to sign in. Keys are a canonical name together with a source, or a source alone; never a
//! name alone, so nobody can lock another out. What is remembered is bounded: codes and secrets have 256 random bits, so
//! forgetting an attempt opens nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};

/// How long a failure counts.
const WINDOW: Duration = Duration::from_mins(1);
/// Failures per window of one name from one source.
const PER_NAME: u32 = 10;
/// Failures per window from one source.
const PER_SOURCE: u32 = 100;
/// How many keys are remembered.
const MOST_KEYS: usize = 8192;

/// Remembers failures to sign in.
#[derive(Debug, Default)]
pub struct Throttle {
    failures: Mutex<HashMap<Key, Failures>>,
    total: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    name: Option<String>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Throttle {
    /// Refuses with [`Error::Throttled`] when this name from this source, or this source, has failed too often.
    /// `name` is in its canonical form.
    pub fn check(&self, source: IpAddr, name: Option<&str>) -> Result<()> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, most) in keys(source, name) {
            if let Some(f) = failures.get(&key).filter(|f| f.count >= most) {
                let left = WINDOW.saturating_sub(f.since.elapsed());
                if !left.is_zero() {
                    return Err(Error::Throttled { after: left });
                }
            }
        }
        Ok(())
    }

    /// Counts a failure that slows nobody down: a bad token among the requests of a machine must not keep the others on it
    /// from signing in.
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts and remembers a failure.
    pub fn failed(&self, source: IpAddr, name: Option<&str>) {
        self.count();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_KEYS {
            failures.retain(|_, f| f.since.elapsed() < WINDOW);
        }
        if failures.len() >= MOST_KEYS {
            failures.clear();
        }
        for (key, _) in keys(source, name) {
            let entry = failures.entry(key).or_insert_with(|| Failures { count: 0, since: Instant::now() });
            if entry.since.elapsed() >= WINDOW {
                *entry = Failures { count: 0, since: Instant::now() };
            }
            entry.count += 1;
        }
    }

    /// How many failures there were since the start. They are counted, not recorded one by one.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

fn keys(source: IpAddr, name: Option<&str>) -> impl Iterator<Item = (Key, u32)> {
    let named = name.map(|name| (Key { source, name: Some(name.to_owned()) }, PER_NAME));
    [Some((Key { source, name: None }, PER_SOURCE)), named].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[tokio::test(start_paused = true)]
    async fn a_name_is_slowed_down_only_from_where_it_failed() {
        let throttle = Throttle::default();
        for _ in 0..PER_NAME {
            throttle.check(A, Some("ci")).unwrap();
            throttle.failed(A, Some("ci"));
        }
        assert!(matches!(throttle.check(A, Some("ci")), Err(Error::Throttled { .. })));
        assert!(throttle.check(B, Some("ci")).is_ok(), "the owner of the name elsewhere is not locked out");
        assert!(throttle.check(A, Some("other")).is_ok());
        tokio::time::advance(WINDOW).await;
        assert!(throttle.check(A, Some("ci")).is_ok());
        assert_eq!(throttle.total(), u64::from(PER_NAME));
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_tries_many_names_is_slowed_down() {
        let throttle = Throttle::default();
        for i in 0..PER_SOURCE {
            throttle.failed(A, Some(&i.to_string()));
        }
        assert!(throttle.check(A, Some("another")).is_err());
        assert!(throttle.check(A, None).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let throttle = Throttle::default();
        for i in 0..3 * MOST_KEYS as u128 {
            throttle.failed(IpAddr::V6(i.into()), Some("x"));
        }
        assert!(throttle.failures.lock().unwrap().len() <= MOST_KEYS + 2);
    }
}
