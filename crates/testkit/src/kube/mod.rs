//! A fake API server: real HTTP on loopback, so that an unmodified client of Kubernetes talks to it.
//!
//! It keeps any kind of object, with revisions, conflicts, lists in pages, watches and bookmarks, judges tokens, and
//! enforces the rules of a role if it is given one. It fails, delays, drops and forgets when it is told to, and keeps
//! what it was asked. It runs on a thread of its own, so that a test may block.

mod access;
mod exec;
mod faults;
mod forward;
mod review;
mod route;
mod select;
mod serve;
mod store;

pub use access::Rule;
pub use exec::Ran;
pub use faults::{Fault, Hold, Seen, When};
pub use review::Token;

use crate::http::{app::Wrap, client::Io};
use crate::tls::SelfSigned;
use faults::Armed;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use review::Tokens;
use serde_json::Value;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use store::{Key, Store};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

/// A running server; it ends with the value.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    tls: Option<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    inner: Mutex<Inner>,
    revisions: watch::Sender<u64>,
    /// Counts the bookmarks that were asked for.
    bookmarks: watch::Sender<u64>,
    /// Counts the times that all watches were dropped.
    drops: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    store: Store,
    tokens: Tokens,
    rules: Option<Vec<Rule>>,
    /// Rights that a review says no to: user, verb, resource.
    denied: Vec<(String, String, String)>,
    armed: Vec<Armed>,
    seen: Vec<Seen>,
    /// Requests under way, and the most there were, by verb and resource.
    flights: HashMap<(&'static str, String), (usize, usize)>,
}

/// A request under way.
struct Flight {
    shared: Arc<Shared>,
    key: (&'static str, String),
}

// === impl ApiServer ===

impl Default for ApiServer {
    fn default() -> Self {
        Self::start()
    }
}

impl ApiServer {
    /// Starts an empty one that speaks plain HTTP.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(None, None)
    }

    /// Starts an empty one that speaks HTTPS.
    #[must_use]
    pub fn start_tls() -> Self {
        let certificate = SelfSigned::new();
        let wrap = certificate.wrap(&["http/1.1"], None);
        Self::start_with(Some(wrap), Some(certificate.certificate_pem()))
    }

    #[expect(
        clippy::expect_used,
        reason = "a server that cannot start is a failed test"
    )]
    fn start_with(wrap: Option<Arc<Wrap>>, tls: Option<String>) -> Self {
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            revisions: watch::Sender::new(0),
            bookmarks: watch::Sender::new(0),
            drops: watch::Sender::new(0),
        });
        let (started, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a runtime can be built");
            runtime.block_on(async {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
                let listener = listener.expect("loopback has a free port");
                let address = listener.local_addr().expect("it is bound");
                started.send(address).expect("the test waits for it");
                tokio::select! {
                    () = accept(listener, wrap, serving) => {}
                    _ended = stopped => {}
                }
            });
        });
        Self {
            shared,
            address: address.recv().expect("the server has started"),
            tls,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig that leads here.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        use base64::Engine as _;
        let authority = self.tls.as_ref().map(|pem| {
            let text = base64::engine::general_purpose::STANDARD.encode(pem);
            format!(", certificate-authority-data: {text}")
        });
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: \"{}\"{}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             users: [{{name: test, user: {{}}}}]\n",
            self.url(),
            authority.unwrap_or_default()
        )
    }

    /// Puts an object in, in the place of one that may be there. Returns it with its identity.
    ///
    /// # Panics
    /// If it has no kind or no name.
    #[expect(clippy::panic, reason = "a bad object is a failed test")]
    pub fn put(&self, mut object: Value) -> Value {
        let key = Key::of(&object);
        if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("resourceVersion");
        }
        let mut inner = self.shared.lock();
        // The caller is the cluster itself: it needs no revision, and replaces what has another identity.
        let same = inner.store.get(&key).ok().is_some_and(|held| {
            let uid = object.pointer("/metadata/uid");
            uid.is_none() || uid == held.pointer("/metadata/uid")
        });
        let done = if same {
            let held = inner.store.get(&key).ok().cloned().unwrap_or_default();
            if let (Some(meta), Some(revision)) = (
                object.get_mut("metadata").and_then(Value::as_object_mut),
                held.pointer("/metadata/resourceVersion"),
            ) {
                meta.insert("resourceVersion".to_owned(), revision.clone());
            }
            inner.store.update(key, object)
        } else {
            let _gone = inner.store.delete(key.clone());
            inner.store.create(key, object)
        };
        drop(inner);
        self.shared.tell();
        done.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    /// Returns an object by its kind's version, kind, namespace and name.
    #[must_use]
    pub fn object(&self, version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = Key::of(&serde_json::json!({
            "apiVersion": version, "kind": kind, "metadata": {"namespace": namespace, "name": name},
        }));
        self.shared.lock().store.get(&key).ok().cloned()
    }

    /// Returns all objects of a kind, in all namespaces.
    #[must_use]
    pub fn objects(&self, version: &str, kind: &str) -> Vec<Value> {
        let named = Key::of(&serde_json::json!({"apiVersion": version, "kind": kind}));
        let path = format!("/{}", named.collection);
        let target = route::Target::read("GET", &path, "");
        let selector = select::Selector::default();
        target.map_or_else(
            |_refusal| Vec::new(),
            |target| self.shared.lock().store.list(&target, &selector),
        )
    }

    /// Takes an object away; says whether it was there.
    pub fn delete(&self, object: &Value) -> bool {
        let gone = self.shared.lock().store.delete(Key::of(object)).is_ok();
        self.shared.tell();
        gone
    }

    /// Makes a token known.
    pub fn accept(&self, text: &str, token: Token) {
        self.shared.lock().tokens.add(text, token);
    }

    /// Answers the review of a token with this status, whatever is asked.
    pub fn answer_review(&self, text: &str, status: Value) {
        self.shared.lock().tokens.force(text, status);
    }

    /// Lets the next `times` of these requests go wrong.
    pub fn inject(&self, when: When, fault: Fault, times: usize) {
        self.shared.lock().armed.push(Armed {
            when,
            fault,
            left: times,
        });
    }

    /// Holds these requests until the answer is released.
    #[must_use]
    pub fn hold(&self, when: When) -> Hold {
        let hold = Hold::new();
        self.inject(when, Fault::Hold(hold.clone()), usize::MAX);
        hold
    }

    /// Takes back all faults that wait.
    pub fn heal(&self) {
        self.shared.lock().armed.clear();
    }

    /// Allows only what these rules allow.
    pub fn restrict(&self, rules: Vec<Rule>) {
        self.shared.lock().rules = Some(rules);
    }

    /// Has reviews of the rights of a user say no to one of them; what the user does is not held up.
    pub fn deny_right(&self, user: &str, verb: &str, resource: &str) {
        let right = (user.to_owned(), verb.to_owned(), resource.to_owned());
        self.shared.lock().denied.push(right);
    }

    /// Ends all watches.
    pub fn drop_watches(&self) {
        self.shared.drops.send_modify(|drops| *drops += 1);
    }

    /// Forgets the history: a watch that asks for older revisions gets 410.
    pub fn compact(&self) {
        self.shared.lock().store.compact();
    }

    /// Tells all watches how far they are.
    pub fn bookmark(&self) {
        self.shared.bookmarks.send_modify(|count| *count += 1);
    }

    /// Returns the requests of a kind that came so far.
    #[must_use]
    pub fn seen(&self, when: &When) -> Vec<Seen> {
        let inner = self.shared.lock();
        let seen = inner.seen.iter().filter(|seen| when.matches(seen));
        seen.cloned().collect()
    }

    /// Returns all requests that came so far.
    #[must_use]
    pub fn all_seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// Returns how many requests of a verb about a resource were under way at once at most.
    #[must_use]
    pub fn peak(&self, verb: &'static str, resource: &str) -> usize {
        let key = (verb, resource.to_owned());
        self.shared
            .lock()
            .flights
            .get(&key)
            .map_or(0, |(_, most)| *most)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // An error means that the thread has ended already.
        let _ended = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the watches after a write.
    fn tell(&self) {
        let revision = self.lock().store.revision();
        self.revisions.send_if_modified(|told| {
            let news = *told != revision;
            *told = revision;
            news
        });
    }

    /// Keeps a request, and takes the fault that waits for it.
    fn record(&self, seen: &Seen) -> Option<Fault> {
        let mut inner = self.lock();
        inner.seen.push(seen.clone());
        let at = inner.armed.iter().position(|one| one.when.matches(seen))?;
        let armed = inner.armed.get_mut(at)?;
        armed.left = armed.left.saturating_sub(1);
        let (fault, spent) = (armed.fault.clone(), armed.left == 0);
        if spent {
            inner.armed.remove(at);
        }
        Some(fault)
    }

    fn fly(self: &Arc<Self>, seen: &Seen) -> Flight {
        let key = (seen.verb, seen.resource.clone());
        let mut inner = self.lock();
        let (now, most) = inner.flights.entry(key.clone()).or_default();
        *now += 1;
        *most = (*most).max(*now);
        drop(inner);
        Flight {
            shared: Arc::clone(self),
            key,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some((now, _most)) = self.shared.lock().flights.get_mut(&self.key) {
            *now -= 1;
        }
    }
}

/// Serves until the future is dropped; connections end with it.
async fn accept(listener: TcpListener, wrap: Option<Arc<Wrap>>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _peer)) = listener.accept().await {
        let (shared, wrap) = (Arc::clone(&shared), wrap.clone());
        connections.spawn(async move {
            let io: Box<dyn Io> = match wrap {
                None => Box::new(tcp),
                Some(wrap) => match wrap(tcp).await {
                    Ok(io) => io,
                    Err(_no_handshake) => return,
                },
            };
            let service = service_fn(|request| serve::answer(Arc::clone(&shared), request));
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(io), service)
                .with_upgrades();
            // A connection that ends early is the client's matter, or an injected fault.
            let _ended = served.await;
        });
        while connections.try_join_next().is_some() {}
    }
}
