//! One stream. Positions are counted from the stream's first byte; `held` are the bytes from `base` on that have not been
//! passed on, because they could still become part of a value.

use std::sync::Arc;

use aho_corasick::automaton::StateID;
use zeroize::Zeroize;

use crate::automaton::Automaton;
use crate::{Encoding, MASK, MaskSet, SHORTEST};

/// That a value stood in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The label that the value was registered with.
    pub label: Arc<str>,
    /// In which encoding it stood.
    pub encoding: Encoding,
    /// How often.
    pub count: u64,
}

/// Masks one stream. See the crate's front page for an example.
pub struct Masker {
    set: MaskSet,
    generation: u64,
    automaton: Arc<Automaton>,
    state: StateID,
    held: Vec<u8>,
    base: u64,
    /// Occurrences found and not yet written, in order, overlaps merged.
    found: Vec<Found>,
    /// Everything before this position is passed on or stands behind a `***` already.
    masked_to: u64,
    hits: Vec<Hit>,
}

struct Found {
    start: u64,
    end: u64,
    length: usize,
    label: Arc<str>,
    encoding: Encoding,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masker({} bytes held at {})", self.held.len(), self.base)
    }
}

impl Drop for Masker {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl Masker {
    pub(crate) fn new(set: MaskSet) -> Self {
        let (generation, automaton) = set.automaton();
        let state = automaton.start();
        Self {
            set,
            generation,
            automaton,
            state,
            held: Vec::new(),
            base: 0,
            found: Vec::new(),
            masked_to: 0,
            hits: Vec::new(),
        }
    }

    /// Takes a chunk and appends to `out` what can be passed on.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        self.follow_set();
        let from = self.base + self.held.len() as u64;
        self.held.extend_from_slice(chunk);
        self.scan(chunk, from);
        let keep = self.automaton.depth(self.state);
        self.pass_on(self.end() - keep as u64, out);
    }

    /// For a quiet stream: passes on what is held when it is less than eight bytes of a value, such as a prompt that
    /// happens to begin like one. If the value does follow, its rest is masked.
    pub fn flush_idle(&mut self, out: &mut Vec<u8>) {
        self.follow_set();
        if self.automaton.depth(self.state) < SHORTEST {
            self.pass_on(self.end(), out);
        }
    }

    /// The stream has ended: what is held did not become a value.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.follow_set();
        self.pass_on(self.end(), out);
        self.state = self.automaton.start();
    }

    /// How many bytes are held back now.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// What was masked since the last call.
    pub fn take_hits(&mut self) -> Vec<Hit> {
        std::mem::take(&mut self.hits)
    }

    fn end(&self) -> u64 {
        self.base + self.held.len() as u64
    }

    /// When values were added, looks at the held bytes again with the new automaton.
    fn follow_set(&mut self) {
        if self.set.generation() == self.generation {
            return;
        }
        (self.generation, self.automaton) = self.set.automaton();
        self.state = self.automaton.start();
        let held = std::mem::take(&mut self.held);
        self.scan(&held, self.base);
        self.held = held;
    }

    fn scan(&mut self, bytes: &[u8], from: u64) {
        let automaton = self.automaton.clone();
        for (i, byte) in bytes.iter().enumerate() {
            self.state = automaton.next(self.state, *byte);
            if let Some(pattern) = automaton.longest_match(self.state) {
                let end = from + i as u64 + 1;
                let length = pattern.bytes.len();
                // A match can begin before `base` when `flush_idle` passed its first bytes on.
                let start = end.saturating_sub(length as u64);
                self.note(Found { start, end, length, label: pattern.label.clone(), encoding: pattern.encoding });
            }
        }
    }

    /// Adds an occurrence; those that it overlaps become one with it, named after the longest.
    fn note(&mut self, mut new: Found) {
        while let Some(last) = self.found.pop_if(|last| last.end > new.start) {
            new.start = new.start.min(last.start);
            new.end = new.end.max(last.end);
            if last.length >= new.length {
                (new.length, new.label, new.encoding) = (last.length, last.label, last.encoding);
            }
        }
        self.found.push(new);
    }

    /// Writes everything before `limit`: plain bytes as they are, each occurrence that begins there as one mask.
    fn pass_on(&mut self, limit: u64, out: &mut Vec<u8>) {
        let mut at = self.base;
        let ready = self.found.iter().take_while(|f| f.start < limit).count();
        for found in self.found.drain(..ready) {
            let start = found.start.max(self.base);
            let from = at.max(self.masked_to);
            if start >= from {
                out.extend_from_slice(slice(&self.held, self.base, from, start));
                out.extend_from_slice(MASK);
                match self.hits.iter_mut().find(|h| h.label == found.label && h.encoding == found.encoding) {
                    Some(hit) => hit.count += 1,
                    None => self.hits.push(Hit { label: found.label, encoding: found.encoding, count: 1 }),
                }
            }
            self.masked_to = self.masked_to.max(found.end);
            at = at.max(found.end);
        }
        let from = at.max(self.masked_to);
        if from < limit {
            out.extend_from_slice(slice(&self.held, self.base, from, limit));
        }
        let passed = (limit - self.base) as usize;
        self.held.copy_within(passed.., 0);
        let rest = self.held.len() - passed;
        self.held[rest..].zeroize();
        self.held.truncate(rest);
        self.base = limit;
    }
}

/// The part of `held`, which begins at `base`, from `from` to `to`.
fn slice(held: &[u8], base: u64, from: u64, to: u64) -> &[u8] {
    &held[(from - base) as usize..(to - base) as usize]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(values: &[&str]) -> MaskSet {
        let set = MaskSet::new();
        for (i, value) in values.iter().enumerate() {
            set.register(&format!("s{i}"), value);
        }
        set
    }

    fn run(set: &MaskSet, chunks: &[&[u8]]) -> String {
        let mut masker = set.masker();
        let mut out = Vec::new();
        for chunk in chunks {
            masker.push(chunk, &mut out);
        }
        masker.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_value_that_overlaps_itself_is_masked_wherever_it_is_split() {
        let set = set(&["ababXYZ1"]);
        let text = b"x ababababXYZ1 y";
        for i in 0..=text.len() {
            for j in i..=text.len() {
                let masked = run(&set, &[&text[..i], &text[i..j], &text[j..]]);
                assert_eq!(masked, "x abab*** y", "split at {i} and {j}");
            }
        }
    }

    #[test]
    fn overlapping_values_become_one_mask_and_adjacent_ones_two() {
        let set = set(&["12345678", "56789abc", "abcdefgh"]);
        assert_eq!(run(&set, &[b"<123456789abc>"]), "<***>");
        assert_eq!(run(&set, &[b"<123456789abcdefgh>"]), "<***>");
        assert_eq!(run(&set, &[b"<12345678abcdefgh>"]), "<******>");
    }

    #[test]
    fn the_longer_of_two_values_with_one_beginning_wins() {
        let set = set(&["password1", "password1-and-more"]);
        assert_eq!(run(&set, &[b"password1-and-more password1-and-less"]), "*** ***-and-less");
    }

    #[test]
    fn nothing_is_held_that_can_not_become_a_value() {
        let set = set(&["secret-value"]);
        let mut masker = set.masker();
        let mut out = Vec::new();
        masker.push(b"progress 10%\r", &mut out);
        assert_eq!(out, b"progress 10%\r");
        masker.push(b"then sec", &mut out);
        assert_eq!((masker.held(), out.as_slice()), (3, &b"progress 10%\rthen "[..]));
        masker.push(b"ond", &mut out);
        assert_eq!(out, b"progress 10%\rthen second");
    }

    #[test]
    fn a_quiet_stream_gives_up_less_than_eight_bytes_of_a_value_and_masks_the_rest() {
        let set = set(&["secret-value"]);
        let mut masker = set.masker();
        let mut out = Vec::new();
        masker.push(b"secret-", &mut out);
        masker.flush_idle(&mut out);
        assert_eq!(out, b"secret-");
        masker.push(b"value.", &mut out);
        assert_eq!(out, b"secret-***.");

        let mut out = Vec::new();
        masker.push(b"secret-v", &mut out);
        masker.flush_idle(&mut out);
        assert_eq!(out, b"");
    }

    #[test]
    fn a_stream_of_nothing_but_the_value_is_one_mask_and_holds_little() {
        let set = set(&["aaaaaaaa"]);
        let mut masker = set.masker();
        let mut out = Vec::new();
        for _ in 0..1000 {
            masker.push(b"aaaaaaaaaaaa", &mut out);
            assert!(masker.held() <= 8);
        }
        masker.finish(&mut out);
        assert_eq!(out, b"***");
    }

    #[test]
    fn a_value_registered_while_half_of_it_is_held_is_masked() {
        let set = set(&["abcdefgh-first"]);
        let mut masker = set.masker();
        let mut out = Vec::new();
        masker.push(b"abcdefgh-f", &mut out);
        set.register("late", "abcdefgh-from-now-on");
        masker.push(b"rom-now-on!", &mut out);
        masker.finish(&mut out);
        assert_eq!(out, b"***!");
    }

    #[test]
    fn hits_are_counted_by_name() {
        let set = set(&["12345678", "abcdefgh"]);
        let mut masker = set.masker();
        let mut out = Vec::new();
        masker.push(b"12345678 abcdefgh 12345678", &mut out);
        masker.finish(&mut out);
        let hits: Vec<_> = masker.take_hits().into_iter().map(|h| (h.label.to_string(), h.count)).collect();
        assert_eq!(hits, [("s0".into(), 2), ("s1".into(), 1)]);
        assert!(masker.take_hits().is_empty());
    }

    fn cut(bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut rest = bytes;
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at((*size).clamp(1, rest.len()));
            chunks.push(chunk.to_vec());
            rest = tail;
        }
        chunks
    }

    fn masked(set: &MaskSet, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut masker = set.masker();
        let mut out = Vec::new();
        for chunk in chunks {
            masker.push(chunk, &mut out);
        }
        masker.finish(&mut out);
        out
    }

    proptest! {
        #[test]
        fn chunking_changes_nothing(
            values in prop::collection::vec("[ab]{8,12}", 1..4),
            text in "[abc]{0,200}",
            sizes in prop::collection::vec(1_usize..20, 1..8),
        ) {
            let set = set(&values.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(masked(&set, &cut(text.as_bytes(), &sizes)), masked(&set, &[text.as_bytes().to_vec()]));
        }

        #[test]
        fn no_value_survives(
            values in prop::collection::vec("[ab]{8,12}", 1..4),
            text in "[abc]{0,200}",
            sizes in prop::collection::vec(1_usize..20, 1..8),
        ) {
            let set = set(&values.iter().map(String::as_str).collect::<Vec<_>>());
            let out = String::from_utf8(masked(&set, &cut(text.as_bytes(), &sizes))).unwrap();
            for value in &values {
                prop_assert!(!out.contains(value.as_str()), "{value} in {out}");
            }
        }

        #[test]
        fn without_values_the_output_is_the_input(
            text in prop::collection::vec(any::<u8>(), 0..300),
            sizes in prop::collection::vec(1_usize..20, 1..8),
        ) {
            let set = set(&["a value that random bytes do not hold"]);
            prop_assert_eq!(masked(&set, &cut(&text, &sizes)), text);
        }
    }
}
