//! Taking the ports of a sidecar, in the order of the start, before any of them is served.
//!
//! Owns which addresses each server takes, socket files in place of ports, and the lines that say where a
//! server listens. Refuses to serve: `server/` does, on the threads that get the listeners.

use std::{net::SocketAddr, path::Path, time::Duration};

use ironside_chassis::listen::{self, BindError, Binding, UnixBindError, UnixSocket};
use tracing::{debug, info};

use super::LOG;
use crate::{
    config::{
        Config, Listen,
        internal_port::{Seed, stable},
    },
    server::data::Ports,
};

/// Scope of the HTTP API's lines.
const HTTP: &str = "dapr.runtime.http";
/// Scope of the gRPC API's lines.
const GRPC: &str = "dapr.runtime.grpc.api";
/// Scope of the internal port's lines.
const INTERNAL: &str = "dapr.runtime.grpc.internal";

/// Why a port is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// No address of a server.
    #[error("failed to start {server} server: {cause}")]
    Tcp {
        /// Which server.
        server: &'static str,
        /// The system's reasons.
        cause: BindError,
    },
    /// A socket file.
    #[error("failed to start {server} server: {cause}: {}", cause.cause)]
    Unix {
        /// Which server.
        server: &'static str,
        /// The system's reason.
        cause: UnixBindError,
    },
    /// A listener cannot be shared among threads.
    #[error("failed to start {server} server: {cause}")]
    Share {
        /// Which server.
        server: &'static str,
        /// The system's reason.
        cause: std::io::Error,
    },
}

/// The internal port, taken before anything else so that it can be announced.
pub(super) struct InternalPort {
    listeners: Vec<Vec<std::net::TcpListener>>,
    local: SocketAddr,
}

/// The ports of the APIs, taken last.
pub(super) struct ApiPorts {
    /// One set for each data thread.
    pub(super) threads: Vec<Ports>,
    /// Where the HTTP API listens, for the line that says that it closes.
    pub(super) http: Vec<String>,
    /// Socket files; they go when this is dropped.
    pub(super) sockets: Vec<UnixSocket>,
}

// === impl InternalPort ===

impl InternalPort {
    /// Takes the port that the flags name, else the stable one, else any free one.
    pub(super) async fn take(config: &Config, directory: &Path) -> Result<Self, PortError> {
        let addresses = std::slice::from_ref(&config.listen.internal_address);
        let binding = |port| Binding::new(addresses, port).workers(config.data_workers);
        let bound = match config.listen.internal_port {
            Some(port) => listen::bind(&binding(port)).await,
            None => {
                let port = stable(Seed {
                    app_id: config.app_id.as_str(),
                    directory,
                    uid: rustix::process::getuid().as_raw(),
                    hostname: &config.hostname,
                });
                match listen::bind(&binding(port).patience(Duration::ZERO)).await {
                    Ok(bound) => Ok(bound),
                    Err(taken) => {
                        debug!(target: INTERNAL, err = %taken, "the stable port is taken: choosing a free one");
                        listen::bind(&binding(0)).await
                    }
                }
            }
        };
        let bound = bound.map_err(|cause| PortError::Tcp {
            server: "internal gRPC",
            cause,
        })?;
        match bound.local.first() {
            Some(local) => Ok(Self {
                local: *local,
                listeners: bound.workers,
            }),
            None => Err(PortError::Tcp {
                server: "internal gRPC",
                cause: BindError(bound.refused),
            }),
        }
    }

    /// Where other sidecars reach this one.
    pub(super) fn port(&self) -> u16 {
        self.local.port()
    }
}

// === impl ApiPorts ===

impl ApiPorts {
    /// Takes the API ports and joins the internal one.
    pub(super) async fn take(config: &Config, internal: InternalPort) -> Result<Self, PortError> {
        let mut all = Self {
            threads: (0..config.data_workers.get())
                .map(|_| Ports::default())
                .collect(),
            http: Vec::new(),
            sockets: Vec::new(),
        };
        match &config.listen.unix_socket {
            Some(directory) => all.take_sockets(config, directory)?,
            None => all.take_tcp(config).await?,
        }
        if let Some(bytes) = config.max_body {
            info!(target: LOG, "The request body size parameter is: {bytes} bytes");
        }
        info!(target: INTERNAL, "gRPC server listening on TCP address: {}", internal.local);
        info!(target: LOG, "Internal gRPC server is running on {}", internal.local);
        for (thread, listeners) in all.threads.iter_mut().zip(internal.listeners) {
            thread.internal = listeners;
        }
        Ok(all)
    }

    async fn take_tcp(&mut self, config: &Config) -> Result<(), PortError> {
        let Listen {
            addresses,
            http_port,
            grpc_port,
            ..
        } = &config.listen;
        let binding = |port| Binding::new(addresses, port).workers(config.data_workers);
        let tcp = |server| move |cause| PortError::Tcp { server, cause };
        let grpc = listen::bind(&binding(*grpc_port))
            .await
            .map_err(tcp("gRPC API"))?;
        for local in &grpc.local {
            info!(target: GRPC, "gRPC server listening on TCP address: {local}");
        }
        log_refused(GRPC, &grpc.refused);
        info!(target: LOG, "API gRPC server is running on port {}", shown(&grpc.local, *grpc_port));
        let http = listen::bind(&binding(*http_port))
            .await
            .map_err(tcp("HTTP"))?;
        for local in &http.local {
            info!(target: HTTP, "HTTP server listening on TCP address: {local}");
        }
        log_refused(HTTP, &http.refused);
        info!(target: LOG, "HTTP server is running on port {}", shown(&http.local, *http_port));
        self.http = http.local.iter().map(ToString::to_string).collect();
        for ((thread, grpc), http) in self.threads.iter_mut().zip(grpc.workers).zip(http.workers) {
            (thread.grpc, thread.http) = (grpc, http);
        }
        Ok(())
    }

    fn take_sockets(&mut self, config: &Config, directory: &Path) -> Result<(), PortError> {
        let path = |kind| directory.join(format!("dapr-{}-{kind}.socket", config.app_id));
        let unix = |server| move |cause| PortError::Unix { server, cause };
        let grpc = UnixSocket::bind(&path("grpc")).map_err(unix("gRPC API"))?;
        info!(target: GRPC, "gRPC server listening on UNIX socket: {}", grpc.path().display());
        let http = UnixSocket::bind(&path("http")).map_err(unix("HTTP"))?;
        info!(target: HTTP, "HTTP server listening on UNIX socket: {}", http.path().display());
        for thread in &mut self.threads {
            let share = |server| move |cause| PortError::Share { server, cause };
            thread.grpc_socket = Some(grpc.listener().map_err(share("gRPC API"))?);
            thread.http_socket = Some(http.listener().map_err(share("HTTP"))?);
        }
        self.http = vec![http.path().display().to_string()];
        self.sockets = vec![grpc, http];
        Ok(())
    }
}

/// One listener of the control thread: metrics or the public port.
pub(super) async fn take_one(
    server: &'static str,
    address: &String,
    port: u16,
    patience: Duration,
) -> Result<(std::net::TcpListener, SocketAddr), PortError> {
    let binding = Binding::new(std::slice::from_ref(address), port).patience(patience);
    let mut bound = listen::bind(&binding)
        .await
        .map_err(|cause| PortError::Tcp { server, cause })?;
    let listener = bound
        .workers
        .pop()
        .and_then(|mut listeners| listeners.pop());
    match (listener, bound.local.first()) {
        (Some(listener), Some(local)) => Ok((listener, *local)),
        (_, _) => Err(PortError::Tcp {
            server,
            cause: BindError(bound.refused),
        }),
    }
}

fn log_refused(scope: &str, refused: &[listen::Refused]) {
    for refused in refused {
        debug!(target: LOG, scope, "{refused}");
    }
}

/// The port of the line: the one that was asked for, or what the system chose for 0.
fn shown(local: &[SocketAddr], asked: u16) -> u16 {
    local.first().map_or(asked, SocketAddr::port)
}
