//! Where an app listens: the resolvers, and which one the configuration names.
//!
//! Owns the seam [`Resolve`] between the data path and everything that finds addresses. Look-ups on
//! the data path read memory; files, sockets and the database belong to control tasks. Self-hosted
//! there are `mdns` (the default: registry folder and multicast DNS) and `sqlite`, in a cluster
//! `kubernetes`; the other names of the reference are refused with what to do instead. Stage 12, `resolve`.

use std::future::{Future, pending, ready};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use ironside_chassis::clock::Clock;
use ironside_chassis::tasks::Tasks;
use ironside_identity::{AppId, Namespace};
use ironside_resolution::Authority;
use ironside_resources::configuration::NameResolution;
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::warn;

use layers::Layers;
use multicast::{Multicast, Search};
use registry::{Announcement, Registry};

mod kubernetes;
mod layers;
mod multicast;
mod registry;
mod sqlite;
mod suspects;
mod table;
#[cfg(test)]
mod tests;
mod watcher;

/// The scope of log lines; that of the reference's components.
const LOG: &str = "dapr.contrib";
/// The default resolver in log lines.
const COMPONENT: &str = "nr (mdns/v1)";

/// The answer to a look-up, now or a little later.
pub(crate) type ResolveFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Authority, ResolveError>> + Send + 'a>>;

/// Finds out where the sidecar of an app listens.
pub(crate) trait Resolve: Send + Sync {
    /// One address of the app; each call may give another one.
    fn resolve<'a>(&'a self, app: &'a AppId, namespace: &'a Namespace) -> ResolveFuture<'a>;

    /// All addresses of the app, as far as they are known without waiting, those that failed a moment ago too;
    /// never empty. As long as they stay the same, it is the same value: callers compare it by its place.
    ///
    /// A resolver that does not know has its turns in [`Resolve::resolve`] alone.
    fn known(&self, app: &AppId, namespace: &Namespace) -> Option<Arc<[Authority]>> {
        let _ = (app, namespace);
        None
    }

    /// Nobody answers at an address that [`Resolve::resolve`] gave, or not who should.
    fn failed(&self, authority: &Authority) {
        let _ = authority;
    }

    /// A call to this address broke; somebody was there.
    fn broke(&self, authority: &Authority) {
        self.failed(authority);
    }

    /// The sidecar at this address told its callers to go elsewhere. It may still serve who knows no other.
    fn left(&self, authority: &Authority) {
        let _ = authority;
    }
}

/// What this sidecar tells the others about itself.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// The app behind it.
    pub(crate) app_id: AppId,
    /// The app's namespace.
    pub(crate) namespace: Namespace,
    /// Where its internal server can be reached: announced host and internal port.
    pub(crate) authority: Authority,
    /// The machine's name.
    pub(crate) host_name: Box<str>,
    /// The number of this process.
    pub(crate) pid: u32,
    /// Where this runs.
    pub(crate) surroundings: Surroundings,
}

/// Which resolver there is without a word of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Surroundings {
    /// A machine: `mdns`.
    Standalone,
    /// A cluster: `kubernetes`.
    Cluster {
        /// Its domain, if the start knows it.
        domain: Option<Box<str>>,
        /// Whether peers prove who they are.
        is_mtls: bool,
    },
}

/// Where the registry folder may lie.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    /// The user's own runtime folder, if the environment names one (`XDG_RUNTIME_DIR`).
    pub(crate) runtime_dir: Option<PathBuf>,
    /// The folder for temporary files.
    pub(crate) temp_dir: PathBuf,
}

/// A resolver in service. Its tasks end with the owner given to [`start`] and take back what they
/// told the others.
pub(crate) struct Started {
    /// Answers look-ups.
    pub(crate) resolver: Arc<dyn Resolve>,
    /// The name under which the reference logs it.
    pub(crate) name: &'static str,
    /// Tells when the sidecar must not go on.
    pub(crate) loss: Loss,
}

/// The end of a registration that another sidecar took over; most resolvers never have one.
#[derive(Debug)]
pub(crate) struct Loss(Option<oneshot::Receiver<LostError>>);

/// Another sidecar took this one's place in a registry: calls meant for one would reach the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Host registration lost")]
pub(crate) struct LostError;

/// Why there is no address. The texts are the reference's (error E5).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    /// Nobody answered the question that this look-up asked.
    #[error("couldn't find service: {0}")]
    NotFound(AppId),
    /// Nobody answered the question that this look-up waited for.
    #[error("timeout waiting for address for app id {0}")]
    NoAnswer(AppId),
    /// No row of the database fits.
    #[error("no host found with the given ID")]
    NoHost,
    /// The database did not answer.
    #[error("failed to look up address: {0}")]
    Database(Arc<str>),
    /// DNS of the cluster: no address, or no answer.
    #[error("failed to resolve address for '{name}': {why}")]
    InCluster {
        /// The name that was asked for.
        name: Arc<str>,
        /// What came of it.
        why: Arc<str>,
    },
    /// The resolver could not be started.
    #[error("{0}")]
    Unavailable(Arc<str>),
}

/// Why a resolver cannot be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The reference has it, this program not yet or not in this mode.
    #[error(
        "name resolution component {component:?} is not offered {why}: use \"mdns\" (the default) or \"sqlite\""
    )]
    NotOffered {
        /// What the configuration says.
        component: Box<str>,
        /// When it would be.
        why: &'static str,
    },
    /// No such component.
    #[error("name resolution component {0:?} is unknown: use \"mdns\" (the default) or \"sqlite\"")]
    Unknown(Box<str>),
    /// The database or its settings.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// DNS, or its settings.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::OpenError),
}

/// Starts the resolver that the configuration names, and announces this sidecar through it.
///
/// # Errors
/// [`StartError`]; the reference then goes on with a resolver that fails, see [`unavailable`].
pub(crate) async fn start(
    spec: Option<&NameResolution>,
    instance: Instance,
    folders: &Folders,
    tasks: &Tasks,
    clock: &Clock,
) -> Result<Started, StartError> {
    let component = spec.and_then(|spec| spec.component.as_deref());
    let component = component.unwrap_or_default();
    let version = spec.and_then(|spec| spec.version.as_deref());
    if !version.is_none_or(is_first_version) {
        let written = format!("{component}/{}", version.unwrap_or_default());
        return Err(StartError::Unknown(written.into()));
    }
    let configuration = spec.and_then(|spec| spec.configuration.as_ref());
    let configuration = configuration.unwrap_or(&Value::Null);
    let lowered = component.to_ascii_lowercase();
    let named = match (lowered.as_str(), &instance.surroundings) {
        ("", Surroundings::Standalone) => "mdns",
        ("", Surroundings::Cluster { .. }) => "kubernetes",
        (named, _) => named,
    };
    match (named, &instance.surroundings) {
        ("mdns", _) => Ok(start_layers(&instance, folders, tasks, clock)),
        ("sqlite", _) => Ok(sqlite::start(configuration, instance, tasks, clock).await?),
        ("kubernetes", Surroundings::Cluster { domain, is_mtls }) => {
            let domain = domain.as_deref();
            let cluster = kubernetes::Around {
                domain,
                port: instance.authority.port(),
                is_mtls: *is_mtls,
            };
            Ok(kubernetes::start(configuration, cluster, tasks, clock)?)
        }
        ("kubernetes", Surroundings::Standalone) => {
            Err(not_offered(component, "outside Kubernetes"))
        }
        ("consul" | "hashicorp.consul" | "nameformat" | "aws.cloudmap", _) => {
            Err(not_offered(component, "yet"))
        }
        (_, _) => Err(StartError::Unknown(component.into())),
    }
}

/// A resolver that answers every look-up with the reason why the real one could not be started.
pub(crate) fn unavailable(why: &StartError) -> Arc<dyn Resolve> {
    Arc::new(Unavailable(why.to_string().into()))
}

struct Unavailable(Arc<str>);

/// Every resolver has one version; the empty text stands for it.
fn is_first_version(version: &str) -> bool {
    version.is_empty() || version.eq_ignore_ascii_case("v1")
}

fn not_offered(component: &str, why: &'static str) -> StartError {
    StartError::NotOffered {
        component: component.into(),
        why,
    }
}

fn start_layers(instance: &Instance, folders: &Folders, tasks: &Tasks, clock: &Clock) -> Started {
    let (registry, own_entry) = enter_registry(instance, folders, clock);
    let search = Arc::new(Search::new(clock.clone()));
    let multicast = Multicast::new(instance, search.clone(), clock.clone());
    let layers = Arc::new(Layers::new(
        instance.namespace.clone(),
        registry,
        Some(search),
        clock.clone(),
    ));
    tasks.spawn("peers", layers.clone().run(own_entry, tasks.token()));
    tasks.spawn("mdns", multicast.run(tasks.token()));
    Started {
        resolver: layers,
        name: "mdns",
        loss: Loss(None),
    }
}

/// The first layer; without it the second one goes on alone.
fn enter_registry(
    instance: &Instance,
    folders: &Folders,
    clock: &Clock,
) -> (Option<Registry>, Option<Announcement>) {
    let uid = rustix::process::geteuid().as_raw();
    let path = registry::place(folders.runtime_dir.as_deref(), &folders.temp_dir, uid);
    let registry = match Registry::open(&path, uid, clock.clone()) {
        Ok(registry) => registry,
        Err(err) => {
            warn!(target: LOG, component = COMPONENT, %err, "the registry folder is not used, apps are found by multicast DNS only");
            return (None, None);
        }
    };
    let Instance {
        app_id,
        namespace,
        authority,
        ..
    } = instance.clone();
    let entry = registry.announce(namespace, app_id, authority);
    if let Err(err) = &entry {
        warn!(target: LOG, component = COMPONENT, %err, folder = %path.display(), "this sidecar cannot enter the registry folder");
    }
    (Some(registry), entry.ok())
}

// === impl ResolveError ===

impl ResolveError {
    fn not_found(app: &AppId) -> Self {
        Self::NotFound(app.clone())
    }

    fn no_answer(app: &AppId) -> Self {
        Self::NoAnswer(app.clone())
    }

    fn in_cluster(name: &str, why: &str) -> Self {
        Self::InCluster {
            name: name.into(),
            why: why.into(),
        }
    }
}

// === impl Loss ===

impl Loss {
    /// Waits for the loss; forever, if there is nothing to lose.
    pub(crate) async fn lost(self) -> LostError {
        match self.0 {
            Some(told) => match told.await {
                Ok(lost) => lost,
                Err(_nothing_more_to_lose) => pending().await,
            },
            None => pending().await,
        }
    }
}

// === impl Unavailable ===

impl Resolve for Unavailable {
    fn resolve<'a>(&'a self, _: &'a AppId, _: &'a Namespace) -> ResolveFuture<'a> {
        Box::pin(ready(Err(ResolveError::Unavailable(self.0.clone()))))
    }
}
