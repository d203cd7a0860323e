//! TLS 1.3 and nothing older. The installation's private authority may only vouch for the installation's own names
//! (critical name constraints), so its pin on a client opens nothing else; authority and server key stand sealed in the
//! store. The server sends its certificate and the authority's, so that a client can find what it pinned. A site's own
//! chain works the same way: clients pin its last certificate (docs/adr/0013).

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use data_encoding::{BASE64, HEXLOWER};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::app::CaCertificate;
use crate::config::HostName;

pub(crate) mod authority;

pub(crate) use authority::{Authority, Leaf, own_names};

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What is stored is not what was stored.
    #[error("the stored {0} does not open or is not readable; `kluis admin doctor` tells more")]
    Stored(&'static str),
    /// A site's file can not be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Key and certificate do not belong together, or the key's kind is not known.
    #[error("certificate and key do not work together: {0}")]
    Pair(rustls::Error),
    /// Clients would not find what they pinned: that they sign in anew is somebody's decision.
    #[error(
        "the chain ends in another authority than the one that clients pin; `kluis up` takes it at its next start, and \
             clients then sign in anew"
    )]
    OtherAuthority,
}

/// The certificate that new connections are shown; exchanged without a restart.
#[derive(Debug)]
pub(crate) struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    pub(crate) fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self(RwLock::new(certified(chain, key)?))))
    }

    /// What is shown now, the server's own certificate first.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).cert.clone()
    }

    pub(crate) fn show(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        let next = certified(chain, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }

    /// Shows a site's renewed chain, if it ends where the one before did.
    pub(crate) fn renew(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), TlsError> {
        if chain.last() != self.chain().last() {
            return Err(TlsError::OtherAuthority);
        }
        self.show(chain, key)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// What the listener needs.
pub(crate) fn server_config(shown: Arc<Shown>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A site's own chain and key.
pub(crate) fn from_files(
    certificate: &Path,
    key: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let file = |path: &Path, reason: String| TlsError::File { path: path.display().to_string(), reason };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| file(certificate, e.to_string()))?;
    match chain.len() {
        0 => return Err(file(certificate, "there is no certificate in it".into())),
        1 => {
            let reason = "the chain is the server's certificate alone, and clients recognise a server by its authority: \
                          append the certificates up to the authority's own";
            return Err(file(certificate, reason.into()));
        }
        _ => {}
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| file(key, e.to_string()))?;
    Ok((chain, private))
}

/// Whether a certificate was made out for this host.
pub(crate) fn is_for(certificate: &CertificateDer<'_>, host: &HostName) -> bool {
    let Ok(name) = ServerName::try_from(host.to_string()) else { return false };
    let parsed = ParsedCertificate::try_from(certificate);
    parsed.is_ok_and(|certificate| rustls::client::verify_server_name(&certificate, &name).is_ok())
}

/// What clients pin of a chain: its last certificate, the authority's.
pub(crate) fn pinned(chain: &[CertificateDer<'_>]) -> Option<CaCertificate> {
    let ca = chain.last()?;
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in BASE64.encode(ca).as_bytes().chunks(64) {
        pem.extend(line.iter().copied().map(char::from));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    Some(CaCertificate { pem, sha256: HEXLOWER.encode(&Sha256::digest(ca)) })
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>, TlsError> {
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(TlsError::Pair)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    struct Site(Issuer<'static, KeyPair>, CertificateDer<'static>);

    impl Site {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let ca = params.self_signed(&key).unwrap().der().clone();
            Self(Issuer::new(params, key), ca)
        }

        fn issue(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["kluis.site.example".to_owned()]).unwrap();
            let leaf = params.signed_by(&key, &self.0).unwrap().der().clone();
            (vec![leaf, self.1.clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        }
    }

    #[test]
    fn a_renewed_chain_is_shown_while_its_authority_stays() {
        let (site, other) = (Site::new(), Site::new());
        let (chain, key) = site.issue();
        let shown = Shown::new(chain, key).unwrap();
        let (renewed, key) = site.issue();
        shown.renew(renewed.clone(), key).unwrap();
        assert_eq!(shown.chain(), renewed);
        let (foreign, key) = other.issue();
        assert!(matches!(shown.renew(foreign, key), Err(TlsError::OtherAuthority)));
        assert_eq!(shown.chain(), renewed);
    }
}
