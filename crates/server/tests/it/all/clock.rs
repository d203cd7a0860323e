//! The wall clock jumps: somebody sets it, a machine sleeps, a virtual one is moved. What is alive stays alive, what is
//! over stays over once that was noticed, and nothing is destroyed. Timers do not jump, so the watch sees it.

use std::time::Duration;

use kluis_core::clock::Timestamp;
use kluis_server::service::attempts::watch;
use serde_json::json;

use crate::session::launcher::Launcher;
use crate::session::stage::Stage;
use crate::world::{START, refused, text};

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// How often the watch looks.
const ROUND: Duration = Duration::from_secs(5);

/// A stage under watch, as in a running server. Timers move only when the test moves them.
struct Watched {
    stage: Stage,
    /// While it is there, waiting for the store moves no timer.
    _still: std::sync::mpsc::Sender<()>,
}

impl Watched {
    async fn new() -> Self {
        let (still, wait) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || wait.recv());
        let stage = Stage::new().await;
        let app = stage.world.app.clone();
        tokio::spawn(async move {
            let stopping = app.stopping.clone();
            Box::pin(stopping.run_until_cancelled_owned(watch(&app))).await;
        });
        tokio::task::yield_now().await;
        Self { stage, _still: still }
    }

    /// Time passes evenly, by clock and timers.
    async fn pass(&self, time: Duration) {
        self.pass_in(time, ROUND).await;
    }

    /// The same, with fewer looks of the watch.
    async fn pass_in(&self, time: Duration, step: Duration) {
        for _ in 0..time.as_secs() / step.as_secs() {
            self.stage.world.advance(step);
            self.look(step).await;
        }
    }

    /// The clock is set; the watch has looked once since then.
    async fn jump(&self, to: Timestamp) {
        self.stage.world.clock.set(to);
        self.look(ROUND).await;
    }

    /// A round of the watch.
    async fn look(&self, timers: Duration) {
        tokio::time::advance(timers).await;
        for _ in 0..8 {
            self.stage.world.get("/whoami", &self.stage.ada).await.ok();
        }
    }

    /// Waits for what the watch is about to do.
    async fn until(&self, what: &str, mut done: impl AsyncFnMut() -> bool) {
        for _ in 0..1000 {
            if done().await {
                return;
            }
            // The store works in a thread of its own.
            std::thread::sleep(Duration::from_millis(2));
            tokio::task::yield_now().await;
        }
        panic!("never: {what}");
    }

    async fn becomes(&self, run: &str, status: &str) {
        self.until(status, async || self.stage.status(run).await == status).await;
    }

    fn now(&self) -> Timestamp {
        self.stage.world.app.now()
    }

    /// A run whose ticket works, not redeemed yet.
    async fn confirmed(&self) -> (String, serde_json::Value) {
        let run = self.stage.run(json!({})).await;
        let lease = self.stage.lease().await;
        self.stage.confirm(&lease).await.ok();
        (run, lease)
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_run_survives_every_jump() {
    let watched = Watched::new().await;
    let stage = &watched.stage;
    let (run, launcher) = stage.running(json!({})).await;
    for to in [START.plus(100 * DAY), START, START.plus(400 * DAY), Timestamp::from_seconds(0), START.plus(HOUR)] {
        watched.jump(to).await;
        assert_eq!(stage.status(&run).await, "running", "at {to}");
        launcher.beat(&stage.world).await.ok();
        launcher.read(&stage.world, &["db-password"]).await.ok();
    }
    // Silence counts from the jump on.
    watched.jump(START.plus(30 * DAY)).await;
    watched.pass(Duration::from_secs(85)).await;
    assert_eq!(stage.status(&run).await, "running");
    watched.pass(Duration::from_secs(10)).await;
    watched.becomes(&run, "unresponsive").await;
    watched.jump(START.plus(90 * DAY)).await;
    assert_eq!(stage.status(&run).await, "unresponsive", "lost only after a day that really passed");
    refused(&launcher.read(&stage.world, &["db-password"]).await, 409, "run_unresponsive");
    launcher.beat(&stage.world).await.ok();
    launcher.read(&stage.world, &["db-password"]).await.ok();
}

#[tokio::test(start_paused = true)]
async fn a_lease_and_a_ticket_survive_a_jump_ahead_and_end_in_their_time_after_it() {
    let watched = Watched::new().await;
    let stage = &watched.stage;
    let leased = stage.run(json!({})).await;
    let lease = stage.lease().await;
    let (confirmed, ticket) = watched.confirmed().await;
    let (late, late_ticket) = watched.confirmed().await;
    watched.jump(START.plus(DAY)).await;
    assert_eq!(stage.status(&leased).await, "starting", "the lease stands");
    assert_eq!(stage.status(&confirmed).await, "starting", "the ticket stands");
    watched.pass(Duration::from_secs(30)).await;
    stage.confirm(&lease).await.ok();
    Launcher::new(2).redeem(&stage.world, &ticket).await.ok();
    // The rest of the two minutes, counted from the jump on.
    watched.pass(Duration::from_secs(100)).await;
    watched.becomes(&late, "failed").await;
    refused(&Launcher::new(3).redeem(&stage.world, &late_ticket).await, 409, "run_ended");
    // Over is over, whatever the clock says.
    watched.jump(START).await;
    refused(&Launcher::new(3).redeem(&stage.world, &late_ticket).await, 409, "run_ended");
}

#[tokio::test(start_paused = true)]
async fn a_ticket_survives_a_clock_that_is_set_back() {
    let watched = Watched::new().await;
    let (_, lease) = watched.confirmed().await;
    watched.jump(Timestamp::from_seconds(START.seconds() - 3600)).await;
    Launcher::new(2).redeem(&watched.stage.world, &lease).await.ok();
}

#[tokio::test]
async fn a_login_is_over_while_the_clock_says_so_and_stands_when_it_is_put_right() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let hour = world.post("/tokens", &stage.ada, json!({ "label": "hour", "life_seconds": 3600 })).await.ok();
    let token = text(&hour["token"]);
    let invite = world.post("/invites", &world.owner, json!({ "name": "eve", "kind": "user" })).await.ok();
    let (id, secret) = world.service_principal("ci").await;
    let login = json!({ "client_id": id, "client_secret": secret });
    let client = text(&world.call("POST", "/login/client", None, Some(login)).await.ok()["token"]);
    let redeem = json!({ "code": invite["code"], "label": "x" });
    let expired = [START.plus(HOUR), START.plus(DAY), START.plus(1000 * DAY), Timestamp::from_millis(i64::MAX)];
    for now in expired {
        world.clock.set(now);
        refused(&world.get("/whoami", &token).await, 401, "unauthenticated");
        refused(&world.get("/whoami", &client).await, 401, "unauthenticated");
        if now >= START.plus(DAY) {
            let answer = world.call("POST", "/login/invite", None, Some(redeem.clone())).await;
            refused(&answer, 401, "unauthenticated");
        }
    }
    for now in
        [START, Timestamp::from_seconds(0), Timestamp::from_millis(i64::MIN), START.plus(Duration::from_mins(14))]
    {
        world.clock.set(now);
        world.get("/whoami", &token).await.ok();
        world.get("/whoami", &client).await.ok();
    }
    world.call("POST", "/login/invite", None, Some(redeem)).await.ok();
}

#[tokio::test]
async fn a_request_signed_before_a_jump_is_refused_and_one_signed_after_it_is_not() {
    let stage = Stage::new().await;
    let (_, launcher) = stage.running(json!({})).await;
    let path = "/api/v1/session/heartbeat";
    for to in [START.plus(HOUR), START, Timestamp::from_seconds(0), Timestamp::from_millis(i64::MAX)] {
        let before = stage.world.app.now().millis();
        stage.world.clock.set(to);
        let old = stage.world.send(launcher.sign(before, "POST", path, path, b"{}")).await;
        if before != to.millis() {
            refused(&old, 401, "clock_skew");
        }
        launcher.beat(&stage.world).await.ok();
    }
}

#[tokio::test]
async fn a_time_that_no_clock_shows_is_refused() {
    let stage = Stage::new().await;
    let (_, launcher) = stage.running(json!({})).await;
    let path = "/api/v1/session/heartbeat";
    for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
        let answer = stage.world.send(launcher.sign(time, "POST", path, path, b"{}")).await;
        refused(&answer, 401, "clock_skew");
    }
}

#[tokio::test(start_paused = true)]
async fn no_jump_destroys_a_file() {
    let watched = Watched::new().await;
    let stage = &watched.stage;
    let (run, launcher) = stage.running(json!({})).await;
    let pass = |minutes| watched.pass_in(Duration::from_mins(minutes), Duration::from_secs(30));
    pass(11).await;
    launcher.beat(&stage.world).await.ok();
    launcher.piece(&stage.world, "outputs/model.pkl", 0, true, b"weights").await.ok();
    // What is replaced is kept for an hour, for whoever is still reading it.
    launcher.piece(&stage.world, "outputs/model.pkl", 0, true, b"better weights").await.ok();
    launcher.end(&stage.world, 0).await.ok();
    let files = || count(&stage.world.folder.path().join("data/blobs"));
    let before = files();
    for ahead in [3 * HOUR, 100 * DAY] {
        watched.jump(watched.now().plus(ahead)).await;
        pass(9).await;
        assert_eq!(files(), before);
    }
    let file = format!("/workspaces/team/runs/{run}/outputs/outputs/model.pkl");
    assert_eq!(stage.world.get(&file, &stage.ada).await.body, b"better weights");
    // Once the clock has gone evenly for a while it goes.
    pass(18).await;
    watched.until("the old file is deleted", async || files() < before).await;
    assert_eq!(stage.world.get(&file, &stage.ada).await.body, b"better weights");
}

fn count(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn a_deleted_secret_can_be_recovered_until_its_time_by_the_clock_that_is_right() {
    let stage = Stage::new().await;
    let world = &stage.world;
    world.delete("/workspaces/team/secrets/hub-token", &world.owner).await.ok();
    // Before its deletion, by the clock: nothing of it is due, and the time of its purge does not move.
    world.clock.set(Timestamp::from_seconds(0));
    world.app.secrets().purge_due().await.unwrap();
    let deleted = world.get("/workspaces/team/deleted-secrets", &world.owner).await.ok();
    let purge_at: Timestamp = text(&deleted["items"][0]["purge_at"]).parse().unwrap();
    assert_eq!(purge_at, START.plus(90 * DAY));
    world.clock.set(START.plus(90 * DAY + HOUR));
    world.clock.set(START.plus(DAY));
    world.app.secrets().purge_due().await.unwrap();
    world.call("POST", "/workspaces/team/deleted-secrets/hub-token/recover", Some(&world.owner), None).await.ok();
    assert_eq!(world.get("/workspaces/team/secrets/hub-token", &world.owner).await.ok()["value"], "hub");
}
