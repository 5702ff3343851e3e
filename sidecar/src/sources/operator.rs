//! The operator's objects in place of files: asked for at the start, followed for as long as the process lives.
//!
//! Owns the task that holds the connection, what the operator said last ([`State`]), and what is logged of a
//! connection that is lost; what was said stays. Nothing is judged or put in force here: the reloader does that,
//! which sees each new state as it sees an edit of a file. Source: kubernetes 3.9, 3.10.

use std::{sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use ironside_chassis::tasks::{Group, Tasks};
use ironside_identity::{Namespace, renewal::Backoff};
use ironside_transport::TlsClient;
use rand::{SeedableRng as _, rngs::SmallRng};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::cluster::{Kind, Object, Objects};
use crate::config::KubernetesConfig;

mod link;
mod session;

use link::Link;
use session::{Follower, Heard, Lost};

/// Scope of these lines.
const LOG: &str = "dapr.runtime.operator";
/// What may wait to be taken in.
const QUEUE: usize = 64;

/// What the operator said last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    /// All objects.
    pub(crate) objects: Arc<Objects>,
    /// Kinds of which all objects were told at least once.
    arrived: Vec<Kind>,
    /// The operator says that the Configuration is not there.
    pub(crate) is_missing: bool,
    /// There is a connection.
    pub(crate) is_connected: bool,
}

/// What the task is made with.
pub(crate) struct Parts {
    /// Whom to ask, and for what.
    pub(crate) config: KubernetesConfig,
    /// Of the own app.
    pub(crate) namespace: Namespace,
    /// Proves who is there.
    pub(crate) tls: TlsClient,
    /// How often objects are listed where no snapshot says that a stream is complete.
    pub(crate) relist: Duration,
}

/// The task.
pub(crate) struct Source {
    parts: Parts,
    connections: Group,
    state: watch::Sender<State>,
    backoff: Backoff,
    rng: SmallRng,
    /// The last complaint, so that each is said once.
    told: Option<String>,
    /// Kinds of which it was said that changes are not told.
    untold: Vec<Kind>,
}

// === impl State ===

impl State {
    /// True once all objects of every kind were told.
    pub(crate) fn is_complete(&self) -> bool {
        Kind::ALL.iter().all(|kind| self.arrived.contains(kind))
    }

    /// True once all objects of this kind were told.
    pub(crate) fn has_told(&self, kind: Kind) -> bool {
        self.arrived.contains(&kind)
    }

    /// Some objects, while more are to be told.
    #[cfg(test)]
    pub(crate) fn partly(objects: Objects) -> Self {
        Self {
            objects: Arc::new(objects),
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(crate) fn of(objects: Objects) -> Self {
        Self {
            objects: Arc::new(objects),
            arrived: Kind::ALL.to_vec(),
            ..Self::default()
        }
    }

    fn arrive(&mut self, kind: Kind) {
        if !self.arrived.contains(&kind) {
            self.arrived.push(kind);
        }
    }
}

// === impl Source ===

impl Source {
    /// Prepares the task; connections belong to `tasks`.
    pub(crate) fn new(parts: Parts, tasks: &Tasks) -> (Self, watch::Receiver<State>) {
        let (state, states) = watch::channel(State::default());
        let source = Self {
            connections: tasks.group("operator-connection"),
            state,
            backoff: Backoff::stream(),
            rng: SmallRng::from_os_rng(),
            told: None,
            untold: Vec::new(),
            parts,
        };
        (source, states)
    }

    /// Keeps the connection until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let lost = tokio::select! {
                () = stop.cancelled() => return,
                lost = self.connected() => lost,
            };
            self.state.send_modify(|state| state.is_connected = false);
            let pause = self.lost(&lost);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Connects and takes in what is heard, until there is no more; says why.
    async fn connected(&mut self) -> String {
        let Parts {
            config,
            namespace,
            tls,
            relist,
        } = &self.parts;
        let dialled = Link::dial(tls, config, namespace.as_str(), &self.connections).await;
        let link = match dialled {
            Ok(link) => link,
            Err(cause) => return cause.to_string(),
        };
        let (sender, mut heard) = mpsc::channel(QUEUE);
        let (configuration, relist) = (config.configuration.clone(), *relist);
        let follower = |kind, pause| {
            let follower = Follower {
                link: link.clone(),
                kind,
                configuration: configuration.clone(),
                heard: sender.clone(),
                relist,
            };
            async move {
                tokio::time::sleep(pause).await;
                let ended = follower.link.clone();
                let lost = follower.run().await;
                // One loss of the connection, not one for each kind: the pause would grow with each.
                (lost, ended.has_ended().await)
            }
        };
        let at_once = |kind| follower(kind, Duration::ZERO);
        let mut followers: FuturesUnordered<_> = Kind::ALL.into_iter().map(at_once).collect();
        loop {
            let (lost, is_over) = tokio::select! {
                // What was said before the end counts.
                biased;
                Some(heard) = heard.recv() => {
                    self.take(heard);
                    continue;
                }
                Some(ended) = followers.next() => ended,
            };
            let Lost { kind, status } = lost;
            let cause = match status {
                Some(status) => format!("{kind}: {:?}: {}", status.code(), status.message()),
                None => format!("{kind}: the operator ended the stream"),
            };
            if is_over {
                return cause;
            }
            // One kind that cannot be had is no reason to leave the others alone.
            let pause = self.lost(&cause);
            followers.push(follower(kind, pause));
        }
    }

    fn take(&mut self, heard: Heard) {
        match heard {
            Heard::All(kind, objects) => self.replace(kind, &objects),
            Heard::Changed(kind, object) => self.change(kind, &object),
            Heard::Gone(kind, object) => self.remove(kind, &object),
            Heard::Missing => self.missing(),
            Heard::Untold(kind) => self.untold(kind),
        }
        if !self.state.borrow().is_complete() {
            return;
        }
        self.backoff.reset();
        let was_connected = self.state.borrow().is_connected;
        if !was_connected {
            self.state.send_modify(|state| state.is_connected = true);
            self.told = None;
            info!(target: LOG, "connected to the operator at {}", self.parts.config.operator_address);
        }
    }

    fn replace(&self, kind: Kind, objects: &[bytes::Bytes]) {
        let read = objects.iter().filter_map(|bytes| self.read(kind, bytes));
        let read: Vec<Object> = read.collect();
        self.update(|state| {
            state.arrive(kind);
            let all = Arc::make_mut(&mut state.objects);
            all.retain(|(its, _), _| *its != kind);
            all.extend(
                read.into_iter()
                    .map(|object| ((kind, object.name.clone()), object)),
            );
        });
    }

    fn change(&self, kind: Kind, bytes: &[u8]) {
        let Some(object) = self.read(kind, bytes) else {
            return;
        };
        self.update(|state| {
            if kind == Kind::Configuration {
                state.arrive(kind);
                state.is_missing = false;
            }
            let all = Arc::make_mut(&mut state.objects);
            all.insert((kind, object.name.clone()), object);
        });
    }

    fn remove(&self, kind: Kind, bytes: &[u8]) {
        let Some(object) = self.read(kind, bytes) else {
            return;
        };
        if kind == Kind::Configuration {
            return self.missing();
        }
        self.update(|state| {
            Arc::make_mut(&mut state.objects).remove(&(kind, object.name));
        });
    }

    /// The Configuration is not there, or no longer. What was in force stays: nobody said what to allow instead.
    fn missing(&self) {
        let (was_missing, has_arrived) = {
            let state = self.state.borrow();
            let has_arrived = state.arrived.contains(&Kind::Configuration);
            (state.is_missing, has_arrived)
        };
        if was_missing {
            return;
        }
        let name = self.parts.config.configuration.as_deref();
        let name = name.unwrap_or_default();
        if has_arrived {
            warn!(target: LOG, "configuration {name} is gone: what it said stays in force until there is one of that name again");
        } else {
            warn!(target: LOG, "error loading configuration: configuration {name} not found; create it in this app's namespace, or correct the annotation dapr.io/config; waiting for it");
        }
        self.state.send_modify(|state| state.is_missing = true);
    }

    fn untold(&mut self, kind: Kind) {
        if !self.untold.contains(&kind) {
            self.untold.push(kind);
            let relist = self.parts.relist;
            info!(target: LOG, "the operator does not tell of changes of {kind}: they are asked for every {relist:?}");
        }
    }

    /// An object of ours; of Configurations only the own one counts (KL-05).
    fn read(&self, kind: Kind, bytes: &[u8]) -> Option<Object> {
        let object = match Object::read(kind, bytes) {
            Ok(object) => object,
            Err(cause) => {
                warn!(target: LOG, "the operator sent a {kind} that cannot be read: {cause}");
                return None;
            }
        };
        let own = self.parts.config.configuration.as_deref();
        (kind != Kind::Configuration || own == Some(&*object.name)).then_some(object)
    }

    /// Changes the state; wakes nobody if nothing differs.
    fn update(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = state.clone();
            change(state);
            *state != before
        });
    }

    /// Says that there is no connection, once for each reason; returns how long to wait.
    fn lost(&mut self, cause: &str) -> Duration {
        let pause = self.backoff.pause(&mut self.rng);
        let address = &self.parts.config.operator_address;
        if self.told.as_deref() == Some(cause) {
            debug!(target: LOG, "the operator at {address}: {cause}");
            return pause;
        }
        let rest = if self.state.borrow().is_complete() {
            "what it said last stays in force"
        } else {
            "it has not said everything yet"
        };
        warn!(target: LOG, "cannot follow the operator at {address}: {cause}; {rest}, trying again in {pause:.1?}");
        self.told = Some(cause.to_owned());
        pause
    }
}
