//! Receivers of spans: Zipkin's JSON, and OTLP over HTTP and gRPC.

use std::sync::Arc;

use anyhow::{Result, ensure};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, Running},
    http::{Answer, HttpApp, app::Wrap},
};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

use crate::spans::{self, Span};

/// The call of OTLP over gRPC.
pub(crate) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A Zipkin server that takes everything.
pub(crate) async fn zipkin() -> Result<HttpApp> {
    Ok(HttpApp::start(|_| Answer::status(202).header("Content-Length", "0")).await?)
}

/// An OTLP collector over HTTP that takes everything.
pub(crate) async fn otlp_http() -> Result<HttpApp> {
    let answer = |_: &_| {
        Answer::status(200)
            .header("Content-Type", "application/x-protobuf")
            .body("")
    };
    Ok(HttpApp::start(answer).await?)
}

/// An OTLP collector over gRPC that takes everything.
pub(crate) async fn otlp_grpc() -> Result<GrpcApp> {
    otlp_grpc_over(None).await
}

/// The same, with each connection wrapped.
pub(crate) async fn otlp_grpc_over(wrap: Option<Arc<Wrap>>) -> Result<GrpcApp> {
    let script = |mut call: Exchange| -> Running {
        Box::pin(async move {
            while call.message().await.is_some() {}
            call.begin_reply(&[]);
            call.reply(b"");
            call.end(0, "", &[]);
        })
    };
    Ok(GrpcApp::start_on(0, wrap, script).await?)
}

/// What a Zipkin server was sent.
pub(crate) fn zipkin_spans(server: &HttpApp) -> Result<Vec<Span>> {
    let mut all = Vec::new();
    for seen in server.seen() {
        ensure!(
            (seen.method(), seen.path()) == ("POST", "/api/v2/spans"),
            "{seen:?}"
        );
        ensure!(
            seen.header("content-type") == Some("application/json"),
            "{seen:?}"
        );
        all.extend(spans::of_zipkin(&seen.body)?);
    }
    Ok(all)
}

/// What an OTLP collector was sent over HTTP.
pub(crate) fn otlp_http_spans(server: &HttpApp) -> Result<Vec<Span>> {
    let mut all = Vec::new();
    for seen in server.seen() {
        ensure!(
            (seen.method(), seen.path()) == ("POST", "/v1/traces"),
            "{seen:?}"
        );
        ensure!(
            seen.header("content-type") == Some("application/x-protobuf"),
            "{seen:?}"
        );
        all.extend(spans::of_otlp(&ExportTraceServiceRequest::decode(
            &*seen.body,
        )?)?);
    }
    Ok(all)
}

/// What an OTLP collector was sent over gRPC.
pub(crate) fn otlp_grpc_spans(server: &GrpcApp) -> Result<Vec<Span>> {
    let mut all = Vec::new();
    for seen in server.seen() {
        ensure!(seen.path() == EXPORT, "{seen:?}");
        ensure!(seen.messages.len() == 1, "one message a call: {seen:?}");
        for message in &seen.messages {
            all.extend(spans::of_otlp(&ExportTraceServiceRequest::decode(
                &**message,
            )?)?);
        }
    }
    Ok(all)
}
