//! Where a secret's value comes from: a hidden prompt, standard input, a file, the environment. Never an argument: those
//! stand in the shell's history and in the process list.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use kluis_core::name::SecretName;
use kluis_core::plaintext::{MAX_VALUE_BYTES, Plaintext};
use zeroize::Zeroizing;

use crate::dotenv::{self, Entry};
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// The longest `.env` file that is read.
const MAX_ENV_FILE: usize = 8 << 20;

/// What was said about the value.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) exact: bool,
    pub(crate) allow_empty: bool,
}

/// From `-`, `@file`, or nothing (a prompt).
pub(crate) fn value(source: Option<&str>, name: &str, wanted: &Wanted, out: &Output) -> Outcome<Plaintext> {
    match source {
        None => prompt(name, wanted),
        Some("-") => read(std::io::stdin().lock(), "standard input", wanted, out),
        Some(text) => match text.strip_prefix('@') {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|e| Failure::failed(format!("{path}: {e}")))?;
                read(file, path, wanted, out)
            }
            None => Err(Failure::usage(
                "a value is never an argument: it would stand in the shell's history and in the process list. \
                 Leave it out for a hidden prompt, or use `-` (standard input), `@FILE` or --from-env VAR",
            )),
        },
    }
}

fn prompt(name: &str, wanted: &Wanted) -> Outcome<Plaintext> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no terminal to ask on; use `-` (standard input), `@FILE` or --from-env VAR",
        ));
    }
    let first = ask(&format!("Value of {name} (not shown): "))?;
    let second = ask(&format!("The value of {name} again: "))?;
    if *first != *second {
        return Err(Failure::failed("the two values differ; nothing was set"));
    }
    checked(&first, wanted)
}

fn ask(question: &str) -> Outcome<Zeroizing<String>> {
    rpassword::prompt_password(question).map(Zeroizing::new).map_err(|e| Failure::failed(format!("the prompt: {e}")))
}

/// A token: asked for once without echo, or the whole of standard input.
pub(crate) fn token(from_stdin: bool, out: &Output) -> Outcome<Plaintext> {
    if from_stdin {
        return read(std::io::stdin().lock(), "standard input", &Wanted::default(), out);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask for the token on; --token-stdin reads standard input"));
    }
    checked(ask("Token (not shown): ")?.trim(), &Wanted::default())
}

fn read(source: impl Read, place: &str, wanted: &Wanted, out: &Output) -> Outcome<Plaintext> {
    // Room for everything at once, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_VALUE_BYTES + 4));
    source
        .take(MAX_VALUE_BYTES as u64 + 3)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::failed(format!("{place}: {e}")))?;
    if bytes.len() > MAX_VALUE_BYTES + 2 {
        // Longer than any value with its line break, and cut, perhaps in a character: say that, not "not text".
        let message = format!("the value has more than {MAX_VALUE_BYTES} bytes");
        return Err(Failure::new(crate::failure::REFUSED, kluis_core::api::code::INVALID_VALUE, message));
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|e| kluis_core::plaintext::InvalidValue::NotText(e.valid_up_to()))
        .map_err(Failure::from)?;
    let text = if wanted.exact { text } else { without_final_break(text, out) };
    if is_unexpanded(text) {
        return Err(unexpanded(place));
    }
    checked(text, wanted)
}

fn unexpanded(place: &str) -> Failure {
    Failure::failed(format!(
        "{place} holds the text $(NAME): a pipeline variable that was not expanded; is it mapped into the step?"
    ))
}

/// When the only line break is one at the end, it came from an editor or from `echo`, and is removed.
fn without_final_break<'t>(text: &'t str, out: &Output) -> &'t str {
    let Some(body) = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')) else { return text };
    if body.contains(['\r', '\n']) {
        return text;
    }
    out.note("note: the line break at the end was left out; --exact keeps it");
    body
}

fn checked(text: &str, wanted: &Wanted) -> Outcome<Plaintext> {
    if text.is_empty() && !wanted.allow_empty {
        return Err(Failure::failed("the value is empty; --allow-empty sets it all the same"));
    }
    Ok(Plaintext::from_text(text)?)
}

/// From an environment variable's content, as read by the caller.
pub(crate) fn from_variable(variable: &str, content: Option<Zeroizing<String>>, wanted: &Wanted) -> Outcome<Plaintext> {
    let Some(content) = content else {
        return Err(Failure::failed(format!("the environment variable {variable} is not set (or is not text)")));
    };
    if is_unexpanded(&content) {
        return Err(unexpanded(variable));
    }
    if content.is_empty() && !wanted.allow_empty {
        return Err(Failure::failed(format!("{variable} is empty; --allow-empty sets it all the same")));
    }
    Ok(Plaintext::from_text(&content)?)
}

fn is_unexpanded(text: &str) -> bool {
    text.strip_prefix("$(")
        .and_then(|t| t.strip_suffix(')'))
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)))
}

/// The entries of a `.env` file, each good to be set.
pub(crate) fn env_file(path: &Path, allow_empty: bool) -> Outcome<Vec<(SecretName, Plaintext)>> {
    let shown = path.display();
    let mut lines = BTreeMap::new();
    let mut good = Vec::new();
    for Entry { line, key, value } in read_env_file(path)? {
        let wrong = |what: String| Failure::failed(format!("{shown}: line {line}: {what}; nothing was set"));
        let name = SecretName::parse(&key).map_err(|e| wrong(format!("the key is no secret's name: {e}")))?;
        if let Some(first) = lines.insert(name.clone(), line) {
            return Err(wrong(format!("the same key as in line {first}")));
        }
        if value.is_empty() && !allow_empty {
            return Err(wrong("the value is empty; --allow-empty sets it all the same".to_owned()));
        }
        if is_unexpanded(&value) {
            return Err(wrong("the value is the text $(NAME): a pipeline variable that was not expanded".to_owned()));
        }
        if value.starts_with("secret://") {
            return Err(wrong("the value is a reference to a secret, not a value".to_owned()));
        }
        good.push((name, Plaintext::from_text(&value).map_err(|e| wrong(e.to_string()))?));
    }
    Ok(good)
}

fn read_env_file(path: &Path) -> Outcome<Vec<Entry>> {
    let shown = path.display();
    let fail = |e: std::io::Error| Failure::failed(format!("{shown}: {e}"));
    let file = std::fs::File::open(path).map_err(fail)?;
    let length = usize::try_from(file.metadata().map_err(fail)?.len()).unwrap_or(usize::MAX);
    // Room for everything at once, so that growing leaves no copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(MAX_ENV_FILE) + 1));
    file.take(MAX_ENV_FILE as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > MAX_ENV_FILE {
        return Err(Failure::failed(format!("{shown} is longer than {MAX_ENV_FILE} bytes; nothing was set")));
    }
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].split(|b| *b == b'\n').count();
        Failure::failed(format!("{shown}: line {line} is not text (UTF-8); nothing was set"))
    })?;
    dotenv::parse(text)
        .map_err(|line| Failure::failed(format!("{shown}: line {line} is not KEY=VALUE; nothing was set")))
}

/// Asks on a terminal; without one, `--yes` is needed.
pub(crate) fn confirm(yes: bool, question: &str) -> Outcome<()> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on; --yes answers"));
    }
    let _closed = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(|e| Failure::failed(format!("the question: {e}")))?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::failed("nothing was done")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &[u8], exact: bool) -> Outcome<Plaintext> {
        read(text, "test", &Wanted { exact, allow_empty: false }, &Output::new(true))
    }

    #[test]
    fn one_final_line_break_is_left_out_and_no_other() {
        for (given, set) in [("v\n", "v"), ("v\r\n", "v"), ("a\nb\n", "a\nb\n"), ("v", "v"), ("v\n\n", "v\n\n")] {
            assert_eq!(plain(given.as_bytes(), false).expect("a value").expose(), set, "{given:?}");
        }
        assert_eq!(plain(b"v\n", true).expect("a value").expose(), "v\n");
    }

    #[test]
    fn what_is_no_value_is_refused_without_being_shown() {
        assert!(plain(b"$(DbPassword)\n", false).expect_err("not expanded").message.contains("not expanded"));
        assert!(plain(b"\n", false).expect_err("empty").message.contains("--allow-empty"));
        assert!(plain(&[b'a', 0xff], false).expect_err("not text").message.contains("position 1"));
        assert!(plain(&vec![b'x'; MAX_VALUE_BYTES + 1], false).is_err());
        let refused = value(Some("hunter2"), "n", &Wanted::default(), &Output::new(true)).expect_err("an argument");
        assert!(refused.exit == 2 && !refused.message.contains("hunter2"));
    }

    #[test]
    fn an_entry_that_can_not_be_set_is_named_by_its_line_and_nothing_is_set() {
        let path = std::env::temp_dir().join(format!("kluis-env-file-{}", std::process::id()));
        for (text, said) in [
            ("A=1\nB=\n", "line 2: the value is empty"),
            ("A=1\n\nB=$(DbPassword)\n", "line 3: the value is the text $(NAME)"),
            ("A.B=1\n", "line 1: the key is no secret's name"),
            ("A=\"x\ny\"\na=2\n", "line 3: the same key as in line 1"),
            ("A=secret://team/hunter2\n", "line 1: the value is a reference"),
        ] {
            std::fs::write(&path, text).expect("written");
            let failure = env_file(&path, false).expect_err("not good").message;
            assert!(failure.contains(said) && !failure.contains("hunter2"), "{failure}");
        }
        std::fs::write(&path, "A=\nB=2\n").expect("written");
        assert_eq!(env_file(&path, true).expect("good").len(), 2);
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn a_variable_that_was_not_expanded_is_recognised() {
        let from = |text: &str| from_variable("V", Some(Zeroizing::new(text.into())), &Wanted::default());
        assert!(from("$(DB.Password)").is_err() && from("").is_err());
        assert!(from_variable("V", None, &Wanted::default()).is_err());
        assert_eq!(from("$(a b)").expect("a value").expose(), "$(a b)");
    }
}
