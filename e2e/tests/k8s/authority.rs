//! An authority of the user's own: installed, replaced by the command under load, and not put back by an upgrade; and
//! sidecars whose environment knows only the withdrawn root come back after a crash. Decision 4; rows KH-13, KH-14.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ironside_e2e::k8s::{self, Helm, Machine, Place, Sample};
use ironside_e2e::wait;
use ironside_testkit::certs::{Ca, now};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, Secret};
use serde_json::json;

use crate::breaking::{CONTROL, Load, kubectl, reaches, webhook};
use crate::roots::SHORT;

/// A life of a leaf, and much patience.
const LIFE: Duration = Duration::from_secs(240);
/// Between two looks at something that takes a minute.
const STEP: Duration = Duration::from_millis(500);
/// What a sidecar tells of its certificate.
const LEAF_ENDS: &str = "mtls_workload_cert_expiry_timestamp";

/// An authority in files, as a user has it.
pub(crate) struct Authority {
    pub(crate) ca: Ca,
    folder: tempfile::TempDir,
}

impl Authority {
    /// One whose root ends after so many days.
    pub(crate) fn make(name: &str, days: u64) -> Result<Self> {
        let end = now() + Duration::from_secs(days * 86_400);
        let start = now() - Duration::from_secs(900);
        let builder = Ca::builder().name(name).root_valid(start, end);
        let ca = builder.issuer_valid(start, end).build();
        let folder = tempfile::tempdir().context("a folder")?;
        for (file, text) in [
            ("ca.crt", ca.root_pem()),
            ("issuer.crt", ca.issuer_pem()),
            ("issuer.key", ca.issuer_key_pem()),
        ] {
            fs::write(folder.path().join(file), text).context(file)?;
        }
        Ok(Self { ca, folder })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The values that install it.
    pub(crate) fn given(&self, helm: Helm) -> Helm {
        installed_from(helm, self.folder.path())
    }
}

/// The values that install the authority whose files lie in `folder`.
pub(crate) fn installed_from(helm: Helm, folder: &std::path::Path) -> Helm {
    helm.file("dapr_sentry.tls.root.certPEM", &folder.join("ca.crt"))
        .file("dapr_sentry.tls.issuer.certPEM", &folder.join("issuer.crt"))
        .file("dapr_sentry.tls.issuer.keyPEM", &folder.join("issuer.key"))
}

/// The Secret and the published roots are this authority's, and nothing else.
pub(crate) async fn holds(place: &Place, authority: &Ca) -> Result<()> {
    let control = place.beside(CONTROL);
    let secret = control.api::<Secret>().get("dapr-trust-bundle").await?;
    let data = secret.data.unwrap_or_default();
    for (file, want) in [
        ("ca.crt", authority.root_pem()),
        ("issuer.crt", authority.issuer_pem()),
        ("issuer.key", authority.issuer_key_pem()),
    ] {
        let found = data.get(file).with_context(|| format!("no {file}"))?;
        ensure!(
            same(&found.0, want.as_bytes()),
            "{file} of the Secret is another"
        );
    }
    let published = published(place).await.context("no roots are published")?;
    ensure!(
        same(published.as_bytes(), authority.root_pem().as_bytes()),
        "published: {published}"
    );
    Ok(())
}

/// Equal but for space at the ends.
fn same(one: &[u8], other: &[u8]) -> bool {
    one.trim_ascii() == other.trim_ascii()
}

async fn published(place: &Place) -> Option<String> {
    let maps = place.beside(CONTROL).api::<ConfigMap>();
    let map = maps.get("dapr-trust-bundle").await.ok()?;
    map.data?.remove("ca.crt")
}

/// `ironside mtls renew-certificate -k` with this authority's files: whether it succeeded, and what it said.
fn renew(place: &Place, authority: Option<&Authority>) -> Result<(bool, String)> {
    let mut command = place.cluster().ironside();
    command.args(["mtls", "renew-certificate", "-k"]);
    if let Some(authority) = authority {
        for (flag, file) in [
            ("--ca-root-certificate", "ca.crt"),
            ("--issuer-public-certificate", "issuer.crt"),
            ("--issuer-private-key", "issuer.key"),
        ] {
            command.arg(flag).arg(authority.path(file));
        }
    }
    let output = command.output().context("starting ironside")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// When the certificate of a sidecar ends.
async fn end(place: &Place, pod: &str) -> Option<f64> {
    let answer = place.get(pod, 9090, "/metrics").await.ok()?;
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    let line = text
        .lines()
        .find(|line| line.contains(LEAF_ENDS) && !line.starts_with('#'))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Waits until every sidecar of the namespace has another certificate than now.
async fn renewed(place: &Place) -> Result<()> {
    let mut ends = Vec::new();
    for pod in place.pods("").await? {
        let pod = pod.metadata.name.context("a pod has a name")?;
        let look = async || end(place, &pod).await;
        let value = place.until(&format!("figures of {pod}"), look).await?;
        ends.push((pod, value));
    }
    for (pod, before) in ends {
        let look = async || {
            tokio::time::sleep(STEP).await;
            (end(place, &pod).await? > before).then_some(())
        };
        wait::until(&format!("{pod} renews its certificate"), LIFE, look).await?;
    }
    Ok(())
}

/// Replaces one authority by the other as the guide says; no step may be taken too early.
async fn replace(place: &Place, old: &Authority, new: &Authority) -> Result<()> {
    let (ok, said) = renew(place, None)?;
    ensure!(!ok && said.contains("was supplied"), "{said}");

    let (ok, said) = renew(place, Some(new))?;
    ensure!(ok && said.contains("run this command again"), "{said}");
    let both = async || {
        let text = published(place).await?;
        let roots = [&old.ca, &new.ca].map(Ca::root_pem);
        let all = roots.iter().all(|root| text.contains(root.trim()));
        all.then_some(())
    };
    place.until("both roots are published", both).await?;
    let (ok, said) = renew(place, Some(new))?;
    ensure!(!ok && said.contains("run this command after"), "{said}");
    let signs = async || {
        tokio::time::sleep(STEP).await;
        let (ok, _said) = renew(place, Some(new)).ok()?;
        ok.then_some(())
    };
    wait::until("the new issuer may sign", LIFE, signs).await?;
    renewed(place).await?;

    let alone = BASE64_STANDARD.encode(new.ca.root_pem());
    let patch = json!({"data": {"ca.crt": alone}}).to_string();
    let secret = ["patch", "secret", "dapr-trust-bundle", "--type=merge"];
    kubectl(
        &place.beside(CONTROL),
        &[&secret[..], &["--patch", &patch]].concat(),
    )?;
    let published = async || holds(place, &new.ca).await.ok();
    place
        .until("the new root alone is published", published)
        .await?;
    let trusted = async || {
        let bundle = webhook(place).await.ok()?["webhooks"][0]["clientConfig"]["caBundle"].clone();
        let pem = BASE64_STANDARD.decode(bundle.as_str()?).ok()?;
        same(&pem, new.ca.root_pem().as_bytes()).then_some(())
    };
    place
        .until("the new root alone is the webhook's", trusted)
        .await?;
    // With the answer to that comes the new root alone.
    renewed(place).await
}

/// The status of a pod's sidecar.
fn sidecar(pod: &Pod) -> Option<&ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|container| container.name == "daprd")
}

/// Kills the sidecar's container of a pod whose environment knows one root alone, and waits for it to be ready again.
async fn kill(machine: &Machine, place: &Place, name: &str, knows: &Ca) -> Result<()> {
    let pod = place.api::<Pod>().get(name).await?;
    let text = serde_json::to_string(&pod.spec)?;
    let anchors = serde_json::to_string(knows.root_pem().trim())?;
    ensure!(
        text.contains(anchors.trim_matches('"')),
        "the environment of {name} has another root"
    );
    let before = sidecar(&pod).context("a sidecar")?;
    let id = before.container_id.as_deref().context("a container")?;
    let id = id.trim_start_matches("containerd://").to_owned();
    let count = before.restart_count;
    let task = ["ctr", "--namespace=k8s.io", "tasks", "kill"];
    machine.run(&[&task[..], &["--signal=SIGKILL", &id]].concat())?;
    let back = |pod: &Pod| sidecar(pod).is_some_and(|now| now.restart_count > count && now.ready);
    let what = format!("the sidecar of {name} is back");
    place.object(name, &what, k8s::PATIENCE, back).await?;
    Ok(())
}

/// What `ironside status -k` says of a root that ends soon.
async fn warned(place: &Place) -> Result<Option<String>> {
    let mut command = place.cluster().ironside();
    command.args(["status", "-k"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = output.context("starting ironside")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}");
    let is_it =
        |line: &&str| line.contains("Dapr root certificate of your Kubernetes cluster expires in");
    Ok(said.lines().find(is_it).map(str::to_owned))
}

async fn replaced(machine: &Machine, place: &Place) -> Result<()> {
    let old = Authority::make("old", 20)?;
    let new = Authority::make("new", 40)?;
    let helm = old.given(Helm::new(place.cluster()));
    helm.install(&SHORT)?;
    holds(place, &old.ca).await?;
    ensure!(warned(place).await?.is_some(), "no warning of 20 days");
    let load = Load::start(place).await?;
    let caller = load.pod().to_owned();
    replace(place, &old, &new).await?;
    load.goes_on().await?;
    load.end("the user's authority replaced").await?;
    let warned = warned(place).await?;
    ensure!(warned.is_none(), "{warned:?}");

    for pod in place.pods("").await? {
        let name = pod.metadata.name.context("a pod has a name")?;
        kill(machine, place, &name, &old.ca).await?;
    }
    reaches(place, &caller, "callee").await?;

    // The values of the release still name the old one.
    helm.install(&[&SHORT[..], &["dapr_operator.logLevel=debug"]].concat())?;
    holds(place, &new.ca).await?;
    place.start(&Sample::with_sidecar("late")).await?;
    reaches(place, &place.pod("app=late").await?, "callee").await?;
    reaches(place, &caller, "late").await
}

/// Decision 4, KH-13, KH-14, CL-84, CL-86: no call fails while the user's authority is replaced by
/// `renew-certificate -k`; pods that were started with the withdrawn root survive the crash of their sidecar; an upgrade
/// does not put the old one back.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn an_authority_of_the_users_own_is_replaced_and_stays() {
    let name = "authority::an_authority_of_the_users_own_is_replaced_and_stays";
    Box::pin(k8s::test_on_bare(name, replaced)).await;
}
