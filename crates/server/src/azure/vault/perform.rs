//! The operations: read what came, call the service, render what it says.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64URL_NOPAD;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use kluis_core::api::keyvault::{
    self, AskedAttributes, Backup, InvalidDate, SecretItem, SecretList, SetSecret, UpdateSecret, VaultUrl,
};
use kluis_core::api::{Page, PageQuery, secrets as native};
use kluis_core::clock::Timestamp;
use kluis_core::name::{SecretName, WorkspaceName};
use kluis_core::secret::{Attributes, SecretState};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::JSON;
use super::operation::{Operation, Parameters};
use crate::api::json;
use crate::app::App;
use crate::caller::Caller;
use crate::error::{Error, Result};
use crate::service::secrets::Described;

/// The largest body of a set or an update: the largest value, each byte of it escaped, and all that belongs to it.
const MOST_BODY: usize = 256 * 1024;
/// The largest body of a restore: a backup of as many versions as one can have.
const MOST_BACKUP: usize = 32 * 1024 * 1024;

/// A vault, and who asks it.
pub(super) struct Face<'a> {
    pub(super) app: &'a App,
    pub(super) vault: &'a VaultUrl,
    pub(super) caller: &'a Caller,
    pub(super) workspace: &'a WorkspaceName,
}

impl Face<'_> {
    pub(super) async fn perform(&self, operation: Operation, with: &Parameters, request: Request) -> Result<Response> {
        let (secrets, caller, workspace) = (self.app.secrets(), self.caller, self.workspace);
        Ok(match operation {
            Operation::Set(name) => self.set(&name, request).await?,
            Operation::Get(name, version) => {
                let read = secrets.read(caller, workspace, &name, version).await?;
                ok(&self.version(&read.described).with(read.value))
            }
            Operation::Update(name, version) => {
                let version = version.map_or_else(|| "current".to_owned(), |id| id.to_string());
                let change = change(body(request, MOST_BODY).await?)?;
                ok(&self.version(&secrets.version_change(caller, workspace, &name, &version, &change).await?))
            }
            Operation::List => {
                let page = secrets.list(caller, workspace, &query(with)).await?;
                ok(&self.list(page, "/secrets", with, |secret| self.secret(secret)))
            }
            Operation::Versions(name) => self.versions(&name, with).await?,
            Operation::Delete(name) => ok(&self.version(&secrets.delete(caller, workspace, &name).await?)),
            Operation::ListDeleted => {
                let page = secrets.list_deleted(caller, workspace, &query(with)).await?;
                ok(&self.list(page, "/deletedsecrets", with, |secret| self.secret(secret)))
            }
            Operation::GetDeleted(name) => ok(&self.version(&secrets.get_deleted(caller, workspace, &name).await?)),
            Operation::Recover(name) => ok(&self.version(&secrets.recover(caller, workspace, &name).await?)),
            Operation::Purge(name) => {
                secrets.purge(caller, workspace, &name).await?;
                StatusCode::NO_CONTENT.into_response()
            }
            Operation::Backup(name) => {
                let sealed = secrets.backup(caller, workspace, &name).await?;
                ok(&Backup { value: BASE64URL_NOPAD.encode(&sealed) })
            }
            Operation::Restore => {
                let Backup { value } = body(request, MOST_BACKUP).await?;
                // Some clients pad it, and some do not.
                let sealed = BASE64URL_NOPAD.decode(value.trim_end_matches('=').as_bytes());
                let sealed = sealed.map_err(|_| Error::BackupRefused)?;
                ok(&self.version(&secrets.restore(caller, workspace, &sealed).await?))
            }
        })
    }

    async fn set(&self, name: &SecretName, request: Request) -> Result<Response> {
        let SetSecret { value, content_type, tags, attributes } = body(request, MOST_BODY).await?;
        let AskedAttributes { enabled, nbf, exp } = attributes.unwrap_or_default();
        let attributes = Attributes {
            enabled: enabled.unwrap_or(true),
            content_type,
            tags: tags.unwrap_or_default(),
            not_before: date(nbf)?,
            expires: date(exp)?,
        };
        let set = native::SetSecret { value, attributes, if_revision: None };
        let described = self.app.secrets().set(self.caller, self.workspace, name, &set).await?;
        Ok(ok(&self.version(&described).with(set.value)))
    }

    /// A name that is not there has no versions, and neither has one that is deleted.
    async fn versions(&self, name: &SecretName, with: &Parameters) -> Result<Response> {
        let page = match self.app.secrets().versions(self.caller, self.workspace, name, &query(with)).await {
            Err(Error::SecretNotFound) => Page { items: Vec::new(), next: None },
            Ok(page) if page.items.iter().any(|v| v.secret.state != SecretState::Active) => {
                Page { items: Vec::new(), next: None }
            }
            page => page?,
        };
        Ok(ok(&self.list(page, &format!("/secrets/{name}/versions"), with, |version| self.version(version))))
    }

    /// A page. What has a name that this dialect does not know is left out.
    fn list(
        &self,
        page: Page<Described>,
        path: &str,
        with: &Parameters,
        render: impl Fn(&Described) -> SecretItem,
    ) -> SecretList {
        let known = page.items.iter().filter(|item| item.secret.name.fits_key_vault());
        let next = page.next.map(|key| self.vault.next_link(path, &with.api_version, &key, with.page));
        SecretList { value: known.map(render).collect(), next_link: next }
    }

    /// One version.
    fn version(&self, described: &Described) -> SecretItem {
        let id = self.vault.secret_id(&described.secret.name, Some(described.version.id));
        self.item(id, described)
    }

    /// A secret as such: its id names no version.
    fn secret(&self, described: &Described) -> SecretItem {
        self.item(self.vault.secret_id(&described.secret.name, None), described)
    }

    fn item(&self, id: String, Described { secret, version, retention_days }: &Described) -> SecretItem {
        let item = SecretItem::new(id, &version.attributes, (version.created, version.updated), *retention_days);
        match secret.state {
            SecretState::Active => item,
            SecretState::Deleted { at, purge_at } => item.deleted(self.vault.recovery_id(&secret.name), at, purge_at),
        }
    }
}

fn query(with: &Parameters) -> PageQuery {
    PageQuery { limit: Some(with.page), after: with.after.clone() }
}

fn change(UpdateSecret { content_type, tags, attributes }: UpdateSecret) -> Result<native::ChangeVersion> {
    let AskedAttributes { enabled, nbf, exp } = attributes.unwrap_or_default();
    Ok(native::ChangeVersion {
        enabled,
        content_type: content_type.map(Some),
        tags,
        not_before: date(nbf)?.map(Some),
        expires: date(exp)?.map(Some),
        if_revision: None,
    })
}

fn date(seconds: Option<i64>) -> Result<Option<Timestamp>> {
    seconds.map(keyvault::date).transpose().map_err(|e: InvalidDate| Error::InvalidValue(e.to_string().into()))
}

async fn body<T: DeserializeOwned>(request: Request, limit: usize) -> Result<T> {
    let body = json::read_body(request, limit).await?;
    if body.is_empty() {
        return Err(Error::bad_request(
            "the request has no body; a client that makes its first requests at the same time may have lost it while it \
             got its token: make one first, then the others",
        ));
    }
    json::parse(&body)
}

fn ok(answer: &impl Serialize) -> Response {
    let bytes = serde_json::to_vec(answer).expect("texts, numbers and flags become JSON");
    ([(CONTENT_TYPE, JSON)], bytes).into_response()
}
