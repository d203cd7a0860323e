//! What `kluis admin invite` prints: address, CA pin and the one-time code in one text, so that first contact needs no
//! trust on first use. `kluis_` and base64url of JSON; whoever holds it can sign in once, so it is handled as a value.

use data_encoding::BASE64URL_NOPAD;
use kluis_core::plaintext::Plaintext;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::trust::Server;

const PREFIX: &str = "kluis_invite_";

/// An invitation with everything that redeeming it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Which server, and how to recognise it.
    pub server: Server,
    /// The one-time code, `kls_inv_...`.
    pub code: Plaintext,
}

/// The text is not an invitation. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an invitation's code; one starts with kluis_invite_ and is printed by `kluis admin invite`")]
pub struct InvalidInvitation;

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(flatten)]
    server: Server,
    code: Plaintext,
}

impl Invitation {
    /// The text to hand over. Wiped when dropped.
    pub fn to_text(&self) -> Zeroizing<String> {
        let wire = Wire { server: self.server.clone(), code: self.code.clone() };
        let json = Zeroizing::new(serde_json::to_vec(&wire).expect("an invitation is JSON"));
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + json.len() * 2));
        text.push_str(PREFIX);
        BASE64URL_NOPAD.encode_append(&json, &mut text);
        text
    }

    /// Reads what [`Self::to_text`] wrote; white space around it is ignored.
    pub fn parse(text: &str) -> Result<Self, InvalidInvitation> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(InvalidInvitation)?;
        let json = Zeroizing::new(BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| InvalidInvitation)?);
        let Wire { server, code } = serde_json::from_slice(&json).map_err(|_| InvalidInvitation)?;
        Ok(Self { server, code })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::{CaPin, Origin};

    #[test]
    fn an_invitation_is_read_back_and_anything_else_is_not() {
        let invitation = Invitation {
            server: Server {
                origin: Origin::parse("kluis.example.org").unwrap(),
                ca_sha256: CaPin::of_certificate(b"ca"),
            },
            code: Plaintext::from_text("kls_inv_abc_def").unwrap(),
        };
        let text = invitation.to_text();
        assert_eq!(Invitation::parse(&format!(" {}\n", *text)), Ok(invitation));
        assert!(!text.contains("kls_inv_abc_def"));
        for bad in ["", "kluis_invite_", "kls_inv_abc_def", &text[..text.len() - 2]] {
            assert_eq!(Invitation::parse(bad), Err(InvalidInvitation));
        }
    }
}
