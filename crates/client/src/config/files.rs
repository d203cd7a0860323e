//! The files that say where to go: a project's own, Azure's, and the user's. None of them holds a secret.

use std::path::{Path, PathBuf};

use kluis_core::name::{ComputeName, WorkspaceName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ConfigError;
use crate::credentials::write_private;
use crate::trust::{CaPin, Origin};

/// Where a project's own file lies, below its root.
pub const PROJECT_FILE: &str = ".kluis/config.json";
/// The user's file in the config folder.
pub const USER_FILE: &str = "config.json";
/// Where Azure's clients look, in their order.
const AZURE_FILES: [&str; 3] = [".azureml/config.json", "aml_config/config.json", "config.json"];

/// The key of an Azure file's second shape.
const SCOPE: &str = "Scope";

/// What a project says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// The file.
    pub path: PathBuf,
    /// The server's address, if it says one.
    pub address: Option<Origin>,
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The server's CA pin, if it says one.
    pub ca_sha256: Option<CaPin>,
    /// Where its runs run, if it says so.
    pub compute: Option<ComputeName>,
    /// What an Azure file says besides; echoed, and authorizes nothing.
    pub azure: Option<AzureNames>,
}

/// Azure's names for where a workspace lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureNames {
    /// `subscription_id`.
    pub subscription_id: Option<String>,
    /// `resource_group`.
    pub resource_group: Option<String>,
}

impl Project {
    /// Reads a project file, ours or Azure's.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let object = read_object(path)?;
        if looks_like_azure(&object) { Self::azure(path, &object) } else { Self::ours(path, &object) }
    }

    fn ours(path: &Path, object: &Map<String, Value>) -> Result<Self, ConfigError> {
        let workspace = required(path, object, "workspace")?;
        Ok(Self {
            path: path.to_owned(),
            address: parsed(path, object, "address")?,
            workspace,
            ca_sha256: parsed(path, object, "ca_sha256")?,
            compute: parsed(path, object, "compute")?,
            azure: None,
        })
    }

    /// In either shape: three names, or, as their `write_config` writes it, the three in one address, which wins.
    fn azure(path: &Path, object: &Map<String, Value>) -> Result<Self, ConfigError> {
        let (workspace, subscription_id, resource_group) = match text(path, object, SCOPE)? {
            Some(scope) => {
                let invalid =
                    |reason: String| ConfigError::Invalid { place: format!("`{SCOPE}` in {}", path.display()), reason };
                let part = |key: &str| scope_part(scope, key).map(str::to_owned);
                let name = part("workspaces").ok_or_else(|| invalid("no `/workspaces/NAME` is in it".to_owned()))?;
                let workspace = WorkspaceName::parse(&name).map_err(|error| invalid(error.to_string()))?;
                (workspace, part("subscriptions"), part("resourceGroups"))
            }
            None => (
                required(path, object, "workspace_name")?,
                text(path, object, "subscription_id")?.map(str::to_owned),
                text(path, object, "resource_group")?.map(str::to_owned),
            ),
        };
        let azure = AzureNames { subscription_id, resource_group };
        Ok(Self { path: path.to_owned(), address: None, workspace, ca_sha256: None, compute: None, azure: Some(azure) })
    }

    /// Writes `.kluis/config.json` below `root` and says where. It is made to be committed. A compute target that the
    /// file names already stays.
    pub fn write(
        root: &Path,
        address: &Origin,
        workspace: &WorkspaceName,
        ca_sha256: Option<CaPin>,
    ) -> Result<PathBuf, ConfigError> {
        #[derive(Serialize)]
        struct Content<'c> {
            address: &'c Origin,
            workspace: &'c WorkspaceName,
            #[serde(skip_serializing_if = "Option::is_none")]
            ca_sha256: Option<CaPin>,
            #[serde(skip_serializing_if = "Option::is_none")]
            compute: Option<ComputeName>,
        }
        let path = root.join(PROJECT_FILE);
        // Whatever else is wrong with the file that is replaced here is no reason not to replace it.
        let compute = Self::read(&path).ok().and_then(|project| project.compute);
        let content = Content { address, workspace, ca_sha256, compute };
        let mut json = serde_json::to_vec_pretty(&content).expect("names are JSON");
        json.push(b'\n');
        let folder = path.parent().expect("the file was joined to a folder");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, json))
            .map_err(|source| ConfigError::Io { path: path.clone(), source })?;
        Ok(path)
    }
}

/// The project that `start` lies in: our file in the folder or above it, else Azure's in the folder or above it.
///
/// A bare `config.json` is a name that many programs use, so it counts only when it looks like Azure's.
pub fn find_project(start: &Path) -> Result<Option<Project>, ConfigError> {
    for folder in start.ancestors() {
        let path = folder.join(PROJECT_FILE);
        if path.is_file() {
            return Project::ours(&path, &read_object(&path)?).map(Some);
        }
    }
    for folder in start.ancestors() {
        for (file, bare) in AZURE_FILES.iter().map(|file| (file, *file == "config.json")) {
            let path = folder.join(file);
            if !path.is_file() {
                continue;
            }
            match read_object(&path) {
                Ok(object) if !bare || looks_like_azure(&object) => return Project::azure(&path, &object).map(Some),
                Err(error) if !bare => return Err(error),
                _ => {}
            }
        }
    }
    Ok(None)
}

fn looks_like_azure(object: &Map<String, Value>) -> bool {
    ["workspace_name", "subscription_id", "resource_group", SCOPE].iter().any(|key| object.contains_key(*key))
}

/// What stands behind `key` in `/subscriptions/S/resourceGroups/G/providers/.../workspaces/W`.
fn scope_part<'s>(scope: &'s str, key: &str) -> Option<&'s str> {
    let mut parts = scope.split('/');
    parts.find(|part| part.eq_ignore_ascii_case(key))?;
    parts.next().filter(|part| !part.is_empty())
}

/// The user's own default: address, workspace, pin, compute target; each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserFile {
    /// The server's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Origin>,
    /// The workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceName>,
    /// The server's CA pin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_sha256: Option<CaPin>,
    /// Where runs run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<ComputeName>,
}

impl UserFile {
    /// Reads it from the config folder; empty when there is none.
    pub fn load(config_folder: &Path) -> Result<Self, ConfigError> {
        let path = config_folder.join(USER_FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let object = read_object(&path)?;
        Ok(Self {
            address: parsed(&path, &object, "address")?,
            workspace: parsed(&path, &object, "workspace")?,
            ca_sha256: parsed(&path, &object, "ca_sha256")?,
            compute: parsed(&path, &object, "compute")?,
        })
    }

    /// Writes it to the config folder.
    pub fn save(&self, config_folder: &Path) -> Result<(), ConfigError> {
        let path = config_folder.join(USER_FILE);
        let json = serde_json::to_vec_pretty(self).expect("names are JSON");
        write_private(config_folder, &path, &json).map_err(|source| ConfigError::Io { path, source })
    }
}

fn read_object(path: &Path) -> Result<Map<String, Value>, ConfigError> {
    let content = std::fs::read(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
    // Editors on Windows lead with a byte order mark, and Azure's downloads pass through them.
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    serde_json::from_slice(content).map_err(|error| ConfigError::Invalid {
        place: path.display().to_string(),
        reason: format!("not a JSON object (line {}, column {})", error.line(), error.column()),
    })
}

fn text<'o>(path: &Path, object: &'o Map<String, Value>, key: &'static str) -> Result<Option<&'o str>, ConfigError> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(ConfigError::Invalid {
            place: format!("`{key}` in {}", path.display()),
            reason: "a text is expected".to_owned(),
        }),
    }
}

fn parsed<T>(path: &Path, object: &Map<String, Value>, key: &'static str) -> Result<Option<T>, ConfigError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let Some(text) = text(path, object, key)? else { return Ok(None) };
    text.parse().map(Some).map_err(|error: T::Err| ConfigError::Invalid {
        place: format!("`{key}` in {}", path.display()),
        reason: error.to_string(),
    })
}

fn required<T>(path: &Path, object: &Map<String, Value>, key: &'static str) -> Result<T, ConfigError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    parsed(path, object, key)?.ok_or_else(|| ConfigError::MissingKey { path: path.to_owned(), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn our_file_above_wins_over_azures_beside() {
        let root = tree(&[
            (".kluis/config.json", r#"{"address": "kluis.example.org", "workspace": "ours"}"#),
            ("a/b/config.json", r#"{"workspace_name": "theirs"}"#),
        ]);
        let project = find_project(&root.path().join("a/b")).unwrap().unwrap();
        assert_eq!((project.workspace.as_str(), project.azure), ("ours", None));
    }

    #[test]
    fn azures_files_are_found_in_azures_order_and_their_names_echoed() {
        let azure =
            |name: &str| format!(r#"{{"subscription_id": "s-1", "resource_group": "g", "workspace_name": "{name}"}}"#);
        let root = tree(&[
            ("config.json", &azure("three")),
            ("aml_config/config.json", &azure("two")),
            ("sub/.azureml/config.json", &azure("one")),
            ("sub/config.json", &azure("four")),
        ]);
        let find = |at: &str| find_project(&root.path().join(at)).unwrap().unwrap();
        assert_eq!(find("sub").workspace.as_str(), "one");
        assert_eq!(find(".").workspace.as_str(), "two");
        let names = AzureNames { subscription_id: Some("s-1".into()), resource_group: Some("g".into()) };
        assert_eq!(find("sub").azure, Some(names));
        assert_eq!(find("sub").address, None);
    }

    #[test]
    fn the_shape_that_azures_client_writes_is_read() {
        let scope = "/subscriptions/s-1/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/churn";
        for (file, more) in [(".azureml/config.json", ""), ("config.json", r#", "workspace_name": "other""#)] {
            let root = tree(&[(file, &format!(r#"{{"Id": null, "Scope": "{scope}"{more}}}"#))]);
            let project = find_project(root.path()).unwrap().unwrap();
            assert_eq!(project.workspace.as_str(), "churn", "{file}");
            let names = AzureNames { subscription_id: Some("s-1".into()), resource_group: Some("g".into()) };
            assert_eq!(project.azure, Some(names));
            assert_eq!(Project::read(&root.path().join(file)).unwrap().workspace.as_str(), "churn");
        }
    }

    #[test]
    fn a_config_json_of_another_program_is_passed_over() {
        let root = tree(&[("config.json", r#"{"model_type": "bert"}"#), ("x/config.json", "not json")]);
        assert_eq!(find_project(&root.path().join("x")).unwrap(), None);
    }

    #[test]
    fn missing_and_wrong_entries_are_named() {
        for (file, content, message) in [
            (".kluis/config.json", "{}", "has no `workspace`"),
            (".kluis/config.json", r#"{"workspace": 7}"#, "`workspace` in"),
            (".kluis/config.json", r#"{"workspace": "w", "ca_sha256": "zz"}"#, "64 hex digits"),
            (".kluis/config.json", r#"{"workspace": "w", "address": "http://a"}"#, "only https"),
            (".kluis/config.json", r#"{"workspace": "w", "compute": "a b"}"#, "`compute` in"),
            (".kluis/config.json", "{", "line 1"),
            (".azureml/config.json", r#"{"resource_group": "g"}"#, "has no `workspace_name`"),
            ("config.json", r#"{"resource_group": "g"}"#, "has no `workspace_name`"),
            (".azureml/config.json", r#"{"Scope": "/subscriptions/s"}"#, "`/workspaces/NAME`"),
            (".azureml/config.json", r#"{"Scope": "/workspaces/a b"}"#, "`Scope` in"),
            (".azureml/config.json", r#"{"Scope": 7}"#, "`Scope` in"),
        ] {
            let root = tree(&[(file, content)]);
            let error = find_project(root.path()).unwrap_err().to_string();
            assert!(error.contains(message), "{content}: {error}");
        }
    }

    #[test]
    fn a_project_that_is_written_again_keeps_its_compute_target() {
        let root = tree(&[(".kluis/config.json", r#"{"workspace": "old", "compute": "gpu-box"}"#)]);
        let (address, workspace) = (Origin::parse("a.example.org").unwrap(), WorkspaceName::parse("new").unwrap());
        Project::write(root.path(), &address, &workspace, None).unwrap();
        let project = find_project(root.path()).unwrap().unwrap();
        assert_eq!(project.workspace.as_str(), "new");
        assert_eq!(project.compute.unwrap().as_str(), "gpu-box");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let root = tempfile::tempdir().unwrap();
        let (address, workspace) = (Origin::parse("a.example.org").unwrap(), WorkspaceName::parse("default").unwrap());
        let pin = CaPin::of_certificate(b"ca");
        let path = Project::write(root.path(), &address, &workspace, Some(pin)).unwrap();
        let project = find_project(root.path()).unwrap().unwrap();
        assert_eq!(project.path, path);
        assert_eq!((project.address, project.ca_sha256), (Some(address.clone()), Some(pin)));
        let compute = Some(ComputeName::parse("gpu-box").unwrap());
        let user = UserFile { address: Some(address), workspace: Some(workspace), ca_sha256: Some(pin), compute };
        user.save(&root.path().join("config")).unwrap();
        assert_eq!(UserFile::load(&root.path().join("config")).unwrap(), user);
        assert_eq!(UserFile::load(&root.path().join("none")).unwrap(), UserFile::default());
    }
}
