//! A gRPC client on bare HTTP/2: metadata and messages as given, headers and trailers as received.

use std::io;

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{Request, Uri};
use tokio::{net::TcpStream, task::JoinHandle};

use super::frame::{Decoder, Headers, encode, list, map, value};
use crate::http::client::Io;

/// A connection to a gRPC server.
#[derive(Debug)]
pub struct GrpcClient {
    send: SendRequest<Bytes>,
    authority: String,
    task: JoinHandle<()>,
}

impl Drop for GrpcClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a call brought back.
#[derive(Clone, Debug, Default)]
pub struct GrpcReply {
    /// `:status`.
    pub http_status: u16,
    /// Initial metadata; empty when there were trailers only.
    pub headers: Headers,
    /// Messages in order.
    pub messages: Vec<Vec<u8>>,
    /// Trailing metadata with `grpc-status` and `grpc-message`.
    pub trailers: Headers,
    /// Whether the status came in the first and only header block.
    pub trailers_only: bool,
    /// Why the stream broke, when it did.
    pub broken: Option<String>,
}

impl GrpcReply {
    /// The gRPC code; `None` when the stream ended without one.
    #[must_use]
    pub fn code(&self) -> Option<u32> {
        value(&self.trailers, "grpc-status").and_then(|text| text.parse().ok())
    }

    /// The status message, percent-decoded.
    #[must_use]
    pub fn message(&self) -> String {
        value(&self.trailers, "grpc-message")
            .map(percent_decoded)
            .unwrap_or_default()
    }

    /// The first value of an initial metadata key.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        value(&self.headers, name)
    }

    /// The first value of a trailing metadata key.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        value(&self.trailers, name)
    }
}

impl GrpcClient {
    /// Connects to a port of 127.0.0.1.
    ///
    /// # Errors
    /// When nobody speaks HTTP/2 there.
    pub async fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Self::over(stream, &format!("localhost:{port}")).await
    }

    /// Speaks over a given connection.
    ///
    /// # Errors
    /// When the other side does not speak HTTP/2.
    pub async fn over(io: impl Io + 'static, authority: &str) -> io::Result<Self> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(8 << 20)
            .initial_connection_window_size(16 << 20);
        builder.max_header_list_size(16 << 20);
        let (send, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        let task = spawn(connection);
        Ok(Self {
            send,
            authority: authority.to_owned(),
            task,
        })
    }

    /// Opens a call.
    ///
    /// # Errors
    /// When the connection is gone or `path` is no path.
    pub async fn open(&self, path: &str, metadata: &[(&str, &str)]) -> io::Result<Call> {
        let uri = Uri::builder()
            .scheme("http")
            .authority(self.authority.as_str())
            .path_and_query(path);
        let mut request = Request::post(uri.build().map_err(io::Error::other)?)
            .body(())
            .map_err(io::Error::other)?;
        *request.headers_mut() = map(&[("content-type", "application/grpc"), ("te", "trailers")]);
        let named = metadata.iter().any(|(name, _)| *name == "user-agent");
        if !named {
            request
                .headers_mut()
                .extend(map(&[("user-agent", "rawclient/1")]));
        }
        for (name, each) in &map(metadata) {
            request.headers_mut().append(name, each.clone());
        }
        let mut send = self.send.clone().ready().await.map_err(io::Error::other)?;
        let (response, stream) = send
            .send_request(request, false)
            .map_err(io::Error::other)?;
        Ok(Call {
            send: stream,
            state: State::Waiting(response),
            decoder: Decoder::default(),
            reply: GrpcReply::default(),
        })
    }

    /// Sends all messages, closes the sending half and reads everything.
    ///
    /// # Errors
    /// When the call could not be opened; later failures are part of the reply.
    pub async fn call(
        &self,
        path: &str,
        metadata: &[(&str, &str)],
        messages: &[&[u8]],
    ) -> io::Result<GrpcReply> {
        let mut call = self.open(path, metadata).await?;
        for message in messages {
            call.send(message);
        }
        call.half_close();
        Ok(call.finish().await)
    }

    /// Waits until the server ends the connection.
    pub async fn closed(mut self) {
        // The task ends with the connection, whatever the reason.
        drop((&mut self.task).await);
    }

    /// Whether the connection is still there.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.task.is_finished()
    }
}

#[derive(Debug)]
enum State {
    Waiting(ResponseFuture),
    Open(RecvStream),
    Ended,
}

/// An open call.
#[derive(Debug)]
pub struct Call {
    send: SendStream<Bytes>,
    state: State,
    decoder: Decoder,
    reply: GrpcReply,
}

impl Call {
    /// Queues a message; a broken stream shows in the reply.
    pub fn send(&mut self, message: &[u8]) {
        self.send_data(encode(message), false);
    }

    /// Queues bytes that need not be a message.
    pub fn send_data(&mut self, data: Bytes, last: bool) {
        if let Err(error) = self.send.send_data(data, last) {
            self.reply.broken.get_or_insert(error.to_string());
        }
    }

    /// Ends the sending half.
    pub fn half_close(&mut self) {
        self.send_data(Bytes::new(), true);
    }

    /// Gives the call up.
    pub fn cancel(&mut self) {
        self.send.send_reset(Reason::CANCEL);
    }

    /// Waits for the initial metadata.
    pub async fn headers(&mut self) -> &Headers {
        if let State::Waiting(response) = &mut self.state {
            match response.await {
                Ok(response) => self.begin(response),
                Err(error) => self.break_off(&error),
            }
        }
        &self.reply.headers
    }

    fn begin(&mut self, response: http::Response<RecvStream>) {
        self.reply.http_status = response.status().as_u16();
        let headers = list(response.headers());
        let body = response.into_body();
        if body.is_end_stream() && value(&headers, "grpc-status").is_some() {
            self.reply.trailers_only = true;
            self.reply.trailers = headers;
            self.state = State::Ended;
        } else {
            self.reply.headers = headers;
            self.state = State::Open(body);
        }
    }

    fn break_off(&mut self, error: &h2::Error) {
        self.reply.broken = Some(error.to_string());
        self.state = State::Ended;
    }

    /// Waits for the next message; `None` at the end.
    pub async fn message(&mut self) -> Option<Vec<u8>> {
        self.headers().await;
        let State::Open(stream) = &mut self.state else {
            return None;
        };
        match self.decoder.next(stream).await {
            Ok(Some(message)) => Some(message),
            Ok(None) => {
                let trailers = stream.trailers().await;
                match trailers {
                    Ok(trailers) => {
                        self.reply.trailers = trailers.as_ref().map(list).unwrap_or_default();
                        self.state = State::Ended;
                    }
                    Err(error) => self.break_off(&error),
                }
                None
            }
            Err(error) => {
                self.break_off(&error);
                None
            }
        }
    }

    /// Reads everything that is left.
    pub async fn finish(mut self) -> GrpcReply {
        while let Some(message) = self.message().await {
            self.reply.messages.push(message);
        }
        self.reply
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests own their tasks by the handle"
)]
fn spawn<S: Io + 'static>(connection: h2::client::Connection<S, Bytes>) -> JoinHandle<()> {
    tokio::spawn(async move {
        // The calls of the connection see the error as well.
        drop(connection.await);
    })
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
