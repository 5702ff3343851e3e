//! How the program starts in a cluster: rows K057 and K058, and fact O-S14.

use crate::rig::{Cluster, NAMESPACE, Pod, claim, healthz, until};
use crate::support::Sentry;
use ironside_identity::pem;
use ironside_testkit::certs::now;
use ironside_testkit::kube::When;
use serde_json::json;
use std::time::Duration;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Fact: security.md K057. Who is not root sees the second half; the first one is also a test of the flags.
#[test]
fn root_is_refused_unless_it_is_allowed() {
    let cluster = Cluster::new();
    let mut command = cluster.command(&[]);
    command.env_remove("DAPR_UNSAFE_SKIP_CONTAINER_UID_GID_CHECK");
    let mut sentry = Sentry::spawn(command, &std::env::temp_dir());
    if rustix::process::geteuid().is_root() {
        assert_eq!(sentry.exit_code(), Some(1));
        sentry.line("Invalid options: mode kubernetes refuses to run as root (uid 0)");
    } else {
        sentry.line("Running gRPC server on port ");
    }
    let allowed = cluster.spawn(&[]);
    allowed.line("Running gRPC server on port ");
}

#[test]
fn a_namespace_is_needed() {
    let cluster = Cluster::new();
    let mut command = cluster.command(&[]);
    command.env_remove("NAMESPACE");
    let mut sentry = Sentry::spawn(command, &std::env::temp_dir());
    assert_eq!(sentry.exit_code(), Some(1));
    sentry.line("mode kubernetes needs the namespace of the control plane: set NAMESPACE");
}

/// Fact: security.md K058, 1.7 step 1.
#[tokio::test]
async fn nobody_is_served_before_the_cluster_is_known() {
    for resource in ["pods", "configurations", "serviceaccounts"] {
        let cluster = Cluster::new();
        let token = cluster.run(&Pod::default());
        let hold = cluster.server.hold(When::new("list", resource));
        let sentry = cluster.spawn(&[]);
        sentry.line("Running gRPC server on port ");
        assert_eq!(healthz(&sentry).await, 503, "{resource}");
        if resource == "pods" {
            let asked = claim("shop", "orders", &token);
            cluster.refused(&sentry, asked, "validator not ready").await;
            assert_eq!(healthz(&sentry).await, 503, "{resource}");
        }
        hold.release();
        until("health", async || healthz(&sentry).await == 200).await;
        let asked = claim("shop", "orders", &token);
        assert!(cluster.ask(&sentry, asked).await.is_ok());
    }
}

/// A right that is missing is told, and waited for.
#[tokio::test]
async fn a_missing_right_is_told() {
    let cluster = Cluster::new();
    let when = When::new("list", "serviceaccounts");
    cluster
        .server
        .inject(when, ironside_testkit::kube::Fault::Status(403), 1);
    let sentry = cluster.spawn(&[]);
    sentry.line("Cannot watch objects of kind ServiceAccount, trying again");
    until("health", async || healthz(&sentry).await == 200).await;
    sentry.line("Watching objects of kind ServiceAccount again");
}

/// Fact: security.md O-S14, 1.13: the Configuration of the control plane.
#[tokio::test]
async fn the_configuration_is_read_through_the_api() {
    let cluster = Cluster::new();
    let mtls = json!({"mtls": {
        "enabled": true, "sentryAddress": "a:443", "controlPlaneTrustDomain": "cluster.local",
        "workloadCertTTL": "2h", "allowedClockSkew": "1m"}});
    cluster.configure(NAMESPACE, "daprsystem", mtls);
    let sentry = cluster.sentry(&[]).await;
    let token = cluster.run(&Pod::default());
    let before = now();
    let mut client = cluster.client(&sentry).await;
    let answer = client.sign(claim("shop", "orders", &token)).await.unwrap();
    let chain = pem::certificates(&answer.workload_certificate).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let span = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert_eq!(span, 2 * 3600 + 60);
    assert!(before + Duration::from_secs(7100) < now() + Duration::from_secs(7200));
}

/// Fact: security.md O-S14.
#[tokio::test]
async fn only_a_named_configuration_must_exist() {
    let cluster = Cluster::new();
    let sentry = cluster.sentry(&[]).await;
    sentry.line("No configuration given and no Configuration \\\"daprsystem\\\" found");
    let mut named = cluster.spawn(&["--config", "mine"]);
    assert_eq!(named.exit_code(), Some(1));
    named.line("loading default config. couldn't find config name \\\"mine\\\": there is no such Configuration");
    cluster.configure(
        NAMESPACE,
        "mine",
        json!({"mtls": {"workloadCertTTL": "1s"}}),
    );
    let mut short = cluster.spawn(&["--config", "mine"]);
    assert_eq!(short.exit_code(), Some(1));
    short.line("invalid spec.mtls.workloadCertTTL: 1s is less than");
}

#[test]
fn a_cluster_that_nobody_names_is_an_error() {
    let cluster = Cluster::new();
    let folder = tempfile::tempdir().unwrap();
    let mut command = cluster.command(&["--kubeconfig", "/none/config"]);
    command.env_remove("HOME");
    let mut sentry = Sentry::spawn(command, folder.path());
    assert_eq!(sentry.exit_code(), Some(1));
    sentry.line("no cluster: not in a pod");
    sentry.line("kubeconfig /none/config");
}
