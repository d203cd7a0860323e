//! The usual stage: a workspace with a submitter and two secrets, a compute target with its agent.

use serde_json::{Value, json};

use super::launcher::Launcher;
use crate::world::{Answer, CANARY, World, text};

/// One world, and the people that a run needs.
pub(crate) struct Stage {
    pub(crate) world: World,
    /// A contributor of `team`.
    pub(crate) ada: String,
    /// Serves `cluster`.
    pub(crate) agent: String,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::over(World::new().await).await
    }

    /// The same, over a disk that counts as full.
    pub(crate) async fn full() -> Self {
        Self::over(World::with(|options| options.settings.blobs.least_free_percent = 100).await).await
    }

    /// The same, with so many bytes for each workspace's blobs.
    pub(crate) async fn quota(bytes: u64) -> Self {
        Self::over(World::with(|options| options.settings.blobs.quota_bytes = bytes).await).await
    }

    /// The same, over any world.
    pub(crate) async fn over(world: World) -> Self {
        world.workspace("team").await;
        world.post("/computes", &world.owner, json!({ "name": "cluster" })).await.ok();
        let ada = world.user("ada", Some(("team", "contributor"))).await;
        let agent = world.agent("agent", "cluster").await;
        let stage = Self { world, ada, agent };
        stage.set("db-password", CANARY).await;
        stage.set("hub-token", "hub").await;
        stage
    }

    pub(crate) async fn set(&self, name: &str, value: &str) -> Value {
        self.world
            .put(&format!("/workspaces/team/secrets/{name}"), &self.world.owner, json!({ "value": value }))
            .await
            .ok()
    }

    /// Submits as Ada.
    pub(crate) async fn submit(&self, more: Value) -> Answer {
        self.world.post("/workspaces/team/runs", &self.ada, spec(more)).await
    }

    /// Submits as Ada; the run's id.
    pub(crate) async fn run(&self, more: Value) -> String {
        text(&self.submit(more).await.ok()["id"])
    }

    /// The agent asks once.
    pub(crate) async fn lease(&self) -> Value {
        let asked = json!({ "compute": "cluster" });
        self.world.post("/agent/leases", &self.agent, asked).await.ok()["lease"].clone()
    }

    pub(crate) async fn confirm(&self, lease: &Value) -> Answer {
        let confirm = json!({ "attempt": lease["attempt"], "handle": "h1", "engine_job": "process 1" });
        self.world.post("/agent/confirm", &self.agent, confirm).await
    }

    pub(crate) async fn report(&self, lease: &Value, event: &str) -> Answer {
        let report = json!({ "attempt": lease["attempt"], "event": event, "reason": "" });
        self.world.post("/agent/report", &self.agent, report).await
    }

    /// A run that is running, and its launcher.
    pub(crate) async fn running(&self, more: Value) -> (String, Launcher) {
        let run = self.run(more).await;
        let lease = self.lease().await;
        self.confirm(&lease).await.ok();
        let mut launcher = Launcher::new(1);
        launcher.redeem(&self.world, &lease).await.ok();
        (run, launcher)
    }

    pub(crate) async fn show(&self, run: &str) -> Value {
        self.world.get(&format!("/workspaces/team/runs/{run}"), &self.ada).await.ok()
    }

    pub(crate) async fn status(&self, run: &str) -> String {
        text(&self.show(run).await["status"])
    }

    pub(crate) async fn cancel(&self, run: &str) -> Answer {
        self.world.call("POST", &format!("/workspaces/team/runs/{run}/cancel"), Some(&self.ada), None).await
    }

    /// One look of the watch, by a server that has listened all the time.
    pub(crate) async fn sweep(&self) {
        self.world.app.attempts().sweep(crate::world::START).await.unwrap();
    }

    /// The run's log as bytes.
    pub(crate) async fn log(&self, run: &str, query: &str) -> Vec<u8> {
        let answer = self.world.get(&format!("/workspaces/team/runs/{run}/logs{query}"), &self.ada).await;
        assert!(answer.status.is_success(), "{}", answer.text());
        bytes_of(&answer.body)
    }

    /// The audit records of a run, newest last.
    pub(crate) async fn audit(&self, run: &str) -> Vec<Value> {
        let path = format!("/workspaces/team/audit?run={run}");
        let page = self.world.get(&path, &self.world.owner).await.ok();
        page["items"].as_array().unwrap().clone()
    }

    /// Their actions.
    pub(crate) async fn actions(&self, run: &str) -> Vec<String> {
        self.audit(run).await.iter().map(|r| text(&r["action"])).collect()
    }
}

/// The data of JSON lines.
pub(crate) fn bytes_of(lines: &[u8]) -> Vec<u8> {
    let records = lines.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let data = |line: &[u8]| {
        let record: Value = serde_json::from_slice(line).expect("each line is a record");
        data_encoding::BASE64.decode(text(&record["data"]).as_bytes()).unwrap()
    };
    records.flat_map(data).collect()
}

/// A submission to `cluster`, with changes.
pub(crate) fn spec(more: Value) -> Value {
    let mut spec = json!({
        "experiment": "churn",
        "program": { "command": { "argv": ["python", "train.py"] } },
        "compute": "cluster",
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}
