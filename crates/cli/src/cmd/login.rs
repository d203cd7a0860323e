//! Signing in and out, and which project belongs to which workspace.

use std::time::Duration;

use kluis_client::Client;
use kluis_client::config::{Project, Resolved, UserFile};
use kluis_client::credentials::Credential;
use kluis_client::invite::Invitation;
use kluis_client::trust::{CaPin, Origin, Server};
use kluis_core::api::code;
use kluis_core::api::identity::{
    DecideDevice, DeviceAnswer, DeviceFor, PollDevice, RedeemInvite, ShowDevice, StartDevice, Whoami,
};
use kluis_core::name::WorkspaceName;

use crate::args::{Login, LoginCommand, Token};
use crate::context::Context;
use crate::failure::{Failure, NOT_ALLOWED, Outcome};
use crate::input;

pub(super) async fn login(context: &Context<'_>, login: Login) -> Outcome<u8> {
    if let Some(LoginCommand::Approve { code, yes, deny }) = &login.command {
        return approve(context, code, *yes, *deny).await;
    }
    let label = login.label.clone().unwrap_or_else(machine);
    if login.device_code {
        return by_device_code(context, login.target.as_deref(), label).await;
    }
    let Some(target) = &login.target else {
        return Err(Failure::usage(
            "say where: an invitation's code (from `kluis admin invite NAME`), or an address with --ca-sha256. \
             `kluis up` signs in the user who starts it",
        ));
    };
    if target.starts_with("kls_") {
        return Err(Failure::usage(
            "a token is never an argument: it would stand in the shell's history and in the process list. Give the \
             server's address and --ca-sha256; the token is asked for, or read with --token-stdin",
        ));
    }
    match Invitation::parse(target) {
        Ok(_) if login.token_stdin => {
            Err(Failure::usage("an invitation's code needs no token: leave --token-stdin out"))
        }
        Ok(invitation) => redeem(context, invitation, label).await,
        Err(_) if target.starts_with("kluis_invite_") => {
            Err(Failure::usage("that is not a whole invitation's code; `kluis admin invite NAME` makes one"))
        }
        Err(_) => with_token(context, target, login.token_stdin).await,
    }
}

async fn redeem(context: &Context<'_>, invitation: Invitation, label: String) -> Outcome<u8> {
    let redeem = RedeemInvite { code: invitation.code, label };
    let issued = Client::anonymous(&invitation.server).login_invite(&redeem).await?;
    remember(context, Credential::new(invitation.server, issued.token, Some(issued.principal.name))).await
}

/// Waits until somebody who is signed in approves it elsewhere.
async fn by_device_code(context: &Context<'_>, address: Option<&str>, label: String) -> Outcome<u8> {
    let server = match address {
        Some(address) => named(context, address)?,
        None => context.resolved()?.server,
    };
    let client = Client::anonymous(&server);
    let started = client.login_device(&StartDevice { label }).await?;
    context.out.note(format_args!(
        "{} asks to be let in at {}. Where you are signed in already, run\n\n    kluis login approve {}\n",
        machine(),
        server.origin,
        started.user_code
    ));
    if context.out.is_json() {
        context.out.json_beside(&serde_json::json!({ "user_code": started.user_code, "expires": started.expires }));
    }
    let poll = PollDevice { device_code: started.device_code };
    let mut interval = Duration::from_secs(started.interval_seconds.clamp(1, 60));
    loop {
        tokio::time::sleep(interval).await;
        match client.login_device_poll(&poll).await? {
            DeviceAnswer::Waiting => {}
            DeviceAnswer::TooSoon => interval += Duration::from_secs(5),
            DeviceAnswer::Denied => {
                return Err(Failure::new(NOT_ALLOWED, "access_denied", "the login was refused"));
            }
            DeviceAnswer::Ended => {
                return Err(Failure::failed("nobody approved the login in time; begin again"));
            }
            DeviceAnswer::SignedIn { issued } => {
                return remember(context, Credential::new(server, issued.token, Some(issued.principal.name))).await;
            }
        }
    }
}

/// Says who wants to be let in, asks, and lets them in as this user.
async fn approve(context: &Context<'_>, code: &str, yes: bool, deny: bool) -> Outcome<u8> {
    let client = context.client().await?;
    let show = ShowDevice { user_code: code.to_owned() };
    let waiting = client.login_device_show(&show).await?;
    let what = match waiting.purpose {
        DeviceFor::Login => "a login of `kluis`, until it is revoked",
        DeviceFor::Azure => "a login of an Azure client, for at most 12 hours",
    };
    context.out.note(format_args!(
        "it calls itself: {}\nit asks from:    {}\nsince:           {}\nit will be:      {what}, with all your rights",
        waiting.label, waiting.source, waiting.created
    ));
    if !deny {
        input::confirm(yes, "Did you start this yourself, and shall it sign in as you?")?;
    }
    let decide = DecideDevice { user_code: code.to_owned(), approve: !deny };
    let decided = client.login_device_decide(&decide).await?;
    let fields = serde_json::json!({ "label": decided.label, "source": decided.source });
    if deny {
        context.out.done("denied", fields, "denied: it will not sign in");
    } else {
        context.out.done("approved", fields, "approved: it signs in within seconds; `kluis token list` shows it");
    }
    Ok(0)
}

async fn with_token(context: &Context<'_>, address: &str, from_stdin: bool) -> Outcome<u8> {
    let server = named(context, address)?;
    let token = input::token(from_stdin, context.out)?;
    remember(context, Credential::new(server, token, None)).await
}

/// A server that was named, with its pin.
fn named(context: &Context<'_>, address: &str) -> Outcome<Server> {
    let origin: Origin = address.parse().map_err(|_| {
        Failure::usage(
            "that is neither an invitation's code nor an address such as https://kluis.example.org:8443; \
             `kluis admin invite NAME` makes a code",
        )
    })?;
    let Some(ca_sha256) = pin(context)? else {
        return Err(Failure::usage(
            "give the pin of the server's CA with --ca-sha256: the server prints it when it starts",
        ));
    };
    Ok(Server { origin, ca_sha256 })
}

/// The pin that was given, by flag or environment.
pub(super) fn pin(context: &Context<'_>) -> Outcome<Option<CaPin>> {
    let text = context.global.ca_sha256.as_ref().or(context.environment.client.ca_sha256.as_ref());
    text.map(|text| text.parse().map_err(|_| Failure::usage("the CA's pin: 64 hex digits are expected"))).transpose()
}

/// Tries the login, then stores it and makes its server the default.
pub(super) async fn remember(context: &Context<'_>, credential: Credential) -> Outcome<u8> {
    let who = Client::signed_in(&credential).whoami().await?;
    let server = credential.server().clone();
    store(context, credential, who.workspaces.first().map(|m| &m.workspace))?;
    context.out.note(format_args!("signed in to {} as {}", server.origin, who.principal.name));
    if context.out.is_json() {
        context.out.json(&who);
    }
    Ok(0)
}

/// Stores a login and makes its server the default; on a server that was not the default before, also the workspace.
pub(super) fn store(context: &Context<'_>, credential: Credential, workspace: Option<&WorkspaceName>) -> Outcome<()> {
    let folder = context.config_folder()?;
    let server = credential.server().clone();
    context.warn_of_network_folder()?;
    let mut credentials = context.credentials()?;
    credentials.put(credential);
    credentials.save()?;
    let mut user = UserFile::load(&folder)?;
    if user.address.as_ref() != Some(&server.origin) {
        user.workspace = workspace.cloned();
    }
    user.address = Some(server.origin);
    user.ca_sha256 = Some(server.ca_sha256);
    Ok(user.save(&folder)?)
}

pub(super) async fn logout(context: &Context<'_>) -> Outcome<u8> {
    let server = context.resolved()?.server;
    let origin = &server.origin;
    let mut credentials = context.credentials()?;
    // A token from the environment is not this machine's login, and whoever gave it goes on using it.
    if context.environment.client.token.is_some() {
        context.out.note("note: KLUIS_TOKEN is set, stays valid and goes on being used");
    }
    let Some(credential) = credentials.find(&server).cloned() else {
        let fields = serde_json::json!({ "address": origin, "revoked": false });
        context.out.done("nothing", fields, format_args!("not signed in to {origin}"));
        return Ok(0);
    };
    let revoked = Client::signed_in(&credential).token_revoke("current").await;
    credentials.remove(&server);
    credentials.save()?;
    match revoked {
        Ok(()) => {
            let fields = serde_json::json!({ "address": origin, "revoked": true });
            context.out.done("signed_out", fields, format_args!("signed out of {origin}"));
            Ok(0)
        }
        // Expired, or revoked by somebody else.
        Err(error) if error.code() == Some(code::UNAUTHENTICATED) => {
            let fields = serde_json::json!({ "address": origin, "revoked": false });
            context.out.done(
                "signed_out",
                fields,
                format_args!("signed out of {origin}; the login did not work any more"),
            );
            Ok(0)
        }
        Err(error) => {
            let failure = Failure::from(error);
            let message = format!("the login is forgotten here, but could not be revoked: {}", failure.message);
            Err(Failure { message, ..failure })
        }
    }
}

/// This user's tokens: each is a login somewhere.
pub(super) async fn token(context: &Context<'_>, command: Token) -> Outcome<u8> {
    let client = context.client().await?;
    match command {
        Token::List => {
            let all = Client::all(|page| client.tokens(page)).await?;
            context.out.list(&all, &["label", "created", "expires", "id"], |token| {
                let expires = token.expires.map_or_else(|| "-".to_owned(), |time| time.to_string());
                vec![token.label.clone(), token.created.to_string(), expires, token.id.to_string()]
            });
        }
        Token::Revoke { token } => {
            client.token_revoke(&token).await?;
            let note = format_args!("revoked: whoever uses that token is refused from now on");
            context.out.done("revoked", serde_json::json!({ "token": token }), note);
        }
    }
    Ok(0)
}

pub(super) async fn whoami(context: &Context<'_>) -> Outcome<u8> {
    let client = context.client().await?;
    let who: Whoami = client.whoami().await?;
    context.out.show(&who, |out, who| {
        out.line(format_args!("{} at {}", who.principal.name, client.server().origin));
        if who.principal.installation_owner {
            out.line("owner of the installation");
        }
        for member in &who.workspaces {
            out.line(format_args!("{} in {}", member.role.as_str(), member.workspace));
        }
    });
    Ok(0)
}

pub(super) async fn init(context: &Context<'_>) -> Outcome<u8> {
    let resolved: Resolved = context.resolved()?;
    let client = Client::connect(&resolved).await?;
    let workspace = match &resolved.workspace {
        Some(workspace) => workspace.clone(),
        None => only_workspace(&client).await?,
    };
    // That it exists and can be seen is said now, not at the first submission.
    client.workspace(&workspace).await?;
    let here = std::env::current_dir().map_err(|e| Failure::failed(format!("the current folder: {e}")))?;
    let server = &resolved.server;
    let path = Project::write(&here, &server.origin, &workspace, Some(server.ca_sha256))?;
    context.out.note(format_args!("wrote {}: workspace {workspace} at {}", path.display(), server.origin));
    if context.out.is_json() {
        context.out.json(&serde_json::json!({ "path": path, "workspace": workspace, "address": server.origin }));
    }
    Ok(0)
}

async fn only_workspace(client: &Client) -> Outcome<WorkspaceName> {
    let mut all = Client::all(|page| client.workspaces(page)).await?;
    match (all.pop(), all.is_empty()) {
        (Some(one), true) => Ok(one.name),
        (None, _) => Err(Failure::usage("you are a member of no workspace; `kluis workspace create NAME` makes one")),
        (Some(_), false) => Err(Failure::usage("you are a member of several workspaces; choose one with --workspace")),
    }
}

/// This machine's name, for lists of tokens.
pub(super) fn machine() -> String {
    let name = rustix::system::uname();
    let name: String = name.nodename().to_string_lossy().chars().take(100).collect();
    if name.is_empty() { "a machine".to_owned() } else { name }
}
