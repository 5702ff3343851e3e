//! Apps of the Rust SDK: its ready-made callback service, and one written by hand.

use dapr::{
    appcallback::{
        AppCallbackService, BindingEventRequest, BindingEventResponse, InvokeRequest,
        InvokeResponse, JobEventRequest, JobEventResponse, ListInputBindingsResponse,
        ListTopicSubscriptionsResponse, TopicEventBulkRequest, TopicEventBulkResponse,
        TopicEventRequest, TopicEventResponse,
    },
    dapr::proto::runtime::v1::app_callback_server::{AppCallback, AppCallbackServer},
};
use tonic::{Request, Response, Status, transport::Server};

fn address() -> std::net::SocketAddr {
    let port: u16 = std::env::var("APP_PORT")
        .expect("APP_PORT")
        .parse()
        .expect("a port");
    ([127, 0, 0, 1], port).into()
}

/// Serves the SDK's own service, whose `on_invoke` panics.
pub(crate) async fn ready_made() {
    let service = AppCallbackServer::new(AppCallbackService::new());
    Server::builder()
        .add_service(service)
        .serve(address())
        .await
        .expect("the port is free");
}

/// Serves a service that sends back what it got.
pub(crate) async fn echo() {
    Server::builder()
        .add_service(AppCallbackServer::new(Echo))
        .serve(address())
        .await
        .expect("the port is free");
}

struct Echo;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AppCallback for Echo {
    async fn on_invoke(&self, request: Request<InvokeRequest>) -> Answer<InvokeResponse> {
        let data = request.into_inner().data;
        Ok(Response::new(InvokeResponse {
            data,
            content_type: "text/x".to_owned(),
        }))
    }

    async fn list_topic_subscriptions(
        &self,
        _: Request<()>,
    ) -> Answer<ListTopicSubscriptionsResponse> {
        Err(Status::unimplemented("no topics"))
    }

    async fn on_topic_event(&self, _: Request<TopicEventRequest>) -> Answer<TopicEventResponse> {
        Err(Status::unimplemented("no topics"))
    }

    async fn list_input_bindings(&self, _: Request<()>) -> Answer<ListInputBindingsResponse> {
        Err(Status::unimplemented("no bindings"))
    }

    async fn on_binding_event(
        &self,
        _: Request<BindingEventRequest>,
    ) -> Answer<BindingEventResponse> {
        Err(Status::unimplemented("no bindings"))
    }

    async fn on_bulk_topic_event(
        &self,
        _: Request<TopicEventBulkRequest>,
    ) -> Answer<TopicEventBulkResponse> {
        Err(Status::unimplemented("no topics"))
    }

    async fn on_job_event(&self, _: Request<JobEventRequest>) -> Answer<JobEventResponse> {
        Err(Status::unimplemented("no jobs"))
    }
}
