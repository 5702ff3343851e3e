//! What a workload gets: the certificate of security 1.5, to the bit.
//!
//! Owns the writing of the leaf. It is written here and not by rcgen, because the issuer's name must be copied byte
//! by byte: rcgen keeps one value per attribute, and the names of company CAs repeat some (`DC=corp, DC=example`).

use super::Serial;
use ironside_identity::SpiffeId;
use jiff::Timestamp;
use rcgen::SigningKey as _;
use rcgen::{
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
};
use rustls_pki_types::CertificateDer;
use std::time::SystemTime;
use yasna::models::ObjectIdentifier;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der};

/// Who signs: what of the issuer's certificate goes into a leaf.
#[derive(Debug)]
pub(crate) struct Signer {
    /// The private key.
    pub(crate) key: KeyPair,
    /// DER of the subject, copied into the leaf.
    pub(crate) name: Vec<u8>,
    /// The subject key identifier, if there is one.
    pub(crate) key_id: Option<Vec<u8>>,
}

/// Whom the leaf names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The one URI name.
    pub(crate) id: SpiffeId,
    /// DNS names, for three parts of the control plane.
    pub(crate) dns: Vec<String>,
    /// What the workload's pod runs, as JSON; left out where nobody knows.
    pub(crate) images: Option<Box<[u8]>>,
}

/// From when to when, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// Why a leaf can't be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeafError {
    /// The key's kind has no signature algorithm here.
    #[error("issuer key of an unsupported kind")]
    Kind,
    /// An instant beyond the calendar of certificates.
    #[error("validity outside of the years 1 to 9999")]
    Calendar,
    /// The signature failed.
    #[error("signing failed: {0}")]
    Sign(#[from] rcgen::Error),
}

/// How the issuer signs, as an AlgorithmIdentifier: OID, and whether a NULL follows (RFC 4055, 5758, 8410).
struct Algorithm {
    oid: &'static [u64],
    null: bool,
}

const OID_SUBJECT_ALT_NAME: &[u64] = &[2, 5, 29, 17];
const OID_KEY_USAGE: &[u64] = &[2, 5, 29, 15];
const OID_EXTENDED_KEY_USAGE: &[u64] = &[2, 5, 29, 37];
const OID_AUTHORITY_KEY_ID: &[u64] = &[2, 5, 29, 35];
/// The container images of the workload (security 1.5).
const OID_IMAGES: &[u64] = &[1, 3, 6, 1, 4, 1, 57683, 100, 1];
const OID_SERVER_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const OID_CLIENT_AUTH: &[u64] = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
/// Key usage digitalSignature: the first bit of a string of one.
const DIGITAL_SIGNATURE: (&[u8], usize) = (&[0x80], 1);
/// The first year that UTCTime cannot hold (RFC 5280, 4.1.2.5).
const GENERALIZED_FROM: i16 = 2050;

/// Says whether leaves can be signed with this key.
pub(crate) fn is_supported(key: &KeyPair) -> bool {
    algorithm(key).is_ok()
}

/// Writes and signs a leaf for the key `spki`.
pub(crate) fn write(
    signer: &Signer,
    spki: &[u8],
    names: &Names,
    validity: Validity,
    serial: Serial,
) -> Result<CertificateDer<'static>, LeafError> {
    let algorithm = algorithm(&signer.key)?;
    let (not_before, not_after) = (time(validity.not_before)?, time(validity.not_after)?);
    let content = construct_der(|writer| {
        writer.write_sequence(|fields| {
            fields
                .next()
                .write_tagged(Tag::context(0), |version| version.write_u8(2));
            fields.next().write_bigint_bytes(&serial, true);
            algorithm.write(fields.next());
            fields.next().write_der(&signer.name);
            fields.next().write_sequence(|times| {
                times.next().write_der(&not_before);
                times.next().write_der(&not_after);
            });
            // No subject: the name is in the URI.
            fields.next().write_sequence(|_no_attributes| {});
            fields.next().write_der(spki);
            fields.next().write_tagged(Tag::context(3), |tagged| {
                tagged.write_sequence(|extensions| write_extensions(extensions, signer, names));
            });
        });
    });
    let signature = signer.key.sign(&content)?;
    let certificate = construct_der(|writer| {
        writer.write_sequence(|parts| {
            parts.next().write_der(&content);
            algorithm.write(parts.next());
            parts
                .next()
                .write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(CertificateDer::from(certificate))
}

// === impl Algorithm ===

impl Algorithm {
    fn write(&self, writer: DERWriter<'_>) {
        writer.write_sequence(|parts| {
            parts
                .next()
                .write_oid(&ObjectIdentifier::from_slice(self.oid));
            if self.null {
                parts.next().write_null();
            }
        });
    }
}

fn algorithm(key: &KeyPair) -> Result<Algorithm, LeafError> {
    let kind = key.algorithm();
    let (oid, null): (&[u64], bool) = if *kind == PKCS_ED25519 {
        (&[1, 3, 101, 112], false)
    } else if *kind == PKCS_ECDSA_P256_SHA256 {
        (&[1, 2, 840, 10045, 4, 3, 2], false)
    } else if *kind == PKCS_ECDSA_P384_SHA384 {
        (&[1, 2, 840, 10045, 4, 3, 3], false)
    } else if *kind == PKCS_RSA_SHA256 {
        (&[1, 2, 840, 113_549, 1, 1, 11], true)
    } else {
        return Err(LeafError::Kind);
    };
    Ok(Algorithm { oid, null })
}

fn write_extensions(extensions: &mut DERWriterSeq<'_>, signer: &Signer, names: &Names) {
    write_extension(extensions, OID_KEY_USAGE, Critical::Yes, |value| {
        let (bits, length) = DIGITAL_SIGNATURE;
        value.write_bitvec_bytes(bits, length);
    });
    write_extension(extensions, OID_EXTENDED_KEY_USAGE, Critical::No, |value| {
        value.write_sequence(|purposes| {
            for purpose in [OID_SERVER_AUTH, OID_CLIENT_AUTH] {
                purposes
                    .next()
                    .write_oid(&ObjectIdentifier::from_slice(purpose));
            }
        });
    });
    if let Some(key_id) = &signer.key_id {
        write_extension(extensions, OID_AUTHORITY_KEY_ID, Critical::No, |value| {
            value.write_sequence(|parts| {
                parts
                    .next()
                    .write_tagged_implicit(Tag::context(0), |id| id.write_bytes(key_id));
            });
        });
    }
    // Critical, because there is no subject (RFC 5280, 4.2.1.6).
    write_extension(extensions, OID_SUBJECT_ALT_NAME, Critical::Yes, |value| {
        value.write_sequence(|general_names| {
            for dns in &names.dns {
                let name = general_names.next();
                name.write_tagged_implicit(Tag::context(2), |text| text.write_ia5_string(dns));
            }
            let uri = names.id.to_string();
            let name = general_names.next();
            name.write_tagged_implicit(Tag::context(6), |text| text.write_ia5_string(&uri));
        });
    });
    if let Some(images) = &names.images {
        write_extension(extensions, OID_IMAGES, Critical::No, |value| {
            value.write_bytes(images);
        });
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Critical {
    Yes,
    No,
}

fn write_extension(
    extensions: &mut DERWriterSeq<'_>,
    oid: &[u64],
    critical: Critical,
    value: impl FnOnce(DERWriter<'_>),
) {
    extensions.next().write_sequence(|extension| {
        extension
            .next()
            .write_oid(&ObjectIdentifier::from_slice(oid));
        if critical == Critical::Yes {
            extension.next().write_bool(true);
        }
        extension.next().write_bytes(&construct_der(value));
    });
}

/// UTCTime up to 2049, GeneralizedTime after, as certificates demand.
fn time(instant: SystemTime) -> Result<Vec<u8>, LeafError> {
    let instant = Timestamp::try_from(instant).map_err(|_beyond| LeafError::Calendar)?;
    let year = instant
        .strftime("%Y")
        .to_string()
        .parse::<i16>()
        .unwrap_or_default();
    if year < 1 {
        return Err(LeafError::Calendar);
    }
    let (tag, format) = match year < GENERALIZED_FROM {
        true => (TAG_UTCTIME, "%y%m%d%H%M%SZ"),
        false => (TAG_GENERALIZEDTIME, "%Y%m%d%H%M%SZ"),
    };
    let text = instant.strftime(format).to_string();
    Ok(construct_der(|writer| {
        writer.write_tagged_implicit(tag, |bytes| bytes.write_bytes(text.as_bytes()));
    }))
}

#[cfg(test)]
mod tests;
