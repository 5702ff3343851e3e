//! The public keys of token issuers: fetched when they are first needed, kept, fetched again.
//!
//! Owns the cache: one [`KeySet`] for each place, shared by handlers and surviving reloads. A key that is not
//! in the set makes one more fetch, but no more than one in [`RETRY`], so that tokens with invented key IDs
//! cost nothing. A fetch is bounded in time and size; a failed one keeps what is there.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Uri, header, uri::InvalidUri};
use http_body_util::{BodyExt as _, Limited};
use ironside_chassis::{
    Clock, Tick,
    tasks::{Group, Tasks},
};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use tracing::warn;

use crate::{body, outbound::external::verifying_client};

/// Age at which a set is fetched anew.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// Time between two fetches that an unknown key may cause.
const RETRY: Duration = Duration::from_secs(30);
/// Time one fetch may take, redirect to the key set included.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest document that is read; real key sets have a few kilobytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// Where a key set lies, as it was written.
pub(super) enum Location {
    /// The key set itself.
    Jwks(Result<Uri, InvalidUri>),
    /// An issuer, whose OpenID configuration names the key set.
    Issuer(Result<Uri, InvalidUri>),
}

/// The key sets of this process.
#[derive(Clone)]
pub(crate) struct KeySource {
    tasks: Group,
    clock: Clock,
    sets: Arc<Mutex<HashMap<Place, Arc<KeySet>>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Jwks(Uri),
    Discovery(Uri),
}

/// The keys at one place.
pub(super) struct KeySet {
    place: Place,
    tasks: Group,
    clock: Clock,
    known: Mutex<Known>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct Known {
    keys: Arc<Vec<Jwk>>,
    fetched: Option<Tick>,
}

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no TLS version is available")]
    NoTls,
    #[error("took longer than {LIMIT:?}")]
    Slow,
    #[error("answered {0}")]
    Status(http::StatusCode),
    #[error("{0}")]
    Http(#[from] http::Error),
    #[error("{0}")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("{0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    #[error("names a key set that is no URL: {0}")]
    Uri(#[from] InvalidUri),
}

/// What matters of an OpenID configuration.
#[derive(serde::Deserialize)]
struct Discovery {
    jwks_uri: String,
}

// === impl KeySource ===

impl KeySource {
    /// An empty cache; `tasks` owns the connections of fetches.
    pub(crate) fn new(tasks: &Tasks, clock: &Clock) -> Self {
        Self {
            tasks: tasks.group("key-fetch"),
            clock: clock.clone(),
            sets: Arc::default(),
        }
    }

    /// The key set at `location`; nothing is fetched yet.
    pub(super) fn at(&self, location: Location) -> Result<Arc<KeySet>, String> {
        let place = location.place()?;
        // A map of shared sets is valid after any interrupted change.
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let set = sets.entry(place.clone()).or_insert_with(|| {
            Arc::new(KeySet {
                place,
                tasks: self.tasks.clone(),
                clock: self.clock.clone(),
                known: Mutex::default(),
                fetching: tokio::sync::Mutex::default(),
            })
        });
        Ok(Arc::clone(set))
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").finish_non_exhaustive()
    }
}

// === impl Location ===

impl Location {
    fn place(self) -> Result<Place, String> {
        let (uri, discovery) = match self {
            Self::Jwks(uri) => (uri, false),
            Self::Issuer(uri) => (uri, true),
        };
        let uri = uri.map_err(|cause| cause.to_string())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("{uri} is no http:// or https:// URL"));
        }
        if !discovery {
            return Ok(Place::Jwks(uri));
        }
        let base = uri.to_string();
        let document = format!(
            "{}/.well-known/openid-configuration",
            base.trim_end_matches('/')
        );
        document
            .parse()
            .map(Place::Discovery)
            .map_err(|cause: InvalidUri| cause.to_string())
    }
}

// === impl KeySet ===

impl KeySet {
    /// The key with this ID; without one, the only key of the set.
    pub(super) async fn find(&self, id: Option<&str>) -> Option<Jwk> {
        let known = self.known();
        let now = self.clock.monotonic();
        let age = known.fetched.map(|at| now - at);
        let found = pick(&known.keys, id);
        match (found, age) {
            (Some(key), Some(age)) if age < FRESH => Some(key),
            (None, Some(age)) if age < RETRY => None,
            (_, _) => {
                self.refresh(known.fetched).await;
                pick(&self.known().keys, id)
            }
        }
    }

    /// Fetches, unless somebody else has done so since `seen`.
    async fn refresh(&self, seen: Option<Tick>) {
        let _turn = self.fetching.lock().await;
        if self.known().fetched != seen {
            return;
        }
        let fetched = tokio::time::timeout(LIMIT, self.fetch())
            .await
            .unwrap_or(Err(FetchError::Slow));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.fetched = Some(self.clock.monotonic());
        match fetched {
            Ok(keys) => known.keys = Arc::new(keys),
            Err(cause) => {
                warn!(target: "dapr.runtime.http", "keys of bearer tokens: {} {cause}", self.place.uri())
            }
        }
    }

    fn known(&self) -> Known {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn fetch(&self) -> Result<Vec<Jwk>, FetchError> {
        let url = match &self.place {
            Place::Jwks(url) => url.clone(),
            Place::Discovery(document) => {
                let discovery: Discovery = serde_json::from_slice(&self.get(document).await?)?;
                discovery.jwks_uri.parse()?
            }
        };
        let set: JwkSet = serde_json::from_slice(&self.get(&url).await?)?;
        Ok(set.keys)
    }

    async fn get(&self, url: &Uri) -> Result<bytes::Bytes, FetchError> {
        let client = verifying_client(&self.tasks)
            .await
            .ok_or(FetchError::NoTls)?;
        let request = Request::get(url.clone())
            .header(header::ACCEPT, "application/json")
            .body(body::empty())?;
        let response = client.request(request).await?;
        if !response.status().is_success() {
            return Err(FetchError::Status(response.status()));
        }
        let read = Limited::new(response.into_body(), MAX_DOCUMENT)
            .collect()
            .await;
        read.map(http_body_util::Collected::to_bytes)
            .map_err(FetchError::Body)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

// === impl Place ===

impl Place {
    fn uri(&self) -> &Uri {
        match self {
            Self::Jwks(uri) | Self::Discovery(uri) => uri,
        }
    }
}

fn pick(keys: &[Jwk], id: Option<&str>) -> Option<Jwk> {
    match (id, keys) {
        (Some(id), keys) => keys
            .iter()
            .find(|key| key.common.key_id.as_deref() == Some(id))
            .cloned(),
        (None, [only]) => Some(only.clone()),
        (None, _) => None,
    }
}
