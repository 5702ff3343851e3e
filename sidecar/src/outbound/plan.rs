//! Where a call goes: an external URL, an HTTPEndpoint, the own app, or a peer.
//!
//! Owns the order of service-invocation 1.6. The own app is found without asking the resolver (H24), and only
//! in the own namespace (H7). Stage 10, `plan`.

use std::sync::Arc;

use http::HeaderValue;
use ironside_resolution::{ExternalUrl, Target, TargetError};

use super::{Callee, external::Endpoint};
use crate::{live::Live, worker::Worker};

/// The way of one call.
#[derive(Debug)]
pub(crate) enum Route {
    /// A URL that the client wrote.
    Url(ExternalUrl),
    /// A loaded HTTPEndpoint, and its name.
    Endpoint(Arc<Endpoint>, Box<str>),
    /// The app beside this sidecar.
    Local(Callee),
    /// An app behind another sidecar.
    Peer(Callee),
}

/// Decides the way.
///
/// # Errors
/// [`TargetError::Invalid`] for an ID that no header can hold.
pub(crate) fn route(worker: &Worker, live: &Live, target: Target) -> Result<Route, TargetError> {
    match target {
        Target::Url(url) => Ok(Route::Url(url)),
        Target::App {
            id,
            namespace,
            written,
        } => {
            if let Some(endpoint) = live.endpoints.get(id.as_str()) {
                return Ok(Route::Endpoint(Arc::clone(endpoint), written));
            }
            let config = &worker.shared.config;
            let header = HeaderValue::from_str(id.as_str())
                .map_err(|_invalid| TargetError::Invalid(written.clone()))?;
            let namespace = namespace.unwrap_or_else(|| config.namespace.clone());
            let is_local = id == config.app_id && namespace == config.namespace;
            let callee = Callee {
                app_id: id,
                namespace,
                header,
                written,
            };
            Ok(if is_local {
                Route::Local(callee)
            } else {
                Route::Peer(callee)
            })
        }
    }
}
