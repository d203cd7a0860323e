//! Names and versions, without values. A damaged row is left out, and in the log; asked for by name it says so.

use kluis_core::access::Action;
use kluis_core::api::{Page, PageQuery};
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::secret::Version;
use kluis_store::After;
use kluis_store::workspaces::Workspace;

use super::{Described, Secrets};
use crate::api::limit;
use crate::caller::Caller;
use crate::error::{Error, Result};

impl Secrets<'_> {
    /// Active secrets by name.
    pub async fn list(&self, caller: &Caller, workspace: &WorkspaceName, page: &PageQuery) -> Result<Page<Described>> {
        let workspace = self.workspace(caller, workspace, Action::SecretList).await?;
        self.listing(&workspace, false, page).await
    }

    /// Deleted secrets that can still be recovered, by name.
    pub async fn list_deleted(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        page: &PageQuery,
    ) -> Result<Page<Described>> {
        let workspace = self.workspace(caller, workspace, Action::SecretList).await?;
        self.listing(&workspace, true, page).await
    }

    /// A deleted secret that can still be recovered, without its value.
    pub async fn get_deleted(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        name: &SecretName,
    ) -> Result<Described> {
        let workspace = self.workspace(caller, workspace, Action::SecretList).await?;
        let (secret, version) = self.listed(&workspace, name).await?.ok_or(Error::SecretNotFound)?;
        secret.state.require_deleted()?;
        Ok(Described { secret, version, retention_days: workspace.settings.retention_days })
    }

    async fn listing(&self, workspace: &Workspace, deleted: bool, page: &PageQuery) -> Result<Page<Described>> {
        let retention_days = workspace.settings.retention_days;
        let after = After { after: page.after.clone(), limit: limit(page.limit)? };
        let listed = self.app.store.secret_list(workspace.id, deleted, after).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for item in listed.items {
            match self.verify(item) {
                Ok((secret, version)) => items.push(Described { secret, version, retention_days }),
                Err(e) => tracing::error!(workspace = %workspace.id, error = %e, "left out of a list"),
            }
        }
        Ok(Page { items, next: listed.next })
    }

    /// A secret's versions, newest first.
    pub async fn versions(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        name: &SecretName,
        page: &PageQuery,
    ) -> Result<Page<Described>> {
        let workspace = self.workspace(caller, workspace, Action::SecretList).await?;
        let retention_days = workspace.settings.retention_days;
        let (secret, _) = self.listed(&workspace, name).await?.ok_or(Error::SecretNotFound)?;
        let after = page.after.as_deref().map(str::parse::<u64>).transpose();
        let after = after.map_err(|_| Error::bad_request("`after` is not a page's `next`"))?;
        let after = After { after, limit: limit(page.limit)? };
        let listed = self.app.store.version_list(workspace.id, secret.id, after).await?;
        let mut items = Vec::with_capacity(listed.items.len());
        for item in listed.items {
            match self.app.verified(item, Version::canonical, "version", |v| v.id.to_string()) {
                Ok(version) if version.secret == secret.id => {
                    items.push(Described { secret: secret.clone(), version, retention_days });
                }
                Ok(version) => tracing::error!(version = %version.id, "a version of another secret is left out"),
                Err(e) => tracing::error!(error = %e, "left out of a list"),
            }
        }
        Ok(Page { items, next: listed.next.map(|n| n.to_string()) })
    }
}
