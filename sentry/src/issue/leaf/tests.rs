//! The profile of security 1.5, read back by a parser that is not ours.

use super::*;
use crate::authority::Authority;
use ironside_identity::verify;
use ironside_testkit::certs::{Ca, now};
use rcgen::PublicKeyData as _;
use std::time::{Duration, UNIX_EPOCH};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const APP: &str = "spiffe://public/ns/default/appa";
const HOUR: Duration = Duration::from_secs(3600);

fn names(dns: &[&str]) -> Names {
    Names {
        id: SpiffeId::parse(APP).unwrap(),
        dns: dns.iter().map(|&d| d.to_owned()).collect(),
        images: None,
    }
}

fn authority(ca: &Ca) -> Authority {
    let texts = (ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem());
    Authority::from_pem(
        texts.0.as_bytes(),
        texts.1.as_bytes(),
        texts.2.as_bytes(),
        now(),
    )
    .unwrap()
}

fn validity() -> Validity {
    Validity {
        not_before: now() - HOUR,
        not_after: now() + HOUR,
    }
}

fn leaf(
    authority: &Authority,
    key: &KeyPair,
    names: &Names,
    serial: Serial,
) -> CertificateDer<'static> {
    write(
        authority.signer(),
        &key.subject_public_key_info(),
        names,
        validity(),
        serial,
    )
    .unwrap()
}

/// Fact: security.md K016, K050: every kind of issuer signs every kind of key.
#[test]
fn leaves_of_every_kind_are_believed() {
    let kinds = [
        &PKCS_ED25519,
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P384_SHA384,
        &PKCS_RSA_SHA256,
    ];
    for issuer in kinds {
        let ca = Ca::builder().algorithm(issuer).build();
        let authority = authority(&ca);
        for subject in kinds {
            let key = KeyPair::generate_for(subject).unwrap();
            let leaf = leaf(&authority, &key, &names(&[]), [1; 16]);
            let chain: Vec<_> = [leaf]
                .into_iter()
                .chain(authority.chain(now()).cloned())
                .collect();
            assert_eq!(
                verify(&chain, &ca.bundle(), now()).unwrap().id.to_string(),
                APP
            );
        }
    }
}

/// Fact: security.md 1.5, K022.
#[test]
fn the_profile_is_the_references() {
    let authority = authority(&Ca::new());
    let key = KeyPair::generate().unwrap();
    let der = leaf(&authority, &key, &names(&[]), [0xff; 16]);
    let (rest, leaf) = X509Certificate::from_der(&der).unwrap();
    assert!(rest.is_empty());
    assert_eq!(leaf.raw_serial(), [&[0][..], &[0xff; 16]].concat());
    assert_eq!(leaf.subject().iter().count(), 0);
    assert_eq!(leaf.issuer().as_raw(), authority.signer().name);
    assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    assert!(leaf.basic_constraints().unwrap().is_none());
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(
        usage.critical && usage.value.flags == 1,
        "digitalSignature and nothing else"
    );
    let purposes = leaf.extended_key_usage().unwrap().unwrap();
    assert!(!purposes.critical && purposes.value.server_auth && purposes.value.client_auth);
    assert!(!purposes.value.any && purposes.value.other.is_empty());
    let alternative = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(alternative.critical);
    assert_eq!(alternative.value.general_names, [GeneralName::URI(APP)]);
    assert_eq!(
        leaf.extensions().len(),
        4,
        "key usage, purposes, authority key, names"
    );
}

/// Fact: security.md 1.5, DNS names of the control plane.
#[test]
fn dns_names_stand_beside_the_uri() {
    let authority = authority(&Ca::new());
    let der = leaf(
        &authority,
        &KeyPair::generate().unwrap(),
        &names(&["a.b.svc"]),
        [1; 16],
    );
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    let alternative = leaf.subject_alternative_name().unwrap().unwrap();
    let expected = [GeneralName::DNSName("a.b.svc"), GeneralName::URI(APP)];
    assert_eq!(alternative.value.general_names, expected);
}

#[test]
fn times_change_their_form_in_2050() {
    let at = |seconds| time(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    assert_eq!(at(2_524_607_999), b"\x17\x0d491231235959Z");
    assert_eq!(at(2_524_608_000), b"\x18\x0f20500101000000Z");
    assert_eq!(at(0), b"\x17\x0d700101000000Z");
    let beyond = UNIX_EPOCH + Duration::from_secs(400_000 * 365 * 86_400);
    assert!(matches!(time(beyond), Err(LeafError::Calendar)));
}

/// A company CA whose name repeats an attribute, which rcgen would lose.
#[test]
fn an_issuer_name_is_copied_to_the_byte() {
    let name = construct_der(|writer| {
        writer.write_sequence(|parts| {
            for component in ["example", "corp"] {
                parts.next().write_set(|set| {
                    set.next().write_sequence(|attribute| {
                        let domain_component = [0, 9, 2342, 19_200_300, 100, 1, 25];
                        let oid = ObjectIdentifier::from_slice(&domain_component);
                        attribute.next().write_oid(&oid);
                        attribute.next().write_ia5_string(component);
                    });
                });
            }
        });
    });
    let signer = Signer {
        key: KeyPair::generate().unwrap(),
        name: name.clone(),
        key_id: None,
    };
    let spki = KeyPair::generate().unwrap().subject_public_key_info();
    let der = write(&signer, &spki, &names(&[]), validity(), [1; 16]).unwrap();
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(leaf.issuer().to_string(), "DC=example, DC=corp");
    assert_eq!(leaf.issuer().as_raw(), name);
    assert_eq!(leaf.extensions().len(), 3, "no key identifier to point to");
}
