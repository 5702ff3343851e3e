//! The identity of this process: obtained before anything listens, renewed by a task.
//!
//! Owns the wait for the first certificate. Refuses to own how it is asked for: the transport crate does.

use std::sync::Arc;

use ironside_chassis::{Clock, Tasks};
use ironside_transport::{
    Identity, IdentityRx, MinTls, Now, SentryClient, SentryClientConfig, TlsClient, TlsServer,
};
use tokio::sync::{mpsc, watch};

use super::lines;
use crate::{
    config::{Config, IdentityConfig},
    server::data::Tls,
};

/// The newest identity and what its consumers need besides.
#[derive(Clone)]
pub(super) struct Held {
    /// The newest identity.
    pub(super) identity: IdentityRx,
    now: Now,
    min_tls: MinTls,
}

/// Obtains the first identity; `None` while mTLS is off. Later failures are logged by the renewal, and only
/// one that can never be repaired arrives at `fatal`.
///
/// # Errors
/// Why there will be no identity.
pub(super) async fn obtain(
    config: &Config,
    clock: &Clock,
    tasks: &Tasks,
    fatal: &mpsc::Sender<String>,
) -> Result<Option<Held>, String> {
    let Some(settings) = &config.identity else {
        lines::no_mtls();
        return Ok(None);
    };
    let now: Now = {
        let clock = clock.clone();
        Arc::new(move || clock.now())
    };
    let client = SentryClient::new(request(config, settings), Arc::clone(&now));
    let (sender, mut identity) = watch::channel::<Option<Arc<Identity>>>(None);
    let (stop, fatal) = (tasks.token(), fatal.clone());
    let (gave_up, refused) = tokio::sync::oneshot::channel();
    tasks.spawn("identity", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            Err(cause) = client.run(sender) => {
                // Whoever still waits for the first identity hears it; later nobody does, and the process ends.
                if let Err(cause) = gave_up.send(cause.to_string()) {
                    let _ending = fatal.send(cause).await;
                }
            }
        }
    });
    let first = async { identity.wait_for(Option::is_some).await.is_ok() };
    tokio::select! {
        biased;
        Ok(cause) = refused => return Err(cause),
        true = first => {}
    }
    Ok(Some(Held {
        identity,
        now,
        min_tls: settings.min_tls,
    }))
}

fn request(config: &Config, settings: &IdentityConfig) -> SentryClientConfig {
    let IdentityConfig {
        sentry_address,
        sentry_id,
        trust_anchors,
        trust_anchors_file,
        request_id,
        token,
        jwt_audiences,
        min_tls,
    } = settings.clone();
    SentryClientConfig {
        address: sentry_address.into(),
        sentry_id,
        trust_anchors_pem: trust_anchors.map(Into::into),
        trust_anchors_file,
        app_id: request_id,
        namespace: config.namespace.clone(),
        trust_domain: None,
        token,
        jwt_audiences,
        min_tls,
    }
}

// === impl Held ===

impl Held {
    /// Both sides of TLS for one data thread; each caches its own configuration.
    pub(super) fn tls(&self) -> Tls {
        let server = TlsServer::new(self.identity.clone(), Arc::clone(&self.now));
        let client = TlsClient::new(self.identity.clone(), Arc::clone(&self.now));
        Tls {
            server: server.min_tls(self.min_tls),
            client: client.min_tls(self.min_tls),
            identity: self.identity.clone(),
        }
    }
}
