//! Names, parsed at the door. `parse` is the only way in, so a name that exists is well-formed, and two
//! spellings of one name compare equal: ASCII case is ignored, the first spelling is kept for display.

use std::fmt;

/// Why a text is not a name. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// No characters at all.
    #[error("{kind} is empty")]
    Empty {
        /// Which kind of name, as in "a secret's name".
        kind: &'static str,
    },
    /// Longer than allowed.
    #[error("{kind} has {length} characters; {limit} are allowed")]
    TooLong {
        /// Which kind of name.
        kind: &'static str,
        /// How long it is.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A character that is not allowed.
    #[error("{kind} has a character at position {position} that is not allowed; use {allowed}")]
    Character {
        /// Which kind of name.
        kind: &'static str,
        /// Counted in bytes from 0.
        position: usize,
        /// What is allowed, in words.
        allowed: &'static str,
    },
}

struct Rule {
    kind: &'static str,
    limit: usize,
    allowed: &'static str,
    first: fn(u8) -> bool,
    rest: fn(u8) -> bool,
}

fn alphanumeric(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn check(text: &str, rule: &Rule) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty { kind: rule.kind });
    }
    if let Some(position) =
        text.bytes().enumerate().position(|(i, b)| !(if i == 0 { rule.first } else { rule.rest })(b))
    {
        return Err(InvalidName::Character { kind: rule.kind, position, allowed: rule.allowed });
    }
    if text.len() > rule.limit {
        return Err(InvalidName::TooLong { kind: rule.kind, length: text.len(), limit: rule.limit });
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $rule:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name {
            display: String,
            key: String,
        }

        impl $name {
            /// The only door: checks the text and keeps its spelling.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                check(text, &$rule)?;
                Ok(Self { display: text.to_owned(), key: text.to_ascii_lowercase() })
            }

            /// As it was first spelled.
            pub fn as_str(&self) -> &str {
                &self.display
            }

            /// Lower case: what lookups, unique keys and throttles use.
            pub fn key(&self) -> &str {
                &self.key
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.key == other.key
            }
        }

        impl Eq for $name {}

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.key.cmp(&other.key)
            }
        }

        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.key.hash(state);
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.display)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.display)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.display)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::api::text_schema("^[0-9A-Za-z._@+-]{1,255}$")
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    )*};
}

names! {
    /// A secret's name: `[0-9A-Za-z_-]{1,127}`. The Key Vault face allows no `_`.
    SecretName = Rule {
        kind: "a secret's name",
        limit: 127,
        allowed: "0-9, A-Z, a-z, - and _",
        first: |b| alphanumeric(b) || b == b'-' || b == b'_',
        rest: |b| alphanumeric(b) || b == b'-' || b == b'_',
    };
    /// A workspace's name: 3 to 24 characters would fit a vault's host name, so letters, digits and `-`,
    /// a letter or digit first, at most 63 (one DNS label).
    WorkspaceName = Rule {
        kind: "a workspace's name",
        limit: 63,
        allowed: "0-9, A-Z, a-z and -, a letter or digit first",
        first: alphanumeric,
        rest: |b| alphanumeric(b) || b == b'-',
    };
    /// An experiment's name: 1 to 255, first a letter or digit, then also `-` and `_`.
    ExperimentName = Rule {
        kind: "an experiment's name",
        limit: 255,
        allowed: "0-9, A-Z, a-z, - and _, a letter or digit first",
        first: alphanumeric,
        rest: |b| alphanumeric(b) || b == b'-' || b == b'_',
    };
    /// A compute target's name: 1 to 63, first a letter or digit, then also `-` and `_`.
    ComputeName = Rule {
        kind: "a compute target's name",
        limit: 63,
        allowed: "0-9, A-Z, a-z, - and _, a letter or digit first",
        first: alphanumeric,
        rest: |b| alphanumeric(b) || b == b'-' || b == b'_',
    };
    /// A principal's name: 1 to 127, an e-mail address fits.
    PrincipalName = Rule {
        kind: "a principal's name",
        limit: 127,
        allowed: "0-9, A-Z, a-z and . _ @ + -, a letter or digit first",
        first: alphanumeric,
        rest: |b| alphanumeric(b) || b"._@+-".contains(&b),
    };
    /// A run's id: `<experiment>_<seconds>_<8 hex digits>` when Kluis makes it; 1 to 255 of `[0-9A-Za-z_-]`.
    RunId = Rule {
        kind: "a run's id",
        limit: 255,
        allowed: "0-9, A-Z, a-z, - and _",
        first: alphanumeric,
        rest: |b| alphanumeric(b) || b == b'-' || b == b'_',
    };
}

impl SecretName {
    /// Whether the Key Vault face can carry this name (no `_`).
    pub fn fits_key_vault(&self) -> bool {
        !self.key.contains('_')
    }

    /// The conventional environment variable: `db-password` becomes `DB_PASSWORD`.
    pub fn env_name(&self) -> String {
        self.display.to_ascii_uppercase().replace('-', "_")
    }
}

impl ComputeName {
    /// Whether this is the submitter's own machine.
    pub fn is_local(&self) -> bool {
        self.key == "local"
    }
}

impl RunId {
    /// A new id for a run of `experiment`, as the field knows them: `churn_1795530000_1a2b3c4d`.
    pub fn generate(experiment: &ExperimentName, now: crate::clock::Timestamp, rng: &dyn crate::rng::Rng) -> Self {
        let mut tail = [0; 4];
        rng.fill(&mut tail);
        let tail = data_encoding::HEXLOWER.encode(&tail);
        // 255 less the two separators, ten digits of seconds and eight of chance.
        let head: String = experiment.as_str().chars().take(230).collect();
        Self::parse(&format!("{head}_{}_{tail}", now.seconds()))
            .expect("an experiment's name, digits and hex make a run's id")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_ignored_and_the_spelling_kept() {
        let (a, b) = (SecretName::parse("Db-Password").unwrap(), SecretName::parse("DB-PASSWORD").unwrap());
        assert_eq!(a, b);
        assert_eq!(a.key(), "db-password");
        assert_eq!(a.to_string(), "Db-Password");
        assert_eq!(a.env_name(), "DB_PASSWORD");
    }

    #[test]
    fn what_is_not_a_secret_name_is_told_by_position_not_by_content() {
        assert_eq!(SecretName::parse(""), Err(InvalidName::Empty { kind: "a secret's name" }));
        let bad = SecretName::parse("hunter2 ").unwrap_err();
        assert!(bad.to_string().contains("position 7") && !bad.to_string().contains("hunter2"), "{bad}");
        for text in ["a/b", "a.b", "a%2eb", "ä", "a\0", "..", "a b"] {
            assert!(SecretName::parse(text).is_err(), "{text}");
        }
        assert!(SecretName::parse(&"a".repeat(127)).is_ok());
        assert!(matches!(SecretName::parse(&"a".repeat(128)), Err(InvalidName::TooLong { length: 128, .. })));
    }

    #[test]
    fn a_generated_run_id_is_a_run_id() {
        let experiment = ExperimentName::parse(&"e".repeat(255)).unwrap();
        let id =
            RunId::generate(&experiment, crate::clock::Timestamp::from_seconds(1), &crate::rng::CountingRng::new(1));
        assert!(RunId::parse(id.as_str()).is_ok());
    }
}
