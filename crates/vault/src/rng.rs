//! Chance in production: aws-lc's generator, and over it the operating system's own, drawn anew for each call. One
//! unpredictable source is enough for the result to be so. docs/adr/0004-entropy.md says why there are these two.

use kluis_core::rng::Rng;
use rustix::rand::{GetRandomFlags, getrandom};

/// The generator that keys, nonces, ids and tokens come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    /// Blocks until the operating system's generator is seeded (early in a machine's boot). Aborts the process when
    /// there is no entropy to be had: nothing is safe to go on with.
    fn fill(&self, out: &mut [u8]) {
        if aws_lc_rs::rand::fill(out).is_err() {
            std::process::abort();
        }
        // Up to 256 bytes are given whole, whatever signals arrive: getrandom(2).
        let mut system = zeroize::Zeroizing::new([0; 256]);
        for chunk in out.chunks_mut(system.len()) {
            if getrandom(&mut system[..chunk.len()], GetRandomFlags::empty()) != Ok(chunk.len()) {
                std::process::abort();
            }
            chunk.iter_mut().zip(system.iter()).for_each(|(byte, other)| *byte ^= other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_draw_is_filled_and_no_two_are_alike() {
        let mut seen = std::collections::BTreeSet::new();
        for length in [0, 1, 16, 255, 256, 257, 1000] {
            let mut out = vec![0; length];
            SystemRng.fill(&mut out);
            for part in out.chunks_exact(16) {
                assert!(seen.insert(part.to_vec()), "16 bytes came twice, or were left at zero");
            }
        }
        assert!(!seen.contains(&[0; 16][..]));
    }
}
