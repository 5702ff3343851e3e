//! Requests, good and bad.

use super::*;
use proptest::prelude::*;
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    PKCS_RSA_SHA256, PublicKeyData as _, RsaKeySize,
};

fn csr(key: &KeyPair) -> Vec<u8> {
    let params = CertificateParams::default();
    params.serialize_request(key).unwrap().der().to_vec()
}

fn ed25519() -> Vec<u8> {
    csr(&KeyPair::generate_for(&PKCS_ED25519).unwrap())
}

fn request(der: &[u8]) -> String {
    pem::encode("CERTIFICATE REQUEST", der)
}

/// Fact: security.md K016.
#[test]
fn the_four_kinds_of_keys_are_accepted() {
    let ec = [
        &PKCS_ED25519,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
    ];
    let mut keys: Vec<_> = ec.map(|kind| KeyPair::generate_for(kind).unwrap()).into();
    keys.push(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap());
    for key in keys {
        let read = read(request(&csr(&key)).as_bytes()).unwrap();
        assert_eq!(read.spki, key.subject_public_key_info());
    }
}

/// Fact: security.md K012, K013, K018.
#[test]
fn only_one_block_of_a_known_type_is_read() {
    let der = ed25519();
    let refused = |text: &str| assert_eq!(read(text.as_bytes()), Err(CsrError::Pem), "{text}");
    assert!(read(pem::encode("CERTIFICATE", &der).as_bytes()).is_ok());
    refused(&pem::encode("PRIVATE KEY", &der));
    refused("plain text");
    refused(&request(&der).repeat(2));
    refused(&format!("{}trailing", request(&der)));
    refused(&format!("{}{}", request(&der), " ".repeat(64 * 1024)));
    refused("");
}

/// Fact: security.md 1.2, K014.
#[test]
fn broken_requests_and_signatures_are_told_apart() {
    let der = ed25519();
    let malformed = read(request(&der[..der.len() - 1]).as_bytes()).unwrap_err();
    let text = malformed.to_string();
    assert!(
        text.starts_with("failed to parse certificate signing request: "),
        "{text}"
    );
    let trailing = [&der[..], &[0]].concat();
    assert!(matches!(
        read(request(&trailing).as_bytes()),
        Err(CsrError::Malformed(_))
    ));
    let mut flipped = der;
    *flipped.last_mut().unwrap() ^= 1;
    assert_eq!(read(request(&flipped).as_bytes()), Err(CsrError::Signature));
}

/// Fact: security.md K017. The requests come from openssl, because nothing here makes such keys.
#[test]
fn weak_keys_are_refused() {
    const RSA_1024: &str = include_str!("tests/rsa1024.csr");
    const P224: &str = include_str!("tests/p224.csr");
    assert_eq!(
        read(RSA_1024.as_bytes()),
        Err(CsrError::Key("RSA with 1024 bits".into()))
    );
    let p224 = read(P224.as_bytes());
    assert!(
        matches!(&p224, Err(CsrError::Key(why)) if why.contains("1.3.132.0.33")),
        "{p224:?}"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_answered(bytes in any::<Vec<u8>>()) {
        prop_assert!(read(&bytes).is_err());
        prop_assert!(read(request(&bytes).as_bytes()).is_err());
    }

    #[test]
    fn one_changed_byte_never_gives_another_key(at in 0usize..200, bit in 0u8..8) {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut der = csr(&key);
        let at = at % der.len();
        der[at] ^= 1 << bit;
        if let Ok(read) = read(request(&der).as_bytes()) {
            prop_assert_eq!(read.spki, key.subject_public_key_info());
        }
    }
}
