//! Who gets which name: rows K001 and K025 to K041, K047.

use crate::rig::{Cluster, NAMESPACE, Pod, SENTRY, claim};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ironside_testkit::kube::{Token, When};
use serde_json::json;
use tonic::Code;

/// Fact: security.md K001, K026, 1.5: the default validator, the default trust domain, the images.
#[tokio::test]
async fn a_pod_gets_its_app_id_in_the_default_trust_domain() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    sentry.line("Using validator 'kubernetes'");
    let token = cluster.run(&Pod::default());
    // The trust domain that it asks for does not count.
    let mut asked = claim("shop", "orders", &token);
    asked.trust_domain = "cluster.local".into();
    let issued = cluster.ask(&sentry, asked).await.unwrap();
    assert_eq!(issued.id, "spiffe://public/ns/shop/orders");
    assert!(issued.dns.is_empty());
    let images = json!([
        {"role": "app", "containerName": "web", "image": "registry.example/web:1", "digest": "sha256:ab"},
        {"role": "daprd", "containerName": "daprd", "image": "registry.example/daprd:1"},
    ]);
    assert_eq!(issued.images, images);
    let line = sentry.line("msg=\"Certificate issued\"");
    assert!(line.contains("validator=kubernetes"), "{line}");
    // The one that is named is the same one; others there are not.
    let named = |number| {
        let mut asked = claim("shop", "orders", &token);
        asked.token_validator = number;
        asked
    };
    assert!(cluster.ask(&sentry, named(2)).await.is_ok());
    for number in [1, 3, 99, -1] {
        let Err(status) = cluster.ask(&sentry, named(number)).await else {
            panic!("validator {number}")
        };
        let text = "the requested validator is not enabled";
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, text)
        );
    }
}

/// Fact: security.md K025, 1.5, 1.6.
#[tokio::test]
async fn parts_of_the_control_plane_get_their_names() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    for (service, expected) in [
        ("injector", vec!["dapr-sidecar-injector.dapr-system.svc"]),
        ("operator", vec!["dapr-webhook.dapr-system.svc"]),
        ("placement", vec![]),
    ] {
        let pod = format!("dapr-{service}-0");
        let token = cluster.run(&Pod {
            namespace: NAMESPACE,
            name: &pod,
            account: &pod,
            annotations: &[("dapr.io/control-plane", service)],
        });
        let id = format!("dapr-{service}");
        let issued = cluster.ask(&sentry, claim(NAMESPACE, &id, &token)).await;
        let issued = issued.unwrap();
        assert_eq!(
            issued.id,
            format!("spiffe://cluster.local/ns/dapr-system/{id}")
        );
        assert_eq!(issued.dns, expected);
    }
}

/// Fact: security.md K027, K028, K041, 1.6.
#[tokio::test]
async fn the_trust_domain_is_the_configurations() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let domain = |text: &str| json!({"accessControl": {"trustDomain": text}});
    cluster.configure("shop", "one", domain("td1"));
    cluster.configure("shop", "empty", json!({}));
    cluster.configure("shop", "odd", json!({"accessControl": {"trustDomain": 5}}));
    cluster.configure("shop", "bad", domain("Upper"));
    cluster.configure("shop", "theirs", domain("cluster.local"));
    cluster.configure("other", "missing", domain("td1"));
    let token = |config: &str| {
        cluster.run(&Pod {
            name: &format!("with-{config}"),
            annotations: &[("dapr.io/app-id", "orders"), ("dapr.io/config", config)],
            ..Pod::default()
        })
    };
    for (config, expected) in [("one", "td1"), ("empty", "public")] {
        let issued = cluster
            .ask(&sentry, claim("shop", "orders", &token(config)))
            .await;
        assert_eq!(
            issued.unwrap().id,
            format!("spiffe://{expected}/ns/shop/orders")
        );
    }
    for (config, text) in [
        ("missing", "failed to get configuration"),
        ("odd", "failed to get configuration: trustDomain is no text"),
        (
            "bad",
            "failed to parse trust domain \"Upper\": trust domain characters are limited to lowercase letters, \
             numbers, dots, dashes, and underscores",
        ),
        (
            "theirs",
            "trust domain \"cluster.local\" is reserved for the control plane",
        ),
    ] {
        let asked = claim("shop", "orders", &token(config));
        cluster.refused(&sentry, asked, text).await;
    }
    // An edited Configuration counts for the next certificate.
    cluster.configure("shop", "one", domain("td2"));
    crate::rig::until("the other trust domain", async || {
        let issued = cluster
            .ask(&sentry, claim("shop", "orders", &token("one")))
            .await;
        issued.unwrap().id == "spiffe://td2/ns/shop/orders"
    })
    .await;
}

/// Fact: security.md K029, K030, K031, K032.
#[tokio::test]
async fn a_token_is_good_for_its_own_pod_only() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let orders = cluster.run(&Pod::default());
    let text = "namespace mismatch; received namespace: other";
    let elsewhere = claim("other", "orders", &orders);
    cluster.refused(&sentry, elsewhere, text).await;
    let text = "app-id mismatch. expected: orders, received: billing";
    let other = claim("shop", "billing", &orders);
    cluster.refused(&sentry, other, text).await;
    let plain = Pod {
        name: "plain-0",
        annotations: &[],
        ..Pod::default()
    };
    let token = cluster.run(&plain);
    let issued = cluster.ask(&sentry, claim("shop", "plain-0", &token)).await;
    assert_eq!(issued.unwrap().id, "spiffe://public/ns/shop/plain-0");
    let text = "app-id mismatch. expected: plain-0, received: orders";
    cluster
        .refused(&sentry, claim("shop", "orders", &token), text)
        .await;
    // A token of the pod, but of another service account than the pod's.
    let uid = cluster
        .server
        .object("v1", "Pod", "shop", "plain-0")
        .unwrap();
    let uid = uid["metadata"]["uid"].as_str().unwrap();
    let foreign = Token::service_account("shop", "thief", &[SENTRY]).bound_to("plain-0", uid);
    cluster.server.accept("foreign", foreign);
    let asked = claim("shop", "plain-0", "foreign");
    cluster
        .refused(&sentry, asked, "pod service account mismatch")
        .await;
}

/// Fact: security.md K033 to K037, K039, O-S4.
#[tokio::test]
async fn tokens_are_believed_as_far_as_the_cluster_vouches_for_them() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    cluster.run(&Pod::default());
    let pod = cluster
        .server
        .object("v1", "Pod", "shop", "orders-7d9")
        .unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    let account = || Token::service_account("shop", "orders-sa", &[SENTRY]);
    let refused = async |token: &str, text: &str| {
        let asked = claim("shop", "orders", token);
        cluster.refused(&sentry, asked, text).await;
    };
    refused(
        "",
        "token review failed: the request does not contain a token",
    )
    .await;
    refused(
        "unknown",
        "invalid token: [invalid bearer token, service account token is not valid]",
    )
    .await;
    // K033: a token of a Secret, which knows no pod.
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"system:serviceaccount:shop:orders-sa"}"#);
    let legacy = format!("e30.{claims}.x");
    cluster.server.accept(&legacy, account());
    refused(
        &legacy,
        "kubernetes.io/pod/name claim is missing from Kubernetes token",
    )
    .await;
    // K034: for the API server itself.
    let api = "https://kubernetes.default.svc";
    let other = Token::service_account("shop", "orders-sa", &[api]).bound_to("orders-7d9", &uid);
    cluster.server.accept("for the API", other);
    let status = cluster
        .ask(&sentry, claim("shop", "orders", "for the API"))
        .await;
    let Err(status) = status else {
        panic!("issued")
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    // K035: a server that does not check audiences.
    let user = json!({"username": "system:serviceaccount:shop:orders-sa", "extra": {
        "authentication.kubernetes.io/pod-name": ["orders-7d9"],
        "authentication.kubernetes.io/pod-uid": [uid]}});
    let careless = json!({"authenticated": true, "user": user, "audiences": [api]});
    cluster.server.answer_review("careless", careless);
    refused(
        "careless",
        "invalid token: the token review does not say that the token is for this audience",
    )
    .await;
    // K036: of a pod that is gone; a new one bears its name.
    let gone = account().bound_to("orders-7d9", "11111111-2222-4333-8444-555555555555");
    cluster.server.accept("of the dead", gone);
    let text = "pod UID mismatch: the token belongs to another pod of this name";
    refused("of the dead", text).await;
    let nowhere = account().bound_to("nowhere", &uid);
    cluster.server.accept("of nobody", nowhere);
    refused("of nobody", "failed to get pod of identity").await;
    // K037: the unsigned claim says another pod than the server.
    let target = Pod {
        name: "billing-0",
        annotations: &[("dapr.io/app-id", "billing")],
        ..Pod::default()
    };
    cluster.run(&target);
    let forged = r#"{"kubernetes.io":{"pod":{"name":"billing-0","uid":"x"}}}"#;
    let forged = format!("e30.{}.x", URL_SAFE_NO_PAD.encode(forged));
    cluster
        .server
        .accept(&forged, account().bound_to("orders-7d9", &uid));
    let text = "app-id mismatch. expected: orders, received: billing";
    let asked = claim("shop", "billing", &forged);
    cluster.refused(&sentry, asked, text).await;
    let own = cluster.ask(&sentry, claim("shop", "orders", &forged)).await;
    assert!(own.is_ok(), "what the server says counts");
    // K039: a node is no workload.
    let node = Token::of_user("system:node:x:y", &[SENTRY]).bound_to("orders-7d9", &uid);
    cluster.server.accept("node", node);
    refused(
        "node",
        "provided token is not a properly structured service account token",
    )
    .await;
    // Only this Sentry's audience was ever asked for.
    for seen in cluster.server.seen(&When::new("create", "tokenreviews")) {
        assert_eq!(seen.body["spec"]["audiences"], json!([SENTRY]));
    }
}

/// Fact: security.md 1.7, D7: tokens of sidecars before 1.13, where they are allowed.
#[tokio::test]
async fn the_audience_of_old_sidecars_needs_a_permission() {
    for (flag, allowed) in [("", false), ("--allow-legacy-audience", true)] {
        let cluster = Cluster::new();
        let flags: Vec<&str> = [flag].into_iter().filter(|flag| !flag.is_empty()).collect();
        let sentry = cluster.sentry(&flags).await;
        cluster.run(&Pod::default());
        let pod = cluster
            .server
            .object("v1", "Pod", "shop", "orders-7d9")
            .unwrap();
        let uid = pod["metadata"]["uid"].as_str().unwrap();
        let old = Token::service_account("shop", "orders-sa", &["dapr.io/sentry"]);
        cluster
            .server
            .accept("old", old.bound_to("orders-7d9", uid));
        let issued = cluster.ask(&sentry, claim("shop", "orders", "old")).await;
        assert_eq!(issued.is_ok(), allowed);
    }
}

/// Fact: security.md K038, K040, O-S5.
#[tokio::test]
async fn false_parts_of_the_control_plane_are_refused() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let mut number = 0;
    let mut refused = async |namespace, annotations, id, text: &str| {
        number += 1;
        let name = format!("pod-{number}");
        let token = cluster.run(&Pod {
            namespace,
            name: &name,
            account: "sa",
            annotations,
        });
        let text = text.replace("{pod}", &name);
        cluster
            .refused(&sentry, claim(namespace, id, &token), &text)
            .await;
    };
    const OPERATOR: (&str, &str) = ("dapr.io/control-plane", "operator");
    refused(
        "shop",
        &[OPERATOR],
        "dapr-operator",
        "control plane service in namespace 'shop' is not allowed",
    )
    .await;
    refused(
        NAMESPACE,
        &[("dapr.io/control-plane", "root")],
        "dapr-root",
        "unknown control plane service '{pod}'",
    )
    .await;
    refused(
        NAMESPACE,
        &[OPERATOR, ("dapr.io/app-id", "dapr-operator")],
        "dapr-operator",
        "control plane service '{pod}' cannot have annotation 'dapr.io/app-id'",
    )
    .await;
    let reserved = "invalid request: app ID \"dapr-operator\" is reserved for the control plane";
    for namespace in [NAMESPACE, "shop"] {
        let annotations = &[("dapr.io/app-id", "dapr-operator")];
        refused(namespace, annotations, "dapr-operator", reserved).await;
    }
}

/// Fact: security.md K047, O-S6.
#[tokio::test]
async fn a_service_account_may_name_its_app_ids() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    let allow = |list: &str| {
        cluster.server.put(json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
                "name": "orders-sa", "namespace": "shop", "annotations": {"dapr.io/allowed-app-ids": list}},
        }));
    };
    let asked = || claim("shop", "orders", &token);
    assert!(cluster.ask(&sentry, asked()).await.is_ok());
    for list in ["billing", "", "orders2, xorders"] {
        allow(list);
        crate::rig::until("the refusal", async || {
            cluster.ask(&sentry, asked()).await.is_err()
        })
        .await;
        let text = "service account 'shop/orders-sa' is not allowed to have the app-id 'orders' (annotation \
                    dapr.io/allowed-app-ids)";
        cluster.refused(&sentry, asked(), text).await;
    }
    allow("billing, orders");
    crate::rig::until("the permission", async || {
        cluster.ask(&sentry, asked()).await.is_ok()
    })
    .await;
}

/// Fact: security.md O-S2: bad names never reach the API server.
#[tokio::test]
async fn bad_names_are_refused_before_anybody_is_asked() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    for (namespace, id) in [
        ("shop", "a.b"),
        ("Shop", "orders"),
        ("shop", "../x"),
        ("", "orders"),
    ] {
        let Err(status) = cluster.ask(&sentry, claim(namespace, id, &token)).await else {
            panic!("{namespace} {id}")
        };
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(
            status.message().starts_with("invalid request: "),
            "{status:?}"
        );
    }
    assert_eq!(cluster.reviews(), 0);
}
