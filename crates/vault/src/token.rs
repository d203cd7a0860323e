//! Tokens: `kls_<kind>_<43 base62 digits>_<6 base62 digits>`. The long part is 256 random bits, the short one a
//! checksum over everything before it, so that a scanner can tell a token from anything else and a mistyped one is
//! refused without asking the store. Whether a token is good, only the store knows.

use aws_lc_rs::digest;
use kluis_core::rng::Rng;
use zeroize::{Zeroize, Zeroizing};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// 62^43 is just above 2^256.
const RANDOM_DIGITS: usize = 43;
const CHECKSUM_DIGITS: usize = 6;
/// Bytes of every token: `kls_` + kind + `_` + random + `_` + checksum.
pub const TOKEN_BYTES: usize = 4 + 3 + 1 + RANDOM_DIGITS + 1 + CHECKSUM_DIGITS;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A user's login.
    User,
    /// A service principal's login.
    ServicePrincipal,
    /// An agent's login.
    Agent,
    /// An invitation, redeemed once for a login.
    Invite,
    /// A service principal's client secret, exchanged for a login.
    ClientSecret,
    /// A run's ticket, redeemed once by its launcher.
    Ticket,
    /// What a program holds that waits for somebody to approve its login; turned into the login once.
    Device,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::User,
        Self::ServicePrincipal,
        Self::Agent,
        Self::Invite,
        Self::ClientSecret,
        Self::Ticket,
        Self::Device,
    ];

    /// The three letters in the token. Also the purpose under which its lookup hash is made.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "usr",
            Self::ServicePrincipal => "svc",
            Self::Agent => "agt",
            Self::Invite => "inv",
            Self::ClientSecret => "sec",
            Self::Ticket => "tkt",
            Self::Device => "dev",
        }
    }
}

/// The text is not a token of ours, or was mistyped. Says nothing about the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Not of the form `kls_<kind>_<random>_<checksum>`.
    #[error("not a Kluis token; one looks like kls_usr_..._...... and has {TOKEN_BYTES} characters")]
    Form,
    /// Not of the form of a token for the Azure faces.
    #[error("not a token that this server issued for its Azure faces")]
    Face,
    /// The form is right, the checksum is not.
    #[error("the token was cut or mistyped: its checksum does not fit")]
    Checksum,
}

/// A new token.
pub fn generate(kind: Kind, rng: &dyn Rng) -> Zeroizing<String> {
    let mut random = Zeroizing::new([0; 32]);
    rng.fill(&mut random[..]);
    let mut token = Zeroizing::new(String::with_capacity(TOKEN_BYTES));
    token.push_str("kls_");
    token.push_str(kind.as_str());
    token.push('_');
    push_base62(&mut token, &mut random);
    let checksum = checksum(&token);
    token.push('_');
    token.extend(checksum.map(char::from));
    token
}

/// What kind of token this is, if it has the form and the checksum of one.
pub fn check(text: &str) -> Result<Kind, InvalidToken> {
    let body = text.strip_prefix("kls_").filter(|_| text.len() == TOKEN_BYTES && text.is_ascii());
    let (kind, rest) = body.and_then(|b| b.split_once('_')).ok_or(InvalidToken::Form)?;
    let kind = Kind::ALL.iter().copied().find(|k| k.as_str() == kind).ok_or(InvalidToken::Form)?;
    let (random, sum) = rest.split_once('_').ok_or(InvalidToken::Form)?;
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric());
    if random.len() != RANDOM_DIGITS || !digits(random) || !digits(sum) {
        return Err(InvalidToken::Form);
    }
    let signed = &text[..TOKEN_BYTES - CHECKSUM_DIGITS - 1];
    if sum.as_bytes() == checksum(signed) { Ok(kind) } else { Err(InvalidToken::Checksum) }
}

/// The first eight bytes of SHA-256 as a number, its six lowest base62 digits, most significant first.
fn checksum(signed: &str) -> [u8; CHECKSUM_DIGITS] {
    let hash = digest::digest(&digest::SHA256, signed.as_bytes());
    let first = hash.as_ref().first_chunk().expect("32 bytes hold 8");
    let mut number = u64::from_be_bytes(*first);
    let mut out = [0; CHECKSUM_DIGITS];
    for digit in out.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    out
}

/// The number in base 62 at full width, by long division; the number is zero afterwards.
fn push_base62(out: &mut String, number: &mut [u8; 32]) {
    let mut digits = [0_u8; RANDOM_DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let n = remainder << 8 | u32::from(*byte);
            *byte = (n / 62) as u8;
            remainder = n % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    out.extend(digits.iter().map(|digit| char::from(*digit)));
    digits.zeroize();
}

#[cfg(test)]
mod tests {
    use kluis_core::rng::CountingRng;

    use super::*;

    struct Constant(u8);

    impl Rng for Constant {
        fn fill(&self, out: &mut [u8]) {
            out.fill(self.0);
        }
    }

    #[test]
    fn every_kind_is_read_back() {
        let rng = CountingRng::new(1);
        for kind in Kind::ALL {
            let token = generate(*kind, &rng);
            assert_eq!(token.len(), TOKEN_BYTES);
            assert_eq!(check(&token), Ok(*kind));
        }
    }

    #[test]
    fn the_smallest_and_the_largest_number_have_the_same_width() {
        let zero = generate(Kind::User, &Constant(0));
        let ones = generate(Kind::User, &Constant(255));
        assert_eq!(&zero[8..51], "0".repeat(43));
        // 2^256 - 1 in base 62, from an arbitrary precision calculator.
        assert_eq!(&ones[8..51], ONES);
    }

    const ONES: &str = "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1";

    #[test]
    fn a_changed_character_is_noticed() {
        let token = generate(Kind::Ticket, &CountingRng::new(2));
        for i in 0..token.len() {
            for replacement in ["0", "z", "_", "-", " "] {
                let mut other = token.to_string();
                other.replace_range(i..=i, replacement);
                assert_eq!(check(&other).is_ok(), other == *token, "character {i} as {replacement:?}");
            }
            assert_eq!(check(&token[..i]), Err(InvalidToken::Form), "cut at {i}");
        }
        assert_eq!(check(&format!("{}0", *token)), Err(InvalidToken::Form));
    }

    #[test]
    fn other_text_is_not_a_token() {
        for text in ["", "kls_", "kls_usr_", "ghp_0123456789", &"é".repeat(TOKEN_BYTES / 2), &"_".repeat(TOKEN_BYTES)]
        {
            assert_eq!(check(text), Err(InvalidToken::Form), "{text}");
        }
    }
}
