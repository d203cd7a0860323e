//! Data on standard output, notes on standard error; the same as JSON when asked. A closed pipe is not an error, and any
//! other failure to write is: a command that lost its data did not succeed. Text that came from a server is printed
//! without control characters, so that a name or a reason can not steer the terminal.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use serde::Serialize;

use crate::failure::{Failure, Outcome};

#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    /// Why standard output takes nothing any more.
    broken: OnceLock<std::io::Error>,
}

impl Output {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, broken: OnceLock::new() }
    }

    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// One line of data. A failure to write it is remembered for [`Self::finish`].
    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        self.write(|out| writeln!(out, "{}", clean(&text.to_string(), &[])));
    }

    /// Bytes as they are, at once.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Outcome<()> {
        self.write(|out| out.write_all(bytes).and_then(|()| out.flush()));
        self.finish()
    }

    /// Whether nobody reads standard output any more: what would go on printing may stop.
    pub(crate) fn is_closed(&self) -> bool {
        self.broken.get().is_some()
    }

    /// Fails if data was lost to anything but a closed pipe.
    pub(crate) fn finish(&self) -> Outcome<()> {
        self.write(std::io::Write::flush);
        match self.broken.get() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(crate::failure::REFUSED, "io", format!("standard output: {error}")))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, write: impl FnOnce(&mut std::io::StdoutLock<'static>) -> std::io::Result<()>) {
        if self.broken.get().is_some() {
            return;
        }
        if let Err(error) = write(&mut std::io::stdout().lock()) {
            let _first = self.broken.set(error);
        }
    }

    /// A note for people; silent with `--json`.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        if !self.json {
            let _closed = writeln!(std::io::stderr(), "{}", clean(&text.to_string(), &['\n', '\t']));
        }
    }

    /// That something without further data was done: a note for people, and for programs `{"done": what, ...}`.
    pub(crate) fn done(&self, what: &str, mut fields: serde_json::Value, note: impl std::fmt::Display) {
        if self.json {
            fields["done"] = what.into();
            self.json(&fields);
        } else {
            self.note(note);
        }
    }

    /// A value as one JSON document on standard error: standard output is somebody else's.
    pub(crate) fn json_beside(&self, value: &impl Serialize) {
        let text = serde_json::to_string(value).expect("wire types are JSON");
        let _closed = writeln!(std::io::stderr(), "{text}");
    }

    /// A value as one JSON document.
    pub(crate) fn json(&self, value: &impl Serialize) {
        let text = serde_json::to_string(value).expect("wire types are JSON");
        self.write(|out| writeln!(out, "{text}"));
    }

    /// The value as JSON, or what `text` makes of it.
    pub(crate) fn show<T: Serialize>(&self, value: &T, text: impl FnOnce(&Self, &T)) {
        if self.json { self.json(value) } else { text(self, value) }
    }

    /// A list as JSON (`{"items": [...]}`), or as a table under these headings.
    pub(crate) fn list<T: Serialize>(&self, items: &[T], headings: &[&str], row: impl Fn(&T) -> Vec<String>) {
        if self.json {
            self.json(&serde_json::json!({ "items": items }));
            return;
        }
        let row = |item| row(item).iter().map(|cell| clean(cell, &[])).collect();
        let rows: Vec<Vec<String>> = items.iter().map(row).collect();
        let mut widths: Vec<usize> = headings.iter().map(|h| h.len()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let print = |cells: Vec<String>| {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let pad = width.saturating_sub(cell.chars().count());
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', pad + 2));
            }
            self.line(line.trim_end());
        };
        if std::io::stdout().is_terminal() {
            print(headings.iter().map(|h| (*h).to_uppercase()).collect());
        }
        rows.into_iter().for_each(print);
    }

    /// Why the command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let Failure { code, message, exit } = failure;
        let mut err = std::io::stderr();
        let _closed = if self.json {
            let problem = serde_json::json!({ "error": { "code": code, "message": message, "exit": exit } });
            writeln!(err, "{problem}")
        } else {
            writeln!(err, "error: {}", clean(message, &['\n', '\t']))
        };
    }
}

/// With U+FFFD for what a terminal would obey instead of show: control characters (but these), and those that turn the
/// direction of writing.
fn clean(text: &str, but: &[char]) -> String {
    let obeyed = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if obeyed(c) && !but.contains(&c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_printed() {
        assert_eq!(clean("a\u{1b}[2Jb\u{9b}c\u{202e}d\re\n", &[]), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}");
        assert_eq!(clean("two\nlines\tü", &['\n', '\t']), "two\nlines\tü");
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        let out = Output::new(false);
        out.write(|_| Err(ErrorKind::BrokenPipe.into()));
        assert!(out.is_closed() && out.finish().is_ok());
        let out = Output::new(false);
        out.write(|_| Err(ErrorKind::StorageFull.into()));
        assert_eq!(out.finish().expect_err("data was lost").exit, 1);
    }
}
