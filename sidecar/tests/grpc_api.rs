//! The gRPC API's own methods and the stages before them (service-invocation 1.15, 2.1; cli-and-clients 2.10).

mod rig;

use ironside_proto::runtime::{
    GetMetadataRequest, GetMetadataResponse, SetMetadataRequest, ShutdownRequest,
};
use ironside_testkit::{
    grpc::{GrpcClient, GrpcReply, encode},
    http::Request,
};
use prost::Message;
use rig::{Daprd, NEVER, Plan, within};

const DAPR: &str = "/dapr.proto.runtime.v1.Dapr/";
const OK: u32 = 0;
const INVALID_ARGUMENT: u32 = 3;
const FAILED_PRECONDITION: u32 = 9;
const UNIMPLEMENTED: u32 = 12;
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNAUTHENTICATED: u32 = 16;

async fn call(
    sidecar: &mut Daprd,
    path: &str,
    metadata: &[(&str, &str)],
    message: &impl Message,
) -> GrpcReply {
    let port = sidecar.grpc_port().await;
    rig::rpc(port, path, metadata, &message.encode_to_vec()).await
}

async fn own(sidecar: &mut Daprd, method: &str, message: &impl Message) -> GrpcReply {
    call(sidecar, &format!("{DAPR}{method}"), &[], message).await
}

/// A message whose first field is a name, as most messages of building blocks are.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

fn named() -> Named {
    Named {
        name: "nomen".to_owned(),
    }
}

/// Fact: service-invocation SI-114, 2.2: both APIs speak of the same metadata.
#[tokio::test]
async fn metadata_is_that_of_the_http_api() {
    let mut sidecar = Plan::new(NEVER).start();
    let set = SetMetadataRequest {
        key: "k".to_owned(),
        value: "v".to_owned(),
    };
    assert_eq!(
        own(&mut sidecar, "SetMetadata", &set).await.code(),
        Some(OK)
    );
    let reply = own(&mut sidecar, "GetMetadata", &GetMetadataRequest {}).await;
    assert_eq!(reply.code(), Some(OK));
    assert!(reply.header("grpc-trace-bin").is_some());
    let metadata = GetMetadataResponse::decode(reply.messages.first().unwrap().as_slice()).unwrap();
    assert_eq!(
        (metadata.id.as_str(), metadata.runtime_version.as_str()),
        ("appa", "edge")
    );
    assert_eq!(
        metadata.extended_metadata.get("k").map(String::as_str),
        Some("v")
    );
    let app = metadata.app_connection_properties.unwrap();
    assert_eq!(
        (
            app.port,
            app.protocol.as_str(),
            app.channel_address.as_str()
        ),
        (1, "http", "127.0.0.1")
    );
    assert!(
        sidecar
            .get("/v1.0/metadata")
            .await
            .text()
            .contains(r#""k":"v""#)
    );
    assert_eq!(sidecar.terminate().await, 0);
}

#[tokio::test]
async fn shutdown_over_grpc_ends_with_0_or_by_force_with_1() {
    for (metadata, code) in [(&[][..], 0), (&[("dapr-force-shutdown", "true")][..], 1)] {
        let mut sidecar = Plan::new(NEVER).start();
        let path = format!("{DAPR}Shutdown");
        assert_eq!(
            call(&mut sidecar, &path, metadata, &ShutdownRequest {})
                .await
                .code(),
            Some(OK)
        );
        assert_eq!(sidecar.exit_code().await, code);
    }
}

/// Fact: cli-and-clients 2.10, the gRPC column.
#[tokio::test]
async fn methods_of_other_blocks_get_their_code_and_never_reach_a_proxy() {
    let mut sidecar = Plan::new(NEVER).start();
    for (method, code, text) in [
        (
            "GetState",
            FAILED_PRECONDITION,
            "state store nomen is not configured",
        ),
        (
            "PublishEvent",
            INVALID_ARGUMENT,
            "pubsub nomen is not found",
        ),
        (
            "InvokeBinding",
            INTERNAL,
            "couldn't find output binding nomen",
        ),
        (
            "GetSecret",
            FAILED_PRECONDITION,
            "secret store is not configured",
        ),
        (
            "SubscribeConfiguration",
            FAILED_PRECONDITION,
            "configuration stores not configured",
        ),
        (
            "TryLockAlpha1",
            FAILED_PRECONDITION,
            "lock store is not configured",
        ),
        (
            "InvokeActor",
            UNAVAILABLE,
            "placement service is not configured",
        ),
        ("NoSuchMethod", UNIMPLEMENTED, "NoSuchMethod"),
    ] {
        let path = format!("{DAPR}{method}");
        let reply = call(&mut sidecar, &path, &[("dapr-app-id", "appa")], &named()).await;
        assert_eq!(reply.code(), Some(code), "{method}: {}", reply.message());
        assert!(
            reply.message().contains(text),
            "{method}: {}",
            reply.message()
        );
    }
    let hub = call(
        &mut sidecar,
        "/TaskHubSidecarService/Hello",
        &[("dapr-app-id", "appa")],
        &named(),
    )
    .await;
    assert_eq!(hub.code(), Some(UNIMPLEMENTED));
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: service-invocation 1.15, SI-121.
#[tokio::test]
async fn a_token_is_asked_for_on_every_call() {
    let mut sidecar = Plan::new(NEVER).env("DAPR_API_TOKEN", "t0ken").start();
    let path = format!("{DAPR}GetMetadata");
    for metadata in [&[][..], &[("dapr-api-token", "other")]] {
        let reply = call(&mut sidecar, &path, metadata, &GetMetadataRequest {}).await;
        assert_eq!(
            (reply.code(), reply.message().as_str()),
            (Some(UNAUTHENTICATED), "Unauthorized")
        );
        assert!(
            reply
                .trailer("grpc-status-details-bin")
                .or(reply.header("grpc-status-details-bin"))
                .is_some()
        );
    }
    for path in [
        "/greet.G/Hi",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(
            call(&mut sidecar, path, &[], &named()).await.code(),
            Some(UNAUTHENTICATED),
            "{path}"
        );
    }
    let good = call(
        &mut sidecar,
        &path,
        &[("dapr-api-token", "t0ken")],
        &GetMetadataRequest {},
    )
    .await;
    assert_eq!(good.code(), Some(OK));
}

/// Fact: service-invocation 1.15, SI-126.
#[tokio::test]
async fn access_lists_close_methods_but_never_proxied_ones() {
    let plan = Plan::new(NEVER);
    let config = plan.write(
        "c",
        "spec: {api: {allowed: [{name: state, version: v1, protocol: grpc}]}}",
    );
    let mut sidecar = plan.words(&["--config", config.to_str().unwrap()]).start();
    let closed = own(&mut sidecar, "GetMetadata", &GetMetadataRequest {}).await;
    assert_eq!(
        (closed.code(), closed.message().as_str()),
        (Some(UNIMPLEMENTED), "Not Implemented")
    );
    assert_eq!(
        own(&mut sidecar, "GetState", &named()).await.code(),
        Some(FAILED_PRECONDITION)
    );
    let proxied = call(&mut sidecar, "/greet.G/Hi", &[], &named()).await;
    assert!(
        proxied.message().contains("cannot proxy request"),
        "{}",
        proxied.message()
    );
}

/// Fact: service-invocation 2.1: `invalid baggage header: …` is InvalidArgument; valid baggage comes back.
#[tokio::test]
async fn baggage_is_judged_and_echoed() {
    let mut sidecar = Plan::new(NEVER).start();
    let path = format!("{DAPR}GetMetadata");
    let bad = call(
        &mut sidecar,
        &path,
        &[("baggage", "invalid-baggage")],
        &GetMetadataRequest {},
    )
    .await;
    assert_eq!(bad.code(), Some(INVALID_ARGUMENT));
    assert!(
        bad.message()
            .starts_with("invalid baggage header: invalid baggage list-member"),
        "{}",
        bad.message()
    );
    let good = call(
        &mut sidecar,
        &path,
        &[("baggage", "k=v")],
        &GetMetadataRequest {},
    )
    .await;
    assert_eq!(good.header("baggage"), Some("k=v"));
}

/// Fact: service-invocation SI-097, SI-098.
#[tokio::test]
async fn reflection_is_served_and_health_is_not() {
    let mut sidecar = Plan::new(NEVER).start();
    // ServerReflectionRequest { list_services: "" }, field 7.
    #[derive(Clone, PartialEq, Message)]
    struct ListServices {
        #[prost(string, optional, tag = "7")]
        list: Option<String>,
    }
    let ask = ListServices {
        list: Some("*".to_owned()),
    };
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        let reply = call(&mut sidecar, &path, &[], &ask).await;
        assert_eq!(reply.code(), Some(OK), "{version}");
        let text = String::from_utf8_lossy(reply.messages.first().unwrap()).into_owned();
        assert!(
            text.contains("dapr.proto.runtime.v1.Dapr"),
            "{version}: {text}"
        );
    }
    let health = call(&mut sidecar, "/grpc.health.v1.Health/Check", &[], &named()).await;
    assert_eq!(health.code(), Some(2), "{}", health.message());
}

/// Fact: service-invocation 1.11: the message limit.
#[tokio::test]
async fn a_message_over_the_limit_is_refused() {
    let mut sidecar = Plan::new(NEVER).words(&["--max-body-size", "1Ki"]).start();
    let large = SetMetadataRequest {
        key: "k".to_owned(),
        value: "v".repeat(2000),
    };
    let reply = own(&mut sidecar, "SetMetadata", &large).await;
    assert_eq!(reply.code(), Some(8));
    assert!(
        reply.message().contains("received message larger than max"),
        "{}",
        reply.message()
    );
}

/// What is no gRPC call gets an HTTP status, and the process lives on.
#[tokio::test]
async fn other_requests_on_the_grpc_port_are_refused() {
    let mut sidecar = Plan::new(NEVER).start();
    let port = sidecar.grpc_port().await;
    let mut http1 = ironside_testkit::http::Connection::tcp(port).await.unwrap();
    let answered = within("an end", http1.send(&Request::get("/"))).await;
    assert!(answered.is_err(), "HTTP/1.1 is not spoken");
    let client = GrpcClient::connect(port).await.unwrap();
    let mut call = client
        .open(&format!("{DAPR}GetMetadata"), &[])
        .await
        .unwrap();
    call.send_data(encode(&[]).slice(..3), true);
    let cut = within("an answer", call.finish()).await;
    assert_eq!(cut.code(), Some(INTERNAL), "{}", cut.message());
    assert_eq!(
        own(&mut sidecar, "GetMetadata", &GetMetadataRequest {})
            .await
            .code(),
        Some(OK)
    );
}

/// Fact: resiliency-observability 3.3, 4.3.
#[tokio::test]
async fn calls_are_measured_and_logged() {
    let mut sidecar = Plan::new(NEVER).words(&["--enable-api-logging"]).start();
    assert_eq!(
        own(&mut sidecar, "GetMetadata", &GetMetadataRequest {})
            .await
            .code(),
        Some(OK)
    );
    let line = sidecar.line("gRPC API Called").await;
    assert!(
        line.contains("method=/dapr.proto.runtime.v1.Dapr/GetMetadata") && line.contains("code=0"),
        "{line}"
    );
    let port = sidecar.metrics_port().await;
    let text = within("metrics", rig::ask(port, Request::get("/")))
        .await
        .text();
    let series = r#"dapr_grpc_io_server_completed_rpcs{app_id="appa",grpc_server_method="/dapr.proto.runtime.v1.Dapr/GetMetadata",grpc_server_status="OK"} 1"#;
    assert!(text.contains(series), "{text}");
}
