//! Log chunks: how records lie in a blob, and which of them a reader wants. Pure. A chunk is JSON lines, one record each,
//! the same as what a reader is answered; it is sealed as a whole.

use std::collections::VecDeque;

use kluis_core::api::runs::{LogRecord, LogsQuery, Stream};

/// The largest record, in bytes of data.
pub const MAX_RECORD: usize = 64 * 1024;
/// The most lines of a tail.
pub const MAX_TAIL: u32 = 10_000;
/// The most bytes that a tail holds in memory, however long its lines are.
const MAX_TAIL_BYTES: usize = 32 * 1024 * 1024;

/// The records as they lie in a blob.
pub fn encode(records: &[LogRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        line(&mut out, record);
    }
    out
}

/// One record as a line.
pub fn line(out: &mut Vec<u8>, record: &LogRecord) {
    serde_json::to_writer(&mut *out, record).expect("a log record is JSON and memory takes it");
    out.push(b'\n');
}

/// The records of a chunk; `None` when it is not one.
pub fn decode(chunk: &[u8]) -> Option<Vec<LogRecord>> {
    let lines = chunk.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).ok()).collect()
}

/// How many of the user's lines end in these records: what a chunk's row says, so that a tail need not open all.
pub fn user_lines(records: &[LogRecord]) -> u64 {
    records.iter().filter(|r| r.stream != Stream::System).map(|r| newlines(&r.data)).sum()
}

/// Whether a reader wants the record.
pub fn wanted(query: &LogsQuery, record: &LogRecord) -> bool {
    (record.stream == Stream::System) == query.system && query.from.is_none_or(|from| record.seq >= from)
}

fn newlines(data: &[u8]) -> u64 {
    data.split(|b| *b == b'\n').count() as u64 - 1
}

/// The last so many lines of what it is given, the first one cut out of its record. An unfinished line at the end counts.
#[derive(Debug)]
pub struct Tail {
    lines: u64,
    kept: VecDeque<LogRecord>,
    newlines: u64,
    bytes: usize,
}

impl Tail {
    /// Keeps this many lines.
    pub fn new(lines: u32) -> Self {
        Self { lines: u64::from(lines), kept: VecDeque::new(), newlines: 0, bytes: 0 }
    }

    /// Adds the next record.
    pub fn push(&mut self, record: LogRecord) {
        self.newlines += newlines(&record.data);
        self.bytes += record.data.len();
        self.kept.push_back(record);
        while let Some(first) = self.kept.front() {
            let without = self.newlines - newlines(&first.data);
            // One more than asked for: the line before the first one must be there to know where that starts.
            if without <= self.lines && self.bytes <= MAX_TAIL_BYTES {
                break;
            }
            self.newlines = without;
            self.bytes -= first.data.len();
            self.kept.pop_front();
        }
    }

    /// The records, in order.
    pub fn finish(mut self) -> Vec<LogRecord> {
        if self.lines == 0 {
            return Vec::new();
        }
        let unfinished = self.kept.back().is_some_and(|r| r.data.last().is_some_and(|b| *b != b'\n'));
        let mut skip = (self.newlines + u64::from(unfinished)).saturating_sub(self.lines);
        while skip > 0 {
            let Some(first) = self.kept.front_mut() else { break };
            let here = newlines(&first.data);
            if here < skip {
                skip -= here;
                self.kept.pop_front();
                continue;
            }
            let ends = first.data.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1);
            let cut = ends.take(skip as usize).last().unwrap_or(0);
            first.data.drain(..cut);
            skip = 0;
            if self.kept.front().is_some_and(|r| r.data.is_empty()) {
                self.kept.pop_front();
            }
        }
        self.kept.into()
    }
}

#[cfg(test)]
mod tests {
    use kluis_core::clock::Timestamp;

    use super::*;

    fn record(seq: u64, data: &[u8]) -> LogRecord {
        LogRecord { seq, time: Timestamp::from_millis(7), rank: 0, stream: Stream::Stdout, data: data.to_vec() }
    }

    fn tail(lines: u32, pieces: &[&[u8]]) -> Vec<u8> {
        let mut tail = Tail::new(lines);
        for (seq, piece) in pieces.iter().enumerate() {
            tail.push(record(seq as u64, piece));
        }
        tail.finish().into_iter().flat_map(|r| r.data).collect()
    }

    #[test]
    fn a_chunk_is_read_back() {
        let records = vec![record(3, b"a\n"), record(4, &[0, 255, b'\n']), record(5, b"")];
        assert_eq!(decode(&encode(&records)), Some(records));
        assert_eq!(decode(b""), Some(vec![]));
        assert_eq!(decode(b"{}\n"), None);
    }

    #[test]
    fn a_tail_is_the_last_lines_however_they_were_cut() {
        let text = b"one\ntwo\nthree\nfour\nfive";
        for size in 1..=text.len() {
            let pieces: Vec<&[u8]> = text.chunks(size).collect();
            assert_eq!(tail(1, &pieces), b"five", "pieces of {size}");
            assert_eq!(tail(3, &pieces), b"three\nfour\nfive", "pieces of {size}");
            assert_eq!(tail(5, &pieces), text, "pieces of {size}");
            assert_eq!(tail(50, &pieces), text, "pieces of {size}");
            assert_eq!(tail(0, &pieces), b"", "pieces of {size}");
        }
        assert_eq!(tail(2, &[b"a\nb\nc\n"]), b"b\nc\n");
        assert_eq!(tail(2, &[b"a\n", b"b\n", b"c\n"]), b"b\nc\n");
    }

    #[test]
    fn a_tail_of_endless_lines_is_bounded_in_memory() {
        let mut tail = Tail::new(1);
        for seq in 0..2000 {
            tail.push(record(seq, &vec![b'x'; MAX_RECORD]));
        }
        assert!(tail.kept.len() * MAX_RECORD <= MAX_TAIL_BYTES);
    }

    #[test]
    fn a_reader_gets_the_users_log_or_ours_from_a_number_on() {
        let system = LogRecord { stream: Stream::System, ..record(9, b"started\n") };
        let user = record(9, b"x\n");
        let query = |system, from| LogsQuery { system, from, ..LogsQuery::default() };
        assert!(wanted(&query(false, None), &user) && !wanted(&query(false, None), &system));
        assert!(wanted(&query(true, Some(9)), &system) && !wanted(&query(true, Some(10)), &system));
        assert_eq!(user_lines(&[system, user]), 1);
    }
}
