//! Typed ids: 128 random bits, written as 32 lower-case hex digits. One macro makes them all, so that
//! a workspace's id can not be passed where a secret's is wanted.

use data_encoding::HEXLOWER;

use crate::rng::Rng;

/// The text is not 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id: 32 lower-case hex digits are expected")]
pub struct InvalidId;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// A new random id.
            pub fn generate(rng: &dyn Rng) -> Self {
                let mut bytes = [0; 16];
                rng.fill(&mut bytes);
                Self(bytes)
            }

            /// From its 16 bytes, as the store keeps them.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its 16 bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| InvalidId)?;
                Ok(Self(bytes.try_into().map_err(|_| InvalidId)?))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                crate::api::text_schema("^[0-9a-f]{32}$")
            }
        }

        #[cfg(feature = "openapi")]
        impl utoipa::ToSchema for $name {}
    )*};
}

ids! {
    /// One installation of Kluis: the origin of its checkpoints.
    InstallationId;
    /// A workspace.
    WorkspaceId;
    /// A secret: a name's life from its first set to its purge. A purged and re-created name is another secret.
    SecretId;
    /// One immutable value of a secret.
    VersionId;
    /// A user, a service principal, an agent or a run's submitter: whoever can hold a token.
    PrincipalId;
    /// One token, so that it can be listed and revoked without knowing it.
    TokenId;
    /// An invitation.
    InviteId;
    /// A login that waits for somebody's approval.
    DeviceId;
    /// One generation of a wrapping key.
    KeyId;
    /// A compute target.
    ComputeId;
    /// A launcher's session.
    SessionId;
    /// A ticket.
    TicketId;
    /// One snapshot, log chunk or output in the blob store: random for logs and outputs, a keyed hash for snapshots.
    BlobId;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::CountingRng;

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id = VersionId::generate(&CountingRng::new(1));
        assert_eq!(id.to_string().len(), 32);
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "0", &"0".repeat(31), &"0".repeat(33), &"A".repeat(32), &"g".repeat(32)] {
            assert_eq!(text.parse::<VersionId>(), Err(InvalidId), "{text}");
        }
    }
}
