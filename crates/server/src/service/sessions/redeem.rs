//! A ticket becomes a session, once. The launcher brings a fresh key and has signed with it; whoever presents the same
//! ticket with another key has stolen it, or it was stolen from them: either way the run is compromised.

use kluis_core::api::runs::SubmitRun;
use kluis_core::api::session::{RunContext, SessionOpened};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::name::WorkspaceName;
use kluis_core::run::RunStatus;
use kluis_core::sealed::LookupHash;
use kluis_store::attempts::{Redeemed, SessionOpen, TicketFound, TicketRedeem};
use kluis_store::runs::RunRow;
use kluis_store::{Authority, Write};
use kluis_vault::{TicketPlace, token};

use super::{Granted, Sessions, ended};
use crate::error::{Error, Result};
use crate::service::attempts::NODES;
use crate::signed::Redeeming;

/// The longest host name, in bytes.
const MAX_HOST: usize = 255;

impl Sessions<'_> {
    /// Redeems a ticket. Refusals are definite, but for one: [`Error::TicketNotConfirmed`] passes by itself.
    pub async fn redeem(&self, redeeming: Redeeming) -> Result<SessionOpened> {
        let Redeeming { body, public_key, source } = redeeming;
        if body.host.len() > MAX_HOST || body.host.chars().any(char::is_control) {
            return Err(Error::bad_request("`host` is longer than 255 bytes or holds a control character"));
        }
        let text = body.ticket.expose();
        if token::check(text) != Ok(token::Kind::Ticket) {
            return Err(self.unknown());
        }
        // A ticket is good for the attempt it was made for and for no other: its hash covers what the launcher names.
        let named = self.app.workspace_named(&body.attempt.workspace).await?;
        let Some(workspace) = named else { return Err(self.unknown()) };
        let run = self.app.store.run_get(workspace.id, &body.attempt.run).await?;
        let Some(run) = run else { return Err(self.unknown()) };
        let attempt = body.attempt.attempt;
        let Some((hash, found)) = self.ticket(&run, attempt, text).await? else { return Err(self.unknown()) };
        let spec = self.app.submitted(&run)?;
        // One that is bound already is presented all the same: theft must be heard.
        if found.session.is_none() && !self.app.may_submit(&run).await? {
            return Err(not_allowed());
        }

        let now = self.app.now();
        let session = self.app.session_id(&Granted {
            workspace: run.workspace,
            run: &run.id,
            attempt,
            node: found.node,
            public_key: &public_key,
            submitter: run.submitted_by,
            secrets: spec.secrets.as_deref(),
        });
        let record = |action| AuditRecord {
            principal: Some(run.submitted_by),
            workspace: Some(run.workspace),
            run: Some(run.id.clone()),
            attempt: Some(attempt),
            node: Some(found.node),
            source: Some(source.to_string()),
            ..AuditRecord::new(now, action)
        };
        let redeemed = AuditRecord { session: Some(session), ..record(AuditAction::TicketRedeemed) };
        let theft = AuditRecord { session: found.session, ..record(AuditAction::TicketTheft) };
        let change = TicketRedeem {
            hash,
            workspace: run.workspace,
            run: run.id.clone(),
            attempt,
            public_key,
            host: body.host,
            session,
            now,
            window: self.window(&found),
            theft: self.app.entries([theft]),
        };
        let write = Write::new(Authority::server(), self.app.vault.audit_entry(redeemed), change);
        match self.app.store.ticket_redeem(write).await? {
            Redeemed::Opened(open) | Redeemed::Again(open) => Ok(self.opened(*open, workspace.name, spec)),
            Redeemed::Theft => {
                tracing::error!(run = %run.id, attempt, %source, "a ticket came with a second key");
                Err(Error::Compromised)
            }
            Redeemed::NotAllowed => Err(not_allowed()),
            Redeemed::NotConfirmed => Err(Error::TicketNotConfirmed),
            Redeemed::Expired => Err(Error::TicketRefused("it was not redeemed in time after its job had started")),
            Redeemed::Refused { status: Some(status) } if status.is_terminal() => Err(ended(status)),
            Redeemed::Refused { status: Some(RunStatus::Queued) } => {
                Err(Error::TicketRefused("the run waits for another attempt, and this ticket is void"))
            }
            Redeemed::Refused { status: Some(_) } => Err(Error::TicketRefused("another lease has made it void")),
            Redeemed::Refused { status: None } => Err(self.unknown()),
        }
    }

    /// One answer for every ticket that is none, so that guessing tells nothing; and it is counted. It slows nobody down:
    /// a ticket has 256 random bits, and a hostile job must not keep the other launchers of its node from redeeming.
    fn unknown(self) -> Error {
        self.app.throttle.count();
        Error::TicketRefused("there is no such ticket for this attempt")
    }

    /// How long after its confirmation the ticket works: the time in which the server could not listen is added, as the
    /// watch over unredeemed tickets does.
    fn window(self, found: &TicketFound) -> std::time::Duration {
        let since = self.app.listening.since();
        let away = found.confirmed.map(|confirmed| since.since(confirmed)).unwrap_or_default();
        self.app.settings.ticket + away
    }

    /// What the launcher is told: what was submitted, as it was verified before the ticket was presented.
    fn opened(self, open: SessionOpen, workspace: WorkspaceName, spec: &SubmitRun) -> SessionOpened {
        let SessionOpen { session, node, nodes, run, .. } = open;
        let SubmitRun { program, snapshot, secrets, secret_env, secret_files, environment, python, resources, .. } =
            spec.clone();
        let context = RunContext {
            workspace,
            experiment: run.experiment,
            run: run.id,
            number: run.number,
            attempt: run.attempt,
            node,
            nodes,
            submitted_by: run.submitted_by,
            submitter: run.submitter,
            program,
            snapshot,
            secrets,
            secret_env,
            secret_files,
            environment,
            python,
            resources,
            tags: run.tags,
        };
        SessionOpened {
            session,
            context,
            now: self.app.now(),
            cache_without_contact_seconds: self.app.settings.cache_without_contact.as_secs(),
        }
    }

    /// The ticket's row, if this is a ticket of this attempt. Which node it is for, only its hash says.
    async fn ticket(self, run: &RunRow, attempt: u32, ticket: &str) -> Result<Option<(LookupHash, TicketFound)>> {
        for node in 0..NODES {
            let place = TicketPlace { workspace: run.workspace, run: &run.id, attempt, node };
            let hash = self.app.vault.ticket_hash(place, ticket);
            let fits =
                |t: &TicketFound| (t.workspace, &t.run, t.attempt, t.node) == (run.workspace, &run.id, attempt, node);
            if let Some(found) = self.app.store.ticket_find(hash).await?.filter(fits) {
                return Ok(Some((hash, found)));
            }
        }
        Ok(None)
    }
}

fn not_allowed() -> Error {
    Error::TicketRefused("the run's submitter may not submit runs in its workspace any more")
}
