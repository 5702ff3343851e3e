//! The public port: health and metadata for people and probes that have no token.
//!
//! Owns the listener's loop on the control thread. HTTP/1.1 only; what is answered is in `http.rs`.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use ironside_chassis::tasks::Group;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    accept::{Accepted, Listener},
    conn::{self, H2c, IDLE_LIMIT, Life, Streams},
    http,
};
use crate::worker::Shared;

/// Serves the public port until `drain` is cancelled.
pub(crate) async fn run(
    listener: Listener,
    shared: Arc<Shared>,
    tasks: Group,
    drain: CancellationToken,
) {
    let serve = |accepted| match accepted {
        Accepted::Tcp(stream, _from) => {
            tasks.spawn(connection(
                stream,
                Arc::clone(&shared),
                tasks.clone(),
                drain.clone(),
            ));
        }
        Accepted::Unix(stream) => {
            tasks.spawn(connection(
                stream,
                Arc::clone(&shared),
                tasks.clone(),
                drain.clone(),
            ));
        }
    };
    listener.run(drain.clone(), serve).await;
}

async fn connection<S>(stream: S, shared: Arc<Shared>, tasks: Group, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = Arc::new(Streams::default());
    let builder = conn::http_api(tasks, shared.config.read_buffer, H2c::Off);
    let counted = Arc::clone(&streams);
    let service = hyper::service::service_fn(move |request| {
        http::handle_public(Arc::clone(&shared), Arc::clone(&counted), request)
    });
    let connection = builder.serve_connection(TokioIo::new(streams.count(stream)), service);
    let life = Life {
        drain,
        streams,
        idle: Some(IDLE_LIMIT),
        lease: None,
    };
    if let Err(err) = conn::drive(connection, life).await {
        debug!(target: "dapr.runtime.http", err = %err, "connection ended");
    }
}
