//! After the user's process: outputs, what is left of log and metrics, and the report of the end.

use std::time::Duration;

use kluis_core::api::code;
use kluis_core::api::session::{EndRun, Heartbeat};
use tokio::task::JoinHandle;

use crate::LaunchError;
use crate::broker::shortened;
use crate::collected::collect;
use crate::ending::Ending;
use crate::retry;
use crate::run::Attempt;

/// How long a server that is away is waited for with the end of a run: as long as a silent run is not lost.
const PATIENCE: Duration = Duration::from_hours(24);
/// How long a server without room holds up the end of a run.
const FULL_PATIENCE: Duration = Duration::from_mins(2);

/// Uploads, reports, and lets the session die.
pub(crate) async fn finish(attempt: &Attempt, ending: Ending, senders: [JoinHandle<()>; 2]) -> Result<(), LaunchError> {
    let all = async {
        attempt.phase.set("uploading outputs");
        for folder in ["outputs", "logs"] {
            collect(attempt, folder).await;
        }
        let desk = &attempt.desk;
        let [logs, metrics] = senders;
        desk.metrics.close();
        drain(metrics, || desk.metrics.is_stuck()).await;
        let refused = desk.metrics.refused();
        if refused > 0 {
            desk.logs.system(&format!("{refused} metrics were refused by the server"));
        }
        desk.logs.close();
        drain(logs, || desk.logs.is_stuck()).await;
        report(attempt, ending).await
    };
    match tokio::time::timeout(PATIENCE, all).await {
        Ok(reported) => reported,
        Err(_elapsed) => Err(LaunchError::Unreported("the server did not come back within a day".to_owned())),
    }
}

/// Waits until everything is sent, as long as something of it may still get through.
async fn drain(mut sender: JoinHandle<()>, is_stuck: impl Fn() -> bool) {
    while tokio::time::timeout(FULL_PATIENCE, &mut sender).await.is_err() {
        if is_stuck() {
            sender.abort();
            return;
        }
    }
}

async fn report(attempt: &Attempt, ending: Ending) -> Result<(), LaunchError> {
    let desk = &attempt.desk;
    let failed = |error: kluis_client::Error| LaunchError::Unreported(error.to_string());
    // More deliveries than fit in one report go ahead of it.
    while desk.secrets.deliveries.has_more_than_one_report() {
        let heartbeat = Heartbeat { reads: desk.secrets.deliveries.unreported(), ..Heartbeat::default() };
        let answer = retry::persist(|| desk.session.heartbeat(&heartbeat)).await.map_err(failed)?;
        desk.secrets.deliveries.reported(answer.reads_received);
    }
    let end = EndRun {
        exit: ending.exit,
        blame: ending.blame,
        reason: ending.reason.map(|reason| shortened(desk.masking.text(&reason))),
        reads: desk.secrets.deliveries.unreported(),
        leaks: desk.masking.leaks(),
    };
    // A conflict here is two changes of the run at one moment.
    loop {
        match retry::persist(|| desk.session.end(&end)).await {
            Err(error) if error.code() == Some(code::CONFLICT) => tokio::time::sleep(Duration::from_secs(1)).await,
            outcome => return outcome.map_err(failed),
        }
    }
}
