//! Data threads: each has a runtime, a worker and its own listeners, and hands no request to another thread.
//!
//! Owns the thread, what it is given ([`Ports`]), and how it ends: `drain` closes the listeners and lets
//! streams finish, `stop` drops what is left. Refuses to decide when: `app.rs` does.

use std::{
    io,
    os::unix::net::UnixListener,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use ironside_chassis::tasks::{Group, Tasks};
use ironside_resolution::Authority;
use ironside_transport::{IdentityRx, TlsClient, TlsServer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    accept::{Accepted, Listener},
    conn::{self, H2c, IDLE_LIMIT, Life, Streams},
    grpc, http,
    internal::{Ends, Internal},
};
use crate::{
    channel::AppChannel,
    config::Config,
    inbound::{in_flight, unread::Unread},
    invocation::headers::Stamp,
    outbound::{external::External, known::KnownApps},
    peers::Peers,
    worker::{Shared, Worker},
};

/// The listeners of one data thread, bound but not served.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// HTTP API.
    pub(crate) http: Vec<std::net::TcpListener>,
    /// HTTP API, as a socket file.
    pub(crate) http_socket: Option<UnixListener>,
    /// gRPC API.
    pub(crate) grpc: Vec<std::net::TcpListener>,
    /// gRPC API, as a socket file.
    pub(crate) grpc_socket: Option<UnixListener>,
    /// Other sidecars.
    pub(crate) internal: Vec<std::net::TcpListener>,
}

/// What a data thread is started with.
pub(crate) struct DataThread {
    /// Of the process.
    pub(crate) shared: Arc<Shared>,
    /// Its listeners.
    pub(crate) ports: Ports,
    /// Owner of its servers: ends when every stream has.
    pub(crate) serving: Tasks,
    /// Owner of its connections to peers, apps and the outside.
    pub(crate) clients: Tasks,
    /// Sends peers elsewhere: those that are connected hear that they should go, whoever comes is still served.
    pub(crate) depart: CancellationToken,
    /// Closes listeners and idle connections.
    pub(crate) drain: CancellationToken,
    /// Ends the thread.
    pub(crate) stop: CancellationToken,
}

/// What the peers' side of a worker shows and checks.
pub(crate) struct Tls {
    /// For connections that come in.
    pub(crate) server: TlsServer,
    /// For connections that go out.
    pub(crate) client: TlsClient,
    /// The newest identity.
    pub(crate) identity: IdentityRx,
}

// === impl DataThread ===

impl DataThread {
    /// Runs until `stop` is cancelled; an end before that is told to `fatal`.
    pub(crate) fn supervised(self, tls: Option<Tls>, fatal: &mpsc::Sender<String>) {
        let ran = catch_unwind(AssertUnwindSafe(|| self.run(tls)));
        let cause = match ran {
            Ok(Ok(())) => return,
            Ok(Err(cause)) => cause.to_string(),
            Err(_panic) => "it panicked".to_owned(),
        };
        // A full channel holds another reason to end.
        let _ending = fatal.try_send(format!("a data thread ended: {cause}"));
    }

    fn run(self, tls: Option<Tls>) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let stop = self.stop.clone();
            let worker = self.serve(tls)?;
            stop.cancelled().await;
            worker.peers.close();
            Ok(())
        })
    }

    fn serve(self, tls: Option<Tls>) -> io::Result<Arc<Worker>> {
        let Self {
            shared,
            ports,
            serving,
            clients,
            depart,
            drain,
            stop: _,
        } = self;
        let Ports {
            http,
            http_socket,
            grpc,
            grpc_socket,
            internal,
        } = ports;
        let (server, client) = match tls {
            Some(Tls {
                server,
                client,
                identity,
            }) => (Some(server), Some((client, identity))),
            None => (None, None),
        };
        let worker = Arc::new(worker(&shared, &clients, client)?);
        clients.spawn("peer-sweep", sweep(Arc::clone(&worker)));
        let recheck = in_flight::follow(
            Arc::clone(&worker.in_flight),
            Arc::clone(&worker.decisions),
            shared.live.clone(),
            shared.clock.clone(),
        );
        clients.spawn("policy-recheck", recheck);
        let api = Api {
            worker: Arc::clone(&worker),
            tasks: serving.group("api-connection"),
            drain: drain.clone(),
        };
        let group = serving.group("internal-connection");
        let ends = Ends {
            depart,
            drain: drain.clone(),
        };
        let peers = Internal::new(Arc::clone(&worker), server, group, ends);
        let loops = Loops {
            tasks: &serving,
            drain: &drain,
        };
        loops.run("http-api", listeners(http, http_socket)?, &api, Api::http);
        loops.run("grpc-api", listeners(grpc, grpc_socket)?, &api, Api::grpc);
        loops.run(
            "internal",
            listeners(internal, None)?,
            &peers,
            Internal::accepted,
        );
        Ok(worker)
    }
}

/// Where accept loops run, and what ends them.
struct Loops<'a> {
    tasks: &'a Tasks,
    drain: &'a CancellationToken,
}

impl Loops<'_> {
    /// Hands the connections of each listener to `server`.
    fn run<S: Clone + Send + Sync + 'static>(
        &self,
        name: &'static str,
        listeners: Vec<Listener>,
        server: &S,
        serve: fn(&S, Accepted),
    ) {
        for listener in listeners {
            let server = server.clone();
            let each = move |accepted| serve(&server, accepted);
            self.tasks
                .spawn(name, listener.run(self.drain.clone(), each));
        }
    }
}

fn listeners(
    ports: Vec<std::net::TcpListener>,
    socket: Option<UnixListener>,
) -> io::Result<Vec<Listener>> {
    let tcp = ports.into_iter().map(Listener::tcp);
    tcp.chain(socket.map(Listener::unix)).collect()
}

fn worker(
    shared: &Arc<Shared>,
    clients: &Tasks,
    tls: Option<(TlsClient, IdentityRx)>,
) -> io::Result<Worker> {
    let Config {
        app_id,
        namespace,
        app,
        host_address,
        hostname,
        peer_idle,
        ..
    } = &*shared.config;
    let group = clients.group("client-connection");
    let stamp = Stamp::new(app_id.as_str(), namespace.as_str(), *host_address, hostname);
    let known = Arc::clone(shared);
    let left = move |authority: &Authority| {
        known.resolver.left(authority);
        known.fleet.left(authority);
    };
    let channel = |target| {
        AppChannel::new(
            target,
            &shared.config,
            &group,
            &shared.clock,
            &shared.metrics,
        )
    };
    Ok(Worker {
        shared: Arc::clone(shared),
        peers: Peers::new(
            tls,
            shared.verified.clone(),
            shared.clock.clone(),
            group.clone(),
            *peer_idle,
            Box::new(left),
        ),
        app: app.as_ref().map(channel),
        known: KnownApps::default(),
        in_flight: Arc::default(),
        unread: Unread::new(shared.config.max_message),
        stamp: stamp.map_err(io::Error::other)?,
        decisions: shared.decisions.recorder(),
        external: External::new(group),
    })
}

/// Closes idle connections to other sidecars, every `DAPR_GRPC_CONN_COLLECTOR_INTERVAL`.
async fn sweep(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(worker.shared.config.peer_sweep).await;
        for (authority, count) in worker.peers.sweep() {
            info!(target: "dapr.runtime.grpc.manager", "closed {count} expired gRPC connection(s) to {authority}");
        }
    }
}

/// The two APIs of one data thread.
#[derive(Clone)]
struct Api {
    worker: Arc<Worker>,
    tasks: Group,
    drain: CancellationToken,
}

// === impl Api ===

impl Api {
    fn http(&self, accepted: Accepted) {
        match accepted {
            Accepted::Tcp(stream, from) => self
                .tasks
                .spawn(self.clone().http_connection(stream, Some(from))),
            Accepted::Unix(stream) => self.tasks.spawn(self.clone().http_connection(stream, None)),
        }
    }

    fn grpc(&self, accepted: Accepted) {
        match accepted {
            Accepted::Tcp(stream, _from) => self.tasks.spawn(self.clone().grpc_connection(stream)),
            Accepted::Unix(stream) => self.tasks.spawn(self.clone().grpc_connection(stream)),
        }
    }

    async fn http_connection<S>(self, stream: S, from: Option<std::net::SocketAddr>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            worker,
            tasks,
            drain,
        } = self;
        let config = &worker.shared.config;
        let streams = Arc::new(Streams::within(&worker.shared.traffic));
        let h2c = if config.listen.h2c {
            H2c::PriorKnowledge
        } else {
            H2c::Off
        };
        let builder = conn::http_api(tasks, config.read_buffer, h2c);
        let counted = Arc::clone(&streams);
        let service = hyper::service::service_fn(move |request| {
            http::handle(Arc::clone(&worker), from, Arc::clone(&counted), request)
        });
        let connection = builder.serve_connection(TokioIo::new(streams.count(stream)), service);
        let life = Life {
            drain,
            streams,
            idle: None,
            lease: None,
        };
        if let Err(err) = conn::drive(connection, life).await {
            debug!(target: "dapr.runtime.http", err = %err, "connection ended");
        }
    }

    async fn grpc_connection<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self {
            worker,
            tasks,
            drain,
        } = self;
        let streams = Arc::new(Streams::within(&worker.shared.traffic));
        let builder = conn::grpc(tasks, worker.shared.config.read_buffer);
        let counted = Arc::clone(&streams);
        let service = hyper::service::service_fn(move |request| {
            grpc::handle(Arc::clone(&worker), Arc::clone(&counted), request)
        });
        let connection = builder.serve_connection(TokioIo::new(streams.count(stream)), service);
        let life = Life {
            drain,
            streams,
            idle: Some(IDLE_LIMIT),
            lease: None,
        };
        if let Err(err) = conn::drive(connection, life).await {
            debug!(target: "dapr.runtime.grpc.api", err = %err, "connection ended");
        }
    }
}
