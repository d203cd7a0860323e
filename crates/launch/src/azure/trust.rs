//! Whom clients in the run trust for the vault: an authority that is made for this run, may vouch for the vault's name alone
//! (a critical name constraint), vouches once, and is then forgotten. Its certificate stands, behind the system's own roots,
//! in a bundle in the run's private folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kluis_core::clock::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;

/// A run may be long; some clients take no certificate that is good for more than 398 days.
const LIFE: Duration = Duration::from_hours(397 * 24);
/// Good from a day before, for a clock that is set back.
const BACKDATE: Duration = Duration::from_hours(24);
/// Where systems keep the roots that they trust, as PEM.
const SYSTEM: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// The largest bundle that is read, in bytes.
const MAX_BUNDLE: u64 = 8 * 1024 * 1024;
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A certificate for one name, and the authority's behind it.
pub(super) struct Certificate {
    /// The authority's certificate, as PEM.
    pub(super) authority: String,
    pub(super) tls: Arc<ServerConfig>,
}

impl Certificate {
    /// For `host` and what is below it.
    pub(super) fn make(host: &str, also: &[String], now: Timestamp) -> Result<Self, rcgen::Error> {
        let mut authority = params("Kluis, for one run", now);
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        // rcgen writes them as critical.
        authority.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(host.to_owned())],
            excluded_subtrees: Vec::new(),
        });
        let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = authority.self_signed(&authority_key)?;
        let names: Vec<String> = [host.to_owned()].into_iter().chain(also.iter().cloned()).collect();
        let mut leaf = CertificateParams::new(names)?;
        let dated = params("Kluis vault", now);
        (leaf.distinguished_name, leaf.not_before, leaf.not_after) =
            (dated.distinguished_name, dated.not_before, dated.not_after);
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let signed = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
        let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider speaks TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(
                vec![signed.der().clone(), certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .expect("the key is the certificate's");
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { authority: certificate.pem(), tls: Arc::new(tls) })
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certificate")
    }
}

fn params(name: &str, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let time = |at: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at).unwrap_or(0));
    params.not_before = time(now.seconds().saturating_sub(BACKDATE.as_secs() as i64));
    params.not_after = time(now.plus(LIFE).seconds());
    params
}

/// The roots that this system trusts; `None` where it has no list of them.
pub(super) fn system() -> Option<String> {
    SYSTEM.iter().find_map(|path| certificates(Path::new(path)))
}

/// The certificates of a PEM file, and nothing else that it may hold. `None` when there are none.
pub(super) fn certificates(path: &Path) -> Option<String> {
    use std::io::Read;
    let file = std::fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|m| m.is_file()))?;
    let mut text = String::new();
    file.take(MAX_BUNDLE).read_to_string(&mut text).ok()?;
    let mut found = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(BEGIN) {
        let Some(length) = rest[start..].find(END) else { break };
        let end = start + length + END.len();
        found.push_str(&rest[start..end]);
        found.push('\n');
        rest = &rest[end..];
    }
    (!found.is_empty()).then_some(found)
}

/// Writes a bundle for the run to read.
pub(super) fn write(folder: &Path, name: &str, parts: &[&str]) -> std::io::Result<PathBuf> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let path = folder.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path)?;
    for part in parts {
        file.write_all(part.as_bytes())?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_holds_certificates_and_never_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let mixed = folder.path().join("mixed.pem");
        let certificate = format!("{BEGIN}\nAAAA\n{END}\n");
        std::fs::write(
            &mixed,
            format!(
                "# a comment\n{certificate}-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n{certificate}"
            ),
        )
        .unwrap();
        assert_eq!(certificates(&mixed), Some(format!("{certificate}{certificate}")));
        std::fs::write(&mixed, "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n").unwrap();
        assert_eq!(certificates(&mixed), None);
        assert_eq!(certificates(&folder.path().join("none")), None);
        assert_eq!(certificates(folder.path()), None);
    }

    /// Whether a client that trusts the authority connects to this name, when the certificate is also made out for others.
    async fn trusted(also: &[&str], name: &str) -> bool {
        use kluis_core::clock::{Clock, SystemClock};
        use rustls_pki_types::pem::PemObject;
        use rustls_pki_types::{CertificateDer, ServerName};
        let also: Vec<String> = also.iter().map(ToString::to_string).collect();
        let made = Certificate::make("a.vault.localhost", &also, SystemClock.now()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(made.authority.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let accept = tokio_rustls::TlsAcceptor::from(made.tls).accept(theirs);
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connect = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, ours);
        tokio::join!(accept, connect).1.is_ok()
    }

    #[tokio::test]
    async fn an_authority_vouches_for_its_name_and_what_is_below_and_for_nothing_else() {
        assert!(trusted(&[], "a.vault.localhost").await);
        assert!(trusted(&["run.blob.a.vault.localhost"], "run.blob.a.vault.localhost").await);
        assert!(!trusted(&[], "b.vault.localhost").await, "the certificate is not for this name");
        assert!(!trusted(&["example.org"], "example.org").await, "the authority may not vouch for this name");
    }
}
