//! The credential service: a workspace's secrets. Every success is exactly 200, for this client takes no other.

use axum::extract::State;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use kluis_core::api::azureml::{
    GivenSecret, GivenSecrets, Listed, ListedSecret, NamedSecrets, SecretDocument, SecretDocuments, SecretPage,
};
use kluis_core::api::secrets::{NamedSecret, SecretValue, SecretView, SetSecret, SetSecrets};
use kluis_core::api::{Done, PageQuery};
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::plaintext::Plaintext;
use kluis_core::secret::Attributes;
use serde::Deserialize;

use super::edge::{Refusal, Result};
use super::wire::{Body, By, InWorkspace, at};
use crate::api::{Path, Query};
use crate::app::App;
use crate::error::Error;

pub(super) fn routes() -> Router<App> {
    let here = |rest| at("/credential/v2.0", rest);
    Router::new()
        .route(&here("/secrets"), get(list).put(set))
        .route(&here("/secrets/{name}"), get(read).delete(delete))
        .route(&here("/secrets:putbatch"), put(set_many))
        .route(&here("/secrets:getbatch"), post(read_many))
        .route(&here("/secrets:deletebatch"), post(delete_many))
}

#[derive(Debug, Deserialize)]
struct At {
    workspace: WorkspaceName,
    name: SecretName,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    #[serde(default)]
    continuation_token: Option<String>,
}

async fn set(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InWorkspace>,
    Body(given): Body<GivenSecret>,
) -> Result<Json<SecretDocument>> {
    let attributes = attributes(&given);
    let (name, value) = (given.name, required(given.value)?);
    let set = SetSecret { value, attributes, if_revision: None };
    Ok(Json(document(app.secrets().set(&caller, &at.workspace, &name, &set).await?.into(), None)))
}

/// All of them, or none.
async fn set_many(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InWorkspace>,
    Body(given): Body<GivenSecrets>,
) -> Result<Json<SecretDocuments>> {
    let item = |given: GivenSecret| -> Result<NamedSecret> {
        let attributes = attributes(&given);
        Ok(NamedSecret { name: given.name, value: required(given.value)?, attributes })
    };
    let set = SetSecrets { items: given.secrets.into_iter().map(item).collect::<Result<_>>()? };
    let set = app.secrets().set_many(&caller, &at.workspace, &set).await?;
    let secrets = set.items.into_iter().map(|view| document(view, None)).collect();
    Ok(Json(SecretDocuments { secrets, not_found_secrets: Vec::new() }))
}

async fn read(State(app): State<App>, By(caller): By, Path(at): Path<At>) -> Result<Json<SecretDocument>> {
    let read = app.secrets().read(&caller, &at.workspace, &at.name, None).await;
    let SecretValue { value, secret } = read.map_err(|error| not_found(error, &at.name))?.into();
    Ok(Json(document(secret, Some(value))))
}

async fn read_many(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InWorkspace>,
    Body(asked): Body<NamedSecrets>,
) -> Result<Json<SecretDocuments>> {
    let names: Vec<SecretName> = asked.secrets.into_iter().map(|secret| secret.name).collect();
    let read = app.secrets().read_many(&caller, &at.workspace, &names).await?;
    let secrets = read.items.into_iter().map(|SecretValue { value, secret }| document(secret, Some(value))).collect();
    Ok(Json(SecretDocuments { secrets, not_found_secrets: read.missing }))
}

async fn list(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InWorkspace>,
    Query(asked): Query<Asked>,
) -> Result<Json<SecretPage>> {
    let page = PageQuery { limit: None, after: asked.continuation_token };
    let listed = app.secrets().list(&caller, &at.workspace, &page).await?;
    let value = listed.items.into_iter().map(|item| ListedSecret { name: item.secret.name }).collect();
    Ok(Json(Listed { value, continuation_token: listed.next }))
}

async fn delete(State(app): State<App>, By(caller): By, Path(at): Path<At>) -> Result<Json<Done>> {
    let deleted = app.secrets().delete(&caller, &at.workspace, &at.name).await;
    deleted.map_err(|error| not_found(error, &at.name))?;
    Ok(Json(Done {}))
}

/// One after the other: it stops at the first that can not be deleted, as the client does without this route.
async fn delete_many(
    State(app): State<App>,
    By(caller): By,
    Path(at): Path<InWorkspace>,
    Body(asked): Body<NamedSecrets>,
) -> Result<Json<Done>> {
    for secret in asked.secrets {
        let deleted = app.secrets().delete(&caller, &at.workspace, &secret.name).await;
        deleted.map_err(|error| not_found(error, &secret.name))?;
    }
    Ok(Json(Done {}))
}

fn attributes(given: &GivenSecret) -> Attributes {
    Attributes { content_type: given.content_type().map(ToOwned::to_owned), ..Attributes::default() }
}

/// The client leaves out a value of `None`.
fn required(value: Option<Plaintext>) -> Result<Plaintext> {
    let missing = || Error::InvalidValue("the value is None; is the environment variable set?".into());
    Ok(value.ok_or_else(missing)?)
}

fn document(view: SecretView, value: Option<Plaintext>) -> SecretDocument {
    SecretDocument::new(view.name, value, view.attributes.content_type, view.created, view.updated)
}

/// A missing secret in the words that scripts look for; a deleted one is missing. The name has proved to be one.
fn not_found(error: Error, name: &SecretName) -> Refusal {
    match error {
        Error::SecretNotFound | Error::SecretDeleted { .. } => {
            Refusal::told(Error::SecretNotFound, format!("Secret {name} not found."))
        }
        other => other.into(),
    }
}
