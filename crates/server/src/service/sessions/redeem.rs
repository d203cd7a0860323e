//! A ticket becomes a session, once. The launcher brings a fresh key and has signed with it; whoever presents the same
//! ticket with another key has stolen it, or it was stolen from them: either way the run is compromised.

use kluis_core::api::session::{RunContext, SessionOpened};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::run::RunStatus;
use kluis_store::attempts::{Redeemed, SessionOpen, TicketFound, TicketRedeem};
use kluis_store::{Authority, Write};
use kluis_vault::token;

use super::{Granted, Sessions, ended};
use crate::error::{Error, Result};
use crate::signed::Redeeming;

/// The longest host name, in bytes.
const MAX_HOST: usize = 255;

impl Sessions<'_> {
    /// Redeems a ticket. Refusals are definite, but for one: [`Error::TicketNotConfirmed`] passes by itself.
    pub async fn redeem(&self, redeeming: Redeeming) -> Result<SessionOpened> {
        let Redeeming { body, public_key, source } = redeeming;
        self.app.throttle.check(source, None)?;
        if body.host.len() > MAX_HOST || body.host.chars().any(char::is_control) {
            return Err(Error::bad_request("`host` is longer than 255 bytes or holds a control character"));
        }
        let text = body.ticket.expose();
        let hash = match token::check(text) {
            Ok(token::Kind::Ticket) => self.app.vault.lookup_hash(token::Kind::Ticket.as_str(), text),
            _ => return Err(self.unknown(source)),
        };
        // A ticket is good for the attempt it was made for and for no other.
        let named = self.app.store.workspace_by_name(&body.attempt.workspace).await?.map(|w| w.id);
        let found = self.app.store.ticket_find(hash).await?.filter(|found| {
            Some(found.workspace) == named && found.run == body.attempt.run && found.attempt == body.attempt.attempt
        });
        let Some(found) = found else { return Err(self.unknown(source)) };

        let now = self.app.now();
        let run = self.app.store.run_get(found.workspace, &found.run).await?.ok_or_else(|| self.unknown(source))?;
        let session = self.app.session_id(&Granted {
            workspace: found.workspace,
            run: &found.run,
            attempt: found.attempt,
            node: found.node,
            public_key: &public_key,
            submitter: run.submitted_by,
            secrets: run.spec.as_ref().and_then(|spec| spec.secrets.as_deref()),
        });
        let record = |action| AuditRecord {
            principal: Some(found.submitted_by),
            workspace: Some(found.workspace),
            run: Some(found.run.clone()),
            attempt: Some(found.attempt),
            node: Some(found.node),
            source: Some(source.to_string()),
            ..AuditRecord::new(now, action)
        };
        let redeemed = AuditRecord { session: Some(session), ..record(AuditAction::TicketRedeemed) };
        let theft = AuditRecord { session: found.session, ..record(AuditAction::TicketTheft) };
        let change = TicketRedeem {
            hash,
            workspace: found.workspace,
            run: found.run.clone(),
            attempt: found.attempt,
            public_key,
            host: body.host,
            session,
            now,
            window: self.window(&found),
            theft: self.app.entries([theft]),
        };
        let write = Write::new(Authority::server(), self.app.vault.audit_entry(redeemed), change);
        match self.app.store.ticket_redeem(write).await? {
            Redeemed::Opened(open) | Redeemed::Again(open) => self.opened(*open),
            Redeemed::Theft { .. } => {
                tracing::error!(run = %found.run, attempt = found.attempt, %source, "a ticket came with a second key");
                Err(Error::Compromised)
            }
            Redeemed::NotConfirmed => Err(Error::TicketNotConfirmed),
            Redeemed::Expired => Err(Error::TicketRefused("it was not redeemed in time after its job had started")),
            Redeemed::Refused { status: Some(status) } if status.is_terminal() => Err(ended(status)),
            Redeemed::Refused { status: Some(RunStatus::Queued) } => {
                Err(Error::TicketRefused("the run waits for another attempt, and this ticket is void"))
            }
            Redeemed::Refused { status: Some(_) } => Err(Error::TicketRefused("another lease has made it void")),
            Redeemed::Refused { status: None } => Err(self.unknown(source)),
        }
    }

    /// One answer for every ticket that is none, so that guessing tells nothing; and it is counted.
    fn unknown(self, source: std::net::IpAddr) -> Error {
        self.app.throttle.failed(source, None);
        Error::TicketRefused("there is no such ticket for this attempt")
    }

    /// How long after its confirmation the ticket works: the time in which the server could not listen is added.
    fn window(self, found: &TicketFound) -> std::time::Duration {
        let away = found.confirmed.map(|confirmed| self.app.listening.since().since(confirmed)).unwrap_or_default();
        self.app.settings.ticket + away
    }

    fn opened(self, open: SessionOpen) -> Result<SessionOpened> {
        let SessionOpen { session, node, nodes, run, workspace_name } = open;
        let spec = run.spec.ok_or_else(|| Error::Inconsistent { table: "run", row: run.seq.to_string() })?;
        let context = RunContext {
            workspace: workspace_name,
            experiment: run.experiment,
            run: run.id,
            number: run.number,
            attempt: run.attempt,
            node,
            nodes,
            submitted_by: run.submitted_by,
            submitter: run.submitter,
            program: spec.program,
            snapshot: spec.snapshot,
            secrets: spec.secrets,
            secret_env: spec.secret_env,
            secret_files: spec.secret_files,
            environment: spec.environment,
            python: spec.python,
            resources: spec.resources,
            tags: run.tags,
        };
        Ok(SessionOpened {
            session,
            context,
            now: self.app.now(),
            cache_without_contact_seconds: self.app.settings.cache_without_contact.as_secs(),
        })
    }
}
