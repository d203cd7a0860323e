//! What a submission may look like, checked before anything is looked up. Pure: no store, no clock. Everything that a
//! run row will hold passes here once, so nothing behind this file bounds it again. Messages name fields and positions;
//! a text that came in is repeated only after it has proved to be a name.

use std::collections::{BTreeMap, BTreeSet};

use kluis_core::api::runs::{ChangeRun, Program, Resources, SubmitRun};
use kluis_core::name::SecretName;
use kluis_core::secret::MAX_BATCH;

/// A submission or change that is refused as it stands, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

type Checked<T = ()> = Result<T, Invalid>;

/// The most entries of `argv`, `arguments`, `environment` and the like.
const MAX_ENTRIES: usize = 1000;
/// The longest argument or environment value, in bytes.
const MAX_TEXT: usize = 32 * 1024;
/// The longest path, in bytes.
const MAX_PATH: usize = 1024;
/// The longest name of a variable, option, tag or property, in bytes.
const MAX_KEY: usize = 255;
/// The most tags, and the most properties, of a run.
pub(crate) const MAX_TAGS: usize = 100;
/// The longest tag or property value, in bytes.
const MAX_TAG_TEXT: usize = 4096;
/// The longest display name, in bytes.
const MAX_DISPLAY_NAME: usize = 255;
/// Everything that a submission says, in bytes of JSON.
const MAX_SPEC: usize = 512 * 1024;
/// The longest time a run may ask for: a year.
const MAX_TIME_SECONDS: u64 = 366 * 24 * 3600;

/// Checks a submission and completes it: a secret that is delivered as a variable or file is a declared one.
pub fn check(mut spec: SubmitRun) -> Checked<SubmitRun> {
    program(&spec.program, spec.snapshot.is_some())?;
    variables(&spec)?;
    for (index, path) in spec.secret_files.keys().enumerate() {
        relative_path(path).map_err(|why| invalid(format!("secret_files: path {} {why}", index + 1)))?;
    }
    if let Some(python) = &spec.python {
        text("python", python, MAX_PATH)?;
        require(!python.is_empty(), || "python is empty; leave it out to use the compute target's choice".into())?;
    }
    resources(&spec.resources)?;
    require(spec.engine_options.is_empty(), || {
        "engine_options: compute targets are served by the process engine, which takes none; resources, variables and the \
         command say what a run needs"
            .into()
    })?;
    pairs("tags", &spec.tags, MAX_TAGS, MAX_TAG_TEXT)?;
    require(spec.max_attempts.is_none_or(|n| (1..=10).contains(&n)), || "max_attempts is 1 to 10".into())?;

    let delivered: BTreeSet<SecretName> = spec.secret_env.values().chain(spec.secret_files.values()).cloned().collect();
    if spec.secrets.is_some() || !delivered.is_empty() {
        let mut declared = spec.secrets.take().unwrap_or_default();
        declared.extend(delivered);
        let mut seen = BTreeSet::new();
        declared.retain(|name| seen.insert(name.clone()));
        require(declared.len() <= MAX_BATCH, || format!("a run declares at most {MAX_BATCH} secrets"))?;
        spec.secrets = Some(declared);
    }

    let bytes = serde_json::to_vec(&spec).map_or(usize::MAX, |json| json.len());
    require(bytes <= MAX_SPEC, || format!("the submission has {bytes} bytes; at most {MAX_SPEC} are allowed"))?;
    Ok(spec)
}

/// Checks a change of tags, properties and display name.
pub fn check_change(change: &ChangeRun) -> Checked {
    pairs("tags", &change.tags, MAX_TAGS, MAX_TAG_TEXT)?;
    pairs("properties", &change.properties, MAX_TAGS, MAX_TAG_TEXT)?;
    require(change.remove_tags.len() <= MAX_TAGS, || format!("remove_tags has more than {MAX_TAGS} entries"))?;
    for name in &change.remove_tags {
        text("remove_tags", name, MAX_KEY)?;
    }
    change.display_name.as_deref().map_or(Ok(()), display_name)
}

/// Checks a name for people.
pub fn display_name(name: &str) -> Checked {
    text("display_name", name, MAX_DISPLAY_NAME)?;
    require(!name.chars().any(char::is_control), || "display_name holds a control character".into())
}

/// Checks tags on their own, as a child run brings them.
pub fn tags(tags: &BTreeMap<String, String>) -> Checked {
    pairs("tags", tags, MAX_TAGS, MAX_TAG_TEXT)
}

/// Why a text is not a path below a folder; `Ok` when it is: relative, `/` between parts, no part empty, `.` or `..`.
pub fn relative_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Err("is empty");
    }
    if path.len() > MAX_PATH {
        return Err("is longer than 1024 bytes");
    }
    if path.starts_with('/') {
        return Err("is absolute; give it relative to the folder");
    }
    if path.contains('\\') || path.chars().any(char::is_control) {
        return Err("holds a backslash or a control character");
    }
    if path.split('/').any(|part| part.is_empty() || part == "." || part == ".." || part.len() > 255) {
        return Err("leaves the folder, or has a part that is empty, `.`, `..` or longer than 255 bytes");
    }
    Ok(())
}

fn program(program: &Program, has_snapshot: bool) -> Checked {
    let arguments = match program {
        Program::Script { path, arguments } => {
            relative_path(path).map_err(|why| invalid(format!("the script's path {why}")))?;
            require(has_snapshot, || "a script needs a snapshot; upload the source folder first".into())?;
            arguments
        }
        Program::Command { argv } => {
            require(argv.first().is_some_and(|name| !name.is_empty()), || "the command is empty".into())?;
            argv
        }
    };
    require(arguments.len() <= MAX_ENTRIES, || format!("the program has more than {MAX_ENTRIES} arguments"))?;
    arguments.iter().try_for_each(|argument| text("an argument", argument, MAX_TEXT))
}

/// Plain variables and those that will hold a secret: good names, no reference, none twice.
fn variables(spec: &SubmitRun) -> Checked {
    let plain = spec.environment.keys().map(|name| ("environment", name));
    let secret = spec.secret_env.keys().map(|name| ("secret_env", name));
    require(spec.environment.len() + spec.secret_env.len() <= MAX_ENTRIES, || {
        format!("environment and secret_env have more than {MAX_ENTRIES} entries")
    })?;
    require(spec.secret_files.len() <= MAX_ENTRIES, || format!("secret_files has more than {MAX_ENTRIES} entries"))?;
    for (index, (field, name)) in plain.chain(secret).enumerate() {
        require(is_variable(name), || {
            format!("{field}: name {} is not a variable's name; use letters, digits and _, no digit first", index + 1)
        })?;
        // The launcher's own words: a run that could set them could speak for its launcher.
        require(!name.starts_with("KLUIS_"), || {
            format!("{field}: {name} is reserved; names with KLUIS_ are set by us")
        })?;
    }
    for (name, value) in &spec.environment {
        require(!spec.secret_env.contains_key(name), || {
            format!("{name} stands in environment and in secret_env; keep one")
        })?;
        text(name, value, MAX_TEXT)?;
        require(!value.contains("secret://"), || {
            format!("environment: {name} holds a secret:// reference; put the secret's name into secret_env instead")
        })?;
    }
    Ok(())
}

fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= MAX_KEY
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn resources(resources: &Resources) -> Checked {
    let bounded = |field: &str, value: Option<u64>, most: u64| {
        require(value.is_none_or(|n| n <= most), || format!("resources: {field} is at most {most}"))
    };
    bounded("gpus", resources.gpus.map(u64::from), 10_000)?;
    bounded("cpus", resources.cpus.map(u64::from), 100_000)?;
    bounded("memory_bytes", resources.memory_bytes, 1 << 50)?;
    bounded("time_seconds", resources.time_seconds, MAX_TIME_SECONDS)?;
    require(resources.time_seconds != Some(0), || "resources: time_seconds is 0; leave it out for no limit".into())
}

fn pairs(field: &str, pairs: &BTreeMap<String, String>, most: usize, longest: usize) -> Checked {
    require(pairs.len() <= most, || format!("{field} has more than {most} entries"))?;
    for (key, value) in pairs {
        require(!key.is_empty(), || format!("{field} has an empty name"))?;
        text(field, key, MAX_KEY)?;
        text(field, value, longest)?;
    }
    Ok(())
}

fn text(field: &str, text: &str, longest: usize) -> Checked {
    require(text.len() <= longest, || format!("{field} has {} bytes; at most {longest} are allowed", text.len()))?;
    require(!text.contains('\0'), || format!("{field} holds a NUL character"))
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(invalid(otherwise())) }
}

fn invalid(why: String) -> Invalid {
    Invalid(why)
}

#[cfg(test)]
mod tests {
    use kluis_core::id::BlobId;
    use kluis_core::name::{ComputeName, ExperimentName};

    use super::*;

    fn spec() -> SubmitRun {
        SubmitRun {
            experiment: ExperimentName::parse("churn").unwrap(),
            snapshot: Some(BlobId::from_bytes([1; 16])),
            program: Program::Script { path: "src/train.py".into(), arguments: vec!["--epochs=3".into()] },
            compute: ComputeName::parse("local").unwrap(),
            secrets: None,
            secret_env: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            environment: BTreeMap::from([("LEVEL".into(), "info".into())]),
            python: None,
            resources: Resources::default(),
            engine_options: BTreeMap::new(),
            tags: BTreeMap::new(),
            max_attempts: None,
            run: None,
        }
    }

    fn name(text: &str) -> SecretName {
        SecretName::parse(text).unwrap()
    }

    #[test]
    fn an_option_that_no_engine_takes_is_refused_and_not_dropped() {
        let mut given = spec();
        given.engine_options.insert("partition".into(), "gpu".into());
        assert!(check(given).unwrap_err().0.contains("engine_options"));
    }

    #[test]
    fn an_ordinary_submission_is_taken_as_it_is() {
        assert_eq!(check(spec()), Ok(spec()));
    }

    #[test]
    fn delivering_a_secret_declares_it_once() {
        let mut given = spec();
        given.secret_env.insert("PGPASSWORD".into(), name("db-password"));
        assert_eq!(check(given.clone()).unwrap().secrets, Some(vec![name("db-password")]));
        given.secrets = Some(vec![name("hub"), name("DB-Password")]);
        given.secret_files.insert("keys/id".into(), name("ssh"));
        assert_eq!(check(given).unwrap().secrets, Some(vec![name("hub"), name("db-password"), name("ssh")]));
    }

    #[test]
    fn an_empty_declaration_stays_one() {
        let given = SubmitRun { secrets: Some(vec![]), ..spec() };
        assert_eq!(check(given).unwrap().secrets, Some(vec![]));
    }

    #[test]
    fn no_path_leaves_its_folder() {
        for path in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\\b", "a\0b", "a\nb", "a/"] {
            assert!(relative_path(path).is_err(), "{path:?}");
            let script = Program::Script { path: path.into(), arguments: vec![] };
            assert!(check(SubmitRun { program: script, ..spec() }).is_err(), "{path:?}");
            let mut files = spec();
            files.secret_files.insert(path.into(), name("ssh"));
            assert!(check(files).is_err(), "{path:?}");
        }
        for path in ["a", "a/b", "..a", "a..b/c", "a b/ü"] {
            assert_eq!(relative_path(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn bad_fields_are_refused_and_never_repeated() {
        type Change = fn(&mut SubmitRun);
        let canary = "kluis-canary";
        let table: [(&str, Change); 14] = [
            ("not a variable's name", |s| drop(s.environment.insert("kluis-canary".into(), String::new()))),
            ("not a variable's name", |s| drop(s.secret_env.insert("1kluis-canary".into(), name("a")))),
            ("reserved", |s| drop(s.environment.insert("KLUIS_RUN_ID".into(), String::new()))),
            ("reserved", |s| drop(s.secret_env.insert("KLUIS_RUN_SOCKET".into(), name("a")))),
            ("secret_env instead", |s| drop(s.environment.insert("A".into(), "secret://w/kluis-canary".into()))),
            ("keep one", |s| drop(s.secret_env.insert("LEVEL".into(), name("a")))),
            ("NUL", |s| drop(s.environment.insert("A".into(), "kluis-canary\0".into()))),
            ("command is empty", |s| s.program = Program::Command { argv: vec![] }),
            ("needs a snapshot", |s| s.snapshot = None),
            ("max_attempts", |s| s.max_attempts = Some(11)),
            ("max_attempts", |s| s.max_attempts = Some(0)),
            ("time_seconds", |s| s.resources.time_seconds = Some(0)),
            ("gpus", |s| s.resources.gpus = Some(u32::MAX)),
            ("tags", |s| drop(s.tags.insert("kluis-canary".into(), "x".repeat(5000)))),
        ];
        for (expected, change) in table {
            let mut given = spec();
            change(&mut given);
            let Invalid(said) = check(given).unwrap_err();
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains(canary), "{said}");
        }
    }

    #[test]
    fn everything_is_bounded() {
        let long = "x".repeat(40_000);
        let mut argument = spec();
        argument.program = Program::Command { argv: vec![long] };
        assert!(check(argument).is_err());
        let mut many = spec();
        many.environment = (0..1001).map(|i| (format!("V{i}"), String::new())).collect();
        assert!(check(many).is_err());
        let mut sum = spec();
        sum.environment = (0..100).map(|i| (format!("V{i}"), "x".repeat(10_000))).collect();
        assert!(check(sum).unwrap_err().0.contains("bytes"));
        let mut secrets = spec();
        secrets.secrets = Some((0..1001).map(|i| name(&format!("s{i}"))).collect());
        assert!(check(secrets).is_err());
    }
}
