//! Who is believed and who is not: one good chain, and every way to spoil it.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use ironside_identity::{SpiffeIdError, Svid, SvidError, TrustBundle, VerifyError, pem, verify};
use ironside_testkit::certs::{Ca, Issued, Leaf, now};
use rcgen::{
    ExtendedKeyUsagePurpose, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
};
use std::time::Duration;

const ID: &str = "spiffe://public/ns/default/appa";
const HOUR: Duration = Duration::from_secs(3600);

fn error(ca: &Ca, leaf: Leaf<'_>) -> VerifyError {
    verify(&leaf.issue().chain, &ca.bundle(), now()).unwrap_err()
}

fn accepted(ca: &Ca, leaf: Leaf<'_>) {
    let peer = verify(&leaf.issue().chain, &ca.bundle(), now()).unwrap();
    assert_eq!(peer.id.to_string(), ID);
}

#[test]
fn a_chain_of_sentry_is_believed() {
    let ca = Ca::new();
    let not_after = now() + HOUR;
    let issued = ca.svid(ID).valid(now() - HOUR, not_after).issue();
    let peer = verify(&issued.chain, &ca.bundle(), now()).unwrap();
    assert_eq!(peer.id.to_string(), ID);
    assert!(not_after.duration_since(peer.not_after).unwrap() < Duration::from_secs(1));
    assert_eq!(peer.verify_again(&ca.bundle(), now()), Ok(()));
}

/// Fact: security.md 2.4, "same anchors for every trust domain", and any extended key usage.
#[test]
fn any_trust_domain_kind_of_key_and_purpose_is_believed() {
    let ca = Ca::new();
    let other = ca.svid("spiffe://elsewhere/ns/default/appa").issue();
    assert_eq!(
        verify(&other.chain, &ca.bundle(), now())
            .unwrap()
            .id
            .trust_domain()
            .as_str(),
        "elsewhere"
    );
    accepted(&ca, ca.svid(ID).purposes(&[]));
    accepted(
        &ca,
        ca.svid(ID)
            .purposes(&[ExtendedKeyUsagePurpose::CodeSigning]),
    );
    accepted(&ca, ca.svid(ID).and_dns("dapr-webhook.default.svc"));
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
        accepted(&ca, ca.svid(ID).algorithm(algorithm));
        let other = Ca::builder().algorithm(algorithm).build();
        accepted(&other, other.svid(ID));
    }
}

/// Fact: security.md K082, K083, O-C7.
#[test]
fn leaves_that_name_no_single_workload_are_refused() {
    let ca = Ca::new();
    let two = ca.svid(ID).and_uri("spiffe://public/ns/default/appb");
    assert_eq!(error(&ca, two), VerifyError::NotOneUri { count: 2 });
    let dns_only = ca.svid(ID).without_uri().and_dns("appa.default");
    assert_eq!(error(&ca, dns_only), VerifyError::NotOneUri { count: 0 });
    assert_eq!(
        error(&ca, ca.svid(ID).without_uri()),
        VerifyError::NotOneUri { count: 0 }
    );
    for uri in [
        "spiffe://public/foo",
        "spiffe://public",
        "spiffe://public/ns/default/appa/extra",
        "https://a/b",
    ] {
        assert!(
            matches!(error(&ca, ca.svid(uri)), VerifyError::Id(_)),
            "{uri}"
        );
    }
    let extra = error(&ca, ca.svid("spiffe://public/ns/default/appa/extra"));
    let id = "spiffe://public/ns/default/appa/extra".into();
    assert_eq!(extra, VerifyError::Id(SpiffeIdError::Shape { id }));
}

/// Fact: security.md K082.
#[test]
fn leaves_that_could_sign_are_refused() {
    let ca = Ca::new();
    let sign = KeyUsagePurpose::KeyCertSign;
    let revoke = KeyUsagePurpose::CrlSign;
    for leaf in [
        ca.svid(ID).authority(),
        ca.svid(ID)
            .key_usages(&[KeyUsagePurpose::DigitalSignature, sign]),
        ca.svid(ID)
            .key_usages(&[KeyUsagePurpose::DigitalSignature, revoke]),
    ] {
        let refused = error(&ca, leaf);
        assert!(
            matches!(refused, VerifyError::SigningLeaf { .. }),
            "{refused:?}"
        );
    }
}

#[test]
fn expired_and_future_leaves_are_refused() {
    let ca = Ca::new();
    let issued = ca.svid(ID).valid(now() - HOUR, now() + HOUR).issue();
    let at = |instant| verify(&issued.chain, &ca.bundle(), instant);
    assert!(at(now()).is_ok());
    assert!(matches!(
        at(now() + 2 * HOUR),
        Err(VerifyError::Expired { .. })
    ));
    assert!(matches!(
        at(now() - 2 * HOUR),
        Err(VerifyError::NotYetValid { .. })
    ));
}

#[test]
fn an_expired_issuer_is_refused() {
    let ca = Ca::builder()
        .issuer_valid(now() - 2 * HOUR, now() - HOUR)
        .build();
    assert!(matches!(
        error(&ca, ca.svid(ID)),
        VerifyError::Untrusted { .. }
    ));
}

/// Fact: security.md K087. webpki alone would accept both.
#[test]
fn an_expired_or_future_root_is_refused_though_the_leaf_is_valid() {
    for (from, to) in [
        (now() - 2 * HOUR, now() - HOUR),
        (now() + HOUR, now() + 2 * HOUR),
    ] {
        let ca = Ca::builder().root_valid(from, to).build();
        assert!(matches!(
            error(&ca, ca.svid(ID)),
            VerifyError::AnchorNotValid { .. }
        ));
        // Another root that is valid does not help the leaf below this one.
        let bundle = ca.bundle().merge(&Ca::new().bundle());
        let refused = verify(&ca.svid(ID).issue().chain, &bundle, now()).unwrap_err();
        assert!(matches!(refused, VerifyError::AnchorNotValid { .. }));
    }
}

#[test]
fn strangers_are_refused() {
    let ca = Ca::new();
    let stranger = Ca::new();
    assert!(matches!(
        error(&ca, stranger.svid(ID)),
        VerifyError::Untrusted { .. }
    ));
    assert!(matches!(
        error(&ca, ca.svid(ID).self_signed()),
        VerifyError::Untrusted { .. }
    ));
    assert!(matches!(
        error(&ca, ca.svid(ID).without_issuer()),
        VerifyError::Untrusted { .. }
    ));
    assert_eq!(
        verify(&[], &ca.bundle(), now()),
        Err(VerifyError::NoCertificate)
    );
    let empty = verify(&ca.svid(ID).issue().chain, &TrustBundle::default(), now());
    assert!(matches!(empty, Err(VerifyError::Untrusted { .. })));
    let garbage = verify(&[vec![1, 2, 3].into()], &ca.bundle(), now());
    assert!(matches!(garbage, Err(VerifyError::Malformed(_))));
}

#[test]
fn several_roots_and_issuers_are_believed() {
    let (old, new) = (Ca::new(), Ca::new());
    let both = old.bundle().merge(&new.bundle());
    assert_eq!(both.anchors().len(), 2);
    assert_eq!(both.merge(&old.bundle()), both);
    let below_other_issuer = old.new_issuer();
    for ca in [&old, &new, &below_other_issuer] {
        assert!(verify(&ca.svid(ID).issue().chain, &both, now()).is_ok());
    }
    let peer = verify(&old.svid(ID).issue().chain, &both, now()).unwrap();
    assert!(peer.verify_again(&new.bundle(), now()).is_err());
    assert_eq!(
        TrustBundle::from_pem(both.to_pem().as_bytes()).unwrap(),
        both
    );
}

#[test]
fn a_bundle_of_leaves_is_refused() {
    let ca = Ca::new();
    let text = format!(
        "{}{}",
        ca.root_pem(),
        pem::encode_certificates(&ca.svid(ID).issue().chain[..1])
    );
    let refused = TrustBundle::from_pem(text.as_bytes()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "trust anchor number 2 is not a certificate authority"
    );
    let truncated = &text.as_bytes()[..ca.root_pem().len() + 40];
    assert_eq!(
        TrustBundle::from_pem(truncated).unwrap_err().to_string(),
        "PEM block number 2 is malformed"
    );
}

#[test]
fn an_svid_needs_its_own_key_and_one_name() {
    let ca = Ca::new();
    let Issued { chain, key } = ca.svid(ID).issue();
    let svid = Svid::from_pem(pem::encode_certificates(&chain).as_bytes(), key).unwrap();
    assert_eq!(svid.id().to_string(), ID);
    assert!(format!("{svid:?}").contains("<redacted>"));
    let other = ca.svid(ID).issue();
    assert_eq!(
        Svid::new(chain.clone(), other.key).unwrap_err(),
        SvidError::KeyMismatch
    );
    assert_eq!(
        Svid::new(Vec::new(), ca.svid(ID).issue().key).unwrap_err(),
        SvidError::Empty
    );
    let two = ca.svid(ID).and_uri(ID).issue();
    assert_eq!(
        Svid::new(two.chain, two.key).unwrap_err(),
        SvidError::NotOneUri { count: 2 }
    );
    let empty = vec![0u8; 3];
    let bad_key = rustls_pki_types::PrivatePkcs8KeyDer::from(empty).into();
    assert!(matches!(Svid::new(chain, bad_key), Err(SvidError::Key(_))));
}
