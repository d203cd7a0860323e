//! The twelve operations, as method and path say them, and the query's parameters.

use axum::extract::Query;
use http::{Method, Uri};
use kluis_core::api::keyvault::{self, MAX_PAGE};
use kluis_core::id::VersionId;
use kluis_core::name::SecretName;

use crate::error::{Error, Result};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Set(SecretName),
    /// Of the latest version when none is named.
    Get(SecretName, Option<VersionId>),
    Update(SecretName, Option<VersionId>),
    List,
    Versions(SecretName),
    Delete(SecretName),
    ListDeleted,
    GetDeleted(SecretName),
    Recover(SecretName),
    Purge(SecretName),
    Backup(SecretName),
    Restore,
}

impl Operation {
    /// The latest version is named by nothing behind the name's slash, and `restore` only by POST: it is a good name too.
    pub(super) fn parse(method: &Method, path: &str) -> Result<Self> {
        let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let parts = match &parts[..] {
            [all @ .., ""] => all,
            all => all,
        };
        let (get, post, delete) = (*method == Method::GET, *method == Method::POST, *method == Method::DELETE);
        Ok(match *parts {
            ["secrets"] if get => Self::List,
            ["secrets", "restore"] if post => Self::Restore,
            ["secrets", name] if get => Self::Get(secret(name)?, None),
            ["secrets", name] if *method == Method::PUT => Self::Set(secret(name)?),
            ["secrets", name] if *method == Method::PATCH => Self::Update(secret(name)?, None),
            ["secrets", name] if delete => Self::Delete(secret(name)?),
            ["secrets", name, "versions"] if get => Self::Versions(secret(name)?),
            ["secrets", name, "backup"] if post => Self::Backup(secret(name)?),
            ["secrets", name, of] if get => Self::Get(secret(name)?, Some(version(of)?)),
            ["secrets", name, of] if *method == Method::PATCH => Self::Update(secret(name)?, Some(version(of)?)),
            ["deletedsecrets"] if get => Self::ListDeleted,
            ["deletedsecrets", name] if get => Self::GetDeleted(secret(name)?),
            ["deletedsecrets", name] if delete => Self::Purge(secret(name)?),
            ["deletedsecrets", name, "recover"] if post => Self::Recover(secret(name)?),
            ["secrets" | "deletedsecrets"] | ["secrets" | "deletedsecrets", _] | ["secrets", _, _] => {
                return Err(Error::MethodNotAllowed);
            }
            ["deletedsecrets", _, "recover"] => return Err(Error::MethodNotAllowed),
            _ => return Err(Error::NotFound("address")),
        })
    }

    /// For the log.
    pub(super) const fn route(&self) -> &'static str {
        match self {
            Self::Set(_) => "vault/set",
            Self::Get(..) => "vault/get",
            Self::Update(..) => "vault/update",
            Self::List => "vault/list",
            Self::Versions(_) => "vault/versions",
            Self::Delete(_) => "vault/delete",
            Self::ListDeleted => "vault/list-deleted",
            Self::GetDeleted(_) => "vault/get-deleted",
            Self::Recover(_) => "vault/recover",
            Self::Purge(_) => "vault/purge",
            Self::Backup(_) => "vault/backup",
            Self::Restore => "vault/restore",
        }
    }

    /// The permission that it needs, in this dialect's word.
    pub(super) const fn permission(&self) -> &'static str {
        match self {
            Self::Set(_) | Self::Update(..) => "set",
            Self::Get(..) | Self::GetDeleted(_) => "get",
            Self::List | Self::Versions(_) | Self::ListDeleted => "list",
            Self::Delete(_) => "delete",
            Self::Recover(_) => "recover",
            Self::Purge(_) => "purge",
            Self::Backup(_) => "backup",
            Self::Restore => "restore",
        }
    }

    /// The secret that is named, and the version if one is.
    pub(super) fn about(&self) -> Option<(&SecretName, Option<VersionId>)> {
        match self {
            Self::List | Self::ListDeleted | Self::Restore => None,
            Self::Get(name, version) | Self::Update(name, version) => Some((name, *version)),
            Self::Set(name)
            | Self::Versions(name)
            | Self::Delete(name)
            | Self::GetDeleted(name)
            | Self::Recover(name)
            | Self::Purge(name)
            | Self::Backup(name) => Some((name, None)),
        }
    }

    /// Whether it is about what is deleted.
    pub(super) const fn is_about_deleted(&self) -> bool {
        matches!(self, Self::GetDeleted(_) | Self::Purge(_))
    }
}

/// A name without `_`: this dialect has none, so a secret that has one is nobody's here.
fn secret(text: &str) -> Result<SecretName> {
    let name = SecretName::parse(text)?;
    if name.fits_key_vault() {
        Ok(name)
    } else {
        Err(Error::InvalidName(
            "a secret's name has a `_`, which this interface does not know; use the native one".into(),
        ))
    }
}

fn version(text: &str) -> Result<VersionId> {
    let wrong = |_| Error::bad_request("the address has something else where a version's 32 hex digits belong");
    text.to_ascii_lowercase().parse().map_err(wrong)
}

/// The query: the names of its parameters may be escaped, and those that we do not know are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) api_version: String,
    /// How many items a page has.
    pub(super) page: u32,
    /// The last item's key.
    pub(super) after: Option<String>,
}

impl Parameters {
    pub(super) fn parse(uri: &Uri) -> Result<Self> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Error::bad_request("the address's query is not understood"))?;
        let find = |name: &str| pairs.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let api_version =
            find("api-version").ok_or_else(|| Error::bad_request("the parameter api-version is missing"))?;
        if !keyvault::is_api_version(api_version) {
            return Err(Error::bad_request("the parameter api-version is no version, such as 7.6 or 2026-04-01"));
        }
        let page = find("maxresults").map_or(Some(MAX_PAGE), |n| n.parse().ok().filter(|n| (1..=MAX_PAGE).contains(n)));
        let page = page.ok_or_else(|| Error::bad_request("the parameter maxresults must be 1 to 25"))?;
        let after = find("$skiptoken").map(|token| keyvault::skip_token(token).ok_or(()));
        let after =
            after.transpose().map_err(|()| Error::bad_request("the parameter $skiptoken is not of a nextLink"))?;
        Ok(Self { api_version: api_version.clone(), page, after })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: &str, path: &str) -> Result<Operation> {
        Operation::parse(&method.parse().unwrap(), path)
    }

    #[test]
    fn every_operation_has_its_address() {
        let name = || SecretName::parse("a-1").unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        let version = Some(id.parse().unwrap());
        for (method, path, operation) in [
            ("PUT", "/secrets/a-1", Operation::Set(name())),
            ("GET", "/secrets/a-1", Operation::Get(name(), None)),
            ("GET", "/secrets/a-1/", Operation::Get(name(), None)),
            ("GET", &format!("/secrets/A-1/{id}"), Operation::Get(name(), version)),
            ("GET", &format!("/secrets/a-1/{}", id.to_uppercase()), Operation::Get(name(), version)),
            ("PATCH", "/secrets/a-1/", Operation::Update(name(), None)),
            ("PATCH", &format!("/secrets/a-1/{id}"), Operation::Update(name(), version)),
            ("GET", "/secrets", Operation::List),
            ("GET", "/secrets/", Operation::List),
            ("GET", "/secrets/a-1/versions", Operation::Versions(name())),
            ("DELETE", "/secrets/a-1", Operation::Delete(name())),
            ("GET", "/deletedsecrets", Operation::ListDeleted),
            ("GET", "/deletedsecrets/a-1", Operation::GetDeleted(name())),
            ("POST", "/deletedsecrets/a-1/recover", Operation::Recover(name())),
            ("DELETE", "/deletedsecrets/a-1", Operation::Purge(name())),
            ("POST", "/secrets/a-1/backup", Operation::Backup(name())),
            ("POST", "/secrets/restore", Operation::Restore),
            ("PUT", "/secrets/restore", Operation::Set(SecretName::parse("restore").unwrap())),
            ("GET", "/secrets/restore/", Operation::Get(SecretName::parse("restore").unwrap(), None)),
        ] {
            assert_eq!(parsed(method, path), Ok(operation), "{method} {path}");
        }
    }

    #[test]
    fn other_addresses_and_methods_are_refused() {
        for (method, path) in [
            ("PUT", "/secrets/"),
            ("POST", "/secrets"),
            ("POST", "/secrets/a"),
            ("POST", "/secrets/a/versions"),
            ("DELETE", "/secrets/a/backup"),
            ("HEAD", "/secrets/a"),
            ("GET", "/deletedsecrets/a/recover"),
        ] {
            assert_eq!(parsed(method, path), Err(Error::MethodNotAllowed), "{method} {path}");
        }
        for path in ["/", "", "/keys", "/secret/a", "/secrets/a/b/c", "/api/v1/whoami", "//secrets", "/secrets/a/b//"] {
            assert_eq!(parsed("GET", path), Err(Error::NotFound("address")), "{path}");
        }
        for path in ["/secrets/a_b", "/secrets/a%2Db", "/secrets/..", "/secrets//", "/secrets/ä", "/secrets//versions"]
        {
            let refused = parsed("GET", path);
            assert!(matches!(refused, Err(Error::InvalidName(_))), "{path}: {refused:?}");
        }
        assert!(matches!(parsed("GET", "/secrets/a/latest"), Err(Error::BadRequest(_))));
    }

    #[test]
    fn parameters_are_found_under_escaped_names_too() {
        let parse = |query: &str| Parameters::parse(&format!("/secrets?{query}").parse().unwrap());
        let plain = Parameters { api_version: "7.6".into(), page: 25, after: None };
        assert_eq!(parse("api-version=7.6"), Ok(plain.clone()));
        assert_eq!(parse("api%2Dversion=7.6&outContentType=x"), Ok(plain));
        let page = parse("api-version=2025-07-01&%24skiptoken=YQ&maxresults=3").unwrap();
        assert_eq!((page.page, page.after.as_deref()), (3, Some("a")));
        for query in
            ["", "api-version", "api-version=x", "api-version=7.6&maxresults=0", "api-version=7.6&maxresults=26"]
        {
            assert!(matches!(parse(query), Err(Error::BadRequest(_))), "{query}");
        }
        assert!(parse("api-version=7.6&$skiptoken=!").is_err());
    }
}
