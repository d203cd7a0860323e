//! The audit log, and what is public.

use std::time::Duration;

use kluis_core::api::audit::{AuditPage, AuditQuery};
use kluis_core::audit::SignedCheckpoint;
use kluis_core::name::WorkspaceName;

use crate::client::Client;
use crate::error::Error;
use crate::http::{Call, TIMEOUT};

impl Client {
    /// The installation's audit log.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, Error> {
        audit_call(self.get("read the audit log", &["audit"]), query).json().await
    }

    /// A workspace's part of it.
    pub async fn workspace_audit(&self, workspace: &WorkspaceName, query: &AuditQuery) -> Result<AuditPage, Error> {
        let path = ["workspaces", workspace.as_str(), "audit"];
        audit_call(self.get("read the workspace's audit log", &path), query).json().await
    }

    /// The newest signed checkpoint of the audit log: remember it, and a rollback shows.
    pub async fn audit_checkpoint(&self) -> Result<SignedCheckpoint, Error> {
        self.get("read the audit checkpoint", &["audit", "checkpoint"]).json().await
    }

    /// Whether the server is there and ready. Public.
    pub async fn health(&self) -> Result<(), Error> {
        self.get("ask for the server's health", &["health"]).once().done().await
    }

    /// The installation's CA certificate, PEM. Public.
    pub async fn ca(&self) -> Result<String, Error> {
        self.text("read the CA certificate", &["ca"]).await
    }

    /// The native API's description. Public.
    pub async fn openapi(&self) -> Result<String, Error> {
        self.text("read the API description", &["openapi.json"]).await
    }

    async fn text(&self, action: &'static str, path: &[&str]) -> Result<String, Error> {
        let response = self.get(action, path).send().await?;
        let body = response.bytes().await.map_err(|error| self.transport().failure(action, &error))?;
        String::from_utf8(body.into()).map_err(|error| Error::Answer {
            action,
            origin: self.server().origin.clone(),
            reason: format!("not text at byte {}", error.utf8_error().valid_up_to()),
        })
    }
}

fn audit_call<'c>(call: Call<'c>, query: &AuditQuery) -> Call<'c> {
    let wait = Duration::from_secs(u64::from(query.wait_seconds.unwrap_or(0)));
    call.patience(Some(TIMEOUT + wait)).query(query)
}
