//! What belongs together and what does not.

use super::*;
use ironside_testkit::certs::{Ca, now};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P521_SHA512};

const HOUR: Duration = Duration::from_secs(3600);

fn load(roots: &str, issuer: &str, key: &str) -> Result<Authority, AuthorityError> {
    Authority::from_pem(roots.as_bytes(), issuer.as_bytes(), key.as_bytes(), now())
}

fn load_ca(ca: &Ca) -> Result<Authority, AuthorityError> {
    load(&ca.root_pem(), &ca.issuer_pem(), &ca.issuer_key_pem())
}

fn refused(roots: &str, issuer: &str, key: &str, expected: &str) {
    let error = load(roots, issuer, key).unwrap_err().to_string();
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn issuers_of_other_makers_are_used() {
    let ca = Ca::builder().algorithm(&PKCS_ECDSA_P256_SHA256).build();
    let authority = load_ca(&ca).unwrap();
    assert_eq!(authority.chain(now()).count(), 1);
    assert_eq!(authority.bundle(), &ca.bundle());
    assert_eq!(authority.check_ready(now()), Ok(()));
    // Several roots, one of which is the issuer's; a chain that ends in the root.
    let roots = format!("# new\n{}# old\n{}", Ca::new().root_pem(), ca.root_pem());
    let chain = format!("{}{}", ca.issuer_pem(), ca.root_pem());
    let authority = load(&roots, &chain, &ca.issuer_key_pem()).unwrap();
    assert_eq!(
        (
            authority.chain(now()).count(),
            authority.bundle().anchors().len()
        ),
        (1, 2)
    );
}

/// Fact: security.md 1.8, K051, O-S10.
#[test]
fn what_does_not_belong_together_is_refused() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (root, issuer, key) = (ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem());
    refused(
        &root,
        &issuer,
        &other.issuer_key_pem(),
        "issuer key does not match issuer certificate",
    );
    let stranger = "issuer chain does not belong to trust anchors: ";
    refused(&other.root_pem(), &issuer, &key, stranger);
    let not_self_signed = "certificate in trust anchor is not self-signed: number 2";
    refused(&format!("{root}{issuer}"), &issuer, &key, not_self_signed);
    refused(
        &root,
        &format!("{issuer}{}", other.issuer_pem()),
        &key,
        "certificate chain is not valid",
    );
    refused(
        &root,
        &format!("{root}{issuer}"),
        &key,
        "certificate chain is not valid",
    );
    let leaf = ca.svid("spiffe://public/ns/default/a").issue();
    let leaf_pem = pem::encode_certificates(&leaf.chain[..1]);
    let not_signing = "intermediate certificate is not valid for signing";
    refused(
        &root,
        &leaf_pem,
        &pem::encode_private_key(&leaf.key),
        not_signing,
    );
    refused(
        &root,
        &issuer,
        &issuer,
        "issuer key: unsupported block type",
    );
    refused(
        &root,
        &key,
        &key,
        "issuer certificate: unsupported block type",
    );
    refused("", &issuer, &key, "trust anchors: no PEM block");
    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    let p521 = pem::encode("PRIVATE KEY", p521.serialized_der());
    refused(&root, &issuer, &p521, "issuer key: only Ed25519");
}

#[test]
fn expired_issuers_and_roots_are_refused() {
    let past = (now() - 2 * HOUR, now() - HOUR);
    let stranger = |ca: &Ca| {
        let error = load_ca(ca).unwrap_err();
        assert!(matches!(error, AuthorityError::Stranger(_)), "{error}");
    };
    stranger(&Ca::builder().issuer_valid(past.0, past.1).build());
    stranger(&Ca::builder().root_valid(past.0, past.1).build());
}

/// Fact: security.md O-S7, K056.
#[test]
fn an_authority_is_ready_while_issuer_and_root_are_valid() {
    let (from, soon, later) = (now() - HOUR, now() + HOUR, now() + 2 * HOUR);
    let issuer_ends = Ca::builder()
        .issuer_valid(from, soon)
        .root_valid(from, later)
        .build();
    let authority = load_ca(&issuer_ends).unwrap();
    assert_eq!(
        authority.check_ready(soon + HOUR / 2),
        Err(NotReady::Issuer)
    );
    assert_eq!(authority.check_ready(from - HOUR), Err(NotReady::Issuer));
    let root_ends = Ca::builder()
        .issuer_valid(from, later)
        .root_valid(from, soon)
        .build();
    let authority = load_ca(&root_ends).unwrap();
    assert_eq!(
        authority.check_ready(soon + HOUR / 2),
        Err(NotReady::Anchors)
    );
    let second = |instant: SystemTime| instant.duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(second(authority.anchors_not_after()), second(soon));
    assert_eq!(second(authority.issuer_not_after()), second(later));
}
