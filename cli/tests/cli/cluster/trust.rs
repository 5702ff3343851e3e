//! `mtls -k`: what the cluster says, the export, and rotations.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ironside_testkit::certs::Ca;
use ironside_testkit::kube::When;
use serde_json::{Value, json};

use super::ClusterWorld;
use crate::rig::{Running, until};

/// The Secret of an authority; of Sentry's own making if it has a state.
fn bundle(cluster: &ClusterWorld, ca: &Ca, is_own: bool) {
    let encode = |text: String| {
        let text = k8s_openapi::ByteString(text.into_bytes());
        serde_json::to_value(text).unwrap()
    };
    let mut data = json!({
        "ca.crt": encode(ca.root_pem()), "issuer.crt": encode(ca.issuer_pem()),
        "issuer.key": encode(ca.issuer_key_pem()),
    });
    if is_own {
        data["ca-state.json"] = encode("{}".to_owned());
    }
    cluster.put(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "dapr-trust-bundle", "namespace": "dapr-system"}, "data": data,
    }));
}

fn secret(cluster: &ClusterWorld) -> Value {
    let found = cluster
        .api
        .object("v1", "Secret", "dapr-system", "dapr-trust-bundle");
    found.unwrap()
}

fn text(secret: &Value, name: &str) -> String {
    let text: k8s_openapi::ByteString =
        serde_json::from_value(secret["data"][name].clone()).unwrap();
    String::from_utf8(text.0).unwrap()
}

/// CL-81: on, off, not installed.
#[test]
fn mutual_tls_is_on_off_or_not_installed() {
    let cluster = ClusterWorld::new();
    let seen = cluster.ironside(&["mtls", "-k"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("error checking mTLS: system configuration not found"),
        "{}",
        seen.stderr
    );
    for (mtls, word) in [
        (json!({"enabled": true}), "enabled"),
        (json!({"enabled": false}), "disabled"),
        (json!({}), "disabled"),
    ] {
        cluster.system(mtls);
        let seen = cluster.ironside(&["mtls", "-k"]);
        assert_eq!(
            seen.stdout,
            format!("Mutual TLS is {word} in your Kubernetes cluster\n")
        );
        assert_eq!(seen.code, Some(0));
    }
}

/// CL-82, CL-83: three files as in the Secret, and when the root ends; exit code 1 without a cluster.
#[test]
fn the_bundle_is_exported_and_its_end_is_told() {
    let cluster = ClusterWorld::new();
    let seen = cluster.ironside(&["mtls", "expiry", "-k"]);
    assert_eq!(seen.code, Some(1));
    let ca = Ca::new();
    bundle(&cluster, &ca, false);
    cluster.roots(&ca.root_pem());
    let seen = cluster.ironside(&["mtls", "export", "-k", "-o", "certs"]);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let stored = secret(&cluster);
    for name in ["ca.crt", "issuer.crt", "issuer.key"] {
        let copy = format!("certs/{name}");
        assert_eq!(cluster.world.read(&copy), text(&stored, name));
        let mode = fs::metadata(cluster.world.path().join(&copy)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
    let seen = cluster.ironside(&["mtls", "expiry", "-k"]);
    assert!(
        seen.stdout
            .starts_with("Root certificate expires in 8759 hours. Expiry date: "),
        "{}",
        seen.stdout
    );
}

/// CL-85: Sentry is asked, and does it; nothing but the wish is written.
#[test]
fn sentry_is_asked_for_a_rotation() {
    let cluster = ClusterWorld::new();
    bundle(&cluster, &Ca::new(), true);
    let words = [
        "mtls",
        "renew-certificate",
        "-k",
        "--valid-until",
        "20",
        "--restart",
    ];
    let mut running = Running::start(&mut cluster.command(&words));
    until("the wish", crate::rig::LONG, || {
        let secret = secret(&cluster);
        secret["metadata"]["annotations"]["dapr.io/rotate-request"]
            .is_string()
            .then_some(())
    });
    for name in ["dapr-sentry", "dapr-sidecar-injector", "dapr-operator"] {
        cluster.put(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "dapr-system"},
        }));
    }
    let mut taken = secret(&cluster);
    taken["metadata"]["annotations"] = json!({});
    cluster.put(taken);
    assert_eq!(running.end().code(), Some(0), "{}", running.stderr());
    let said = running.stdout();
    for text in [
        "Certificate rotation is successful! Your new certificate is valid through ",
        "--valid-until is ignored",
        "Restart begun: dapr-sentry, dapr-sidecar-injector, dapr-operator",
    ] {
        assert!(said.contains(text), "{said}");
    }
    let sentry = cluster
        .api
        .object("apps/v1", "Deployment", "dapr-system", "dapr-sentry")
        .unwrap();
    let at = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
    assert!(sentry.pointer(at).is_some(), "{sentry}");
}

/// CL-86: an authority of the user's own comes in two steps; a missing file is refused before anything is written.
#[test]
fn an_own_authority_comes_in_two_steps() {
    let cluster = ClusterWorld::new();
    let (old, new) = (Ca::new(), Ca::new());
    bundle(&cluster, &old, false);
    let seen = cluster.ironside(&["mtls", "rnc", "-k"]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("certificate rotation failed: this certificate authority was supplied"),
        "{}",
        seen.stderr
    );
    cluster.world.write("root.pem", &new.root_pem());
    cluster.world.write("issuer.pem", &new.issuer_pem());
    cluster.world.write("key.pem", &new.issuer_key_pem());
    let words = [
        "mtls",
        "rnc",
        "-k",
        "--ca-root-certificate",
        "root.pem",
        "--issuer-public-certificate",
        "issuer.pem",
        "--issuer-private-key",
        "key.pem",
    ];
    let seen = cluster.ironside(&words[..7]);
    assert_eq!(seen.code, Some(1));
    assert!(
        seen.stderr
            .contains("certificate rotation failed: --ca-root-certificate, "),
        "{}",
        seen.stderr
    );
    let patches = When::new("patch", "secrets");
    assert_eq!(cluster.api.seen(&patches).len(), 0);

    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    let stored = secret(&cluster);
    assert!(text(&stored, "ca.crt").contains(new.root_pem().trim()));
    assert!(text(&stored, "ca.crt").contains(old.root_pem().trim()));
    assert_eq!(text(&stored, "issuer.crt"), old.issuer_pem());

    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(1), "it is too early");
    assert!(
        seen.stderr.contains("run this command after "),
        "{}",
        seen.stderr
    );
    let mut later = secret(&cluster);
    later["metadata"]["annotations"]["dapr.io/root-added"] = json!("2026-01-01T00:00:00Z");
    cluster.put(later);
    let seen = cluster.ironside(&words);
    assert_eq!(seen.code, Some(0), "{}", seen.stderr);
    assert!(seen.stdout.contains("Certificate rotation is successful!"));
    let stored = secret(&cluster);
    assert_eq!(text(&stored, "issuer.crt"), new.issuer_pem());
    assert_eq!(text(&stored, "issuer.key"), new.issuer_key_pem());
    assert!(text(&stored, "ca.crt").contains(old.root_pem().trim()));
}
