//! The client's end: one stream over one connection.
//!
//! Owns the HTTP/2 and gRPC of it. The connection comes secured, its task goes to the caller's executor and ends
//! with the stream. What is said on it, and when to open another, is the caller's matter.

use futures_util::stream;
use hyper::{client::conn::http2, rt::Executor};
use hyper_util::rt::TokioIo;
use ironside_proto::discovery::{
    Hello, WatchRequest, WatchResponse,
    access_control_discovery_client::AccessControlDiscoveryClient, watch_request::Request,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tonic::{Status, Streaming};

use crate::MAX_RESPONSE;

/// Requests that wait to be written; a server that does not read is as good as gone.
const QUEUE: usize = 4;

/// An open stream; dropping it ends the connection.
#[derive(Debug)]
pub struct Watch {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

/// Why there is no stream.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The other side does not speak HTTP/2.
    #[error("no HTTP/2 connection: {0}")]
    Http(#[from] hyper::Error),
    /// The other side refuses. The code Unimplemented means that it does not have the service.
    #[error("{:?}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
}

/// The server does not take what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the operator does not read")]
pub struct NotRead;

// === impl Watch ===

impl Watch {
    /// Opens a stream and says hello. Bound it in time: the other side may never answer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open<S, E>(
        io: S,
        authority: &str,
        tasks: E,
        hello: Hello,
    ) -> Result<Self, OpenError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        E: Executor<crate::server::Task> + Clone + Send + Sync + Unpin + 'static,
    {
        let handshake = http2::handshake(Boxed(tasks.clone()), TokioIo::new(io));
        let (sender, connection) = handshake.await?;
        // Its end is seen by the stream.
        tasks.execute(Box::pin(async { drop(connection.await) }));
        let origin = http::Uri::builder()
            .scheme("https")
            .authority(authority)
            .path_and_query("/");
        let origin = origin.build().unwrap_or_default();
        let client = AccessControlDiscoveryClient::with_origin(Service(sender), origin);
        let mut client = client.max_decoding_message_size(MAX_RESPONSE);
        let (requests, mut queue) = mpsc::channel(QUEUE);
        let hello = WatchRequest {
            request: Some(Request::Hello(hello)),
        };
        // The queue is empty, and its reader stands below.
        let _written = requests.send(hello).await;
        let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
        let opened = client.watch(queue).await;
        let responses = opened.map_err(|status| OpenError::Refused(Box::new(status)))?;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    /// Says something, without waiting.
    ///
    /// # Errors
    /// [`NotRead`] if the server takes nothing any more.
    pub fn say(&self, request: Request) -> Result<(), NotRead> {
        let request = WatchRequest {
            request: Some(request),
        };
        self.requests.try_send(request).map_err(|_full| NotRead)
    }

    /// Waits for the next response; `None` is the server's regular end. May be dropped and asked again.
    ///
    /// # Errors
    /// The status that ended the stream.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        self.responses.message().await
    }
}

/// An executor of boxed tasks, as hyper takes one.
#[derive(Clone)]
struct Boxed<E>(E);

impl<E, F> Executor<F> for Boxed<E>
where
    E: Executor<crate::server::Task>,
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.execute(Box::pin(future));
    }
}

/// hyper's sender as the service that tonic's client wants.
struct Service(http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Service {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
