//! Principals and what they hold: grants, tokens, client secrets, invitations. Every row here grants something, so each
//! comes with its MAC. Whatever takes rights away, or could, moves the principal's epoch in the same unit of work.

use kluis_core::access::{Effect, Epoch, Grant, Principal, PrincipalKind, Role, Scope};
use kluis_core::clock::Timestamp;
use kluis_core::id::{ComputeId, InviteId, PrincipalId, TokenId, WorkspaceId};
use kluis_core::name::PrincipalName;
use kluis_core::sealed::{Canonical, LookupHash};

use crate::sqlite::identity as sqlite;
use crate::{After, Authenticated, Error, Listed, Store, Write};

/// For which faces a token is good.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// The native API.
    Native,
    /// The faces whose clients parse their token as a JWT. It has an end, and an earlier one with its parent.
    Face {
        /// The one resource that it is good for, in its canonical form.
        audience: String,
        /// What it was made from.
        parent: TokenParent,
    },
}

/// What a face's token was made from; it dies with it, in the same unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TokenParent {
    /// Another token of the same principal.
    Token(TokenId),
    /// A client secret of the same principal.
    ClientSecret(TokenId),
}

impl TokenKind {
    /// As the store writes it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Face { .. } => "face",
        }
    }

    /// The one resource that a face's token is good for.
    pub fn audience(&self) -> Option<&str> {
        match self {
            Self::Native => None,
            Self::Face { audience, .. } => Some(audience),
        }
    }

    /// What a face's token was made from.
    pub const fn parent(&self) -> Option<TokenParent> {
        match self {
            Self::Native => None,
            Self::Face { parent, .. } => Some(*parent),
        }
    }
}

impl TokenParent {
    fn canonical(self) -> Vec<u8> {
        let (kind, id) = match self {
            Self::Token(id) => ("token", id),
            Self::ClientSecret(id) => ("client secret", id),
        };
        Canonical::default().text(kind).bytes(id.as_bytes()).finish()
    }
}

/// A token without the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id, for listing and revoking.
    pub id: TokenId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// For which faces.
    pub kind: TokenKind,
    /// What it was made for.
    pub label: String,
    /// Under what it is looked up.
    pub hash: LookupHash,
    /// When it was issued.
    pub created: Timestamp,
    /// When it stops working; `None`: only by revocation.
    pub expires: Option<Timestamp>,
    /// Counts changes of this row, from 1.
    pub revision: u64,
}

impl TokenRow {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        Canonical::new("kluis/row/token/1")
            .bytes(self.id.as_bytes())
            .bytes(self.principal.as_bytes())
            .text(self.kind.as_str())
            .text(&self.label)
            .bytes(&self.hash.0)
            .signed(self.created.millis())
            .optional(self.expires.map(|t| t.millis().to_be_bytes()).as_ref().map(|b| &b[..]))
            .optional(self.kind.audience().map(str::as_bytes))
            .optional(self.kind.parent().map(TokenParent::canonical).as_deref())
            .number(self.revision)
            .finish()
    }
}

/// A new face token, and how many a principal may have.
#[derive(Clone, Debug)]
pub struct FaceTokenInsert {
    /// The token; of the kind [`TokenKind::Face`].
    pub token: Authenticated<TokenRow>,
    /// Now: what has expired does not count.
    pub now: Timestamp,
    /// How many the principal may have after it.
    pub most: u32,
}

/// A service principal's secret, without the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSecretRow {
    /// Its id, for listing and removing.
    pub id: TokenId,
    /// Whose it is.
    pub principal: PrincipalId,
    /// Under what it is looked up.
    pub hash: LookupHash,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working.
    pub expires: Option<Timestamp>,
    /// Counts changes of this row, from 1.
    pub revision: u64,
}

impl ClientSecretRow {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        Canonical::new("kluis/row/client-secret/1")
            .bytes(self.id.as_bytes())
            .bytes(self.principal.as_bytes())
            .bytes(&self.hash.0)
            .signed(self.created.millis())
            .optional(self.expires.map(|t| t.millis().to_be_bytes()).as_ref().map(|b| &b[..]))
            .number(self.revision)
            .finish()
    }
}

/// An invitation, without its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteRow {
    /// Its id.
    pub id: InviteId,
    /// Under what its code is looked up.
    pub hash: LookupHash,
    /// The name of the principal that will be made, or of an existing one that gets another login.
    pub name: PrincipalName,
    /// What will be made.
    pub kind: PrincipalKind,
    /// A workspace to become a member of, with the role.
    pub membership: Option<(WorkspaceId, Role)>,
    /// For an agent: the compute target it will serve.
    pub compute: Option<ComputeId>,
    /// Who invited.
    pub created_by: PrincipalId,
    /// When.
    pub created: Timestamp,
    /// When the code dies.
    pub expires: Timestamp,
}

impl InviteRow {
    /// What the row MAC covers. Whether it was used is left out: a used one can only be refused.
    pub fn canonical(&self) -> Vec<u8> {
        let membership = self
            .membership
            .map(|(workspace, role)| Canonical::default().bytes(workspace.as_bytes()).text(role.as_str()).finish());
        Canonical::new("kluis/row/invite/1")
            .bytes(self.id.as_bytes())
            .bytes(&self.hash.0)
            .text(self.name.as_str())
            .number(self.kind as u64)
            .optional(membership.as_deref())
            .optional(self.compute.as_ref().map(|id| &id.as_bytes()[..]))
            .bytes(self.created_by.as_bytes())
            .signed(self.created.millis())
            .signed(self.expires.millis())
            .finish()
    }
}

/// A principal and everything granted to it, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The principal, with its epoch at that moment.
    pub principal: Authenticated<Principal>,
    /// All its grants.
    pub grants: Vec<Authenticated<Grant>>,
}

/// A token, whose it is and what that principal may do, read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The token.
    pub token: Authenticated<TokenRow>,
    /// Its principal and the principal's grants.
    pub standing: Standing,
}

/// Which grant to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRemove {
    /// From whom.
    pub principal: PrincipalId,
    /// Where.
    pub scope: Scope,
    /// An allowing or a denying one.
    pub effect: Effect,
    /// Its revision.
    pub revision: u64,
}

/// Which token or client secret to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRevoke {
    /// Whose it is.
    pub principal: PrincipalId,
    /// Which.
    pub token: TokenId,
}

/// Who an invitation's login is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invited {
    /// A principal that is made now.
    New(Authenticated<Principal>),
    /// One that exists and is enabled.
    Existing(PrincipalId),
}

/// Using an invitation: once, before it dies.
#[derive(Clone, Debug)]
pub struct InviteRedeem {
    /// The code's lookup hash.
    pub hash: LookupHash,
    /// Now.
    pub now: Timestamp,
    /// For whom.
    pub invited: Invited,
    /// What is granted with it; each is set as by `grant_set`.
    pub grants: Vec<Authenticated<Grant>>,
    /// The login.
    pub token: Authenticated<TokenRow>,
}

/// A new login for the owner, made on the server's machine. All its other tokens die.
#[derive(Clone, Debug)]
pub struct OwnerReset {
    /// The owner, enabled. Its revision is the stored one (unchanged) or the next.
    pub principal: Authenticated<Principal>,
    /// Its grant on the installation, with the stored revision (unchanged) or the next.
    pub grant: Authenticated<Grant>,
    /// The new login.
    pub token: Authenticated<TokenRow>,
}

impl Store {
    /// A new principal, with epoch 1. [`Error::Conflict`] when its name is taken.
    pub async fn principal_insert(&self, write: Write<Authenticated<Principal>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::principal_insert).await,
        }
    }

    /// One principal.
    pub async fn principal_get(&self, id: PrincipalId) -> Result<Option<Authenticated<Principal>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::principal_get(c, id)).await,
        }
    }

    /// One principal, by name.
    pub async fn principal_by_name(&self, name: &PrincipalName) -> Result<Option<Authenticated<Principal>>, Error> {
        let key = name.key().to_owned();
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::principal_by_name(c, &key)).await,
        }
    }

    /// A principal and its grants.
    pub async fn principal_standing(&self, id: PrincipalId) -> Result<Option<Standing>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::standing(c, id)).await,
        }
    }

    /// All principals, by name.
    pub async fn principal_list(&self, page: After<String>) -> Result<Listed<Authenticated<Principal>>, Error> {
        match self {
            Self::Sqlite(s) => s.list(move |c| sqlite::principal_list(c, &page)).await,
        }
    }

    /// The principals that own the installation, enabled or not.
    pub async fn installation_owners(&self) -> Result<Vec<PrincipalId>, Error> {
        match self {
            Self::Sqlite(s) => s.read(sqlite::installation_owners).await,
        }
    }

    /// Changes a principal; the row given is the new one, its revision the stored one plus 1. Moves the epoch and
    /// returns it. [`Error::Revision`]; [`Error::Conflict`] when the installation would have no enabled owner left.
    pub async fn principal_change(&self, write: Write<Authenticated<Principal>>) -> Result<Epoch, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::principal_change).await,
        }
    }

    /// Gives or changes a grant; its revision is the stored one plus 1, or 1 when there is none. Moves the principal's
    /// epoch and returns it. [`Error::Revision`]; [`Error::NotFound`] when principal, workspace or compute target is
    /// gone; [`Error::Conflict`] when the installation, or a workspace by the change of an owner, would have no enabled
    /// owner left.
    pub async fn grant_set(&self, write: Write<Authenticated<Grant>>) -> Result<Epoch, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::grant_set).await,
        }
    }

    /// Takes a grant. Moves the principal's epoch and returns it. Errors as `grant_set`.
    pub async fn grant_remove(&self, write: Write<GrantRemove>) -> Result<Epoch, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::grant_remove).await,
        }
    }

    /// All grants of a principal.
    pub async fn grants_of(&self, principal: PrincipalId) -> Result<Vec<Authenticated<Grant>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::grants_of(c, principal)).await,
        }
    }

    /// A new login. [`Error::NotFound`] when the principal is gone or disabled.
    pub async fn token_insert(&self, write: Write<Authenticated<TokenRow>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::token_insert).await,
        }
    }

    /// A token, its principal and the principal's grants. Expired ones are found too: time is the caller's business.
    pub async fn token_by_hash(&self, hash: LookupHash) -> Result<Option<Login>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::token_by_hash(c, hash)).await,
        }
    }

    /// A new token for a face. [`Error::NotFound`] when the principal is gone or disabled, or the parent is gone;
    /// [`Error::Crowded`] when the principal has as many as it may.
    pub async fn face_token_insert(&self, write: Write<FaceTokenInsert>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::face_token_insert).await,
        }
    }

    /// A principal's tokens of the native kind, oldest first.
    pub async fn token_list(&self, principal: PrincipalId) -> Result<Vec<Authenticated<TokenRow>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::token_list(c, principal)).await,
        }
    }

    /// Takes a token, and the faces' tokens made from it. Moves the principal's epoch and returns it.
    pub async fn token_revoke(&self, write: Write<TokenRevoke>) -> Result<Epoch, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::token_revoke).await,
        }
    }

    /// Forgets tokens, client secrets, invitations and logins that wait, which expired before this moment; how many. Takes nothing
    /// away from anybody, so no epoch moves.
    pub async fn expired_remove(&self, write: Write<Timestamp>) -> Result<u64, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::expired_remove).await,
        }
    }

    /// A new secret for a service principal. [`Error::NotFound`] when the principal is gone or disabled.
    pub async fn client_secret_insert(&self, write: Write<Authenticated<ClientSecretRow>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::client_secret_insert).await,
        }
    }

    /// A client secret and whose it is.
    pub async fn client_secret_by_hash(
        &self,
        hash: LookupHash,
    ) -> Result<Option<(Authenticated<ClientSecretRow>, Standing)>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::client_secret_by_hash(c, hash)).await,
        }
    }

    /// A principal's client secrets, oldest first.
    pub async fn client_secret_list(
        &self,
        principal: PrincipalId,
    ) -> Result<Vec<Authenticated<ClientSecretRow>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::client_secret_list(c, principal)).await,
        }
    }

    /// Takes a client secret, and the faces' tokens made from it. Moves the principal's epoch and returns it.
    pub async fn client_secret_revoke(&self, write: Write<TokenRevoke>) -> Result<Epoch, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::client_secret_revoke).await,
        }
    }

    /// A new invitation.
    pub async fn invite_insert(&self, write: Write<Authenticated<InviteRow>>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::invite_insert).await,
        }
    }

    /// An invitation that has not been used. Expired ones are found too: time is the caller's business.
    pub async fn invite_by_hash(&self, hash: LookupHash) -> Result<Option<Authenticated<InviteRow>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(move |c| sqlite::invite_by_hash(c, hash)).await,
        }
    }

    /// Invitations that were not used, oldest first.
    pub async fn invite_list(&self) -> Result<Vec<Authenticated<InviteRow>>, Error> {
        match self {
            Self::Sqlite(s) => s.read(sqlite::invite_list).await,
        }
    }

    /// Takes back an invitation that was not used; otherwise [`Error::NotFound`].
    pub async fn invite_revoke(&self, write: Write<InviteId>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::invite_revoke).await,
        }
    }

    /// Uses an invitation, once. [`Error::NotFound`] when it was used, has expired or never was; [`Error::Conflict`]
    /// when the name was taken meanwhile.
    pub async fn invite_redeem(&self, write: Write<InviteRedeem>) -> Result<(), Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::invite_redeem).await,
        }
    }

    /// Gives the owner a new login and revokes all its others. Moves the epoch and returns it.
    pub async fn owner_reset(&self, write: Write<OwnerReset>) -> Result<Epoch, Error> {
        match self {
            Self::Sqlite(s) => s.write(write, sqlite::owner_reset).await,
        }
    }
}
