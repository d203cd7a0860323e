//! What an agent calls.

use std::time::Duration;

use kluis_core::api::Page;
use kluis_core::api::agents::{AttemptView, AttemptsQuery, ConfirmAttempt, LeaseAnswer, LeaseRequest, ReportAttempt};

use crate::client::Client;
use crate::error::Error;
use crate::http::TIMEOUT;

impl Client {
    /// Asks for work; waits on the server for at most `wait_seconds`. Not repeated: a lost lease returns by itself.
    pub async fn agent_lease(&self, request: &LeaseRequest) -> Result<LeaseAnswer, Error> {
        let patience = TIMEOUT + Duration::from_secs(u64::from(request.wait_seconds));
        self.post("ask for work", &["agent", "leases"]).patience(Some(patience)).body(request).json().await
    }

    /// Says that the engine runs the job, so that its ticket works.
    pub async fn agent_confirm(&self, confirm: &ConfirmAttempt) -> Result<(), Error> {
        self.post("confirm the attempt", &["agent", "confirm"]).body(confirm).repeatable().done().await
    }

    /// Says how an attempt fares on its engine.
    pub async fn agent_report(&self, report: &ReportAttempt) -> Result<(), Error> {
        self.post("report on the attempt", &["agent", "report"]).body(report).repeatable().done().await
    }

    /// The attempts that the server believes to be alive.
    pub async fn agent_attempts(&self, query: &AttemptsQuery) -> Result<Page<AttemptView>, Error> {
        self.get("list attempts", &["agent", "attempts"]).query(query).json().await
    }
}
