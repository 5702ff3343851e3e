//! A fake HTTP/2 app: records header blocks and messages, answers by a script that drives the stream itself.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    server::{Builder, SendResponse},
};
use http::{Request, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use super::frame::{Decoder, Headers, encode, list, map, value, values};
use crate::http::{app::Wrap, client::Io};

/// A call as it arrived.
#[derive(Clone, Debug, Default)]
pub struct GrpcSeen {
    /// Pseudo headers first, then metadata in the order of the wire.
    pub headers: Headers,
    /// Messages that the script has read.
    pub messages: Vec<Vec<u8>>,
    /// Whether the caller closed its half.
    pub half_closed: bool,
    /// Whether the caller gave the call up.
    pub cancelled: bool,
}

impl GrpcSeen {
    /// The first value of a header or pseudo header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// All values of a header.
    #[must_use]
    pub fn all(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// `:path`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.header(":path").unwrap_or_default()
    }
}

/// A running script.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

type Script = dyn Fn(Exchange) -> Running + Send + Sync;

/// A running app; it stops when dropped.
#[derive(Debug)]
pub struct GrpcApp {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<GrpcSeen>>,
    connections: Mutex<usize>,
    changed: Notify,
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Vec<GrpcSeen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, place: usize, edit: impl FnOnce(&mut GrpcSeen)) {
        if let Some(seen) = self.seen().get_mut(place) {
            edit(seen);
        }
        self.changed.notify_waiters();
    }
}

impl GrpcApp {
    /// Starts an app on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(
        script: impl Fn(Exchange) -> Running + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_on(0, None, script).await
    }

    /// Starts an app on a given port, with each connection wrapped.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start_on(
        port: u16,
        wrap: Option<Arc<Wrap>>,
        script: impl Fn(Exchange) -> Running + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let app = Arc::new(App {
            script: Box::new(script),
            wrap,
            shared: Arc::clone(&shared),
        });
        Ok(Self {
            port,
            shared,
            task: spawn(accept(app, listener)),
        })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops listening and breaks all connections.
    pub async fn stop(&mut self) {
        self.task.abort();
        // The end of an aborted task is an error by definition.
        drop((&mut self.task).await);
    }

    /// All calls since the last call of this function.
    #[must_use]
    pub fn take(&self) -> Vec<GrpcSeen> {
        std::mem::take(&mut *self.shared.seen())
    }

    /// All calls so far.
    #[must_use]
    pub fn seen(&self) -> Vec<GrpcSeen> {
        self.shared.seen().clone()
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self
            .shared
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the recorded calls satisfy `holds`.
    pub async fn until(&self, holds: impl Fn(&[GrpcSeen]) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if holds(&self.shared.seen()) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for GrpcApp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct App {
    script: Box<Script>,
    wrap: Option<Arc<Wrap>>,
    shared: Arc<Shared>,
}

async fn accept(app: Arc<App>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let app = Arc::clone(&app);
        let mut count = app
            .shared
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_add(1);
        drop(count);
        connections.spawn(async move {
            // A connection that is no HTTP/2 ends here; its caller sees it.
            drop(wrapped(&app, stream).await);
        });
    }
}

async fn wrapped(app: &App, stream: TcpStream) -> Result<(), h2::Error> {
    let Ok(()) = stream.set_nodelay(true) else {
        return Ok(());
    };
    let Some(wrap) = &app.wrap else {
        return serve(app, stream).await;
    };
    let Ok(io) = wrap(stream).await else {
        return Ok(());
    };
    serve(app, io).await
}

async fn serve(app: &App, io: impl Io) -> Result<(), h2::Error> {
    let mut builder = Builder::new();
    builder
        .initial_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    builder
        .max_header_list_size(16 << 20)
        .max_concurrent_streams(100_000);
    let mut connection = builder.handshake(io).await?;
    let mut calls = JoinSet::new();
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        calls.spawn((app.script)(Exchange::begin(&app.shared, request, respond)));
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests own their tasks by the handle"
)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

/// One call in the hands of a script.
#[derive(Debug)]
pub struct Exchange {
    headers: Headers,
    body: RecvStream,
    decoder: Decoder,
    respond: SendResponse<Bytes>,
    send: Option<SendStream<Bytes>>,
    shared: Arc<Shared>,
    place: usize,
}

impl Exchange {
    fn begin(
        shared: &Arc<Shared>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let mut headers: Headers = vec![
            (":method".to_owned(), parts.method.to_string()),
            (
                ":scheme".to_owned(),
                parts.uri.scheme_str().unwrap_or_default().to_owned(),
            ),
            (":path".to_owned(), path.to_owned()),
            (
                ":authority".to_owned(),
                parts
                    .uri
                    .authority()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            ),
        ];
        headers.extend(list(&parts.headers));
        let mut seen = shared.seen();
        seen.push(GrpcSeen {
            headers: headers.clone(),
            ..GrpcSeen::default()
        });
        let place = seen.len().saturating_sub(1);
        drop(seen);
        shared.changed.notify_waiters();
        Self {
            headers,
            body,
            decoder: Decoder::default(),
            respond,
            send: None,
            shared: Arc::clone(shared),
            place,
        }
    }

    /// `:path`.
    #[must_use]
    pub fn path(&self) -> &str {
        value(&self.headers, ":path").unwrap_or_default()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// Reads the next message; `None` at the caller's end, whole or given up.
    pub async fn message(&mut self) -> Option<Vec<u8>> {
        match self.decoder.next(&mut self.body).await {
            Ok(Some(message)) => {
                self.shared
                    .change(self.place, |seen| seen.messages.push(message.clone()));
                Some(message)
            }
            Ok(None) => {
                self.shared
                    .change(self.place, |seen| seen.half_closed = true);
                None
            }
            Err(_) => {
                self.shared.change(self.place, |seen| seen.cancelled = true);
                None
            }
        }
    }

    /// Reads all data of the stream as bytes, without message frames.
    pub async fn data(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(Ok(data)) = self.body.data().await {
            // The window only grows; an error ends the loop by itself.
            drop(self.body.flow_control().release_capacity(data.len()));
            all.extend_from_slice(&data);
        }
        all
    }

    /// Sends the initial metadata.
    pub fn headers(&mut self, status: u16, pairs: &[(&str, &str)]) {
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
        *response.headers_mut() = map(pairs);
        self.send = self.respond.send_response(response, false).ok();
    }

    /// Sends the gRPC content type and more initial metadata.
    pub fn begin_reply(&mut self, pairs: &[(&str, &str)]) {
        let mut all = vec![("content-type", "application/grpc")];
        all.extend_from_slice(pairs);
        self.headers(200, &all);
    }

    /// Sends a message.
    pub fn reply(&mut self, message: &[u8]) {
        self.bytes(encode(message));
    }

    /// Sends bytes without a message frame.
    pub fn bytes(&mut self, data: Bytes) {
        if let Some(send) = &mut self.send {
            // A caller that is gone needs no answer.
            drop(send.send_data(data, false));
        }
    }

    /// Ends the answer with a status and more trailing metadata.
    pub fn end(&mut self, code: u32, message: &str, pairs: &[(&str, &str)]) {
        let code = code.to_string();
        let mut all = vec![("grpc-status", code.as_str()), ("grpc-message", message)];
        all.extend_from_slice(pairs);
        match &mut self.send {
            Some(send) => drop(send.send_trailers(map(&all))),
            None => {
                all.push(("content-type", "application/grpc"));
                let mut response = Response::new(());
                *response.headers_mut() = map(&all);
                drop(self.respond.send_response(response, true));
            }
        }
    }

    /// Ends the data without trailers.
    pub fn end_bare(&mut self) {
        if let Some(send) = &mut self.send {
            drop(send.send_data(Bytes::new(), true));
        }
    }

    /// Breaks the stream off.
    pub fn reset(&mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }

    /// Waits until the caller gives the call up.
    pub async fn cancelled(&mut self) {
        let gone = match &mut self.send {
            Some(send) => std::future::poll_fn(|cx| send.poll_reset(cx)).await.is_ok(),
            None => std::future::poll_fn(|cx| self.respond.poll_reset(cx))
                .await
                .is_ok(),
        };
        self.shared
            .change(self.place, |seen| seen.cancelled |= gone);
    }
}
