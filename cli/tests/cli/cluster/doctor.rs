//! `doctor`: a cluster that is well, one that is not, and real sidecars of this machine.

use std::time::Duration;

use ironside_testkit::certs::{self, Ca};
use ironside_testkit::kube::{Fault, When};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::ClusterWorld;
use crate::rig::{Server, World, finish};

const NAMES: [&str; 5] = [
    "accesscontrols.dapr.io",
    "components.dapr.io",
    "configurations.dapr.io",
    "httpendpoints.dapr.io",
    "resiliencies.dapr.io",
];

/// The control plane, its certificates, its definitions, and two apps.
fn well() -> ClusterWorld {
    let cluster = ClusterWorld::new();
    let ca = Ca::new();
    let encode = |text: String| serde_json::to_value(ByteString(text.into_bytes())).unwrap();
    cluster.system(json!({"enabled": true}));
    cluster.roots(&ca.root_pem());
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "dapr-trust-bundle", "namespace": "dapr-system"},
        "data": {"ca.crt": encode(ca.root_pem()), "issuer.crt": encode(ca.issuer_pem())},
    }));
    cluster.put(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "dapr-sidecar-injector"},
        "webhooks": [{"name": "sidecar-injector.dapr.io", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "failurePolicy": "Fail", "clientConfig": {"caBundle": encode(ca.root_pem()),
                "service": {"namespace": "dapr-system", "name": "dapr-sidecar-injector"}}}],
    }));
    for name in ["dapr-sentry", "dapr-operator", "dapr-sidecar-injector"] {
        cluster.put(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "dapr-system", "labels": {"app": name}},
            "spec": {"containers": [{"name": name, "image": "r/x:1", "args": ["--manage-crds"]}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/ironside/crds");
    for name in NAMES {
        let text = std::fs::read_to_string(format!("{folder}/{name}.yaml")).unwrap();
        let definition: Value = ironside_resources::yaml::from_str(&text).unwrap();
        cluster.put(definition);
    }
    cluster.app("shop", "web", true);
    cluster.app("shop", "orders", true);
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders-dapr", "namespace": "shop"},
        "spec": {"ports": [{"name": "dapr-internal", "port": 50002}]},
    }));
    cluster.put(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "orders-dapr-1", "namespace": "shop",
            "labels": {"kubernetes.io/service-name": "orders-dapr"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": true}}],
    }));
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }));
    let now = jiff::Timestamp::try_from(certs::now()).unwrap().to_string();
    cluster.put(json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "n1", "namespace": "kube-node-lease"}, "spec": {"renewTime": now.clone()},
    }));
    for pod in ["web-1:3501", "orders-1:3501"] {
        let when = When::new("get", "pods/proxy").named(pod);
        cluster
            .api
            .inject(when, Fault::Answer(String::new()), usize::MAX);
    }
    cluster
}

impl ClusterWorld {
    /// The containers of an app's pod run.
    fn runs(&self, namespace: &str, name: &str) {
        let pod = self
            .api
            .object("v1", "Pod", namespace, &format!("{name}-1"));
        let mut pod = pod.unwrap();
        let status = |container: &str| {
            json!({"name": container, "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}}})
        };
        pod["status"] = json!({"phase": "Running", "containerStatuses": [status("app")],
            "initContainerStatuses": [status("daprd")]});
        self.put(pod);
    }
}

/// What is wrong or good to know, by its check.
fn wrong(stdout: &str) -> Vec<(String, String)> {
    let json: Value = serde_json::from_str(stdout).unwrap();
    let findings = json["findings"].as_array().unwrap().iter();
    let wrong = findings.filter(|one| one["level"] != "ok");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    wrong
        .map(|one| {
            assert!(one["fix"].is_string(), "{one}");
            (text(&one["check"]), text(&one["message"]))
        })
        .collect()
}

#[test]
fn a_cluster_that_is_well_is_said_to_be() {
    let cluster = well();
    let words = ["doctor", "-k", "shop/web", "shop/orders", "-o", "json"];
    let seen = cluster.ironside(&words);
    let what =
        "GET / of orders, called by shop/web: not made; the above is what objects and sidecars say";
    assert_eq!(
        wrong(&seen.stdout),
        [("call".to_owned(), what.to_owned())],
        "{}",
        seen.stderr
    );
    assert_eq!(seen.code, Some(0));
    let forwards = When::new("get", "pods/portforward");
    assert!(cluster.api.seen(&forwards).is_empty(), "no call is made");
    let seen = cluster.ironside(&["doctor", "-k"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stdout);
    for check in [
        "control plane",
        "certificates",
        "webhook",
        "rights",
        "sidecars",
        "clocks",
        "definitions",
    ] {
        assert!(
            seen.stdout.contains(&format!("✅  {check}: ")),
            "{}",
            seen.stdout
        );
    }
    for writes in ["update", "patch", "delete"] {
        let all = cluster.api.all_seen();
        assert!(
            all.iter().all(|seen| seen.verb != writes),
            "doctor changes nothing"
        );
    }
}

#[test]
fn what_is_wrong_is_found_with_its_fix() {
    let cluster = well();
    let user = "system:serviceaccount:dapr-system:dapr-operator";
    for (verb, resource) in [
        ("create", "services"),
        ("patch", "services"),
        ("update", "deployments"),
    ] {
        cluster.api.deny_right(user, verb, resource);
    }
    let mut old = cluster
        .api
        .object(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "",
            "accesscontrols.dapr.io",
        )
        .unwrap();
    old["spec"]["versions"][0]["subresources"] = json!({});
    cluster.put(old);
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "bare", "namespace": "shop", "annotations": {"dapr.io/enabled": "true"}},
        "spec": {"containers": [{"name": "app"}]},
    }));
    let object = |kind: &str, version: &str, name: &str| {
        let namespace = "shop";
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}})
    };
    assert!(cluster.api.delete(&object("Service", "v1", "orders-dapr")));
    let mut rule = object("AccessControl", "dapr.io/v1alpha1", "closed");
    rule["spec"] = json!({"defaultAction": "deny"});
    cluster.put(rule);
    let seen = cluster.ironside(&["doctor", "-k", "shop/web", "shop/orders", "-o", "json"]);
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    let expected = [
        (
            "rights",
            "dapr-operator may not update deployments/finalizers",
        ),
        ("rights", "dapr-operator may not create, patch services"),
        ("sidecars", "shop/bare asks for a sidecar and has none"),
        (
            "definitions",
            "accesscontrols.dapr.io is not that of this version: without subresource status",
        ),
        ("resolution", "there is no Service shop/orders-dapr"),
        (
            "policy",
            "GET / of shop/orders by shop/web: deny global-default",
        ),
        ("call", "GET / of orders, called by shop/web: not made"),
    ];
    let wrong = wrong(&seen.stdout);
    assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
    for ((check, text), (at, what)) in wrong.iter().zip(expected) {
        assert!(check == at && text.starts_with(what), "{wrong:?}");
    }
    let cluster = well();
    cluster
        .api
        .inject(When::new("get", "secrets"), Fault::Status(403), usize::MAX);
    let seen = cluster.ironside(&["doctor", "-k"]);
    assert_eq!(seen.code, Some(3), "{}", seen.stdout);
    assert!(
        seen.stdout.contains("cannot read the Secret"),
        "{}",
        seen.stdout
    );
    let seen = cluster.ironside(&["doctor", "-k", "alone"]);
    assert_eq!(seen.code, Some(1));
}

/// The caller's sidecar is reached through the API server, and what it answers is judged.
#[test]
fn a_call_in_a_cluster_is_made_if_it_is_asked_for() {
    let cluster = well();
    let words = [
        "doctor",
        "-k",
        "shop/web",
        "shop/orders",
        "--verb",
        "PUT",
        "--path",
        "/x?y=1",
        "--call",
        "-o",
        "json",
    ];
    // Nobody there to make it.
    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(2), "{}", seen.stderr);
    let what = "PUT /x?y=1 of orders, called by shop/web: ";
    let text = format!("{what}not made, no sidecar of shop/web runs");
    assert_eq!(wrong(&seen.stdout), [("call".to_owned(), text)]);

    cluster.runs("shop", "web");
    let forward = When::new("get", "pods/portforward").named("web-1");
    let answers = |status: &'static str, body: &'static str| {
        let sidecar = Server::start(status, body, Duration::ZERO);
        cluster
            .api
            .inject(forward.clone(), Fault::Forward(sidecar.port), 1);
        let mut command = cluster.command(&words);
        let seen = finish(command.env("DAPR_API_TOKEN", "secret"));
        (seen, sidecar.seen())
    };
    let (seen, asked) = answers("404 Not Found", "no such thing");
    assert_eq!(seen.code, Some(0), "{}{}", seen.stdout, seen.stderr);
    let text = format!("{what}the app answered 404 Not Found");
    assert!(seen.stdout.contains(&text), "{}", seen.stdout);
    assert_eq!(asked.len(), 1);
    let asked = asked[0].to_lowercase();
    assert!(
        asked.starts_with("put /v1.0/invoke/orders/method/x?y=1 http/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("\r\ndapr-api-token: secret\r\n"), "{asked}");
    let forwards = cluster.api.seen(&forward);
    assert!(forwards[0].query.contains("ports=3500"), "{forwards:?}");

    let unresolved = r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed to invoke, id: orders, err: couldn't find service: orders"}"#;
    let (seen, _) = answers("500 Internal Server Error", unresolved);
    assert_eq!(seen.code, Some(2), "{}", seen.stdout);
    let found = wrong(&seen.stdout);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "resolution");
    assert!(found[0].1.starts_with(what), "{found:?}");

    // Who may not forward a port has not learnt that the call fails.
    cluster.api.inject(forward, Fault::Status(403), 1);
    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(3), "{}", seen.stdout);
    let found = wrong(&seen.stdout);
    assert!(
        found[0].0 == "call" && found[0].1.contains("cannot forward a port to pod web-1"),
        "{found:?}"
    );
}

/// A real call through two real sidecars.
#[test]
fn a_call_on_this_machine_is_made_and_judged() {
    let world = World::new();
    let server = Server::start("404 Not Found", "no such thing", Duration::ZERO);
    let (web, orders) = (world.id("web"), world.id("orders"));
    let port = server.port.to_string();
    let _orders = world.up(&["run", "--app-id", &orders, "--app-port", &port]);
    let _web = world.up(&["run", "--app-id", &web]);
    let words = ["doctor", &web, &orders, "--verb", "PUT", "--path", "/x"];
    let seen = world.ironside(&words);
    assert_eq!(seen.code, Some(0), "{}{}", seen.stdout, seen.stderr);
    let expected = format!("PUT /x of {orders}, called by {web}: the app answered 404 Not Found");
    assert!(seen.stdout.contains(&expected), "{}", seen.stdout);
    assert!(
        server
            .seen()
            .iter()
            .any(|request| request.starts_with("PUT /x "))
    );

    let nobody = world.id("nobody");
    let seen = world.ironside(&["doctor", &web, &nobody, "-o", "json"]);
    assert_eq!(seen.code, Some(2));
    let wrong = wrong(&seen.stdout);
    assert_eq!(
        wrong[0].1,
        format!("no sidecar of app ID {nobody} runs on this machine")
    );
    assert_eq!(wrong[1].0, "resolution", "{wrong:?}");

    // No app behind the sidecar.
    let seen = world.ironside(&["doctor", &orders, &web]);
    assert_eq!(seen.code, Some(2));
    assert!(
        seen.stdout.contains("❌  app: GET / of "),
        "{}",
        seen.stdout
    );
    assert!(
        seen.stdout
            .contains("fix: start the callee's sidecar with --app-port"),
        "{}",
        seen.stdout
    );
}
