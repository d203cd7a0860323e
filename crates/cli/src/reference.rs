//! A secret as named on the command line: `NAME[@VERSION]`, or `secret://WORKSPACE/NAME[@VERSION]`. Whoever types a
//! value in a name's place does not see it again: errors never repeat the text.

use std::str::FromStr;

use kluis_core::id::VersionId;
use kluis_core::name::{SecretName, WorkspaceName};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) workspace: Option<WorkspaceName>,
    pub(crate) name: SecretName,
    pub(crate) version: Option<VersionId>,
}

impl Reference {
    /// The name, where only secrets of one workspace can be meant, in their current version.
    pub(crate) fn name_in(&self, workspace: &WorkspaceName) -> Result<&SecretName, String> {
        if self.version.is_some() {
            return Err("a version can not be chosen here: leave it out".to_owned());
        }
        match &self.workspace {
            Some(other) if other != workspace => {
                Err(format!("a secret of the workspace {other} can not be used here: only those of {workspace}"))
            }
            _ => Ok(&self.name),
        }
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (workspace, rest) = match text.strip_prefix("secret://") {
            None => (None, text),
            Some(rest) => {
                let (workspace, rest) = rest
                    .split_once('/')
                    .ok_or("a reference looks like secret://WORKSPACE/NAME or secret://WORKSPACE/NAME@VERSION")?;
                (Some(WorkspaceName::parse(workspace).map_err(|e| e.to_string())?), rest)
            }
        };
        let (name, version) = match rest.split_once('@') {
            Some((name, version)) => (name, Some(version.parse().map_err(|e| format!("the version is {e}"))?)),
            None => (rest, None),
        };
        Ok(Self { workspace, name: SecretName::parse(name).map_err(|e| e.to_string())?, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_one_workspace_is_meant_another_one_and_a_version_are_refused() {
        let here = WorkspaceName::parse("team").expect("a name");
        for good in ["db-password", "secret://team/db-password", "secret://TEAM/db-password"] {
            let reference: Reference = good.parse().expect("a reference");
            assert_eq!(reference.name_in(&here).map(SecretName::as_str), Ok("db-password"), "{good}");
        }
        for bad in ["secret://other/db-password", &format!("db-password@{}", "a".repeat(32))] {
            assert!(bad.parse::<Reference>().expect("a reference").name_in(&here).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_names_workspace_secret_and_version() {
        let plain: Reference = "db-password".parse().expect("a name");
        assert_eq!((plain.workspace, plain.version), (None, None));
        let versioned: Reference = format!("db-password@{}", "b".repeat(32)).parse().expect("a name and a version");
        assert_eq!((versioned.workspace, versioned.name), (None, plain.name));
        assert_eq!(versioned.version.expect("named").to_string(), "b".repeat(32));
        let full: Reference = format!("secret://team/db-password@{}", "a".repeat(32)).parse().expect("a reference");
        assert_eq!(full.workspace.expect("named").as_str(), "team");
        assert_eq!(full.version.expect("named").to_string(), "a".repeat(32));
        for bad in ["secret://", "secret://team", "secret://team/", "secret://team/a@b", "secret:///a", "a b", "a@b"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        for typed in ["db=hunter2", "db@hunter2", "secret://hunter2 /db", "secret://team/hunter2 "] {
            assert!(!typed.parse::<Reference>().expect_err("no reference").contains("hunter2"), "{typed}");
        }
    }
}
