//! A certificate authority of our own: a root and an issuer below it.
//!
//! Owns the profile of security 1.5 for both. The root's private key exists only while this runs: nobody can sign
//! with it afterwards, which is why the issuer lives as long as the root.

use super::Serial;
use super::leaf::Validity;
use ironside_identity::{SpiffeId, TrustDomain, pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, SerialNumber,
};
use std::time::Duration;

/// Life of root and issuer (security 1.5).
pub(crate) const CA_TTL: Duration = Duration::from_secs(365 * 86_400);

/// The three files of a new CA, in PEM.
pub(crate) struct Generated {
    /// The root.
    pub(crate) root: String,
    /// The issuer's certificate.
    pub(crate) issuer: String,
    /// The issuer's private key, PKCS#8.
    pub(crate) key: String,
}

/// Makes a CA for a trust domain, to be used by the Sentry called `sentry`.
pub(crate) fn generate(
    trust_domain: &TrustDomain,
    sentry: &SpiffeId,
    validity: Validity,
    serials: [Serial; 2],
) -> Result<Generated, rcgen::Error> {
    let [root_serial, issuer_serial] = serials;
    let mut params = authority(trust_domain.as_str(), validity, root_serial);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate_for(&PKCS_ED25519)?)?;

    let mut params = authority(&sentry.to_string(), validity, issuer_serial);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let issuer = params.signed_by(&key, &root)?;
    Ok(Generated {
        root: pem::encode_certificates([root.der()]),
        issuer: pem::encode_certificates([issuer.der()]),
        key: pem::encode("PRIVATE KEY", key.serialized_der()),
    })
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
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    /// Fact: security.md 1.5, 1.8.
    #[test]
    fn the_profiles_are_the_references() {
        let trust_domain = TrustDomain::parse("localhost").unwrap();
        let sentry = SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap();
        let validity = Validity {
            not_before: now(),
            not_after: now() + CA_TTL,
        };
        let made = generate(&trust_domain, &sentry, validity, [[0xff; 16], [1; 16]]).unwrap();
        assert!(made.key.starts_with("-----BEGIN PRIVATE KEY-----\n"));
        let root = pem::certificates(made.root.as_bytes()).unwrap();
        let issuer = pem::certificates(made.issuer.as_bytes()).unwrap();
        let (_, root) = X509Certificate::from_der(&root[0]).unwrap();
        let (_, issuer) = X509Certificate::from_der(&issuer[0]).unwrap();
        assert_eq!(root.subject().to_string(), "O=localhost");
        assert_eq!(issuer.subject().to_string(), format!("O={sentry}"));
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
}
