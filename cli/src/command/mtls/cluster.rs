//! `mtls -k`: the certificate authority of a cluster.
//!
//! Reads the system configuration, the trust bundle that everybody may read, and its Secret for an export. A rotation
//! is a wish that Sentry answers; an authority of the user's own takes its place in two runs of the command, so that
//! every sidecar knows the new root before anything is signed below it. Facts: cli-and-clients 1.14, security 1.8.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use ironside_identity::TrustBundle;
use ironside_resources::GoDuration;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Session, exported, instant, told_expiry};
use crate::cluster::control_plane::{self, BUNDLE, rfc1123, roots_end};
use crate::cluster::{Cluster, failed};
use crate::output;

/// The annotation whose presence asks Sentry for a rotation.
const REQUEST: &str = "dapr.io/rotate-request";
/// When a root of the user's own was added to the bundle.
const ADDED: &str = "dapr.io/root-added";
/// Sentry's state, in a bundle that is its own.
const STATE: &str = "ca-state.json";
/// The files of a bundle.
const FILES: [&str; 3] = ["ca.crt", "issuer.crt", "issuer.key"];
/// How often a wish is looked at.
const STEP: Duration = Duration::from_millis(500);
/// How long certificates of workloads live, if nothing is said (security 1.5).
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// What `--restart` restarts.
const PROGRAMS: [&str; 3] = ["dapr-sentry", "dapr-sidecar-injector", "dapr-operator"];

/// `mtls -k`.
pub(super) async fn show(session: &Session, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let system = control_plane::system(cluster);
    let Some(system) = system.await.context("error checking mTLS")? else {
        bail!("error checking mTLS: system configuration not found");
    };
    let enabled = system.data.pointer("/spec/mtls/enabled");
    let enabled = enabled.and_then(Value::as_bool).unwrap_or(false);
    let is_json = match session.values.text("output") {
        None | Some("table") => false,
        Some("json") => true,
        Some(_) => bail!("An invalid output format was specified."),
    };
    if is_json {
        let namespace = system.metadata.namespace.unwrap_or_default();
        let roots = control_plane::roots(cluster, &namespace).await?;
        let ends = roots.as_ref().and_then(roots_end).map(instant);
        let value = json!({"enabled": enabled, "namespace": namespace, "rootsEnd": ends});
        output::line(&serde_json::to_string_pretty(&value).context("writing JSON")?);
    } else {
        let word = if enabled { "enabled" } else { "disabled" };
        output::line(&format!("Mutual TLS is {word} in your Kubernetes cluster"));
    }
    control_plane::warn_of_end(session, cluster, is_json).await;
    Ok(ExitCode::SUCCESS)
}

/// `mtls expiry -k`.
pub(super) async fn expiry(session: &Session, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let namespace = control_plane::namespace(cluster).await;
    let roots = control_plane::roots(cluster, &namespace).await?;
    let ends = roots.as_ref().and_then(roots_end);
    let none = || format!("the ConfigMap {namespace}/{BUNDLE} has no root yet: is Sentry running?");
    told_expiry(session, ends.with_context(none)?);
    Ok(ExitCode::SUCCESS)
}

/// `mtls export -k`.
pub(super) async fn export(session: &Session, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let namespace = control_plane::namespace(cluster).await;
    let secret = held(cluster, &namespace).await?;
    let files: Vec<(&str, &[u8])> = FILES
        .iter()
        .map(|name| Ok((*name, file(&secret, name)?)))
        .collect::<anyhow::Result<_>>()?;
    exported(session, &files)?;
    control_plane::warn_of_end(session, cluster, false).await;
    Ok(ExitCode::SUCCESS)
}

/// `mtls renew-certificate -k`.
pub(super) async fn renew(session: &Session, cluster: &Cluster) -> anyhow::Result<ExitCode> {
    let done = renewed(session, cluster).await;
    done.context("certificate rotation failed")?;
    Ok(ExitCode::SUCCESS)
}

async fn renewed(session: &Session, cluster: &Cluster) -> anyhow::Result<()> {
    let namespace = control_plane::namespace(cluster).await;
    let secret = held(cluster, &namespace).await?;
    let values = &session.values;
    for (flag, why) in [
        (
            "valid-until",
            "the life of an authority is Sentry's --ca-ttl",
        ),
        ("private-key", "Sentry makes its own keys"),
        ("image-variant", "no images are used"),
    ] {
        if values.given(flag) {
            session
                .status
                .warning(&format!("--{flag} is ignored: {why}"));
        }
    }
    match own_files(session)? {
        Some(files) => replace(session, cluster, &namespace, &secret, &files).await?,
        None => ask(session, cluster, &namespace, &secret).await?,
    }
    if values.switch("restart") {
        restart(session, cluster, &namespace).await?;
    }
    Ok(())
}

/// Has Sentry replace what it made.
async fn ask(
    session: &Session,
    cluster: &Cluster,
    namespace: &str,
    secret: &Secret,
) -> anyhow::Result<()> {
    let is_own = file(secret, STATE).is_ok();
    ensure!(
        is_own,
        "this certificate authority was supplied, so Sentry does not replace it: give all of --ca-root-certificate, \
         --issuer-public-certificate and --issuer-private-key"
    );
    patch(
        cluster,
        namespace,
        json!({"metadata": {"annotations": {REQUEST: "now"}}}),
    )
    .await?;
    let seconds = session.values.number("timeout").unwrap_or(300);
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    let answered = tokio::time::timeout(limit, answered(cluster, namespace)).await;
    let Ok(answered) = answered else {
        bail!("no Sentry has answered within {seconds} s; it begins as soon as one runs");
    };
    let bundle = TrustBundle::from_pem(file(&answered?, "ca.crt")?)?;
    succeeded(session, roots_end(&bundle));
    session.status.info(
        "The new root is in every answer of Sentry from now on, and signs after one life of a certificate; nothing \
         needs to be restarted.",
    );
    Ok(())
}

async fn answered(cluster: &Cluster, namespace: &str) -> anyhow::Result<Secret> {
    loop {
        let secret = held(cluster, namespace).await?;
        if annotation(&secret, REQUEST).is_none() {
            return Ok(secret);
        }
        tokio::time::sleep(STEP).await;
    }
}

/// The files that the user brings: all three, or none.
fn own_files(session: &Session) -> anyhow::Result<Option<[Vec<u8>; 3]>> {
    let flags = [
        "ca-root-certificate",
        "issuer-public-certificate",
        "issuer-private-key",
    ];
    let given = flags.map(|flag| session.values.text(flag).filter(|path| !path.is_empty()));
    if given.iter().all(Option::is_none) {
        return Ok(None);
    }
    let [Some(root), Some(issuer), Some(key)] = given else {
        bail!(
            "--ca-root-certificate, --issuer-public-certificate and --issuer-private-key belong together: give all three"
        );
    };
    let read =
        |path: &str| std::fs::read(Path::new(path)).with_context(|| format!("reading {path}"));
    Ok(Some([read(root)?, read(issuer)?, read(key)?]))
}

/// Puts an authority of the user's own in place, in two runs: its root first, its issuer a certificate's life later.
async fn replace(
    session: &Session,
    cluster: &Cluster,
    namespace: &str,
    secret: &Secret,
    [root, issuer, key]: &[Vec<u8>; 3],
) -> anyhow::Result<()> {
    let new = TrustBundle::from_pem(root).context("--ca-root-certificate")?;
    let chain = ironside_identity::pem::certificates(issuer);
    chain.context("--issuer-public-certificate")?;
    ironside_identity::pem::private_key(key).context("--issuer-private-key")?;
    let old = TrustBundle::from_pem(file(secret, "ca.crt")?)
        .with_context(|| format!("ca.crt of the Secret {namespace}/{BUNDLE}"))?;
    let is_known = new
        .anchors()
        .iter()
        .all(|anchor| old.anchors().iter().any(|held| held.der() == anchor.der()));
    let now = session.clock.now();
    if !is_known {
        let both = ByteString(old.merge(&new).to_pem().into_bytes());
        let change = json!({
            "metadata": {"annotations": {ADDED: instant(now)}}, "data": {"ca.crt": both},
        });
        patch(cluster, namespace, change).await?;
        let due = instant(now + life(cluster).await);
        session.status.success(&format!(
            "The new root is in the trust bundle beside the old one. So that no call fails, its issuer takes over \
             later: run this command again after {due}, when every sidecar has renewed."
        ));
        return Ok(());
    }
    let added = annotation(secret, ADDED).and_then(|text| text.parse::<Timestamp>().ok());
    let due = match added {
        Some(added) => SystemTime::from(added) + life(cluster).await,
        None => now,
    };
    ensure!(
        due <= now,
        "sidecars that know only the old root may still be running: run this command after {}",
        instant(due)
    );
    let change = json!({
        "metadata": {"annotations": {ADDED: null}},
        "data": {"issuer.crt": ByteString(issuer.clone()), "issuer.key": ByteString(key.clone())},
    });
    patch(cluster, namespace, change).await?;
    succeeded(session, roots_end(&new));
    session.status.info(&format!(
        "Take the old root out of ca.crt of the Secret {namespace}/{BUNDLE} after {}.",
        instant(now + life(cluster).await)
    ));
    Ok(())
}

fn succeeded(session: &Session, end: Option<SystemTime>) {
    let end = end.map(rfc1123).unwrap_or_default();
    session.status.success(&format!(
        "Certificate rotation is successful! Your new certificate is valid through {end}"
    ));
}

/// How long the certificate of a workload lives.
async fn life(cluster: &Cluster) -> Duration {
    let system = control_plane::system(cluster).await.ok().flatten();
    let text = system.as_ref().and_then(|system| {
        let text = system.data.pointer("/spec/mtls/workloadCertTTL")?;
        text.as_str()
    });
    text.and_then(|text| text.parse::<GoDuration>().ok())
        .and_then(|life| life.to_std())
        .unwrap_or(LIFE)
}

/// Begins the restart of the control plane; its pods are replaced one by one, as its Deployments say.
async fn restart(session: &Session, cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(cluster.client(), namespace);
    let now = instant(session.clock.now());
    let change = json!({"spec": {"template": {"metadata": {"annotations": {
        "kubectl.kubernetes.io/restartedAt": now,
    }}}}});
    for program in PROGRAMS {
        let done = api
            .patch(program, &PatchParams::default(), &Patch::Merge(&change))
            .await;
        done.map_err(|error| failed(&error))
            .with_context(|| format!("cannot restart the Deployment {namespace}/{program}"))?;
    }
    session
        .status
        .success(&format!("Restart begun: {}", PROGRAMS.join(", ")));
    Ok(())
}

async fn held(cluster: &Cluster, namespace: &str) -> anyhow::Result<Secret> {
    let secret = control_plane::secret(cluster, namespace).await?;
    secret.with_context(|| {
        format!("the Secret {namespace}/{BUNDLE} does not exist: is the control plane installed?")
    })
}

async fn patch(cluster: &Cluster, namespace: &str, change: Value) -> anyhow::Result<()> {
    let api: Api<Secret> = Api::namespaced(cluster.client(), namespace);
    let done = api
        .patch(BUNDLE, &PatchParams::default(), &Patch::Merge(&change))
        .await;
    done.map(drop)
        .map_err(|error| failed(&error))
        .with_context(|| format!("cannot write the Secret {namespace}/{BUNDLE}"))
}

fn annotation<'a>(secret: &'a Secret, name: &str) -> Option<&'a str> {
    let all = secret.metadata.annotations.as_ref()?;
    all.get(name).map(String::as_str)
}

fn file<'a>(secret: &'a Secret, name: &str) -> anyhow::Result<&'a [u8]> {
    let data = secret.data.as_ref().and_then(|data| data.get(name));
    let found = data.map(|text| text.0.as_slice());
    found
        .filter(|text| !text.is_empty())
        .with_context(|| format!("the Secret {BUNDLE} has no {name}: has Sentry run yet?"))
}
