//! A streaming masker: replaces known secret values in a byte stream by `***`, whatever the chunking.
//!
//! A [`MaskSet`] holds the values, shared by all streams of a run; values may be added at any time. A [`Masker`] follows
//! one stream: it passes bytes on as soon as they can no longer become part of a value, and never holds back more.
//! Overlapping occurrences become one `***` of fixed width, so that the mask does not tell a length. Without an occurrence
//! the output is the input, byte for byte. Masking is a safety net for honest code, not a boundary.
//!
//! ```
//! let set = kluis_mask::MaskSet::new();
//! set.register("db-password", "correct horse");
//! let mut masker = set.masker();
//! let mut out = Vec::new();
//! masker.push(b"connecting with correct ho", &mut out);
//! masker.push(b"rse\n", &mut out);
//! masker.finish(&mut out);
//! assert_eq!(out, b"connecting with ***\n");
//! assert_eq!(&*masker.take_hits()[0].label, "db-password");
//! ```

mod automaton;
mod masker;
mod set;

pub use masker::{Hit, Masker};
pub use set::{Encoding, MaskSet, Registered};

/// Values shorter than this, in bytes, are not masked: too much of an ordinary log would be.
pub const SHORTEST: usize = 8;
/// What stands in the output for an occurrence.
pub const MASK: &[u8] = b"***";
