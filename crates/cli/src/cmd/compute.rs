//! Compute targets: queues that agents serve, and who may use them.

use kluis_client::Client;
use kluis_client::config::UserFile;
use kluis_core::api::workspaces::{ComputeView, CreateCompute};

use crate::args::Compute;
use crate::context::Context;
use crate::failure::Outcome;
use crate::output::Output;

pub(super) async fn run(context: &Context<'_>, command: Compute) -> Outcome<u8> {
    let client = context.client().await?;
    let out = context.out;
    match command {
        Compute::Create { name, closed } => {
            let view = client.compute_create(&CreateCompute { name, open: !closed }).await?;
            out.show(&view, |out, view| {
                out.note(format_args!("created {0}; `kluis agent --compute {0}` serves it", view.name));
            });
        }
        Compute::List => {
            let all = Client::all(|page| client.computes(page)).await?;
            out.list(&all, &["name", "who", "waiting", "last seen"], |c| {
                vec![c.name.to_string(), who(c).to_owned(), c.queued.to_string(), seen(c)]
            });
        }
        Compute::Show { name } => out.show(&client.compute(&name).await?, show),
        Compute::Use { name } => {
            // That it exists and can be used is said now, not at the first submission.
            if !name.is_local() {
                client.compute(&name).await?;
            }
            let folder = context.config_folder()?;
            let mut user = UserFile::load(&folder)?;
            user.compute = Some(name.clone());
            user.save(&folder)?;
            let note = format_args!("your runs go to {name} unless a project or --compute says otherwise");
            out.done("chosen", serde_json::json!({ "compute": name }), note);
        }
        Compute::Delete { name } => {
            client.compute_delete(&name).await?;
            out.done("deleted", serde_json::json!({ "compute": name }), format_args!("deleted {name}"));
        }
        Compute::Grant { name, principal } => {
            client.compute_user_add(&name, &principal).await?;
            let fields = serde_json::json!({ "compute": name, "principal": principal });
            out.done("granted", fields, format_args!("{principal} may use {name}"));
        }
        Compute::Revoke { name, principal } => {
            client.compute_user_remove(&name, &principal).await?;
            let fields = serde_json::json!({ "compute": name, "principal": principal });
            out.done("revoked", fields, format_args!("{principal} may not use {name} any more"));
        }
    }
    Ok(0)
}

fn show(out: &Output, view: &ComputeView) {
    out.line(format_args!("name       {}", view.name));
    out.line(format_args!("id         {}", view.id));
    out.line(format_args!("who        {}", who(view)));
    out.line(format_args!("waiting    {}", view.queued));
    out.line(format_args!("last seen  {}", seen(view)));
}

fn who(view: &ComputeView) -> &'static str {
    if view.open { "everybody who may submit" } else { "those granted it" }
}

fn seen(view: &ComputeView) -> String {
    view.last_seen.map_or_else(|| "never".to_owned(), |time| time.to_string())
}
