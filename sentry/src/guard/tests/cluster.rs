//! The guard over Secret and ConfigMap of a fake API server, which fails and forgets on demand.

mod rotation;

use super::*;
use crate::cluster::{Cluster, ClusterOptions};
use crate::rotation::StateError;
use crate::store::SecretStore;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironside_identity::Namespace;
use ironside_testkit::kube::{ApiServer, Fault, When};
use serde_json::{Map, Value, json};

const NAMESPACE: &str = "dapr-system";
const NAME: &str = "dapr-trust-bundle";
const ANNOTATION: &str = "dapr.io/rotate-request";

/// A cluster into which the chart has put its two objects, without data.
fn installed() -> ApiServer {
    ironside_transport::install_provider();
    let server = ApiServer::start();
    put_secret(&server, json!({}));
    put_map(&server, json!({}));
    server
}

fn put_secret(server: &ApiServer, data: Value) {
    let metadata = json!({"name": NAME, "namespace": NAMESPACE, "labels": {"app": "dapr-sentry"}});
    server.put(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}));
}

fn put_map(server: &ApiServer, data: Value) {
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    server
        .put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}));
}

/// Fills the Secret with an authority of somebody's own.
fn supply(server: &ApiServer, ca: &Ca) {
    let texts = [ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem()];
    let data: Map<_, _> = FILES
        .into_iter()
        .zip(texts)
        .map(|(key, text)| (key.to_owned(), STANDARD.encode(text).into()))
        .collect();
    put_secret(server, data.into());
}

fn secret(server: &ApiServer) -> Value {
    server.object("v1", "Secret", NAMESPACE, NAME).unwrap()
}

/// A key of the Secret, decoded.
fn key_of(server: &ApiServer, key: &str) -> Option<String> {
    let text = secret(server)["data"][key].as_str()?.to_owned();
    Some(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
}

fn published_roots(server: &ApiServer) -> Option<String> {
    let map = server.object("v1", "ConfigMap", NAMESPACE, NAME).unwrap();
    map["data"]["ca.crt"].as_str().map(str::to_owned)
}

fn wish(server: &ApiServer) {
    let mut secret = secret(server);
    secret["metadata"]["annotations"] = json!({ANNOTATION: "now"});
    server.put(secret);
}

fn is_wished(server: &ApiServer) -> bool {
    secret(server)["metadata"]["annotations"]
        .get(ANNOTATION)
        .is_some()
}

/// Reasons and notes of the Events so far.
fn events(server: &ApiServer) -> Vec<(String, String)> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let events = server.objects("events.k8s.io/v1", "Event");
    let read = |event: &Value| {
        assert_eq!(event["type"], "Warning");
        assert_eq!(event["regarding"]["name"], NAME);
        (text(event, "reason"), text(event, "note"))
    };
    events.iter().map(read).collect()
}

fn updates(server: &ApiServer) -> usize {
    let count = |resource| server.seen(&When::new("update", resource)).len();
    count("secrets") + count("configmaps")
}

async fn replica(server: &ApiServer, clock: &Clock) -> Guard {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    fs::write(&path, server.kubeconfig()).unwrap();
    let options = ClusterOptions {
        kubeconfig: Some(path),
        keys: FILES.map(str::to_owned),
        legacy_audience: false,
        instance: "dapr-sentry-0".into(),
    };
    let namespace = Namespace::parse(NAMESPACE).unwrap();
    let cluster = Cluster::connect(&options, namespace).await.unwrap();
    let store = SecretStore::new(cluster, options.keys, options.instance);
    guard_of(Arc::new(store), clock)
}

/// Starts a replica and expects it to fail.
async fn refused(server: &ApiServer, expected: &str) {
    let (clock, _hand) = clock();
    let before = (secret(server), published_roots(server));
    let error = replica(server, &clock).await.start().await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(expected), "{text}");
    assert_eq!((secret(server), published_roots(server)), before);
    assert_eq!(updates(server), 0, "nothing is overwritten");
    assert_eq!(events(server), [(UNUSABLE.to_owned(), text)]);
}

/// Fact: security.md K048.
#[tokio::test]
async fn empty_objects_are_filled_with_one_authority() {
    let server = installed();
    let (clock, _hand) = clock();
    let mut guard = replica(&server, &clock).await;
    let authority = guard.start().await.unwrap();
    let roots = published_roots(&server).unwrap();
    assert_eq!(key_of(&server, "ca.crt").unwrap(), roots);
    assert_eq!(
        TrustBundle::from_pem(roots.as_bytes()).unwrap(),
        *authority.bundle()
    );
    assert_eq!(secret(&server)["metadata"]["labels"]["app"], "dapr-sentry");
    assert!(events(&server).is_empty());
}

/// Fact: security.md K049: of replicas that start at once one makes the authority, and all serve it.
#[tokio::test]
async fn replicas_that_start_at_once_share_one_authority() {
    for _ in 0..5 {
        let server = installed();
        let (clock, _hand) = clock();
        let mut guards = Vec::new();
        for _ in 0..3 {
            guards.push(replica(&server, &clock).await);
        }
        let [a, b, c] = guards.as_mut_slice() else {
            panic!("three of them")
        };
        let started = tokio::join!(a.start(), b.start(), c.start());
        let bundles = [started.0, started.1, started.2].map(|one| one.unwrap().bundle().clone());
        let roots = published_roots(&server).unwrap();
        let expected = TrustBundle::from_pem(roots.as_bytes()).unwrap();
        assert_eq!(bundles, [expected.clone(), expected.clone(), expected]);
    }
}

/// Fact: security.md K050, and K048 without the first half.
#[tokio::test]
async fn a_supplied_authority_is_used_and_published() {
    let server = installed();
    let ca = Ca::new();
    supply(&server, &ca);
    let before = secret(&server);
    let (clock, _hand) = clock();
    let mut guard = replica(&server, &clock).await;
    let authority = guard.start().await.unwrap();
    assert_eq!(authority.bundle(), &ca.bundle());
    assert_eq!(published_roots(&server), Some(ca.root_pem()));
    assert_eq!(secret(&server), before);
    assert!(metric(
        &guard,
        "dapr_sentry_rotation_phase{phase=\"supplied\"} 1"
    ));
}

/// Fact: security.md K051, 1.8.
#[tokio::test]
async fn an_authority_that_does_not_hold_together_is_an_error() {
    let (ca, other) = (Ca::new(), Ca::new());
    let with = |key: &str, text: String| {
        let server = installed();
        supply(&server, &ca);
        let mut secret = secret(&server);
        secret["data"][key] = STANDARD.encode(text).into();
        server.put(secret);
        server
    };
    let key = with("issuer.key", other.issuer_key_pem());
    refused(&key, "issuer key does not match issuer certificate").await;
    let anchor = with("ca.crt", ca.issuer_pem());
    refused(&anchor, "certificate in trust anchor is not self-signed").await;
    let order = with("issuer.crt", [ca.issuer_pem(), other.root_pem()].concat());
    refused(&order, "certificate chain is not valid").await;
    let stranger = with("ca.crt", other.root_pem());
    refused(&stranger, "issuer chain does not belong to trust anchors").await;
    let garbage = with("issuer.crt", "no PEM".to_owned());
    refused(&garbage, "issuer certificate: ").await;
    let state = with("ca-state.json", "{}".to_owned());
    refused(
        &state,
        "the Secret dapr-system/dapr-trust-bundle: key ca-state.json: ",
    )
    .await;
}

/// Fact: security.md O-S9, K055: every partial set is an error that names what is missing.
#[tokio::test]
async fn a_partial_secret_is_an_error_and_stays_as_it_is() {
    let ca = Ca::new();
    for present in 1..7_u8 {
        let server = installed();
        supply(&server, &ca);
        let mut secret = secret(&server);
        let (mut missing, mut there) = (Vec::new(), Vec::new());
        for (bit, key) in FILES.into_iter().enumerate() {
            match present & (1 << bit) {
                // Emptied, as a chart does, and gone altogether, are the same.
                0 if bit == 1 => secret["data"][key] = "".into(),
                0 => drop(secret["data"].as_object_mut().unwrap().remove(key)),
                _ => there.push(key),
            }
            if present & (1 << bit) == 0 {
                missing.push(key);
            }
        }
        server.put(secret);
        let text = format!(
            "the Secret dapr-system/dapr-trust-bundle is incomplete: missing: {}; present: {};",
            missing.join(", "),
            there.join(", ")
        );
        refused(&server, &text).await;
    }
}

#[tokio::test]
async fn objects_that_are_not_there_are_named() {
    ironside_transport::install_provider();
    let server = ApiServer::start();
    let (clock, _hand) = clock();
    let started = replica(&server, &clock).await.start().await;
    let text = started.unwrap_err().to_string();
    assert!(
        text.starts_with("the Secret dapr-system/dapr-trust-bundle does not exist: "),
        "{text}"
    );
    // Without the ConfigMap there is an authority all the same, and trouble.
    supply(&server, &Ca::new());
    let mut guard = replica(&server, &clock).await;
    assert!(guard.start().await.is_ok());
    let trouble = guard.trouble.clone().unwrap();
    assert!(trouble.contains("the ConfigMap dapr-system/dapr-trust-bundle does not exist"));
    put_map(&server, json!({"other": "kept"}));
    guard.look().await.unwrap();
    assert!(published_roots(&server).is_some());
}

/// Fact: security.md O-S8, K052, K053.
#[tokio::test]
async fn a_new_issuer_is_taken_in_place_and_garbage_is_not() {
    let server = installed();
    let ca = Ca::new();
    supply(&server, &ca);
    let (clock, _hand) = clock();
    let mut guard = replica(&server, &clock).await;
    let (publish, published) = watch::channel(guard.start().await.unwrap());
    let next = ca.new_issuer();
    supply(&server, &next);
    guard.refresh(&publish, Woken::Hint).await;
    let chain = |ca: &Ca| pem::certificates(ca.issuer_pem().as_bytes()).unwrap();
    let in_effect = || -> Vec<_> { published.borrow().chain(clock.now()).cloned().collect() };
    assert_eq!(in_effect(), chain(&next));
    assert!(metric(&guard, "dapr_sentry_issuercert_changed_total 1"));
    let mut garbage = secret(&server);
    garbage["data"]["issuer.crt"] = STANDARD.encode("no PEM").into();
    server.put(garbage);
    for _ in 0..3 {
        guard.refresh(&publish, Woken::Hint).await;
    }
    assert_eq!(in_effect(), chain(&next), "the old one stays");
    assert!(metric(
        &guard,
        "dapr_sentry_issuercert_reload_failed_total 1"
    ));
    let [(reason, _note)] = events(&server).try_into().unwrap();
    assert_eq!(reason, UNUSABLE);
    assert_eq!(published_roots(&server), Some(ca.root_pem()));
    supply(&server, &next);
    guard.refresh(&publish, Woken::Hint).await;
    assert!(guard.trouble.is_none());
}

/// Fact: security.md O-S9, K054.
#[tokio::test]
async fn a_changed_config_map_is_put_right_from_the_secret() {
    let server = installed();
    let (clock, _hand) = clock();
    let mut guard = replica(&server, &clock).await;
    let (publish, _published) = watch::channel(guard.start().await.unwrap());
    let (before, roots) = (secret(&server), published_roots(&server));
    put_map(
        &server,
        json!({"ca.crt": Ca::new().root_pem(), "other": "kept"}),
    );
    guard.refresh(&publish, Woken::Hint).await;
    assert_eq!(published_roots(&server), roots);
    let map = server.object("v1", "ConfigMap", NAMESPACE, NAME).unwrap();
    assert_eq!(map["data"]["other"], "kept");
    assert_eq!(secret(&server), before);
    // It was made, and not changed.
    assert!(metric(&guard, "dapr_sentry_issuercert_changed_total 1"));
}

/// The texts of an error that holds a state's trouble never hold the state.
#[test]
fn an_unreadable_state_is_not_told() {
    let cause = StateError::Version(7);
    let error = StoreError::SecretState {
        what: "Secret a/b".into(),
        key: "ca-state.json",
        cause,
    };
    assert_eq!(
        error.to_string(),
        "the Secret a/b: key ca-state.json: version 7 is not known to this build; restore the key, or take it away to \
         have the rest treated as a supplied CA"
    );
}
