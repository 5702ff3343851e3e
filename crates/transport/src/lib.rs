//! Mutual TLS that follows a live SVID.
//!
//! Owns both sides of a handshake between sidecars ([`TlsServer`], [`TlsClient`]), the handshake of Sentry's own
//! port and of webhooks ([`OneSidedTlsServer`]), and the client that obtains and renews the identity they use
//! ([`SentryClient`], for programs of the control plane [`ControlPlane`]). One [`Identity`] is published as a whole;
//! new handshakes take the newest, open connections keep theirs.
//! Refuses invocation rules, listeners and connection pools: it is handed a byte stream and hands back another.

pub mod client;
pub mod control_plane;
pub mod file_watch;
mod inline;
pub mod sentry_client;
pub mod server;
mod tls;
mod utc;

pub use client::{ConnectError, ExpectedPeer, TlsClient, connect_one_sided};
pub use control_plane::ControlPlane;
pub use file_watch::FileWatch;
pub use sentry_client::{SentryClient, SentryClientConfig};
pub use server::{AcceptError, OneSidedTlsServer, TlsServer};
pub use tls::{MinTls, NOT_TLS, install_provider, provider};
pub use utc::Utc;

use ironside_identity::{Svid, TrustBundle};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// A handshake that takes longer is given up, on both sides. The reference's server waits two minutes; a peer that
/// needs ten seconds for a few kilobytes is not going to be served well.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What a process shows to its peers and what it judges them by, published as one value.
#[derive(Debug)]
pub struct Identity {
    /// Own certificate chain and key.
    pub svid: Arc<Svid>,
    /// The roots in effect.
    pub bundle: Arc<TrustBundle>,
    /// Counts changes: a connection made under an older generation may have been judged by other roots.
    pub generation: u64,
}

/// The newest identity; `None` until the first one is obtained.
pub type IdentityRx = tokio::sync::watch::Receiver<Option<Arc<Identity>>>;

/// Roots that are published in the process, as they are read from a ConfigMap; `None` until there are some.
pub type AnchorsRx = tokio::sync::watch::Receiver<Option<Arc<TrustBundle>>>;

/// The clock that validity is judged by.
pub type Now = Arc<dyn Fn() -> SystemTime + Send + Sync>;
