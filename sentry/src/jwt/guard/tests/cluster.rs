//! The guard over Secret and ConfigMap of a fake API server.

use super::*;
use crate::cluster::{Cluster, ClusterOptions};
use crate::store::JwtSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ironside_identity::Namespace;
use ironside_testkit::kube::{ApiServer, Fault, When};
use serde_json::{Value, json};

const NAMESPACE: &str = "dapr-system";
const NAME: &str = "dapr-trust-bundle";
const FILES: [&str; 2] = ["jwt.key", "jwks.json"];

/// A cluster whose Secret holds these two texts; the ConfigMap holds nothing.
fn installed(key: &str, set: &str) -> ApiServer {
    ironside_transport::install_provider();
    let server = ApiServer::start();
    put_secret(&server, key, set);
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    server.put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}));
    server
}

fn put_secret(server: &ApiServer, key: &str, set: &str) {
    let data = json!({FILES[0]: STANDARD.encode(key), FILES[1]: STANDARD.encode(set)});
    let metadata = json!({"name": NAME, "namespace": NAMESPACE});
    server.put(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}));
}

fn shown(server: &ApiServer) -> Option<String> {
    let map = server.object("v1", "ConfigMap", NAMESPACE, NAME).unwrap();
    map["data"][FILES[1]].as_str().map(str::to_owned)
}

async fn guard_of(rig: &Rig, server: &ApiServer) -> JwtGuard {
    let path = rig.path("kubeconfig");
    fs::write(&path, server.kubeconfig()).unwrap();
    let options = ClusterOptions {
        kubeconfig: Some(path),
        keys: ["ca.crt", "issuer.crt", "issuer.key"].map(str::to_owned),
        legacy_audience: false,
        instance: "dapr-sentry-0".into(),
    };
    let namespace = Namespace::parse(NAMESPACE).unwrap();
    let cluster = Cluster::connect(&options, namespace).await.unwrap();
    let store = JwtSecret::new(cluster, FILES.map(str::to_owned));
    JwtGuard::new(Arc::new(store), rig.terms.clone(), rig.metrics.clone())
}

/// Many may read the ConfigMap who may not read the Secret: a set that is refused never gets there.
#[tokio::test]
async fn a_set_with_a_private_member_is_shown_to_nobody() {
    let rig = Rig::new("EdDSA");
    let (key, set) = rig.other();
    let mut private: Value = serde_json::from_str(&set).unwrap();
    private["keys"][0]["d"] = "secret".into();
    for bad in [private.to_string(), format!("secret {set}"), rig.other().1] {
        let server = installed(&key, &bad);
        let refused = guard_of(&rig, &server).await.start().await.unwrap_err();
        assert!(matches!(refused, JwtGuardError::Issuer { .. }), "{refused}");
        assert_eq!(shown(&server), None);
    }
    let server = installed(&key, &set);
    let mut guard = guard_of(&rig, &server).await;
    let (publish, _issuer) = watch::channel(guard.start().await.unwrap());
    put_secret(&server, &key, &private.to_string());
    guard.refresh(&publish, Woken::Change).await;
    assert_eq!(shown(&server), Some(set), "the good one stays");
}

/// What stands beside the keys was not judged, and is not shown.
#[tokio::test]
async fn only_the_keys_of_a_set_are_shown() {
    let rig = Rig::new("EdDSA");
    let (key, set) = rig.other();
    let mut more: Value = serde_json::from_str(&set).unwrap();
    more["note"] = "not for everybody".into();
    let server = installed(&key, &more.to_string());
    guard_of(&rig, &server).await.start().await.unwrap();
    assert_eq!(shown(&server), Some(set));
}

#[tokio::test]
async fn a_set_that_cannot_be_shown_does_not_keep_tokens_from_being_signed() {
    let rig = Rig::new("EdDSA");
    let (key, set) = rig.other();
    let server = installed(&key, &set);
    let write = When::new("update", "configmaps");
    server.inject(write, Fault::Status(403), 1);
    let mut guard = guard_of(&rig, &server).await;
    let (publish, _issuer) = watch::channel(guard.start().await.unwrap());
    assert_eq!(shown(&server), None);
    guard.refresh(&publish, Woken::Change).await;
    assert_eq!(shown(&server), Some(set));
}
