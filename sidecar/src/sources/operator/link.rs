//! One connection to the operator, and the calls that are made over it.
//!
//! Owns dialling, the identity of the other side (proved before a byte is said), time limits of what must end, and
//! the names of the calls of each kind. What the answers mean is `session.rs`. Source: kubernetes 3.7.

use std::time::Duration;

use bytes::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use ironside_chassis::tasks::Group;
use ironside_identity::SpiffeId;
use ironside_proto::operator::{
    ComponentUpdateRequest, ConfigurationUpdateRequest, GetConfigurationRequest,
    HttpEndpointUpdateRequest, ListComponentsRequest, ListHttpEndpointsRequest,
    ListResiliencyRequest, ResiliencyUpdateRequest, ResourceEventType,
    operator_client::OperatorClient,
};
use ironside_transport::{ConnectError, TlsClient};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataValue};

use crate::{
    config::KubernetesConfig,
    peers::connection::{PING_AFTER, PING_LIMIT, TaskExecutor},
    sources::cluster::Kind,
};

/// Dialling and handshake take no longer.
pub(super) const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// A call that is no stream takes no longer.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of one answer: all objects of a kind in one namespace.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How long after a stream its connection may end of the same cause.
const END_PATIENCE: Duration = Duration::from_secs(1);
/// Names this pod to the operator.
const POD_NAME: &str = "ironside-pod-name";
/// Asks for a snapshot at the beginning of a stream; the answer says the same if there is one.
const SNAPSHOT: &str = "ironside-snapshot";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// TCP.
    #[error("dial: {0}")]
    Dial(#[from] std::io::Error),
    /// TLS, or who is there.
    #[error("{cause} (expected {expected:?})")]
    Handshake {
        /// Who should be.
        expected: SpiffeId,
        /// Why it failed.
        cause: Box<ConnectError>,
    },
    /// HTTP/2.
    #[error("no HTTP/2 connection: {0}")]
    Http(#[from] hyper::Error),
    /// Time.
    #[error("no answer within {DIAL_LIMIT:?}")]
    Timeout,
}

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Link {
    client: OperatorClient<Sender>,
    /// Cancelled when the connection has ended.
    ended: CancellationToken,
    namespace: String,
    pod_name: Option<MetadataValue<tonic::metadata::Ascii>>,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// What happened; `Unknown` without bytes ends a snapshot.
    pub(super) what: ResourceEventType,
    /// The object.
    pub(super) object: Bytes,
}

/// An open stream of one kind.
pub(super) struct Updates {
    stream: Stream,
    /// The operator begins with a snapshot.
    pub(super) has_snapshot: bool,
}

enum Stream {
    Configuration(Streaming<ironside_proto::operator::ConfigurationUpdateEvent>),
    Component(Streaming<ironside_proto::operator::ComponentUpdateEvent>),
    HttpEndpoint(Streaming<ironside_proto::operator::HttpEndpointUpdateEvent>),
    Resiliency(Streaming<ironside_proto::operator::ResiliencyUpdateEvent>),
}

// === impl Link ===

impl Link {
    /// Connects, and proves who is there.
    ///
    /// # Errors
    /// [`DialError`].
    pub(super) async fn dial(
        tls: &TlsClient,
        config: &KubernetesConfig,
        namespace: &str,
        tasks: &Group,
    ) -> Result<Self, DialError> {
        let dialling = Box::pin(Self::connect(tls, config, namespace, tasks));
        let done = tokio::time::timeout(DIAL_LIMIT, dialling).await;
        done.map_err(|_elapsed| DialError::Timeout)?
    }

    async fn connect(
        tls: &TlsClient,
        config: &KubernetesConfig,
        namespace: &str,
        tasks: &Group,
    ) -> Result<Self, DialError> {
        let KubernetesConfig {
            operator_address,
            operator,
            pod_name,
            configuration: _,
        } = config;
        let tcp = TcpStream::connect(&**operator_address).await?;
        tcp.set_nodelay(true)?;
        let secured = tls.connect_control_plane(tcp, operator).await;
        let io = secured.map_err(|cause| DialError::Handshake {
            expected: operator.clone(),
            cause: Box::new(cause),
        })?;
        let (sender, connection) = http2::Builder::new(TaskExecutor(tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_AFTER)
            .keep_alive_timeout(PING_LIMIT)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(io))
            .await?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        tasks.spawn(async move {
            // Its cause is seen by every call.
            drop(connection.await);
            drop(end);
        });
        let origin = http::Uri::builder()
            .scheme("https")
            .authority(&**operator_address)
            .path_and_query("/");
        let origin = origin.build().unwrap_or_default();
        let client = OperatorClient::with_origin(Sender(sender), origin);
        Ok(Self {
            ended,
            client: client.max_decoding_message_size(MAX_ANSWER),
            namespace: namespace.to_owned(),
            pod_name: pod_name.as_deref().and_then(|name| name.parse().ok()),
        })
    }

    /// True if the connection has ended, or does so now: its streams are told before the rest of the process is.
    pub(super) async fn has_ended(&self) -> bool {
        let ended = tokio::time::timeout(END_PATIENCE, self.ended.cancelled());
        ended.await.is_ok()
    }

    /// The Configuration of this name.
    ///
    /// # Errors
    /// The operator's status.
    pub(super) async fn configuration(&mut self, name: &str) -> Result<Bytes, Status> {
        let request = self.request(GetConfigurationRequest {
            name: name.to_owned(),
            namespace: self.namespace.clone(),
        });
        let answer = limited(self.client.get_configuration(request)).await?;
        Ok(answer.into_inner().configuration)
    }

    /// All objects of a kind; of Configurations there is only the one by name.
    ///
    /// # Errors
    /// The operator's status.
    pub(super) async fn list(&mut self, kind: Kind) -> Result<Vec<Bytes>, Status> {
        let namespace = self.namespace.clone();
        match kind {
            Kind::Configuration => Ok(Vec::new()),
            Kind::Component => {
                let request = self.request(ListComponentsRequest { namespace });
                let answer = limited(self.client.list_components(request)).await?;
                Ok(answer.into_inner().components)
            }
            Kind::HttpEndpoint => {
                let request = self.request(ListHttpEndpointsRequest { namespace });
                let answer = limited(self.client.list_http_endpoints(request)).await?;
                Ok(answer.into_inner().http_endpoints)
            }
            Kind::Resiliency => {
                let request = self.request(ListResiliencyRequest { namespace });
                let answer = limited(self.client.list_resiliency(request)).await?;
                Ok(answer.into_inner().resiliencies)
            }
        }
    }

    /// Opens the stream of a kind. An operator of the reference answers with its first event, which may never come.
    ///
    /// # Errors
    /// The operator's status.
    pub(super) async fn updates(mut self, kind: Kind) -> Result<Updates, Status> {
        let namespace = self.namespace.clone();
        match kind {
            Kind::Configuration => {
                let request = self.streaming(ConfigurationUpdateRequest { namespace });
                let opened = self.client.configuration_update(request).await?;
                Ok(Updates::new(opened, Stream::Configuration))
            }
            Kind::Component => {
                let request = self.streaming(ComponentUpdateRequest { namespace });
                let opened = self.client.component_update(request).await?;
                Ok(Updates::new(opened, Stream::Component))
            }
            Kind::HttpEndpoint => {
                let request = self.streaming(HttpEndpointUpdateRequest { namespace });
                let opened = self.client.http_endpoint_update(request).await?;
                Ok(Updates::new(opened, Stream::HttpEndpoint))
            }
            Kind::Resiliency => {
                let request = self.streaming(ResiliencyUpdateRequest { namespace });
                let opened = self.client.resiliency_update(request).await?;
                Ok(Updates::new(opened, Stream::Resiliency))
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(name) = &self.pod_name {
            request.metadata_mut().insert(POD_NAME, name.clone());
        }
        request
    }

    fn streaming<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        let metadata = request.metadata_mut();
        metadata.insert(SNAPSHOT, MetadataValue::from_static("1"));
        request
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = || Status::deadline_exceeded(format!("no answer within {CALL_LIMIT:?}"));
    let done = tokio::time::timeout(CALL_LIMIT, call).await;
    done.unwrap_or_else(|_elapsed| Err(late()))
}

// === impl Updates ===

impl Updates {
    fn new<T>(opened: Response<Streaming<T>>, stream: fn(Streaming<T>) -> Stream) -> Self {
        let said = opened.metadata().get(SNAPSHOT);
        Self {
            has_snapshot: said.is_some_and(|said| said == "1"),
            stream: stream(opened.into_inner()),
        }
    }

    /// Waits for the next event; `None` is the operator's regular end. May be dropped and asked again.
    ///
    /// # Errors
    /// The status that ended the stream.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Status> {
        let event = match &mut self.stream {
            Stream::Configuration(stream) => stream
                .message()
                .await?
                .map(|event| (event.r#type, event.configuration)),
            Stream::Component(stream) => stream
                .message()
                .await?
                .map(|event| (event.r#type, event.component)),
            Stream::HttpEndpoint(stream) => stream
                .message()
                .await?
                .map(|event| (event.r#type, event.http_endpoints)),
            Stream::Resiliency(stream) => stream
                .message()
                .await?
                .map(|event| (event.r#type, event.resiliency)),
        };
        Ok(event.map(|(what, object)| Event {
            what: ResourceEventType::try_from(what).unwrap_or(ResourceEventType::Unknown),
            object,
        }))
    }
}

/// hyper's sender as the service that tonic's client wants.
#[derive(Clone)]
struct Sender(http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Sender {
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
