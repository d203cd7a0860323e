//! Signing in where nobody can type a token: the program shows a short code, and somebody who is signed in elsewhere
//! approves it, as themselves. Both codes live ten minutes; the login is taken once, and only while the token that it was
//! approved with still works, which it never outlives.

use std::net::IpAddr;
use std::time::Duration;

use kluis_core::access::PrincipalKind;
use kluis_core::api::identity::{DeviceFor, DeviceStarted, DeviceView, TokenIssued};
use kluis_core::audit::{AuditAction, AuditRecord};
use kluis_core::clock::Timestamp;
use kluis_core::id::DeviceId;
use kluis_core::plaintext::Plaintext;
use kluis_core::rng::Rng;
use kluis_core::sealed::LookupHash;
use kluis_store::devices::{DeviceDecide, DeviceInsert, DeviceRedeem, DeviceRow, DeviceState};
use kluis_store::identity::TokenRow;
use kluis_store::{Authenticated, Authority, Write};
use kluis_vault::token;

use super::tokens::issued;
use super::{Audience, Identity, check_label};
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::throttle::network;

/// How long both codes live.
const LIFE: Duration = Duration::from_mins(10);
/// How often the program is told to ask.
const INTERVAL: Duration = Duration::from_secs(5);
/// How often it may ask: timers are not that exact.
const SHORTEST: Duration = Duration::from_secs(4);
/// How long a login of a client of an Azure face lives.
const FACE_LOGIN: Duration = Duration::from_hours(12);
/// How many may wait, in all and from one network.
const MOST: u32 = 4096;
const MOST_OF_NETWORK: u32 = 128;
/// Letters that are not taken for others, and that spell no words.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const LETTERS_OF_CODE: usize = 8;
/// Under what purpose a person's code is looked up.
const USER_CODE: &str = "user-code";

/// What is said to a program that asks whether it is signed in.
#[derive(Debug)]
pub enum Polled {
    /// Nobody has decided yet.
    Waiting,
    /// It asks too often.
    TooSoon,
    /// Somebody said no.
    Denied,
    /// The code is too old, was used, or never was.
    Ended,
    /// It is signed in, for this audience if it is a client of an Azure face.
    SignedIn(Box<TokenIssued>, Option<Audience>),
}

impl Identity<'_> {
    /// A program begins to wait. Strangers may.
    pub async fn device_start(
        &self,
        label: &str,
        source: IpAddr,
        audience: Option<&Audience>,
    ) -> Result<DeviceStarted> {
        check_label(label)?;
        let now = self.app.now();
        let minted = self.app.mint(token::Kind::Device);
        let user_code = user_code(&*self.app.rng);
        let row = DeviceRow {
            id: DeviceId::generate(&*self.app.rng),
            hash: minted.hash,
            user_hash: self.user_hash(&user_code),
            audience: audience.map(|audience| audience.as_str().to_owned()),
            label: label.to_owned(),
            source: source.to_string(),
            created: now,
            expires: now.plus(LIFE),
            state: DeviceState::Waiting,
        };
        let expires = row.expires;
        let insert = DeviceInsert {
            device: self.app.authenticated(row, DeviceRow::canonical),
            network: network(source).to_string(),
            now,
            most: MOST,
            most_of_network: MOST_OF_NETWORK,
        };
        // Nothing has happened yet that is worth a record for ever; whoever approves leaves one.
        let write = Write { authority: Authority::server(), audit: Vec::new(), change: insert };
        self.app.store.device_insert(write).await?;
        let device_code = Plaintext::from_text(&minted.text).expect("a code is short");
        let user_code = format!("{}-{}", &user_code[..LETTERS_OF_CODE / 2], &user_code[LETTERS_OF_CODE / 2..]);
        Ok(DeviceStarted { device_code, user_code, expires, interval_seconds: INTERVAL.as_secs() })
    }

    /// The program asks whether it is signed in; `face`: as a client of an Azure face.
    pub async fn device_poll(&self, code: &str, face: bool, source: IpAddr) -> Result<Polled> {
        let hash = self.app.vault.lookup_hash(token::Kind::Device.as_str(), code);
        let found = match token::check(code) {
            Ok(token::Kind::Device) => {
                self.device(self.app.store.device_by_hash(hash).await?, |row| row.hash == hash)?
            }
            _ => None,
        };
        let now = self.app.now();
        let Some(row) = found.filter(|row| row.expires > now && row.audience.is_some() == face) else {
            self.app.throttle.count();
            return Ok(Polled::Ended);
        };
        if self.app.throttle.too_soon(row.id, SHORTEST) {
            return Ok(Polled::TooSoon);
        }
        match row.state {
            DeviceState::Waiting => Ok(Polled::Waiting),
            DeviceState::Denied => Ok(Polled::Denied),
            DeviceState::Approved { .. } => self.device_redeem(&row, now, source).await,
        }
    }

    async fn device_redeem(&self, row: &DeviceRow, now: Timestamp, source: IpAddr) -> Result<Polled> {
        let DeviceState::Approved { by, with } = row.state else { return Ok(Polled::Ended) };
        let known = self.app.known(by).await?;
        // What it was approved with, as it is now: a short login makes no long one.
        let tokens = self.app.store.token_list(by).await?;
        let Some(approver) = tokens.into_iter().find(|token| token.row.id == with) else { return Ok(Polled::Denied) };
        let approver = self.app.verified(approver, TokenRow::canonical, "token", |t| t.id.to_string())?;
        if !known.principal.enabled || approver.expires.is_some_and(|expires| expires <= now) {
            return Ok(Polled::Denied);
        }
        let audience = row.audience.as_deref().map(|audience| self.app.audience(audience));
        let own_end = audience.is_some().then(|| now.plus(FACE_LOGIN));
        let expires = [own_end, approver.expires].into_iter().flatten().min();
        let (minted, token) = self.new_token(&known, &row.label, now, expires);
        let record = AuditRecord {
            principal: Some(by),
            token: Some(with),
            credential: Some(token.row.id),
            subject: Some(by),
            revision: Some(token.row.revision),
            source: Some(source.to_string()),
            ..AuditRecord::new(now, AuditAction::TokenIssued)
        };
        let authority = Authority::principal(by, with, known.principal.epoch);
        let redeem = DeviceRedeem { device: row.id, now, token: token.clone() };
        match self.app.store.device_redeem(Write::new(authority, self.app.vault.audit_entry(record), redeem)).await {
            Ok(()) => Ok(Polled::SignedIn(Box::new(issued(minted, &token.row, &known)), audience.flatten())),
            // Taken by another request a moment ago.
            Err(kluis_store::Error::NotFound) => Ok(Polled::Ended),
            // The rights of who approved have moved: asked again, it is decided on what they are then.
            Err(kluis_store::Error::Stale { .. }) => Ok(Polled::Waiting),
            Err(e) => Err(e.into()),
        }
    }

    /// Who asks behind a code.
    pub async fn device_show(&self, caller: &Caller, user_code: &str) -> Result<DeviceView> {
        people_only(caller)?;
        Ok(view(&self.device_waiting(caller, user_code).await?))
    }

    /// Approves a login, as the caller's own, or denies it.
    pub async fn device_decide(&self, caller: &Caller, user_code: &str, approve: bool) -> Result<DeviceView> {
        people_only(caller)?;
        let mut row = self.device_waiting(caller, user_code).await?;
        let shown = view(&row);
        let now = self.app.now();
        let (state, action) = if approve {
            (DeviceState::Approved { by: caller.id(), with: caller.token.id }, AuditAction::LoginApproved)
        } else {
            (DeviceState::Denied, AuditAction::LoginDenied)
        };
        row.state = state;
        let record = self.app.vault.audit_entry(caller.record(now, action));
        let device = self.app.authenticated(row, DeviceRow::canonical);
        let write = Write::new(caller.authority(), record, DeviceDecide { device, now });
        self.app.store.device_decide(write).await.map_err(|e| Error::from(e).missing(CODE))?;
        Ok(shown)
    }

    /// The login that waits behind a person's code. Wrong ones are slowed down: codes that people type are short.
    async fn device_waiting(&self, caller: &Caller, user_code: &str) -> Result<DeviceRow> {
        let name = format!("user code {}", caller.id());
        self.app.throttle.check(caller.source, &name)?;
        let typed: String = user_code.chars().filter(|c| !matches!(c, '-' | ' ')).take(2 * LETTERS_OF_CODE).collect();
        let hash = self.user_hash(&typed.to_ascii_uppercase());
        let found = self.device(self.app.store.device_by_user_hash(hash).await?, |row| row.user_hash == hash)?;
        let now = self.app.now();
        found.filter(|row| row.expires > now && row.state == DeviceState::Waiting).ok_or_else(|| {
            self.app.throttle.failed(caller.source, &name);
            Error::NotFound(CODE)
        })
    }

    /// A row, if the vault made it and it is the one that was looked for.
    fn device(
        &self,
        found: Option<Authenticated<DeviceRow>>,
        asked: impl FnOnce(&DeviceRow) -> bool,
    ) -> Result<Option<DeviceRow>> {
        let Some(found) = found else { return Ok(None) };
        let row = self.app.verified(found, DeviceRow::canonical, "device", |row| row.id.to_string())?;
        Ok(Some(row).filter(asked))
    }

    fn user_hash(&self, user_code: &str) -> LookupHash {
        self.app.vault.lookup_hash(USER_CODE, user_code)
    }
}

/// What is not found.
const CODE: &str = "login waiting with this code";

/// Programs do not sign in others.
fn people_only(caller: &Caller) -> Result<()> {
    if caller.known.principal.kind == PrincipalKind::User {
        Ok(())
    } else {
        Err(Error::Forbidden("only people approve logins"))
    }
}

fn view(row: &DeviceRow) -> DeviceView {
    let purpose = if row.audience.is_some() { DeviceFor::Azure } else { DeviceFor::Login };
    DeviceView {
        label: row.label.clone(),
        source: row.source.clone(),
        created: row.created,
        expires: row.expires,
        purpose,
    }
}

fn user_code(rng: &dyn Rng) -> String {
    let mut code = String::with_capacity(LETTERS_OF_CODE);
    while code.len() < LETTERS_OF_CODE {
        let mut byte = [0];
        rng.fill(&mut byte);
        // The largest multiple of the number of letters: above it, some would come more often.
        if byte[0] < 240 {
            code.push(char::from(LETTERS[usize::from(byte[0] % 20)]));
        }
    }
    code
}
