//! The Aho-Corasick automaton over all patterns, with what the streaming masker needs of it: the longest pattern that ends
//! here, and how many of the last bytes could still become one.

use std::sync::Arc;

use aho_corasick::automaton::{Automaton as _, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use crate::set::Pattern;

pub(crate) struct Automaton {
    nfa: NFA,
    start: StateID,
    /// For each state, how many bytes it stands for: every state is a prefix of some pattern, and the state reached is
    /// always the longest suffix of the input that is such a prefix.
    depths: Vec<u32>,
    patterns: Vec<Arc<Pattern>>,
}

impl Default for Automaton {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Automaton {
    pub(crate) fn new(patterns: Vec<Arc<Pattern>>) -> Self {
        let nfa = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(patterns.iter().map(|p| p.bytes.as_slice()))
            .expect("patterns of at most 25,600 bytes fit the automaton's limits");
        let start = nfa.start_state(Anchored::No).expect("an automaton has an unanchored start");
        let mut depths = Vec::new();
        for pattern in &patterns {
            let mut state = start;
            for (depth, byte) in (1..).zip(pattern.bytes.iter()) {
                state = nfa.next_state(Anchored::No, state, *byte);
                if depths.len() <= state.as_usize() {
                    depths.resize(state.as_usize() + 1, 0);
                }
                depths[state.as_usize()] = depth;
            }
        }
        Self { nfa, start, depths, patterns }
    }

    pub(crate) fn start(&self) -> StateID {
        self.start
    }

    pub(crate) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.nfa.next_state(Anchored::No, state, byte)
    }

    /// The longest pattern that ends in this state.
    pub(crate) fn longest_match(&self, state: StateID) -> Option<&Pattern> {
        if !self.nfa.is_match(state) {
            return None;
        }
        (0..self.nfa.match_len(state))
            .map(|i| &*self.patterns[self.nfa.match_pattern(state, i).as_usize()])
            .max_by_key(|pattern| pattern.bytes.len())
    }

    /// How many of the last bytes are the beginning of a pattern.
    pub(crate) fn depth(&self, state: StateID) -> usize {
        self.depths.get(state.as_usize()).map_or(0, |depth| *depth as usize)
    }
}
