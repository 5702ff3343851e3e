//! The key of JWTs in the Secret, and validators beside the cluster's own.

use crate::rig::{Cluster, NAME, NAMESPACE, Pod, claim, until};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tonic::Code;

/// The key ID that a token names.
fn key_id(token: &str) -> String {
    let head = token.split('.').next().unwrap();
    let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap();
    head["kid"].as_str().unwrap().to_owned()
}

/// Fact: security.md 1.8, 1.10: replicas that start at once share one key, whose set is published.
#[tokio::test]
async fn the_key_of_tokens_is_in_the_secret() {
    let cluster = Cluster::new();
    let flags = ["--jwt-enabled", "--jwt-signing-algorithm", "ES256"];
    let replicas = [cluster.spawn(&flags), cluster.spawn(&flags)];
    let token = cluster.run(&Pod::default());
    let mut ids = Vec::new();
    for replica in &replicas {
        replica.line("Running gRPC server on port ");
        let mut client = cluster.client(replica).await;
        let answer = client.sign(claim("shop", "orders", &token)).await.unwrap();
        ids.push(key_id(&answer.jwt.unwrap().value));
    }
    assert_eq!(ids[0], ids[1]);
    assert!(cluster.key("jwt.key").unwrap().contains("PRIVATE KEY"));
    let set = cluster.key("jwks.json").unwrap();
    let value: Value = serde_json::from_str(&set).unwrap();
    assert_eq!(value["keys"][0]["kid"], ids[0].as_str());
    until("the published set", async || {
        let map = cluster.server.object("v1", "ConfigMap", NAMESPACE, NAME);
        map.unwrap()["data"]["jwks.json"] == set.as_str()
    })
    .await;
    // The authority is not touched by it, nor it by the authority.
    assert!(cluster.key("ca-state.json").is_some());
}

/// Fact: security.md 1.7: `jwks` may stand beside `kubernetes`, which stays the default.
#[tokio::test]
async fn a_key_set_of_others_stands_beside_the_cluster() {
    let cluster = Cluster::new();
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    let options = json!({"source": set.to_string()});
    let mtls = json!({"mtls": {"tokenValidators": [{"name": "jwks", "options": options}]}});
    cluster.configure(NAMESPACE, "daprsystem", mtls);
    let sentry = cluster.sentry(&[]).await;
    sentry.line("Adding validator 'jwks'");
    sentry.line("Using validator 'kubernetes'");
    let token = cluster.run(&Pod::default());
    let issued = cluster.ask(&sentry, claim("shop", "orders", &token)).await;
    assert!(issued.is_ok());
    let mut by_set = claim("shop", "orders", &token);
    by_set.token_validator = 3;
    let Err(status) = cluster.ask(&sentry, by_set).await else {
        panic!("issued")
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().starts_with("token validation failed: "));
}
