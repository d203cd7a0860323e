//! Snapshots, experiments and runs.

use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use kluis_core::api::runs::{
    ChangeRun, ExperimentView, LogsQuery, MetricsPage, OutputView, RunSecretView, RunView, RunsQuery, SnapshotStored,
    SubmitRun,
};
use kluis_core::api::{Page, PageQuery};
use kluis_core::id::BlobId;
use kluis_core::name::{RunId, WorkspaceName};

use crate::client::{Client, Download};
use crate::error::Error;
use crate::logs::LogStream;

impl Client {
    /// Uploads a packed tree (see [`crate::snapshot::pack()`]). `progress` hears how many bytes have left so far; after a
    /// lost connection it starts again from 0, once.
    pub async fn snapshot_upload(
        &self,
        workspace: &WorkspaceName,
        packed: &Path,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<SnapshotStored, Error> {
        let progress = Arc::new(progress);
        match self.snapshot_send(workspace, packed, progress.clone()).await {
            Err(error) if error.is_transient() => self.snapshot_send(workspace, packed, progress).await,
            result => result,
        }
    }

    async fn snapshot_send(
        &self,
        workspace: &WorkspaceName,
        packed: &Path,
        progress: Arc<impl Fn(u64) + Send + Sync + 'static>,
    ) -> Result<SnapshotStored, Error> {
        const ACTION: &str = "upload the snapshot";
        let io = |source| Error::Io { action: format!("{ACTION}: reading {}", packed.display()), source };
        let file = tokio::fs::File::open(packed).await.map_err(io)?;
        let length = file.metadata().await.map_err(io)?.len();
        let mut sent = 0;
        let body = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024).inspect_ok(move |chunk| {
            sent += chunk.len() as u64;
            progress(sent);
        });
        self.post(ACTION, &["workspaces", workspace.as_str(), "snapshots"])
            .patience(None)
            .header(CONTENT_TYPE, http::HeaderValue::from_static("application/octet-stream"))
            .header(CONTENT_LENGTH, length)
            .stream(reqwest::Body::wrap_stream(body))
            .json()
            .await
    }

    /// A stored snapshot, packed.
    pub async fn snapshot_download(&self, workspace: &WorkspaceName, snapshot: BlobId) -> Result<Download, Error> {
        let path = ["workspaces", workspace.as_str(), "snapshots", &snapshot.to_string()];
        self.download("download the snapshot", self.get("download the snapshot", &path)).await
    }

    /// A workspace's experiments.
    pub async fn experiments(&self, workspace: &WorkspaceName, page: PageQuery) -> Result<Page<ExperimentView>, Error> {
        self.get("list experiments", &["workspaces", workspace.as_str(), "experiments"]).query(&page).json().await
    }

    /// Submits a run. With an id of the caller's own (`SubmitRun::run`) a lost answer does no harm: the same submission
    /// again is the same run, so it is repeated.
    pub async fn run_submit(&self, workspace: &WorkspaceName, submit: &SubmitRun) -> Result<RunView, Error> {
        let call = self.post("submit the run", &["workspaces", workspace.as_str(), "runs"]).body(submit);
        if submit.run.is_some() { call.repeatable() } else { call }.json().await
    }

    /// Runs, newest first.
    pub async fn runs(&self, workspace: &WorkspaceName, query: &RunsQuery) -> Result<Page<RunView>, Error> {
        self.get("list runs", &["workspaces", workspace.as_str(), "runs"]).query(query).json().await
    }

    /// One run.
    pub async fn run(&self, workspace: &WorkspaceName, run: &RunId) -> Result<RunView, Error> {
        self.get("show the run", &["workspaces", workspace.as_str(), "runs", run.as_str()]).json().await
    }

    /// Tags, properties, display name.
    pub async fn run_change(
        &self,
        workspace: &WorkspaceName,
        run: &RunId,
        change: &ChangeRun,
    ) -> Result<RunView, Error> {
        let path = ["workspaces", workspace.as_str(), "runs", run.as_str()];
        self.patch("change the run", &path).body(change).json().await
    }

    /// Asks for a run's end.
    pub async fn run_cancel(&self, workspace: &WorkspaceName, run: &RunId) -> Result<RunView, Error> {
        let path = ["workspaces", workspace.as_str(), "runs", run.as_str(), "cancel"];
        self.post("cancel the run", &path).repeatable().json().await
    }

    /// A run's log, record by record; with `follow` until the run has ended, through restarts of the server.
    pub async fn run_logs(&self, workspace: &WorkspaceName, run: &RunId, query: LogsQuery) -> Result<LogStream, Error> {
        LogStream::open(self.clone(), workspace.clone(), run.clone(), query).await
    }

    /// A run's metrics, in the order logged.
    pub async fn run_metrics(
        &self,
        workspace: &WorkspaceName,
        run: &RunId,
        page: PageQuery,
    ) -> Result<MetricsPage, Error> {
        let path = ["workspaces", workspace.as_str(), "runs", run.as_str(), "metrics"];
        self.get("read the run's metrics", &path).query(&page).json().await
    }

    /// The secrets that a run was given.
    pub async fn run_secrets(
        &self,
        workspace: &WorkspaceName,
        run: &RunId,
        page: PageQuery,
    ) -> Result<Page<RunSecretView>, Error> {
        let path = ["workspaces", workspace.as_str(), "runs", run.as_str(), "secrets"];
        self.get("list the run's secrets", &path).query(&page).json().await
    }

    /// The files that a run uploaded.
    pub async fn run_outputs(
        &self,
        workspace: &WorkspaceName,
        run: &RunId,
        page: PageQuery,
    ) -> Result<Page<OutputView>, Error> {
        let path = ["workspaces", workspace.as_str(), "runs", run.as_str(), "outputs"];
        self.get("list the run's outputs", &path).query(&page).json().await
    }

    /// One of them, such as `outputs/model.pkl`.
    pub async fn run_output(&self, workspace: &WorkspaceName, run: &RunId, path: &str) -> Result<Download, Error> {
        let mut segments = vec!["workspaces", workspace.as_str(), "runs", run.as_str(), "outputs"];
        segments.extend(path.split('/'));
        self.download("download the output", self.get("download the output", &segments)).await
    }
}
