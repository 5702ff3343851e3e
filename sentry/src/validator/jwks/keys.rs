//! The keys that tokens may be signed with: read or fetched, and read or fetched again.
//!
//! Owns the cache. A file is followed, and a bad change keeps the old keys; a URL is fetched until it answers once,
//! and then again when a key is missing, at most once in the interval, so that invented key IDs cost nothing; a text
//! in the configuration stays as it is. A fetch is bounded in time and size.

use super::options::{JwksOptions, Source};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioTimer;
use ironside_chassis::health::Target;
use ironside_chassis::tasks::Group;
use ironside_chassis::{Clock, Tick};
use ironside_transport::{FileWatch, provider};
use jsonwebtoken::jwk::Jwk;
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{error, info, warn};

/// The logger of this part.
const SCOPE: &str = "dapr.sentry.validator.jwks";
/// A file counts as written after this pause.
const SETTLE: Duration = Duration::from_millis(500);
/// Pause between fetches until the first one has succeeded.
const RETRY: Duration = Duration::from_secs(5);
/// Largest set that is read; real ones have a few kilobytes.
const MAX_SET: usize = 1 << 20;

type Keys = HashMap<String, Arc<Jwk>>;

/// The keys of one source.
#[derive(Debug)]
pub(crate) struct KeySet {
    options: JwksOptions,
    clock: Clock,
    /// Owns the connections of fetches.
    tasks: Group,
    known: Mutex<Known>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<Keys>,
    fetched: Option<Tick>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("cannot read the key set: {0}")]
    Read(#[from] std::io::Error),
    #[error("the key set is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the key set holds no key that can be used: a key needs a \"kid\" and a known kind")]
    Empty,
    #[error("the roots for the key set cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    #[error("the key set was not there within {0:?}")]
    Slow(Duration),
    #[error("the server of the key set answered {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Http(#[from] http::Error),
    #[error("cannot fetch the key set: {0}")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("cannot fetch the key set: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// A set as it is written; keys of unknown kinds are left out one by one.
#[derive(Deserialize)]
struct WrittenSet {
    keys: Vec<serde_json::Value>,
}

// === impl KeySet ===

impl KeySet {
    /// Reads the set, if it is a text or a file; a URL is fetched by [`Self::follow`].
    ///
    /// # Errors
    /// [`KeyError`] for a text or a file that holds no keys.
    pub(crate) fn open(
        options: JwksOptions,
        clock: Clock,
        tasks: Group,
    ) -> Result<Arc<Self>, KeyError> {
        let keys = match &options.source {
            Source::Url { .. } => None,
            Source::File(path) => Some(parse(&std::fs::read(path)?)?),
            Source::Inline(text) => Some(parse(text)?),
        };
        Ok(Arc::new(Self {
            options,
            clock,
            tasks,
            known: Mutex::new(Known {
                keys,
                fetched: None,
            }),
            fetching: tokio::sync::Mutex::default(),
        }))
    }

    /// Keeps the set up to date; for ever.
    pub(crate) async fn follow(self: Arc<Self>, health: Target) {
        match &self.options.source {
            Source::Inline(_) => {
                health.ready();
                std::future::pending().await
            }
            Source::File(path) => {
                health.ready();
                self.follow_file(path).await;
            }
            Source::Url { .. } => {
                while !self.is_ready() {
                    self.refresh(self.fetched()).await;
                    if !self.is_ready() {
                        tokio::time::sleep(RETRY).await;
                    }
                }
                health.ready();
                std::future::pending().await
            }
        }
    }

    async fn follow_file(&self, path: &Path) {
        let mut watch = FileWatch::new(vec![path.to_owned()], SETTLE);
        loop {
            // Read after the watch began: no change falls between the two.
            match std::fs::read(path)
                .map_err(KeyError::from)
                .and_then(|text| parse(&text))
            {
                Ok(keys) => self.replace(keys),
                Err(cause) => error!(target: SCOPE, "{cause}; the old keys stay in effect"),
            }
            watch.changed().await;
            info!(target: SCOPE, "Key set changed; reloading");
        }
    }

    /// Says whether there has been a set.
    pub(crate) fn is_ready(&self) -> bool {
        self.known().keys.is_some()
    }

    /// Returns the key with this ID, which may be fetched first.
    pub(super) async fn find(&self, id: &str) -> Option<Arc<Jwk>> {
        let held = self.held(id);
        let (None, Source::Url { .. }) = (&held, &self.options.source) else {
            return held;
        };
        let fetched = self.fetched();
        let age = fetched.map(|at| self.clock.monotonic() - at);
        if age.is_some_and(|age| age < self.options.min_refresh) {
            return None;
        }
        self.refresh(fetched).await;
        self.held(id)
    }

    fn held(&self, id: &str) -> Option<Arc<Jwk>> {
        self.known().keys.as_ref()?.get(id).cloned()
    }

    fn fetched(&self) -> Option<Tick> {
        self.known().fetched
    }

    fn replace(&self, keys: Keys) {
        self.known().keys = Some(keys);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches, unless somebody else has done so since `seen`.
    async fn refresh(&self, seen: Option<Tick>) {
        let _turn = self.fetching.lock().await;
        if self.fetched() != seen {
            return;
        }
        let Source::Url { url, roots } = &self.options.source else {
            return;
        };
        let limit = self.options.timeout;
        let fetched = tokio::time::timeout(limit, fetch(url, roots.as_deref(), &self.tasks)).await;
        self.known().fetched = Some(self.clock.monotonic());
        match fetched.unwrap_or(Err(KeyError::Slow(limit))) {
            Ok(keys) => self.replace(keys),
            Err(cause) => warn!(target: SCOPE, "{cause}"),
        }
    }
}

fn parse(text: &[u8]) -> Result<Keys, KeyError> {
    let set: WrittenSet = serde_json::from_slice(text)?;
    let keys = set.keys.into_iter().filter_map(|key| {
        let key: Jwk = serde_json::from_value(key).ok()?;
        Some((key.common.key_id.clone()?, Arc::new(key)))
    });
    let keys: Keys = keys.collect();
    match keys.is_empty() {
        true => Err(KeyError::Empty),
        false => Ok(keys),
    }
}

/// Fetches once. The connection ends with the answer.
async fn fetch(
    url: &Uri,
    roots: Option<&[CertificateDer<'static>]>,
    tasks: &Group,
) -> Result<Keys, KeyError> {
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(root_store(roots)?)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(tasks.clone())
        .timer(TokioTimer::new())
        .pool_max_idle_per_host(0)
        .build(connector);
    let request = Request::get(url.clone())
        .header(header::ACCEPT, "application/json")
        .body(Empty::<bytes::Bytes>::new())?;
    let response = client.request(request).await?;
    if !response.status().is_success() {
        return Err(KeyError::Status(response.status()));
    }
    let read = Limited::new(response.into_body(), MAX_SET).collect().await;
    parse(&read.map_err(KeyError::Body)?.to_bytes())
}

fn root_store(
    roots: Option<&[CertificateDer<'static>]>,
) -> Result<rustls::RootCertStore, KeyError> {
    let mut store = rustls::RootCertStore::empty();
    match roots {
        Some(roots) => {
            for root in roots {
                store.add(root.clone())?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs().certs;
            store.add_parsable_certificates(found);
        }
    }
    Ok(store)
}
