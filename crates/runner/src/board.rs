//! What an agent asks of a server: work, and an ear for its reports. The server's client is one, a list in memory another
//! (in tests).

use kluis_client::{Client, Error};
use kluis_core::api::agents::{AttemptView, AttemptsQuery, ConfirmAttempt, Lease, LeaseRequest, ReportAttempt};
use kluis_core::name::ComputeName;

/// Where runs are leased.
pub trait Board: Send + Sync + 'static {
    /// Asks for work; waits for it as long as the request says.
    fn lease(&self, request: &LeaseRequest) -> impl Future<Output = Result<Option<Lease>, Error>> + Send;

    /// Says that the engine runs the job.
    fn confirm(&self, confirm: &ConfirmAttempt) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says how an attempt fares.
    fn report(&self, report: &ReportAttempt) -> impl Future<Output = Result<(), Error>> + Send;

    /// The attempts of a target that are believed to be alive.
    fn attempts(&self, compute: &ComputeName) -> impl Future<Output = Result<Vec<AttemptView>, Error>> + Send;

    /// Where launchers reach the server: address and CA pin.
    fn server(&self) -> (String, String);
}

impl Board for Client {
    async fn lease(&self, request: &LeaseRequest) -> Result<Option<Lease>, Error> {
        Ok(self.agent_lease(request).await?.lease)
    }

    async fn confirm(&self, confirm: &ConfirmAttempt) -> Result<(), Error> {
        self.agent_confirm(confirm).await
    }

    async fn report(&self, report: &ReportAttempt) -> Result<(), Error> {
        self.agent_report(report).await
    }

    async fn attempts(&self, compute: &ComputeName) -> Result<Vec<AttemptView>, Error> {
        let mut all = Vec::new();
        let mut query = AttemptsQuery { compute: compute.clone(), after: None };
        loop {
            let page = self.agent_attempts(&query).await?;
            all.extend(page.items);
            query.after = page.next;
            if query.after.is_none() {
                return Ok(all);
            }
        }
    }

    fn server(&self) -> (String, String) {
        let server = Self::server(self);
        (server.origin.to_string(), server.ca_sha256.to_string())
    }
}
