//! Which objects there are, under which names, with which Services; that two renders are one.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};

use crate::rig::{NAMESPACE, Render, helm, render, root};

/// What a reader of the golden file sees of each variant.
const VARIANTS: [&str; 7] = [
    "global: {ha: {enabled: true}}",
    "global: {rbac: {namespaced: true}}",
    "global: {priorityClassName: system-cluster-critical}",
    "networkPolicies: {enabled: true}",
    "dapr_operator: {secretResolution: {namespaces: [shop, bank]}}",
    "dapr_rbac: {secretReader: {enabled: true}}",
    "{dapr_sidecar_injector: {enabled: false}, dapr_config: {dapr_config_chart_included: false}}",
];

fn list(render: &Render) -> BTreeSet<String> {
    let line = |object: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &object["metadata"];
        let namespace = text(&meta["namespace"]);
        let slash = if namespace.is_empty() { "" } else { "/" };
        let (kind, name) = (text(&object["kind"]), text(&meta["name"]));
        format!(
            "{kind} {namespace}{slash}{name} ({})",
            text(&object["apiVersion"])
        )
    };
    render.objects.iter().map(line).collect()
}

/// KH-01: every object by default, and what values add or take away.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn the_objects_are_those_of_the_golden_file() {
    let path = root().join("e2e/golden/chart/objects.txt");
    let usual = list(&render(""));
    let mut text = String::new();
    for object in &usual {
        text.push_str(&format!("  {object}\n"));
    }
    for values in VARIANTS {
        text.push_str(&format!("\n{values}\n"));
        let found = list(&render(values));
        for object in usual.difference(&found) {
            text.push_str(&format!("- {object}\n"));
        }
        for object in found.difference(&usual) {
            text.push_str(&format!("+ {object}\n"));
        }
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "whether to compare or to write is the caller's choice, as with the other generated files"
    )]
    let update = std::env::var_os("UPDATE").is_some();
    if update {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap(), text);
}

/// What a person reviews is what is installed.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn two_renders_are_one_byte_for_byte() {
    for values in VARIANTS {
        assert_eq!(render(values).text, render(values).text, "{values}");
    }
}

#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn helm_finds_nothing_to_complain_about() {
    let output = helm(&["lint", ".", "--strict"], "global: {registry: r.test}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("WARNING"), "{said}");
}

fn ports(service: &Value) -> Vec<Value> {
    let ports = service["spec"]["ports"].as_array().unwrap();
    let port = |port: &Value| {
        json!([
            port["name"],
            port["port"],
            port["targetPort"],
            port["appProtocol"]
        ])
    };
    ports.iter().map(port).collect()
}

/// KH-01: the table of Services, and of control-plane pods behind them.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn services_have_the_ports_that_others_dial() {
    let render = render("");
    let metrics = json!(["metrics", 9090, "metrics", "http"]);
    for (name, app, want) in [
        (
            "dapr-api",
            "dapr-operator",
            vec![
                json!(["grpc", 443, 6500, "tls"]),
                json!(["legacy", 80, 6500, "tls"]),
                metrics.clone(),
            ],
        ),
        (
            "dapr-webhook",
            "dapr-operator",
            vec![json!([null, 443, 19443, "https"])],
        ),
        (
            "dapr-sentry",
            "dapr-sentry",
            vec![json!(["grpc", 443, 50001, "tls"]), metrics.clone()],
        ),
        (
            "dapr-sidecar-injector",
            "dapr-sidecar-injector",
            vec![json!(["https", 443, "https", "https"]), metrics.clone()],
        ),
    ] {
        let service = render.object("Service", name);
        assert_eq!(ports(service), want, "{name}");
        assert_eq!(service["spec"]["selector"], json!({"app": app}), "{name}");
        let scraped = service.pointer("/metadata/annotations/prometheus.io~1scrape");
        assert_eq!(scraped.is_some(), name != "dapr-webhook", "{name}");
        assert_eq!(render.pod(app)["metadata"]["labels"]["app"], app);
    }
    let https = &render.main("dapr-sidecar-injector")["ports"][0];
    assert_eq!(https, &json!({"name": "https", "containerPort": 4000}));
    let other = crate::rig::render("dapr_operator: {ports: {port: 80, targetPort: 7000}}");
    let service = other.object("Service", "dapr-api");
    assert_eq!(ports(service), [json!(["grpc", 80, 7000, "tls"]), metrics]);
    assert!(
        other
            .args("dapr-operator")
            .windows(2)
            .any(|pair| pair == ["--port", "7000"])
    );
}

/// KH-01: names, accounts, annotations and labels that Sentry, tools and selectors go by.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn programs_are_called_as_others_know_them() {
    let render = render("");
    for (name, short, account, command) in [
        ("dapr-operator", "operator", "dapr-operator", "/operator"),
        ("dapr-sentry", "sentry", "dapr-sentry", "/sentry"),
        (
            "dapr-sidecar-injector",
            "injector",
            "dapr-injector",
            "/injector",
        ),
    ] {
        let deployment = render.object("Deployment", name);
        assert_eq!(deployment["metadata"]["namespace"], NAMESPACE);
        let selector = &deployment["spec"]["selector"]["matchLabels"];
        assert_eq!(*selector, json!({"app": name}));
        let pod = render.pod(name);
        let notes = &pod["metadata"]["annotations"];
        assert_eq!(notes["dapr.io/control-plane"], short);
        assert!(notes.get("dapr.io/app-id").is_none());
        assert_eq!(pod["spec"]["serviceAccountName"], account);
        render.object("ServiceAccount", account);
        let main = render.main(name);
        assert_eq!(main["name"], name);
        assert_eq!(main["command"], json!([command]));
        assert_eq!(main["image"], format!("r.test/{short}:e2e"));
        assert_eq!(
            pod["metadata"]["labels"]["app.kubernetes.io/version"],
            "e2e"
        );
        assert_eq!(
            pod["metadata"]["labels"]["app.kubernetes.io/part-of"],
            "dapr"
        );
    }
    let system = render.object("Configuration", "daprsystem");
    assert_eq!(system["spec"]["mtls"]["enabled"], true);
}

/// Nobody waits for a kubelet: what the control plane reads of itself comes through the API.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn no_pod_mounts_what_another_one_writes() {
    let render = render("");
    for name in ["dapr-operator", "dapr-sentry", "dapr-sidecar-injector"] {
        let volumes = render.pod(name)["spec"].get("volumes").cloned();
        for volume in volumes.unwrap_or_default().as_array().into_iter().flatten() {
            assert!(volume.get("secret").is_none(), "{name}");
            assert!(volume.get("configMap").is_none(), "{name}");
        }
        let has_anchors = render
            .env(name)
            .contains_key("DAPR_TRUST_ANCHORS_CONFIGMAP");
        assert_eq!(has_anchors, name != "dapr-sentry");
        let args = render.args(name);
        assert!(!args.contains(&"--trust-anchors-file"), "{name}");
    }
}
