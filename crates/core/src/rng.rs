//! Chance as an argument. Ids, tokens and tickets take an [`Rng`], so tests can repeat themselves.

/// A source of random bytes fit for keys and tokens.
///
/// The one in production is the vault's (the operating system's generator behind aws-lc-rs).
pub trait Rng: Send + Sync {
    /// Fills `out` with random bytes. Never fails: an implementation without entropy aborts.
    fn fill(&self, out: &mut [u8]);
}

/// A repeatable generator for tests: a counter hashed with SHA-256. Never used in production.
#[derive(Debug, Default)]
pub struct CountingRng(std::sync::atomic::AtomicU64);

impl CountingRng {
    /// A generator that starts at `seed`; two with different seeds (less than 2^32 apart in use) differ.
    pub fn new(seed: u64) -> Self {
        Self(std::sync::atomic::AtomicU64::new(seed << 32))
    }
}

impl Rng for CountingRng {
    fn fill(&self, out: &mut [u8]) {
        use sha2::Digest;
        for chunk in out.chunks_mut(32) {
            let n = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let block = sha2::Sha256::digest(n.to_be_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
    }
}
