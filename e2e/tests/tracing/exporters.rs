//! Exporters, one by one: configuration, environment, headers, what is refused, and edits while calls go on.

use std::{collections::BTreeMap, time::Duration};

use ironside_e2e::{Spec, World, wait};
use ironside_testkit::{
    http::{Answer, Request, Setup},
    tls::SelfSigned,
};

use crate::{
    collectors::{self, EXPORT},
    rig::{self, PARENT, trace},
};

/// Far above what a batch waits for.
const SOON: Duration = Duration::from_secs(60);

/// One call of a sidecar without peers, recorded; then its end.
async fn one_call(world: &World, plan: Spec) {
    let mut a = plan.start(world).await.unwrap();
    let reply = a.send(&rig::get(1, "m")).await.unwrap();
    // Nobody is called `b` here.
    assert_eq!(reply.status(), 500, "{reply:?}");
    assert!(a.program.stop().await.unwrap().success());
}

fn configured(tracing: &str) -> Spec {
    Spec::new("a").configure(&format!("  tracing: {tracing}\n"))
}

/// T-28, T-33, T-34: over gRPC with headers, of the Configuration and not of the environment; the resource.
#[tokio::test]
async fn otlp_over_grpc() {
    let (world, collector) = (World::new(), collectors::otlp_grpc().await.unwrap());
    let plan = configured(&format!(
        "{{samplingRate: \"1\", otel: {{endpointAddress: \"127.0.0.1:{}\", protocol: grpc, isSecure: false, \
         timeout: 5s, headers: [\"x-from=file\", {{name: x-named, value: v}}, {{name: x-env, envRef: TOKEN}}]}}}}",
        collector.port()
    ));
    let plan = plan
        .env("TOKEN", "secret")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-from=env")
        .env("OTEL_SERVICE_NAME", "shop")
        .env("OTEL_RESOURCE_ATTRIBUTES", "team=t,stage=test");
    one_call(&world, plan).await;
    let seen = collector.seen();
    let values = |name| seen[0].header(name);
    assert_eq!(values(":path"), Some(EXPORT));
    assert_eq!(
        (values("x-from"), values("x-named"), values("x-env")),
        (Some("file"), Some("v"), Some("secret"))
    );
    assert_eq!(values("content-type"), Some("application/grpc"));
    assert!(values("grpc-timeout").is_some());
    let spans = collectors::otlp_grpc_spans(&collector).unwrap();
    let span = spans.iter().find(|span| span.trace == trace(1)).unwrap();
    assert_eq!(
        (&*span.service, span.parent.as_deref()),
        ("shop", Some(PARENT))
    );
    assert_eq!(
        (span.tag("resource.team"), span.tag("resource.stage")),
        ("t", "test")
    );
    assert_eq!(
        span.error.as_deref(),
        Some("Code(500): Internal Server Error")
    );
}

/// T-29: over HTTP.
#[tokio::test]
async fn otlp_over_http() {
    let (world, collector) = (World::new(), collectors::otlp_http().await.unwrap());
    let plan = configured(&format!(
        "{{samplingRate: \"1\", otel: {{endpointAddress: \"127.0.0.1:{}\", protocol: http, isSecure: false, \
         headers: [\"x-key=k=v\"]}}}}",
        collector.port()
    ));
    one_call(&world, plan).await;
    assert_eq!(collector.seen()[0].header("x-key"), Some("k=v"));
    let spans = collectors::otlp_http_spans(&collector).unwrap();
    assert!(
        spans
            .iter()
            .any(|span| span.trace == trace(1) && span.service == "a")
    );
}

/// T-32: the environment alone turns tracing on, for every call; the protocol is gRPC unless it says HTTP.
#[tokio::test]
async fn the_environment_alone() {
    let (world, grpc) = (World::new(), collectors::otlp_grpc().await.unwrap());
    let at = |port: u16| format!("http://127.0.0.1:{port}");
    let plan = Spec::new("a").env("OTEL_EXPORTER_OTLP_ENDPOINT", &at(grpc.port()));
    let plan = plan.env("OTEL_EXPORTER_OTLP_HEADERS", "x-k=a%20b");
    let mut a = plan.start(&world).await.unwrap();
    let reply = a
        .send(&Request::get("/v1.0/invoke/b/method/root"))
        .await
        .unwrap();
    assert!(
        reply.header("traceparent").unwrap().ends_with("-01"),
        "{reply:?}"
    );
    assert!(a.program.stop().await.unwrap().success());
    let spans = collectors::otlp_grpc_spans(&grpc).unwrap();
    assert!(
        spans.iter().any(|span| span.name == "CallLocal/b/root"),
        "{spans:#?}"
    );
    assert_eq!(grpc.seen()[0].header("x-k"), Some("a b"));
    let http = collectors::otlp_http().await.unwrap();
    let plan = Spec::new("a")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &at(1))
        .env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &at(http.port()))
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    one_call(&world, plan).await;
    assert!(!collectors::otlp_http_spans(&http).unwrap().is_empty());
}

/// T-30 and what else ends a start; T-31: an endpoint without protocol is warned of.
#[tokio::test]
async fn what_cannot_be_used_is_said() {
    let world = World::new();
    let env = |name: &str, value: &str| {
        let plan = Spec::new("a").env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        plan.env(name, value)
    };
    for (plan, part) in [
        (
            configured("{otel: {endpointAddress: 'c:1', protocol: tcp}}"),
            "invalid protocol tcp provided for Otel endpoint",
        ),
        (
            configured("{zipkin: {endpointAddress: 'c:9411'}}"),
            "failed to setup tracing: spec.tracing.zipkin.endpointAddress",
        ),
        (
            configured("{otel: {endpointAddress: c, protocol: grpc, timeout: x}}"),
            "failed to setup tracing: spec.tracing.otel.timeout",
        ),
        (
            env("OTEL_EXPORTER_OTLP_HEADERS", "x"),
            "failed to setup tracing: OTEL_EXPORTER_OTLP_HEADERS",
        ),
        (
            env("OTEL_EXPORTER_OTLP_TIMEOUT", "5s"),
            "failed to setup tracing: OTEL_EXPORTER_OTLP_TIMEOUT",
        ),
    ] {
        let mut a = plan.launch(&world);
        a.program.hush();
        let status = a.program.exit(SOON).await.unwrap();
        let log = a.program.log();
        assert_eq!(status.code(), Some(1), "{log}");
        assert!(log.contains(part), "{part}: {log}");
    }
    let plan = configured("{otel: {endpointAddress: 'c:4317'}}");
    let a = plan.start(&world).await.unwrap();
    a.program
        .logged("set protocol to grpc or http")
        .await
        .unwrap();
}

/// T-35, T-39: spans as lines of the log; a rate that is none is a small one.
#[tokio::test]
async fn spans_go_to_the_log() {
    let world = World::new();
    let mut a = configured("{samplingRate: abc, stdout: true}")
        .start(&world)
        .await
        .unwrap();
    a.program.logged("TraceIDRatioBased{0.0001}").await.unwrap();
    assert_eq!(a.send(&rig::get(1, "m")).await.unwrap().status(), 500);
    assert!(a.program.stop().await.unwrap().success());
    let log = a.program.log();
    let line = log
        .lines()
        .find(|line| line.contains("scope=dapr.runtime.trace") && line.contains("Trace: "));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    let want = format!("[CallLocal/b/m] Trace: {} Span: {PARENT}/", trace(1));
    assert!(
        line.contains(&want) && line.contains("level=info"),
        "{line}"
    );
}

/// An edit of the Configuration takes another exporter into service, and the last one out of it; ports and
/// connections stay, and a mistake keeps what is in force.
#[tokio::test]
async fn exporters_follow_the_configuration() {
    let world = World::new();
    let (first, second) = (
        collectors::zipkin().await.unwrap(),
        collectors::otlp_http().await.unwrap(),
    );
    let file = |tracing: &str| {
        let text =
            format!("kind: Configuration\nmetadata: {{name: t}}\nspec: {{tracing: {tracing}}}\n");
        world.write("tracing.yaml", &text)
    };
    let to_zipkin = format!(
        "{{samplingRate: \"1\", zipkin: {{endpointAddress: \"http://127.0.0.1:{}/api/v2/spans\"}}}}",
        first.port()
    );
    let path = file("{}");
    let a = Spec::new("a")
        .flag("--config", path.to_str().unwrap())
        .start(&world)
        .await
        .unwrap();
    let names = |number: u32| format!("n{number}");
    let call = |number: u32| {
        let (a, name) = (&a, names(number));
        async move {
            let path = format!("/v1.0/invoke/nobody/method/{name}");
            a.send(&Request::get(&path))
                .await
                .ok()
                .map(|reply| reply.status())
        }
    };
    call(0).await.unwrap();
    file(&to_zipkin);
    let mut counts = BTreeMap::new();
    let until_sent = |what: &'static str, number: u32| {
        let (first, second) = (&first, &second);
        async move {
            wait::until(what, SOON, || async {
                call(number).await?;
                let spans = match what {
                    "zipkin" => collectors::zipkin_spans(first),
                    _ => collectors::otlp_http_spans(second),
                };
                let name = format!("CallLocal/nobody/{}", names(number));
                spans
                    .ok()?
                    .iter()
                    .any(|span| span.name == name)
                    .then_some(())
            })
            .await
            .unwrap();
        }
    };
    until_sent("zipkin", 1).await;
    // What cannot be used changes nothing.
    file("{samplingRate: \"1\", zipkin: {endpointAddress: nowhere}}");
    a.program
        .logged("the last good state stays in force")
        .await
        .unwrap();
    until_sent("zipkin", 2).await;
    file(&format!(
        "{{samplingRate: \"1\", otel: {{endpointAddress: \"127.0.0.1:{}\", protocol: http, isSecure: false}}}}",
        second.port()
    ));
    until_sent("otlp", 3).await;
    for span in collectors::zipkin_spans(&first).unwrap() {
        *counts.entry(span.name).or_insert(0_u32) += 1;
    }
    // Before there was an exporter nothing was recorded.
    assert!(!counts.contains_key("CallLocal/nobody/n0"), "{counts:?}");
}

/// Resiliency-observability 2.6, TLS: `isSecure` and `https` are verified; `SSL_CERT_FILE` says by which roots.
#[tokio::test]
async fn collectors_are_verified() {
    let (world, tls) = (World::new(), SelfSigned::new());
    let roots = world.write("roots.pem", &tls.certificate_pem());
    let h1 = |answer: u16| {
        let script = move |_: &_| Answer::status(answer).header("Content-Length", "0");
        Setup::new(script).wrap(tls.wrap(&["http/1.1"], None))
    };
    let (zipkin, http) = (
        h1(202).start().await.unwrap(),
        h1(200).start().await.unwrap(),
    );
    let grpc = collectors::otlp_grpc_over(Some(tls.wrap(&["h2"], None)))
        .await
        .unwrap();
    let to_zipkin = format!(
        "zipkin: {{endpointAddress: \"https://localhost:{}/api/v2/spans\"}}",
        zipkin.port()
    );
    let to_otlp = |port: u16, protocol: &str| {
        format!("otel: {{endpointAddress: \"localhost:{port}\", protocol: {protocol}}}")
    };
    for exporter in [
        to_zipkin,
        to_otlp(http.port(), "http"),
        to_otlp(grpc.port(), "grpc"),
    ] {
        let plan = configured(&format!("{{samplingRate: \"1\", {exporter}}}"));
        one_call(&world, plan.clone().env("SSL_CERT_FILE", "/dev/null")).await;
        let seen = (zipkin.seen().len(), http.seen().len(), grpc.seen().len());
        one_call(&world, plan.env("SSL_CERT_FILE", roots.to_str().unwrap())).await;
        let then = (zipkin.seen().len(), http.seen().len(), grpc.seen().len());
        assert_eq!(
            seen.0 + seen.1 + seen.2 + 1,
            then.0 + then.1 + then.2,
            "{exporter}"
        );
    }
    for spans in [
        collectors::zipkin_spans(&zipkin).unwrap(),
        collectors::otlp_http_spans(&http).unwrap(),
        collectors::otlp_grpc_spans(&grpc).unwrap(),
    ] {
        // Only what was verified was sent.
        let calls = spans.iter().filter(|span| span.trace == trace(1));
        assert_eq!(calls.count(), 1, "{spans:#?}");
    }
}
