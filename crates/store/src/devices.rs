//! Logins that are waiting for a person: a program that can ask nobody shows a short code, and somebody who is signed in
//! approves it elsewhere. A row that is approved grants a login, so it carries a MAC over what was decided and by whom.

use kluis_core::clock::Timestamp;
use kluis_core::id::{DeviceId, PrincipalId, TokenId};
use kluis_core::sealed::{Canonical, LookupHash};

use crate::identity::TokenRow;
use crate::sqlite::devices as sqlite;
use crate::{Authenticated, Error, Store, Write};

/// A login that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// Its id.
    pub id: DeviceId,
    /// Under what the code of the program that waits is looked up.
    pub hash: LookupHash,
    /// Under what the short code is looked up that a person types.
    pub user_hash: LookupHash,
    /// For a client of an Azure face: what its token is to be good for. `None`: a login of our own.
    pub audience: Option<String>,
    /// What the program says it is.
    pub label: String,
    /// Where it asks from.
    pub source: String,
    /// When it asked.
    pub created: Timestamp,
    /// When both codes die.
    pub expires: Timestamp,
    /// What was decided.
    pub state: DeviceState,
}

/// What became of a login that waits. It is decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// Nobody has decided.
    Waiting,
    /// Somebody said no.
    Denied,
    /// Somebody said yes: the login will be theirs.
    Approved {
        /// Whose login it will be.
        by: PrincipalId,
        /// The token they said it with: when that is gone, so is the approval.
        with: TokenId,
    },
}

impl DeviceState {
    /// As the store writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Denied => "denied",
            Self::Approved { .. } => "approved",
        }
    }

    fn canonical(self) -> Vec<u8> {
        let state = Canonical::default().text(self.as_str());
        match self {
            Self::Waiting | Self::Denied => state.finish(),
            Self::Approved { by, with } => state.bytes(by.as_bytes()).bytes(with.as_bytes()).finish(),
        }
    }
}

impl DeviceRow {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        Canonical::new("kluis/row/device/1")
            .bytes(self.id.as_bytes())
            .bytes(&self.hash.0)
            .bytes(&self.user_hash.0)
            .optional(self.audience.as_deref().map(str::as_bytes))
            .text(&self.label)
            .text(&self.source)
            .signed(self.created.millis())
            .signed(self.expires.millis())
            .bytes(&self.state.canonical())
            .finish()
    }
}

/// A new login that waits. Strangers make them, so there are only so many.
#[derive(Clone, Debug)]
pub struct DeviceInsert {
    /// The row, waiting.
    pub device: Authenticated<DeviceRow>,
    /// What counts as one source.
    pub network: String,
    /// Now: what has expired does not count.
    pub now: Timestamp,
    /// How many there may be after it.
    pub most: u32,
    /// How many of them from this network.
    pub most_of_network: u32,
}

/// A decision.
#[derive(Clone, Debug)]
pub struct DeviceDecide {
    /// The row as it will be, decided.
    pub device: Authenticated<DeviceRow>,
    /// Now.
    pub now: Timestamp,
}

/// An approved login is taken, once.
#[derive(Clone, Debug)]
pub struct DeviceRedeem {
    /// Which.
    pub device: DeviceId,
    /// Now.
    pub now: Timestamp,
    /// The login, of whoever approved.
    pub token: Authenticated<TokenRow>,
}

impl Store {
    /// A new login that waits. [`Error::Crowded`] when there are too many; [`Error::Conflict`] when one of its codes is
    /// taken.
    pub async fn device_insert(&self, write: Write<DeviceInsert>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::insert).await,
        }
    }

    /// By the code of the program that waits. Expired ones are found too: time is the caller's business.
    pub async fn device_by_hash(&self, hash: LookupHash) -> Result<Option<Authenticated<DeviceRow>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::by_hash(c, hash)).await,
        }
    }

    /// By the code that a person types. Expired ones are found too.
    pub async fn device_by_user_hash(&self, hash: LookupHash) -> Result<Option<Authenticated<DeviceRow>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::by_user_hash(c, hash)).await,
        }
    }

    /// Approves or denies one that waits, once and in time; otherwise [`Error::NotFound`].
    pub async fn device_decide(&self, write: Write<DeviceDecide>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::decide).await,
        }
    }

    /// Turns an approved one into a login, once and in time; otherwise [`Error::NotFound`], also when who approved is
    /// gone or disabled.
    pub async fn device_redeem(&self, write: Write<DeviceRedeem>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::redeem).await,
        }
    }
}
