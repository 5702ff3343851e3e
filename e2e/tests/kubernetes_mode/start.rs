//! The start of a pod: what it waits for, and what it does without.

use ironside_e2e::wait;
use ironside_testkit::certs::Ca;
use rustix::process::Signal;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    dns::pod_address,
    rig::{Cluster, Pod, read},
};

/// Kubernetes 3.10: with a Configuration assigned, nothing is served before it was read; stopped meanwhile, the end is
/// a clean one.
#[tokio::test]
async fn an_assigned_configuration_is_waited_for() {
    let cluster = Cluster::new(true).await;
    let pod = || Pod::new("web", "web-1", pod_address(30)).config(Some("later"));
    let mut stopped = cluster.launch(&pod());
    stopped
        .program
        .logged("cannot follow the operator")
        .await
        .unwrap();
    assert_eq!(stopped.health("/v1.0/healthz/outbound").await, 0);
    stopped.program.signal(Signal::TERM);
    let status = stopped.program.exit(wait::LONG).await.unwrap();
    assert!(status.success(), "{status}");

    let waiting = cluster.launch(&pod());
    waiting
        .program
        .logged("cannot follow the operator")
        .await
        .unwrap();
    let _operator = cluster.operator().await;
    waiting
        .program
        .logged("error loading configuration: configuration later not found")
        .await
        .unwrap();
    assert_eq!(waiting.health("/v1.0/healthz/outbound").await, 0);
    let bad = json!({ "accessControl": { "policies": [{ "defaultAction": "allow" }] } });
    cluster.configure("later", 1, bad);
    waiting
        .program
        .logged("Configuration later cannot be used in generation 1")
        .await
        .unwrap();
    assert_eq!(waiting.health("/v1.0/healthz/outbound").await, 0);
    cluster.configure("later", 2, json!({}));
    waiting.healthy("/v1.0/healthz").await;
}

/// Kubernetes 3.10: without one, the operator is waited for a moment; then the pod serves, and is ready later.
#[tokio::test]
async fn without_a_configuration_the_operator_may_be_away() {
    let cluster = Cluster::new(true).await;
    let web = cluster
        .start(&Pod::new("web", "web-1", pod_address(31)).config(None))
        .await;
    assert_eq!(web.health("/v1.0/healthz").await, 500);
    let _operator = cluster.operator().await;
    web.healthy("/v1.0/healthz").await;
}

/// Roots are rotated and the old one withdrawn: a container that starts again knows the new one from its file.
#[tokio::test]
async fn anchors_survive_the_container() {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let cache = cluster.world.path().join("anchors.pem");
    let path = cache.to_str().unwrap();
    let pod = || Pod::new("web", "web-1", pod_address(32)).env("DAPR_TRUST_ANCHORS_CACHE", path);
    let mut first = cluster.start(&pod()).await;
    let kept = || async { read(&cache) };
    let kept = wait::until("the file", wait::LONG, kept).await.unwrap();
    assert_eq!(kept.trim(), cluster.ca.root_pem().trim());
    first.program.signal(Signal::KILL);
    first.program.exit(wait::LONG).await.unwrap();
    // The environment of a pod stays what it was on its first day.
    let old = Ca::new().root_pem();
    let again = pod().env("DAPR_TRUST_ANCHORS", &old);
    cluster.start(&again).await.healthy("/v1.0/healthz").await;
    let without = Pod::new("web", "web-1", pod_address(33)).env("DAPR_TRUST_ANCHORS", &old);
    let without = cluster.launch(&without);
    without
        .program
        .logged("Error retrieving the initial identity")
        .await
        .unwrap();
    // A file that holds nothing is no reason not to start.
    std::fs::write(&cache, "no roots").unwrap();
    let third = cluster.start(&pod()).await;
    third.program.logged("cached trust anchors").await.unwrap();
    assert_eq!(read(&cache).unwrap().trim(), cluster.ca.root_pem().trim());
}

/// K093: without mutual TLS between sidecars the connection to the operator keeps it: its server takes no other. Calls
/// go in the clear.
#[tokio::test]
async fn without_mutual_tls_only_the_operators_connection_has_it() {
    let cluster = Cluster::new(true).await;
    let _operator = cluster.operator().await;
    let address = pod_address(36);
    let pod = Pod::new("web", "web-1", address).word("--enable-mtls=false");
    let web = cluster.start(&pod).await;
    web.knows("generation.Configuration.plain", "1").await;
    let mut stream = TcpStream::connect((address, cluster.internal))
        .await
        .unwrap();
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&empty_settings).await.unwrap();
    let mut head = [0; 9];
    let read = wait::within("an answer", wait::LONG, stream.read_exact(&mut head)).await;
    read.unwrap().unwrap();
    assert_eq!(head.get(3), Some(&4), "no settings of HTTP/2: {head:?}");
}
