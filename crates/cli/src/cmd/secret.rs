//! Secrets of the workspace's vault. Values go in by `input`, and out by `get` and `export` alone.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kluis_client::Client;
use kluis_client::broker::Broker;
use kluis_core::api::secrets::{ChangeVersion, GetSecrets, NamedSecret, SecretView, SetSecret, SetSecrets};
use kluis_core::clock::{Clock, SystemClock, Timestamp};
use kluis_core::id::VersionId;
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::plaintext::Plaintext;
use kluis_core::secret::{Attributes, MAX_BATCH};
use zeroize::Zeroizing;

use crate::args::{self, Secret, SecretSet};
use crate::context::Context;
use crate::failure::{CONFLICT, Failure, NOT_FOUND, Outcome};
use crate::input::{self, Wanted, confirm};
use crate::reference::Reference;
use crate::values;

pub(super) async fn run(context: &Context<'_>, command: Secret) -> Outcome<u8> {
    match command {
        Secret::Set(set) => self::set(context, set).await,
        Secret::Get { name, reveal, version } => get(context, &name, version, reveal).await,
        Secret::List { deleted } => list(context, deleted).await,
        Secret::Versions { name } => versions(context, &name).await,
        Secret::Enable { name } => enable(context, &name, true).await,
        Secret::Disable { name } => enable(context, &name, false).await,
        Secret::Delete { name } => {
            whole(&name)?;
            let (client, workspace) = place(context, &name).await?;
            let view = client.secret_delete(&workspace, &name.name).await?;
            context.out.show(&view, |out, view| {
                let until = view.purge_at.map_or_else(String::new, |t| format!(" until {t}"));
                out.note(format_args!("deleted {}; `kluis secret recover` brings it back{until}", view.name));
            });
            Ok(0)
        }
        Secret::Recover { name } => {
            whole(&name)?;
            let (client, workspace) = place(context, &name).await?;
            let view = client.secret_recover(&workspace, &name.name).await?;
            context.out.show(&view, |out, view| out.note(format_args!("recovered {}", view.name)));
            Ok(0)
        }
        Secret::Purge { name, yes } => {
            whole(&name)?;
            let (client, workspace) = place(context, &name).await?;
            confirm(yes, &format!("Erase {} for good?", name.name))?;
            client.secret_purge(&workspace, &name.name).await?;
            let fields = serde_json::json!({ "name": name.name, "workspace": workspace });
            context.out.done("purged", fields, format_args!("purged {}", name.name));
            Ok(0)
        }
        Secret::Generate { name, length } => {
            no_version(&name)?;
            let (client, workspace) = place(context, &name).await?;
            let set =
                SetSecret { value: random_text(length.into())?, attributes: Attributes::default(), if_revision: None };
            set_one(context, &client, &workspace, &name.name, &set).await
        }
        Secret::Import { file, allow_empty } => set_file(context, &file, allow_empty, &Attributes::default()).await,
        Secret::Export { file, names } => export(context, &file, &names).await,
    }
}

/// The client and the workspace that a reference means.
async fn place(context: &Context<'_>, name: &Reference) -> Outcome<(Client, WorkspaceName)> {
    context.in_workspace(name.workspace.as_ref()).await
}

fn no_version(name: &Reference) -> Outcome<()> {
    match name.version {
        None => Ok(()),
        Some(_) => Err(Failure::usage("a new value makes a new version: leave the version out")),
    }
}

/// Versions are not deleted one by one: a name with a version must not take the whole secret along.
fn whole(name: &Reference) -> Outcome<()> {
    match name.version {
        None => Ok(()),
        Some(_) => Err(Failure::usage(
            "this is done to a secret with all its versions, so leave the version out; `kluis secret disable \
             NAME@VERSION` stops one version from being read",
        )),
    }
}

async fn set(context: &Context<'_>, set: SecretSet) -> Outcome<u8> {
    let attributes = Attributes {
        content_type: set.content_type.clone(),
        tags: set.tags.iter().cloned().collect::<BTreeMap<_, _>>(),
        expires: set.expires.as_deref().map(moment).transpose()?,
        ..Attributes::default()
    };
    if let Some(file) = &set.env_file {
        return set_file(context, file, set.allow_empty, &attributes).await;
    }
    let Some(name) = &set.name else { return Err(Failure::usage("which secret?")) };
    no_version(name)?;
    if set.source.len() > 1 {
        // Words beside the name: somebody typed a value. Say why that is refused, without repeating it.
        input::value(Some("a value"), name.name.as_str(), &Wanted::default(), context.out)?;
    }
    // Everything that can be wrong on this side is found before anybody is asked anything.
    let wanted = Wanted { exact: set.exact, allow_empty: set.allow_empty };
    let source = set.source.first().map(String::as_str);
    let given = match &set.from_env {
        Some(variable) => Some(input::from_variable(variable, args::variable(variable), &wanted)?),
        None if source.is_some() => Some(input::value(source, name.name.as_str(), &wanted, context.out)?),
        None => None,
    };
    let (client, workspace) = place(context, name).await?;
    let if_revision = match set.if_version.as_deref() {
        None => None,
        Some("none") => Some(0),
        Some(version) => Some(revision_of(&client, &workspace, &name.name, version).await?),
    };
    let value = || match given {
        Some(value) => Ok(value),
        None => input::value(None, name.name.as_str(), &wanted, context.out),
    };
    let set = SetSecret { value: value()?, attributes, if_revision };
    if set.value.len() < 8 {
        context.out.note("note: a value of less than 8 bytes is not masked in logs");
    }
    set_one(context, &client, &workspace, &name.name, &set).await
}

async fn set_one(
    context: &Context<'_>,
    client: &Client,
    workspace: &WorkspaceName,
    name: &SecretName,
    set: &SetSecret,
) -> Outcome<u8> {
    let view = client.secret_set(workspace, name, set).await?;
    context.out.show(&view, |out, view| out.note(format_args!("set {} (version {})", view.name, view.version)));
    Ok(0)
}

/// The secret's revision, if this is its current version.
async fn revision_of(client: &Client, workspace: &WorkspaceName, name: &SecretName, version: &str) -> Outcome<u64> {
    let version: VersionId = version.parse().map_err(|e| Failure::usage(format!("--if-version: {e}, or `none`")))?;
    let all = Client::all(|page| client.secrets(workspace, page)).await?;
    match all.into_iter().find(|s| s.name == *name) {
        Some(secret) if secret.version == version => Ok(secret.revision),
        Some(secret) => {
            let message = format!("the current version of {name} is {}; nothing was set", secret.version);
            Err(Failure::new(CONFLICT, "revision_conflict", message))
        }
        None => Err(Failure::new(NOT_FOUND, "secret_not_found", format!("there is no secret {name}"))),
    }
}

/// `90d` from now, or an RFC 3339 time.
fn moment(text: &str) -> Outcome<Timestamp> {
    match (values::duration(text), text.parse()) {
        (Ok(duration), _) => Ok(SystemClock.now().plus(duration)),
        (_, Ok(time)) => Ok(time),
        _ => Err(Failure::usage("--expires: expected a duration such as 90d, or a time such as 2027-01-31T00:00:00Z")),
    }
}

async fn set_file(context: &Context<'_>, file: &Path, allow_empty: bool, attributes: &Attributes) -> Outcome<u8> {
    let entries = input::env_file(file, allow_empty)?;
    let named = |(name, value)| NamedSecret { name, value, attributes: attributes.clone() };
    let items: Vec<_> = entries.into_iter().map(named).collect();
    if items.is_empty() {
        return Err(Failure::failed(format!("{} has no entries; nothing was set", file.display())));
    }
    if items.len() > MAX_BATCH {
        return Err(Failure::failed(format!("{} entries; at most {MAX_BATCH} are set in one go", items.len())));
    }
    let (client, workspace) = context.in_workspace(None).await?;
    let set = client.secrets_set(&workspace, &SetSecrets { items }).await?;
    context.out.show(&set, |out, set| {
        for view in &set.items {
            out.note(format_args!("set {} (version {})", view.name, view.version));
        }
    });
    Ok(0)
}

async fn get(context: &Context<'_>, name: &Reference, version: Option<VersionId>, reveal: bool) -> Outcome<u8> {
    let out = context.out;
    if std::io::stdout().is_terminal() && !reveal {
        return Err(Failure::failed("a value is not shown on a terminal; --reveal shows it, a pipe passes it on"));
    }
    let version = match (version, name.version) {
        (Some(one), Some(other)) if one != other => {
            return Err(Failure::usage("the name has another version than --version: give one of them"));
        }
        (one, other) => one.or(other),
    };
    if let Some(socket) = &context.environment.run_socket {
        return get_in_run(context, socket, name, version);
    }
    let (client, workspace) = place(context, name).await?;
    let secret = client.secret_get(&workspace, &name.name, version).await?;
    if out.is_json() {
        out.json(&secret);
    } else {
        print_value(context, &secret.value)?;
    }
    Ok(0)
}

/// Inside a run the launcher answers: limited to the run, on record with it, known to the masker.
fn get_in_run(context: &Context<'_>, socket: &Path, name: &Reference, version: Option<VersionId>) -> Outcome<u8> {
    let own = context.environment.client.workspace.as_deref().and_then(|name| WorkspaceName::parse(name).ok());
    let elsewhere = name.workspace.as_ref().filter(|workspace| own.as_ref() != Some(workspace));
    if version.is_some() || elsewhere.is_some() {
        return Err(Failure::usage(
            "in a run, secrets are read from the run's own workspace and in their current version: give the name alone",
        ));
    }
    let mut broker = Broker::connect(socket).map_err(Failure::from)?;
    let read = broker.secrets(vec![name.name.clone()], false, context.environment.rank, None)?;
    match read.items.first() {
        Some(item) if context.out.is_json() => context.out.json(item),
        Some(item) => print_value(context, &item.value)?,
        None => {
            return Err(Failure::new(NOT_FOUND, "secret_not_found", format!("there is no secret {}", name.name)));
        }
    }
    Ok(0)
}

/// The value, byte for byte; on a terminal with a line break, so that the prompt stands on its own line.
fn print_value(context: &Context<'_>, value: &Plaintext) -> Outcome<()> {
    context.out.bytes(value.expose().as_bytes())?;
    if std::io::stdout().is_terminal() {
        context.out.bytes(b"\n")?;
    }
    Ok(())
}

async fn list(context: &Context<'_>, deleted: bool) -> Outcome<u8> {
    let (client, workspace) = context.in_workspace(None).await?;
    let items = if deleted {
        Client::all(|page| client.deleted_secrets(&workspace, page)).await?
    } else {
        Client::all(|page| client.secrets(&workspace, page)).await?
    };
    context.out.list(&items, &["name", "version", "updated", ""], |secret| {
        vec![secret.name.to_string(), secret.version.to_string(), secret.updated.to_string(), remark(secret)]
    });
    Ok(0)
}

fn remark(secret: &SecretView) -> String {
    let mut remarks = Vec::new();
    if !secret.attributes.enabled {
        remarks.push("disabled".to_owned());
    }
    if let Some(expires) = secret.attributes.expires {
        let word = if expires < SystemClock.now() { "expired" } else { "expires" };
        remarks.push(format!("{word} {expires}"));
    }
    if let Some(purge_at) = secret.purge_at {
        remarks.push(format!("recoverable until {purge_at}"));
    }
    remarks.join(", ")
}

async fn versions(context: &Context<'_>, name: &Reference) -> Outcome<u8> {
    if name.version.is_some() {
        return Err(Failure::usage("all versions are listed: leave the version out"));
    }
    let (client, workspace) = place(context, name).await?;
    let items = Client::all(|page| client.secret_versions(&workspace, &name.name, page)).await?;
    context.out.list(&items, &["version", "set", ""], |version| {
        let mut remarks = Vec::new();
        if version.current {
            remarks.push("current");
        }
        if !version.attributes.enabled {
            remarks.push("disabled");
        }
        vec![version.version.to_string(), version.created.to_string(), remarks.join(", ")]
    });
    Ok(0)
}

async fn enable(context: &Context<'_>, name: &Reference, enabled: bool) -> Outcome<u8> {
    let (client, workspace) = place(context, name).await?;
    let change = ChangeVersion { enabled: Some(enabled), ..ChangeVersion::default() };
    let view = client.secret_version_change(&workspace, &name.name, name.version, &change).await?;
    context.out.show(&view, |out, view| {
        let word = if enabled { "enabled" } else { "disabled" };
        out.note(format_args!("{word} {} (version {})", view.name, view.version));
    });
    Ok(0)
}

/// A random text of letters and digits: 32 of them hold 190 bits.
fn random_text(length: usize) -> Outcome<Plaintext> {
    use kluis_core::rng::Rng;
    const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut bytes = Zeroizing::new(vec![0; length]);
    kluis_client::SystemRng.fill(&mut bytes);
    for byte in bytes.iter_mut() {
        *byte = ALPHABET[usize::from(*byte & 63)];
    }
    Ok(Plaintext::from_bytes(std::mem::take(&mut *bytes))?)
}

async fn export(context: &Context<'_>, file: &Path, names: &[Reference]) -> Outcome<u8> {
    let to_stdout = file == Path::new("-");
    if to_stdout && std::io::stdout().is_terminal() {
        return Err(Failure::failed("values are not shown on a terminal; name a file"));
    }
    let (client, workspace) = context.in_workspace(None).await?;
    let names = if names.is_empty() {
        let all = Client::all(|page| client.secrets(&workspace, page)).await?;
        all.into_iter().filter(|s| s.attributes.enabled).map(|s| s.name).collect()
    } else {
        let own = |reference: &Reference| reference.name_in(&workspace).cloned().map_err(Failure::usage);
        names.iter().map(own).collect::<Outcome<Vec<_>>>()?
    };
    let mut text = Zeroizing::new(String::new());
    for chunk in names.chunks(MAX_BATCH) {
        let read = client.secrets_get(&workspace, &GetSecrets { names: chunk.to_vec() }).await?;
        if let Some(missing) = read.missing.first() {
            return Err(Failure::new(NOT_FOUND, "secret_not_found", format!("there is no secret {missing}")));
        }
        for item in &read.items {
            text.push_str(item.secret.name.as_str());
            text.push('=');
            quote(item.value.expose(), &mut text);
            text.push('\n');
        }
    }
    if to_stdout {
        context.out.bytes(text.as_bytes())?;
        return Ok(0);
    }
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|e| Failure::failed(format!("{}: {e}", file.display())))?;
    let fields = serde_json::json!({ "file": file, "names": names });
    let note = format_args!("wrote {} values to {}; it holds them in the clear", names.len(), file.display());
    context.out.done("exported", fields, note);
    Ok(0)
}

/// In double quotes, as `.env` readers take them apart again.
fn quote(value: &str, out: &mut String) {
    out.push('"');
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' | '$' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_value_has_its_length_and_no_surprises() {
        let (a, b) = (random_text(32).expect("text"), random_text(32).expect("text"));
        assert_eq!(a.len(), 32);
        assert_ne!(a, b);
    }

    #[test]
    fn an_exported_value_stays_on_one_line() {
        let mut out = String::new();
        quote("a\"b\\c\n$d", &mut out);
        assert_eq!(out, "\"a\\\"b\\\\c\\n\\$d\"");
    }
}
