//! Chance for a client: run ids chosen before submission, jitter. The operating system's generator behind aws-lc-rs.

use kluis_core::rng::Rng;

/// The random numbers of production.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the operating system gives random bytes");
    }
}

/// A number from 0 up to and without `bound`; good enough for spreading retries.
pub(crate) fn below(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    SystemRng.fill(&mut bytes);
    if bound == 0 { 0 } else { u64::from_le_bytes(bytes) % bound }
}
