//! An operator as far as objects go: lists, streams, and a snapshot at their beginning if it is one of ours.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use ironside_chassis::{Clock, Tasks};
use ironside_e2e::wait;
use ironside_proto::operator::{
    operator_server::{Operator as Service, OperatorServer},
    *,
};
use ironside_testkit::certs::Ca;
use ironside_transport::{Identity, TlsServer};
use serde_json::Value;
use tokio::{net::TcpListener, sync::broadcast, sync::watch};
use tonic::{Request, Response, Status};

type Key = (&'static str, String);
type Change = (&'static str, ResourceEventType, String);
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A running operator; it ends when dropped or killed.
pub(crate) struct Operator {
    tasks: Tasks,
    state: Arc<State>,
}

/// What it knows; it outlives the process.
pub(crate) struct State {
    objects: Mutex<BTreeMap<Key, String>>,
    changes: broadcast::Sender<Change>,
    /// It is one of ours.
    has_snapshots: bool,
    /// Names of pods that said theirs.
    pub(crate) pods: Mutex<Vec<String>>,
}

// === impl State ===

impl State {
    pub(crate) fn new(has_snapshots: bool) -> Arc<Self> {
        Arc::new(Self {
            objects: Mutex::default(),
            changes: broadcast::channel(256).0,
            has_snapshots,
            pods: Mutex::default(),
        })
    }

    /// Stores an object, and tells of it.
    pub(crate) fn put(&self, kind: &'static str, name: &str, generation: i64, spec: &Value) {
        let object = serde_json::json!({
            "metadata": { "name": name, "namespace": "shop", "generation": generation },
            "spec": spec,
        });
        let object = object.to_string();
        let key = (kind, name.to_owned());
        let old = self.objects.lock().unwrap().insert(key, object.clone());
        let what = match old {
            Some(_) => ResourceEventType::Updated,
            None => ResourceEventType::Created,
        };
        // Nobody may be listening.
        drop(self.changes.send((kind, what, object)));
    }

    pub(crate) fn delete(&self, kind: &'static str, name: &str) {
        let old = self
            .objects
            .lock()
            .unwrap()
            .remove(&(kind, name.to_owned()));
        let old = old.expect("an object to delete");
        drop(self.changes.send((kind, ResourceEventType::Deleted, old)));
    }

    fn all(&self, kind: &str) -> Vec<String> {
        let objects = self.objects.lock().unwrap();
        let ours = objects.iter().filter(|((its, _), _)| *its == kind);
        ours.map(|(_, object)| object.clone()).collect()
    }

    fn list(&self, kind: &str) -> Vec<Bytes> {
        self.all(kind).into_iter().map(Into::into).collect()
    }

    fn stream<Q, T: Send + 'static>(
        &self,
        kind: &'static str,
        request: &Request<Q>,
        event: fn(Bytes, i32) -> T,
    ) -> Response<Events<T>> {
        let receiver = self.changes.subscribe();
        if let Some(name) = request.metadata().get("ironside-pod-name") {
            self.pods
                .lock()
                .unwrap()
                .push(name.to_str().unwrap().to_owned());
        }
        let asked = request.metadata().get("ironside-snapshot").is_some();
        let is_told = self.has_snapshots && asked;
        let mut first = Vec::new();
        if is_told {
            first.extend(
                self.all(kind)
                    .into_iter()
                    .map(|object| (ResourceEventType::Created, object)),
            );
            first.push((ResourceEventType::Unknown, String::new()));
        }
        let later = stream::unfold(receiver, move |mut receiver| async move {
            loop {
                match receiver.recv().await {
                    Ok((its, what, object)) if its == kind => {
                        return Some(((what, object), receiver));
                    }
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        let events = stream::iter(first).chain(later);
        let events = events.map(move |(what, object)| Ok(event(object.into(), what as i32)));
        let mut response: Response<Events<T>> = Response::new(Box::pin(events));
        if is_told {
            let metadata = response.metadata_mut();
            metadata.insert("ironside-snapshot", "1".parse().unwrap());
        }
        response
    }
}

fn none<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not in this test"))
}

struct Api(Arc<State>);

#[tonic::async_trait]
impl Service for Api {
    async fn get_configuration(
        &self,
        request: Request<GetConfigurationRequest>,
    ) -> Result<Response<GetConfigurationResponse>, Status> {
        let name = request.into_inner().name;
        let found = self
            .0
            .objects
            .lock()
            .unwrap()
            .get(&("Configuration", name.clone()))
            .cloned();
        // As the operator of the reference says it.
        let missing = || Status::unknown(format!("configurations.dapr.io {name:?} not found"));
        let configuration = found.ok_or_else(missing)?.into();
        Ok(Response::new(GetConfigurationResponse { configuration }))
    }

    type ConfigurationUpdateStream = Events<ConfigurationUpdateEvent>;

    async fn configuration_update(
        &self,
        request: Request<ConfigurationUpdateRequest>,
    ) -> Result<Response<Self::ConfigurationUpdateStream>, Status> {
        Ok(self
            .0
            .stream("Configuration", &request, |configuration, r#type| {
                ConfigurationUpdateEvent {
                    configuration,
                    r#type,
                }
            }))
    }

    async fn get_resiliency(
        &self,
        _: Request<GetResiliencyRequest>,
    ) -> Result<Response<GetResiliencyResponse>, Status> {
        none()
    }

    async fn list_resiliency(
        &self,
        _: Request<ListResiliencyRequest>,
    ) -> Result<Response<ListResiliencyResponse>, Status> {
        let resiliencies = self.0.list("Resiliency");
        Ok(Response::new(ListResiliencyResponse { resiliencies }))
    }

    type ResiliencyUpdateStream = Events<ResiliencyUpdateEvent>;

    async fn resiliency_update(
        &self,
        request: Request<ResiliencyUpdateRequest>,
    ) -> Result<Response<Self::ResiliencyUpdateStream>, Status> {
        Ok(self.0.stream("Resiliency", &request, |resiliency, r#type| {
            ResiliencyUpdateEvent { resiliency, r#type }
        }))
    }

    async fn list_http_endpoints(
        &self,
        _: Request<ListHttpEndpointsRequest>,
    ) -> Result<Response<ListHttpEndpointsResponse>, Status> {
        let http_endpoints = self.0.list("HTTPEndpoint");
        Ok(Response::new(ListHttpEndpointsResponse { http_endpoints }))
    }

    type HTTPEndpointUpdateStream = Events<HttpEndpointUpdateEvent>;

    async fn http_endpoint_update(
        &self,
        request: Request<HttpEndpointUpdateRequest>,
    ) -> Result<Response<Self::HTTPEndpointUpdateStream>, Status> {
        Ok(self
            .0
            .stream("HTTPEndpoint", &request, |http_endpoints, r#type| {
                HttpEndpointUpdateEvent {
                    http_endpoints,
                    r#type,
                }
            }))
    }

    async fn list_components(
        &self,
        _: Request<ListComponentsRequest>,
    ) -> Result<Response<ListComponentResponse>, Status> {
        let components = self.0.list("Component");
        Ok(Response::new(ListComponentResponse { components }))
    }

    type ComponentUpdateStream = Events<ComponentUpdateEvent>;

    async fn component_update(
        &self,
        request: Request<ComponentUpdateRequest>,
    ) -> Result<Response<Self::ComponentUpdateStream>, Status> {
        Ok(self.0.stream("Component", &request, |component, r#type| {
            ComponentUpdateEvent { component, r#type }
        }))
    }

    async fn list_subscriptions(
        &self,
        _: Request<ironside_proto::google::protobuf::Empty>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        none()
    }

    async fn list_subscriptions_v2(
        &self,
        _: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, Status> {
        none()
    }

    type SubscriptionUpdateStream = Events<SubscriptionUpdateEvent>;

    async fn subscription_update(
        &self,
        _: Request<SubscriptionUpdateRequest>,
    ) -> Result<Response<Self::SubscriptionUpdateStream>, Status> {
        none()
    }

    async fn list_mcp_servers(
        &self,
        _: Request<ListMcpServersRequest>,
    ) -> Result<Response<ListMcpServersResponse>, Status> {
        none()
    }

    type MCPServerUpdateStream = Events<McpServerUpdateEvent>;

    async fn mcp_server_update(
        &self,
        _: Request<McpServerUpdateRequest>,
    ) -> Result<Response<Self::MCPServerUpdateStream>, Status> {
        none()
    }

    async fn list_workflow_access_policy(
        &self,
        _: Request<ListWorkflowAccessPolicyRequest>,
    ) -> Result<Response<ListWorkflowAccessPolicyResponse>, Status> {
        none()
    }

    type WorkflowAccessPolicyUpdateStream = Events<WorkflowAccessPolicyUpdateEvent>;

    async fn workflow_access_policy_update(
        &self,
        _: Request<WorkflowAccessPolicyUpdateRequest>,
    ) -> Result<Response<Self::WorkflowAccessPolicyUpdateStream>, Status> {
        none()
    }
}

// === impl Operator ===

impl Operator {
    /// Serves `state` on this port as `id`, under the roots of `ca`.
    pub(crate) async fn start(ca: &Ca, id: &str, port: u16, state: &Arc<State>) -> Self {
        let identity = Identity {
            svid: Arc::new(ca.svid(id).svid()),
            bundle: Arc::new(ca.bundle()),
            generation: 1,
        };
        let (_sender, identity) = watch::channel(Some(Arc::new(identity)));
        let clock = Clock::system();
        let tls = Arc::new(TlsServer::new(identity, Arc::new(move || clock.now())));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let bind = || async { TcpListener::bind(address).await.ok() };
        let listener = wait::until("a free port", wait::LONG, bind).await.unwrap();
        let (tasks, shown) = (Tasks::new(), Arc::clone(state));
        let (stop, group) = (tasks.token(), tasks.group("connection"));
        tasks.spawn("operator", async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((tcp, _from)) = accepted else { continue };
                let (tls, stop) = (Arc::clone(&tls), stop.clone());
                let (executor, api) = (group.clone(), OperatorServer::new(Api(Arc::clone(&shown))));
                let work = async move {
                    let Ok((io, _peer)) = tls.accept(tcp).await else {
                        return;
                    };
                    let service = hyper::service::service_fn(move |request| {
                        use tower_service::Service as _;
                        api.clone().call(request)
                    });
                    let builder = hyper::server::conn::http2::Builder::new(executor);
                    let io = hyper_util::rt::TokioIo::new(io);
                    drop(builder.serve_connection(io, service).await);
                };
                group.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = work => {}
                    }
                });
            }
        });
        Self {
            tasks,
            state: Arc::clone(state),
        }
    }

    /// Breaks every connection and gives the port back; what it knew stays.
    pub(crate) async fn kill(self) -> Arc<State> {
        let left = self.tasks.shutdown(wait::LONG).await;
        assert!(left.is_empty(), "{left:?}");
        self.state.clone()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}
