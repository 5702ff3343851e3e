//! A caller `a`, an HTTP app behind `b`, a gRPC app behind `g`; and calls of every kind.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use anyhow::Result;
use ironside_e2e::{Sidecar, Spec, World};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest, InvokeResponse},
    google::protobuf::Any,
    runtime::InvokeServiceRequest,
};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, GrpcReply, Running},
    http::{Answer, HttpApp, Request, Seen},
};
use prost::Message as _;

/// The span of a client that calls `a`.
pub(crate) const PARENT: &str = "b7ad6b7169203331";

pub(crate) struct Rig {
    _world: World,
    pub(crate) app: HttpApp,
    pub(crate) grpc_app: GrpcApp,
    pub(crate) a: Sidecar,
    pub(crate) b: Sidecar,
    pub(crate) g: Sidecar,
}

impl Rig {
    /// Starts everything with this `tracing` section; `plan` changes how `a` is started.
    pub(crate) async fn start(tracing: &str, plan: impl FnOnce(Spec) -> Spec) -> Result<Self> {
        let world = World::new();
        let (app, grpc_app) = (http_app().await?, grpc_app().await?);
        let spec = |id: &str| Spec::new(id).configure(&format!("  tracing: {tracing}\n"));
        let b = spec("b").app(app.port()).ready(&world).await?;
        let g = spec("g")
            .app(grpc_app.port())
            .protocol("grpc")
            .ready(&world)
            .await?;
        let a = plan(spec("a")).start(&world).await?;
        Ok(Self {
            _world: world,
            app,
            grpc_app,
            a,
            b,
            g,
        })
    }

    /// Ends all sidecars, in the order of a call: spans are sent before the exit.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for sidecar in [&mut self.a, &mut self.b, &mut self.g] {
            let status = sidecar.program.stop().await?;
            anyhow::ensure!(status.success(), "{} ended with {status}", sidecar.app_id());
        }
        Ok(())
    }
}

/// A trace id for a call of its own.
pub(crate) fn trace(number: u32) -> String {
    format!("0af7651916cd43dd8448eb21{number:08x}")
}

pub(crate) fn traceparent(number: u32) -> String {
    format!("00-{}-{PARENT}-01", trace(number))
}

/// A request for a method of `b`, in a trace of its own.
pub(crate) fn get(number: u32, path: &str) -> Request {
    Request::get(&format!("/v1.0/invoke/b/method/{path}"))
        .header("traceparent", &traceparent(number))
}

async fn http_app() -> Result<HttpApp> {
    let counts = Mutex::new(HashMap::<String, u32>::new());
    Ok(HttpApp::start(move |seen| by_path(seen, &counts)).await?)
}

fn by_path(seen: &Seen, counts: &Mutex<HashMap<String, u32>>) -> Answer {
    let path = seen.path().split('?').next().unwrap_or_default();
    match path {
        "/404" => Answer::status(404).body("no"),
        "/302" => Answer::status(302)
            .header("Location", "/elsewhere")
            .body(""),
        "/own" => Answer::status(200)
            .header("Traceparent", &traceparent(0xffff))
            .body("ok"),
        // Fails twice.
        "/retried" => {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counts.entry(path.to_owned()).or_default();
            *count += 1;
            Answer::status(if *count < 3 { 503 } else { 200 }).body("x")
        }
        _ => Answer::text("ok"),
    }
}

async fn grpc_app() -> Result<GrpcApp> {
    let script = |mut call: Exchange| -> Running {
        Box::pin(async move {
            while call.message().await.is_some() {}
            if call.path() == "/greet.G/Fail" {
                return call.end(9, "precond x", &[]);
            }
            let reply = match call.path() {
                "/dapr.proto.runtime.v1.AppCallback/OnInvoke" => InvokeResponse {
                    data: Some(Any {
                        value: b"hello".to_vec().into(),
                        ..Any::default()
                    }),
                    content_type: "text/plain".to_owned(),
                }
                .encode_to_vec(),
                _ => b"reply".to_vec(),
            };
            call.begin_reply(&[]);
            call.reply(&reply);
            call.end(0, "", &[]);
        })
    };
    Ok(GrpcApp::start(script).await?)
}

/// `InvokeService` of a method with metadata.
pub(crate) async fn invoke_service(
    a: &Sidecar,
    id: &str,
    method: &str,
    metadata: &[(&str, &str)],
) -> Result<GrpcReply> {
    let request = InvokeServiceRequest {
        id: id.to_owned(),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            http_extension: Some(HttpExtension {
                verb: 1,
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
    };
    let path = "/dapr.proto.runtime.v1.Dapr/InvokeService";
    Ok(a.client()
        .await?
        .call(path, metadata, &[&request.encode_to_vec()])
        .await?)
}

/// A call that is passed on.
pub(crate) async fn proxied(
    a: &Sidecar,
    method: &str,
    metadata: &[(&str, &str)],
) -> Result<GrpcReply> {
    let mut all = vec![("dapr-app-id", "g")];
    all.extend(metadata);
    Ok(a.client()
        .await?
        .call(&format!("/greet.G/{method}"), &all, &[b"hi"])
        .await?)
}

/// A span context in the binary form.
pub(crate) fn binary(number: u32) -> String {
    use base64::Engine as _;
    let id = |text: &str| -> Vec<u8> {
        let pairs = (0..text.len()).step_by(2);
        pairs
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    };
    let bytes = [
        vec![0, 0],
        id(&trace(number)),
        vec![1],
        id(PARENT),
        vec![2, 1],
    ]
    .concat();
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

/// The same as a `traceparent`, of what came over the wire.
pub(crate) fn of_binary(text: &str) -> Result<String> {
    use base64::Engine as _;
    let text = text.trim_end_matches('=');
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text)?;
    anyhow::ensure!(bytes.len() == 29, "{} bytes", bytes.len());
    let hex = |part: &[u8]| {
        part.iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    Ok(format!(
        "00-{}-{}-{:02x}",
        hex(&bytes[2..18]),
        hex(&bytes[19..27]),
        bytes[28]
    ))
}
