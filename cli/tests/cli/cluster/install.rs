//! `init -k`, `upgrade -k`, `uninstall -k`, without Helm and with one that writes down what it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ironside_testkit::certs::Ca;
use ironside_testkit::kube::{Fault, When};
use serde_json::{Value, json};

use super::ClusterWorld;
use crate::rig::{Finished, finish};

impl ClusterWorld {
    /// Runs a command that finds no Helm.
    fn alone(&self, words: &[&str]) -> Finished {
        finish(self.command(words).env("PATH", self.world.path()))
    }

    fn held(&self, version: &str, kind: &str, name: &str) -> Option<Value> {
        let namespace = match kind {
            "ClusterRole"
            | "MutatingWebhookConfiguration"
            | "CustomResourceDefinition"
            | "Namespace" => "",
            _ => "own",
        };
        self.api.object(version, kind, namespace, name)
    }
}

const INIT: [&str; 6] = ["init", "-k", "-n", "own", "--image-registry", "r.test"];

/// CL-93: without Helm and repeated; what others wrote stays; both directions may be repeated.
#[test]
fn the_control_plane_comes_and_goes_without_helm() {
    let cluster = ClusterWorld::new();
    let seen = cluster.alone(&INIT);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stdout
            .contains("Success! Dapr has been installed to namespace own."),
        "{}",
        seen.stdout
    );
    assert!(cluster.held("v1", "Namespace", "own").is_some());
    let operator = cluster
        .held("apps/v1", "Deployment", "dapr-operator")
        .unwrap();
    let image = operator
        .pointer("/spec/template/spec/containers/0/image")
        .unwrap();
    assert!(
        image.as_str().unwrap().starts_with("r.test/operator:"),
        "{image}"
    );
    let crds = cluster
        .api
        .objects("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert_eq!(crds.len(), 5);

    // Sentry and the injector have filled in what is theirs.
    let mut bundle = cluster.held("v1", "Secret", "dapr-trust-bundle").unwrap();
    bundle["data"] = json!({"ca.crt": "eA=="});
    cluster.put(bundle);
    let before = cluster.api.all_seen().len();
    let seen = cluster.alone(&[&INIT[..], &["--enable-ha"]].concat());
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let secret = cluster.held("v1", "Secret", "dapr-trust-bundle").unwrap();
    assert_eq!(secret["data"]["ca.crt"], "eA==");
    let writes = cluster.api.all_seen();
    let writes = writes
        .iter()
        .skip(before)
        .filter(|seen| seen.verb == "patch");
    assert!(writes.into_iter().all(|seen| seen.resource != "secrets"));
    let operator = cluster
        .held("apps/v1", "Deployment", "dapr-operator")
        .unwrap();
    assert_eq!(operator["spec"]["replicas"], 3);

    // What is not said stays as it is installed.
    let mut system = cluster
        .held("dapr.io/v1alpha1", "Configuration", "daprsystem")
        .unwrap();
    system["spec"]["mtls"]["enabled"] = json!(false);
    cluster.put(system);
    let words = [
        "upgrade",
        "-k",
        "-n",
        "own",
        "--runtime-version",
        "9",
        "--image-registry",
        "r.test",
        "--timeout",
        "0",
    ];
    let seen = cluster.alone(&words);
    assert_eq!(seen.code, Some(1), "nobody rolls anything out here");
    assert!(
        seen.stderr.contains("is not ready after 0 s"),
        "{}",
        seen.stderr
    );
    let operator = cluster
        .held("apps/v1", "Deployment", "dapr-operator")
        .unwrap();
    let image = operator
        .pointer("/spec/template/spec/containers/0/image")
        .unwrap();
    assert_eq!(image, "r.test/operator:9");
    assert_eq!(operator["spec"]["replicas"], 3);
    let system = cluster
        .held("dapr.io/v1alpha1", "Configuration", "daprsystem")
        .unwrap();
    assert_eq!(system["spec"]["mtls"]["enabled"], false);
    let seen = cluster.alone(&[&INIT[..], &["--enable-mtls", "--enable-ha=false"]].concat());
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let system = cluster
        .held("dapr.io/v1alpha1", "Configuration", "daprsystem")
        .unwrap();
    assert_eq!(system["spec"]["mtls"]["enabled"], true);
    let operator = cluster
        .held("apps/v1", "Deployment", "dapr-operator")
        .unwrap();
    assert_eq!(operator["spec"]["replicas"], 1);

    cluster.put(json!({
        "apiVersion": "dapr.io/v1alpha1", "kind": "AccessControl",
        "metadata": {"name": "x", "namespace": "shop"}, "spec": {"defaultAction": "deny"},
    }));
    for again in [false, true] {
        let seen = cluster.alone(&["uninstall", "-k", "-n", "own"]);
        assert_eq!(seen.code, Some(0), "{}", seen.stderr);
        assert!(seen.stdout.contains("Dapr has been removed successfully"));
        assert_eq!(
            seen.stdout.contains("there is no control plane"),
            again,
            "{}",
            seen.stdout
        );
        for (version, kind, name) in [
            ("apps/v1", "Deployment", "dapr-operator"),
            ("v1", "Secret", "dapr-trust-bundle"),
            ("policy/v1", "PodDisruptionBudget", "dapr-sentry-budget"),
            (
                "admissionregistration.k8s.io/v1",
                "MutatingWebhookConfiguration",
                "dapr-sidecar-injector",
            ),
        ] {
            assert_eq!(cluster.held(version, kind, name), None);
        }
    }
    let crds = cluster
        .api
        .objects("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert_eq!(crds.len(), 5, "definitions and their objects stay");
    let seen = cluster.alone(&["uninstall", "-k", "-n", "own", "--all"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stdout
            .contains("accesscontrols.dapr.io goes with 1 objects"),
        "{}",
        seen.stdout
    );
    let crds = cluster
        .api
        .objects("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    assert_eq!(crds.len(), 0);
}

/// What is refused writes nothing.
#[test]
fn what_cannot_be_done_is_refused_before_anything_is_written() {
    let cluster = ClusterWorld::new();
    for (words, text) in [
        (&["init", "-k"][..], "--image-registry"),
        (
            &["init", "-k", "--image-registry", "r", "--set", "a=b"],
            "--set needs helm on the PATH",
        ),
        (
            &["init", "-k", "--image-registry", "r x"],
            "cannot be a part of an image's name",
        ),
        (
            &["init", "-k", "--image-registry", "r", "-n", "No"],
            "--namespace No",
        ),
        (
            &["init", "-k", "--image-registry", "r", "--dev"],
            "--dev is refused",
        ),
        (
            &[
                "init",
                "-k",
                "--image-registry",
                "r",
                "--ca-root-certificate",
                "x",
            ],
            "belong together",
        ),
        (
            &[
                "upgrade",
                "-k",
                "--runtime-version",
                "1",
                "--image-registry",
                "r",
            ],
            "there is no control plane of Ironside in namespace dapr-system",
        ),
    ] {
        let seen = cluster.alone(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        assert!(seen.stderr.contains(text), "{words:?}: {}", seen.stderr);
    }
    cluster.put(json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": "dapr-sidecar-injector", "annotations": {"meta.helm.sh/release-name": "dapr"}},
    }));
    let seen = cluster.alone(&INIT);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr.contains("has a Dapr control plane already"),
        "{}",
        seen.stderr
    );
    let writes = cluster.api.all_seen();
    assert!(
        writes
            .iter()
            .all(|seen| matches!(seen.verb, "get" | "list")),
        "{writes:?}"
    );
    let seen = cluster.alone(&["uninstall", "-k", "-n", "own"]);
    assert_eq!(seen.code, Some(0));
    assert!(
        cluster
            .held(
                "admissionregistration.k8s.io/v1",
                "MutatingWebhookConfiguration",
                "dapr-sidecar-injector"
            )
            .is_some(),
        "it is another's"
    );
    cluster
        .api
        .inject(When::new("list", "secrets"), Fault::Status(403), 1);
    let seen = cluster.alone(&["uninstall", "-k", "-n", "own"]);
    assert_eq!(seen.code, Some(1), "a failure is one");
    assert!(
        seen.stderr.contains("Error removing Dapr: "),
        "{}",
        seen.stderr
    );
}

/// The definitions, and every object of them, are none of this command's where a control plane stays.
#[test]
fn definitions_of_a_control_plane_that_stays_are_not_removed() {
    let cluster = ClusterWorld::new();
    let seen = cluster.alone(&INIT);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let count = || {
        let crds = cluster
            .api
            .objects("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        crds.len()
    };
    let other = ["uninstall", "-k", "-n", "elsewhere", "--all"];
    let seen = cluster.alone(&other);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr.contains("has a Dapr control plane already"),
        "{}",
        seen.stderr
    );
    // Without an injector there is no such webhook.
    let hook = cluster.held(
        "admissionregistration.k8s.io/v1",
        "MutatingWebhookConfiguration",
        "dapr-sidecar-injector",
    );
    assert!(cluster.api.delete(&hook.unwrap()));
    let seen = cluster.alone(&other);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("its Deployment dapr-operator in namespace own"),
        "{}",
        seen.stderr
    );
    assert_eq!(count(), 5);

    // Nothing of a control plane is left but the definitions, one of which nobody of this project has applied.
    let seen = cluster.alone(&["uninstall", "-k", "-n", "own"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let mut components = cluster
        .held(
            "apiextensions.k8s.io/v1",
            "CustomResourceDefinition",
            "components.dapr.io",
        )
        .unwrap();
    components["metadata"]["annotations"] = json!({});
    cluster.put(components);
    let seen = cluster.alone(&other);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stdout
            .contains("definition components.dapr.io stays, with its objects"),
        "{}",
        seen.stdout
    );
    assert_eq!(count(), 1);
}

/// Only Helm knows the values of its release, and the objects that they made.
#[test]
fn a_release_of_helm_is_left_to_helm() {
    let cluster = ClusterWorld::new();
    assert_eq!(cluster.alone(&INIT).code, Some(0));
    let record = |revision: u8, status: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": format!("sh.helm.release.v1.ironside.v{revision}"), "namespace": "own",
                "labels": {"owner": "helm", "name": "ironside", "status": status}},
        })
    };
    cluster.put(record(1, "superseded"));
    cluster.put(record(2, "deployed"));
    let before = cluster.api.all_seen().len();
    let upgrade = ["upgrade", "-k", "-n", "own", "--runtime-version", "9"];
    let upgrade = [&upgrade[..], &["--image-registry", "r.test"]].concat();
    for words in [&INIT[..], &upgrade, &["uninstall", "-k", "-n", "own"]] {
        let seen = cluster.alone(words);
        assert_eq!(seen.code, Some(1), "{words:?}");
        assert!(
            seen.stderr
                .contains("is Helm's release ironside, and helm is not on the PATH"),
            "{words:?}: {}",
            seen.stderr
        );
    }
    let seen = cluster.api.all_seen();
    let mut after = seen.iter().skip(before);
    assert!(
        after.all(|seen| matches!(seen.verb, "get" | "list")),
        "{seen:?}"
    );
    // What Helm has removed and keeps the history of is no release.
    cluster.put(record(2, "uninstalled"));
    let seen = cluster.alone(&["uninstall", "-k", "-n", "own"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
}

/// A definition that a later version applied is not brought back to this one.
#[test]
fn later_definitions_are_left_alone() {
    let cluster = ClusterWorld::new();
    assert_eq!(cluster.alone(&INIT).code, Some(0));
    let (version, kind) = ("apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let held = || cluster.held(version, kind, "components.dapr.io").unwrap();
    let mut later = held();
    later["metadata"]["annotations"]["dapr.io/applied-by-version"] = json!("999.0.0");
    cluster.put(later);
    let before = held();
    let seen = cluster.alone(&INIT);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        seen.stdout
            .contains("definition components.dapr.io is left alone: version 999.0.0"),
        "{}",
        seen.stdout
    );
    assert_eq!(held(), before);
}

/// The user's own authority goes into the bundle.
#[test]
fn an_own_authority_is_installed() {
    let cluster = ClusterWorld::new();
    let ca = Ca::new();
    for (name, text) in [
        ("r", ca.root_pem()),
        ("i", ca.issuer_pem()),
        ("k", ca.issuer_key_pem()),
    ] {
        cluster.world.write(name, &text);
    }
    let files = [
        "--ca-root-certificate=r",
        "--issuer-public-certificate=i",
        "--issuer-private-key=k",
    ];
    let seen = cluster.alone(&[&INIT[..], &files].concat());
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let secret = cluster.held("v1", "Secret", "dapr-trust-bundle").unwrap();
    assert_eq!(secret["stringData"]["issuer.key"], ca.issuer_key_pem());
    let map = cluster
        .held("v1", "ConfigMap", "dapr-trust-bundle")
        .unwrap();
    assert_eq!(map["data"]["ca.crt"], ca.root_pem());
}

/// The manifests alone, for those who keep them in a repository.
#[test]
fn the_manifests_are_printed() {
    let cluster = ClusterWorld::new();
    let seen = cluster.alone(&[&INIT[..], &["--print"]].concat());
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let documents: Vec<Value> = ironside_resources::yaml::documents(&seen.stdout)
        .map(|text| ironside_resources::yaml::from_str(text).unwrap())
        .collect();
    let count = |kind: &str| documents.iter().filter(|one| one["kind"] == kind).count();
    assert_eq!(
        (count("CustomResourceDefinition"), count("Deployment")),
        (5, 3)
    );
    assert_eq!(cluster.api.all_seen().len(), 0);
}

/// With Helm on the PATH it gets the chart of this binary.
#[test]
fn helm_is_used_where_it_is_found() {
    let cluster = ClusterWorld::new();
    let helm = cluster.world.write(
        "bin/helm",
        "#!/bin/sh\necho \"$@\" >> \"$HELM_SAYS\"\nfor word in \"$@\"; do\n  if [ -f \"$word/Chart.yaml\" ]; then \
         /bin/cp -r \"$word\" \"$HELM_SAYS.chart\"; fi\ndone\n[ -z \"$HELM_FAILS\" ] || { echo \"no: $HELM_FAILS\" >&2; exit 1; }\n",
    );
    fs::set_permissions(&helm, fs::Permissions::from_mode(0o755)).unwrap();
    let says = cluster.world.path().join("says");
    let run = |words: &[&str], fails: &str| {
        let mut command = cluster.command(words);
        command
            .env("PATH", helm.parent().unwrap())
            .env("HELM_SAYS", &says)
            .env("HELM_FAILS", fails);
        finish(&mut command)
    };
    let words = [&INIT[..], &["--set", "a.b=c", "--wait", "--timeout", "9"]].concat();
    let seen = run(&words, "");
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let said = cluster.world.read("says");
    for text in [
        "upgrade --install ironside ",
        "--namespace own",
        "--set-string global.registry=r.test",
        "--set a.b=c",
        "--timeout 9s --wait",
    ] {
        assert!(said.contains(text), "{said}");
    }
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/ironside");
    for name in [
        "Chart.yaml",
        "templates/injector/webhook.yaml",
        "crds/accesscontrols.dapr.io.yaml",
    ] {
        let ours = fs::read_to_string(format!("{chart}/{name}")).unwrap();
        assert_eq!(cluster.world.read(&format!("says.chart/{name}")), ours);
    }
    let seen = run(&INIT, "it is full");
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr.contains("helm failed: no: it is full"),
        "{}",
        seen.stderr
    );
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "sh.helm.release.v1.ironside.v1", "namespace": "own",
            "labels": {"owner": "helm", "name": "ironside"}},
    }));
    let seen = run(&["uninstall", "-k", "-n", "own"], "");
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(
        cluster
            .world
            .read("says")
            .contains("uninstall ironside --namespace own --timeout 300s")
    );
}

/// Definitions change only once Helm has said, of the same chart and values, that the rest would.
#[test]
fn definitions_wait_for_helms_rehearsal() {
    let cluster = ClusterWorld::new();
    assert_eq!(cluster.alone(&INIT).code, Some(0));
    let helm = cluster.world.write(
        "bin/helm",
        "#!/bin/sh\necho \"$@\" >> \"$HELM_SAYS\"\ncase \"$*\" in *--dry-run=server*)\n  [ -z \"$HELM_FAILS\" ] || { echo \
         \"$HELM_FAILS\" >&2; exit 1; };;\nesac\n",
    );
    fs::set_permissions(&helm, fs::Permissions::from_mode(0o755)).unwrap();
    let says = cluster.world.path().join("says");
    let run = |fails: &str| {
        let words = ["upgrade", "-k", "-n", "own", "--runtime-version", "9"];
        let mut command = cluster.command(&[&words[..], &["--image-registry", "r.test"]].concat());
        command
            .env("PATH", helm.parent().unwrap())
            .env("HELM_SAYS", &says)
            .env("HELM_FAILS", fails);
        let before = cluster.api.all_seen().len();
        let seen = finish(&mut command);
        let writes = cluster.api.all_seen();
        let writes = writes.iter().skip(before);
        let writes = writes.filter(|seen| !matches!(seen.verb, "get" | "list"));
        (seen, writes.count())
    };
    let (seen, writes) = run("values are wrong");
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr.contains("helm failed: values are wrong"),
        "{}",
        seen.stderr
    );
    assert_eq!(writes, 0);
    assert_eq!(cluster.world.read("says").lines().count(), 1);
    let (seen, writes) = run("");
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert_eq!(writes, 5, "the definitions");
    let said = cluster.world.read("says");
    let said: Vec<&str> = said.lines().skip(1).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("--dry-run=server") && !said[1].contains("--dry-run"));
}
