//! Findings from given facts: a cluster that is well, and what is found when one thing is not.

use std::time::{Duration, SystemTime};

use ironside_identity::TrustBundle;
use ironside_testkit::certs::Ca;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::super::facts::Facts;
use super::super::finding::{Finding, Weight};
use super::super::rights::{Right, Shape, needed};
use super::judge;

fn pod(namespace: &str, name: &str, more: Value) -> Pod {
    let mut pod =
        json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"containers": []}});
    let members = pod.as_object_mut().unwrap();
    for (member, value) in more.as_object().unwrap() {
        match (members.get_mut(member), value) {
            (Some(Value::Object(held)), Value::Object(new)) => held.extend(new.clone()),
            _ => {
                members.insert(member.clone(), value.clone());
            }
        }
    }
    serde_json::from_value(pod).unwrap()
}

fn program(name: &str, ready: &str) -> Pod {
    let image = json!({"name": "SIDECAR_IMAGE", "value": "r/daprd:2"});
    pod(
        "dapr-system",
        name,
        json!({
            "metadata": {"labels": {"app": name, "app.kubernetes.io/version": "2"}},
            "spec": {"containers": [{"name": name, "image": "r/x:2", "env": [image]}]},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }),
    )
}

fn app(name: &str, annotations: Value, containers: Value) -> Pod {
    pod(
        "shop",
        name,
        json!({
            "metadata": {"annotations": annotations}, "spec": {"containers": containers},
            "status": {"phase": "Running"},
        }),
    )
}

fn issuer(ca: &Ca) -> TrustBundle {
    TrustBundle::from_pem(ca.issuer_pem().as_bytes()).unwrap()
}

fn now() -> SystemTime {
    ironside_testkit::certs::now()
}

/// A cluster in which nothing is wrong.
fn well(ca: &Ca) -> Facts {
    let bundle = ByteString(ca.root_pem().into_bytes());
    Facts {
        now: Some(now()),
        server: Some(now()),
        namespace: "dapr-system".to_owned(),
        system: Some(json!({"mtls": {"enabled": true, "allowedClockSkew": "15m"}})),
        roots: Some(Ok(Some(ca.bundle()))),
        secret: Some(Ok(Some([ca.bundle(), issuer(ca)]))),
        webhook: Some(Ok(Some(json!({"webhooks": [{
            "clientConfig": {"caBundle": bundle, "service": {"namespace": "dapr-system"}},
            "failurePolicy": "Fail",
        }]})))),
        definitions: None,
        pods: vec![
            program("dapr-sentry", "True"),
            program("dapr-operator", "True"),
            program("dapr-sidecar-injector", "True"),
            app(
                "orders",
                json!({"dapr.io/enabled": "true"}),
                json!([{"name": "daprd", "image": "r/daprd:2"}]),
            ),
        ],
        rights: needed(&Shape::default())
            .unwrap()
            .into_iter()
            .map(|right| (right, Ok(true)))
            .collect(),
        nodes: Some(Ok(vec![("n1".to_owned(), now())])),
        access_controls: Some(Ok(Vec::new())),
    }
}

/// Takes rights away.
fn lose(facts: &mut Facts, words: &[&str]) {
    for (right, answer) in &mut facts.rights {
        if words.contains(&Right::words(&[&*right]).as_str()) {
            *answer = Ok(false);
        }
    }
}

fn bad(facts: &Facts) -> Vec<(Weight, String)> {
    let findings = judge(facts);
    let bad = findings
        .into_iter()
        .filter(|one| one.weight != Weight::Good);
    bad.map(
        |Finding {
             check,
             weight,
             text,
             fix,
         }| {
            assert!(!fix.is_empty(), "{text}");
            (weight, format!("{check}: {text}"))
        },
    )
    .collect()
}

#[test]
fn a_cluster_that_is_well_has_no_findings() {
    let facts = well(&Ca::new());
    assert_eq!(bad(&facts), []);
    let checks: Vec<&str> = judge(&facts).iter().map(|one| one.check).collect();
    assert_eq!(
        checks,
        [
            "control plane",
            "certificates",
            "webhook",
            "rights",
            "sidecars",
            "clocks",
            "access control"
        ]
    );
}

/// One thing wrong at a time, and the one finding of it.
#[test]
fn each_fault_is_found_alone() {
    type Break = fn(&mut Facts);
    let day = Duration::from_secs(24 * 60 * 60);
    let expired = Ca::builder()
        .root_valid(now() - day * 9, now() - day)
        .build();
    let other = Ca::new();
    let faults: [(Break, Weight, &str); 21] = [
        (
            |f| drop(f.pods.remove(0)),
            Weight::Error,
            "control plane: dapr-sentry does not run",
        ),
        (
            |f| f.pods[1] = program("dapr-operator", "False"),
            Weight::Error,
            "control plane: none of the 1 pods of dapr-operator is ready",
        ),
        (
            |f| f.system = None,
            Weight::Error,
            "control plane: there is no Configuration daprsystem, nor one of another name that the chart made",
        ),
        (
            |f| f.system = Some(json!({"mtls": {"enabled": false}})),
            Weight::Warning,
            "control plane: mutual TLS is off",
        ),
        (
            |f| f.roots = Some(Ok(None)),
            Weight::Error,
            "certificates: the ConfigMap dapr-system/dapr-trust-bundle has no root",
        ),
        (
            |f| f.secret = Some(Ok(None)),
            Weight::Error,
            "certificates: the Secret dapr-system/dapr-trust-bundle has no certificate authority",
        ),
        (
            |f| f.secret = Some(Err("cannot read".to_owned())),
            Weight::Unknown,
            "certificates: cannot read",
        ),
        (
            |f| f.webhook = Some(Ok(None)),
            Weight::Error,
            "webhook: there is no MutatingWebhookConfiguration",
        ),
        (
            |f| {
                f.webhook = Some(Ok(Some(json!({"webhooks": [{"clientConfig": {"service": {
            "namespace": "dapr-system"}}, "failurePolicy": "Fail"}]}))))
            },
            Weight::Error,
            "webhook: it has no caBundle",
        ),
        (
            |f| lose(f, &["dapr-sentry may not create tokenreviews"]),
            Weight::Error,
            "rights: dapr-sentry may not create tokenreviews",
        ),
        (
            |f| {
                lose(
                    f,
                    &[
                        "dapr-operator may not list deployments",
                        "dapr-operator may not watch deployments",
                    ],
                )
            },
            Weight::Error,
            "rights: dapr-operator may not list, watch deployments",
        ),
        (
            |f| {
                lose(
                    f,
                    &["dapr-sentry may not create events in its own namespace"],
                )
            },
            Weight::Warning,
            "rights: dapr-sentry may not create events in its own namespace",
        ),
        (
            |f| {
                f.rights.truncate(1);
                f.rights[0].1 = Err("cannot ask".to_owned());
            },
            Weight::Unknown,
            "rights: cannot ask",
        ),
        (
            |f| {
                f.pods.push(app(
                    "bare",
                    json!({"dapr.io/enabled": " Yes "}),
                    json!([{"name": "app"}]),
                ))
            },
            Weight::Error,
            "sidecars: shop/bare asks for a sidecar and has none",
        ),
        (
            |f| {
                f.pods.push(app(
                    "old",
                    json!({}),
                    json!([{"name": "daprd", "image": "r/daprd:1"}]),
                ))
            },
            Weight::Warning,
            "sidecars: shop/old (r/daprd:1) has another image than r/daprd:2",
        ),
        (
            |f| f.now = f.now.map(|now| now + Duration::from_secs(100)),
            Weight::Warning,
            "clocks: the clock of this machine differs from the API server's by ",
        ),
        (
            |f| {
                f.nodes = Some(Ok(vec![(
                    "n2".to_owned(),
                    now() - Duration::from_secs(3600),
                )]))
            },
            Weight::Error,
            "clocks: the clock of node n2 differs from the API server's by ",
        ),
        (
            |f| f.server = None,
            Weight::Unknown,
            "clocks: the API server does not say what time it is",
        ),
        (
            |f| f.nodes = Some(Err("cannot list nodes: no".to_owned())),
            Weight::Unknown,
            "clocks: cannot list nodes: no",
        ),
        (
            |f| f.access_controls = Some(Ok(vec![policy("Programmed", "False")])),
            Weight::Warning,
            "access control: shop/rule is not in force everywhere: 1 of 2",
        ),
        (
            |f| f.access_controls = Some(Ok(vec![policy("Accepted", "False")])),
            Weight::Error,
            "access control: shop/rule is not accepted: 1 of 2",
        ),
    ];
    let ca = Ca::new();
    for (fault, weight, text) in faults {
        let mut facts = well(&ca);
        fault(&mut facts);
        let found = bad(&facts);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(
            found[0].0 == weight && found[0].1.starts_with(text),
            "{text}: {found:?}"
        );
    }
    let mut facts = well(&ca);
    facts.secret = Some(Ok(Some([other.bundle(), issuer(&other)])));
    assert_eq!(
        bad(&facts)[0].1,
        "certificates: the ConfigMap lacks a root that the Secret has"
    );
    facts.roots = Some(Ok(Some(other.bundle())));
    assert_eq!(
        bad(&facts)[0].1,
        "webhook: its caBundle holds none of the current roots"
    );
    let mut facts = well(&expired);
    facts.secret = None;
    assert!(
        bad(&facts)[0]
            .1
            .starts_with("certificates: the last root has expired on ")
    );
}

/// A role that is gone is not a hundred lines.
#[test]
fn rights_are_told_by_what_they_are_about_and_not_without_end() {
    let mut facts = well(&Ca::new());
    for (_, answer) in &mut facts.rights {
        *answer = Ok(false);
    }
    let found = bad(&facts);
    assert_eq!(found.len(), 21, "{found:?}");
    assert!(
        found[20].1.starts_with("rights: and ") && found[20].1.ends_with(" more"),
        "{found:?}"
    );
}

/// Pods that are over, of the control plane, or with an image of their own are no findings.
#[test]
fn what_is_meant_to_be_so_is_no_finding() {
    let mut facts = well(&Ca::new());
    let asks = json!({"dapr.io/enabled": "true"});
    let mut done = app("done", asks.clone(), json!([{"name": "app"}]));
    done.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
    let mut own = app("own", asks.clone(), json!([{"name": "app"}]));
    own.metadata.namespace = Some("kube-system".to_owned());
    let image = json!({"dapr.io/enabled": "true", "dapr.io/sidecar-image": "mine/daprd:9"});
    facts.pods.extend([
        done,
        own,
        app(
            "off",
            json!({"dapr.io/enabled": "false"}),
            json!([{"name": "app"}]),
        ),
        app(
            "mine",
            image,
            json!([{"name": "daprd", "image": "mine/daprd:9"}]),
        ),
    ]);
    assert_eq!(bad(&facts), []);
}

fn policy(kind: &str, status: &str) -> kube::api::DynamicObject {
    serde_json::from_value(json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "AccessControl",
        "metadata": {"name": "rule", "namespace": "shop"},
        "status": {"conditions": [{"type": kind, "status": status, "message": "1 of 2"}]},
    }))
    .unwrap()
}
