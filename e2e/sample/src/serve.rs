//! Listeners: the app's own port in the protocol under test, and the control port; the end of both.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    answer::{self, Body},
    args::{Serve, Speech},
    call::Call,
    control,
    load::Load,
    state::State,
};

/// Listens until SIGTERM, then lets requests end.
///
/// # Errors
/// If a port is taken.
pub(crate) async fn run(options: Serve) -> Result<()> {
    let Serve {
        port,
        protocol,
        control: control_port,
        bind,
        name,
        load,
        last,
        linger,
    } = options;
    let last: Option<Call> = match last {
        Some(text) => Some(serde_json::from_str(&text).context("--last")?),
        None => None,
    };
    let pod = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let state = State::new(name, pod.trim().to_owned());
    if let Some(text) = load {
        let order = serde_json::from_str(&text).context("--load")?;
        *state.load() = Some(Load::start(state.caller(), &order));
    }
    let app = listen(SocketAddr::new(bind, port)).await?;
    let orders = listen(SocketAddr::new(bind, control_port)).await?;
    eprintln!("sample: {protocol:?} on {port}, control on {control_port}");
    let (stop, stopped) = watch::channel(false);
    let tls = tls(protocol)?;
    let http2_only = matches!(protocol, Speech::H2c | Speech::Grpc | Speech::Grpcs);
    let mut listeners = JoinSet::new();
    listeners.spawn(accept(
        app,
        Port { tls, http2_only },
        state.clone(),
        answer::answer,
        stopped.clone(),
    ));
    let plain = Port {
        tls: None,
        http2_only: false,
    };
    listeners.spawn(accept(
        orders,
        plain,
        state.clone(),
        control::answer,
        stopped,
    ));
    let mut terminated = signal(SignalKind::terminate()).context("signals")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("signals")?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    tokio::time::sleep(linger).await;
    let load = state.load().take();
    if let Some(load) = load {
        // The log is all that is left of a pod that has gone.
        let account = load.finish().await;
        eprintln!("{}", serde_json::to_string(&account).context("account")?);
    }
    let farewell = match &last {
        Some(call) => Some(state.caller().make(call).await),
        None => None,
    };
    stop.send_replace(true);
    // The kubelet's SIGKILL bounds this.
    while listeners.join_next().await.is_some() {}
    if let Some(outcome) = farewell.filter(|outcome| !outcome.is_good()) {
        bail!("the last call: {}", outcome.verdict());
    }
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))
}

/// How a port speaks.
struct Port {
    tls: Option<TlsAcceptor>,
    http2_only: bool,
}

async fn accept<F, A>(
    listener: TcpListener,
    port: Port,
    state: State,
    answer: A,
    mut stopped: watch::Receiver<bool>,
) where
    A: Fn(State, Request<Incoming>) -> F + Copy + Send + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let open = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(_ended) = connections.join_next() => continue,
        };
        let Ok((stream, _from)) = accepted else {
            continue;
        };
        let _slow = stream.set_nodelay(true);
        let (state, watcher) = (state.clone(), open.watcher());
        let (tls, http2_only) = (port.tls.clone(), port.http2_only);
        connections.spawn(async move {
            match tls {
                // A caller that breaks off its handshake concerns nobody.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, http2_only, state, answer, watcher).await;
                    }
                }
                None => serve(stream, http2_only, state, answer, watcher).await,
            }
        });
    }
    drop(listener);
    // Every connection ends after the requests in flight.
    open.shutdown().await;
    while connections.join_next().await.is_some() {}
}

async fn serve<S, F, A>(stream: S, http2_only: bool, state: State, answer: A, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(State, Request<Incoming>) -> F + Copy + Send + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    let service = service_fn(move |request| answer(state.clone(), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    if http2_only {
        builder = builder.http2_only();
    }
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    let _ended = watcher.watch(connection.into_owned()).await;
}

/// A certificate of its own for each start: sidecars do not ask who an app is.
fn tls(protocol: Speech) -> Result<Option<TlsAcceptor>> {
    let offered: &[&[u8]] = match protocol {
        Speech::Http | Speech::H2c | Speech::Grpc => return Ok(None),
        Speech::Https => &[b"h2", b"http/1.1"],
        Speech::Grpcs => &[b"h2"],
    };
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).context("certificate")?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("versions of TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .context("certificate")?;
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}
