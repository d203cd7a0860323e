//! The values that are masked, shared by all streams. Registering builds a new automaton; streams change over to it at
//! their next chunk, and look again at the bytes that they hold.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use crate::automaton::Automaton;
use crate::{Masker, SHORTEST};

/// How a value stood in the stream. More encodings will come; each is one more pattern of the same value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encoding {
    /// The value itself, or a line of it.
    Raw,
}

impl Encoding {
    /// As a leak report names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
        }
    }
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is masked from now on.
    Masked,
    /// It is shorter than [`SHORTEST`] bytes and is not masked.
    TooShort,
}

/// One form of one value.
pub(crate) struct Pattern {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) label: Arc<str>,
    pub(crate) encoding: Encoding,
}

#[derive(Default)]
struct Values {
    patterns: Vec<Arc<Pattern>>,
    automaton: Arc<Automaton>,
}

#[derive(Default)]
struct Shared {
    values: Mutex<Values>,
    generation: AtomicU64,
}

/// The values to mask. Clones share them.
#[derive(Clone, Default)]
pub struct MaskSet(Arc<Shared>);

impl std::fmt::Debug for MaskSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MaskSet(generation {})", self.generation())
    }
}

impl MaskSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Masks a value from now on, on every stream; when this returns, no stream lets a complete occurrence pass that it
    /// had not passed before. Of a value with line breaks each line is masked too. Registering again is harmless.
    ///
    /// `label` is what a [`Hit`](crate::Hit) says: the secret's name.
    pub fn register(&self, label: &str, value: &str) -> Registered {
        let mut values = self.0.values.lock().unwrap_or_else(PoisonError::into_inner);
        let label: Arc<str> = label.into();
        let lines = value.split(['\r', '\n']).filter(|line| line.len() != value.len());
        let before = values.patterns.len();
        for form in std::iter::once(value).chain(lines).filter(|form| form.len() >= SHORTEST) {
            if values.patterns.iter().all(|p| p.bytes.as_slice() != form.as_bytes()) {
                values.patterns.push(Arc::new(Pattern {
                    bytes: Zeroizing::new(form.as_bytes().to_vec()),
                    label: label.clone(),
                    encoding: Encoding::Raw,
                }));
            }
        }
        if values.patterns.len() != before {
            values.automaton = Arc::new(Automaton::new(values.patterns.clone()));
            self.0.generation.fetch_add(1, Ordering::Release);
        }
        let masked = values.patterns.iter().any(|p| value.as_bytes() == p.bytes.as_slice() || contains_line(value, p));
        if masked { Registered::Masked } else { Registered::TooShort }
    }

    /// A masker for one stream.
    pub fn masker(&self) -> Masker {
        Masker::new(self.clone())
    }

    /// Masks a whole text at once: tags, metric texts, messages.
    pub fn mask(&self, text: &str) -> String {
        let mut masker = self.masker();
        let mut out = Vec::with_capacity(text.len());
        masker.push(text.as_bytes(), &mut out);
        masker.finish(&mut out);
        // Patterns are UTF-8, so what is cut out of UTF-8 leaves UTF-8.
        String::from_utf8_lossy(&out).into_owned()
    }

    pub(crate) fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    pub(crate) fn automaton(&self) -> (u64, Arc<Automaton>) {
        let values = self.0.values.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), values.automaton.clone())
    }
}

fn contains_line(value: &str, pattern: &Pattern) -> bool {
    value.split(['\r', '\n']).any(|line| line.as_bytes() == pattern.bytes.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_are_told_apart() {
        let set = MaskSet::new();
        assert_eq!(set.register("pin", "1234567"), Registered::TooShort);
        assert_eq!(set.register("word", "12345678"), Registered::Masked);
        assert_eq!(set.register("two lines", "a\nlong enough"), Registered::Masked);
        assert_eq!(set.mask("1234567 12345678 long enough a"), "1234567 *** *** a");
    }

    #[test]
    fn debug_shows_no_value() {
        let set = MaskSet::new();
        set.register("x", "hunter2hunter2");
        assert_eq!(format!("{set:?}"), "MaskSet(generation 1)");
        assert!(!format!("{:?}", set.masker()).contains("hunter2"));
    }
}
