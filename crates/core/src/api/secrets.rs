//! Secrets on the native API. [`SecretValue`], [`SetSecret`] and the batch types are the only ones that carry values;
//! they exist only with the feature `plaintext`.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::id::VersionId;
use crate::name::SecretName;
use crate::secret::Attributes;

/// A secret without its value: a list's item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretView {
    /// Its name, in its first spelling.
    pub name: SecretName,
    /// The current version.
    pub version: VersionId,
    /// The current version's attributes.
    pub attributes: Attributes,
    /// When the secret was first set.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
    /// Moves with every change of the current version or of deletion; give it as `if_revision`.
    pub revision: u64,
    /// When it was deleted, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Timestamp>,
    /// When it will be purged, if it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_at: Option<Timestamp>,
}

/// A version without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VersionView {
    /// The secret's name.
    pub name: SecretName,
    /// The version.
    pub version: VersionId,
    /// Whether a read without a version gets this one.
    pub current: bool,
    /// Its attributes.
    pub attributes: Attributes,
    /// When it was set.
    pub created: Timestamp,
    /// When its attributes last changed.
    pub updated: Timestamp,
    /// Moves with every change of the attributes.
    pub revision: u64,
}

/// A change of attributes: `PATCH /workspaces/{workspace}/secrets/{name}/versions/{version}` (`current` names the
/// current one). Absent fields stay as they are, `null` takes an attribute away; `tags` replaces all tags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangeVersion {
    /// Disable or enable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// A new content type, or none.
    #[serde(default, deserialize_with = "super::or_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub content_type: Option<Option<String>>,
    /// New tags, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<std::collections::BTreeMap<String, String>>,
    /// A new start of validity, or none.
    #[serde(default, deserialize_with = "super::or_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Timestamp>))]
    pub not_before: Option<Option<Timestamp>>,
    /// A new end of validity, or none.
    #[serde(default, deserialize_with = "super::or_null", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Timestamp>))]
    pub expires: Option<Option<Timestamp>>,
    /// Refuse with `revision_conflict` unless the version's revision is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_revision: Option<u64>,
}

/// How a value is asked for: `GET /workspaces/{workspace}/secrets/{name}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::IntoParams))]
#[cfg_attr(feature = "openapi", into_params(parameter_in = Query))]
#[serde(deny_unknown_fields)]
pub struct GetSecretQuery {
    /// This version; the current one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
}

/// Names to read in one go: `POST /workspaces/{workspace}/secrets:get`. At most 1000. One refused name refuses all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct GetSecrets {
    /// The names.
    pub names: Vec<SecretName>,
}

/// What a batch set did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretsSet {
    /// One for each entry, in the order given, `name` spelled as given.
    pub items: Vec<SecretView>,
}

#[cfg(feature = "plaintext")]
mod carrying {
    use super::{Attributes, Deserialize, SecretName, SecretView, Serialize};
    use crate::plaintext::Plaintext;

    /// A value with what belongs to it.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct SecretValue {
        /// The value.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub value: Plaintext,
        /// Everything else; `version` and `attributes` are those of the version that was read.
        #[serde(flatten)]
        pub secret: SecretView,
    }

    /// A new version: `PUT /workspaces/{workspace}/secrets/{name}`.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct SetSecret {
        /// The value: text of at most 25,600 bytes, the empty text included.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub value: Plaintext,
        /// The new version's attributes.
        #[serde(default)]
        pub attributes: Attributes,
        /// Refuse with `revision_conflict` unless the secret's revision is this one; 0: unless it does not exist.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub if_revision: Option<u64>,
    }

    /// Several secrets in one go: `POST /workspaces/{workspace}/secrets:set`. At most 1000, names distinct; all are
    /// set or none.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct SetSecrets {
        /// The entries.
        pub items: Vec<NamedSecret>,
    }

    /// One entry of a batch set.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    #[serde(deny_unknown_fields)]
    pub struct NamedSecret {
        /// Its name.
        pub name: SecretName,
        /// Its value.
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub value: Plaintext,
        /// The new version's attributes.
        #[serde(default)]
        pub attributes: Attributes,
    }

    /// What a batch get found.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub struct SecretValues {
        /// The values, in the order asked, `name` spelled as asked.
        pub items: Vec<SecretValue>,
        /// The names that do not exist (or are deleted), spelled as asked.
        pub missing: Vec<SecretName>,
    }
}
#[cfg(feature = "plaintext")]
pub use carrying::*;
