//! Principals, invitations and keys; and, on a stopped server's machine, its root key, its health and its owner's login.

use std::path::Path;

use kluis_client::Client;
use kluis_client::credentials::Credential;
use kluis_client::invite;
use kluis_client::trust::{CaPin, Origin, Server};
use kluis_core::access::PrincipalKind;
use kluis_core::api::identity::{ChangePrincipal, ClientSecretQuery, CreateInvite, CreatePrincipal, Membership};
use kluis_core::name::{ComputeName, PrincipalName, WorkspaceName};
use kluis_server::server::offline;

use super::{login, up};
use crate::args::{Admin, ClientSecret, Data, Invitation, Key, Principal};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::vault_names::{self, VaultHost};

pub(super) async fn run(context: &Context<'_>, command: Admin) -> Outcome<u8> {
    match command {
        Admin::Invite { name, agent, compute, role, life } => {
            let (client, kind, membership, compute) = if agent {
                let compute = match compute {
                    Some(compute) => compute,
                    None => ComputeName::parse(name.as_str()).map_err(|_| {
                        Failure::usage("the agent's name is no compute target's; say which one with --compute")
                    })?,
                };
                (context.client().await?, PrincipalKind::Agent, None, Some(compute))
            } else if let Some(role) = role {
                let (client, workspace) = context.in_workspace(None).await?;
                (client, PrincipalKind::User, Some(Membership { workspace, role: role.into() }), None)
            } else {
                (context.client().await?, PrincipalKind::User, None, None)
            };
            let life_seconds = life.map(|life| life.as_secs());
            invite(context, &client, &CreateInvite { name, kind, membership, compute, life_seconds }).await
        }
        Admin::Principal(command) => principal(context, command).await,
        Admin::Invitation(command) => invitation(context, command).await,
        Admin::ClientSecret(command) => client_secret(context, command).await,
        Admin::Key(Key::RotateWorkspace) => {
            let (client, workspace) = context.in_workspace(None).await?;
            client.key_rotate(&workspace).await?;
            let note = format_args!("{workspace} has a new key; old values are rewrapped in the background");
            context.out.done("rotated", serde_json::json!({ "workspace": workspace }), note);
            Ok(0)
        }
        Admin::Key(Key::RotateRoot { data, new_passphrase_file }) => {
            rotate_root(context, &data, new_passphrase_file.as_deref()).await
        }
        Admin::Doctor(data) => doctor(context, &data).await,
        Admin::ResetOwner { data, owner, address } => reset_owner(context, &data, owner.as_ref(), &address).await,
    }
}

async fn invite(context: &Context<'_>, client: &Client, create: &CreateInvite) -> Outcome<u8> {
    let created = client.invite_create(create).await?;
    let text = invite::Invitation { server: client.server().clone(), code: created.code }.to_text();
    let invite = created.invite;
    if context.out.is_json() {
        context.out.json(&serde_json::json!({ "invite": invite, "code": text.as_str() }));
        return Ok(0);
    }
    let command = if create.kind == PrincipalKind::Agent { "kluis agent enroll" } else { "kluis login" };
    context.out.note(format_args!(
        "an invitation for {}, which works once, until {}; there: `{command} CODE`",
        invite.name, invite.expires
    ));
    context.out.line(text.as_str());
    Ok(0)
}

async fn principal(context: &Context<'_>, command: Principal) -> Outcome<u8> {
    let client = context.client().await?;
    let out = context.out;
    match command {
        Principal::Create { name } => {
            let create = CreatePrincipal { name, kind: PrincipalKind::ServicePrincipal };
            let view = client.principal_create(&create).await?;
            out.show(&view, |out, view| {
                out.note(format_args!(
                    "created {0}; `kluis admin client-secret create {0}` makes its secret",
                    view.name
                ));
                out.line(view.id);
            });
        }
        Principal::List => {
            let all = Client::all(|page| client.principals(page)).await?;
            out.list(&all, &["name", "kind", "state", "id"], |p| {
                let state = match (p.enabled, p.installation_owner) {
                    (false, _) => "disabled",
                    (true, true) => "owner of the installation",
                    (true, false) => "enabled",
                };
                vec![p.name.to_string(), kind(p.kind).to_owned(), state.to_owned(), p.id.to_string()]
            });
        }
        Principal::Enable { principal } => change(context, &client, &principal, true).await?,
        Principal::Disable { principal } => change(context, &client, &principal, false).await?,
    }
    Ok(0)
}

fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "user",
        PrincipalKind::ServicePrincipal => "service principal",
        PrincipalKind::Agent => "agent",
    }
}

async fn change(context: &Context<'_>, client: &Client, principal: &str, enabled: bool) -> Outcome<()> {
    let view = client.principal_change(principal, &ChangePrincipal { enabled }).await?;
    context.out.show(&view, |out, view| {
        let word = if view.enabled { "may sign in again" } else { "is refused from now on" };
        out.note(format_args!("{} {word}", view.name));
    });
    Ok(())
}

async fn invitation(context: &Context<'_>, command: Invitation) -> Outcome<u8> {
    let client = context.client().await?;
    match command {
        Invitation::List => {
            let all = Client::all(|page| client.invites(page)).await?;
            context.out.list(&all, &["name", "kind", "expires", "id"], |invite| {
                let kind = kind(invite.kind).to_owned();
                vec![invite.name.to_string(), kind, invite.expires.to_string(), invite.id.to_string()]
            });
        }
        Invitation::Revoke { invitation } => {
            client.invite_revoke(invitation).await?;
            let note = format_args!("revoked: that invitation's code works no more");
            context.out.done("revoked", serde_json::json!({ "invitation": invitation }), note);
        }
    }
    Ok(0)
}

async fn client_secret(context: &Context<'_>, command: ClientSecret) -> Outcome<u8> {
    let client = context.client().await?;
    match command {
        ClientSecret::Create { principal, life } => {
            let query = ClientSecretQuery { life_seconds: life.map(|life| life.as_secs()) };
            let created = client.principal_secret_create(&principal, query).await?;
            context.out.show(&created, |out, created| {
                let until = created.expires.map_or_else(String::new, |time| format!(", until {time}"));
                out.note(format_args!("shown once{until}; give these to the job's environment"));
                out.line(format_args!("KLUIS_CLIENT_ID={}", created.client_id));
                out.line(format_args!("KLUIS_CLIENT_SECRET={}", created.client_secret.expose()));
            });
        }
        ClientSecret::List { principal } => {
            let all = Client::all(|page| client.principal_secrets(&principal, page)).await?;
            context.out.list(&all, &["created", "expires", "id"], |secret| {
                let expires = secret.expires.map_or_else(|| "-".to_owned(), |time| time.to_string());
                vec![secret.created.to_string(), expires, secret.id.to_string()]
            });
        }
        ClientSecret::Revoke { principal, secret } => {
            client.principal_secret_revoke(&principal, secret).await?;
            let note = format_args!("revoked: whoever signs in to {principal} with that secret is refused from now on");
            let json = serde_json::json!({ "principal": principal, "client_secret": secret });
            context.out.done("revoked", json, note);
        }
    }
    Ok(0)
}

async fn rotate_root(context: &Context<'_>, data: &Data, new_passphrase: Option<&Path>) -> Outcome<u8> {
    let new = new_passphrase.map(up::passphrase).transpose()?;
    let rotated = offline::root_rotate(&up::options(context, data)?, new).await?;
    if context.out.is_json() {
        let (key, path, old) = (rotated.key.to_string(), &rotated.path, &rotated.old);
        context.out.json(&serde_json::json!({ "key": key, "path": path, "old": old }));
        return Ok(0);
    }
    context.out.note(format_args!(
        "the new {what} is {}: keep a copy elsewhere, without it all is lost.\n\
         the old one is kept in {}: backups made before now need it; destroy it together with them",
        rotated.path.display(),
        rotated.old.display(),
        what = if new_passphrase.is_some() { "passphrase's salt" } else { "root key" },
    ));
    Ok(0)
}

async fn doctor(context: &Context<'_>, data: &Data) -> Outcome<u8> {
    let found = offline::doctor(&up::options(context, data)?).await?;
    let findings: Vec<String> = found.health.findings.iter().map(|f| format!("{} {}", f.table, f.row)).collect();
    let integrity = format!("{:?}", found.health.integrity).to_lowercase();
    let vault = VaultHost::new(&Origin::parse("localhost").expect("a host"), &WorkspaceName::parse("default")?)?;
    let unresolved = vault_names::unresolved(&vault).await;
    let sound = integrity == "sound" && findings.is_empty() && found.audit.holds() && found.checkpoint_fits;
    if context.out.is_json() {
        context.out.json(&serde_json::json!({
            "sound": sound,
            "integrity": integrity,
            "findings": findings,
            "audit_records": found.audit.stored.size,
            "audit_holds": found.audit.holds(),
            "checkpoint_fits": found.checkpoint_fits,
            "weaknesses": found.weaknesses,
            "vault_hosts": unresolved,
        }));
    } else {
        let out = context.out;
        let yes = |fits: bool| if fits { "fits" } else { "DOES NOT FIT" };
        out.line("root key     fits");
        out.line(format_args!("database     {integrity}"));
        for finding in &findings {
            out.line(format_args!("             damaged: {finding}"));
        }
        out.line(format_args!("audit log    {}, {} records", yes(found.audit.holds()), found.audit.stored.size));
        out.line(format_args!("checkpoint   {}", yes(found.checkpoint_fits)));
        for weakness in &found.weaknesses {
            out.line(format_args!("memory       {weakness}"));
        }
        match &unresolved {
            None => out.line(format_args!("vault hosts  {} resolves", vault.host())),
            Some(note) => note.lines().for_each(|line| out.line(format_args!("vault hosts  {line}"))),
        }
    }
    if sound { Ok(0) } else { Err(Failure::failed("the data is not sound; restore it from a backup")) }
}

async fn reset_owner(context: &Context<'_>, data: &Data, owner: Option<&PrincipalName>, address: &str) -> Outcome<u8> {
    // All that can be wrong on this side is found before the old logins die.
    let options = up::options(context, data)?;
    let origin: Origin = address.parse().map_err(|e| Failure::usage(format!("--address: {e}")))?;
    let given: Option<CaPin> = login::pin(context)?;
    context.credentials()?;
    let new = offline::owner_reset(&options, owner).await?;
    let own = new.ca_sha256.as_deref().and_then(|pin| pin.parse().ok());
    // A server that shows a site's certificate is pinned by that one's authority, which the caller has to know.
    let (first, second) = if context.global.ca_sha256.is_some() { (given, own) } else { (own, given) };
    let Some(ca_sha256) = first.or(second) else {
        return Err(Failure::failed("the data holds no authority: give the pin of the server's with --ca-sha256"));
    };
    let server = Server { origin, ca_sha256 };
    let name = new.owner.clone();
    login::store(context, Credential::new(server.clone(), new.token, Some(new.owner)), None)?;
    if context.out.is_json() {
        context.out.json(&serde_json::json!({ "owner": name, "address": server.origin, "ca_sha256": ca_sha256 }));
    }
    context.out.note(format_args!("{name} has a new login for {}, stored here; older ones are dead", server.origin));
    Ok(0)
}
