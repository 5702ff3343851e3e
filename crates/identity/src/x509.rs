//! What this crate wants to know of a certificate, read once.
//!
//! The only file that names x509-parser. Signatures and paths are checked by webpki in `verify`; nothing here
//! decides whether a certificate is to be trusted.

use rustls_pki_types::CertificateDer;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The bytes are no X.509 certificate, or a part that matters can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed certificate: {what}")]
pub struct Malformed {
    what: Box<str>,
}

#[derive(Debug)]
pub(crate) struct Facts {
    /// URI subject alternative names, in order.
    pub(crate) uris: Vec<String>,
    pub(crate) is_ca: bool,
    /// Key usage allows to sign certificates.
    pub(crate) signs_certificates: bool,
    /// Key usage allows to sign revocation lists.
    pub(crate) signs_revocations: bool,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// The subject public key, without its algorithm.
    pub(crate) public_key: Vec<u8>,
    /// Signed by its own key.
    pub(crate) self_signed: bool,
}

pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Facts, Malformed> {
    let (rest, parsed) = X509Certificate::from_der(certificate.as_ref()).map_err(malformed)?;
    if !rest.is_empty() {
        return Err(malformed("trailing data"));
    }
    let usage = parsed.key_usage().map_err(malformed)?;
    let constraints = parsed.basic_constraints().map_err(malformed)?;
    Ok(Facts {
        uris: uris(&parsed)?,
        is_ca: constraints.is_some_and(|c| c.value.ca),
        signs_certificates: usage.as_ref().is_some_and(|u| u.value.key_cert_sign()),
        signs_revocations: usage.as_ref().is_some_and(|u| u.value.crl_sign()),
        not_before: instant(parsed.validity().not_before.timestamp())?,
        not_after: instant(parsed.validity().not_after.timestamp())?,
        public_key: parsed.public_key().subject_public_key.data.to_vec(),
        self_signed: parsed.subject() == parsed.issuer() && parsed.verify_signature(None).is_ok(),
    })
}

fn uris(certificate: &X509Certificate<'_>) -> Result<Vec<String>, Malformed> {
    let Some(names) = certificate.subject_alternative_name().map_err(malformed)? else {
        return Ok(Vec::new());
    };
    let mut uris = Vec::new();
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(uri) => uris.push((*uri).to_owned()),
            GeneralName::Invalid(tag, _) => {
                return Err(malformed(format!("alternative name with tag {tag}")));
            }
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::DNSName(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_) => {}
        }
    }
    Ok(uris)
}

fn instant(seconds: i64) -> Result<SystemTime, Malformed> {
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let instant = if seconds < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    instant.ok_or_else(|| malformed("validity outside of the range of the clock"))
}

fn malformed(what: impl ToString) -> Malformed {
    Malformed {
        what: what.to_string().into(),
    }
}
