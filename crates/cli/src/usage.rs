//! What is said of a wrong command line. The usual text repeats what was typed, and what was typed in the wrong place may
//! be a secret: this one names arguments, positions and what is expected, and never a word of the line itself.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use crate::failure::Failure;

/// Whether this is an answer (help, version) and no mistake: to be printed as it is.
pub(crate) fn is_answer(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// The mistake in words of ours.
pub(crate) fn failure(error: &Error, line: &[OsString], json: bool) -> Failure {
    let mut message = message(error, line);
    // Made of the names of commands and arguments alone.
    if !json && let Some(usage) = text(error, ContextKind::Usage) {
        message.push_str("\n\n");
        message.push_str(usage.trim_end());
    }
    if !json {
        message.push_str("\n\n--help tells more");
    }
    Failure::usage(message)
}

fn message(error: &Error, line: &[OsString]) -> String {
    let argument = || text(error, ContextKind::InvalidArg).unwrap_or_else(|| "an argument".to_owned());
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let place = place(error, ContextKind::InvalidArg, line);
            hinted(error, ContextKind::SuggestedArg, format!("there is an unexpected argument{place}"))
        }
        ErrorKind::InvalidSubcommand => {
            let place = place(error, ContextKind::InvalidSubcommand, line);
            hinted(error, ContextKind::SuggestedSubcommand, format!("there is no such command{place}"))
        }
        ErrorKind::MissingSubcommand => {
            let all = text(error, ContextKind::ValidSubcommand).unwrap_or_default();
            format!("a command is missing; there are {all}")
        }
        ErrorKind::MissingRequiredArgument => format!("missing: {}", argument()),
        ErrorKind::ArgumentConflict => match text(error, ContextKind::PriorArg) {
            Some(prior) => format!("{} does not go with {prior}", argument()),
            None => format!("{} does not go with what stands beside it", argument()),
        },
        ErrorKind::InvalidValue => match text(error, ContextKind::ValidValue) {
            Some(valid) if !valid.is_empty() => format!("{} is one of: {valid}", argument()),
            _ => format!("{} needs a value", argument()),
        },
        ErrorKind::ValueValidation => format!("{}: {}", argument(), reason(error)),
        ErrorKind::TooManyValues => format!("{} has too many values", argument()),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("{} has another number of values than it takes", argument())
        }
        ErrorKind::NoEquals => format!("{} takes its value after `=`", argument()),
        ErrorKind::InvalidUtf8 => "an argument is not text (UTF-8)".to_owned(),
        _ => "the command line is wrong".to_owned(),
    }
}

/// Why our own parser refused. Numbers are refused by the library's, which begins with the number.
fn reason(error: &Error) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let typed = text(error, ContextKind::InvalidValue).unwrap_or_default();
    match reason.strip_prefix(&typed) {
        Some(rest) if !typed.is_empty() => format!("that{rest}"),
        _ if reason.is_empty() => "that is not what is expected".to_owned(),
        _ => reason,
    }
}

/// Which word it was, counted from 1 with the program's name left out.
fn place(error: &Error, kind: ContextKind, line: &[OsString]) -> String {
    let Some(typed) = text(error, kind) else { return String::new() };
    // Of `--option=value` the library names the option.
    let is_it = |word: &OsString| {
        let word = word.to_string_lossy();
        word == typed || word.strip_prefix(typed.as_str()).is_some_and(|rest| rest.starts_with('='))
    };
    line.iter().skip(1).position(is_it).map(|at| format!(" (word {})", at + 1)).unwrap_or_default()
}

fn hinted(error: &Error, kind: ContextKind, message: String) -> String {
    match text(error, kind) {
        Some(near) if !near.is_empty() => format!("{message}; is {near} meant?"),
        _ => message,
    }
}

fn text(error: &Error, kind: ContextKind) -> Option<String> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) => Some(texts.join(", ")),
        ContextValue::StyledStr(text) => Some(text.to_string()),
        ContextValue::StyledStrs(texts) => Some(texts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        ContextValue::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Arguments;

    fn said(line: &[&str]) -> String {
        let error = Arguments::try_parse_from(line).expect_err("a wrong line");
        let line: Vec<OsString> = line.iter().map(Into::into).collect();
        failure(&error, &line, false).message
    }

    #[test]
    fn what_was_typed_is_never_repeated() {
        for line in [
            &["kluis", "secret", "set", "db=hunter2"][..],
            &["kluis", "secret", "set", "hunter2 "],
            &["kluis", "secret", "set", "db", "--hunter2"],
            &["kluis", "secret", "set", "db", "--value=hunter2"],
            &["kluis", "secret", "set", "db", "--tag", "hunter2"],
            &["kluis", "secret", "set", "db", "-", "--from-env", "hunter2"],
            &["kluis", "secret", "get", "db", "hunter2"],
            &["kluis", "secret", "get", "db", "--version", "hunter2"],
            &["kluis", "secret", "generate", "db", "--length", "hunter2"],
            &["kluis", "secret", "hunter2"],
            &["kluis", "hunter2"],
            &["kluis", "exec", "--env", "hunter2", "--", "true"],
            &["kluis", "exec", "--secret", "=hunter2", "--", "true"],
            &["kluis", "exec", "--secret-env", "=hunter2", "--", "true"],
            &["kluis", "run", "submit", "--memory", "hunter2", "x.py"],
            &["kluis", "run", "list", "--status", "hunter2"],
            &["kluis", "workspace", "member", "add", "ann", "--role", "hunter2"],
            &["kluis", "login", "kluis_invite_x", "hunter2"],
            &["kluis", "completions", "hunter2"],
        ] {
            let said = said(line);
            assert!(!said.contains("hunter2"), "{line:?}: {said}");
        }
        assert!(!said(&["kluis", "secret", "generate", "db", "--length", "424242"]).contains("424242"));
    }

    #[test]
    fn the_mistake_is_named() {
        assert!(said(&["kluis", "secret", "get", "db", "--revael"]).contains("(word 4); is --reveal meant?"));
        assert!(said(&["kluis", "secert"]).contains("is secret meant?"));
        assert!(said(&["kluis", "workspace", "member", "add", "ann", "--role", "x"]).contains("secrets-writer"));
        assert!(said(&["kluis", "secret", "get"]).starts_with("missing: <NAME>"));
        assert!(said(&["kluis", "secret", "set", "--env-file", ".env", "db"]).contains("does not go with"));
        assert!(said(&["kluis", "secret", "generate", "db", "--length", "7"]).contains("that is not in 8..=256"));
    }
}
