//! What a client wants to be run: its run configuration, as far as it says something here, made a submission. What it
//! asks for and does not get is refused, with what to do instead; what every configuration of that package holds by
//! default is passed over. Pure.

use std::collections::BTreeMap;

use kluis_core::api::runs::{Program, Resources, SubmitRun};
use kluis_core::id::BlobId;
use kluis_core::name::{ComputeName, ExperimentName, RunId, SecretName};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// The largest definition, in bytes.
pub(super) const MAX_BYTES: usize = 1024 * 1024;
/// 30 days, which every configuration says that does not say another.
const DEFAULT_SECONDS: u64 = 2_592_000;
/// A variable in which a client that has no other way declares the run's secrets, with commas.
const SECRETS: &str = "KLUIS_SECRETS";

/// A definition as it is sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Definition {
    configuration: Configuration,
    #[serde(default)]
    parent_run_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configuration {
    script: Option<String>,
    command: Option<Command>,
    arguments: Vec<Value>,
    target: Option<String>,
    communicator: Option<String>,
    max_run_duration_seconds: Option<u64>,
    node_count: Option<u32>,
    environment: Environment,
    environment_variables: BTreeMap<String, Value>,
    docker: Docker,
    data: BTreeMap<String, Value>,
    data_references: BTreeMap<String, Value>,
    output_data: BTreeMap<String, Value>,
    credential_passthrough: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Command {
    Line(String),
    Words(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Environment {
    #[serde(rename = "environmentVariables")]
    variables: BTreeMap<String, Value>,
    python: Python,
    docker: Docker,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Python {
    user_managed_dependencies: bool,
    interpreter_path: Option<String>,
    conda_dependencies: Option<Value>,
    base_conda_environment: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Docker {
    #[serde(rename = "useDocker")]
    chosen: bool,
    enabled: bool,
    base_dockerfile: Option<String>,
}

/// What is to be run, before it is known where its tree lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) program: Program,
    pub(super) compute: ComputeName,
    pub(super) python: Option<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) secrets: Option<Vec<SecretName>>,
    pub(super) time_seconds: Option<u64>,
}

impl Wanted {
    /// A submission of it.
    pub(super) fn submission(self, experiment: ExperimentName, run: Option<RunId>, snapshot: BlobId) -> SubmitRun {
        SubmitRun {
            experiment,
            snapshot: Some(snapshot),
            program: self.program,
            compute: self.compute,
            secrets: self.secrets,
            secret_env: BTreeMap::new(),
            secret_files: BTreeMap::new(),
            environment: self.environment,
            python: self.python,
            resources: Resources { time_seconds: self.time_seconds, ..Resources::default() },
            engine_options: BTreeMap::new(),
            tags: BTreeMap::new(),
            max_attempts: None,
            run,
        }
    }
}

impl Definition {
    /// What it wants, or what of it is not to be had.
    pub(super) fn wanted(self) -> Result<Wanted> {
        let config = self.configuration;
        require(
            self.parent_run_id.is_none(),
            "a run is not submitted as another's child; submit it by itself, or use Run.child_run in the script",
        )?;
        require(
            config.node_count.is_none_or(|nodes| nodes <= 1)
                && config.communicator.is_none_or(|c| c.is_empty() || c.eq_ignore_ascii_case("none")),
            "several nodes, MPI and the like are the compute target's matter; leave node_count and communicator out",
        )?;
        require(
            config.data.is_empty() && config.data_references.is_empty() && config.output_data.is_empty(),
            "datasets and data references are not offered; read the data in the script, with a secret if it needs one",
        )?;
        require(!config.credential_passthrough, "credential_passthrough is not offered; declare secrets")?;
        let Environment { variables: given, python, docker } = config.environment;
        require(
            !(config.docker.chosen || docker.enabled || docker.base_dockerfile.is_some()),
            "containers are the compute target's matter; leave Docker out of the run's configuration",
        )?;
        let interpreter = interpreter(python)?;
        let target = config.target.ok_or_else(|| Error::bad_request("the run's configuration has no target"))?;
        let mut environment = variables(given)?;
        environment.extend(variables(config.environment_variables)?);
        // What every configuration holds.
        if environment.get("EXAMPLE_ENV_VAR").is_some_and(|value| value == "EXAMPLE_VALUE") {
            environment.remove("EXAMPLE_ENV_VAR");
        }
        let secrets = environment.remove(SECRETS).map(|names| secrets(&names)).transpose()?;
        Ok(Wanted {
            program: program(config.script, config.command, config.arguments)?,
            compute: ComputeName::parse(&target)?,
            python: interpreter,
            environment,
            secrets,
            time_seconds: config.max_run_duration_seconds.filter(|seconds| *seconds != DEFAULT_SECONDS),
        })
    }
}

fn program(script: Option<String>, command: Option<Command>, arguments: Vec<Value>) -> Result<Program> {
    let arguments = arguments.into_iter().map(text).collect::<Option<Vec<_>>>();
    let arguments = arguments.ok_or_else(|| {
        Error::bad_request("arguments are texts and numbers here; datasets and the like are not offered")
    })?;
    let line = match command {
        Some(Command::Line(line)) => line,
        Some(Command::Words(words)) => words.join(" "),
        None => String::new(),
    };
    match script.filter(|script| !script.is_empty()) {
        Some(path) => Ok(Program::Script { path, arguments }),
        // As that package does it: a line for the shell.
        None if !line.is_empty() => Ok(Program::Command { argv: vec!["/bin/sh".into(), "-c".into(), line] }),
        None => Err(Error::bad_request("the run's configuration has neither script nor command")),
    }
}

/// The Python to use, when one was chosen. Environments are not built.
fn interpreter(python: Python) -> Result<Option<String>> {
    let chosen = python.interpreter_path.filter(|path| path != "python" && !path.is_empty());
    if python.user_managed_dependencies {
        return Ok(chosen);
    }
    let plain = python.conda_dependencies.as_ref().is_none_or(is_default) && python.base_conda_environment.is_none();
    require(
        plain,
        "environments are not built here: install what the script needs on the compute target, and set \
         environment.python.user_managed_dependencies = True (and interpreter_path, for another Python)",
    )?;
    Ok(chosen)
}

/// Whether conda dependencies are those that every environment has.
fn is_default(conda: &Value) -> bool {
    let dependencies = conda["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
    dependencies.iter().all(|dependency| match dependency {
        Value::String(text) => text.starts_with("python=") || text == "python" || text == "pip",
        Value::Object(_) => dependency["pip"].as_array().is_some_and(|pip| {
            pip.iter()
                .all(|p| p.as_str().is_some_and(|p| p.starts_with("azureml-defaults") || p.starts_with("azureml-core")))
        }),
        _ => false,
    })
}

fn variables(given: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>> {
    let pairs = given.into_iter().map(|(name, value)| Some((name, text(value)?))).collect::<Option<_>>();
    pairs.ok_or_else(|| Error::bad_request("environment variables are texts and numbers"))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        // As Python writes them.
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        _ => None,
    }
}

fn secrets(names: &str) -> Result<Vec<SecretName>> {
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(SecretName::parse).collect::<Result<_, _>>()?)
}

fn require(holds: bool, otherwise: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::bad_request(otherwise)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted(more: Value) -> Result<Wanted> {
        let conda = json!({ "dependencies": ["python=3.8.13", { "pip": ["azureml-defaults"] }] });
        let mut configuration = json!({
            "script": "train.py",
            "arguments": ["--epochs", 3],
            "target": "cluster",
            "framework": "Python",
            "communicator": "None",
            "nodeCount": 1,
            "maxRunDurationSeconds": 2_592_000,
            "environment": {
                "name": "default-environment",
                "environmentVariables": { "EXAMPLE_ENV_VAR": "EXAMPLE_VALUE" },
                "python": { "userManagedDependencies": false, "interpreterPath": "python", "condaDependencies": conda },
                "docker": { "enabled": false, "baseImage": "image", "baseDockerfile": null },
            },
            "docker": { "useDocker": false },
            "command": "",
            "environmentVariables": {},
        });
        merge(&mut configuration, more);
        let sent = json!({ "TargetDetails": null, "TelemetryValues": {}, "Configuration": configuration });
        serde_json::from_value::<Definition>(sent).unwrap().wanted()
    }

    fn merge(into: &mut Value, more: Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                for (key, value) in more {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, more) => *into = more,
        }
    }

    #[test]
    fn the_default_configuration_of_a_script_is_a_script_on_its_target() {
        let plain = wanted(json!({})).unwrap();
        let arguments = vec!["--epochs".to_owned(), "3".to_owned()];
        assert_eq!(plain.program, Program::Script { path: "train.py".into(), arguments });
        assert_eq!((plain.compute.as_str(), plain.python, plain.time_seconds), ("cluster", None, None));
        assert!(plain.environment.is_empty() && plain.secrets.is_none());
    }

    #[test]
    fn what_is_chosen_is_taken() {
        let chosen = wanted(json!({
            "script": null,
            "command": "python train.py && echo done",
            "maxRunDurationSeconds": 60,
            "environmentVariables": { "LEVEL": "info", "N": 1, "KLUIS_SECRETS": "db-password, hub" },
            "environment": { "python": { "userManagedDependencies": true, "interpreterPath": "/opt/py/bin/python" } },
        }))
        .unwrap();
        let argv = ["/bin/sh", "-c", "python train.py && echo done"].map(ToOwned::to_owned).to_vec();
        assert_eq!(chosen.program, Program::Command { argv });
        assert_eq!((chosen.python.as_deref(), chosen.time_seconds), (Some("/opt/py/bin/python"), Some(60)));
        assert_eq!(chosen.environment, BTreeMap::from([("LEVEL".into(), "info".into()), ("N".into(), "1".into())]));
        let names = ["db-password", "hub"].map(|name| SecretName::parse(name).unwrap()).to_vec();
        assert_eq!(chosen.secrets, Some(names));
    }

    #[test]
    fn what_is_not_to_be_had_is_refused_with_what_to_do_and_not_repeated() {
        let packages = json!({ "dependencies": ["python=3.8", "hunter2"] });
        for (more, words) in [
            (json!({ "nodeCount": 2 }), "compute target's matter"),
            (json!({ "communicator": "Mpi" }), "compute target's matter"),
            (json!({ "data": { "hunter2": {} } }), "datasets"),
            (json!({ "docker": { "useDocker": true } }), "containers"),
            (json!({ "environment": { "python": { "condaDependencies": packages } } }), "user_managed_dependencies"),
            (json!({ "environment": { "docker": { "baseDockerfile": "FROM hunter2" } } }), "containers"),
            (json!({ "script": null }), "neither script nor command"),
            (json!({ "arguments": [{ "hunter2": 1 }] }), "texts and numbers"),
            (json!({ "target": null }), "no target"),
            (json!({ "target": "hunter2/" }), "compute target's name"),
            (json!({ "environmentVariables": { "KLUIS_SECRETS": "hunter2/" } }), "secret's name"),
        ] {
            let refused = wanted(more).unwrap_err().to_string();
            assert!(refused.contains(words) && !refused.contains("hunter2"), "{refused}");
        }
    }
}
