//! Login, tokens, principals, invitations.

use kluis_core::api::identity::{
    ChangePrincipal, ClientLogin, ClientSecretCreated, ClientSecretQuery, ClientSecretView, CreateInvite,
    CreatePrincipal, CreateToken, DecideDevice, DeviceAnswer, DeviceStarted, DeviceView, InviteCreated, InviteView,
    PollDevice, PrincipalView, RedeemInvite, ShowDevice, StartDevice, TokenIssued, TokenView, Whoami,
};
use kluis_core::api::{Page, PageQuery};
use kluis_core::id::{InviteId, TokenId};

use crate::client::Client;
use crate::error::Error;

impl Client {
    /// Uses an invitation; the token is shown once. Never repeated by itself: the code works once.
    pub async fn login_invite(&self, redeem: &RedeemInvite) -> Result<TokenIssued, Error> {
        self.post("use the invitation", &["login", "invite"]).body(redeem).json().await
    }

    /// Signs in with a service principal's id and secret, for 15 minutes.
    pub async fn login_client(&self, login: &ClientLogin) -> Result<TokenIssued, Error> {
        self.post("sign in", &["login", "client"]).body(login).repeatable().json().await
    }

    /// Begins a login that somebody approves elsewhere.
    pub async fn login_device(&self, start: &StartDevice) -> Result<DeviceStarted, Error> {
        self.post("ask to sign in", &["login", "device"]).body(start).repeatable().json().await
    }

    /// Asks whether it was approved. Never repeated by itself: the token is given once.
    pub async fn login_device_poll(&self, poll: &PollDevice) -> Result<DeviceAnswer, Error> {
        self.post("ask whether the login was approved", &["login", "device", "token"]).body(poll).json().await
    }

    /// Who asks behind a code.
    pub async fn login_device_show(&self, show: &ShowDevice) -> Result<DeviceView, Error> {
        self.post("look who wants to sign in", &["login", "device", "show"]).body(show).repeatable().json().await
    }

    /// Approves a login as the caller's own, or denies it.
    pub async fn login_device_decide(&self, decide: &DecideDevice) -> Result<DeviceView, Error> {
        self.post("decide on the login", &["login", "device", "decide"]).body(decide).json().await
    }

    /// Who the caller is.
    pub async fn whoami(&self) -> Result<Whoami, Error> {
        self.get("ask who is signed in", &["whoami"]).json().await
    }

    /// The caller's tokens.
    pub async fn tokens(&self, page: PageQuery) -> Result<Page<TokenView>, Error> {
        self.get("list tokens", &["tokens"]).query(&page).json().await
    }

    /// Another token for the caller.
    pub async fn token_create(&self, create: &CreateToken) -> Result<TokenIssued, Error> {
        self.post("create a token", &["tokens"]).body(create).json().await
    }

    /// Ends a token: an id, or `current` for the one that asks.
    pub async fn token_revoke(&self, token: &str) -> Result<(), Error> {
        self.delete("revoke a token", &["tokens", token]).done().await
    }

    /// All principals.
    pub async fn principals(&self, page: PageQuery) -> Result<Page<PrincipalView>, Error> {
        self.get("list principals", &["principals"]).query(&page).json().await
    }

    /// A new service principal.
    pub async fn principal_create(&self, create: &CreatePrincipal) -> Result<PrincipalView, Error> {
        self.post("create a principal", &["principals"]).body(create).json().await
    }

    /// Enables or disables a principal, by name or id.
    pub async fn principal_change(&self, principal: &str, change: &ChangePrincipal) -> Result<PrincipalView, Error> {
        self.patch("change a principal", &["principals", principal]).body(change).repeatable().json().await
    }

    /// A principal's tokens, by name or id.
    pub async fn principal_tokens(&self, principal: &str, page: PageQuery) -> Result<Page<TokenView>, Error> {
        self.get("list a principal's tokens", &["principals", principal, "tokens"]).query(&page).json().await
    }

    /// Ends a principal's token.
    pub async fn principal_token_revoke(&self, principal: &str, token: TokenId) -> Result<(), Error> {
        self.delete("revoke a principal's token", &["principals", principal, "tokens", &token.to_string()]).done().await
    }

    /// A new client secret for a service principal, by name or id; shown once.
    pub async fn principal_secret_create(
        &self,
        principal: &str,
        query: ClientSecretQuery,
    ) -> Result<ClientSecretCreated, Error> {
        self.post("create a client secret", &["principals", principal, "secrets"]).query(&query).json().await
    }

    /// A service principal's client secrets, without what is secret.
    pub async fn principal_secrets(&self, principal: &str, page: PageQuery) -> Result<Page<ClientSecretView>, Error> {
        self.get("list client secrets", &["principals", principal, "secrets"]).query(&page).json().await
    }

    /// Ends a client secret.
    pub async fn principal_secret_revoke(&self, principal: &str, secret: TokenId) -> Result<(), Error> {
        self.delete("revoke a client secret", &["principals", principal, "secrets", &secret.to_string()]).done().await
    }

    /// Invitations that were not used yet.
    pub async fn invites(&self, page: PageQuery) -> Result<Page<InviteView>, Error> {
        self.get("list invitations", &["invites"]).query(&page).json().await
    }

    /// Takes back an invitation.
    pub async fn invite_revoke(&self, invite: InviteId) -> Result<(), Error> {
        self.delete("take back an invitation", &["invites", &invite.to_string()]).done().await
    }

    /// An invitation; its code is shown once. [`crate::invite::Invitation`] wraps it for handing over.
    pub async fn invite_create(&self, create: &CreateInvite) -> Result<InviteCreated, Error> {
        self.post("create an invitation", &["invites"]).body(create).json().await
    }
}
