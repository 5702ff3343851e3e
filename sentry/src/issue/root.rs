//! A certificate authority of our own: roots, issuers below them, and roots that vouch for other roots.
//!
//! Owns the profile of security 1.5 for both. A root's private key leaves this file only inside of a [`Root`]; who
//! drops it without storing it makes sure that nobody can sign with it afterwards.

use super::Serial;
use super::leaf::Validity;
use ironside_identity::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber,
};
use rustls_pki_types::CertificateDer;

/// A new root with its private key.
pub(crate) struct Root {
    params: CertificateParams,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

/// A certificate that can sign, and its key: what an issuer or another root is signed by.
pub(crate) struct Elder<'a> {
    pub(crate) certificate: &'a CertificateDer<'static>,
    pub(crate) key: &'a KeyPair,
}

// === impl Root ===

impl Root {
    /// Makes a root for a trust domain.
    pub(crate) fn generate(
        trust_domain: &TrustDomain,
        validity: Validity,
        serial: Serial,
    ) -> Result<Self, rcgen::Error> {
        let mut params = authority(trust_domain.as_str(), validity, serial);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
        ];
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            params,
            certificate,
            key,
        })
    }

    /// Returns the certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns what signs.
    pub(crate) fn as_elder(&self) -> Elder<'_> {
        Elder {
            certificate: &self.certificate,
            key: &self.key,
        }
    }

    /// Returns the private key, PKCS#8, to be stored by who keeps it.
    pub(crate) fn key_der(&self) -> &[u8] {
        self.key.serialized_der()
    }

    /// Makes a certificate of the same name and key that is signed by `elder`: whoever trusts the elder's root, and
    /// does not know this one yet, believes what this one signs.
    pub(crate) fn cross_signed(
        &self,
        elder: &Elder<'_>,
        validity: Validity,
        serial: Serial,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = self.params.clone();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = validity.not_before.into();
        params.not_after = validity.not_after.into();
        params.use_authority_key_identifier_extension = true;
        let elder = Issuer::from_ca_cert_der(elder.certificate, elder.key)?;
        Ok(params.signed_by(&self.key, &elder)?.der().clone())
    }
}

/// Makes an issuer for the Sentry called `sentry`, signed by `elder`.
pub(crate) fn issuer(
    elder: &Elder<'_>,
    sentry: &SpiffeId,
    validity: Validity,
    serial: Serial,
) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
    let mut params = authority(&sentry.to_string(), validity, serial);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let elder = Issuer::from_ca_cert_der(elder.certificate, elder.key)?;
    let certificate = params.signed_by(&key, &elder)?.der().clone();
    Ok((certificate, key))
}

fn authority(organization: &str, validity: Validity, serial: Serial) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, organization);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironside_testkit::certs::now;
    use std::time::Duration;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    fn validity() -> Validity {
        Validity {
            not_before: now(),
            not_after: now() + YEAR,
        }
    }

    fn root(serial: Serial) -> Root {
        let trust_domain = TrustDomain::parse("localhost").unwrap();
        Root::generate(&trust_domain, validity(), serial).unwrap()
    }

    fn sentry() -> SpiffeId {
        SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap()
    }

    /// Fact: security.md 1.5, 1.8.
    #[test]
    fn the_profiles_are_the_references() {
        let root = root([0xff; 16]);
        let (issuer, _key) = issuer(&root.as_elder(), &sentry(), validity(), [1; 16]).unwrap();
        let (_, root) = X509Certificate::from_der(root.certificate()).unwrap();
        let (_, issuer) = X509Certificate::from_der(&issuer).unwrap();
        assert_eq!(root.subject().to_string(), "O=localhost");
        assert_eq!(issuer.subject().to_string(), format!("O={}", sentry()));
        assert_eq!(root.raw_serial(), [&[0][..], &[0xff; 16]].concat());
        for (certificate, usage) in [(&root, 0b10_0001), (&issuer, 0b110_0001)] {
            let constraints = certificate.basic_constraints().unwrap().unwrap().value;
            assert!(constraints.ca && constraints.path_len_constraint.is_none());
            assert_eq!(certificate.key_usage().unwrap().unwrap().value.flags, usage);
            assert!(certificate.extended_key_usage().unwrap().is_none());
            assert!(certificate.subject_alternative_name().unwrap().is_none());
        }
        assert!(issuer.verify_signature(Some(root.public_key())).is_ok());
        assert!(root.verify_signature(None).is_ok());
    }

    #[test]
    fn a_cross_signed_root_has_the_roots_name_and_key_and_the_elders_signature() {
        let (old, new) = (root([1; 16]), root([2; 16]));
        let cross = new
            .cross_signed(&old.as_elder(), validity(), [3; 16])
            .unwrap();
        let (_, cross) = X509Certificate::from_der(&cross).unwrap();
        let (_, old) = X509Certificate::from_der(old.certificate()).unwrap();
        let (_, new) = X509Certificate::from_der(new.certificate()).unwrap();
        assert_eq!(cross.subject().as_raw(), new.subject().as_raw());
        assert_eq!(cross.public_key().raw, new.public_key().raw);
        assert!(cross.verify_signature(Some(old.public_key())).is_ok());
        assert!(cross.verify_signature(Some(new.public_key())).is_err());
        assert!(cross.basic_constraints().unwrap().unwrap().value.ca);
    }
}
