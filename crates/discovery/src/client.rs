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

use crate::{MAX_INSTANCE, MAX_REQUEST, MAX_RESPONSE};

/// Requests that wait to be written; a server that does not read is as good as gone.
const QUEUE: usize = 4;
/// What an object has in a Hello beside its UID, generously; the Hello itself beside its objects likewise.
const FRAME: usize = 32;
/// Stands for objects that are not named. No UID has this form.
const UNNAMED: &str = "-";

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
    /// A Hello that no server would take names fewer objects, and one more that nobody has: then the server cannot
    /// know whether something is missing from what it holds, and takes nothing away before it has read its source
    /// anew (fact K208).
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
        let (service, origin) = connect(io, authority, tasks).await?;
        let client = AccessControlDiscoveryClient::with_origin(service, origin);
        let mut client = client.max_decoding_message_size(MAX_RESPONSE);
        let (requests, mut queue) = mpsc::channel(QUEUE);
        let hello = abridged(hello);
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

/// Speaks HTTP/2 on a connection, and says what its requests are for.
pub(crate) async fn connect<S, E>(
    io: S,
    authority: &str,
    tasks: E,
) -> Result<(Service, http::Uri), hyper::Error>
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
    Ok((Service(sender), origin.build().unwrap_or_default()))
}

/// A Hello that fits into a request.
fn abridged(mut hello: Hello) -> Hello {
    let mut left = MAX_REQUEST - MAX_INSTANCE - FRAME;
    let all = hello.seen.len();
    hello.seen.retain(|uid, _| {
        let rest = left.checked_sub(uid.len() + FRAME);
        left = rest.unwrap_or(left);
        rest.is_some()
    });
    if hello.seen.len() < all {
        hello.seen.insert(UNNAMED.to_owned(), 1);
    }
    hello
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
pub(crate) struct Service(http2::SendRequest<tonic::body::Body>);

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

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn a_hello_fits_into_a_request_and_says_that_it_names_not_all() {
        let hello = |count: u32, long: usize| Hello {
            protocol: 1,
            instance: "x".repeat(MAX_INSTANCE),
            seen: (0..count)
                .map(|n| (format!("{n:0long$}"), i64::MAX))
                .collect(),
        };
        // Ten thousand objects of Kubernetes fit whole.
        let fits = hello(10_000, 36);
        assert_eq!(abridged(fits.clone()), fits);
        assert!(fits.encoded_len() <= MAX_REQUEST);
        let cut = abridged(hello(20_000, 128));
        assert!(cut.encoded_len() <= MAX_REQUEST, "{}", cut.encoded_len());
        assert!(cut.seen.len() > 6_000 && cut.seen.contains_key(UNNAMED));
    }
}
