//! The Greeter through the sidecar's gRPC port, with tonic's client and messages written by hand.

use std::time::Duration;

use tokio_stream::StreamExt as _;
use tonic::{
    Code, Request, Response, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    metadata::{MetadataMap, MetadataValue},
    transport::Channel,
};
use tonic_prost::ProstCodec;

use crate::{Outcome, row, same, text};

#[derive(Clone, PartialEq, prost::Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    message: String,
}

fn hello(name: &str) -> HelloRequest {
    HelloRequest {
        name: name.to_owned(),
    }
}

fn path(method: &str) -> PathAndQuery {
    format!("/helloworld.Greeter/{method}")
        .parse()
        .expect("a path")
}

fn to<T>(message: T, extra: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("dapr-app-id", MetadataValue::from_static("greeter"));
    for (name, value) in extra {
        request
            .metadata_mut()
            .insert(*name, value.parse().expect("a value"));
    }
    request
}

/// One channel for all rows.
#[derive(Clone)]
struct Greeter(Grpc<Channel>);

impl Greeter {
    async fn connect() -> Result<Self, String> {
        let port = std::env::var("DAPR_GRPC_PORT").map_err(text)?;
        let endpoint = Channel::from_shared(format!("http://localhost:{port}")).map_err(text)?;
        Ok(Self(Grpc::new(endpoint.connect().await.map_err(text)?)))
    }

    async fn say(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        grpc.unary(
            request,
            path("SayHello"),
            ProstCodec::<HelloRequest, HelloReply>::default(),
        )
        .await
    }

    async fn often(&self, extra: &[(&'static str, &str)]) -> Result<Streaming<HelloReply>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let reply = grpc.server_streaming(
            to(hello("c"), extra),
            path("ReplyOften"),
            ProstCodec::default(),
        );
        Ok(reply.await?.into_inner())
    }

    async fn many(
        &self,
        method: &str,
        extra: &[(&'static str, &str)],
    ) -> Result<Vec<String>, Status> {
        let mut grpc = self.0.clone();
        grpc.ready()
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let names = tokio_stream::iter([hello("a"), hello("b")]);
        let reply = grpc.streaming(
            to(names, extra),
            path(method),
            ProstCodec::<HelloRequest, HelloReply>::default(),
        );
        collect(reply.await?.into_inner()).await
    }
}

async fn collect(mut stream: Streaming<HelloReply>) -> Result<Vec<String>, Status> {
    let mut messages = Vec::new();
    while let Some(reply) = stream.next().await {
        messages.push(reply?.message);
    }
    Ok(messages)
}

pub(crate) async fn rows() {
    let greeter = match Greeter::connect().await {
        Ok(greeter) => greeter,
        Err(error) => return row("GP-01 tonic", async { Err(error) }).await,
    };
    row("GP-01 tonic", unary(&greeter)).await;
    row("GP-04 tonic", streams(&greeter)).await;
    row("GP-05 tonic deadline", deadline(&greeter)).await;
    row("GP-05 tonic cancel", cancel(&greeter)).await;
    row("GP-06 tonic", details(&greeter)).await;
    row("GP-07 tonic", no_target(&greeter)).await;
    row("GP-01 tonic message above the limit", large(&greeter)).await;
    row(
        "GP-01 tonic 1000 calls on one connection",
        thousand(&greeter),
    )
    .await;
}

async fn unary(greeter: &Greeter) -> Outcome {
    let mut request = to(hello("you"), &[("x-text", "text")]);
    request
        .metadata_mut()
        .insert_bin("x-bytes-bin", MetadataValue::from_bytes(&[0, 1, 250]));
    let reply = greeter.say(request).await.map_err(text)?;
    let get = |map: &MetadataMap, name: &str| {
        map.get(name)
            .and_then(|value| value.to_str().ok().map(str::to_owned))
    };
    same(
        "caller",
        Some("caller".to_owned()),
        get(reply.metadata(), "seen-caller"),
    )?;
    same(
        "text",
        Some("text".to_owned()),
        get(reply.metadata(), "seen-text"),
    )?;
    let bytes = reply
        .metadata()
        .get_bin("seen-bytes-bin")
        .and_then(|value| value.to_bytes().ok());
    same(
        "bytes",
        Some(vec![0, 1, 250]),
        bytes.map(|bytes| bytes.to_vec()),
    )?;
    same("reply", "Hello you", reply.get_ref().message.as_str())
}

async fn streams(greeter: &Greeter) -> Outcome {
    for extra in [&[][..], &[("dapr-stream", "true")][..]] {
        same(
            "client",
            vec!["Hello a, b".to_owned()],
            greeter.many("ReplyToAll", extra).await.map_err(text)?,
        )?;
        let often = collect(greeter.often(extra).await.map_err(text)?)
            .await
            .map_err(text)?;
        same(
            "server",
            (0..3).map(|number| format!("Hello c {number}")).collect(),
            often,
        )?;
        let chat = greeter.many("Chat", extra).await.map_err(text)?;
        same(
            "both",
            vec!["Hello a".to_owned(), "Hello b".to_owned()],
            chat,
        )?;
    }
    Ok(())
}

async fn deadline(greeter: &Greeter) -> Outcome {
    let mut request = to(hello("slow"), &[]);
    request.set_timeout(Duration::from_millis(100));
    let status = greeter.say(request).await.expect_err("the server sleeps");
    let late = [Code::DeadlineExceeded, Code::Cancelled].contains(&status.code());
    if late { Ok(()) } else { Err(text(status)) }
}

async fn cancel(greeter: &Greeter) -> Outcome {
    let call = greeter.say(to(hello("slow"), &[]));
    match tokio::time::timeout(Duration::from_millis(200), call).await {
        Err(_) => same(
            "alive after a cancelled call",
            true,
            greeter.say(to(hello("you"), &[])).await.is_ok(),
        ),
        Ok(reply) => Err(text(reply)),
    }
}

async fn details(greeter: &Greeter) -> Outcome {
    let status = greeter
        .say(to(hello("fail"), &[]))
        .await
        .expect_err("the server fails");
    same(
        "status",
        (Code::FailedPrecondition, "cannot greet"),
        (status.code(), status.message()),
    )?;
    let details = String::from_utf8_lossy(status.details()).into_owned();
    same(
        "details",
        (true, true),
        (
            details.contains("NOT_TODAY"),
            details.contains("google.rpc.ErrorInfo"),
        ),
    )
}

async fn no_target(greeter: &Greeter) -> Outcome {
    let status = greeter
        .say(Request::new(hello("you")))
        .await
        .expect_err("no target");
    let wanted = "cannot proxy request: missing dapr-callee-app-id or dapr-app-id metadata";
    same(
        "status",
        (Code::Unknown, wanted),
        (status.code(), status.message()),
    )
}

async fn large(greeter: &Greeter) -> Outcome {
    let status = greeter
        .say(to(hello(&"x".repeat(5 << 20)), &[]))
        .await
        .expect_err("too large");
    same("code", Code::ResourceExhausted, status.code())
}

async fn thousand(greeter: &Greeter) -> Outcome {
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..1000 {
        let greeter = greeter.clone();
        calls.spawn(async move {
            let reply = greeter.say(to(hello(&number.to_string()), &[])).await?;
            Ok::<_, Status>((number, reply.into_inner().message))
        });
    }
    for call in calls.join_all().await {
        let (number, message) = call.map_err(text)?;
        same("reply", format!("Hello {number}"), message)?;
    }
    Ok(())
}
