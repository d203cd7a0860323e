//! The values that are masked, shared by all streams. Registering builds a new automaton, once for all values that are
//! registered together; streams go on with the old one meanwhile, change over at their next chunk, and look again at the
//! bytes that they hold.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
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

/// Patterns are told apart by their bytes alone.
struct ByBytes(Arc<Pattern>);

impl Borrow<[u8]> for ByBytes {
    fn borrow(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl PartialEq for ByBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl Eq for ByBytes {}

impl Hash for ByBytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes.as_slice().hash(state);
    }
}

#[derive(Default)]
struct Values {
    patterns: Vec<Arc<Pattern>>,
    known: HashSet<ByBytes>,
}

#[derive(Default)]
struct Shared {
    /// Held while an automaton is built, so never by a stream.
    values: Mutex<Values>,
    automaton: Mutex<Arc<Automaton>>,
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

    /// As [`Self::register_all`], with one value.
    pub fn register(&self, label: &str, value: &str) -> Registered {
        self.register_all([(label, value)]).pop().expect("one value, one outcome")
    }

    /// Masks values from now on, on every stream; when this returns, no stream lets a complete occurrence pass that it
    /// had not passed before. Of a value with line breaks each line is masked too. Registering again is harmless.
    ///
    /// Each value comes with its label, which is what a [`Hit`](crate::Hit) says: the secret's name. The work grows with
    /// everything that is registered, and is done once for all of these: register together what is known together, and
    /// off a thread that others wait for.
    pub fn register_all<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Registered> {
        let mut all = self.0.values.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.patterns.len();
        let outcomes = values.into_iter().map(|(label, value)| all.add(label, value)).collect();
        if all.patterns.len() != before {
            let automaton = Arc::new(Automaton::new(all.patterns.clone()));
            *self.0.automaton.lock().unwrap_or_else(PoisonError::into_inner) = automaton;
            self.0.generation.fetch_add(1, Ordering::Release);
        }
        outcomes
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
        // The number first: an automaton that is newer than its number is only changed over to once more.
        let generation = self.generation();
        let automaton = self.0.automaton.lock().unwrap_or_else(PoisonError::into_inner);
        (generation, automaton.clone())
    }
}

impl Values {
    /// Takes in what is not known yet of a value and its lines.
    fn add(&mut self, label: &str, value: &str) -> Registered {
        let label: Arc<str> = label.into();
        let lines = value.split(['\r', '\n']).filter(|line| line.len() != value.len());
        let mut outcome = Registered::TooShort;
        for form in std::iter::once(value).chain(lines).filter(|form| form.len() >= SHORTEST) {
            outcome = Registered::Masked;
            if !self.known.contains(form.as_bytes()) {
                let bytes = Zeroizing::new(form.as_bytes().to_vec());
                let pattern = Arc::new(Pattern { bytes, label: label.clone(), encoding: Encoding::Raw });
                self.known.insert(ByBytes(pattern.clone()));
                self.patterns.push(pattern);
            }
        }
        outcome
    }
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
    fn values_that_are_registered_together_are_one_change_and_again_is_none() {
        let set = MaskSet::new();
        let values: Vec<(String, String)> = (0..2000).map(|i| (format!("s{i}"), format!("the value {i:05}"))).collect();
        let all = || values.iter().map(|(label, value)| (label.as_str(), value.as_str()));
        assert!(
            set.register_all(all().chain([("pin", "1234")])).ends_with(&[Registered::Masked, Registered::TooShort])
        );
        assert_eq!(set.generation(), 1);
        assert_eq!(set.register_all(all()).len(), 2000);
        assert_eq!(set.generation(), 1);
        assert_eq!(set.mask("the value 00000, the value 01999, the value 02000"), "***, ***, the value 02000");
    }

    #[test]
    fn debug_shows_no_value() {
        let set = MaskSet::new();
        set.register("x", "hunter2hunter2");
        assert_eq!(format!("{set:?}"), "MaskSet(generation 1)");
        assert!(!format!("{:?}", set.masker()).contains("hunter2"));
    }
}
