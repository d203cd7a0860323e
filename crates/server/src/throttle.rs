//! Slows down whoever fails to sign in: by what was tried (a canonical name, the start of a code) together with where it
//! was tried from. Never by a name alone and never by a source alone, so nobody can lock another out: behind one address
//! there may be a whole cluster, and a job of it that guesses must not stop the others. What is remembered is bounded:
//! codes and secrets have 256 random bits, so forgetting an attempt opens nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kluis_core::id::DeviceId;
use tokio::time::Instant;

use crate::error::{Error, Result};

/// How long a failure counts.
const WINDOW: Duration = Duration::from_mins(1);
/// Failures per window of one name from one source.
const MOST: u32 = 10;
/// How many keys are remembered.
const MOST_KEYS: usize = 8192;

/// Remembers failures to sign in.
#[derive(Debug, Default)]
pub struct Throttle {
    failures: Mutex<HashMap<Key, Failures>>,
    asked: Mutex<HashMap<DeviceId, Instant>>,
    total: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    source: IpAddr,
    name: String,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Throttle {
    /// Refuses with [`Error::Throttled`] when this name has failed too often from this source. `name` is in its canonical
    /// form.
    pub fn check(&self, source: IpAddr, name: &str) -> Result<()> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(f) = failures.get(&key(source, name)).filter(|f| f.count >= MOST) {
            let left = WINDOW.saturating_sub(f.since.elapsed());
            if !left.is_zero() {
                return Err(Error::Throttled { after: left });
            }
        }
        Ok(())
    }

    /// Counts a failure that slows nobody down: a bad token or ticket among the requests of a machine must not keep the
    /// others on it from signing in.
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts and remembers a failure.
    pub fn failed(&self, source: IpAddr, name: &str) {
        self.count();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST_KEYS {
            forget(&mut failures);
        }
        let entry = failures.entry(key(source, name)).or_insert_with(|| Failures { count: 0, since: Instant::now() });
        if entry.since.elapsed() >= WINDOW {
            *entry = Failures { count: 0, since: Instant::now() };
        }
        entry.count += 1;
    }

    /// Whether a program that waits for its login has asked less than `shortest` ago.
    pub fn too_soon(&self, device: DeviceId, shortest: Duration) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let soon = |at: &Instant| at.elapsed() < shortest;
        if asked.get(&device).is_some_and(soon) {
            return true;
        }
        if asked.len() >= MOST_KEYS {
            asked.retain(|_, at| soon(at));
        }
        asked.insert(device, Instant::now());
        false
    }

    /// How many failures there were since the start. They are counted, not recorded one by one.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

fn key(source: IpAddr, name: &str) -> Key {
    Key { source: network(source), name: name.to_owned() }
}

/// The network that a source can choose its addresses in: of IPv6 a /64.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Makes room: what does not count any more, or else the older half.
fn forget(failures: &mut HashMap<Key, Failures>) {
    failures.retain(|_, f| f.since.elapsed() < WINDOW);
    if failures.len() >= MOST_KEYS {
        let mut times: Vec<Instant> = failures.values().map(|f| f.since).collect();
        let (_, middle, _) = times.select_nth_unstable(MOST_KEYS / 2);
        let middle = *middle;
        let mut spared = MOST_KEYS / 2;
        failures.retain(|_, f| {
            let stays = f.since > middle || (f.since == middle && spared > 0);
            spared = spared.saturating_sub(usize::from(stays));
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn exhaust(throttle: &Throttle, source: IpAddr, name: &str) {
        for _ in 0..MOST {
            throttle.check(source, name).unwrap();
            throttle.failed(source, name);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_slowed_down_only_from_where_it_failed() {
        let throttle = Throttle::default();
        exhaust(&throttle, A, "ci");
        assert!(matches!(throttle.check(A, "ci"), Err(Error::Throttled { .. })));
        assert!(throttle.check(B, "ci").is_ok(), "the owner of the name elsewhere is not locked out");
        assert!(throttle.check(A, "other").is_ok());
        tokio::time::advance(WINDOW).await;
        assert!(throttle.check(A, "ci").is_ok());
        assert_eq!(throttle.total(), u64::from(MOST));
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_many_names_locks_out_nobody_behind_the_same_address() {
        let throttle = Throttle::default();
        for i in 0..1000 {
            throttle.failed(A, &i.to_string());
        }
        assert!(throttle.check(A, "ci").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_of_one_network_are_one_source() {
        let throttle = Throttle::default();
        exhaust(&throttle, "2001:db8::1".parse().unwrap(), "ci");
        assert!(throttle.check("2001:db8::ffff:1".parse().unwrap(), "ci").is_err());
        assert!(throttle.check("2001:db8:0:1::1".parse().unwrap(), "ci").is_ok());
        exhaust(&throttle, "::ffff:192.0.2.1".parse().unwrap(), "ci");
        assert!(throttle.check(A, "ci").is_err(), "an address is one in both its forms");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_what_is_fresh_is_kept() {
        let throttle = Throttle::default();
        for i in 0..3 * MOST_KEYS {
            if i == 3 * MOST_KEYS - 10 {
                tokio::time::advance(Duration::from_secs(1)).await;
                exhaust(&throttle, B, "ci");
            }
            throttle.failed(A, &i.to_string());
        }
        assert!(throttle.failures.lock().unwrap().len() <= MOST_KEYS);
        assert!(throttle.check(B, "ci").is_err());
    }
}
