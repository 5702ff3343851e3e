//! What apps, clients and collectors get of each kind of call.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Spec};
use ironside_testkit::{grpc::GrpcSeen, http::Request};

use crate::{
    collectors,
    rig::{PARENT, Rig, binary, get, invoke_service, of_binary, proxied, trace, traceparent},
    spans::{Span, call},
};

const RETRIES: &str = "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata: {name: r}\nspec: {policies: {retries: \
                       {r: {policy: constant, duration: 1ms, maxRetries: 3, matching: {httpStatusCodes: \"503\"}}}}, targets: {apps: {b: {retry: r}}}}\n";

/// What was seen beside the collectors.
#[derive(Default)]
struct Seen {
    /// `traceparent` at the app, by trace.
    at_app: BTreeMap<String, String>,
    /// `traceparent` at the client, by trace.
    at_client: BTreeMap<String, String>,
}

fn parts(traceparent: &str) -> Result<(String, String)> {
    let mut parts = traceparent.split('-').skip(1).map(str::to_owned);
    let (trace, span) = (parts.next(), parts.next());
    Ok((trace.context("trace")?, span.context("span")?))
}

impl Seen {
    fn app(&mut self, text: Option<&str>) -> Result<()> {
        let (trace, span) = parts(text.context("traceparent at the app")?)?;
        self.at_app.insert(trace, span);
        Ok(())
    }

    fn client(&mut self, text: Option<&str>) -> Result<()> {
        let (trace, span) = parts(text.context("traceparent at the client")?)?;
        self.at_client.insert(trace, span);
        Ok(())
    }

    /// The app was told of the callee's span, the client of the caller's.
    fn agrees(&self, client: &Span, server: &Span) -> Result<()> {
        let at = |map: &BTreeMap<String, String>| map.get(&client.trace).cloned();
        ensure!(
            at(&self.at_app).as_deref() == Some(&*server.id),
            "span at the app: {server:?}"
        );
        let at_client = at(&self.at_client);
        ensure!(
            at_client.is_none_or(|id| id == client.id),
            "span at the client: {client:?}"
        );
        Ok(())
    }
}

/// Exactly one context in both forms, the same.
fn told(seen: &GrpcSeen) -> Result<String> {
    let (texts, coded) = (seen.all("traceparent"), seen.all("grpc-trace-bin"));
    let ([text], [coded]) = (&*texts, &*coded) else {
        anyhow::bail!("one context in both forms: {:?}", seen.headers);
    };
    ensure!(
        of_binary(coded)? == *text,
        "both forms are the same: {:?}",
        seen.headers
    );
    Ok((*text).to_owned())
}

fn last(rig: &Rig) -> Result<GrpcSeen> {
    rig.grpc_app.take().pop().context("a call reached the app")
}

/// The calls of all rows; what the apps saw of them.
async fn calls(rig: &Rig) -> Result<Seen> {
    let (a, mut seen) = (&rig.a, Seen::default());
    let root = a
        .send(&Request::get("/v1.0/invoke/b/method/root?secret=1").header("dapr-foo", "x"))
        .await?;
    ensure!(root.status() == 200, "{root:?}");
    seen.client(root.header("traceparent"))?;
    for (number, path) in [
        (1, "one"),
        (2, "404"),
        (3, "302"),
        (4, "retried"),
        (5, "own"),
    ] {
        let request = get(number, path).header("tracestate", "a=b");
        let reply = a.send(&request).await?;
        ensure!(reply.header("tracestate") == Some("a=b"), "{reply:?}");
        if path == "own" {
            let theirs = traceparent(0xffff);
            ensure!(
                reply.header("traceparent") == Some(&*theirs),
                "T-17: the app's own: {reply:?}"
            );
        } else {
            seen.client(reply.header("traceparent"))?;
        }
    }
    for request in rig.app.take() {
        seen.app(request.header("traceparent"))?;
        let is_root = request.path().starts_with("/root");
        ensure!(
            request.header("tracestate") == (!is_root).then_some("a=b"),
            "T-11: {request:?}"
        );
        ensure!(
            !is_root || request.header("dapr-foo") == Some("x"),
            "T-23: {request:?}"
        );
    }
    // InvokeService: the binary form, the text form, both.
    let both = [
        ("traceparent", &*traceparent(12)),
        ("grpc-trace-bin", &*binary(13)),
    ];
    for metadata in [
        &[("grpc-trace-bin", &*binary(10))][..],
        &[("traceparent", &*traceparent(11))],
        &both,
    ] {
        let reply = invoke_service(a, "b", "svc", metadata).await?;
        ensure!(reply.code() == Some(0), "{reply:?}");
        seen.client(reply.header("traceparent"))?;
        let request = rig.app.take().pop().context("a request")?;
        seen.app(request.header("traceparent"))?;
    }
    let metadata = [("traceparent", &*traceparent(14)), ("tracestate", "a=b")];
    let reply = invoke_service(a, "g", "svc", &metadata).await?;
    ensure!(reply.code() == Some(0), "{reply:?}");
    let at_app = last(rig)?;
    seen.app(Some(&told(&at_app)?))?;
    ensure!(at_app.all("tracestate") == ["a=b"], "{at_app:?}");
    // HTTP to a gRPC app.
    let request = Request::get("/v1.0/invoke/g/method/m").header("traceparent", &traceparent(15));
    seen.client(a.send(&request).await?.header("traceparent"))?;
    seen.app(Some(&told(&last(rig)?)?))?;
    // Proxied calls.
    for (number, method, code) in [(20, "Hi", 0), (21, "Fail", 9)] {
        let metadata = [
            ("traceparent", &*traceparent(number)),
            ("tracestate", "a=b"),
        ];
        let reply = proxied(a, method, &metadata).await?;
        ensure!(reply.code() == Some(code), "{reply:?}");
        let at_app = last(rig)?;
        seen.app(Some(&told(&at_app)?))?;
        ensure!(at_app.all("tracestate") == ["a=b"], "{at_app:?}");
    }
    // What leaves no span, and what leaves one of its own.
    let unsampled = traceparent(30).replace("-01", "-00");
    let quiet = Request::get("/v1.0/invoke/b/method/quiet").header("traceparent", &unsampled);
    ensure!(a.send(&quiet).await?.status() == 200);
    ensure!(a.get("/v1.0/healthz/outbound").await?.status() == 204);
    let metadata = Request::get("/v1.0/metadata").header("traceparent", &traceparent(31));
    ensure!(a.send(&metadata).await?.status() == 200);
    Ok(seen)
}

/// T-01 to T-03, T-06, T-11, T-13 to T-17, T-19 to T-23, T-25, T-36 to T-38: spans of HTTP, InvokeService and
/// proxied calls in two collectors at once, sent when the sidecars end, and what the apps were told.
#[tokio::test]
async fn every_kind_of_call_is_one_trace() {
    let (zipkin, otlp) = (
        collectors::zipkin().await.unwrap(),
        collectors::otlp_grpc().await.unwrap(),
    );
    let tracing = format!(
        "{{samplingRate: \"1\", zipkin: {{endpointAddress: \"http://127.0.0.1:{}/api/v2/spans\"}}, \
         otel: {{endpointAddress: \"127.0.0.1:{}\", protocol: grpc, isSecure: false}}}}",
        zipkin.port(),
        otlp.port()
    );
    let mut rig = Rig::start(&tracing, |a| a.resource("r.yaml", RETRIES))
        .await
        .unwrap();
    let seen = calls(&rig).await;
    rig.stop().await.unwrap();
    let seen = seen.unwrap();
    let mut rows = Rows::of("tracing");
    let sent = collectors::zipkin_spans(&zipkin).unwrap();
    let spans = &sent;
    rows.row("T-36", "both collectors have every span", async {
        let ids = |spans: &[Span]| {
            let mut ids: Vec<_> = spans
                .iter()
                .map(|s| {
                    (
                        s.trace.clone(),
                        s.id.clone(),
                        s.parent.clone(),
                        s.name.clone(),
                        s.kind.clone(),
                        s.error.clone(),
                    )
                })
                .collect();
            ids.sort();
            ids
        };
        let other = collectors::otlp_grpc_spans(&otlp)?;
        ensure!(ids(spans) == ids(&other), "{spans:#?}\n{other:#?}");
        ensure!(spans.len() > 20, "T-37: {} spans", spans.len());
        Ok(())
    })
    .await;
    rows.row(
        "T-01",
        "an HTTP call without context is a trace of two spans",
        async {
            let root = spans
                .iter()
                .find(|s| s.name == "CallLocal/b/root" && s.kind == "CLIENT");
            let root = root.context("a span of the root")?;
            let (client, server) = call(spans, &root.trace, "CallLocal/b/root", None)?;
            ensure!(server.service == "b", "{server:?}");
            seen.agrees(client, server)
        },
    )
    .await;
    rows.row("T-22", "the attributes are those of the table", async {
        let root = spans
            .iter()
            .find(|s| s.name == "CallLocal/b/root" && s.kind == "CLIENT");
        attributes(root.context("a span")?, spans)
    })
    .await;
    for (id, number, name, service) in [
        ("T-02", 1, "CallLocal/b/one", "b"),
        ("T-06", 1, "CallLocal/b/one", "b"),
        ("T-13", 10, "CallLocal/b/svc", "b"),
        ("T-14", 11, "CallLocal/b/svc", "b"),
        ("T-15", 13, "CallLocal/b/svc", "b"),
        ("T-17", 15, "CallLocal/g/m", "g"),
        ("T-16", 20, "/greet.G/Hi", "g"),
    ] {
        rows.row(id, name, async {
            let (client, server) = call(spans, &trace(number), name, Some(PARENT))?;
            ensure!(server.service == service, "{server:?}");
            ensure!(
                client.error.is_none() && server.error.is_none(),
                "{client:?} {server:?}"
            );
            seen.agrees(client, server)
        })
        .await;
    }
    rows.row("T-15", "the other context is not used", async {
        ensure!(spans.iter().all(|span| span.trace != trace(12)));
        Ok(())
    })
    .await;
    rows.row("T-19", "404 is an error", async {
        let (client, _) = call(spans, &trace(2), "CallLocal/b/404", Some(PARENT))?;
        ensure!(
            client.error.as_deref() == Some("Code(404): Not Found"),
            "{client:?}"
        );
        ensure!(client.tag("dapr.status_code") == "404", "{client:?}");
        Ok(())
    })
    .await;
    rows.row("T-20", "302 is none", async {
        let (client, _) = call(spans, &trace(3), "CallLocal/b/302", Some(PARENT))?;
        ensure!(
            client.error.is_none() && client.tag("dapr.status_code") == "302",
            "{client:?}"
        );
        Ok(())
    })
    .await;
    rows.row("T-21", "a gRPC error is one, with its message", async {
        let (client, server) = call(spans, &trace(21), "/greet.G/Fail", Some(PARENT))?;
        for span in [client, server] {
            ensure!(span.error.as_deref() == Some("precond x"), "{span:?}");
            ensure!(span.tag("rpc.grpc.status_code") == "9", "{span:?}");
        }
        Ok(())
    })
    .await;
    rows.row(
        "T-38",
        "three attempts are one client span and three server spans",
        async { retried(spans) },
    )
    .await;
    rows.row("T-03", "flag 00 is not exported", async {
        ensure!(spans.iter().all(|span| span.trace != trace(30)));
        let quiet = rig
            .app
            .seen()
            .into_iter()
            .find(|seen| seen.path() == "/quiet")
            .context("quiet")?;
        let told = quiet.header("traceparent").context("traceparent")?;
        ensure!(
            told.starts_with(&format!("00-{}-", trace(30))) && told.ends_with("-00"),
            "{told}"
        );
        ensure!(!told.contains(PARENT), "{told}");
        Ok(())
    })
    .await;
    rows.row(
        "T-25",
        "health has no span, other calls of the API have one",
        async {
            ensure!(
                spans.iter().all(|span| !span.name.contains("healthz")),
                "{spans:#?}"
            );
            let own: Vec<_> = spans
                .iter()
                .filter(|span| span.trace == trace(31))
                .collect();
            let [own] = *own else {
                anyhow::bail!("{own:?}")
            };
            ensure!(
                (&*own.name, &*own.kind) == ("/v1.0/metadata", "CLIENT"),
                "{own:?}"
            );
            Ok(())
        },
    )
    .await;
    rows.close();
}

/// 2.4: the caller's and the callee's attributes, with the additions of ours.
fn attributes(client: &Span, spans: &[Span]) -> Result<()> {
    let keys = |span: &Span| span.tags.keys().cloned().collect::<Vec<_>>().join(" ");
    let port = client.tag("client.port").to_owned();
    ensure!(port.parse::<u16>().is_ok(), "{client:?}");
    for (key, value) in [
        ("client.address", "127.0.0.1"),
        ("dapr-foo", "x"),
        ("dapr.api", "GET /v1.0/invoke/b/method/root"),
        ("dapr.protocol", "http"),
        ("dapr.resiliency.attempts", "1"),
        ("dapr.resiliency.outcome", "success"),
        ("dapr.status_code", "200"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("net.peer.name", "b"),
        ("rpc.service", "ServiceInvocation"),
        ("server.address", "b"),
        ("url.full", "/v1.0/invoke/b/method/root"),
    ] {
        ensure!(client.tag(key) == value, "{key}: {client:?}");
    }
    ensure!(client.tags.len() == 14, "{}", keys(client));
    ensure!(client.remote.as_deref() == Some("b"), "{client:?}");
    let (_, server) = call(spans, &client.trace, "CallLocal/b/root", None)?;
    let api = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";
    for (key, value) in [
        ("dapr.api", api),
        ("dapr.invoke_method", "root"),
        ("dapr.protocol", "grpc"),
        ("dapr.resiliency.attempt", "1"),
        ("http.response.status_code", "200"),
        ("rpc.grpc.status_code", "0"),
        ("rpc.service", "ServiceInvocation"),
        ("rpc.system", "grpc"),
    ] {
        ensure!(server.tag(key) == value, "{key}: {server:?}");
    }
    ensure!(server.tags.len() == 8, "{}", keys(server));
    // A proxied call says its metadata.
    let (client, server) = call(spans, &trace(20), "/greet.G/Hi", Some(PARENT))?;
    ensure!(
        client.tag("dapr-app-id") == "g" && client.tag("rpc.service").is_empty(),
        "{client:?}"
    );
    let named = (
        server.tag("dapr-caller-app-id"),
        server.tag("dapr-callee-app-id"),
    );
    ensure!(named == ("a", "g"), "{server:?}");
    let (client, _) = call(spans, &trace(10), "CallLocal/b/svc", Some(PARENT))?;
    let api = "/dapr.proto.runtime.v1.Dapr/InvokeService";
    ensure!(
        (client.tag("dapr.api"), client.tag("net.peer.name")) == (api, "b"),
        "{client:?}"
    );
    Ok(())
}

fn retried(spans: &[Span]) -> Result<()> {
    let of: Vec<_> = spans.iter().filter(|span| span.trace == trace(4)).collect();
    let clients: Vec<_> = of.iter().filter(|span| span.kind == "CLIENT").collect();
    let [client] = *clients else {
        anyhow::bail!("{of:#?}")
    };
    ensure!(client.tag("dapr.resiliency.attempts") == "3", "{client:?}");
    ensure!(client.events == 2, "an event for each retry: {client:?}");
    let mut attempts: Vec<&str> = Vec::new();
    for server in of.iter().filter(|span| span.kind == "SERVER") {
        ensure!(server.parent.as_deref() == Some(&*client.id), "{server:?}");
        attempts.push(server.tag("dapr.resiliency.attempt"));
    }
    attempts.sort_unstable();
    ensure!(attempts == ["1", "2", "3"], "{of:#?}");
    Ok(())
}

/// T-24: a wrong token is nowhere in what is exported.
#[tokio::test]
async fn a_token_is_never_exported() {
    let zipkin = collectors::zipkin().await.unwrap();
    let tracing = format!(
        "{{samplingRate: \"1\", zipkin: {{endpointAddress: \"http://127.0.0.1:{}/api/v2/spans\"}}}}",
        zipkin.port()
    );
    let world = ironside_e2e::World::new();
    let plan = Spec::new("a")
        .configure(&format!("  tracing: {tracing}\n"))
        .env("DAPR_API_TOKEN", "right");
    let mut a = plan.start(&world).await.unwrap();
    for token in ["wrong-token", "right"] {
        let request = get(1, "m").header("dapr-api-token", token);
        let reply = a.send(&request).await.unwrap();
        assert_eq!(reply.status() == 401, token != "right", "{reply:?}");
        let metadata = [("dapr-api-token", token), ("grpc-trace-bin", &*binary(2))];
        drop(invoke_service(&a, "nobody", "m", &metadata).await.unwrap());
    }
    assert!(a.program.stop().await.unwrap().success());
    let spans = collectors::zipkin_spans(&zipkin).unwrap();
    assert!(spans.len() >= 3, "{spans:#?}");
    for seen in zipkin.seen() {
        let text = seen.text();
        assert!(
            !text.contains("wrong-token") && !text.contains("right"),
            "{text}"
        );
    }
}

/// T-10: without an exporter the app gets a valid context all the same.
#[tokio::test]
async fn without_an_exporter_there_are_contexts() {
    let rig = Rig::start("{samplingRate: \"1\"}", |a| a).await.unwrap();
    let reply = rig
        .a
        .send(&Request::get("/v1.0/invoke/b/method/m"))
        .await
        .unwrap();
    let (trace, span) = parts(reply.header("traceparent").unwrap()).unwrap();
    let seen = rig.app.take();
    let told = seen[0].header("traceparent").unwrap();
    let (at_app, below) = parts(told).unwrap();
    assert_eq!(trace, at_app);
    assert!(span != below && told.ends_with("-01"), "{told}");
}

/// T-26, T-27: baggage goes through and comes back; what is none is refused.
#[tokio::test]
async fn baggage_goes_through_or_is_refused() {
    let rig = Rig::start("{samplingRate: \"1\"}", |a| a).await.unwrap();
    let request = |text: &str| Request::get("/v1.0/invoke/b/method/m").header("baggage", text);
    let reply = rig.a.send(&request("k1=v1,k2=v2")).await.unwrap();
    assert_eq!(reply.header("baggage"), Some("k1=v1,k2=v2"));
    assert_eq!(rig.app.take()[0].header("baggage"), Some("k1=v1,k2=v2"));
    let reply = rig.a.send(&request("invalid-baggage")).await.unwrap();
    assert_eq!(reply.status(), 400);
    assert!(
        reply.text().starts_with("invalid baggage header"),
        "{reply:?}"
    );
    assert!(rig.app.take().is_empty());
    let reply = proxied(&rig.a, "Hi", &[("baggage", "k1=v1")])
        .await
        .unwrap();
    assert_eq!(
        (reply.code(), reply.header("baggage")),
        (Some(0), Some("k1=v1"))
    );
    assert_eq!(rig.grpc_app.take()[0].header("baggage"), Some("k1=v1"));
    let reply = proxied(&rig.a, "Hi", &[("baggage", "invalid-baggage")])
        .await
        .unwrap();
    assert_eq!(reply.code(), Some(3));
    assert!(
        reply.message().starts_with("invalid baggage header"),
        "{reply:?}"
    );
}

/// T-18: a method of the API answers with the context in its binary form.
#[tokio::test]
async fn own_methods_answer_with_the_binary_form() {
    let world = ironside_e2e::World::new();
    let a = Spec::new("a").start(&world).await.unwrap();
    let client = a.client().await.unwrap();
    let path = "/dapr.proto.runtime.v1.Dapr/GetMetadata";
    let metadata = [("grpc-trace-bin", &*binary(1))];
    let reply = client.call(path, &metadata, &[b""]).await.unwrap();
    assert_eq!(reply.code(), Some(0), "{reply:?}");
    let told = of_binary(reply.header("grpc-trace-bin").unwrap()).unwrap();
    // Without spans the caller's own.
    assert_eq!(told, traceparent(1));
}
