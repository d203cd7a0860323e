//! SQL of tickets. A ticket is bound to the first key that redeems it in time; the same key again gets the same session,
//! another key is theft, whichever came first.

use kluis_core::clock::Timestamp;
use kluis_core::id::{PrincipalId, SessionId, TicketId, WorkspaceId};
use kluis_core::name::RunId;
use kluis_core::run::{RunEvent, RunStatus};
use kluis_core::sealed::LookupHash;
use rusqlite::Connection;

use super::run_row::{self, by_seq};
use super::runs_end::{Sessions, end_children, release};
use super::sql::{self, Fields};
use super::writer::Leaf;
use super::{Unit, identity};
use crate::Error;
use crate::attempts::{Redeemed, SessionOpen, TicketFound, TicketRedeem};

/// A ticket's row with those of its attempt, run and session.
struct Ticket {
    run: i64,
    attempt: u32,
    node: u32,
    nodes: u32,
    void: bool,
    confirmed: Option<Timestamp>,
    status: RunStatus,
    current: u32,
    submitted_by: PrincipalId,
    /// The session it is bound to: its id, its key, whether it is alive.
    bound: Option<(SessionId, [u8; 32], bool)>,
}

pub(crate) fn ticket_find(c: &Connection, hash: LookupHash) -> Result<Option<TicketFound>, Error> {
    sql::one(
        c,
        "SELECT t.id, r.workspace, r.id, t.attempt, t.node, r.status, r.submitted_by, a.confirmed, t.session
         FROM ticket t JOIN attempt a ON a.run = t.run AND a.attempt = t.attempt JOIN run r ON r.seq = t.run
         WHERE t.hash = ?1",
        [hash.0],
        |row| {
            let f = Fields::new(row, "ticket");
            Ok(TicketFound {
                id: f.id(TicketId::from_bytes)?,
                workspace: f.id(WorkspaceId::from_bytes)?,
                run: f.parse(RunId::parse)?,
                attempt: f.number()?,
                node: f.number()?,
                status: f.word(RunStatus::parse)?,
                submitted_by: f.id(PrincipalId::from_bytes)?,
                confirmed: f.optional_time()?,
                session: f.optional_id(SessionId::from_bytes)?,
            })
        },
    )
}

fn find(c: &Connection, redeem: &TicketRedeem) -> Result<Option<Ticket>, Error> {
    sql::one(
        c,
        "SELECT t.id, t.run, t.attempt, t.node, a.nodes, t.void, a.confirmed, r.status, r.attempt, r.submitted_by,
                s.id, s.public_key, s.alive
         FROM ticket t JOIN attempt a ON a.run = t.run AND a.attempt = t.attempt JOIN run r ON r.seq = t.run
         LEFT JOIN session s ON s.id = t.session
         WHERE t.hash = ?1 AND r.workspace = ?2 AND r.id_key = ?3 AND t.attempt = ?4",
        (redeem.hash.0, redeem.workspace.as_bytes(), redeem.run.key(), redeem.attempt),
        |row| {
            let f = Fields::new(row, "ticket");
            f.skip();
            Ok(Ticket {
                run: f.get()?,
                attempt: f.number()?,
                node: f.number()?,
                nodes: f.number()?,
                void: f.flag()?,
                confirmed: f.optional_time()?,
                status: f.word(RunStatus::parse)?,
                current: f.number()?,
                submitted_by: f.id(PrincipalId::from_bytes)?,
                bound: match (f.optional_id(SessionId::from_bytes)?, f.get()?, f.get::<Option<i64>>()?) {
                    (Some(id), Some(key), Some(alive)) => Some((id, key, alive == 1)),
                    (None, None, None) => None,
                    _ => return Err(f.wrong()),
                },
            })
        },
    )
}

pub(crate) fn ticket_redeem(unit: &Unit<'_>, redeem: TicketRedeem) -> Result<Redeemed, Error> {
    let outcome = present(unit, &redeem)?;
    match outcome {
        Redeemed::Opened(_) => {}
        Redeemed::Theft => unit.record_instead(redeem.theft.iter().map(Leaf::new).collect()),
        _ => unit.record_instead(Vec::new()),
    }
    Ok(outcome)
}

fn present(unit: &Unit<'_>, redeem: &TicketRedeem) -> Result<Redeemed, Error> {
    let Some(ticket) = find(unit, redeem)? else { return Ok(Redeemed::Refused { status: None }) };
    let refused = Ok(Redeemed::Refused { status: Some(ticket.status) });
    match ticket.bound {
        Some((session, key, alive)) if key == redeem.public_key => {
            if alive && ticket.current == ticket.attempt {
                opened(unit, &ticket, session).map(Redeemed::Again)
            } else {
                refused
            }
        }
        Some(_) => theft(unit, &ticket, redeem.now),
        None => {
            let next = ticket.status.advance(RunEvent::Redeemed);
            let Ok(status) = next else { return refused };
            if ticket.void || ticket.current != ticket.attempt {
                return refused;
            }
            match ticket.confirmed {
                None => Ok(Redeemed::NotConfirmed),
                Some(confirmed) if redeem.now > confirmed.plus(redeem.window) => Ok(Redeemed::Expired),
                Some(_) if !identity::may_submit(unit, ticket.submitted_by, redeem.workspace)? => {
                    Ok(Redeemed::NotAllowed)
                }
                Some(_) => open(unit, &ticket, redeem, status).map(Redeemed::Opened),
            }
        }
    }
}

fn open(unit: &Unit<'_>, ticket: &Ticket, redeem: &TicketRedeem, status: RunStatus) -> Result<Box<SessionOpen>, Error> {
    sql::run(
        unit,
        "INSERT INTO session (id, run, attempt, node, public_key, host, alive, opened, reads_received)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?7, 0)",
        (
            redeem.session.as_bytes(),
            ticket.run,
            ticket.attempt,
            ticket.node,
            redeem.public_key,
            &redeem.host,
            redeem.now.millis(),
        ),
    )?;
    sql::run(
        unit,
        "UPDATE ticket SET session = ?2 WHERE hash = ?1 AND session IS NULL",
        (redeem.hash.0, redeem.session.as_bytes()),
    )?;
    sql::run(
        unit,
        "UPDATE run SET status = ?2, started = coalesce(started, ?3), last_contact = ?3, silent_since = ?3,
                        phase = 'fetching the snapshot', revision = revision + 1
         WHERE seq = ?1",
        (ticket.run, status.as_str(), redeem.now.millis()),
    )?;
    let open = opened(unit, ticket, redeem.session)?;
    run_row::tell(unit, &open.run);
    Ok(open)
}

fn opened(unit: &Unit<'_>, ticket: &Ticket, session: SessionId) -> Result<Box<SessionOpen>, Error> {
    let leased = run_row::with_workspace(unit, by_seq(unit, ticket.run)?)?;
    Ok(Box::new(SessionOpen {
        session,
        node: ticket.node,
        nodes: ticket.nodes,
        run: leased.run,
        workspace_name: leased.workspace_name,
    }))
}

/// Nothing of the run is trusted any more, whether it runs, waits for its next attempt or has ended.
fn theft(unit: &Unit<'_>, ticket: &Ticket, now: Timestamp) -> Result<Redeemed, Error> {
    let status = ticket.status.advance(RunEvent::Theft)?;
    release(unit, ticket.run, Sessions::Kill)?;
    sql::run(
        unit,
        "UPDATE run SET status = ?2, ended = coalesce(ended, ?3), phase = 'ended',
                        reason = 'its ticket was presented with two keys', notices = notices + 1,
                        revision = revision + 1
         WHERE seq = ?1",
        (ticket.run, status.as_str(), now.millis()),
    )?;
    end_children(unit, ticket.run, RunEvent::Theft, now)?;
    run_row::tell(unit, &by_seq(unit, ticket.run)?);
    Ok(Redeemed::Theft)
}
