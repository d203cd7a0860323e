//! `.env` files, read as they stand: `KEY=VALUE` lines with comments, quotes and an `export` before the key, and no
//! substitution, since a `$` in a password is a `$`. Errors name line numbers, never the text of a line.

use zeroize::Zeroizing;

/// One entry of the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Where it begins, from 1.
    pub(crate) line: usize,
    pub(crate) key: String,
    pub(crate) value: Zeroizing<String>,
}

/// The entries in their order. Fails with the number (from 1) of the line that is not `KEY=VALUE`, or whose quote does
/// not end.
pub(crate) fn parse(text: &str) -> Result<Vec<Entry>, usize> {
    let mut entries = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut number = 1;
    while !rest.is_empty() {
        let whole = rest;
        let trimmed = rest.trim_start_matches([' ', '\t', '\r']);
        if trimmed.is_empty() {
            break;
        }
        rest = if let Some(next) = trimmed.strip_prefix('\n') {
            next
        } else if trimmed.starts_with('#') {
            trimmed.find('\n').map_or("", |end| &trimmed[end + 1..])
        } else {
            let (key, after) = key(trimmed).ok_or(number)?;
            let (value, after) = value(after).ok_or(number)?;
            entries.push(Entry { line: number, key: key.to_owned(), value });
            line_end(after).ok_or(number)?
        };
        number += whole[..whole.len() - rest.len()].matches('\n').count();
    }
    Ok(entries)
}

/// `[export ]KEY =`, and what stands behind it.
fn key(line: &str) -> Option<(&str, &str)> {
    let end = line.find('\n').unwrap_or(line.len());
    let (key, _) = line[..end].split_once('=')?;
    let after = &line[key.len() + 1..];
    let key = key.trim();
    let key = match key.split_once([' ', '\t']) {
        Some(("export", key)) => key.trim_start(),
        _ => key,
    };
    let good = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    good.then_some((key, after))
}

/// The value, and what stands behind it.
fn value(text: &str) -> Option<(Zeroizing<String>, &str)> {
    let text = text.trim_start_matches([' ', '\t']);
    if let Some(text) = text.strip_prefix('\'') {
        let (value, after) = text.split_once('\'')?;
        return Some((Zeroizing::new(value.to_owned()), after));
    }
    if let Some(text) = text.strip_prefix('"') {
        return quoted(text);
    }
    let end = text.find('\n').unwrap_or(text.len());
    let line = &text[..end];
    // A comment needs a space before it: `#` is common in passwords.
    let comment = line.char_indices().find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])));
    let value = line[..comment.map_or(line.len(), |(at, _)| at)].trim_end();
    Some((Zeroizing::new(value.to_owned()), &text[end..]))
}

/// Up to the closing `"`, which may stand lines below. `\n`, `\r`, `\t`, `\"`, `\\`, `\'` and `\$` are one character; before
/// anything else a backslash is a backslash.
fn quoted(text: &str) -> Option<(Zeroizing<String>, &str)> {
    // Room for everything at once, so that growing leaves no copies behind.
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '\'' | '$') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

/// Behind a quote stands nothing but a comment; what follows the line's end.
fn line_end(text: &str) -> Option<&str> {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    let line = line.trim();
    (line.is_empty() || line.starts_with('#')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, String)> {
        parse(text).expect("entries").into_iter().map(|entry| (entry.key, entry.value.to_string())).collect()
    }

    #[test]
    fn values_are_taken_as_they_stand() {
        for (line, value) in [
            ("A=pa$$word", "pa$$word"),
            ("A=${HOME} $(id)", "${HOME} $(id)"),
            ("export A = spaced  ", "spaced"),
            ("A=x#y", "x#y"),
            ("A=x # a comment", "x"),
            ("A=# a comment", ""),
            ("A=", ""),
            ("A='$x \\n\"'  # a comment", "$x \\n\""),
            (r#"A="a\nb\"c\\d\$e\x""#, "a\nb\"c\\d$e\\x"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A='two\nlines'", "two\nlines"),
            ("A=a=b", "a=b"),
            ("A=crlf\r\n", "crlf"),
            ("A=it's", "it's"),
            ("\u{feff}A=ä", "ä"),
        ] {
            assert_eq!(entries(line), [("A".to_owned(), value.to_owned())], "{line:?}");
        }
    }

    #[test]
    fn entries_comments_and_empty_lines_follow_each_other() {
        let found = entries("# one\n\n  A=1\r\n\r\nexport db-password=\"2\"\n\t# end");
        assert_eq!(found, [("A".to_owned(), "1".to_owned()), ("db-password".to_owned(), "2".to_owned())]);
        assert!(entries("").is_empty() && entries(" \n\r\n").is_empty());
    }

    #[test]
    fn a_line_that_is_no_entry_is_named_by_its_number() {
        for (text, line) in [
            ("hunter2", 1),
            ("A=1\nhunter2\nB=2", 2),
            ("A=\"x\ny\"\n\nhunter2", 4),
            ("A='x", 1),
            ("\nA=\"x\nB=1", 2),
            ("A='x' y", 1),
            ("=x", 1),
            ("a b=x", 1),
        ] {
            assert_eq!(parse(text).expect_err("no entry"), line, "{text:?}");
        }
    }
}
