//! `init -k`, `upgrade -k`, `uninstall -k`: the control plane in a cluster.
//!
//! Owns the flags, the refusals and the sentences. With `helm` on the PATH the chart in this binary is handed to it;
//! without, the render that was made with the chart is applied by the API server itself, as a release that Helm can
//! take over later; once it has, only Helm may. Facts: cli-and-clients 1.17, kubernetes 5.7; decision 0009.

mod apply;
mod helm;
mod render;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::Session;
use crate::cluster::Cluster;
use crate::output;

/// The release, as Helm names it.
const RELEASE: &str = "ironside";
/// How long a wait may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is to be installed, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    namespace: String,
    registry: Option<String>,
    tag: Option<String>,
    /// None where nothing is said: what is installed stays, else the default.
    is_replicated: Option<bool>,
    /// As above.
    is_mutual: Option<bool>,
    /// Root, issuer and issuer key of the user's own.
    authority: Option<[String; 3]>,
    /// `--set`, for Helm alone.
    values: Vec<String>,
}

/// The chart's roles and their bindings, as it makes them by default; names of a cluster are stand-ins in them.
pub(crate) fn roles() -> anyhow::Result<Vec<serde_json::Value>> {
    render::roles()
}

/// Runs `init -k`.
pub(crate) async fn init(session: &Session) -> anyhow::Result<ExitCode> {
    let plan = Plan::of(session)?;
    if session.values.switch("dev") {
        bail!("--dev is refused: Ironside needs neither Redis nor Zipkin");
    }
    if session.values.switch("print") {
        let objects = render::objects(&plan)?;
        let texts = crate::chart::definitions().map(str::to_owned).map(Ok);
        let own = objects
            .iter()
            .map(|one| serde_yaml::to_string(one).context("writing YAML"));
        let all: Vec<String> = texts.chain(own).collect::<anyhow::Result<_>>()?;
        output::out(all.join("---\n").as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    session.status.pending("Making the jump to hyperspace...");
    session.status.info(&format!(
        "Deploying the Dapr control plane with {} version to your cluster...",
        plan.version()
    ));
    deploy(session, plan.clone(), session.values.switch("wait")).await?;
    session.status.success(&format!(
        "Success! Dapr has been installed to namespace {}. To verify, run `ironside status -k' in your terminal. To \
         get started, annotate a workload: ironside annotate --help",
        plan.namespace
    ));
    Ok(ExitCode::SUCCESS)
}

/// Runs `upgrade -k`.
pub(crate) async fn upgrade(session: &Session) -> anyhow::Result<ExitCode> {
    let plan = Plan::of(session)?;
    let cluster = Cluster::of(session).await?;
    ensure!(
        apply::is_installed(&cluster, &plan.namespace).await?,
        "there is no control plane of Ironside in namespace {}: ironside init -k installs one",
        plan.namespace
    );
    if let Some(helm) = helm::find(session) {
        apply::refuse_foreign(&cluster, &plan.namespace).await?;
        // Helm leaves definitions alone after the first time; they change only if the rest can.
        helm::rehearse(&helm, &plan, place(session))?;
        define(session, &cluster).await?;
    }
    deploy(session, plan.clone(), true).await?;
    session.status.success(&format!(
        "Dapr control plane successfully upgraded to version {}. To have apps follow, restart their workloads.",
        plan.version()
    ));
    Ok(ExitCode::SUCCESS)
}

async fn deploy(session: &Session, mut plan: Plan, waits: bool) -> anyhow::Result<()> {
    let limit = limit(session);
    if let Some(helm) = helm::find(session) {
        return helm::install(&helm, &plan, place(session), waits.then_some(limit));
    }
    ensure!(
        plan.values.is_empty(),
        "--set needs helm on the PATH: without it the chart is applied as it was rendered when this program was \
         built, with --namespace, --image-registry, --runtime-version, --enable-ha, --enable-mtls and the three files \
         of an authority as its only values"
    );
    // What needs no cluster is refused without one.
    render::objects(&plan)?;
    let cluster = Cluster::of(session).await?;
    apply::refuse_foreign(&cluster, &plan.namespace).await?;
    refuse_release(&cluster, &plan.namespace).await?;
    apply::keep(&cluster, &mut plan).await?;
    define(session, &cluster).await?;
    apply::all(&cluster, &plan, &render::objects(&plan)?).await?;
    if waits {
        let wait = apply::ready(&cluster, &plan.namespace);
        let waited = tokio::time::timeout(limit, wait).await;
        let why = || {
            format!(
                "the control plane is not ready after {} s: ironside doctor -k",
                limit.as_secs()
            )
        };
        waited.with_context(why)??;
    }
    Ok(())
}

/// Brings the definitions of kinds to this version; says which are left alone.
async fn define(session: &Session, cluster: &Cluster) -> anyhow::Result<()> {
    for (name, version) in apply::define(cluster).await? {
        session.status.warning(&format!(
            "definition {name} is left alone: version {version} applied it, which is later than this one"
        ));
    }
    Ok(())
}

/// Only Helm knows the values of a release, and all of its objects.
async fn refuse_release(cluster: &Cluster, namespace: &str) -> anyhow::Result<()> {
    ensure!(
        !apply::is_release(cluster, namespace).await?,
        "the control plane in namespace {namespace} is Helm's release {RELEASE}, and helm is not on the PATH: without \
         it the values of the release would be lost, and objects that they made left behind"
    );
    Ok(())
}

/// Runs `uninstall -k`.
pub(crate) async fn uninstall(session: &Session) -> anyhow::Result<ExitCode> {
    session.status.info("Removing Dapr from your cluster...");
    match removed(session).await {
        Ok(()) => {
            session.status.success("Dapr has been removed successfully");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let text = format!("Error removing Dapr: {error:#}");
            session.status.failure(&text);
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn removed(session: &Session) -> anyhow::Result<()> {
    let namespace = namespace(session)?;
    let cluster = Cluster::of(session).await?;
    let takes_definitions = session.values.switch("all");
    if takes_definitions {
        apply::refuse_others(&cluster, &namespace).await?;
    }
    let is_release = apply::is_release(&cluster, &namespace).await?;
    let was_here = match helm::find(session).filter(|_| is_release) {
        Some(helm) => {
            helm::uninstall(&helm, &namespace, place(session), limit(session))?;
            true
        }
        None => {
            refuse_release(&cluster, &namespace).await?;
            let plan = Plan::bare(&namespace);
            let gone = apply::remove(&cluster, &namespace, &render::everything(&plan)?).await?;
            if gone == 0 {
                session.status.warning(&format!(
                    "there is no control plane of Ironside in namespace {namespace}"
                ));
            }
            gone > 0
        }
    };
    if takes_definitions {
        let (going, staying) = apply::parted(&cluster, was_here).await?;
        for name in staying {
            session.status.warning(&format!(
                "definition {name} stays, with its objects: no control plane of Ironside was here, and it may be \
                 another's"
            ));
        }
        for definition in going {
            let count = apply::stored(&cluster, &definition).await?;
            let name = definition.metadata.name.unwrap_or_default();
            if count > 0 {
                session
                    .status
                    .warning(&format!("{name} goes with {count} objects"));
            }
            apply::remove_definition(&cluster, &name).await?;
        }
    }
    Ok(())
}

/// The cluster, as the flags name it.
fn place(session: &Session) -> (Option<&str>, Option<&str>) {
    let values = &session.values;
    (values.text("kubeconfig"), values.text("context"))
}

fn limit(session: &Session) -> Duration {
    let seconds = session.values.number("timeout");
    seconds.map_or(PATIENCE, |seconds| {
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    })
}

fn namespace(session: &Session) -> anyhow::Result<String> {
    let text = session.values.text("namespace").unwrap_or("dapr-system");
    let is_label = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_name = text.chars().all(is_label) && !text.starts_with('-') && !text.ends_with('-');
    ensure!(
        is_name && (1..=63).contains(&text.len()),
        "--namespace {text}: write lower-case letters, digits and hyphens, at most 63"
    );
    Ok(text.to_owned())
}

// === impl Plan ===

impl Plan {
    fn of(session: &Session) -> anyhow::Result<Self> {
        let values = &session.values;
        let text = |name: &str| values.text(name).filter(|text| !text.is_empty());
        let said = |name: &str| values.given(name).then(|| values.switch(name));
        for name in ["image-registry", "runtime-version"] {
            let is_name = |text: &str| {
                let is_known = |c: char| c.is_ascii_alphanumeric() || "._-/:".contains(c);
                text.chars().all(is_known)
            };
            ensure!(
                text(name).is_none_or(is_name),
                "--{name}: it cannot be a part of an image's name"
            );
        }
        if values.given("image-variant") {
            session
                .status
                .warning("--image-variant is ignored: there is one image");
        }
        Ok(Self {
            namespace: namespace(session)?,
            registry: text("image-registry").map(str::to_owned),
            tag: text("runtime-version")
                .filter(|tag| *tag != "latest")
                .map(str::to_owned),
            is_replicated: said("enable-ha"),
            is_mutual: said("enable-mtls"),
            authority: authority(session)?,
            values: values.texts("set"),
        })
    }

    /// What is enough to name all objects.
    fn bare(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            registry: Some("none".to_owned()),
            tag: None,
            is_replicated: None,
            is_mutual: None,
            authority: None,
            values: Vec::new(),
        }
    }

    /// Whether sidecars are to use mutual TLS.
    fn is_mutual(&self) -> bool {
        self.is_mutual.unwrap_or(true)
    }

    fn version(&self) -> &str {
        let own = ironside_chassis::build_info::VERSION;
        self.tag.as_deref().unwrap_or(own)
    }
}

/// The certificates of the user's own: all three files, or none.
fn authority(session: &Session) -> anyhow::Result<Option<[String; 3]>> {
    let flags = [
        "ca-root-certificate",
        "issuer-public-certificate",
        "issuer-private-key",
    ];
    let given = flags.map(|flag| session.values.text(flag).filter(|path| !path.is_empty()));
    let read =
        |path: &str| std::fs::read_to_string(path).with_context(|| format!("reading {path}"));
    match given {
        [None, None, None] => Ok(None),
        [Some(root), Some(issuer), Some(key)] => Ok(Some([read(root)?, read(issuer)?, read(key)?])),
        _ => bail!(
            "--ca-root-certificate, --issuer-public-certificate and --issuer-private-key belong together: give all three"
        ),
    }
}
