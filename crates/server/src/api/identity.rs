//! Logins, tokens, principals, invitations.

use axum::extract::State;
use kluis_core::api::identity::{
    ChangePrincipal, ClientLogin, ClientSecretCreated, ClientSecretQuery, ClientSecretView, CreateInvite,
    CreatePrincipal, CreateToken, DecideDevice, DeviceAnswer, DeviceStarted, DeviceView, InviteCreated, InviteView,
    PollDevice, PrincipalView, RedeemInvite, ShowDevice, StartDevice, TokenIssued, TokenView, Whoami,
};
use kluis_core::api::{Done, Page, PageQuery};
use kluis_core::id::{InviteId, TokenId};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::document::Problems;
use super::json::StrangersJson;
use super::{Json, Path, Query};
use crate::app::App;
use crate::caller::{Caller, Source};
use crate::error::Result;
use crate::service::identity::Polled;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(login_invite))
        .routes(routes!(login_client))
        .routes(routes!(login_device_start))
        .routes(routes!(login_device_poll))
        .routes(routes!(login_device_show))
        .routes(routes!(login_device_decide))
        .routes(routes!(whoami))
        .routes(routes!(token_list, token_create))
        .routes(routes!(token_revoke))
        .routes(routes!(principal_list, principal_create))
        .routes(routes!(principal_change))
        .routes(routes!(principal_token_list))
        .routes(routes!(principal_token_revoke))
        .routes(routes!(client_secret_list, client_secret_create))
        .routes(routes!(client_secret_revoke))
        .routes(routes!(invite_list, invite_create))
        .routes(routes!(invite_revoke))
}

/// Sign in with an invitation's code, once.
#[utoipa::path(post, path = "/login/invite", tag = "identity", security(()), request_body = RedeemInvite,
    responses((status = 200, body = TokenIssued), Problems))]
async fn login_invite(
    State(app): State<App>,
    Source(source): Source,
    StrangersJson(redeem): StrangersJson<RedeemInvite>,
) -> Result<Json<TokenIssued>> {
    Ok(Json(app.identity().login_invite(&redeem, source).await?))
}

/// Sign in with a service principal's id and secret, for 15 minutes.
#[utoipa::path(post, path = "/login/client", tag = "identity", security(()), request_body = ClientLogin,
    responses((status = 200, body = TokenIssued), Problems))]
async fn login_client(
    State(app): State<App>,
    Source(source): Source,
    StrangersJson(login): StrangersJson<ClientLogin>,
) -> Result<Json<TokenIssued>> {
    Ok(Json(app.identity().login_client(&login, source).await?))
}

/// Begin a login that somebody who is signed in approves elsewhere, with the code that is shown; both codes live 10 minutes.
#[utoipa::path(post, path = "/login/device", tag = "identity", security(()), request_body = StartDevice,
    responses((status = 200, body = DeviceStarted), Problems))]
async fn login_device_start(
    State(app): State<App>,
    Source(source): Source,
    StrangersJson(start): StrangersJson<StartDevice>,
) -> Result<Json<DeviceStarted>> {
    Ok(Json(app.identity().device_start(&start.label, source, None).await?))
}

/// Ask whether such a login was approved; the token is given once.
#[utoipa::path(post, path = "/login/device/token", tag = "identity", security(()), request_body = PollDevice,
    responses((status = 200, body = DeviceAnswer), Problems))]
async fn login_device_poll(
    State(app): State<App>,
    Source(source): Source,
    StrangersJson(poll): StrangersJson<PollDevice>,
) -> Result<Json<DeviceAnswer>> {
    Ok(Json(match app.identity().device_poll(poll.device_code.expose(), false, source).await? {
        Polled::Waiting => DeviceAnswer::Waiting,
        Polled::TooSoon => DeviceAnswer::TooSoon,
        Polled::Denied => DeviceAnswer::Denied,
        Polled::Ended => DeviceAnswer::Ended,
        Polled::SignedIn(issued, _) => DeviceAnswer::SignedIn { issued },
    }))
}

/// Who asks behind a code.
#[utoipa::path(post, path = "/login/device/show", tag = "identity", request_body = ShowDevice,
    responses((status = 200, body = DeviceView), Problems))]
async fn login_device_show(
    State(app): State<App>,
    caller: Caller,
    Json(show): Json<ShowDevice>,
) -> Result<Json<DeviceView>> {
    Ok(Json(app.identity().device_show(&caller, &show.user_code).await?))
}

/// Approve a login, as the caller's own, or deny it.
#[utoipa::path(post, path = "/login/device/decide", tag = "identity", request_body = DecideDevice,
    responses((status = 200, body = DeviceView), Problems))]
async fn login_device_decide(
    State(app): State<App>,
    caller: Caller,
    Json(decide): Json<DecideDevice>,
) -> Result<Json<DeviceView>> {
    Ok(Json(app.identity().device_decide(&caller, &decide.user_code, decide.approve).await?))
}

/// Who the caller is, and where it is a member.
#[utoipa::path(get, path = "/whoami", tag = "identity", responses((status = 200, body = Whoami), Problems))]
async fn whoami(State(app): State<App>, caller: Caller) -> Result<Json<Whoami>> {
    Ok(Json(app.identity().whoami(&caller).await?))
}

/// The caller's own tokens, oldest first.
#[utoipa::path(get, path = "/tokens", tag = "identity", params(PageQuery),
    responses((status = 200, body = Page<TokenView>), Problems))]
async fn token_list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TokenView>>> {
    Ok(Json(app.identity().tokens(&caller, &page).await?))
}

/// A further token for the caller, shown once. It never outlives the token it was made with.
#[utoipa::path(post, path = "/tokens", tag = "identity", request_body = CreateToken,
    responses((status = 200, body = TokenIssued), Problems))]
async fn token_create(
    State(app): State<App>,
    caller: Caller,
    Json(create): Json<CreateToken>,
) -> Result<Json<TokenIssued>> {
    Ok(Json(app.identity().token_create(&caller, &create).await?))
}

/// Take one of the caller's tokens; `current` is the one presented.
#[utoipa::path(delete, path = "/tokens/{token}", tag = "identity",
    params(("token" = String, Path, description = "a token's id, or `current`")),
    responses((status = 200, body = Done), Problems))]
async fn token_revoke(State(app): State<App>, caller: Caller, Path(token): Path<String>) -> Result<Json<Done>> {
    app.identity().token_revoke(&caller, &token).await?;
    Ok(Json(Done {}))
}

/// All principals, by name.
#[utoipa::path(get, path = "/principals", tag = "identity", params(PageQuery),
    responses((status = 200, body = Page<PrincipalView>), Problems))]
async fn principal_list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<PrincipalView>>> {
    Ok(Json(app.identity().principals(&caller, &page).await?))
}

/// A new service principal.
#[utoipa::path(post, path = "/principals", tag = "identity", request_body = CreatePrincipal,
    responses((status = 200, body = PrincipalView), Problems))]
async fn principal_create(
    State(app): State<App>,
    caller: Caller,
    Json(create): Json<CreatePrincipal>,
) -> Result<Json<PrincipalView>> {
    Ok(Json(app.identity().principal_create(&caller, &create).await?))
}

/// Disable or enable a principal.
#[utoipa::path(patch, path = "/principals/{principal}", tag = "identity",
    params(("principal" = String, Path, description = "a principal's id or name")), request_body = ChangePrincipal,
    responses((status = 200, body = PrincipalView), Problems))]
async fn principal_change(
    State(app): State<App>,
    caller: Caller,
    Path(principal): Path<String>,
    Json(change): Json<ChangePrincipal>,
) -> Result<Json<PrincipalView>> {
    Ok(Json(app.identity().principal_change(&caller, &principal, &change).await?))
}

/// A principal's tokens, oldest first.
#[utoipa::path(get, path = "/principals/{principal}/tokens", tag = "identity",
    params(("principal" = String, Path, description = "a principal's id or name"), PageQuery),
    responses((status = 200, body = Page<TokenView>), Problems))]
async fn principal_token_list(
    State(app): State<App>,
    caller: Caller,
    Path(principal): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TokenView>>> {
    Ok(Json(app.identity().tokens_of(&caller, &principal, &page).await?))
}

/// Take one of a principal's tokens.
#[utoipa::path(delete, path = "/principals/{principal}/tokens/{token}", tag = "identity",
    params(
        ("principal" = String, Path, description = "a principal's id or name"),
        ("token" = String, Path, description = "a token's id")
    ),
    responses((status = 200, body = Done), Problems))]
async fn principal_token_revoke(
    State(app): State<App>,
    caller: Caller,
    Path((principal, token)): Path<(String, TokenId)>,
) -> Result<Json<Done>> {
    app.identity().token_revoke_of(&caller, &principal, token).await?;
    Ok(Json(Done {}))
}

/// A service principal's secrets, without what is secret, oldest first.
#[utoipa::path(get, path = "/principals/{principal}/secrets", tag = "identity",
    params(("principal" = String, Path, description = "a service principal's id or name"), PageQuery),
    responses((status = 200, body = Page<ClientSecretView>), Problems))]
async fn client_secret_list(
    State(app): State<App>,
    caller: Caller,
    Path(principal): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ClientSecretView>>> {
    Ok(Json(app.identity().client_secrets(&caller, &principal, &page).await?))
}

/// A new secret for a service principal, shown once.
#[utoipa::path(post, path = "/principals/{principal}/secrets", tag = "identity",
    params(("principal" = String, Path, description = "a service principal's id or name"), ClientSecretQuery),
    responses((status = 200, body = ClientSecretCreated), Problems))]
async fn client_secret_create(
    State(app): State<App>,
    caller: Caller,
    Path(principal): Path<String>,
    Query(query): Query<ClientSecretQuery>,
) -> Result<Json<ClientSecretCreated>> {
    Ok(Json(app.identity().client_secret_create(&caller, &principal, query).await?))
}

/// Take a service principal's secret. Nobody signs in with it from now on; tokens made with it live 15 minutes at most.
#[utoipa::path(delete, path = "/principals/{principal}/secrets/{secret}", tag = "identity",
    params(
        ("principal" = String, Path, description = "a service principal's id or name"),
        ("secret" = String, Path, description = "a client secret's id")
    ),
    responses((status = 200, body = Done), Problems))]
async fn client_secret_revoke(
    State(app): State<App>,
    caller: Caller,
    Path((principal, secret)): Path<(String, TokenId)>,
) -> Result<Json<Done>> {
    app.identity().client_secret_revoke(&caller, &principal, secret).await?;
    Ok(Json(Done {}))
}

/// Invitations that were not used yet, oldest first.
#[utoipa::path(get, path = "/invites", tag = "identity", params(PageQuery),
    responses((status = 200, body = Page<InviteView>), Problems))]
async fn invite_list(
    State(app): State<App>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<InviteView>>> {
    Ok(Json(app.identity().invites(&caller, &page).await?))
}

/// Take back an invitation that was not used yet.
#[utoipa::path(delete, path = "/invites/{invite}", tag = "identity",
    params(("invite" = String, Path, description = "an invitation's id")),
    responses((status = 200, body = Done), Problems))]
async fn invite_revoke(State(app): State<App>, caller: Caller, Path(invite): Path<InviteId>) -> Result<Json<Done>> {
    app.identity().invite_revoke(&caller, invite).await?;
    Ok(Json(Done {}))
}

/// Invite a user or an agent. The code is shown once and works once.
#[utoipa::path(post, path = "/invites", tag = "identity", request_body = CreateInvite,
    responses((status = 200, body = InviteCreated), Problems))]
async fn invite_create(
    State(app): State<App>,
    caller: Caller,
    Json(create): Json<CreateInvite>,
) -> Result<Json<InviteCreated>> {
    Ok(Json(app.identity().invite(&caller, &create).await?))
}
