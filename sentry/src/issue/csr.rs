//! What a workload sends: a certificate signing request, of which only the public key is used.
//!
//! Owns the bounds and the order of security 1.2 and fact O-S3. Subject, names and extensions that are asked for are
//! ignored, so that nobody can ask for more than a key.

use ironside_identity::pem;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// Longest request that is looked at (fact O-S3).
const MAX_LENGTH: usize = 16 * 1024;
/// The types a request may have; `CERTIFICATE` is what sidecars before 1.12 write (security 1.2).
const LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "CERTIFICATE"];
/// Bounds of RSA keys, in bits (fact O-S3).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Object identifiers of the accepted kinds of keys.
const ED25519: &str = "1.3.101.112";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// The public key of a request whose sender holds the private one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestedKey {
    /// DER of the SubjectPublicKeyInfo.
    pub(crate) spki: Vec<u8>,
}

/// Why a request is refused. The texts are the reference's where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CsrError {
    /// Too long, not PEM, of another type, or not alone.
    #[error("invalid certificate signing request")]
    Pem,
    /// Not PKCS#10.
    #[error("failed to parse certificate signing request: {0}")]
    Malformed(Box<str>),
    /// A key that is too weak or of an unknown kind.
    #[error("unsupported key in certificate signing request: {0}")]
    Key(Box<str>),
    /// Not signed by its own key.
    #[error("invalid signature")]
    Signature,
}

/// Reads a request in PEM.
pub(crate) fn read(text: &[u8]) -> Result<RequestedKey, CsrError> {
    if text.len() > MAX_LENGTH {
        return Err(CsrError::Pem);
    }
    let der = pem::only_block(text, &LABELS).map_err(|_any| CsrError::Pem)?;
    let (rest, csr) = X509CertificationRequest::from_der(&der)
        .map_err(|cause| CsrError::Malformed(cause.to_string().into()))?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed("trailing data".into()));
    }
    let key = &csr.certification_request_info.subject_pki;
    check_kind(key)?;
    csr.verify_signature()
        .map_err(|_cause| CsrError::Signature)?;
    Ok(RequestedKey {
        spki: key.raw.to_vec(),
    })
}

fn check_kind(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<(), CsrError> {
    let refused = |what: String| Err(CsrError::Key(what.into()));
    if key.algorithm.algorithm.to_id_string() == ED25519 {
        return Ok(());
    }
    match key.parsed() {
        Ok(PublicKey::RSA(rsa)) if RSA_BITS.contains(&rsa.key_size()) => Ok(()),
        Ok(PublicKey::RSA(rsa)) => refused(format!("RSA with {} bits", rsa.key_size())),
        Ok(PublicKey::EC(_point)) => {
            let curve = key
                .algorithm
                .parameters
                .as_ref()
                .and_then(|p| p.as_oid().ok());
            match curve
                .map(|oid| oid.to_id_string())
                .unwrap_or_default()
                .as_str()
            {
                P256 | P384 => Ok(()),
                other => refused(format!("curve {other}")),
            }
        }
        _ => refused(format!("algorithm {}", key.algorithm.algorithm)),
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
