//! The program, asked as an API server asks it (kubernetes.md 9.1).
#![cfg(test)]

mod rig;

use futures_util::stream::{self, StreamExt as _};
use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{Fault, When};
use rig::{
    Cluster, Injector, SOON, base, by_admin, daprd, handshake, patched, review, roots, until,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const JSON: &str = "application/json";
const REQUESTS: &str = "dapr_injector_sidecar_injection_requests_total";

fn failed(app: &str, reason: &str) -> String {
    format!("dapr_injector_sidecar_injection_failed_total{{app_id=\"{app}\",reason=\"{reason}\"}}")
}

/// KI-01, KI-06, KI-07, KI-11, KI-21, KI-39, KP-03, L-18, M-33, M-34
#[tokio::test]
async fn reviews_are_answered_and_counted() {
    let cluster = Cluster::new();
    let injector = cluster.ready().await;
    let mut client = cluster.connect(&injector).await;
    let pod = patched(&base(), &client.review(&by_admin(&base())).await);
    let env = daprd(&pod)["env"].clone();
    assert_eq!(env[0], json!({"name": "NAMESPACE", "value": "n1"}));
    let anchors = env[1]["value"].as_str().unwrap();
    assert_eq!(roots(anchors), cluster.ca.bundle());

    let unknown = review("system:serviceaccount:some-ns:some-sa", &[], &base());
    let response = client.review(&unknown).await;
    assert_eq!(
        (&response["allowed"], response.get("patch")),
        (&json!(true), None)
    );
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("system:serviceaccount:some-ns:some-sa"),
        "{warning}"
    );

    let mut off = base();
    off["metadata"]["annotations"] = json!({});
    assert_eq!(
        client.review(&review("x", &[], &off)).await,
        json!({"uid": "705ab4f5", "allowed": true})
    );
    let mut other = by_admin(&base());
    other["request"]["kind"]["kind"] = "Deployment".into();
    assert_eq!(client.review(&other).await.get("patch"), None);
    let mut bad = base();
    bad["metadata"]["annotations"]["dapr.io/app-id"] = "App_1".into();
    let denied = client.review(&by_admin(&bad)).await;
    assert_eq!(denied["allowed"], false);
    assert!(
        denied["status"]["message"]
            .as_str()
            .unwrap()
            .starts_with("invalid app id")
    );

    injector.line("level=info msg=\"Sidecar injector succeeded injection for app 'app1'\"");
    injector.line("Sidecar injector failed to inject for app 'App_1'. Error: invalid app id");
    assert_eq!(injector.metric(REQUESTS).await, Some(5.0));
    let succeeded = "dapr_injector_sidecar_injection_succeeded_total{app_id=\"app1\"}";
    assert_eq!(injector.metric(succeeded).await, Some(1.0));
    for (series, count) in [
        (failed("app1", "pod_patch"), 1.0),
        (failed("", "pod_patch"), 1.0),
        (failed("App_1", "patch"), 1.0),
        (
            "dapr_injector_admission_outcomes_total{reason=\"not_enabled\"}".to_owned(),
            1.0,
        ),
        (
            "dapr_injector_admission_duration_seconds_count".to_owned(),
            5.0,
        ),
        ("dapr_injector_admissions_in_flight".to_owned(), 0.0),
        (
            "dapr_injector_ca_bundle_patches_total{reason=\"patched\"}".to_owned(),
            1.0,
        ),
    ] {
        assert_eq!(injector.metric(&series).await, Some(count), "{series}");
    }
    let expiry = injector
        .metric("dapr_injector_certificate_expiry_timestamp")
        .await;
    assert!(expiry.is_some_and(|at| at > 1e9), "{expiry:?}");
}

/// KI-02, KI-03, KI-04, KI-05
#[tokio::test]
async fn what_is_no_review_is_told_so_and_the_connection_goes_on() {
    let cluster = Cluster::new();
    let injector = cluster.ready().await;
    let mut client = cluster.connect(&injector).await;
    let good = by_admin(&base()).to_string();
    let version = |version: &str| {
        let mut review = by_admin(&base());
        review["apiVersion"] = version.into();
        review.to_string()
    };
    let deep = format!(
        "{{\"request\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let wide = |first: &str| {
        let object = "{\"\":0},".repeat(100_000);
        format!("{{\"x\":{first},\"request\":{{\"object\":[{object}0]}}}}")
    };
    for (path, kind, body, status, text) in [
        ("/mutate", JSON, String::new(), 400, "empty body"),
        (
            "/mutate",
            "text/plain",
            good.clone(),
            415,
            "application/json",
        ),
        (
            "/mutate",
            "application/json; charset=utf-8",
            good.clone(),
            415,
            "application/json",
        ),
        (
            "/mutate",
            JSON,
            "{}".into(),
            400,
            "AdmissionReview is expected",
        ),
        (
            "/mutate",
            JSON,
            "nonsense".into(),
            400,
            "the body is no AdmissionReview",
        ),
        (
            "/mutate",
            JSON,
            "[]".into(),
            400,
            "AdmissionReview is expected",
        ),
        (
            "/mutate",
            JSON,
            "\u{0}".into(),
            400,
            "the body is no AdmissionReview",
        ),
        ("/mutate", JSON, deep, 400, "the body is no AdmissionReview"),
        // Nearly a hundred times its bytes if it was read.
        ("/mutate", JSON, wide("{}"), 400, "more than 100000 values"),
        // What is wrong where nobody looks does not hide it.
        ("/mutate", JSON, wide("1e999"), 400, "out of range"),
        (
            "/mutate",
            JSON,
            wide(r#""\ud800""#),
            400,
            "no AdmissionReview",
        ),
        (
            "/mutate",
            JSON,
            wide(&"[".repeat(130)),
            400,
            "no AdmissionReview",
        ),
        (
            "/mutate",
            JSON,
            version("admission.k8s.io/v2"),
            400,
            "is not supported",
        ),
        ("/mutate", JSON, version(""), 400, "is not supported"),
        (
            "/mutate",
            JSON,
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}).to_string(),
            400,
            "has no request",
        ),
        ("/other", JSON, good.clone(), 404, "not found"),
    ] {
        let reply = client.send(path, kind, body).await;
        assert_eq!(reply.status.as_u16(), status, "{text}: {}", reply.text);
        assert!(reply.text.contains(text), "{text}: {}", reply.text);
    }
    assert!(
        client
            .review(&by_admin(&base()))
            .await
            .get("patch")
            .is_some()
    );
    let mut old = by_admin(&base());
    old["apiVersion"] = "admission.k8s.io/v1beta1".into();
    assert!(client.review(&old).await.get("patch").is_some());
    // Larger than anything that an API server sends: the head is enough to say no.
    let (mut stream, _leaf) = handshake(injector.address(), cluster.ca.root_pem().as_bytes()).await;
    let length = 3 * 1024 * 1024 + 1;
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 413");
    let mut again = cluster.connect(&injector).await;
    assert!(
        again
            .review(&by_admin(&base()))
            .await
            .get("patch")
            .is_some()
    );
    let rejected = "dapr_injector_admission_rejected_total{reason=\"too_large\"}";
    assert_eq!(injector.metric(rejected).await, Some(1.0));
}

/// Anybody may connect: what is announced takes no room from others.
#[tokio::test]
async fn who_announces_much_and_sends_nothing_stops_nobody() {
    let cluster = Cluster::new();
    let injector = cluster.ready().await;
    let length = 3 * 1024 * 1024;
    let head = format!(
        "POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: {length}\r\n\r\n"
    );
    let root = cluster.ca.root_pem();
    let mut silent = Vec::new();
    for _ in 0..20 {
        let (mut stream, _leaf) = handshake(injector.address(), root.as_bytes()).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        silent.push(stream);
    }
    let mut client = cluster.connect(&injector).await;
    let answer = client.review(&by_admin(&base())).await;
    assert!(answer.get("patch").is_some());
    // They are told that it takes too long, before an API server would give up.
    for mut stream in silent {
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 408");
    }
}

/// An API server sends one review at a time over each connection: a burst of pods comes over as many.
#[tokio::test]
async fn a_burst_over_many_connections_is_answered() {
    let cluster = Cluster::new();
    let injector = cluster.ready().await;
    let asked = stream::iter(0..300).map(async |_| {
        let mut client = cluster.connect(&injector).await;
        let answer = client.review(&by_admin(&base())).await;
        (client, answer)
    });
    // All connections stay open. Few are dialled at once: one that asks nothing for seconds is closed, and a slow
    // machine would be that late with hundreds of handshakes.
    let answered: Vec<_> = asked.buffer_unordered(16).collect().await;
    for (_client, answer) in answered {
        assert!(answer.get("patch").is_some(), "{answer}");
    }
}

/// KI-32, KI-33, KI-35, KI-36
#[tokio::test]
async fn the_bundle_is_set_and_stays_set() {
    let cluster = Cluster::bare();
    let injector = cluster.start();
    // Nothing is ready, and nothing ends.
    injector.line("There is no webhook sidecar-injector.dapr.io");
    assert_eq!(injector.healthz().await, 503);
    cluster.publish(&cluster.ca.root_pem());
    injector.line("Security is initialized successfully");
    assert_eq!(injector.healthz().await, 503, "nobody trusts it yet");
    cluster.put_webhook(None);
    until("readiness", async || injector.healthz().await == 200).await;
    let is_ours = || cluster.bundle().as_deref() == Some(cluster.ca.root_pem().as_str());
    assert!(is_ours());
    // Blanked, replaced, moved by an outside writer.
    cluster.put_webhook(None);
    until("repair", async || is_ours()).await;
    cluster.put_webhook(Some("b3RoZXI="));
    until("repair", async || is_ours()).await;
    let webhooks = cluster.webhooks();
    assert_eq!(
        webhooks[0]["clientConfig"],
        json!({"url": "https://other.example"})
    );
    assert_eq!(
        webhooks[1]["clientConfig"]["service"]["name"],
        "dapr-sidecar-injector"
    );
    // The certificate is for the name of the Service, below what is in the bundle, and no Ed25519 one.
    let (_stream, leaf) = handshake(injector.address(), cluster.ca.root_pem().as_bytes()).await;
    let p256 = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    assert!(leaf.windows(p256.len()).any(|window| window == p256));
}

/// KI-34
#[tokio::test]
async fn a_second_root_is_followed_without_a_failed_review() {
    let cluster = Cluster::new();
    let injector = cluster.ready().await;
    let mut client = cluster.connect(&injector).await;
    let both = format!("{}{}", cluster.ca.root_pem(), Ca::new().root_pem());
    cluster.publish(&both);
    until("both roots", async || {
        client
            .review(&by_admin(&base()))
            .await
            .get("patch")
            .is_some()
            && cluster.bundle().as_deref() == Some(both.as_str())
    })
    .await;
    let pod = patched(&base(), &client.review(&by_admin(&base())).await);
    let anchors = daprd(&pod)["env"][1]["value"].as_str().unwrap().to_owned();
    assert_eq!(roots(&anchors), roots(&both));
}

/// KI-37
#[tokio::test]
async fn a_short_life_is_renewed_without_a_failed_review() {
    let cluster = Cluster::new();
    cluster.sentry.give_lives_of(Duration::from_secs(12));
    let injector = cluster.ready().await;
    let roots = cluster.ca.root_pem();
    let (_stream, first) = handshake(injector.address(), roots.as_bytes()).await;
    let mut old = cluster.connect(&injector).await;
    until("another certificate", async || {
        assert!(old.review(&by_admin(&base())).await.get("patch").is_some());
        let mut new = cluster.connect(&injector).await;
        assert!(new.review(&by_admin(&base())).await.get("patch").is_some());
        handshake(injector.address(), roots.as_bytes()).await.1 != first
    })
    .await;
    assert_eq!(injector.healthz().await, 200);
}

/// The anchors may be in a file, as in the chart of the reference.
#[tokio::test]
async fn anchors_of_a_file_do_as_well() {
    let cluster = Cluster::bare();
    cluster.put_webhook(None);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), cluster.ca.root_pem()).unwrap();
    let mut command = cluster.command();
    command
        .env_remove("DAPR_TRUST_ANCHORS_CONFIGMAP")
        .env("DAPR_TRUST_ANCHORS_FILE", file.path());
    let injector = Injector::spawn(command);
    until("readiness", async || injector.healthz().await == 200).await;
    assert_eq!(cluster.bundle(), Some(cluster.ca.root_pem()));
}

/// A failed patch is repeated; the process is not ready meanwhile, and does not end.
#[tokio::test]
async fn a_refused_patch_is_tried_again() {
    let cluster = Cluster::new();
    let patch = When::new("patch", "mutatingwebhookconfigurations");
    cluster.api.inject(patch, Fault::Status(403), 1);
    let injector = cluster.start();
    injector.line("Cannot set the CA bundle");
    until("readiness", async || injector.healthz().await == 200).await;
    let failed = "dapr_injector_ca_bundle_patches_total{reason=\"failed\"}";
    assert_eq!(injector.metric(failed).await, Some(1.0));
}

/// Sentry that refuses is asked again: the process waits and comes up by itself.
#[tokio::test]
async fn a_sentry_that_refuses_is_asked_again() {
    let cluster = Cluster::new();
    cluster.sentry.refuse(Some("not yet"));
    let injector = cluster.start();
    injector.line("not yet");
    assert_eq!(injector.healthz().await, 503);
    cluster.sentry.refuse(None);
    until("readiness", async || injector.healthz().await == 200).await;
}

/// KP-36: the switch is watched; unknown is on.
#[tokio::test]
async fn mutual_tls_follows_the_configuration() {
    let cluster = Cluster::new();
    let injector = cluster.ready().await;
    let mut client = cluster.connect(&injector).await;
    let mut is_on = async || {
        let pod = patched(&base(), &client.review(&by_admin(&base())).await);
        let args = daprd(&pod)["args"].clone();
        args.as_array()
            .unwrap()
            .contains(&Value::from("--enable-mtls"))
    };
    assert!(is_on().await, "there is no Configuration");
    cluster.configure(json!({"enabled": false}));
    until("off", async || !is_on().await).await;
    cluster.configure(json!({}));
    until("on", async || is_on().await).await;
    // Nothing is read for a pod.
    let gets = When::new("get", "configurations");
    assert!(cluster.api.seen(&gets).is_empty());
}

/// KI-38
#[tokio::test]
async fn reviews_under_way_are_answered_at_the_end() {
    let cluster = Cluster::new();
    let mut injector = cluster.ready().await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(cluster.connect(&injector).await);
    }
    injector.terminate();
    injector.line("beginning shutdown");
    for client in &mut clients {
        assert!(
            client
                .review(&by_admin(&base()))
                .await
                .get("patch")
                .is_some()
        );
    }
    assert_eq!(injector.ended().await.code(), Some(0));
    injector.line("Dapr sidecar injector shut down gracefully");
}

/// KH-19: API servers keep connections, so an answer at the end says that none follows; who has not asked yet still may.
#[tokio::test]
async fn connections_are_used_up_at_the_end() {
    let cluster = Cluster::new();
    let mut injector = cluster.ready().await;
    let mut busy = cluster.connect(&injector).await;
    let mut silent = cluster.connect(&injector).await;
    let review = by_admin(&base());
    assert!(busy.review(&review).await.get("patch").is_some());
    assert!(!busy.is_over().await);
    injector.terminate();
    injector.line("beginning shutdown");
    assert!(busy.review(&review).await.get("patch").is_some());
    assert!(busy.is_over().await, "the answer did not end it");
    let refused = async {
        while tokio::net::TcpStream::connect(injector.address())
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, refused).await.unwrap();
    assert!(silent.review(&review).await.get("patch").is_some());
    assert!(silent.is_over().await, "the answer did not end it");
    assert_eq!(injector.ended().await.code(), Some(0));
}

/// The owner's user reads why there is no sidecar; a trial leaves nothing behind (KI-24).
#[tokio::test]
async fn owners_are_told() {
    let cluster = Cluster::new();
    let injector = cluster.ready().await;
    let mut client = cluster.connect(&injector).await;
    let mut pod = base();
    pod["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app1-7d9", "uid": "u-9", "controller": true},
    ]);
    let mut trial = review("stranger", &[], &pod);
    trial["request"]["dryRun"] = true.into();
    let warned = client.review(&trial).await;
    assert!(warned["warnings"][0].as_str().unwrap().contains("stranger"));
    client.review(&review("somebody", &[], &pod)).await;
    let events = || cluster.api.objects("events.k8s.io/v1", "Event");
    until("an Event", async || !events().is_empty()).await;
    let events = events();
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["reason"], "SidecarNotInjected");
    assert_eq!(events[0]["regarding"]["name"], "app1-7d9");
    assert!(events[0]["note"].as_str().unwrap().contains("somebody"));
}

/// KI-15
#[tokio::test]
async fn a_bad_start_is_explained() {
    let cluster = Cluster::new();
    for (name, value, text) in [
        ("ALLOWED_SERVICE_ACCOUNTS", "nocolon", "nocolon"),
        ("SIDECAR_IMAGE", "", "SIDECAR_IMAGE"),
        ("NAMESPACE", "", "NAMESPACE"),
        ("SIDECAR_RUN_AS_USER", "root", "SIDECAR_RUN_AS_USER"),
    ] {
        let mut command = cluster.command();
        command.env(name, value);
        let mut injector = Injector::spawn(command);
        assert_eq!(injector.ended().await.code(), Some(1), "{name}");
        assert!(injector.line("Invalid options").contains(text), "{name}");
    }
}
