//! Chance in production: aws-lc's generator, seeded by the operating system. docs/adr/0004-entropy.md says why that
//! is enough.

use kluis_core::rng::Rng;

/// The generator that keys, ids and tokens come from.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    /// Aborts the process when the operating system gives no entropy: there is nothing safe to go on with.
    fn fill(&self, out: &mut [u8]) {
        if aws_lc_rs::rand::fill(out).is_err() {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ_and_an_empty_draw_is_fine() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        SystemRng.fill(&mut a);
        SystemRng.fill(&mut b);
        assert_ne!(a, b);
        SystemRng.fill(&mut []);
    }
}
