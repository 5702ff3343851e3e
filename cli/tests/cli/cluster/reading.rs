//! Commands that only look: programs, sidecars, logs, objects, and the root that ends soon.

use std::time::Duration;

use ironside_testkit::certs::{self, Ca};
use ironside_testkit::kube::{Fault, Ran, When};
use serde_json::{Value, json};

use super::{ClusterWorld, rows};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// CL-80: a row for each program that is there, in a fixed order; exit code 1 without any.
#[test]
fn programs_are_shown_in_order() {
    let cluster = ClusterWorld::new();
    let seen = cluster.ironside(&["status", "-k"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("No status returned. Is Dapr initialized in your cluster?"),
        "{}",
        seen.stderr
    );
    cluster.program("dapr-sidecar-injector", "i-1", true);
    cluster.program("dapr-operator", "o-1", true);
    cluster.program("dapr-operator", "o-2", false);
    let seen = cluster.ironside(&["status", "-k"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let rows = rows(&seen.stdout);
    assert_eq!(
        rows[0],
        [
            "NAME",
            "NAMESPACE",
            "HEALTHY",
            "STATUS",
            "REPLICAS",
            "VERSION",
            "AGE",
            "CREATED"
        ]
    );
    assert_eq!(
        rows[1][..6],
        [
            "dapr-operator",
            "dapr-system",
            "False",
            "Waiting (CrashLoopBackOff)",
            "2",
            "1.2.3"
        ]
    );
    assert_eq!(
        rows[2][..6],
        [
            "dapr-sidecar-injector",
            "dapr-system",
            "True",
            "Running",
            "1",
            "1.2.3"
        ]
    );
    let seen = cluster.ironside(&["status", "-k", "-o", "json"]);
    let json: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(json[1]["healthy"], "True");
    assert_eq!(json[0]["replicas"], 2);
}

/// CL-87: sidecars of both kinds are listed, by namespace from the last.
#[test]
fn sidecars_of_both_kinds_are_listed() {
    let cluster = ClusterWorld::new();
    let seen = cluster.ironside(&["list", "-k"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert_eq!(seen.stdout, "No Dapr instances found.\n");
    cluster.app("shop", "orders", true);
    cluster.app("shop", "checkout", false);
    cluster.app("tools", "cron", true);
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "args": ["--app-id", "no"]}]},
    }));
    let seen = cluster.ironside(&["list", "-k"]);
    let found = rows(&seen.stdout);
    assert_eq!(
        found[0],
        ["NAMESPACE", "APP ID", "APP PORT", "AGE", "CREATED"]
    );
    let names: Vec<&[&str]> = found[1..].iter().map(|row| &row[..3]).collect();
    assert_eq!(
        names,
        [
            ["tools", "cron", "3000"],
            ["shop", "checkout", "3000"],
            ["shop", "orders", "3000"]
        ]
    );
    let seen = cluster.ironside(&["list", "-k", "--namespace", "tools", "-o", "json"]);
    let json: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["appId"], "cron");
    let seen = cluster.ironside(&["list", "-k", "-o", "xml"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("An invalid output format was specified.")
    );
}

/// CL-88: the log of a sidecar, native or not; a message and exit code 1 for an app that is not there.
#[test]
fn the_log_of_a_sidecar_is_printed_alone() {
    let cluster = ClusterWorld::new();
    cluster.app("shop", "orders", true);
    let when = When::new("get", "pods/log").named("orders-1");
    let text = "time=\"x\" level=info msg=\"ready\"\nlast line without an end";
    cluster
        .api
        .inject(when.clone(), Fault::Answer(text.to_owned()), 1);
    let seen = cluster.ironside(&["logs", "-k", "-a", "orders", "-n", "shop"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert_eq!(seen.stdout, text);
    assert!(seen.stderr.contains("Fetched logs"), "{}", seen.stderr);
    for words in [
        &["logs", "-k", "-a", "orders"][..],
        &["logs", "-k", "-a", "other", "-n", "shop"],
        &["logs", "-k", "-a", "orders", "-n", "shop", "-p", "orders-2"],
    ] {
        let seen = cluster.ironside(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        assert!(
            seen.stderr
                .contains("could not get logs. Please check app-id ("),
            "{}",
            seen.stderr
        );
        assert_eq!(seen.stdout, "");
    }
    cluster.api.inject(when, Fault::Status(403), 1);
    let seen = cluster.ironside(&["logs", "-k", "-a", "orders", "-n", "shop"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("container daprd of pod shop/orders-1: injected"),
        "{}",
        seen.stderr
    );
}

/// CL-92: what programs read is manifests' spelling and nothing else.
#[test]
fn objects_are_printed_as_they_are_stored() {
    let cluster = ClusterWorld::new();
    let seen = cluster.ironside(&["components", "-k"]);
    assert_eq!(
        (seen.code, seen.stdout.as_str()),
        (Some(0), "No components found.\n")
    );
    let spec = json!({"type": "state.redis", "version": "v1",
        "metadata": [{"name": "redisHost", "value": "r:6379"}]});
    cluster.put(json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "Component",
        "metadata": {"name": "Store", "namespace": "shop"}, "spec": spec, "scopes": ["orders", "web"],
    }));
    let tracing = json!({"tracing": {"samplingRate": "1"}});
    for (name, namespace) in [("appconfig", "shop"), ("daprsystem", "dapr-system")] {
        cluster.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
            "metadata": {"name": name, "namespace": namespace}, "spec": tracing,
        }));
    }
    let seen = cluster.ironside(&["components", "-k"]);
    assert_eq!(
        rows(&seen.stdout)[1][..5],
        ["shop", "Store", "state.redis", "v1", "orders,web"]
    );
    let seen = cluster.ironside(&["components", "-k", "-n", "store", "-o", "json"]);
    let json: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(
        json,
        json!([{"name": "Store", "namespace": "shop", "spec": spec}])
    );
    let seen = cluster.ironside(&["configurations", "-k"]);
    let found = rows(&seen.stdout);
    assert_eq!(found.len(), 2, "{}", seen.stdout);
    assert_eq!(found[1][..4], ["shop", "appconfig", "true", "true"]);
    let seen = cluster.ironside(&["configurations", "-k", "-o", "yaml", "-A"]);
    assert!(
        seen.stdout.contains("samplingRate: \"1\"") || seen.stdout.contains("samplingRate: '1'"),
        "{}",
        seen.stdout
    );
}

/// The chart may give the system configuration another name; its namespace need not be the usual one either.
#[test]
fn the_system_configuration_may_have_another_name() {
    let cluster = ClusterWorld::new();
    let configuration = |name: &str, part: &str, mtls: Value| {
        cluster.put(json!({
            "apiVersion": "dapr.io/v1alpha1", "kind": "Configuration",
            "metadata": {"name": name, "namespace": "own", "labels": {"app.kubernetes.io/component": part}},
            "spec": {"mtls": mtls},
        }));
    };
    configuration("mine", "config", json!({}));
    configuration("other", "web", json!({"controlPlaneTrustDomain": "x"}));
    let seen = cluster.ironside(&["mtls", "-k"]);
    assert_eq!(seen.code, Some(1), "neither is the control plane's");
    configuration(
        "renamed",
        "config",
        json!({"enabled": true, "controlPlaneTrustDomain": "cluster.local"}),
    );
    let seen = cluster.ironside(&["mtls", "-k", "-o", "json"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let json: Value = serde_json::from_str(&seen.stdout).unwrap();
    assert_eq!(
        (&json["enabled"], &json["namespace"]),
        (&json!(true), &json!("own"))
    );
    let seen = cluster.ironside(&["configurations", "-k", "-A"]);
    let names: Vec<String> = rows(&seen.stdout)
        .iter()
        .skip(1)
        .map(|row| row[1].to_owned())
        .collect();
    assert_eq!(names, ["mine", "other"]);
}

/// CL-84: 20 days are told, 40 are not; beside data the warning is on the standard error.
#[test]
fn a_root_that_ends_soon_is_told() {
    let cluster = ClusterWorld::new();
    cluster.program("dapr-operator", "o-1", true);
    cluster.system(json!({"enabled": true}));
    for (days, expected) in [(20, true), (40, false)] {
        // Half a day, so that this test may take its time.
        let end = certs::now() + DAY * days + DAY / 2;
        let ca = Ca::builder().root_valid(certs::now() - DAY, end).build();
        cluster.roots(&ca.root_pem());
        let seen = cluster.ironside(&["status", "-k"]);
        let text =
            "Dapr root certificate of your Kubernetes cluster expires in 20 days. Expiry date: ";
        assert_eq!(seen.stdout.contains(text), expected, "{}", seen.stdout);
        let seen = cluster.ironside(&["status", "-k", "-o", "json"]);
        serde_json::from_str::<Value>(&seen.stdout).unwrap();
        assert_eq!(seen.stderr.contains(text), expected, "{}", seen.stderr);
    }
}

/// Failures name the cluster's own words, and where the kubeconfig was looked for.
#[test]
fn a_cluster_that_cannot_be_asked_is_a_clear_failure() {
    let cluster = ClusterWorld::new();
    cluster
        .api
        .inject(When::new("list", "pods"), Fault::Status(403), usize::MAX);
    for (words, text) in [
        (&["list", "-k"][..], "cannot list pods: injected"),
        (
            &["list", "-k", "--kubeconfig", "none"],
            "no cluster: kubeconfig none: ",
        ),
        (&["status", "-k", "--context", "no-such"], "no-such"),
    ] {
        let seen = cluster.ironside(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        assert!(seen.stderr.contains(text), "{words:?}: {}", seen.stderr);
    }
    let seen = cluster.ironside(&["status"]);
    assert_eq!(seen.code, Some(255));
    assert!(
        seen.stderr
            .contains("required flag(s) \"kubernetes\" not set")
    );
}

/// A pod of an app whose sidecar is in this state.
fn pod(cluster: &ClusterWorld, app: &str, number: u8, phase: &str, state: &Value) {
    let daprd = json!({"name": "daprd", "image": "r/daprd:1", "args": ["--app-id", app]});
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("{app}-{number}"), "namespace": "shop"},
        "spec": {"containers": [daprd]},
        "status": {"phase": phase, "containerStatuses": [{"name": "daprd", "image": "i", "imageID": "",
            "ready": true, "restartCount": 0, "state": state}]},
    }));
}

/// Resiliency-observability 4.1: `/daprd log-level` runs in every sidecar of the app, and in no other.
#[test]
fn the_level_of_all_sidecars_of_an_app_is_changed() {
    let cluster = ClusterWorld::new();
    let running = json!({"running": {}});
    pod(&cluster, "orders", 1, "Running", &running);
    pod(&cluster, "web", 1, "Running", &running);
    // A Job that is done, and pods that have not begun: there is nothing to change.
    let done = json!({"terminated": {"exitCode": 0}});
    pod(&cluster, "orders", 2, "Succeeded", &done);
    pod(&cluster, "report", 1, "Succeeded", &done);
    let waiting = json!({"waiting": {"reason": "ContainerCreating"}});
    pod(&cluster, "orders", 3, "Pending", &waiting);
    let when = |pod: &str| When::new("get", "pods/exec").named(pod);
    let ran = |stderr: &str, code: u8| {
        let stderr = stderr.to_owned();
        Fault::Exec(Ran { stderr, code })
    };
    let deaf = "process 1 does not listen for it".repeat(400);
    for (fault, code, told) in [
        (
            ran("", 0),
            0,
            "log level of orders in pod shop/orders-1: debug",
        ),
        (
            ran("no sidecar runs here\n", 1),
            1,
            "failed to change the log level in pod shop/orders-1: no sidecar runs here",
        ),
        (
            ran("", 1),
            1,
            "shop/orders-1: command terminated with non-zero exit code",
        ),
        (ran(&deaf, 1), 1, "process 1 does not listen for it"),
        (
            ran("\u{1b}[2Jno\rsuch\u{9b}thing\n", 1),
            1,
            "shop/orders-1: \\x1b[2Jno\\rsuch\\u009bthing",
        ),
        (
            Fault::Status(403),
            1,
            "failed to change the log level in pod shop/orders-1",
        ),
    ] {
        cluster.api.inject(when("orders-1"), fault, 1);
        let seen = cluster.ironside(&["log-level", "orders", "debug", "-k", "-n", "shop"]);
        let said = format!("{}{}", seen.stdout, seen.stderr);
        assert_eq!(seen.code, Some(code), "{said}");
        assert!(said.contains(told), "{said}");
    }
    let asked = cluster.api.seen(&when("orders-1"));
    assert_eq!(asked.len(), 6);
    for part in [
        "command=%2Fdaprd&command=log-level&command=debug",
        "container=daprd",
        "stderr=true",
    ] {
        assert!(asked[0].query.contains(part), "{}", asked[0].query);
    }
    for other in ["web-1", "orders-2", "orders-3"] {
        assert!(cluster.api.seen(&when(other)).is_empty(), "{other}");
    }
    let seen = cluster.ironside(&["log-level", "report", "debug", "-k", "-n", "shop"]);
    assert_eq!(seen.code, Some(1), "none runs");
    let told = "no sidecar runs in the pods of app id report in namespace shop";
    assert!(seen.stderr.contains(told), "{}", seen.stderr);
    assert!(cluster.api.seen(&when("report-1")).is_empty());
    let seen = cluster.ironside(&["log-level", "orders", "reset", "-k"]);
    assert_eq!(seen.code, Some(1), "another namespace");
    let told = "couldn't find app id orders in namespace default";
    assert!(seen.stderr.contains(told), "{}", seen.stderr);
}
