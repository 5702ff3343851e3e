//! The calls of the demo, as any client would make them: plain HTTP and plain gRPC to a port.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ironside_chassis::tasks::Tasks;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::wire::{GRPC, Messages, SAY_HELLO, SAY_HELLO_STREAM, frame};

/// A body of the demo's own making.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The order that is posted again and again.
pub(super) const ORDER: &str = r#"{"orderId":42,"item":"a long wool coat"}"#;

/// A connection that speaks HTTP/1.1, to an app or to a sidecar.
pub(super) struct HttpClient {
    sender: http1::SendRequest<Full<Bytes>>,
    /// What stands before the app's own path; empty when the app itself is called.
    prefix: String,
}

/// A connection that speaks gRPC, to an app or to a sidecar.
pub(super) struct GrpcClient {
    sender: http2::SendRequest<Body>,
    port: u16,
    /// The app that the sidecar is to call; none when the app itself is called.
    app_id: Option<String>,
}

async fn tcp(port: u16) -> anyhow::Result<TokioIo<TcpStream>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .await
        .with_context(|| format!("connecting to port {port}"))?;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

// === impl HttpClient ===

impl HttpClient {
    /// Connects to an app itself.
    pub(super) async fn direct(port: u16, tasks: &Tasks) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(tcp(port).await?).await?;
        tasks.spawn("client", async move {
            // A broken connection shows in the calls on it.
            let _broken = connection.await;
        });
        Ok(Self {
            sender,
            prefix: String::new(),
        })
    }

    /// Connects to a sidecar, to call an app by its id.
    pub(super) async fn through(port: u16, app_id: &str, tasks: &Tasks) -> anyhow::Result<Self> {
        let mut client = Self::direct(port, tasks).await?;
        client.prefix = format!("/v1.0/invoke/{app_id}/method");
        Ok(client)
    }

    /// Posts an order.
    pub(super) async fn order(&mut self) -> anyhow::Result<String> {
        let answer = self
            .send(
                Method::POST,
                "/orders",
                Bytes::from_static(ORDER.as_bytes()),
            )
            .await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status != StatusCode::OK {
            bail!("{status}: {text}");
        }
        Ok(text)
    }

    /// Reads the stream of events; returns how many arrived.
    pub(super) async fn ticks(&mut self) -> anyhow::Result<usize> {
        let answer = self.send(Method::GET, "/ticks", Bytes::new()).await?;
        if answer.status() != StatusCode::OK {
            bail!("{}", answer.status());
        }
        let body = answer.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8_lossy(&body).matches("data: ").count())
    }

    /// Asks for the stream of events; returns only how that was answered.
    pub(super) async fn ticks_status(&mut self) -> anyhow::Result<StatusCode> {
        let answer = self.send(Method::GET, "/ticks", Bytes::new()).await?;
        let status = answer.status();
        // Read to its end, so that the connection serves the next call.
        answer.into_body().collect().await?;
        Ok(status)
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(header::HOST, "127.0.0.1")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

// === impl GrpcClient ===

impl GrpcClient {
    /// Connects to an app itself, or to a sidecar to call an app by its id.
    pub(super) async fn connect(
        port: u16,
        app_id: Option<&str>,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), tcp(port).await?).await?;
        tasks.spawn("client", async move {
            // As above.
            let _broken = connection.await;
        });
        Ok(Self {
            sender,
            port,
            app_id: app_id.map(str::to_owned),
        })
    }

    /// Greets once.
    pub(super) async fn hello(&mut self, name: &str) -> anyhow::Result<String> {
        let body = Full::new(frame(name)).boxed_unsync();
        let mut replies = self.call(SAY_HELLO, body).await?;
        let reply = replies.next().await?.context("no reply")?;
        finish(replies).await?;
        Ok(reply)
    }

    /// Greets name by name on one stream: the next name is sent when the reply to the last has come.
    pub(super) async fn hello_each(&mut self, names: &[&str]) -> anyhow::Result<Vec<String>> {
        let (to_send, sending) = mpsc::channel::<Bytes>(1);
        let body = stream::unfold(sending, |mut sending| async move {
            let frame = sending.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(frame)), sending))
        });
        let mut names = names.iter();
        let first = names.next().context("nobody to greet")?;
        to_send.send(frame(first)).await?;
        let mut replies = self
            .call(SAY_HELLO_STREAM, StreamBody::new(body).boxed_unsync())
            .await?;
        let mut greetings = vec![replies.next().await?.context("no first reply")?];
        for name in names {
            to_send.send(frame(name)).await?;
            greetings.push(replies.next().await?.context("the stream ended early")?);
        }
        drop(to_send);
        finish(replies).await?;
        Ok(greetings)
    }

    async fn call(&mut self, path: &str, body: Body) -> anyhow::Result<Messages<Incoming>> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .header(header::CONTENT_TYPE, GRPC)
            .header(header::TE, "trailers");
        if let Some(app_id) = &self.app_id {
            request = request.header("dapr-app-id", app_id);
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(body)?).await?;
        check(answer.headers())?;
        Ok(Messages::of(answer.into_body()))
    }
}

async fn finish(mut replies: Messages<Incoming>) -> anyhow::Result<()> {
    if replies.next().await?.is_some() {
        bail!("more replies than names");
    }
    let trailers = replies
        .trailers
        .take()
        .context("the call ended without a status")?;
    check(&trailers)
}

/// Refuses headers or trailers that hold a status other than OK.
fn check(headers: &http::HeaderMap) -> anyhow::Result<()> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned()
    };
    match text("grpc-status").as_str() {
        "" | "0" => Ok(()),
        status => bail!("gRPC status {status}: {}", text("grpc-message")),
    }
}
