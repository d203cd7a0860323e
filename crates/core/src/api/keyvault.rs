//! The Key Vault dialect: what unmodified Azure clients of secrets send and expect, as data. The server's vault face and
//! a launcher inside a run both speak it, so what an answer looks like and how a refusal reads stand here once.
//!
//! Times are whole seconds since 1970, ids are addresses built from the host that was asked, and clients match on some of
//! the texts below: they are those of the real service, word for word where we know them.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::VersionId;
use crate::name::SecretName;
use crate::plaintext::Plaintext;
use crate::secret;

/// The label between a vault's name and the installation's: `WORKSPACE.vault.HOST`.
pub const VAULT_LABEL: &str = "vault";
/// The tenant that clients are told of: the one for which they ask no other authority whether it exists.
pub const TENANT: &str = "adfs";
/// The largest page, and the default one.
pub const MAX_PAGE: u32 = 25;
/// 9999-12-30T22:00:00Z: after it a date has no text everywhere on earth, and so none in the native API.
const LAST_SECOND: i64 = 253_402_207_200;

// Where a vault is ------------------------------------------------------------------------------------------------------

/// Where a vault answers, spelled as its client spells it: clients compare what they are told with what they asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultUrl {
    /// `NAME.SUFFIX[:PORT]`.
    host: String,
    /// Where `SUFFIX` starts in it.
    suffix: usize,
}

impl VaultUrl {
    /// From a `Host` header or an `:authority` whose first label is the vault's name. `None` when there is nothing behind
    /// the first label, or bytes that no host has.
    pub fn from_host(host: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'_');
        let (name, suffix) = host.split_once('.')?;
        let is_host =
            !name.is_empty() && !suffix.is_empty() && !suffix.starts_with([':', '.']) && host.bytes().all(plain);
        is_host.then(|| Self { host: host.to_owned(), suffix: name.len() + 1 })
    }

    /// The vault's name.
    pub fn name(&self) -> &str {
        &self.host[..self.suffix - 1]
    }

    /// A secret's id, of one version or of none.
    pub fn secret_id(&self, name: &SecretName, version: Option<VersionId>) -> String {
        match version {
            None => format!("{self}/secrets/{name}"),
            Some(version) => format!("{self}/secrets/{name}/{version}"),
        }
    }

    /// Where a deleted secret is found.
    pub fn recovery_id(&self, name: &SecretName) -> String {
        format!("{self}/deletedsecrets/{name}")
    }

    /// Where a list goes on after `key`, the last item's; see [`skip_token`]. `path` starts with `/`, and `api_version`
    /// has nothing to escape in it.
    pub fn next_link(&self, path: &str, api_version: &str, key: &str, page: u32) -> String {
        let token = BASE64URL_NOPAD.encode(key.as_bytes());
        format!("{self}{path}?api-version={api_version}&$skiptoken={token}&maxresults={page}")
    }

    /// What a token for this vault is made out for: every client's check holds for the host without its first label.
    pub fn resource(&self) -> String {
        format!("https://{}", &self.host[self.suffix..])
    }

    /// Whether a token that was made out for `audience` is one for this vault: spelling and the default port aside.
    pub fn is_audience(&self, audience: &str) -> bool {
        let plain = |url: &str| {
            let url = url.trim_end_matches('/').to_ascii_lowercase();
            url.strip_suffix(":443").map(ToOwned::to_owned).unwrap_or(url)
        };
        plain(audience) == plain(&self.resource())
    }

    /// Who gives tokens: the installation's own name, with the tenant.
    pub fn authority(&self) -> String {
        let suffix = &self.host[self.suffix..];
        let own = suffix.split_once('.').filter(|(label, _)| label.eq_ignore_ascii_case(VAULT_LABEL));
        format!("https://{}/{TENANT}", own.map_or(suffix, |(_, own)| own))
    }

    /// The `www-authenticate` of a request without a token: one space after the comma and none elsewhere, because some
    /// clients split at spaces and some at commas.
    pub fn challenge(&self) -> String {
        format!("Bearer authorization=\"{}\", resource=\"{}\"", self.authority(), self.resource())
    }

    /// The `www-authenticate` of a request whose token is no longer good: clients that know this form drop the token that
    /// they keep, and get another one that is issued after `now`.
    pub fn claims_challenge(&self, now: Timestamp) -> String {
        let claims = format!("{{\"access_token\":{{\"nbf\":{{\"essential\":true,\"value\":\"{}\"}}}}}}", now.seconds());
        format!(
            "Bearer realm=\"\", authorization_uri=\"{}\", error=\"insufficient_claims\", claims=\"{}\"",
            self.authority(),
            BASE64.encode(claims.as_bytes())
        )
    }
}

impl fmt::Display for VaultUrl {
    /// Without a slash at its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.host)
    }
}

/// The key in a `$skiptoken` that [`VaultUrl::next_link`] made; `None` when it made no such one.
pub fn skip_token(token: &str) -> Option<String> {
    String::from_utf8(BASE64URL_NOPAD.decode(token.as_bytes()).ok()?).ok()
}

/// Whether this is an `api-version`: a date or two numbers, perhaps a preview. Which one makes no difference to us.
pub fn is_api_version(text: &str) -> bool {
    let (version, nth) = text.split_once("-preview").unwrap_or((text, ""));
    let number = |part: &str| matches!(part.len(), 1..=4) && part.bytes().all(|b| b.is_ascii_digit());
    let dated = version.len() == 10 && version.split('-').count() == 3 && version.split('-').all(number);
    let numbered = version.split('.').count() == 2 && version.split('.').all(number);
    (dated || numbered) && (nth.is_empty() || nth.strip_prefix('.').is_some_and(number))
}

// Answers ---------------------------------------------------------------------------------------------------------------

/// A secret without its value: a list's item, and the answer to everything that tells no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretItem {
    /// See [`VaultUrl::secret_id`]: with the version, except in lists of secrets.
    pub id: String,
    /// What the value is said to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Everything that is a flag, a time or a number.
    pub attributes: Attributes,
    /// All tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// What is added when it is deleted.
    #[serde(flatten)]
    pub deletion: Option<Deletion>,
}

/// A secret with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretBundle {
    /// The value.
    pub value: Plaintext,
    /// Everything else.
    #[serde(flatten)]
    pub item: SecretItem,
}

/// A version's attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attributes {
    /// Whether it can be read.
    pub enabled: bool,
    /// Not meant to be used before.
    #[serde(rename = "nbf", skip_serializing_if = "Option::is_none")]
    pub not_before: Option<i64>,
    /// Not meant to be used after.
    #[serde(rename = "exp", skip_serializing_if = "Option::is_none")]
    pub expires: Option<i64>,
    /// When the version was set.
    pub created: i64,
    /// When its attributes last changed.
    pub updated: i64,
    /// What becomes of a deleted secret.
    pub recovery_level: &'static str,
    /// For how many days it can be recovered.
    pub recoverable_days: u16,
}

/// What a deleted secret has besides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// See [`VaultUrl::recovery_id`]. Clients wait for a deletion only when it is there.
    pub recovery_id: String,
    /// When it was deleted.
    pub deleted_date: i64,
    /// When it is purged.
    pub scheduled_purge_date: i64,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretList {
    /// The items; a page may be empty and not the last.
    pub value: Vec<SecretItem>,
    /// Where the list goes on; `null` on the last page.
    pub next_link: Option<String>,
}

/// A backup, or what is restored from one: the sealed bytes as base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The text.
    pub value: String,
}

impl SecretItem {
    /// A version of a secret, with its id.
    pub fn new(
        id: String,
        attributes: &secret::Attributes,
        (created, updated): (Timestamp, Timestamp),
        retention_days: u16,
    ) -> Self {
        Self {
            id,
            content_type: attributes.content_type.clone(),
            attributes: Attributes {
                enabled: attributes.enabled,
                not_before: attributes.not_before.map(Timestamp::seconds),
                expires: attributes.expires.map(Timestamp::seconds),
                created: created.seconds(),
                updated: updated.seconds(),
                recovery_level: recovery_level(retention_days),
                recoverable_days: retention_days,
            },
            tags: attributes.tags.clone(),
            deletion: None,
        }
    }

    /// The same, deleted.
    #[must_use]
    pub fn deleted(self, recovery_id: String, at: Timestamp, purge_at: Timestamp) -> Self {
        let (deleted_date, scheduled_purge_date) = (at.seconds(), purge_at.seconds());
        Self { deletion: Some(Deletion { recovery_id, deleted_date, scheduled_purge_date }), ..self }
    }

    /// The same with its value.
    pub fn with(self, value: Plaintext) -> SecretBundle {
        SecretBundle { value, item: self }
    }
}

/// What becomes of a deleted secret, in the dialect's words: 90 days are its usual, fewer are a vault's choice.
pub fn recovery_level(retention_days: u16) -> &'static str {
    match retention_days {
        0 => "Purgeable",
        1..=89 => "CustomizedRecoverable+Purgeable",
        90.. => "Recoverable+Purgeable",
    }
}

// Requests --------------------------------------------------------------------------------------------------------------

/// A new version: `PUT /secrets/NAME`. What we do not know is passed over: clients send back what they were given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetSecret {
    /// The value.
    pub value: Plaintext,
    /// Its content type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Its tags.
    #[serde(default)]
    pub tags: Option<BTreeMap<String, String>>,
    /// Its attributes.
    #[serde(default)]
    pub attributes: Option<AskedAttributes>,
}

/// Other attributes for a version: `PATCH /secrets/NAME/VERSION`. What is absent or `null` stays; `tags` are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSecret {
    /// Another content type.
    #[serde(default)]
    pub content_type: Option<String>,
    /// Other tags.
    #[serde(default)]
    pub tags: Option<BTreeMap<String, String>>,
    /// Other attributes.
    #[serde(default)]
    pub attributes: Option<AskedAttributes>,
}

/// The attributes that a client chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AskedAttributes {
    /// Whether it can be read.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Not meant to be used before.
    #[serde(default)]
    pub nbf: Option<i64>,
    /// Not meant to be used after.
    #[serde(default)]
    pub exp: Option<i64>,
}

/// The number is no date that a secret can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nbf and exp are seconds since 1970, at most 253402207200 (9999-12-30T22:00:00Z)")]
pub struct InvalidDate;

/// A date as a client sends it. Those in JavaScript cut it to 32 bits with a sign, so that what lies behind 2038 arrives
/// as a negative number; nothing was ever valid until before 1970, so the bits are read as they were meant.
pub fn date(seconds: i64) -> Result<Timestamp, InvalidDate> {
    match seconds {
        0..=LAST_SECOND => Ok(Timestamp::from_seconds(seconds)),
        -0x8000_0000..0 => Ok(Timestamp::from_seconds(seconds + (1 << 32))),
        _ => Err(InvalidDate),
    }
}

// Refusals --------------------------------------------------------------------------------------------------------------

/// An error, as this dialect tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// All of it.
    pub error: ErrorDetail,
}

/// What is in an [`ErrorBody`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorDetail {
    /// For programs.
    pub code: &'static str,
    /// For people, and for the programs that search it.
    pub message: String,
    /// A nearer reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub innererror: Option<InnerError>,
}

/// A nearer reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InnerError {
    /// For programs.
    pub code: &'static str,
}

/// The refusals whose texts are the real service's. A name in them was parsed before; what a request said otherwise is
/// not repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal<'a> {
    /// No token at all.
    NoToken,
    /// A token that was made out for something else.
    WrongAudience {
        /// For what it should be.
        expected: &'a str,
        /// For what it is.
        found: &'a str,
    },
    /// No such secret, or no such version of it.
    SecretNotFound {
        /// Name, or name and version with a slash between.
        id: &'a str,
    },
    /// No such secret among the deleted ones.
    DeletedSecretNotFound(&'a SecretName),
    /// The version is disabled.
    Disabled,
    /// Known, and not allowed.
    AccessDenied {
        /// Who.
        principal: &'a str,
        /// What: `get`, `list`, `set`, ...
        permission: &'a str,
        /// Where.
        vault: &'a str,
    },
    /// The name belongs to a deleted secret.
    Deleted(&'a SecretName),
    /// What is restored is there, deleted or not.
    RestoreConflict {
        /// Its id without a version.
        id: &'a str,
    },
    /// A backup that does not open here.
    MalformedBackup,
    /// A name that can not be one, with the reason.
    InvalidName(&'a str),
    /// The address does not know the method.
    MethodNotAllowed(&'a str),
    /// A parameter or a body that is not understood, with the reason.
    BadParameter(&'a str),
}

impl Refusal<'_> {
    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::NoToken | Self::WrongAudience { .. } => 401,
            Self::SecretNotFound { .. } | Self::DeletedSecretNotFound(_) => 404,
            Self::Disabled | Self::AccessDenied { .. } => 403,
            Self::Deleted(_) | Self::RestoreConflict { .. } => 409,
            Self::MalformedBackup | Self::InvalidName(_) | Self::BadParameter(_) => 400,
            Self::MethodNotAllowed(_) => 405,
        }
    }

    /// The code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoToken | Self::WrongAudience { .. } => "Unauthorized",
            Self::SecretNotFound { .. } | Self::DeletedSecretNotFound(_) => "SecretNotFound",
            Self::Disabled | Self::AccessDenied { .. } => "Forbidden",
            Self::Deleted(_) | Self::RestoreConflict { .. } => "Conflict",
            Self::MalformedBackup => "Malformed backup blob",
            Self::InvalidName(_) | Self::BadParameter(_) => "BadParameter",
            Self::MethodNotAllowed(_) => "MethodNotAllowed",
        }
    }

    fn inner(&self) -> Option<&'static str> {
        match self {
            Self::Disabled => Some("SecretDisabled"),
            Self::AccessDenied { .. } => Some("AccessDenied"),
            Self::Deleted(_) => Some("ObjectIsDeletedButRecoverable"),
            _ => None,
        }
    }

    /// The body.
    pub fn body(&self) -> ErrorBody {
        ErrorBody::new(self.code(), self.to_string(), self.inner())
    }
}

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoToken => f.write_str("AKV10000: Request is missing a Bearer or PoP token."),
            Self::WrongAudience { expected, found } => {
                write!(f, "AKV10022: Invalid audience. Expected {expected}, found: {found}.")
            }
            Self::SecretNotFound { id } => write!(
                f,
                "A secret with (name/id) {id} was not found in this key vault. If you recently deleted this secret you \
                 may be able to recover it using the correct recovery command. For help resolving this issue, please \
                 see https://go.microsoft.com/fwlink/?linkid=2125182"
            ),
            Self::DeletedSecretNotFound(name) => write!(f, "Deleted Secret not found: {name}"),
            Self::Disabled => f.write_str("Operation get is not allowed on a disabled secret."),
            Self::AccessDenied { principal, permission, vault } => write!(
                f,
                "The user, group or application 'oid={principal}' does not have secrets {permission} permission on key \
                 vault '{vault}'. Ask an owner of the workspace for a role in it that allows this."
            ),
            Self::Deleted(name) => write!(
                f,
                "Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this \
                 state, the secret can only be recovered or purged."
            ),
            Self::RestoreConflict { id } => write!(
                f,
                "There was a conflict restoring the secret '{id}': a secret of this name is there, or deleted and not \
                 purged."
            ),
            Self::MalformedBackup => f.write_str("Backup blob contains invalid or corrupt version."),
            Self::InvalidName(reason) => write!(f, "The request URI contains an invalid name: {reason}"),
            Self::MethodNotAllowed(method) => write!(f, "HTTP {method} not allowed"),
            Self::BadParameter(reason) => f.write_str(reason),
        }
    }
}

impl ErrorBody {
    /// An error of any kind.
    pub fn new(code: &'static str, message: String, inner: Option<&'static str>) -> Self {
        Self { error: ErrorDetail { code, message, innererror: inner.map(|code| InnerError { code }) } }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_530_000_999);

    fn url(host: &str) -> VaultUrl {
        VaultUrl::from_host(host).unwrap()
    }

    #[test]
    fn a_vault_is_told_in_the_clients_own_spelling() {
        let vault = url("Team.Vault.kluis.example:8443");
        let name = SecretName::parse("Db-Password").unwrap();
        assert_eq!(vault.name(), "Team");
        assert_eq!(vault.secret_id(&name, None), "https://Team.Vault.kluis.example:8443/secrets/Db-Password");
        assert_eq!(
            vault.challenge(),
            "Bearer authorization=\"https://kluis.example:8443/adfs\", resource=\"https://Vault.kluis.example:8443\""
        );
        for host in ["", "localhost", "localhost:8443", "a.", ".a", "a.:1", "a b.c", "a.b/c", "a@b.c", "a..b"] {
            assert_eq!(VaultUrl::from_host(host), None, "{host}");
        }
    }

    #[test]
    fn an_audience_is_compared_without_case_default_port_and_last_slash() {
        let vault = url("team.vault.example");
        for audience in ["https://vault.example", "https://VAULT.example:443", "https://vault.example/"] {
            assert!(vault.is_audience(audience), "{audience}");
        }
        for audience in ["https://vault.example:8443", "https://vault.azure.net", "", "https://team.vault.example"] {
            assert!(!vault.is_audience(audience), "{audience}");
        }
        assert!(!url("team.vault.example:8443").is_audience("https://vault.example"));
    }

    #[test]
    fn a_page_goes_on_where_the_last_one_ended() {
        let link = url("t.vault.localhost:1").next_link("/secrets", "7.6", "db-password", 3);
        let (start, rest) = link.split_once("$skiptoken=").unwrap();
        assert_eq!(start, "https://t.vault.localhost:1/secrets?api-version=7.6&");
        let (token, end) = rest.split_once('&').unwrap();
        assert_eq!((skip_token(token).as_deref(), end), (Some("db-password"), "maxresults=3"));
        assert_eq!(skip_token("!"), None);
    }

    #[test]
    fn a_claims_challenge_asks_for_a_younger_token() {
        let challenge = url("t.vault.localhost:1").claims_challenge(NOW);
        let (start, claims) = challenge.rsplit_once("claims=\"").unwrap();
        assert_eq!(
            start,
            "Bearer realm=\"\", authorization_uri=\"https://localhost:1/adfs\", error=\"insufficient_claims\", "
        );
        let claims = BASE64.decode(claims.trim_end_matches('"').as_bytes()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["access_token"]["nbf"], json!({ "essential": true, "value": "1795530000" }));
    }

    #[test]
    fn every_version_of_the_interface_is_one() {
        for text in ["2016-10-01", "7.0", "7.6", "2025-07-01", "2026-04-01", "7.6-preview.2", "2025-06-01-preview"] {
            assert!(is_api_version(text), "{text}");
        }
        for text in ["", "7", "7.", "a.b", "2026-4-1", "7.6&x=1", "7.6-preview.", "2026-04-01-beta", "7.6/", "7.6 "] {
            assert!(!is_api_version(text), "{text}");
        }
    }

    #[test]
    fn what_is_absent_is_left_out_and_times_are_whole_seconds() {
        let plain = secret::Attributes { expires: Some(NOW), ..secret::Attributes::default() };
        let item = SecretItem::new("id".into(), &plain, (NOW, NOW), 7);
        assert_eq!(
            serde_json::to_value(&item).unwrap(),
            json!({ "id": "id", "attributes": {
                "enabled": true, "exp": 1_795_530_000, "created": 1_795_530_000, "updated": 1_795_530_000,
                "recoveryLevel": "CustomizedRecoverable+Purgeable", "recoverableDays": 7 } })
        );
        let deleted = serde_json::to_value(item.clone().deleted("back".into(), NOW, NOW)).unwrap();
        assert_eq!(deleted["scheduledPurgeDate"], 1_795_530_000);
        let bundle = item.with(Plaintext::from_text("").unwrap());
        assert_eq!(serde_json::to_value(&bundle).unwrap()["value"], "");
        let list = SecretList { value: Vec::new(), next_link: None };
        assert_eq!(serde_json::to_value(&list).unwrap(), json!({ "value": [], "nextLink": null }));
    }

    #[test]
    fn a_date_that_was_cut_to_32_bits_is_read_as_it_was_meant() {
        assert_eq!(date(-1_770_359_296), Ok(Timestamp::from_seconds(2_524_608_000)), "2050");
        assert_eq!(date(i64::from(i32::MIN)), Ok(Timestamp::from_seconds(1 << 31)));
        for seconds in [0, 1, 1 << 33, LAST_SECOND] {
            let date = date(seconds).unwrap();
            assert_eq!((date.seconds(), date.to_string().parse()), (seconds, Ok(date)), "and has a text");
        }
        for seconds in [i64::from(i32::MIN) - 1, -62_135_596_800, LAST_SECOND + 1, i64::MAX, i64::MIN] {
            assert_eq!(date(seconds), Err(InvalidDate), "{seconds}");
        }
    }

    #[test]
    fn what_clients_send_is_read_and_what_we_do_not_know_passed_over() {
        let set: SetSecret = serde_json::from_value(json!({
            "value": "", "attributes": { "recoverableDays": 90, "exp": null }, "managed": true, "tags": null
        }))
        .unwrap();
        assert_eq!((set.tags, set.attributes), (None, Some(AskedAttributes::default())));
        assert!(serde_json::from_value::<SetSecret>(json!({})).is_err());
        assert_eq!(serde_json::from_value::<UpdateSecret>(json!({})).unwrap(), UpdateSecret::default());
    }

    #[test]
    fn a_refusal_has_a_body_that_tools_search() {
        let name = SecretName::parse("a-b").unwrap();
        assert_eq!(
            serde_json::to_value(Refusal::Deleted(&name).body()).unwrap(),
            json!({ "error": { "code": "Conflict", "innererror": { "code": "ObjectIsDeletedButRecoverable" },
                "message": "Secret a-b is currently in a deleted but recoverable state, and its name cannot be reused; \
                            in this state, the secret can only be recovered or purged." } })
        );
        let body = serde_json::to_value(Refusal::NoToken.body()).unwrap();
        assert_eq!(body["error"].get("innererror"), None);
    }
}
