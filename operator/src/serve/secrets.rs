//! Secrets that objects name, read when they are needed (decision 11, kubernetes 3.8).
//!
//! Owns that nothing of them is kept: a Secret is read for each answer, once for all who ask at the same moment, so
//! that a change is seen at the next call and a thousand streams are one request. An object whose secrets cannot be
//! read is left out; an Event on it and a counter say so.

use crate::cluster::{CallError, Calls, Place};
use crate::index::objects::{API_VERSION, Stored};
use crate::index::secret_refs::{self, FillError, SecretData};
use crate::metrics::Metrics;
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use ironside_chassis::{Clock, Tick};
use ironside_cluster::{Kind as EventKind, News, Recorder, Subject};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tracing::warn;

/// Secrets that are read at once.
const MAX_READS: usize = 16;
/// The same trouble of the same object is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Troubles that are remembered.
const MAX_TOLD: usize = 4096;
/// The value of the chart that lets the operator read Secrets of a namespace.
const VALUE: &str = "dapr_operator.secretResolution.namespaces";

/// Why an object is left out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(transparent)]
    Fill(#[from] FillError),
    #[error("Secret {name:?} cannot be read: {cause}")]
    Read {
        name: Box<str>,
        cause: Arc<CallError>,
    },
    #[error(
        "the operator may not read Secrets of this namespace: add it to the chart's value {VALUE}, or use a secret \
         store of the sidecar; it wanted Secret {name:?}"
    )]
    Forbidden { name: Box<str> },
}

type Answer = Result<Option<Arc<SecretData>>, Arc<CallError>>;
type Read = Shared<BoxFuture<'static, Answer>>;
type Name = (Arc<str>, Box<str>);

/// Reads secrets.
pub(crate) struct Secrets {
    calls: Calls,
    clock: Clock,
    metrics: Metrics,
    recorder: Recorder,
    slots: Arc<Semaphore>,
    under_way: Mutex<HashMap<Name, WeakShared<BoxFuture<'static, Answer>>>>,
    told: Mutex<HashMap<(Box<str>, String), Tick>>,
}

// === impl Secrets ===

impl Secrets {
    pub(crate) fn new(calls: Calls, clock: Clock, metrics: Metrics, recorder: Recorder) -> Self {
        Self {
            calls,
            clock,
            metrics,
            recorder,
            slots: Arc::new(Semaphore::new(MAX_READS)),
            under_way: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Returns the object with its secrets in it.
    ///
    /// # Errors
    /// [`SecretError`] if one cannot be had; that has been told on the object.
    pub(crate) async fn resolve(&self, stored: &Stored) -> Result<Bytes, SecretError> {
        // Most objects name none, and are handed out as they are.
        let Ok(mut object) = serde_json::from_slice::<Value>(&stored.json) else {
            return Ok(stored.json.clone());
        };
        let names = secret_refs::names(stored.kind, &mut object);
        if names.is_empty() {
            return Ok(stored.json.clone());
        }
        let mut secrets = HashMap::new();
        let mut trouble = None;
        for name in names {
            match self.read(&stored.namespace, &name).await {
                Ok(Some(secret)) => {
                    secrets.insert(name, secret);
                }
                Ok(None) => {}
                Err(cause) if cause.is_forbidden() => {
                    trouble = Some(SecretError::Forbidden { name });
                    break;
                }
                Err(cause) => {
                    trouble = Some(SecretError::Read { name, cause });
                    break;
                }
            }
        }
        let filled = match trouble {
            Some(trouble) => Err(trouble),
            None => secret_refs::fill(stored.kind, &mut object, &secrets).map_err(Into::into),
        };
        match filled {
            Ok(()) => Ok(object.to_string().into()),
            Err(trouble) => {
                self.tell(stored, &trouble);
                Err(trouble)
            }
        }
    }

    async fn read(&self, namespace: &Arc<str>, name: &str) -> Answer {
        if !super::authz::is_name(name) {
            // No Secret is called so.
            return Ok(None);
        }
        self.share((Arc::clone(namespace), name.into())).await
    }

    /// Joins the read that is under way, or begins one.
    fn share(&self, name: Name) -> Read {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = under_way.get(&name).and_then(WeakShared::upgrade);
        if let Some(known) = known.filter(|known| known.peek().is_none()) {
            return known;
        }
        under_way.retain(|_, read| read.upgrade().is_some());
        let (calls, slots) = (self.calls.clone(), Arc::clone(&self.slots));
        let (namespace, secret) = name.clone();
        let read = async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            let read = calls.get(Place::SECRETS, Some(&namespace), &secret).await;
            let data = |secret: Value| Arc::new(SecretData::of(&secret));
            read.map(|secret| secret.map(data)).map_err(Arc::new)
        };
        let read = read.boxed().shared();
        if let Some(weak) = read.downgrade() {
            under_way.insert(name, weak);
        }
        read
    }

    /// Says once in a while why an object is left out.
    fn tell(&self, stored: &Stored, trouble: &SecretError) {
        self.metrics.count_secret_failure();
        let now = self.clock.monotonic();
        let key = (stored.uid.clone(), trouble.to_string());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.get(&key).is_some_and(|at| now - *at < TELL_AGAIN) {
            return;
        }
        if told.len() >= MAX_TOLD {
            told.retain(|_, at| now - *at < TELL_AGAIN);
        }
        if told.len() < MAX_TOLD {
            told.insert(key, now);
        }
        drop(told);
        let (kind, namespace, name) = (stored.kind.as_str(), &stored.namespace, &stored.name);
        warn!(target: super::SCOPE, "{kind} {namespace}/{name} is not handed out: {trouble}");
        let subject = Subject {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_string(),
            name: name.to_string(),
            uid: stored.uid.to_string(),
        };
        self.recorder.tell(
            subject,
            News {
                kind: EventKind::Warning,
                reason: "SecretNotResolved",
                action: "Resolve",
                note: format!("not handed out to sidecars: {trouble}"),
            },
        );
    }
}
