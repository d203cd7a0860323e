//! Who is on the other end. A [`Server`] is an origin together with the pin of its CA; every connection is TLS 1.3,
//! checked by webpki (names, dates, constraints) against the one CA certificate whose SHA-256 is the pin.
//! The server sends that CA certificate along with its own, so that the pin is all a client has to know.

use std::sync::{Arc, OnceLock};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

/// The port of an address that names none.
pub const DEFAULT_PORT: u16 = 8443;

/// The SHA-256 of a CA certificate's DER: 64 hex digits on the wire and in files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CaPin([u8; 32]);

impl CaPin {
    /// The pin of a CA certificate in DER.
    pub fn of_certificate(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The text is not a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a CA pin: 64 hex digits are expected, the SHA-256 of the server's CA certificate")]
pub struct InvalidPin;

impl std::str::FromStr for CaPin {
    type Err = InvalidPin;

    /// Hex in either case, with or without the colons that certificate tools print.
    fn from_str(text: &str) -> Result<Self, InvalidPin> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        let bytes = HEXLOWER_PERMISSIVE.decode(&digits).map_err(|_| InvalidPin)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidPin)?))
    }
}

impl std::fmt::Display for CaPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for CaPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CaPin({self})")
    }
}

impl serde::Serialize for CaPin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for CaPin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Scheme, host and port of a server: always `https`, the host in lower case, the port spelled out.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    host: String,
    port: u16,
}

/// The text is not an address of a server. Never holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an address: {0}; one looks like https://kluis.example.org:8443")]
pub struct InvalidOrigin(&'static str);

impl Origin {
    /// Accepts `https://HOST[:PORT]`, `HOST:PORT` and `HOST`. Without a port it is 8443, or 443 when the scheme is
    /// written. Anything further (user, path, query) is refused.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let (rest, default_port) = match text.trim().split_once("://") {
            Some(("https", rest)) => (rest, 443),
            Some(("http", _)) => return Err(InvalidOrigin("only https is spoken")),
            Some(_) => return Err(InvalidOrigin("the scheme must be https")),
            None => (text.trim(), DEFAULT_PORT),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.is_empty() {
            return Err(InvalidOrigin("it has no host"));
        }
        let with_scheme = format!("https://{authority}");
        let url = reqwest::Url::parse(&with_scheme).map_err(|_| InvalidOrigin("it has no host, or a bad port"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidOrigin("it holds a user or a password"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(InvalidOrigin("it has more than a host and a port"));
        }
        // A written `:443` is dropped by the parser, so the text decides between it and an absent port.
        let port = url.port().unwrap_or(if authority.ends_with(":443") { 443 } else { default_port });
        let host = url.host_str().filter(|h| !h.is_empty()).ok_or(InvalidOrigin("it has no host"))?;
        Ok(Self { host: host.to_owned(), port })
    }

    /// The host: a name, an IPv4 address, or an IPv6 address in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> reqwest::Url {
        reqwest::Url::parse(&self.to_string()).expect("an origin was parsed as a URL")
    }
}

impl std::str::FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        Self::parse(text)
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "https://{}:{}", self.host, self.port)
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Origin({self})")
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Origin {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A server that can be recognised: what a credential is keyed by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Server {
    /// Where it is.
    #[serde(rename = "address")]
    pub origin: Origin,
    /// Whom it must be vouched for by.
    pub ca_sha256: CaPin,
}

impl Server {
    /// The TLS configuration for this server and no other.
    pub(crate) fn tls(&self) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier =
            Arc::new(PinVerifier { pin: self.ca_sha256, provider: provider.clone(), found: OnceLock::new() });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider speaks TLS 1.3")
            .dangerous() // the name of the door to a verifier of one's own; this one adds the pin and drops nothing
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

/// webpki with exactly one root: the presented CA certificate whose hash is the pin.
#[derive(Debug)]
struct PinVerifier {
    pin: CaPin,
    provider: Arc<CryptoProvider>,
    /// The same certificate gives the same verifier, so one is kept.
    found: OnceLock<Arc<WebPkiServerVerifier>>,
}

impl PinVerifier {
    fn verifier(&self, intermediates: &[CertificateDer<'_>]) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
        let ca = intermediates
            .iter()
            .find(|certificate| CaPin::of_certificate(certificate) == self.pin)
            .ok_or(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        if let Some(verifier) = self.found.get() {
            return Ok(verifier.clone());
        }
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(self.found.get_or_init(|| verifier).clone())
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = self.verifier(intermediates)?;
        let verified = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        // webpki has just done this as well; said twice because everything rests on it.
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_any_spelling_is_one_origin() {
        for (text, expected) in [
            ("127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("https://Kluis.Example.org:9000/", "https://kluis.example.org:9000"),
            ("kluis.example.org", "https://kluis.example.org:8443"),
            ("https://kluis.example.org", "https://kluis.example.org:443"),
            ("kluis.example.org:443", "https://kluis.example.org:443"),
            ("[::1]:8443", "https://[::1]:8443"),
        ] {
            let origin = Origin::parse(text).unwrap();
            assert_eq!(origin.to_string(), expected, "{text}");
            assert_eq!(Origin::parse(&origin.to_string()), Ok(origin), "{text}");
        }
    }

    #[test]
    fn an_address_with_anything_more_is_refused() {
        for text in [
            "http://kluis.example.org:8443",
            "ftp://kluis.example.org",
            "https://user:pass@kluis.example.org",
            "https://kluis.example.org/api",
            "kluis.example.org?x=1",
            "",
            "https://",
            "host:99999",
        ] {
            assert!(Origin::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_pin_is_read_in_either_case_and_with_colons() {
        let pin = CaPin::of_certificate(b"certificate");
        let upper = pin.to_string().to_uppercase();
        let colons: Vec<String> = upper.as_bytes().chunks(2).map(|c| String::from_utf8(c.to_vec()).unwrap()).collect();
        assert_eq!(upper.parse(), Ok(pin));
        assert_eq!(colons.join(":").parse(), Ok(pin));
        assert_eq!("abc".parse::<CaPin>(), Err(InvalidPin));
    }
}
