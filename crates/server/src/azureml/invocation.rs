//! A run on the submitter's own machine. The client there wants a zip with a script, which it starts in a copy of the
//! project; ours submits that copy under the run's id with the `kluis` of that machine, which then serves it, as for
//! everybody who runs something locally. So the tree is packed, checked and uploaded where it lies, the run has a
//! launcher and a masked log, and this server need not believe that something runs.

use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use kluis_core::api::runs::Program;
use kluis_core::name::{ExperimentName, RunId, WorkspaceName};
use zip::write::{SimpleFileOptions, ZipWriter};

use super::definition::Wanted;
use crate::error::{Error, Result};

/// What the client starts.
const SCRIPT: &str = "azureml-setup/Invocation.sh";

/// What the script needs to know.
#[derive(Debug)]
pub(super) struct Invocation<'a> {
    pub(super) origin: &'a str,
    pub(super) ca_sha256: Option<&'a str>,
    pub(super) workspace: &'a WorkspaceName,
    pub(super) experiment: &'a ExperimentName,
    pub(super) run: &'a RunId,
    pub(super) wanted: &'a Wanted,
}

impl Invocation<'_> {
    /// The zip.
    pub(super) fn zip(&self) -> Result<Vec<u8>> {
        let failed = |e: zip::result::ZipError| Error::internal(format!("a zip of one file: {e}"));
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .unix_permissions(0o755)
            .last_modified_time(zip::DateTime::default());
        zip.start_file(SCRIPT, options).map_err(failed)?;
        zip.write_all(self.script().as_bytes()).map_err(|e| Error::internal(e.to_string()))?;
        Ok(zip.finish().map_err(failed)?.into_inner())
    }

    /// Every word that came from outside is quoted, whatever it has been checked for before.
    fn script(&self) -> String {
        let Self { origin, ca_sha256, workspace, experiment, run, wanted } = self;
        let mut out = String::from("#!/bin/bash\n# Submits this folder as the run, and serves it on this machine.\n");
        let mut line = |text: &str| {
            out.push_str(text);
            out.push('\n');
        };
        // By which of its addresses a login is for the server is known there: `kluis azure env` has said it.
        line("if [ -z \"${KLUIS_ADDR:-}\" ]; then");
        line(&format!("  export KLUIS_ADDR={}", quoted(origin)));
        if let Some(ca) = ca_sha256 {
            line(&format!("  export KLUIS_CA_SHA256={}", quoted(ca)));
        }
        line("fi");
        line(&format!("export KLUIS_WORKSPACE={}", quoted(workspace.as_str())));
        line("unset KLUIS_RUN_ID KLUIS_RUN_SOCKET");
        line("here=$(pwd)");
        // The folder stays: the client leaves a note there when it cancels.
        line("rm -f azureml-setup/Invocation.sh invocation.zip");
        line("exec >\"$here.kluis.log\" 2>&1 </dev/null");
        let python = wanted.python.as_deref().unwrap_or("python");
        let mut submit = format!(
            "exec kluis run submit --compute local --source \"$here\" --run-id {} --experiment {}",
            quoted(run.as_str()),
            quoted(experiment.as_str())
        );
        // The user's own Python, as the shell finds it here, with what is installed there.
        line(&format!("python=$(command -v {} || command -v python3)", quoted(python)));
        submit.push_str(" --python \"$python\"");
        for (name, value) in &wanted.environment {
            write!(submit, " --env {}", quoted(&format!("{name}={value}"))).expect("a text takes all");
        }
        for secret in wanted.secrets.iter().flatten() {
            write!(submit, " --secret {}", quoted(secret.as_str())).expect("a text takes all");
        }
        if let Some(seconds) = wanted.time_seconds {
            write!(submit, " --time {seconds}s").expect("a text takes all");
        }
        let words: Vec<&String> = match &wanted.program {
            Program::Script { path, arguments } => std::iter::once(path).chain(arguments).collect(),
            Program::Command { argv } => {
                submit.push_str(" --");
                argv.iter().collect()
            }
        };
        for word in words {
            submit.push(' ');
            submit.push_str(&quoted(word));
        }
        line(&submit);
        out
    }
}

/// A word as the shell takes it, whatever stands in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kluis_core::name::ComputeName;

    use super::*;

    #[test]
    fn no_word_from_outside_is_more_than_a_word() {
        let hostile = "'; touch /tmp/x; $(id) `id` \"\n #";
        let wanted = Wanted {
            program: Program::Script { path: hostile.into(), arguments: vec![hostile.into()] },
            compute: ComputeName::parse("local").unwrap(),
            python: Some(hostile.into()),
            environment: BTreeMap::from([("A".into(), hostile.into())]),
            secrets: None,
            time_seconds: None,
        };
        let invocation = Invocation {
            origin: "https://127.0.0.1:8443",
            ca_sha256: None,
            workspace: &WorkspaceName::parse("team").unwrap(),
            experiment: &ExperimentName::parse("churn").unwrap(),
            run: &RunId::parse("churn_1_ab").unwrap(),
            wanted: &wanted,
        };
        // What the shell makes of it, with the program replaced by one that tells its words.
        let script = invocation.script().replace("exec kluis run submit", "printf '%s\\0'");
        let script = script.replace("exec >\"$here.kluis.log\" 2>&1 </dev/null", "");
        let folder = tempfile::tempdir().unwrap();
        let said = std::process::Command::new("bash").arg("-c").arg(script).current_dir(&folder).output().unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let words: Vec<&str> = said.split('\0').collect();
        assert_eq!(words.iter().filter(|word| **word == hostile).count(), 2, "{words:?}");
        assert!(words.contains(&&*format!("A={hostile}")), "{words:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
