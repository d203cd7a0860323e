//! The private authority and the server's certificate under it: made with rcgen, kept as sealed JSON.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use data_encoding::HEXLOWER;
use kluis_core::api::keyvault::VAULT_LABEL;
use kluis_core::clock::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{TlsError, is_for};
use crate::config::HostName;

/// The longest DNS name.
const MAX_DNS_NAME: usize = 253;
const DAY: Duration = Duration::from_hours(24);
/// An authority outlives its installation: it is what clients pin.
const AUTHORITY_LIFE: Duration = Duration::from_hours(30 * 365 * 24);
/// A server certificate's life; renewed when less than a third of it is left.
const LEAF_LIFE: Duration = Duration::from_hours(90 * 24);
/// Certificates are good from a day before they are made, for clients whose clocks are behind.
const BACKDATE: Duration = DAY;

/// The private authority. Its names only grow; a new name makes a new certificate, with a new pin, over the same key.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Authority {
    #[zeroize(skip)]
    names: BTreeSet<String>,
    #[zeroize(skip)]
    #[serde(with = "kluis_core::api::base64_bytes")]
    certificate: Vec<u8>,
    #[serde(with = "kluis_core::api::base64_bytes")]
    key: Vec<u8>,
}

/// The server's own certificate and key.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Leaf {
    #[zeroize(skip)]
    #[serde(with = "kluis_core::api::base64_bytes")]
    certificate: Vec<u8>,
    #[serde(with = "kluis_core::api::base64_bytes")]
    key: Vec<u8>,
    #[zeroize(skip)]
    from: Timestamp,
    #[zeroize(skip)]
    until: Timestamp,
}

impl Authority {
    /// Under what name it is stored, and what its seal is bound to.
    pub(crate) const NAME: &str = "tls-authority";

    /// A new authority for these names and this machine's own.
    pub(crate) fn create(hosts: &[HostName], now: Timestamp) -> Result<Self, TlsError> {
        let names = own_names().chain(hosts.iter().cloned()).map(|h| h.to_string()).collect();
        Self::make(names, &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, now)
    }

    /// The same authority for more names, if it does not have them all.
    pub(crate) fn with(&self, hosts: &[HostName], now: Timestamp) -> Result<Option<Self>, TlsError> {
        let mut names = self.names.clone();
        names.extend(hosts.iter().map(ToString::to_string));
        if names == self.names { Ok(None) } else { Self::make(names, &self.key_pair()?, now).map(Some) }
    }

    fn make(names: BTreeSet<String>, key: &KeyPair, now: Timestamp) -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Kluis private authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, before(now, BACKDATE), now.plus(AUTHORITY_LIFE));
        // rcgen writes them as critical.
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: hosts(&names)?.iter().map(subtree).collect(),
            excluded_subtrees: Vec::new(),
        });
        let certificate = params.self_signed(key)?;
        Ok(Self { names, certificate: certificate.der().to_vec(), key: key.serialize_der() })
    }

    /// A server certificate for all its names, and for every vault under them.
    pub(crate) fn issue(&self, now: Timestamp) -> Result<Leaf, TlsError> {
        self.issue_for(self.names.iter().cloned().chain(self.vaults("*")).collect(), now)
    }

    /// One as an earlier version made it.
    #[cfg(test)]
    pub(crate) fn issue_without_vaults(&self, now: Timestamp) -> Result<Leaf, TlsError> {
        self.issue_for(self.names.iter().cloned().collect(), now)
    }

    fn issue_for(&self, names: Vec<String>, now: Timestamp) -> Result<Leaf, TlsError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (from, until) = (before(now, BACKDATE), now.plus(LEAF_LIFE));
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = common_name("Kluis server");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, from, until);
        let issuer = Issuer::from_ca_cert_der(&self.der(), self.key_pair()?)?;
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Leaf { certificate: certificate.der().to_vec(), key: key.serialize_der(), from, until })
    }

    /// The names and addresses that it may vouch for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The hosts of a vault of this name, one under each DNS name: its name constraints cover them. `*`: of all vaults.
    fn vaults(&self, name: &str) -> impl Iterator<Item = String> {
        let hosts = self.names.iter().filter_map(|host| host.parse().ok());
        let hosts = hosts.filter_map(move |host| match host {
            HostName::Dns(host) => Some(format!("{name}.{VAULT_LABEL}.{host}")),
            HostName::Ip(_) => None,
        });
        hosts.filter(|host| host.len() <= MAX_DNS_NAME)
    }

    /// SHA-256 over its certificate, lower-case hex: what clients pin.
    pub(crate) fn sha256(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(&self.certificate))
    }

    /// Its certificate as PEM.
    pub(crate) fn pem(&self) -> String {
        let body = data_encoding::BASE64.encode(&self.certificate);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        for line in body.as_bytes().chunks(64) {
            pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// What the server sends with this certificate: its own, then the authority's.
    pub(crate) fn chain(&self, leaf: &Leaf) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(leaf.key.clone()).into();
        (vec![leaf.certificate.clone().into(), self.der()], key)
    }

    /// As it is sealed.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("texts and bytes become JSON"))
    }

    /// As it was sealed.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, TlsError> {
        serde_json::from_slice(bytes).map_err(|_| TlsError::Stored("authority"))
    }

    fn der(&self) -> CertificateDer<'static> {
        self.certificate.clone().into()
    }

    fn key_pair(&self) -> Result<KeyPair, TlsError> {
        let der = PrivateKeyDer::Pkcs8(self.key.clone().into());
        Ok(KeyPair::from_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)?)
    }
}

impl Leaf {
    /// Under what name it is stored, and what its seal is bound to.
    pub(crate) const NAME: &str = "tls-server";

    /// Whether it should be renewed: less than a third of its life is left, or the clock stands before it.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        let life = self.until.since(self.from);
        self.until.since(now) < life / 3 || now < self.from
    }

    /// Whether it was made out for the vaults under the authority's names: one of an earlier version was not.
    pub(crate) fn is_for_vaults_of(&self, authority: &Authority) -> bool {
        let certificate = self.certificate.clone().into();
        authority.vaults("any").all(|host| is_for(&certificate, &HostName::Dns(host)))
    }

    /// As it is sealed.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("texts and bytes become JSON"))
    }

    /// As it was sealed.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, TlsError> {
        serde_json::from_slice(bytes).map_err(|_| TlsError::Stored("server certificate"))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("names", &self.names).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("until", &self.until).finish_non_exhaustive()
    }
}

/// What every installation may be called on its own machine.
pub(crate) fn own_names() -> impl Iterator<Item = HostName> {
    [
        HostName::Dns("localhost".into()),
        HostName::Ip(Ipv4Addr::LOCALHOST.into()),
        HostName::Ip(Ipv6Addr::LOCALHOST.into()),
    ]
    .into_iter()
}

fn hosts(names: &BTreeSet<String>) -> Result<Vec<HostName>, TlsError> {
    names.iter().map(|name| name.parse().map_err(|_| TlsError::Stored("authority"))).collect()
}

fn subtree(host: &HostName) -> GeneralSubtree {
    match host {
        HostName::Dns(name) => GeneralSubtree::DnsName(name.clone()),
        HostName::Ip(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(*address, bits))
        }
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn before(now: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_millis(now.millis().saturating_sub(by.as_millis() as i64))
}

/// In whole seconds; a clock before 1970 stands at 1970.
fn validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let time = |at: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.seconds()).unwrap_or(0))
    };
    (params.not_before, params.not_after) = (time(from), time(until));
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_530_000);

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    #[test]
    fn the_authority_may_vouch_for_its_own_names_only_and_says_so_critically() {
        let authority = Authority::create(&[host("vault.example.org"), host("10.1.2.3")], NOW).unwrap();
        let (_, certificate) = X509Certificate::from_der(&authority.certificate).unwrap();
        let constraints = certificate.name_constraints().unwrap().expect("there are name constraints");
        assert!(constraints.critical);
        assert!(constraints.value.excluded_subtrees.is_none());
        let permitted = constraints.value.permitted_subtrees.as_ref().unwrap();
        assert_eq!(permitted.len(), 5, "{permitted:?}");
        assert!(permitted.iter().any(|s| s.base == GeneralName::DNSName("vault.example.org")));
        assert!(permitted.iter().any(|s| s.base == GeneralName::IPAddress(&[10, 1, 2, 3, 255, 255, 255, 255])));
        let basic = certificate.basic_constraints().unwrap().unwrap();
        assert!(basic.critical && basic.value.ca && basic.value.path_len_constraint == Some(0));
        assert_eq!(authority.pem().lines().map(str::len).max(), Some(64));
    }

    #[test]
    fn a_leaf_is_renewed_while_a_third_of_its_life_is_left() {
        let authority = Authority::create(&[], NOW).unwrap();
        let leaf = authority.issue(NOW).unwrap();
        assert!(!leaf.is_due(NOW));
        assert!(!leaf.is_due(NOW.plus(DAY * 59)));
        assert!(leaf.is_due(NOW.plus(DAY * 60)));
        assert!(leaf.is_due(before(NOW, DAY * 2)), "the clock was set back to before the certificate");
    }

    #[test]
    fn a_leaf_is_for_every_vault_under_every_name() {
        let authority = Authority::create(&[host("kluis.example.org"), host("10.1.2.3")], NOW).unwrap();
        let leaf = authority.issue(NOW).unwrap();
        assert!(leaf.is_for_vaults_of(&authority));
        let certificate = leaf.certificate.clone().into();
        for name in ["default.vault.localhost", "team.vault.kluis.example.org", "kluis.example.org", "10.1.2.3"] {
            assert!(is_for(&certificate, &host(name)), "{name}");
        }
        for name in ["team.kluis.example.org", "a.b.vault.localhost", "vault.localhost"] {
            assert!(!is_for(&certificate, &host(name)), "{name}");
        }
        let grown = authority.with(&[host("b.example.org")], NOW).unwrap().unwrap();
        assert!(!leaf.is_for_vaults_of(&grown));
    }

    #[test]
    fn names_once_given_stay_and_a_new_one_keeps_the_key() {
        let first = Authority::create(&[host("a.example.org")], NOW).unwrap();
        assert!(first.with(&[host("a.example.org"), host("localhost")], NOW).unwrap().is_none());
        let second = first.with(&[host("b.example.org")], NOW).unwrap().unwrap();
        assert_eq!(first.key, second.key);
        assert_ne!(first.sha256(), second.sha256());
        assert!(second.names().any(|n| n == "a.example.org") && second.names().any(|n| n == "b.example.org"));
    }

    #[test]
    fn what_was_stored_is_read_back() {
        let authority = Authority::create(&[], NOW).unwrap();
        let back = Authority::from_bytes(&authority.to_bytes()).unwrap();
        assert_eq!((back.sha256(), &back.key), (authority.sha256(), &authority.key));
        assert!(Authority::from_bytes(b"{}").is_err());
        assert!(!format!("{authority:?}").contains("key"));
    }
}
