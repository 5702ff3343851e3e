//! A certificate maker: good chains in one line, and every kind of bad one.
//!
//! `Ca::new().svid("spiffe://public/ns/default/a").svid()` is a working identity; the builder bends one property
//! at a time, so that a test of refusal differs from the test of success in one call.

#![expect(
    clippy::expect_used,
    reason = "a certificate that cannot be made is a failed test"
)]

use ironside_identity::{Svid, TrustBundle, pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
    SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// A root and an issuer below it.
pub struct Ca {
    root: Arc<CertifiedIssuer<'static, KeyPair>>,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a [`Ca`] is made of.
pub struct CaBuilder {
    name: String,
    algorithm: &'static SignatureAlgorithm,
    root_valid: (SystemTime, SystemTime),
    issuer_valid: (SystemTime, SystemTime),
}

/// What a leaf is made of.
pub struct Leaf<'a> {
    ca: &'a Ca,
    params: CertificateParams,
    algorithm: &'static SignatureAlgorithm,
    with_issuer: bool,
    self_signed: bool,
}

/// A chain, leaf first, and the leaf's key; not necessarily a good one.
pub struct Issued {
    /// Leaf, then the issuer.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key.
    pub key: PrivateKeyDer<'static>,
}

/// The present, for validities. Tests that move in time pass their own instants instead.
#[must_use]
pub fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the clock of the tests")]
    SystemTime::now()
}

// === impl Ca ===

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

impl Ca {
    /// Makes a root and an issuer, Ed25519, valid from a quarter of an hour ago for a year.
    #[must_use]
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts a CA with other properties.
    #[must_use]
    pub fn builder() -> CaBuilder {
        let valid = (now() - 15 * MINUTE, now() + 365 * DAY);
        CaBuilder {
            name: "test".into(),
            algorithm: &PKCS_ED25519,
            root_valid: valid,
            issuer_valid: valid,
        }
    }

    /// Makes another issuer below the same root.
    #[must_use]
    pub fn new_issuer(&self) -> Self {
        let params = authority("other issuer", (now() - 15 * MINUTE, now() + 365 * DAY));
        let key = KeyPair::generate().expect("key");
        let issuer = CertifiedIssuer::signed_by(params, key, &*self.root).expect("issuer");
        Self {
            root: Arc::clone(&self.root),
            issuer,
        }
    }

    /// Returns the root as a trust bundle.
    #[must_use]
    pub fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem(self.root_pem().as_bytes()).expect("root")
    }

    /// Returns the root as PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        pem::encode_certificates([self.root.der()])
    }

    /// Returns the issuer's certificate as PEM.
    #[must_use]
    pub fn issuer_pem(&self) -> String {
        pem::encode_certificates([self.issuer.der()])
    }

    /// Returns the issuer's private key as PEM.
    #[must_use]
    pub fn issuer_key_pem(&self) -> String {
        pem::encode("PRIVATE KEY", self.issuer.key().serialized_der())
    }

    /// Starts a leaf with this URI name, as Sentry would make it: valid from a quarter of an hour ago for a day.
    #[must_use]
    pub fn svid(&self, uri: &str) -> Leaf<'_> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri_name(uri)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let leaf = Leaf {
            ca: self,
            params,
            algorithm: &PKCS_ED25519,
            with_issuer: true,
            self_signed: false,
        };
        leaf.valid(now() - 15 * MINUTE, now() + DAY)
    }
}

// === impl CaBuilder ===

impl CaBuilder {
    /// Sets the name that root and issuer bear.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Sets the kind of both keys.
    #[must_use]
    pub fn algorithm(mut self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Sets the validity of the root.
    #[must_use]
    pub fn root_valid(mut self, from: SystemTime, to: SystemTime) -> Self {
        self.root_valid = (from, to);
        self
    }

    /// Sets the validity of the issuer.
    #[must_use]
    pub fn issuer_valid(mut self, from: SystemTime, to: SystemTime) -> Self {
        self.issuer_valid = (from, to);
        self
    }

    /// Makes the certificates.
    #[must_use]
    pub fn build(self) -> Ca {
        let key = || KeyPair::generate_for(self.algorithm).expect("key");
        let root_params = authority(&format!("{} root", self.name), self.root_valid);
        let root = CertifiedIssuer::self_signed(root_params, key()).expect("root");
        let issuer_params = authority(&format!("{} issuer", self.name), self.issuer_valid);
        let issuer = CertifiedIssuer::signed_by(issuer_params, key(), &root).expect("issuer");
        Ca {
            root: Arc::new(root),
            issuer,
        }
    }
}

// === impl Leaf ===

impl Leaf<'_> {
    /// Sets the validity.
    #[must_use]
    pub fn valid(mut self, from: SystemTime, to: SystemTime) -> Self {
        self.params.not_before = from.into();
        self.params.not_after = to.into();
        self
    }

    /// Adds a URI name.
    #[must_use]
    pub fn and_uri(mut self, uri: &str) -> Self {
        self.params.subject_alt_names.push(uri_name(uri));
        self
    }

    /// Adds a DNS name.
    #[must_use]
    pub fn and_dns(mut self, name: &str) -> Self {
        self.params
            .subject_alt_names
            .push(SanType::DnsName(name.try_into().expect("ASCII")));
        self
    }

    /// Removes the URI names.
    #[must_use]
    pub fn without_uri(mut self) -> Self {
        self.params
            .subject_alt_names
            .retain(|name| !matches!(name, SanType::URI(_)));
        self
    }

    /// Sets the key usages.
    #[must_use]
    pub fn key_usages(mut self, usages: &[KeyUsagePurpose]) -> Self {
        self.params.key_usages = usages.to_vec();
        self
    }

    /// Sets the extended key usages; none leaves the extension out.
    #[must_use]
    pub fn purposes(mut self, purposes: &[ExtendedKeyUsagePurpose]) -> Self {
        self.params.extended_key_usages = purposes.to_vec();
        self
    }

    /// Makes the leaf a certificate authority.
    #[must_use]
    pub fn authority(mut self) -> Self {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self
    }

    /// Sets the kind of the key.
    #[must_use]
    pub fn algorithm(mut self, algorithm: &'static SignatureAlgorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Leaves the issuer out of the chain.
    #[must_use]
    pub fn without_issuer(mut self) -> Self {
        self.with_issuer = false;
        self
    }

    /// Has the leaf signed by its own key.
    #[must_use]
    pub fn self_signed(mut self) -> Self {
        self.self_signed = true;
        self.params.use_authority_key_identifier_extension = false;
        self
    }

    /// Makes the chain and its key.
    #[must_use]
    pub fn issue(mut self) -> Issued {
        let key = KeyPair::generate_for(self.algorithm).expect("key");
        // A serial with its first bit set takes 17 bytes and stays positive, as one of the reference may.
        self.params.serial_number = Some(SerialNumber::from_slice(&[0xf0; 16]));
        let leaf = match self.self_signed {
            true => self.params.self_signed(&key),
            false => self.params.signed_by(&key, &self.ca.issuer),
        };
        let mut chain = vec![leaf.expect("leaf").der().clone()];
        if self.with_issuer && !self.self_signed {
            chain.push(self.ca.issuer.der().clone());
        }
        Issued {
            chain,
            key: key.into(),
        }
    }

    /// Makes the identity; for leaves that are good enough to be one.
    #[must_use]
    pub fn svid(self) -> Svid {
        let Issued { chain, key } = self.issue();
        Svid::new(chain, key).expect("an SVID")
    }
}

fn authority(name: &str, (from, to): (SystemTime, SystemTime)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params.not_before = from.into();
    params.not_after = to.into();
    params
}

fn uri_name(uri: &str) -> SanType {
    SanType::URI(uri.try_into().expect("ASCII"))
}
