//! Login, tokens, principals, invitations. Types that carry a token or a code exist only with `plaintext`.

use serde::{Deserialize, Serialize};

use crate::access::{PrincipalKind, Role};
use crate::clock::Timestamp;
use crate::id::{InviteId, PrincipalId, TokenId};
use crate::name::{ComputeName, PrincipalName, WorkspaceName};

/// Who the caller is: `GET /whoami`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whoami {
    /// The caller.
    pub principal: PrincipalView,
    /// The token that was presented.
    pub token: TokenView,
    /// The workspaces the caller is a member of, with its role.
    pub workspaces: Vec<Membership>,
    /// The server's version.
    pub server_version: String,
}

/// A workspace and the caller's role in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Membership {
    /// The workspace.
    pub workspace: WorkspaceName,
    /// The role.
    pub role: Role,
}

/// A principal, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PrincipalView {
    /// Its id; for a service principal also its client id.
    pub id: PrincipalId,
    /// Its name.
    pub name: PrincipalName,
    /// User, service principal or agent.
    pub kind: PrincipalKind,
    /// A disabled principal's tokens are refused.
    pub enabled: bool,
    /// Whether it owns the installation.
    pub installation_owner: bool,
    /// Moves with every change.
    pub revision: u64,
}

/// A token without the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TokenView {
    /// Its id, for revoking.
    pub id: TokenId,
    /// What it was made for, such as a machine's name.
    pub label: String,
    /// When it was issued.
    pub created: Timestamp,
    /// When it stops working; absent: only by revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A new principal: `POST /principals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreatePrincipal {
    /// Its name.
    pub name: PrincipalName,
    /// `service_principal`; users and agents come by invitation.
    pub kind: PrincipalKind,
}

/// A change to a principal: `PATCH /principals/{principal}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePrincipal {
    /// Disable or enable.
    pub enabled: bool,
}

/// A service principal's secret, without the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientSecretView {
    /// Its id, for revoking.
    pub id: TokenId,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working; absent: only by revocation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// How a client secret is made: `POST /principals/{principal}/secrets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct ClientSecretQuery {
    /// How long it works, in seconds, at most ten years; until revoked when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_seconds: Option<u64>,
}

/// An invitation: `POST /invites`. The code is used once, within its life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateInvite {
    /// The name of the principal that will be made, or of an existing one that gets another login.
    pub name: PrincipalName,
    /// `user` or `agent`.
    pub kind: PrincipalKind,
    /// A workspace to become a member of at once, with the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub membership: Option<Membership>,
    /// For an agent: the compute target it will serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute: Option<ComputeName>,
    /// How long the code lives, in seconds; at most 30 days, 24 hours when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub life_seconds: Option<u64>,
}

/// An invitation without its code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct InviteView {
    /// Its id.
    pub id: InviteId,
    /// For whom.
    pub name: PrincipalName,
    /// What will be made.
    pub kind: PrincipalKind,
    /// Who invited.
    pub invited_by: PrincipalId,
    /// When.
    pub created: Timestamp,
    /// When the code dies.
    pub expires: Timestamp,
}

/// A login that wants to be approved elsewhere: `POST /login/device`. Public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartDevice {
    /// What the token is made for, such as the machine's name; at most 127 bytes. Whoever approves sees it.
    pub label: String,
}

/// Whose login waits: `POST /login/device/show`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ShowDevice {
    /// The code that the program shows, such as `WDJB-MJHT`; case, dashes and spaces do not count.
    pub user_code: String,
}

/// A decision on a login that waits: `POST /login/device/decide`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecideDevice {
    /// The code that the program shows.
    pub user_code: String,
    /// Whether the login becomes the caller's own, or is denied.
    pub approve: bool,
}

/// A login that waits, for whoever is asked to approve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeviceView {
    /// What it says it is: nobody has checked.
    pub label: String,
    /// The address that it asked from.
    pub source: String,
    /// When it asked.
    pub created: Timestamp,
    /// When the code dies.
    pub expires: Timestamp,
    /// What it will be.
    pub purpose: DeviceFor,
}

/// What a login by device code will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeviceFor {
    /// A login of Kluis' own clients, until it is revoked.
    Login,
    /// A login of an Azure client, for at most 12 hours.
    Azure,
}

#[cfg(feature = "plaintext")]
mod carrying {
    use super::{Deserialize, InviteView, PrincipalId, PrincipalView, Serialize, Timestamp, TokenId, TokenView};
    use crate::plaintext::Plaintext;

    /// An invitation with its code, shown once. The client wraps address, CA pin and code into what it prints.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct InviteCreated {
        /// The invitation.
        pub invite: InviteView,
        /// The one-time secret, `kls_inv_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub code: Plaintext,
    }

    /// Using an invitation: `POST /login/invite`. Public.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct RedeemInvite {
        /// The one-time secret, `kls_inv_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub code: Plaintext,
        /// What the token is made for, such as the machine's name; at most 127 bytes.
        pub label: String,
    }

    /// Signing in with an id and a secret: `POST /login/client`. Public. The token lives 15 minutes.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct ClientLogin {
        /// The service principal's id.
        pub client_id: PrincipalId,
        /// Its secret, `kls_sec_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub client_secret: Plaintext,
    }

    /// A token, shown once.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct TokenIssued {
        /// `kls_usr_...`, `kls_svc_...` or `kls_agt_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub token: Plaintext,
        /// What can be said of it.
        pub view: TokenView,
        /// Whose it is.
        pub principal: PrincipalView,
    }

    /// A login that waits: what the program keeps, and what it shows.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct DeviceStarted {
        /// What the program asks with, `kls_dev_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub device_code: Plaintext,
        /// What a person types elsewhere, such as `WDJB-MJHT`.
        pub user_code: String,
        /// When both die.
        pub expires: Timestamp,
        /// How long to wait before each question.
        pub interval_seconds: u64,
    }

    /// Whether a login was approved: `POST /login/device/token`. Public.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct PollDevice {
        /// `kls_dev_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub device_code: Plaintext,
    }

    /// What became of a login that waits.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(tag = "status", rename_all = "snake_case")]
    pub enum DeviceAnswer {
        /// Nobody has decided yet: ask again after the interval.
        Waiting,
        /// The same, and the question came too early.
        TooSoon,
        /// Somebody said no.
        Denied,
        /// The code has expired or was used: begin again.
        Ended,
        /// Signed in. Told once.
        SignedIn {
            /// The login.
            issued: Box<TokenIssued>,
        },
    }

    /// A new token for oneself: `POST /tokens`.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct CreateToken {
        /// What it is for; at most 127 bytes.
        pub label: String,
        /// How long it lives, in seconds, at most ten years; absent: until revoked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub life_seconds: Option<u64>,
    }

    /// A service principal's secret, shown once: `POST /principals/{principal}/secrets`.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct ClientSecretCreated {
        /// The secret's id, for revoking it.
        pub id: TokenId,
        /// The service principal's id.
        pub client_id: PrincipalId,
        /// The secret, `kls_sec_...`.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub client_secret: Plaintext,
        /// When it stops working.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub expires: Option<Timestamp>,
    }
}
#[cfg(feature = "plaintext")]
pub use carrying::*;
