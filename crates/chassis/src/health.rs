//! Who is ready, by name, and the `/healthz` of control-plane programs.
//!
//! [`Health`] is a registry of named targets; the process is ready when all
//! are. The sidecar renders its own answers from [`Health::not_ready_targets`];
//! sentry, operator and injector use [`serve`]. Source: process-interface 2.4, 3.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use http::{Response, StatusCode};
use tokio::net::TcpListener;

use crate::Tasks;
use crate::http_serve::{self, Answer, Bounds};

/// Probes hold a handful of connections.
const BOUNDS: Bounds = Bounds {
    connections: 128,
    life: None,
};

/// The named parts of a process, and whether each is ready. Clones are the same registry.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Vec<Weak<State>>>>);

/// One part of the process. Dropping it takes the part off the registry.
#[derive(Debug)]
pub struct Target(Arc<State>);

#[derive(Debug)]
struct State {
    name: &'static str,
    ready: AtomicBool,
}

// === impl Health ===

impl Health {
    /// Returns an empty registry, which is ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part called `name`, not ready yet.
    #[must_use]
    pub fn register(&self, name: &'static str) -> Target {
        let state = Arc::new(State {
            name,
            ready: AtomicBool::new(false),
        });
        let mut targets = self.targets();
        targets.retain(|known| known.strong_count() > 0);
        targets.push(Arc::downgrade(&state));
        Target(state)
    }

    /// Returns whether every part is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.targets()
            .iter()
            .filter_map(Weak::upgrade)
            .all(|state| state.is_ready())
    }

    /// Returns the names of the parts that are not ready, in order of registration.
    #[must_use]
    pub fn not_ready_targets(&self) -> Vec<&'static str> {
        self.targets()
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|state| !state.is_ready())
            .map(|state| state.name)
            .collect()
    }

    fn targets(&self) -> MutexGuard<'_, Vec<Weak<State>>> {
        // A list of weak references is valid after any interrupted change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Target ===

impl Target {
    /// Marks the part as ready.
    pub fn ready(&self) {
        self.0.ready.store(true, Ordering::Release);
    }

    /// Marks the part as not ready.
    pub fn not_ready(&self) {
        self.0.ready.store(false, Ordering::Release);
    }
}

impl State {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }
}

/// Answers `GET /healthz` with 200 or 503, anything else with 404, all empty; until
/// `tasks` is cancelled.
pub async fn serve(listener: TcpListener, health: Health, tasks: &Tasks) {
    let answer: Answer = Arc::new(move |head| {
        let status = match (head.method.as_str(), head.uri.path()) {
            ("GET" | "HEAD", "/healthz") if health.is_ready() => StatusCode::OK,
            ("GET" | "HEAD", "/healthz") => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NOT_FOUND,
        };
        let mut response = Response::default();
        *response.status_mut() = status;
        response
    });
    http_serve::run(listener, "healthz-connection", BOUNDS, answer, tasks).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_serve::tests::{get, loopback};

    #[test]
    fn ready_means_every_target() {
        let health = Health::new();
        assert!(health.is_ready());
        let security = health.register("security-provider");
        let api = health.register("grpc-api-server");
        assert_eq!(
            health.not_ready_targets(),
            ["security-provider", "grpc-api-server"]
        );
        security.ready();
        assert_eq!(health.not_ready_targets(), ["grpc-api-server"]);
        api.ready();
        assert!(health.is_ready());
        security.not_ready();
        assert!(!health.is_ready());
        drop(security);
        assert!(health.is_ready());
    }

    #[tokio::test]
    async fn healthz_follows_the_registry() {
        let health = Health::new();
        let target = health.register("sentry-server");
        let tasks = Tasks::new();
        let (listener, address) = loopback().await;
        let (serving, owner) = (health.clone(), tasks.clone());
        tasks.spawn("healthz", async move {
            serve(listener, serving, &owner).await;
        });
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 503 "));
        target.ready();
        let ready = get(address, "/healthz").await;
        assert!(ready.starts_with("HTTP/1.1 200 OK"), "{ready}");
        assert!(ready.ends_with("\r\n\r\n"), "{ready}");
        assert!(get(address, "/other").await.starts_with("HTTP/1.1 404 "));
        assert!(
            tasks
                .shutdown(std::time::Duration::from_secs(10))
                .await
                .is_empty()
        );
    }
}
