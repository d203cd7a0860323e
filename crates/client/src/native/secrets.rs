//! Secrets and their versions. A set is repeated only when `if_revision` makes that harmless.

use kluis_core::api::secrets::{
    ChangeVersion, GetSecretQuery, GetSecrets, SecretValue, SecretValues, SecretView, SecretsSet, SetSecret,
    SetSecrets, VersionView,
};
use kluis_core::api::{Page, PageQuery};
use kluis_core::id::VersionId;
use kluis_core::name::{SecretName, WorkspaceName};

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// The active secrets, without values.
    pub async fn secrets(&self, workspace: &WorkspaceName, page: PageQuery) -> Result<Page<SecretView>, Error> {
        self.get("list secrets", &["workspaces", workspace.as_str(), "secrets"]).query(&page).json().await
    }

    /// Sets a secret: a new version.
    pub async fn secret_set(
        &self,
        workspace: &WorkspaceName,
        name: &SecretName,
        set: &SetSecret,
    ) -> Result<SecretView, Error> {
        // A repeated PUT would make a second version, so it is not repeated.
        let path = ["workspaces", workspace.as_str(), "secrets", name.as_str()];
        self.put("set the secret", &path).once().body(set).json().await
    }

    /// Reads a value: the current version's, or one version's.
    pub async fn secret_get(
        &self,
        workspace: &WorkspaceName,
        name: &SecretName,
        version: Option<VersionId>,
    ) -> Result<SecretValue, Error> {
        let path = ["workspaces", workspace.as_str(), "secrets", name.as_str()];
        self.get("read the secret", &path).query(&GetSecretQuery { version }).json().await
    }

    /// Deletes a secret softly; the answer says until when it can be recovered.
    pub async fn secret_delete(&self, workspace: &WorkspaceName, name: &SecretName) -> Result<SecretView, Error> {
        let path = ["workspaces", workspace.as_str(), "secrets", name.as_str()];
        self.delete("delete the secret", &path).once().json().await
    }

    /// A secret's versions, newest first, without values.
    pub async fn secret_versions(
        &self,
        workspace: &WorkspaceName,
        name: &SecretName,
        page: PageQuery,
    ) -> Result<Page<VersionView>, Error> {
        let path = ["workspaces", workspace.as_str(), "secrets", name.as_str(), "versions"];
        self.get("list the secret's versions", &path).query(&page).json().await
    }

    /// Changes a version's attributes; without a version, the current one's.
    pub async fn secret_version_change(
        &self,
        workspace: &WorkspaceName,
        name: &SecretName,
        version: Option<VersionId>,
        change: &ChangeVersion,
    ) -> Result<VersionView, Error> {
        let version = version.map_or_else(|| "current".to_owned(), |v| v.to_string());
        let path = ["workspaces", workspace.as_str(), "secrets", name.as_str(), "versions", &version];
        self.patch("change the secret's attributes", &path).body(change).json().await
    }

    /// Sets several secrets: all or none.
    pub async fn secrets_set(&self, workspace: &WorkspaceName, set: &SetSecrets) -> Result<SecretsSet, Error> {
        self.post("set the secrets", &["workspaces", workspace.as_str(), "secrets:set"]).body(set).json().await
    }

    /// Reads several values; one refused name refuses all.
    pub async fn secrets_get(&self, workspace: &WorkspaceName, get: &GetSecrets) -> Result<SecretValues, Error> {
        let path = ["workspaces", workspace.as_str(), "secrets:get"];
        self.post("read the secrets", &path).body(get).repeatable().json().await
    }

    /// The deleted secrets that can still be recovered.
    pub async fn deleted_secrets(&self, workspace: &WorkspaceName, page: PageQuery) -> Result<Page<SecretView>, Error> {
        let path = ["workspaces", workspace.as_str(), "deleted-secrets"];
        self.get("list deleted secrets", &path).query(&page).json().await
    }

    /// Brings a deleted secret back.
    pub async fn secret_recover(&self, workspace: &WorkspaceName, name: &SecretName) -> Result<SecretView, Error> {
        let path = ["workspaces", workspace.as_str(), "deleted-secrets", name.as_str(), "recover"];
        self.post("recover the secret", &path).json().await
    }

    /// Purges a deleted secret. Nothing brings it back.
    pub async fn secret_purge(&self, workspace: &WorkspaceName, name: &SecretName) -> Result<(), Error> {
        let path = ["workspaces", workspace.as_str(), "deleted-secrets", name.as_str()];
        self.delete("purge the secret", &path).once().done().await
    }
}
