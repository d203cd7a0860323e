//! Secrets and their versions: attributes with their limits, soft delete, and the canonical bytes that a
//! row MAC covers. The current-version pointer and the attributes grant (they decide what a reader gets), so
//! both are authenticated together with a revision.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::{PrincipalId, SecretId, VersionId, WorkspaceId};
use crate::name::SecretName;
use crate::sealed::Canonical;

/// How long a deleted secret can be recovered, unless its workspace says otherwise: 90 days.
pub const DEFAULT_RETENTION: Duration = Duration::from_hours(90 * 24);
/// The longest content type, in bytes.
pub const MAX_CONTENT_TYPE: usize = 255;
/// The most tags a version can have.
pub const MAX_TAGS: usize = 15;
/// The longest tag key or value, in bytes.
pub const MAX_TAG_TEXT: usize = 256;
/// The most entries of one batch, set or get.
pub const MAX_BATCH: usize = 1000;

/// A secret: a name, a pointer to its current version, and whether it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The workspace that holds it.
    pub workspace: WorkspaceId,
    /// Its id, from first set to purge.
    pub id: SecretId,
    /// Its name, in its first spelling.
    pub name: SecretName,
    /// The version that a read without a version gets.
    pub current: VersionId,
    /// Active or deleted.
    pub state: SecretState,
    /// Counts changes of pointer and state, from 1.
    pub revision: u64,
    /// When it was first set.
    pub created: Timestamp,
    /// When pointer or state last changed.
    pub updated: Timestamp,
}

/// Whether a secret is there for readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// It can be read and set.
    Active,
    /// It can be recovered until it is purged; its name stays taken.
    Deleted {
        /// When it was deleted.
        at: Timestamp,
        /// When it will be purged.
        purge_at: Timestamp,
    },
}

/// A transition that the secret's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretTransitionError {
    /// Set, read or delete on a deleted secret.
    #[error("the secret is deleted; recover it, or purge it and set it anew")]
    Deleted {
        /// When it will be purged.
        purge_at: Timestamp,
    },
    /// Recover or purge on an active secret.
    #[error("the secret is not deleted")]
    NotDeleted,
}

impl SecretState {
    /// Active, or the reason it can not be used.
    pub fn require_active(self) -> Result<(), SecretTransitionError> {
        match self {
            Self::Active => Ok(()),
            Self::Deleted { purge_at, .. } => Err(SecretTransitionError::Deleted { purge_at }),
        }
    }

    /// Deletes softly: recoverable for `retention`.
    pub fn delete(self, now: Timestamp, retention: Duration) -> Result<Self, SecretTransitionError> {
        self.require_active()?;
        Ok(Self::Deleted { at: now, purge_at: now.plus(retention) })
    }

    /// Brings a deleted secret back.
    pub fn recover(self) -> Result<Self, SecretTransitionError> {
        self.require_deleted()?;
        Ok(Self::Active)
    }

    /// Deleted, so that it may be purged.
    pub fn require_deleted(self) -> Result<(), SecretTransitionError> {
        match self {
            Self::Active => Err(SecretTransitionError::NotDeleted),
            Self::Deleted { .. } => Ok(()),
        }
    }
}

impl Secret {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        let c = Canonical::new("kluis/row/secret/1")
            .bytes(self.workspace.as_bytes())
            .bytes(self.id.as_bytes())
            .text(self.name.as_str())
            .bytes(self.current.as_bytes())
            .number(self.revision)
            .signed(self.created.millis())
            .signed(self.updated.millis());
        match self.state {
            SecretState::Active => c.text("active"),
            SecretState::Deleted { at, purge_at } => c.text("deleted").signed(at.millis()).signed(purge_at.millis()),
        }
        .finish()
    }
}

/// What can be said of a version without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Attributes {
    /// A disabled version can not be read. The only attribute that blocks a read.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// A hint for readers, at most 255 bytes; never the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// At most 15, keys and values at most 256 bytes each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Informs readers: not meant to be used before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Informs readers: not meant to be used after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

fn enabled() -> bool {
    true
}

impl Default for Attributes {
    fn default() -> Self {
        Self { enabled: true, content_type: None, tags: BTreeMap::new(), not_before: None, expires: None }
    }
}

/// Attributes over their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAttributes {
    /// See [`MAX_CONTENT_TYPE`].
    #[error("the content type has {0} bytes; at most 255 are allowed")]
    ContentType(usize),
    /// See [`MAX_TAGS`].
    #[error("{0} tags; at most 15 are allowed")]
    Tags(usize),
    /// See [`MAX_TAG_TEXT`].
    #[error("a tag's key or value has {0} bytes; at most 256 are allowed")]
    TagText(usize),
}

impl Attributes {
    /// Checks the limits.
    pub fn check(&self) -> Result<(), InvalidAttributes> {
        if let Some(length) = self.content_type.as_ref().map(String::len).filter(|n| *n > MAX_CONTENT_TYPE) {
            return Err(InvalidAttributes::ContentType(length));
        }
        if self.tags.len() > MAX_TAGS {
            return Err(InvalidAttributes::Tags(self.tags.len()));
        }
        match self.tags.iter().flat_map(|(k, v)| [k.len(), v.len()]).max() {
            Some(length) if length > MAX_TAG_TEXT => Err(InvalidAttributes::TagText(length)),
            _ => Ok(()),
        }
    }
}

/// A version without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The workspace that holds it.
    pub workspace: WorkspaceId,
    /// The secret it belongs to.
    pub secret: SecretId,
    /// Its id, random, known before it is written.
    pub id: VersionId,
    /// Its attributes.
    pub attributes: Attributes,
    /// Counts changes of the attributes, from 1.
    pub revision: u64,
    /// When it was set.
    pub created: Timestamp,
    /// When its attributes last changed.
    pub updated: Timestamp,
    /// Who set it.
    pub created_by: PrincipalId,
}

impl Version {
    /// What the row MAC covers.
    pub fn canonical(&self) -> Vec<u8> {
        let a = &self.attributes;
        let millis = |t: Option<Timestamp>| t.map(|t| t.millis().to_be_bytes());
        let mut c = Canonical::new("kluis/row/version/1")
            .bytes(self.workspace.as_bytes())
            .bytes(self.secret.as_bytes())
            .bytes(self.id.as_bytes())
            .number(self.revision)
            .signed(self.created.millis())
            .signed(self.updated.millis())
            .bytes(self.created_by.as_bytes())
            .number(u64::from(a.enabled))
            .optional(a.content_type.as_ref().map(String::as_bytes))
            .optional(millis(a.not_before).as_ref().map(|b| &b[..]))
            .optional(millis(a.expires).as_ref().map(|b| &b[..]))
            .number(a.tags.len() as u64);
        for (key, value) in &a.tags {
            c = c.text(key).text(value);
        }
        c.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1000);

    #[test]
    fn deleted_secret_keeps_its_name_until_purged() {
        let deleted = SecretState::Active.delete(NOW, DEFAULT_RETENTION).unwrap();
        assert!(matches!(deleted.require_active(), Err(SecretTransitionError::Deleted { .. })));
        assert!(deleted.delete(NOW, DEFAULT_RETENTION).is_err());
        assert_eq!(deleted.recover(), Ok(SecretState::Active));
        assert_eq!(SecretState::Active.recover(), Err(SecretTransitionError::NotDeleted));
        assert_eq!(SecretState::Active.require_deleted(), Err(SecretTransitionError::NotDeleted));
    }

    #[test]
    fn every_attribute_is_under_the_mac() {
        let version = Version {
            workspace: WorkspaceId::from_bytes([1; 16]),
            secret: SecretId::from_bytes([2; 16]),
            id: VersionId::from_bytes([3; 16]),
            attributes: Attributes::default(),
            revision: 1,
            created: NOW,
            updated: NOW,
            created_by: PrincipalId::from_bytes([4; 16]),
        };
        let changes: [fn(&mut Version); 8] = [
            |v| v.attributes.enabled = false,
            |v| v.attributes.content_type = Some(String::new()),
            |v| v.attributes.not_before = Some(NOW),
            |v| v.attributes.expires = Some(NOW),
            |v| drop(v.attributes.tags.insert("a".into(), "b".into())),
            |v| v.revision = 2,
            |v| v.id = VersionId::from_bytes([9; 16]),
            |v| v.secret = SecretId::from_bytes([9; 16]),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut other = version.clone();
            change(&mut other);
            assert_ne!(version.canonical(), other.canonical(), "change {i}");
        }
    }

    #[test]
    fn limits_are_checked() {
        let long = "x".repeat(257);
        let with = |change: &dyn Fn(&mut Attributes)| {
            let mut a = Attributes::default();
            change(&mut a);
            a.check()
        };
        assert_eq!(with(&|a| a.content_type = Some(long.clone())), Err(InvalidAttributes::ContentType(257)));
        assert_eq!(with(&|a| drop(a.tags.insert(long.clone(), String::new()))), Err(InvalidAttributes::TagText(257)));
        assert_eq!(
            with(&|a| a.tags = (0..16).map(|i| (i.to_string(), String::new())).collect()),
            Err(InvalidAttributes::Tags(16))
        );
    }
}
