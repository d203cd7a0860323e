//! Tokens for the faces whose clients look into their token: a JSON Web Token in shape, with random bits where the
//! signature would be. What it says is for its holder; whether it is good, and what for, only the store knows.

use data_encoding::BASE64URL_NOPAD;
use kluis_core::rng::Rng;
use zeroize::Zeroizing;

use crate::token::InvalidToken;

/// Under what purpose its lookup hash is made.
pub const PURPOSE: &str = "face";
/// The longest one that is looked at.
pub const MAX_BYTES: usize = 4096;

/// Clients read the claims and never verify: there is no key that they could have. Some want a usual algorithm here.
const HEADER: &[u8] = br#"{"typ":"JWT","alg":"HS256"}"#;
const RANDOM_BYTES: usize = 32;

/// A new token with these claims, a JSON object.
pub fn generate(claims: &[u8], rng: &dyn Rng) -> Zeroizing<String> {
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    rng.fill(&mut random[..]);
    let encoded = |bytes: usize| BASE64URL_NOPAD.encode_len(bytes);
    // At full size at once: what would grow leaves copies behind.
    let bytes = encoded(HEADER.len()) + encoded(claims.len()) + encoded(RANDOM_BYTES) + 2;
    let mut token = Zeroizing::new(String::with_capacity(bytes));
    BASE64URL_NOPAD.encode_append(HEADER, &mut token);
    token.push('.');
    BASE64URL_NOPAD.encode_append(claims, &mut token);
    token.push('.');
    BASE64URL_NOPAD.encode_append(&random[..], &mut token);
    token
}

/// Whether the text has the form of one.
pub fn check(text: &str) -> Result<(), InvalidToken> {
    let url = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let mut parts = text.split('.');
    let whole = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(claims), Some(random), None) => {
            !header.is_empty()
                && !claims.is_empty()
                && [header, claims, random].into_iter().all(url)
                && random.len() == BASE64URL_NOPAD.encode_len(RANDOM_BYTES)
        }
        _ => false,
    };
    if whole && text.len() <= MAX_BYTES { Ok(()) } else { Err(InvalidToken::Face) }
}

#[cfg(test)]
mod tests {
    use kluis_core::rng::CountingRng;

    use super::*;

    #[test]
    fn one_has_the_shape_that_clients_take_apart() {
        let rng = CountingRng::new(1);
        let [token, other] = [(); 2].map(|()| generate(br#"{"exp":1}"#, &rng));
        assert_ne!(token, other);
        assert_eq!(check(&token), Ok(()));
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap(), br#"{"exp":1}"#);
        assert_eq!(BASE64URL_NOPAD.decode(parts[2].as_bytes()).unwrap().len(), RANDOM_BYTES);
    }

    #[test]
    fn other_text_is_not_one() {
        let token = generate(b"{}", &CountingRng::new(1));
        let long = format!("{}{}", "a".repeat(MAX_BYTES), *token);
        let native = crate::token::generate(crate::token::Kind::User, &CountingRng::new(1));
        for text in ["", "..", "a.b.c", &token[1..].replace('.', ""), &token[..token.len() - 1], &long, &native] {
            assert_eq!(check(text), Err(InvalidToken::Face));
        }
        for extra in [".", "=", " ", "+"] {
            assert_eq!(check(&format!("{}{extra}", *token)), Err(InvalidToken::Face));
        }
    }
}
