//! Workspaces and their members. `use` alone stays on this machine: it writes the user's default.

use kluis_client::Client;
use kluis_client::config::UserFile;
use kluis_core::api::workspaces::{CreateWorkspace, SetMember, WorkspaceSettings, WorkspaceView};
use kluis_core::name::WorkspaceName;

use crate::args::{Member, Workspace};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::input;
use crate::output::Output;

pub(super) async fn run(context: &Context<'_>, command: Workspace) -> Outcome<u8> {
    match command {
        Workspace::Create { name } => {
            let client = context.client().await?;
            let create = CreateWorkspace { name, settings: WorkspaceSettings::default() };
            let view = client.workspace_create(&create).await?;
            context.out.show(&view, |out, view| {
                out.note(format_args!("created {0}; `kluis workspace use {0}` makes it your default", view.name));
            });
        }
        Workspace::List => {
            let client = context.client().await?;
            let all = Client::all(|page| client.workspaces(page)).await?;
            context.out.list(&all, &["name", "role", "created"], |w| {
                vec![w.name.to_string(), w.role.map_or("-", |r| r.as_str()).to_owned(), w.created.to_string()]
            });
        }
        Workspace::Show { name } => {
            let (client, name) = context.in_workspace(name.as_ref()).await?;
            context.out.show(&client.workspace(&name).await?, show);
        }
        Workspace::Use { name } => choose(context, name).await?,
        Workspace::Delete { name, yes } => {
            let client = context.client().await?;
            input::confirm(yes, &format!("Delete the workspace {name} with its secrets, runs and logs?"))?;
            client.workspace_delete(&name).await?;
            context.out.done("deleted", serde_json::json!({ "workspace": name }), format_args!("deleted {name}"));
        }
        Workspace::Member(command) => member(context, command).await?,
    }
    Ok(0)
}

fn show(out: &Output, view: &WorkspaceView) {
    out.line(format_args!("name                      {}", view.name));
    out.line(format_args!("id                        {}", view.id));
    out.line(format_args!("created                   {}", view.created));
    if let Some(role) = view.role {
        out.line(format_args!("your role                 {}", role.as_str()));
    }
    let WorkspaceSettings { retention_days, require_declared_secrets, enforce_validity } = view.settings;
    let yes = |set: bool| if set { "yes" } else { "no" };
    out.line(format_args!("deleted secrets are kept  {retention_days} days"));
    out.line(format_args!("runs must declare secrets {}", yes(require_declared_secrets)));
    out.line(format_args!("dates are enforced        {}", yes(enforce_validity)));
}

/// Writes the user's default, once the server has said that the workspace is there to be seen.
async fn choose(context: &Context<'_>, name: WorkspaceName) -> Outcome<()> {
    let client = context.client().await?;
    let view = client.workspace(&name).await?;
    let folder = context.config_folder()?;
    let mut user = UserFile::load(&folder)?;
    let server = client.server();
    match &user.address {
        // A default belongs to a server: another one's workspace under this address would be a trap.
        Some(address) if *address != server.origin => {
            return Err(Failure::usage(format!(
                "your default server is {address}, and {name} is at {}; `kluis login` changes the default, \
                 `kluis init` sets it for one project",
                server.origin
            )));
        }
        Some(_) => {}
        None => {
            user.address = Some(server.origin.clone());
            user.ca_sha256 = Some(server.ca_sha256);
        }
    }
    user.workspace = Some(view.name.clone());
    user.save(&folder)?;
    context.out.show(&view, |out, view| out.note(format_args!("{} is your default workspace", view.name)));
    Ok(())
}

async fn member(context: &Context<'_>, command: Member) -> Outcome<()> {
    let (client, workspace) = context.in_workspace(None).await?;
    match command {
        Member::Add { principal, role } => {
            let view = client.member_set(&workspace, &principal, &SetMember { role: role.into() }).await?;
            context.out.show(&view, |out, view| {
                out.note(format_args!("{} is {} in {workspace}", view.name, view.role.as_str()));
            });
        }
        Member::Remove { principal } => {
            client.member_remove(&workspace, &principal).await?;
            let fields = serde_json::json!({ "principal": principal, "workspace": workspace });
            let note = format_args!("{principal} is no member of {workspace} any more");
            context.out.done("removed", fields, note);
        }
        Member::List => {
            let all = Client::all(|page| client.members(&workspace, page)).await?;
            context.out.list(&all, &["name", "role", "id"], |m| {
                vec![m.name.to_string(), m.role.as_str().to_owned(), m.principal.to_string()]
            });
        }
    }
    Ok(())
}
