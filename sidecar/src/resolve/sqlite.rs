//! The `sqlite` resolver: sidecars that share a database file.
//!
//! Owns the renewal of the own row, the snapshot of the live rows that look-ups read, the periodic
//! cleanup and the report of a lost registration. All SQL is `store.rs`'s and runs on threads for
//! blocking work, driven by one control task. The database's namespace column stays empty, as in
//! the reference: look-ups go by app ID alone, and mutual TLS tells namespaces apart.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use ironside_chassis::clock::Clock;
use ironside_chassis::tasks::Tasks;
use ironside_identity::{AppId, Namespace};
use ironside_resolution::{Authority, pick};
use ironside_resources::GoDuration;
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::suspects::{Fault, Suspects};
use super::table::{Found, Table};
use super::{Instance, LOG, Loss, LostError, Resolve, ResolveError, ResolveFuture, Started};
use settings::{Settings, SettingsError};
use store::{Registration, Renewal, Store};

mod settings;
mod store;
#[cfg(test)]
mod tests;

const COMPONENT: &str = "nr (sqlite/v1)";
/// How old the snapshot of an app in use may get: a new replica is called within this time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The configuration.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The file or its tables.
    #[error("failed to open {path}: {cause}")]
    Open {
        /// Where the database should be.
        path: Box<str>,
        /// What SQLite says.
        cause: Arc<str>,
    },
    /// The own row.
    #[error("failed to register host: {0}")]
    Register(Arc<str>),
}

/// What look-ups read.
#[derive(Debug)]
struct Database {
    /// The table's key: the database knows no namespaces.
    any: Namespace,
    table: Table,
    suspects: Suspects,
    clock: Clock,
    patience: Duration,
    /// Look-ups that needed a newer snapshot, counted; the keeper serves them in batches.
    requests: AtomicU64,
    asked: Notify,
    served: watch::Sender<Served>,
}

/// The last snapshot that was asked for.
#[derive(Debug)]
struct Served {
    requests: u64,
    outcome: Result<(), Arc<str>>,
}

/// The control task's view.
struct Keeper {
    store: Blocking,
    database: Arc<Database>,
    own: Registration,
    settings: Settings,
    fresh_until: Duration,
}

/// The store, reached on threads for blocking work only.
#[derive(Clone)]
struct Blocking(Arc<std::sync::Mutex<Store>>);

/// Opens the database, enters this sidecar and keeps its row.
///
/// # Errors
/// [`OpenError`]: the settings, the file, the tables or the row.
pub(super) async fn start(
    configuration: &Value,
    instance: Instance,
    tasks: &Tasks,
    clock: &Clock,
) -> Result<Started, OpenError> {
    let settings = Settings::parse(configuration)?;
    let path = settings.path();
    if settings.is_in_memory() {
        warn!(target: LOG, component = COMPONENT, "the name resolution database is in memory: other apps cannot be found through it");
    } else {
        info!(target: LOG, component = COMPONENT, "Configuring SQLite name resolution with path {path}");
    }
    let store = Blocking::open(&settings).await?;
    let cleanup = GoDuration::from(settings.cleanup_interval);
    info!(target: LOG, component = COMPONENT, "Schedule expired data clean up every {cleanup}");
    let Instance {
        app_id, authority, ..
    } = instance;
    let now = unix_seconds(clock.now());
    let own = store
        .run(move |store| store.register(&app_id, &authority, now))
        .await
        .map_err(OpenError::Register)?;
    let database = Arc::new(Database::new(&settings, clock.clone()));
    let keeper = Keeper {
        store,
        database: database.clone(),
        own,
        settings,
        fresh_until: Duration::ZERO,
    };
    let (tell, told) = oneshot::channel();
    tasks.spawn("sqlite-names", keeper.run(tell, tasks.token()));
    Ok(Started {
        resolver: database,
        name: "sqlite",
        loss: Loss(Some(told)),
    })
}

// === impl Database ===

impl Database {
    fn new(settings: &Settings, clock: Clock) -> Self {
        Self {
            any: Namespace::default(),
            table: Table::new(),
            suspects: Suspects::default(),
            clock,
            patience: settings.timeout,
            requests: AtomicU64::new(0),
            asked: Notify::new(),
            served: watch::Sender::new(Served {
                requests: 0,
                outcome: Ok(()),
            }),
        }
    }

    /// A random row of the app in the last snapshot. Fact: 6.5.
    fn pick(&self, app: &AppId) -> Option<Authority> {
        let random = |addresses: &[Authority]| pick::random(addresses, &mut rand::rng()).cloned();
        self.table.choose(app, &self.any, random)
    }

    async fn look_up(&self, app: &AppId) -> Result<Authority, ResolveError> {
        let mut served = self.served.subscribe();
        let request = self
            .requests
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        self.asked.notify_one();
        let newer = served.wait_for(|served| served.requests >= request);
        let outcome = match timeout(self.patience, newer).await {
            Ok(Ok(served)) => served.outcome.clone(),
            Ok(Err(_closed)) => Err("the resolver has ended".into()),
            Err(_elapsed) => Err("context deadline exceeded".into()),
        };
        outcome.map_err(ResolveError::Database)?;
        self.pick(app).ok_or(ResolveError::NoHost)
    }

    fn publish(&self, rows: Vec<(AppId, Authority)>) {
        let now = self.clock.monotonic().since_start();
        let mut found = Found::new();
        let apps = found.entry(self.any.clone()).or_default();
        for (app, address) in rows {
            apps.entry(app).or_default().push(address);
        }
        self.table
            .publish(found, |turns| self.suspects.filter(turns, now));
    }
}

impl Resolve for Database {
    fn resolve<'a>(&'a self, app: &'a AppId, _: &'a Namespace) -> ResolveFuture<'a> {
        match self.pick(app) {
            Some(address) => Box::pin(ready(Ok(address))),
            None => Box::pin(self.look_up(app)),
        }
    }

    fn known(&self, app: &AppId, _: &Namespace) -> Option<Arc<[Authority]>> {
        self.table.all(app, &self.any)
    }

    fn failed(&self, authority: &Authority) {
        let now = self.clock.monotonic().since_start();
        if self.suspects.add(authority, Fault::Gone, now) {
            self.asked.notify_one();
        }
    }
}

// === impl Keeper ===

impl Keeper {
    async fn run(mut self, lost: oneshot::Sender<LostError>, stop: CancellationToken) {
        let mut renew = every(self.settings.renew_interval()).await;
        let mut clean_up = every(self.settings.cleanup_interval).await;
        let mut refresh = every(REFRESH_INTERVAL).await;
        let database = self.database.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = renew.tick() => if self.renew().await == Renewal::Lost {
                    // If nobody waits any more, the process ends anyway.
                    let _unheard = lost.send(LostError);
                    return;
                },
                _ = clean_up.tick() => self.clean_up().await,
                _ = refresh.tick() => self.refresh_if_used().await,
                () = database.asked.notified() => self.refresh().await,
            }
        }
        let own = self.own;
        if let Err(err) = self.store.run(move |store| store.deregister(&own)).await {
            warn!(target: LOG, component = COMPONENT, %err, "the row of this sidecar is left to expire");
        }
    }

    async fn renew(&self) -> Renewal {
        let (own, now) = (self.own.clone(), self.now());
        match self.store.run(move |store| store.renew(&own, now)).await {
            Ok(Renewal::Kept) => Renewal::Kept,
            Ok(Renewal::Lost) => {
                error!(target: LOG, component = COMPONENT, "Failed to update host registration: host registration lost");
                Renewal::Lost
            }
            Err(err) => {
                error!(target: LOG, component = COMPONENT, "Failed to update host registration: {err}");
                Renewal::Kept
            }
        }
    }

    async fn clean_up(&self) {
        let now = self.now();
        match self.store.run(move |store| store.clean_up(now)).await {
            Ok(0) => {}
            Ok(rows) => {
                info!(target: LOG, component = COMPONENT, "Removed {rows} expired rows");
            }
            Err(err) => {
                warn!(target: LOG, component = COMPONENT, %err, "expired rows cannot be removed");
            }
        }
    }

    /// A snapshot that nobody reads is dropped: the next look-up asks for a new one. A look-up that
    /// is under way subscribes until it has read, so it never finds the snapshot gone that it waited for.
    async fn refresh_if_used(&mut self) {
        let awaited = self.database.served.receiver_count() > 0;
        if self.database.table.take_asked().is_empty() && !awaited {
            self.database.publish(Vec::new());
        } else {
            self.refresh().await;
        }
    }

    async fn refresh(&mut self) {
        // Read before the rows: who asks later needs a later snapshot.
        let requests = self.database.requests.load(Ordering::Relaxed);
        let now = self.now();
        let outcome = match self.store.run(move |store| store.live(now)).await {
            Ok(rows) => {
                self.fresh_until = self.tick().saturating_add(self.settings.update_interval);
                self.database.publish(rows);
                Ok(())
            }
            Err(err) => {
                debug!(target: LOG, component = COMPONENT, %err, "the rows cannot be read");
                if self.tick() >= self.fresh_until {
                    self.database.publish(Vec::new());
                }
                Err(err)
            }
        };
        self.database
            .served
            .send_replace(Served { requests, outcome });
    }

    fn now(&self) -> i64 {
        unix_seconds(self.database.clock.now())
    }

    fn tick(&self) -> Duration {
        self.database.clock.monotonic().since_start()
    }
}

// === impl Blocking ===

impl Blocking {
    async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let to_open = settings.clone();
        let opened = off_thread(move || Store::open(&to_open)).await;
        let store = opened.map_err(|cause| OpenError::Open {
            path: settings.path().into(),
            cause,
        })?;
        Ok(Self(Arc::new(std::sync::Mutex::new(store))))
    }

    async fn run<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Store) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Arc<str>> {
        let store = self.0.clone();
        off_thread(move || {
            // SQLite rolls an interrupted statement back by itself.
            let store = store
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            act(&store)
        })
        .await
    }
}

async fn off_thread<T: Send + 'static>(
    act: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Arc<str>> {
    match tokio::task::spawn_blocking(act).await {
        Ok(result) => result.map_err(|err| err.to_string().into()),
        Err(err) => Err(err.to_string().into()),
    }
}

/// Ticks for the first time one period from now.
async fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    ticks
}

fn unix_seconds(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}
