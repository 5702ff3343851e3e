//! Secret and ConfigMap under the real program: rows K048, K049, K050, K052 to K056.

use crate::rig::{Cluster, FILES, NAME, NAMESPACE, Pod, claim, healthz, metric, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironside_identity::{TrustBundle, pem, verify};
use ironside_testkit::certs::{Ca, now};
use ironside_testkit::kube::When;
use rcgen::PKCS_ECDSA_P256_SHA256;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use std::time::Duration;
use tonic::Code;

fn chain_of(ca: &Ca) -> Vec<CertificateDer<'static>> {
    pem::certificates(ca.issuer_pem().as_bytes()).unwrap()
}

/// Fact: security.md K048.
#[tokio::test]
async fn empty_objects_are_filled() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    sentry.line("Using Kubernetes for trust bundle storage");
    let roots = cluster.published().unwrap();
    assert_eq!(cluster.key("ca.crt").unwrap(), roots);
    for key in FILES {
        assert!(cluster.key(key).is_some(), "{key}");
    }
    let bundle = TrustBundle::from_pem(roots.as_bytes()).unwrap();
    let ends = bundle.earliest_expiry().unwrap();
    let left = ends.duration_since(now()).unwrap();
    let day = Duration::from_secs(86_400);
    assert!((364 * day..=365 * day).contains(&left), "{left:?}");
    assert!(!metric(&sentry, "dapr_sentry_trustanchor_expiry_timestamp 0").await);
}

/// Fact: security.md K049.
#[tokio::test]
async fn two_replicas_share_one_authority() {
    let cluster = Cluster::new();
    let replicas = [cluster.spawn(&[]), cluster.spawn(&[])];
    let token = cluster.run(&Pod::default());
    for replica in &replicas {
        replica.line("Running gRPC server on port ");
        until("health", async || healthz(replica).await == 200).await;
        // Verified by the roots of the Secret.
        let issued = cluster.ask(replica, claim("shop", "orders", &token)).await;
        assert_eq!(issued.unwrap().id, "spiffe://public/ns/shop/orders");
    }
    assert_eq!(cluster.bundle().anchors().len(), 1);
    assert_eq!(cluster.published(), cluster.key("ca.crt"));
}

/// Fact: security.md K050, K052: a new issuer is taken over without a connection lost.
#[tokio::test]
async fn a_new_issuer_is_taken_over_in_place() {
    let cluster = Cluster::new();
    let ca = Ca::builder().algorithm(&PKCS_ECDSA_P256_SHA256).build();
    cluster.supply(&ca);
    let before = cluster.secret();
    let sentry = cluster.sentry(&[]).await;
    assert_eq!(cluster.secret(), before);
    assert_eq!(cluster.published(), Some(ca.root_pem()));
    let token = cluster.run(&Pod::default());
    let mut client = cluster.client(&sentry).await;
    let mut chain = async || {
        // Over one connection, and healthy, all the time.
        let answer = client.sign(claim("shop", "orders", &token)).await.unwrap();
        assert_eq!(healthz(&sentry).await, 200);
        pem::certificates(&answer.workload_certificate).unwrap()[1..].to_vec()
    };
    assert_eq!(chain().await, chain_of(&ca));
    let next = ca.new_issuer();
    cluster.supply(&next);
    until("the new issuer", async || chain().await == chain_of(&next)).await;
    sentry.line("Issuer credentials changed; reloading");
}

/// Fact: security.md K053.
#[tokio::test]
async fn garbage_changes_nothing_and_is_reported() {
    let cluster = Cluster::new();
    let ca = Ca::new();
    cluster.supply(&ca);
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    let mut garbage = cluster.secret();
    garbage["data"]["issuer.crt"] = STANDARD.encode("no PEM").into();
    cluster.server.put(garbage);
    until("the Event", async || {
        !cluster
            .server
            .objects("events.k8s.io/v1", "Event")
            .is_empty()
    })
    .await;
    let event = cluster
        .server
        .objects("events.k8s.io/v1", "Event")
        .remove(0);
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "IssuerCredentialsUnusable");
    assert_eq!(event["regarding"]["kind"], "Secret");
    assert_eq!(event["regarding"]["name"], NAME);
    assert!(
        event["note"]
            .as_str()
            .unwrap()
            .starts_with("issuer certificate: ")
    );
    assert!(metric(&sentry, "dapr_sentry_issuercert_reload_failed_total 1").await);
    sentry.line("Issuer credentials cannot be used, the old ones stay in effect");
    assert_eq!(healthz(&sentry).await, 200);
    let mut client = cluster.client_with(&sentry, ca.bundle()).await;
    let answer = client.sign(claim("shop", "orders", &token)).await.unwrap();
    let chain = pem::certificates(&answer.workload_certificate).unwrap();
    assert!(verify(&chain, &ca.bundle(), now()).is_ok());
}

/// Fact: security.md K054.
#[tokio::test]
async fn an_edited_config_map_is_restored() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let (roots, before) = (cluster.published(), cluster.secret());
    cluster.server.put(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {"ca.crt": Ca::new().root_pem()},
    }));
    until("the roots of the Secret", async || {
        cluster.published() == roots
    })
    .await;
    assert_eq!(cluster.secret(), before);
    sentry.line("ca.crt of the ConfigMap dapr-system/dapr-trust-bundle is not that of the Secret");
}

/// Fact: security.md K055.
#[tokio::test]
async fn a_partial_secret_ends_the_start() {
    let cluster = Cluster::new();
    cluster.supply(&Ca::new());
    let mut partial = cluster.secret();
    partial["data"]
        .as_object_mut()
        .unwrap()
        .remove("issuer.key");
    let before = cluster.server.put(partial);
    let mut sentry = cluster.spawn(&[]);
    assert_eq!(sentry.exit_code(), Some(1));
    sentry
        .line("dapr-trust-bundle is incomplete: missing: issuer.key; present: ca.crt, issuer.crt");
    assert_eq!(cluster.secret(), before);
    assert_eq!(cluster.published(), None);
    assert!(
        cluster
            .server
            .seen(&When::new("update", "secrets"))
            .is_empty()
    );
}

/// Fact: security.md K056, O-S7.
#[tokio::test]
async fn an_expired_issuer_signs_nothing() {
    let cluster = Cluster::new();
    let (from, to) = (
        now() - Duration::from_secs(60),
        now() + Duration::from_secs(15),
    );
    cluster.supply(&Ca::builder().issuer_valid(from, to).build());
    let sentry = cluster.spawn(&[]);
    sentry.line("Running gRPC server on port ");
    let token = cluster.run(&Pod::default());
    // A connection from before its end: the certificate of Sentry itself ends with it.
    let mut client = cluster.client(&sentry).await;
    until("the end of the issuer", async || {
        let answer = client.sign(claim("shop", "orders", &token)).await;
        answer.is_err_and(|status| status.code() == Code::Unavailable)
    })
    .await;
    assert_eq!(healthz(&sentry).await, 503);
}
