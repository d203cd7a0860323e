//! The masker, as the launcher uses it: every value that is read is learned here before anybody gets it, every stream and
//! text that leaves passes through here, and what was caught is remembered for the report at the end.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use kluis_core::api::runs::{Leak, Stream};
use kluis_core::api::session::ReadValue;
use kluis_core::clock::Clock;
use kluis_core::name::SecretName;
use kluis_mask::{Hit, MaskSet, Masker, Registered};

/// What is masked in this run, and what was caught.
pub(crate) struct Masking {
    set: MaskSet,
    clock: Arc<dyn Clock>,
    leaks: Mutex<Vec<Leak>>,
    /// Secrets whose values are too short to be masked.
    short: Mutex<HashSet<SecretName>>,
}

impl std::fmt::Debug for Masking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Masking")
    }
}

impl Masking {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { set: MaskSet::new(), clock, leaks: Mutex::new(Vec::new()), short: Mutex::new(HashSet::new()) }
    }

    /// From now on these values are masked; those under eight bytes are not (see the masker), and the names of such are
    /// answered, each once. Takes a while when there are many: not for the thread that everybody waits for.
    pub(crate) fn learn(&self, items: &[ReadValue]) -> Vec<SecretName> {
        let outcomes = self.set.register_all(items.iter().map(|item| (item.name.as_str(), item.value.expose())));
        let mut short = self.short.lock().expect("nothing panics with the lock held");
        let too_short = items.iter().zip(outcomes).filter(|(_, outcome)| *outcome == Registered::TooShort);
        too_short.map(|(item, _)| item.name.clone()).filter(|name| short.insert(name.clone())).collect()
    }

    /// A masker for one stream of one rank.
    pub(crate) fn stream(self: &Arc<Self>, stream: Stream, rank: u32) -> MaskedStream {
        MaskedStream { masker: self.set.masker(), masking: self.clone(), stream, rank }
    }

    /// A text, masked.
    pub(crate) fn text(&self, text: &str) -> String {
        self.set.mask(text)
    }

    /// Every text in a JSON value, keys too, masked.
    pub(crate) fn json(&self, value: &mut serde_json::Value) {
        use serde_json::Value;
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(map) => {
                *map = std::mem::take(map)
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.json(&mut value);
                        (self.text(&key), value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What was caught on the streams so far.
    pub(crate) fn leaks(&self) -> Vec<Leak> {
        self.caught().clone()
    }

    fn caught(&self) -> MutexGuard<'_, Vec<Leak>> {
        self.leaks.lock().expect("nothing panics with the lock held")
    }

    fn note(&self, hit: &Hit, stream: Stream, rank: u32) {
        let Ok(secret) = SecretName::parse(&hit.label) else { return };
        let encoding = hit.encoding.as_str();
        let mut leaks = self.caught();
        let same = |leak: &&mut Leak| {
            leak.secret == secret && leak.encoding == encoding && leak.stream == stream && leak.rank == rank
        };
        if let Some(leak) = leaks.iter_mut().find(same) {
            leak.count += hit.count;
            return;
        }
        leaks.push(Leak {
            secret,
            encoding: encoding.to_owned(),
            stream,
            rank,
            count: hit.count,
            first: self.clock.now(),
        });
    }
}

/// One stream on its way through the masker.
pub(crate) struct MaskedStream {
    masker: Masker,
    masking: Arc<Masking>,
    stream: Stream,
    rank: u32,
}

impl MaskedStream {
    /// What can be passed on after these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.take(|masker, out| masker.push(bytes, out))
    }

    /// The stream is quiet: what is held is passed on if it is only the beginning of a value.
    pub(crate) fn idle(&mut self) -> Vec<u8> {
        self.take(Masker::flush_idle)
    }

    /// The stream has ended.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.take(Masker::finish)
    }

    /// Whether something is held back.
    pub(crate) fn holds(&self) -> bool {
        self.masker.held() > 0
    }

    fn take(&mut self, step: impl FnOnce(&mut Masker, &mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        step(&mut self.masker, &mut out);
        for hit in self.masker.take_hits() {
            self.masking.note(&hit, self.stream, self.rank);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kluis_core::clock::{ManualClock, Timestamp};
    use kluis_core::id::VersionId;
    use kluis_core::plaintext::Plaintext;

    fn value(name: &str, value: &str) -> ReadValue {
        ReadValue {
            name: SecretName::parse(name).unwrap(),
            version: VersionId::from_bytes([7; 16]),
            value: Plaintext::from_text(value).unwrap(),
        }
    }

    fn masking() -> Arc<Masking> {
        let masking = Arc::new(Masking::new(Arc::new(ManualClock::at(Timestamp::from_seconds(7)))));
        masking.learn(&[value("db", "correct horse")]);
        masking
    }

    #[test]
    fn what_was_caught_is_reported_by_name_stream_and_count() {
        let masking = masking();
        let mut stream = masking.stream(Stream::Stderr, 3);
        let mut out = stream.push(b"correct horse, correct ho");
        assert!(stream.holds());
        out.extend(stream.push(b"rse"));
        out.extend(stream.finish());
        assert_eq!(out, b"***, ***");
        let leaks = masking.leaks();
        assert_eq!(leaks.len(), 1);
        assert_eq!((leaks[0].secret.as_str(), leaks[0].count, leaks[0].rank), ("db", 2, 3));
        assert_eq!((leaks[0].stream, leaks[0].first), (Stream::Stderr, Timestamp::from_seconds(7)));
    }

    #[test]
    fn a_value_too_short_to_be_masked_is_named_once() {
        let masking = masking();
        let names = |short: Vec<SecretName>| short.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(masking.learn(&[value("pin", "1234"), value("long", "long enough")])), ["pin"]);
        assert!(masking.learn(&[value("pin", "1234")]).is_empty());
        assert_eq!(masking.text("1234 long enough"), "1234 ***");
    }

    #[test]
    fn texts_are_masked_wherever_they_stand_in_a_metric() {
        let mut value = serde_json::json!({"correct horse": ["x correct horse", 1, null], "b": true});
        masking().json(&mut value);
        assert_eq!(value, serde_json::json!({"***": ["x ***", 1, null], "b": true}));
    }
}
