//! The `kubernetes` resolver: an app's headless Service, asked for through DNS.
//!
//! Owns the table that look-ups read and its keeper: apps in use are asked for again twice a second, because the
//! reference's 20 s cache sends calls to pods that are gone; those at rest less often, and then forgotten. A server
//! that does not answer takes nothing away. An address at which a connection failed, or that told its callers to go,
//! is passed over at once, and its app asked for again. The library is hickory's: the system's own look-up tells
//! neither failure from absence nor can it be asked on the control thread without threads of its own.
//! Stage 12, `resolve`. Source: service-invocation 6.2, kubernetes 3.4.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ironside_chassis::{clock::Clock, tasks::Tasks};
use ironside_identity::{AppId, Namespace};
use ironside_resolution::{
    Authority,
    cluster::{DEFAULT_DOMAIN, Pattern, PatternError, Place, PlaceError},
};
use serde_json::Value;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    Loss, Resolve, ResolveError, ResolveFuture, Started,
    suspects::{Fault, Suspects},
    table::Table,
};
use dns::{Ask, Dns};
use keeper::{BELIEF, BELIEF_IN_PROOF, Keeper};

mod dns;
mod keeper;
#[cfg(test)]
mod tests;

/// How long a look-up waits for its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Look-ups that wait for the keeper's attention.
const QUEUE: usize = 1024;
/// Addresses whose failure is not looked after yet.
const MAX_FAILED: usize = 1024;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// A value of the configuration.
    #[error("{key}: {value} is not {expected}")]
    Value {
        /// Which.
        key: &'static str,
        /// What was written.
        value: Box<str>,
        /// What is allowed.
        expected: &'static str,
    },
    /// The template.
    #[error(transparent)]
    Template(#[from] PatternError),
    /// The system's own settings.
    #[error("{0}")]
    System(Arc<str>),
}

/// An app, as the table knows it.
type Key = (Namespace, AppId);

/// What came of a look-up, besides the table.
type Told = oneshot::Sender<Result<(), ResolveError>>;

/// A look-up that found nothing in the table.
struct Question {
    key: Key,
    place: Place,
    told: Told,
}

/// What look-ups read.
struct Kubernetes {
    pattern: Pattern,
    /// The own internal port, which is that of all sidecars.
    port: u16,
    /// How long addresses count that DNS has forgotten.
    belief: Duration,
    table: Table,
    suspects: Suspects,
    /// Addresses that failed and were not looked after yet.
    failed: Mutex<Vec<(Authority, Fault)>>,
    hurry: Notify,
    questions: mpsc::Sender<Question>,
    clock: Clock,
}

/// What the configuration says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    pattern: Pattern,
    servers: Vec<SocketAddr>,
}

/// What the start knows.
pub(super) struct Around<'a> {
    /// The cluster's domain.
    pub(super) domain: Option<&'a str>,
    /// The own internal port.
    pub(super) port: u16,
    /// Whether peers prove who they are.
    pub(super) is_mtls: bool,
}

/// Starts the resolver.
///
/// # Errors
/// [`OpenError`].
pub(super) fn start(
    configuration: &Value,
    around: Around<'_>,
    tasks: &Tasks,
    clock: &Clock,
) -> Result<Started, OpenError> {
    let Settings { pattern, servers } = Settings::parse(configuration, around.domain)?;
    let dns = Dns::new(&servers).map_err(OpenError::System)?;
    let dns = Arc::new(dns);
    let belief = if around.is_mtls {
        BELIEF_IN_PROOF
    } else {
        BELIEF
    };
    let resolver = run(pattern, around.port, dns, belief, tasks, clock);
    Ok(Started {
        resolver,
        name: "kubernetes",
        loss: Loss(None),
    })
}

fn run(
    pattern: Pattern,
    port: u16,
    dns: Arc<dyn Ask>,
    belief: Duration,
    tasks: &Tasks,
    clock: &Clock,
) -> Arc<Kubernetes> {
    let (questions, asked) = mpsc::channel(QUEUE);
    let resolver = Arc::new(Kubernetes {
        pattern,
        port,
        belief,
        table: Table::new(),
        suspects: Suspects::default(),
        failed: Mutex::default(),
        hurry: Notify::new(),
        questions,
        clock: clock.clone(),
    });
    let keeper = Keeper::new(Arc::clone(&resolver), dns, asked);
    tasks.spawn("names", keeper.run(tasks.token()));
    resolver
}

// === impl Settings ===

impl Settings {
    fn parse(configuration: &Value, domain: Option<&str>) -> Result<Self, OpenError> {
        let found = |wanted: &str| {
            let map = configuration.as_object()?;
            let mut keys = map.iter();
            keys.find(|(key, value)| key.eq_ignore_ascii_case(wanted) && !value.is_null())
                .map(|(_, value)| value)
        };
        let text = |key: &'static str| match found(key) {
            None => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(wrong(key, other, "a text")),
        };
        let domain = text("clusterDomain")?.or(domain).unwrap_or(DEFAULT_DOMAIN);
        let pattern = match text("template")? {
            Some(template) => Pattern::parse(template)?,
            None => Pattern::services(domain),
        };
        let servers = text("nameservers")?.unwrap_or_default();
        let servers = servers.split(',').map(str::trim);
        let servers = servers.filter(|text| !text.is_empty()).map(|text| {
            let bare = text.parse().map(|ip| SocketAddr::new(ip, 53));
            let address = bare.or_else(|_| text.parse());
            address.map_err(|_syntax| {
                wrong(
                    "nameservers",
                    &text.into(),
                    "a list of IP addresses, each with or without port",
                )
            })
        });
        let servers = servers.collect::<Result<_, _>>()?;
        Ok(Self { pattern, servers })
    }
}

fn wrong(key: &'static str, value: &Value, expected: &'static str) -> OpenError {
    OpenError::Value {
        key,
        value: value.to_string().into(),
        expected,
    }
}

// === impl Kubernetes ===

impl Kubernetes {
    async fn look_up(&self, app: &AppId, namespace: &Namespace) -> Result<Authority, ResolveError> {
        let place = self
            .pattern
            .place(app, namespace, self.port)
            .map_err(|cause| nowhere(app, namespace, &cause))?;
        let name: Box<str> = place.shown().into();
        let (told, outcome) = oneshot::channel();
        let question = Question {
            key: (namespace.clone(), app.clone()),
            place,
            told,
        };
        let asked = async {
            let closed = || ResolveError::in_cluster(&name, "the resolver has ended");
            self.questions
                .send(question)
                .await
                .map_err(|_closed| closed())?;
            outcome.await.unwrap_or_else(|_closed| Err(closed()))
        };
        let late = |_| ResolveError::in_cluster(&name, "i/o timeout");
        tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(late)??;
        let found = self.table.pick(app, namespace);
        found.ok_or_else(|| ResolveError::in_cluster(&name, NO_HOST))
    }
}

/// What is said of a name without addresses.
const NO_HOST: &str = "no such host";

fn nowhere(app: &AppId, namespace: &Namespace, cause: &PlaceError) -> ResolveError {
    ResolveError::in_cluster(&format!("{app}.{namespace}"), &cause.to_string())
}

impl Resolve for Kubernetes {
    fn resolve<'a>(&'a self, app: &'a AppId, namespace: &'a Namespace) -> ResolveFuture<'a> {
        match self.table.pick(app, namespace) {
            Some(address) => Box::pin(std::future::ready(Ok(address))),
            None => Box::pin(self.look_up(app, namespace)),
        }
    }

    fn known(&self, app: &AppId, namespace: &Namespace) -> Option<Arc<[Authority]>> {
        self.table.all(app, namespace)
    }

    fn failed(&self, authority: &Authority) {
        self.suspect(authority, Fault::Gone);
    }

    fn broke(&self, authority: &Authority) {
        self.suspect(authority, Fault::Broke);
    }

    fn left(&self, authority: &Authority) {
        // Any connection that ended says so; whoever is gone is not there for the next one.
        self.broke(authority);
    }
}

impl Kubernetes {
    fn suspect(&self, authority: &Authority, fault: Fault) {
        let now = self.clock.monotonic().since_start();
        // Many calls may fail at once: the first one looks after the matter.
        if !self.suspects.add(authority, fault, now) {
            return;
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() < MAX_FAILED {
            failed.push((authority.clone(), fault));
        }
        drop(failed);
        self.hurry.notify_one();
    }

    fn take_failed(&self) -> Vec<(Authority, Fault)> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *failed)
    }

    /// Puts these addresses in the table; those that failed a moment ago get no turn.
    fn publish(&self, addresses: HashMap<Key, Vec<Authority>>) {
        let now = self.clock.monotonic().since_start();
        let mut found = super::table::Found::new();
        for ((namespace, app), addresses) in addresses {
            found.entry(namespace).or_default().insert(app, addresses);
        }
        self.table
            .publish(found, |turns| self.suspects.filter(turns, now));
    }
}
