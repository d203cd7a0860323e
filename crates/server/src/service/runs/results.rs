//! What a run leaves behind, for its members: metrics, files, and the secrets it was given.

use kluis_core::access::Action;
use kluis_core::api::runs::{MetricsPage, OutputView, RunSecretView};
use kluis_core::api::{Page, PageQuery};
use kluis_core::name::{RunId, WorkspaceName};
use kluis_store::After;

use super::{Runs, number};
use crate::api::limit;
use crate::blobs::BlobStream;
use crate::caller::Caller;
use crate::error::{Error, Result};

impl Runs<'_> {
    /// Metrics, in the order logged.
    pub async fn metrics(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        page: PageQuery,
    ) -> Result<MetricsPage> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let run = self.app.run_row(&workspace, run).await?;
        let after = After { after: number(page.after.as_deref())?, limit: limit(page.limit)? };
        let listed = self.app.store.metric_list(workspace.id, &run.id, after).await?;
        Ok(Page { items: listed.items, next: listed.next.map(|n| n.to_string()) })
    }

    /// The names of its metrics, in the order first logged.
    pub async fn metric_names(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        page: PageQuery,
    ) -> Result<Page<String>> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let run = self.app.run_row(&workspace, run).await?;
        let after = After { after: number(page.after.as_deref())?, limit: limit(page.limit)? };
        let listed = self.app.store.metric_names(workspace.id, &run.id, after).await?;
        Ok(Page { items: listed.items, next: listed.next.map(|n| n.to_string()) })
    }

    /// Metrics of one name, in the order logged.
    pub async fn metrics_named(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        name: &str,
        page: PageQuery,
    ) -> Result<MetricsPage> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let run = self.app.run_row(&workspace, run).await?;
        let after = After { after: number(page.after.as_deref())?, limit: limit(page.limit)? };
        let listed = self.app.store.metric_named(workspace.id, &run.id, name, after).await?;
        Ok(Page { items: listed.items, next: listed.next.map(|n| n.to_string()) })
    }

    /// The secrets that its attempts were given, oldest first, with the versions.
    pub async fn secrets(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        page: PageQuery,
    ) -> Result<Page<RunSecretView>> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let run = self.app.run_row(&workspace, run).await?;
        // Few enough (a batch of names per attempt) to be cut into pages here.
        let start = usize::try_from(number(page.after.as_deref())?.unwrap_or(0)).unwrap_or(usize::MAX);
        let most = limit(page.limit)? as usize;
        let pins = self.app.store.run_secrets(workspace.id, &run.id).await?;
        let next = start.saturating_add(most);
        let next = (next < pins.len()).then(|| next.to_string());
        let view = |pin: kluis_store::secrets::Pin| RunSecretView {
            name: pin.name,
            version: pin.version,
            attempt: pin.attempt,
            first: pin.first,
        };
        Ok(Page { items: pins.into_iter().skip(start).take(most).map(view).collect(), next })
    }

    /// Files, by path.
    pub async fn outputs(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        page: PageQuery,
    ) -> Result<Page<OutputView>> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let run = self.app.run_row(&workspace, run).await?;
        let after = After { after: page.after, limit: limit(page.limit)? };
        let listed = self.app.store.output_list(workspace.id, &run.id, after).await?;
        let view = |row: kluis_store::logs::OutputRow| OutputView { path: row.path, bytes: row.bytes, time: row.time };
        Ok(Page { items: listed.items.into_iter().map(view).collect(), next: listed.next })
    }

    /// One file, as a stream. The path is looked up among the run's files; it never becomes a path of the server's.
    pub async fn output(
        &self,
        caller: &Caller,
        workspace: &WorkspaceName,
        run: &RunId,
        path: &str,
    ) -> Result<BlobStream> {
        let workspace = self.app.workspace_for(caller, workspace, Action::RunRead).await?;
        let run = self.app.run_row(&workspace, run).await?;
        let found = self.app.store.output_get(workspace.id, &run.id, path).await?;
        let found = found.ok_or(Error::NotFound("file"))?;
        Ok(self.app.blobs.open(workspace.id, found.blob).await?)
    }
}
