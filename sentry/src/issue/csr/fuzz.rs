//! Any bytes as a certificate signing request, in PEM and in DER.
//!
//! What is accepted is one block with a key of an allowed kind that its sender holds; and whatever else it asks for,
//! the leaf that is issued for it is the profile of security 1.5 around that key. Driven by `ironside_testkit::fuzz`.

use super::*;
use crate::issue::leaf::{self, Names, Signer, Validity};
use ironside_identity::SpiffeId;
use ironside_testkit::fuzz::Fuzz;
use rcgen::KeyPair;
use std::sync::LazyLock;
use std::time::{Duration, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

const APP: &str = "spiffe://public/ns/default/appa";

static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer {
    key: KeyPair::generate().unwrap(),
    // A sequence of no names.
    name: vec![0x30, 0],
    key_id: None,
});

fn csr(data: &[u8]) {
    accepted(data);
    accepted(pem::encode("CERTIFICATE REQUEST", data).as_bytes());
}

fn accepted(text: &[u8]) {
    let Ok(key) = read(text) else { return };
    assert!(text.len() <= MAX_LENGTH);
    let begins = text.windows(11).filter(|window| *window == b"-----BEGIN ");
    assert_eq!(begins.count(), 1, "exactly one block");
    let (rest, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&key.spki).unwrap();
    assert!(rest.is_empty());
    assert_eq!(check_kind(&spki), Ok(()));
    check_leaf(&key.spki);
}

fn check_leaf(spki: &[u8]) {
    let names = Names {
        id: SpiffeId::parse(APP).unwrap(),
        dns: Vec::new(),
        images: None,
    };
    let validity = Validity {
        not_before: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        not_after: UNIX_EPOCH + Duration::from_secs(1_800_003_600),
    };
    let der = leaf::write(&SIGNER, spki, &names, validity, [1; 16]).unwrap();
    let (rest, leaf) = X509Certificate::from_der(&der).unwrap();
    assert!(rest.is_empty(), "the key's bytes end where they say");
    assert_eq!(leaf.public_key().raw, spki);
    assert!(!leaf.is_ca() && leaf.subject().iter().next().is_none());
    assert_eq!(leaf.key_usage().unwrap().unwrap().value.flags, 1);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names, [GeneralName::URI(APP)]);
    let uses = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(uses.client_auth && uses.server_auth && !uses.any && uses.other.is_empty());
    assert_eq!(leaf.extensions().len(), 3);
}

#[test]
fn whatever_is_asked_for_gets_the_profile_or_nothing() {
    Fuzz {
        name: "csr",
        corpus: concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/csr"),
        dictionary: &[
            b"-----BEGIN CERTIFICATE REQUEST-----\n",
            b"-----END CERTIFICATE REQUEST-----\n",
            b"-----BEGIN CERTIFICATE-----\n",
            b"-----BEGIN PRIVATE KEY-----\n",
            b"-----",
            b"BEGIN ",
            b"END ",
            b"\n",
            b"\r\n",
            b"Proc-Type: 4,ENCRYPTED\n",
            // SEQUENCE, INTEGER, BIT STRING, OBJECT IDENTIFIER, NULL, context 0; lengths; the kinds of keys.
            b"\x30\x00",
            b"\x30\x80",
            b"\x30\x82\xff\xff",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x02\x01\x00",
            b"\x03\x01\x00",
            b"\x03\x02\x07\x80",
            b"\x05\x00",
            b"\xa0\x00",
            b"\x06\x03\x2b\x65\x70",
            b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
            b"\x06\x05\x2b\x81\x04\x00\x21",
            b"\x06\x05\x2b\x81\x04\x00\x22",
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01",
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b",
        ],
        count: 15_000,
        longest: 20 * 1024,
        target: csr,
    }
    .run();
}
