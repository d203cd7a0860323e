//! The credential service: a workspace's secrets, with values. `application/NotProvided` is that client's word for no
//! content type; it is one neither in a row nor on any other face.

use serde::{Deserialize, Serialize};

use super::Listed;
use crate::clock::Timestamp;
use crate::name::SecretName;
use crate::plaintext::Plaintext;

const NOT_PROVIDED: &str = "application/NotProvided";

/// A secret to set: `PUT .../secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GivenSecret {
    /// Its name.
    pub name: SecretName,
    /// Its value. The client leaves it out when its caller gave `None`.
    #[serde(default)]
    pub value: Option<Plaintext>,
    /// What the value is.
    #[serde(default)]
    pub content_type: Option<String>,
}

impl GivenSecret {
    /// What the value is, if that was said.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref().filter(|text| *text != NOT_PROVIDED)
    }
}

/// Several to set: `PUT .../secrets:putbatch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenSecrets {
    /// The secrets.
    pub secrets: Vec<GivenSecret>,
}

/// A name in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedSecret {
    /// The name.
    pub name: SecretName,
}

/// Names to read or to delete: `POST .../secrets:getbatch`, `:deletebatch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedSecrets {
    /// The names.
    pub secrets: Vec<AskedSecret>,
}

/// A secret as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretDocument {
    /// Its name.
    pub name: SecretName,
    /// Its value, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Plaintext>,
    /// What the value is.
    pub content_type: String,
    /// When the secret was first set.
    pub created_time: Timestamp,
    /// When it last changed.
    pub modified_time: Timestamp,
}

impl SecretDocument {
    /// A secret.
    pub fn new(
        name: SecretName,
        value: Option<Plaintext>,
        content_type: Option<String>,
        created_time: Timestamp,
        modified_time: Timestamp,
    ) -> Self {
        let content_type = content_type.unwrap_or_else(|| NOT_PROVIDED.to_owned());
        Self { name, value, content_type, created_time, modified_time }
    }
}

/// What a batch found. Both lists must be there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretDocuments {
    /// Found, with the names as asked.
    pub secrets: Vec<SecretDocument>,
    /// Not found, as asked.
    pub not_found_secrets: Vec<SecretName>,
}

/// A name in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedSecret {
    /// The name.
    pub name: SecretName,
}

/// Names: `GET .../secrets`.
pub type SecretPage = Listed<ListedSecret>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_content_type_has_a_name_outside_and_none_inside() {
        let given = r#"{"name":"a","value":"v","contentType":"application/NotProvided"}"#;
        let given: GivenSecret = serde_json::from_str(given).unwrap();
        assert_eq!(given.content_type(), None);
        let now = Timestamp::from_seconds(0);
        assert_eq!(SecretDocument::new(given.name, None, None, now, now).content_type, NOT_PROVIDED);
    }

    #[test]
    fn a_value_of_none_is_absent_and_told_apart_from_the_empty_text() {
        let given: GivenSecret = serde_json::from_str(r#"{"name":"a","contentType":"x"}"#).unwrap();
        assert_eq!((given.value.as_ref(), given.content_type()), (None, Some("x")));
        let given: GivenSecret = serde_json::from_str(r#"{"name":"a","value":""}"#).unwrap();
        assert!(given.value.is_some_and(|value| value.is_empty()));
    }
}
