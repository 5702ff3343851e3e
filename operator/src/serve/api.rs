//! The service `dapr.proto.operator.v1.Operator` (kubernetes 3.7 to 3.9).
//!
//! Owns which RPC reads what. Every RPC judges the caller first. Kinds that are not offered have empty lists and
//! silent streams, so that no sidecar of the reference reconnects in a loop.

use super::assigned::{Assigned, LivePods};
use super::authz::{Caller, SNAPSHOT};
use super::secrets::Secrets;
use super::shelf::{Follower, Next, Shelf};
use crate::cluster::Calls;
use crate::index::objects::{Kind, Stored};
use crate::metrics::Metrics;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use ironside_chassis::Clock;
use ironside_proto::operator::operator_server::Operator;
use ironside_proto::operator::{self as proto, ResourceEventType};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

/// An object whose secrets could not be read is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(15);
/// A call that comes before the objects are known waits this long.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// The service. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Api(Arc<Parts>);

/// What the service is made of.
pub(crate) struct Parts {
    pub(crate) shelves: Arc<Shelves>,
    pub(crate) pods: Arc<LivePods>,
    pub(crate) secrets: Secrets,
    pub(crate) calls: Calls,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) stop: CancellationToken,
}

/// The objects of all kinds.
pub(crate) struct Shelves([Shelf; 4]);

type Events<E> = BoxStream<'static, Result<E, Status>>;

/// One stream under way.
struct Tail {
    api: Arc<Parts>,
    follower: Follower,
    kind: Kind,
    caller: Caller,
    assigned: Option<Assigned>,
    is_over: bool,
}

// === impl Shelves ===

impl Shelves {
    pub(crate) fn new(clock: &Clock, metrics: &Metrics) -> Self {
        Self(Kind::ALL.map(|kind| Shelf::new(kind, clock.clone(), metrics.clone())))
    }

    pub(crate) fn of(&self, kind: Kind) -> &Shelf {
        let [configurations, resiliencies, endpoints, components] = &self.0;
        match kind {
            Kind::Configuration => configurations,
            Kind::Resiliency => resiliencies,
            Kind::HttpEndpoint => endpoints,
            Kind::Component => components,
        }
    }
}

// === impl Api ===

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The objects of a kind, once all are known.
    async fn shelf(&self, kind: Kind) -> Result<&Shelf, Status> {
        let shelf = self.0.shelves.of(kind);
        if !shelf.is_whole() {
            let whole = tokio::time::timeout(SYNC_LIMIT, shelf.whole());
            tokio::select! {
                () = self.0.stop.cancelled() => return Err(stopping()),
                whole = whole => whole.map_err(|_elapsed| {
                    Status::unavailable(format!("{} have not been read yet", kind.plural()))
                })?,
            }
        }
        Ok(shelf)
    }

    async fn get<T>(
        &self,
        request: &Request<T>,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> Result<Bytes, Status> {
        let caller = Caller::of(request, namespace)?;
        let found = self.shelf(kind).await?.get(&caller.namespace, name);
        let found = found.ok_or_else(|| {
            Status::not_found(format!("{}.dapr.io \"{name}\" not found", kind.plural()))
        })?;
        let resolved = self.0.secrets.resolve(&found).await;
        resolved.map_err(|trouble| Status::failed_precondition(trouble.to_string()))
    }

    /// The objects for a caller; those whose secrets cannot be read are left out.
    async fn list<T>(
        &self,
        request: &Request<T>,
        kind: Kind,
        namespace: &str,
    ) -> Result<Vec<Bytes>, Status> {
        let caller = Caller::of(request, namespace)?;
        let all = self.shelf(kind).await?.of_namespace(&caller.namespace);
        let mut list = Vec::new();
        for object in all.iter().filter(|object| is_listed(object, &caller)) {
            if let Ok(json) = self.0.secrets.resolve(object).await {
                list.push(json);
            }
        }
        Ok(list)
    }

    async fn follow<T, E: Send + 'static>(
        &self,
        request: &Request<T>,
        kind: Kind,
        namespace: &str,
        event: fn(Bytes, i32) -> E,
    ) -> Result<Response<Events<E>>, Status> {
        let caller = Caller::of(request, namespace)?;
        let shelf = self.shelf(kind).await?;
        // Followed before anything else is asked, so that nothing is missed meanwhile.
        let follower = shelf.follow(&caller.namespace, caller.wants_snapshot);
        let assigned = match kind {
            Kind::Configuration => Some(Assigned::find(&caller, &self.0.pods, &self.0.calls).await),
            Kind::Resiliency | Kind::HttpEndpoint | Kind::Component => None,
        };
        let wants_snapshot = caller.wants_snapshot;
        let tail = Tail {
            api: Arc::clone(&self.0),
            follower,
            kind,
            caller,
            assigned,
            is_over: false,
        };
        let events = stream::unfold(tail, Tail::turn);
        let events = events.map(move |told| told.map(|(json, kind)| event(json, kind.into())));
        let mut response = Response::new(events.boxed());
        if wants_snapshot {
            let yes = MetadataValue::from_static("1");
            response.metadata_mut().insert(SNAPSHOT, yes);
        }
        Ok(response)
    }

    /// A stream that says nothing until the end.
    fn silence<T, E: Send + 'static>(
        &self,
        request: &Request<T>,
        (kind, namespace): (&'static str, &str),
    ) -> Result<Response<Events<E>>, Status> {
        Caller::of(request, namespace)?;
        let (stop, metrics) = (self.0.stop.clone(), self.0.metrics.clone());
        metrics.count_stream(kind, 1);
        let counted = Counted { metrics, kind };
        let end = async move {
            stop.cancelled_owned().await;
            drop(counted);
            Err(stopping())
        };
        Ok(Response::new(stream::once(end).boxed()))
    }
}

/// A silent stream, counted while it lives.
struct Counted {
    metrics: Metrics,
    kind: &'static str,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.count_stream(self.kind, -1);
    }
}

/// Resiliency is filtered by the sidecar (3.8, KG-06); so are endpoints, but an endpoint for others may hold secrets.
fn is_listed(object: &Stored, caller: &Caller) -> bool {
    match object.kind {
        Kind::Configuration | Kind::Resiliency => true,
        Kind::HttpEndpoint | Kind::Component => object.is_for(&caller.app_id),
    }
}

fn stopping() -> Status {
    Status::unavailable("operator is shutting down")
}

// === impl Tail ===

impl Tail {
    /// Waits for the next event, and returns it with itself.
    async fn turn(mut self) -> Option<(Result<(Bytes, ResourceEventType), Status>, Self)> {
        if self.is_over {
            return None;
        }
        let stop = self.api.stop.clone();
        let told = tokio::select! {
            () = stop.cancelled() => Err(stopping()),
            told = self.next() => told,
        };
        self.is_over = told.is_err();
        Some((told, self))
    }

    async fn next(&self) -> Result<(Bytes, ResourceEventType), Status> {
        loop {
            let (key, step, since) = match self.follower.next().await {
                Next::Step(key, step, since) => (key, step, since),
                Next::SnapshotEnd => return Ok((Bytes::new(), ResourceEventType::Unknown)),
                Next::Overrun => {
                    let text = "too many changes waited on this stream: open it again";
                    return Err(Status::unavailable(text));
                }
            };
            let name = self
                .assigned
                .as_ref()
                .map(|found| found.name(&self.api.pods));
            let concerns = |object: &Stored| match &name {
                Some(name) => name.as_ref() == Some(&object.name),
                None => object.is_for(&self.caller.app_id),
            };
            let Some((event, object)) = step.event(concerns) else {
                continue;
            };
            let json = match event {
                // What is gone needs no secrets.
                ResourceEventType::Deleted => object.json.clone(),
                ResourceEventType::Created
                | ResourceEventType::Updated
                | ResourceEventType::Unknown => match self.api.secrets.resolve(object).await {
                    Ok(json) => json,
                    Err(_told_already) => {
                        self.follower.defer(key, step, TRY_AGAIN);
                        continue;
                    }
                },
            };
            let lag = self.api.clock.monotonic() - since;
            self.api.metrics.note_delivery(self.kind, lag);
            return Ok((json, event));
        }
    }
}

#[tonic::async_trait]
impl Operator for Api {
    type ConfigurationUpdateStream = Events<proto::ConfigurationUpdateEvent>;
    type ResiliencyUpdateStream = Events<proto::ResiliencyUpdateEvent>;
    type HTTPEndpointUpdateStream = Events<proto::HttpEndpointUpdateEvent>;
    type ComponentUpdateStream = Events<proto::ComponentUpdateEvent>;
    type SubscriptionUpdateStream = Events<proto::SubscriptionUpdateEvent>;
    type MCPServerUpdateStream = Events<proto::McpServerUpdateEvent>;
    type WorkflowAccessPolicyUpdateStream = Events<proto::WorkflowAccessPolicyUpdateEvent>;

    async fn get_configuration(
        &self,
        request: Request<proto::GetConfigurationRequest>,
    ) -> Result<Response<proto::GetConfigurationResponse>, Status> {
        let (name, namespace) = (&request.get_ref().name, &request.get_ref().namespace);
        let configuration = self
            .get(&request, Kind::Configuration, namespace, name)
            .await?;
        Ok(Response::new(proto::GetConfigurationResponse {
            configuration,
        }))
    }

    async fn configuration_update(
        &self,
        request: Request<proto::ConfigurationUpdateRequest>,
    ) -> Result<Response<Self::ConfigurationUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        let event = |configuration, r#type| proto::ConfigurationUpdateEvent {
            configuration,
            r#type,
        };
        self.follow(&request, Kind::Configuration, namespace, event)
            .await
    }

    async fn get_resiliency(
        &self,
        request: Request<proto::GetResiliencyRequest>,
    ) -> Result<Response<proto::GetResiliencyResponse>, Status> {
        let (name, namespace) = (&request.get_ref().name, &request.get_ref().namespace);
        let resiliency = self
            .get(&request, Kind::Resiliency, namespace, name)
            .await?;
        Ok(Response::new(proto::GetResiliencyResponse { resiliency }))
    }

    async fn list_resiliency(
        &self,
        request: Request<proto::ListResiliencyRequest>,
    ) -> Result<Response<proto::ListResiliencyResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let resiliencies = self.list(&request, Kind::Resiliency, namespace).await?;
        Ok(Response::new(proto::ListResiliencyResponse {
            resiliencies,
        }))
    }

    async fn resiliency_update(
        &self,
        request: Request<proto::ResiliencyUpdateRequest>,
    ) -> Result<Response<Self::ResiliencyUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        let event = |resiliency, r#type| proto::ResiliencyUpdateEvent { resiliency, r#type };
        self.follow(&request, Kind::Resiliency, namespace, event)
            .await
    }

    async fn list_http_endpoints(
        &self,
        request: Request<proto::ListHttpEndpointsRequest>,
    ) -> Result<Response<proto::ListHttpEndpointsResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let http_endpoints = self.list(&request, Kind::HttpEndpoint, namespace).await?;
        Ok(Response::new(proto::ListHttpEndpointsResponse {
            http_endpoints,
        }))
    }

    async fn http_endpoint_update(
        &self,
        request: Request<proto::HttpEndpointUpdateRequest>,
    ) -> Result<Response<Self::HTTPEndpointUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        let event = |http_endpoints, r#type| proto::HttpEndpointUpdateEvent {
            http_endpoints,
            r#type,
        };
        self.follow(&request, Kind::HttpEndpoint, namespace, event)
            .await
    }

    async fn list_components(
        &self,
        request: Request<proto::ListComponentsRequest>,
    ) -> Result<Response<proto::ListComponentResponse>, Status> {
        let namespace = &request.get_ref().namespace;
        let components = self.list(&request, Kind::Component, namespace).await?;
        Ok(Response::new(proto::ListComponentResponse { components }))
    }

    async fn component_update(
        &self,
        request: Request<proto::ComponentUpdateRequest>,
    ) -> Result<Response<Self::ComponentUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        let event = |component, r#type| proto::ComponentUpdateEvent { component, r#type };
        self.follow(&request, Kind::Component, namespace, event)
            .await
    }

    async fn list_subscriptions(
        &self,
        request: Request<ironside_proto::google::protobuf::Empty>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        Caller::of(&request, "")?;
        Ok(Response::new(Default::default()))
    }

    async fn list_subscriptions_v2(
        &self,
        request: Request<proto::ListSubscriptionsRequest>,
    ) -> Result<Response<proto::ListSubscriptionsResponse>, Status> {
        Caller::of(&request, &request.get_ref().namespace)?;
        Ok(Response::new(Default::default()))
    }

    async fn subscription_update(
        &self,
        request: Request<proto::SubscriptionUpdateRequest>,
    ) -> Result<Response<Self::SubscriptionUpdateStream>, Status> {
        self.silence(&request, ("Subscription", &request.get_ref().namespace))
    }

    async fn list_mcp_servers(
        &self,
        request: Request<proto::ListMcpServersRequest>,
    ) -> Result<Response<proto::ListMcpServersResponse>, Status> {
        Caller::of(&request, &request.get_ref().namespace)?;
        Ok(Response::new(Default::default()))
    }

    async fn mcp_server_update(
        &self,
        request: Request<proto::McpServerUpdateRequest>,
    ) -> Result<Response<Self::MCPServerUpdateStream>, Status> {
        self.silence(&request, ("MCPServer", &request.get_ref().namespace))
    }

    async fn list_workflow_access_policy(
        &self,
        request: Request<proto::ListWorkflowAccessPolicyRequest>,
    ) -> Result<Response<proto::ListWorkflowAccessPolicyResponse>, Status> {
        Caller::of(&request, &request.get_ref().namespace)?;
        Ok(Response::new(Default::default()))
    }

    async fn workflow_access_policy_update(
        &self,
        request: Request<proto::WorkflowAccessPolicyUpdateRequest>,
    ) -> Result<Response<Self::WorkflowAccessPolicyUpdateStream>, Status> {
        let namespace = &request.get_ref().namespace;
        self.silence(&request, ("WorkflowAccessPolicy", namespace))
    }
}
