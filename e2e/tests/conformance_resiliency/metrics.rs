//! The rows `M-nn`: the port of metrics, its switches, and the labels that the Configuration decides.

use anyhow::{Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, wait};
use ironside_testkit::{
    grpc::GrpcApp,
    http::{HttpApp, Request, send},
};

use crate::rig::{get, http_app, invoke_service, same, series};

/// A callee, and callers with a Configuration each.
struct Set {
    world: World,
    app: HttpApp,
    b: Sidecar,
}

impl Set {
    async fn start() -> Result<Self> {
        let world = World::new();
        let app = http_app().await?;
        let b = Spec::new("b").app(app.port()).ready(&world).await?;
        Ok(Self { world, app, b })
    }

    /// A caller with these keys below `metrics`.
    async fn caller(&self, metrics: &str) -> Result<Sidecar> {
        let lines = metrics.lines().map(|line| format!("    {line}\n"));
        let yaml = format!("  metrics:\n{}", lines.collect::<String>());
        Spec::new("a").configure(&yaml).start(&self.world).await
    }
}

async fn text(sidecar: &Sidecar, path: &str) -> Result<String> {
    Ok(send(sidecar.metrics(), &Request::get(path)).await?.text())
}

/// The names of all samples.
fn names(text: &str) -> Vec<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect()
}

/// Waits until a series has a value; what ends with a body is counted a moment later.
async fn counts(sidecar: &Sidecar, name: &str, labels: &[&str], want: u64) -> Result<()> {
    let what = format!("{name}{labels:?} is {want}");
    let seen = wait::until(&what, wait::LONG, || async {
        let value = series(sidecar, name, labels).await.ok()?;
        (value == want).then_some(())
    });
    match seen.await {
        Ok(()) => Ok(()),
        Err(late) => anyhow::bail!("{late}:\n{}", text(sidecar, "/").await?),
    }
}

const REQUESTS: &str = "dapr_http_server_request_count";
const RESPONSES: &str = "dapr_http_server_response_count";

#[tokio::test]
async fn the_port() {
    let set = Set::start().await.unwrap();
    let mut rows = Rows::of("metrics");
    rows.row("M-01", "every path answers the same", async {
        let a = set.caller("enabled: true").await?;
        let (root, metrics) = (text(&a, "/").await?, text(&a, "/metrics").await?);
        same("series", names(&root), names(&metrics))?;
        same("series", names(&root), names(&text(&a, "/x?y").await?))
    })
    .await;
    rows.row("M-02", "without metrics nobody listens", async {
        let spec = Spec::new("a").argument("--enable-metrics=false");
        let a = spec.start(&set.world).await?;
        let asked = tokio::net::TcpStream::connect(("127.0.0.1", a.metrics())).await;
        ensure!(asked.is_err(), "the port is open");
        Ok(())
    })
    .await;
    rows.row("M-04", "the port is where it was told to be", async {
        let spec = Spec::new("a").flag("--metrics-listen-address", "127.0.0.2");
        let a = spec.start(&set.world).await?;
        let at = |address: &'static str| tokio::net::TcpStream::connect((address, a.metrics()));
        ensure!(at("127.0.0.2").await.is_ok(), "not where it should be");
        ensure!(at("127.0.0.1").await.is_err(), "elsewhere as well");
        Ok(())
    })
    .await;
    rows.row("M-20", "nothing is measured, the process is", async {
        let a = set.caller("enabled: false").await?;
        a.send(&get("status/200")).await?;
        let text = text(&a, "/").await?;
        ensure!(!text.contains("dapr_"), "{text}");
        ensure!(text.contains("process_open_fds "), "{text}");
        Ok(())
    })
    .await;
    rows.row("M-38, M-39", "components and the process", async {
        let text = text(&set.b, "/").await?;
        ensure!(
            text.contains("dapr_runtime_component_loaded{app_id=\"b\"} "),
            "{text}"
        );
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<f64>().ok())
        };
        let memory = value("process_resident_memory_bytes ").unwrap_or_default();
        let start = value("process_start_time_seconds ").unwrap_or_default();
        ensure!((1e6..1e9).contains(&memory), "{memory}");
        ensure!(start > 1.7e9, "{start}");
        Ok(())
    })
    .await;
    rows.close();
    drop(set.app);
}

#[tokio::test]
async fn labels_of_requests() {
    let set = Set::start().await.unwrap();
    let mut rows = Rows::of("metrics");
    rows.row("M-09, M-16", "the path and the verb as they were", async {
        let a = set.caller("enabled: true").await?;
        a.send(&get("status/200")).await?;
        a.send(&Request::new("FOO", "/unknown")).await?;
        let path = "path=\"/v1.0/invoke/b/method/status/200\"";
        for name in [REQUESTS, RESPONSES] {
            counts(&a, name, &["method=\"GET\"", path, "status=\"200\""], 1).await?;
        }
        counts(
            &a,
            REQUESTS,
            &["method=\"UNKNOWN\"", "path=\"/unknown\""],
            1,
        )
        .await
    })
    .await;
    rows.row("M-10", "low cardinality has no paths", async {
        let a = set.caller("http:\n  increasedCardinality: false").await?;
        a.send(&get("status/200")).await?;
        counts(
            &a,
            REQUESTS,
            &["method=\"GET\"", "path=\"\"", "status=\"200\""],
            1,
        )
        .await?;
        let text = text(&a, "/").await?;
        ensure!(!text.contains(RESPONSES), "{text}");
        Ok(())
    })
    .await;
    let patterns = "http:\n  increasedCardinality: CARDINALITY\n  pathMatching:\n  - /orders/{orderID}\n  - /orders/1234";
    let pattern = "path=\"/v1.0/invoke/{app_id}/method/orders/{orderID}\"";
    rows.row("M-11, M-12, M-14", "patterns stand for paths", async {
        let a = set
            .caller(&patterns.replace("CARDINALITY", "false"))
            .await?;
        for order in ["7", "8", "1234"] {
            a.send(&get(&format!("orders/{order}"))).await?;
        }
        a.send(&get("other")).await?;
        counts(&a, REQUESTS, &[pattern], 2).await?;
        let literal = "path=\"/v1.0/invoke/{app_id}/method/orders/1234\"";
        counts(&a, REQUESTS, &[literal], 1).await?;
        counts(&a, REQUESTS, &["path=\"\"", "status=\"200\""], 1).await
    })
    .await;
    rows.row("M-13", "what no pattern matches keeps its path", async {
        let a = set.caller(&patterns.replace("CARDINALITY", "true")).await?;
        a.send(&get("orders/7")).await?;
        a.send(&get("other/7")).await?;
        counts(&a, REQUESTS, &[pattern], 1).await?;
        counts(&a, REQUESTS, &["path=\"/v1.0/invoke/b/method/other/7\""], 1).await
    })
    .await;
    rows.row("M-15", "verbs are left out", async {
        let a = set.caller("http:\n  excludeVerbs: true").await?;
        a.send(&get("status/200")).await?;
        counts(&a, REQUESTS, &["method=\"\"", "status=\"200\""], 1).await
    })
    .await;
    rows.row("M-18", "own buckets for all latencies", async {
        let a = set.caller("latencyDistributionBuckets: [10, 100]").await?;
        a.send(&get("status/200")).await?;
        for name in [
            "dapr_http_server_latency_bucket",
            "dapr_runtime_service_invocation_res_recv_latency_ms_bucket",
        ] {
            counts(&a, name, &["le=\"+Inf\"", "status=\"200\""], 1).await?;
            let text = text(&a, "/").await?;
            let of = |line: &&str| line.starts_with(name) && line.contains("status=\"200\"");
            let bounds = text.lines().filter(of).count();
            same(name, 3, bounds)?;
        }
        Ok(())
    })
    .await;
    rows.row("M-19", "metrics wins over metric, field by field", async {
        let older =
            "  metric:\n    latencyDistributionBuckets: [7]\n    http:\n      excludeVerbs: true\n";
        let newer = "  metrics:\n    http:\n      increasedCardinality: false\n";
        let spec = Spec::new("a").configure(&format!("{older}{newer}"));
        let a = spec.start(&set.world).await?;
        a.send(&get("status/200")).await?;
        counts(
            &a,
            REQUESTS,
            &["method=\"GET\"", "path=\"\"", "status=\"200\""],
            1,
        )
        .await?;
        counts(
            &a,
            "dapr_http_server_latency_bucket",
            &["le=\"+Inf\"", "status=\"200\""],
            1,
        )
        .await?;
        let text = text(&a, "/").await?;
        let of = |line: &&str| {
            line.starts_with("dapr_http_server_latency_bucket") && line.contains("status=\"200\"")
        };
        same("buckets", 2, text.lines().filter(of).count())
    })
    .await;
    rows.row("M-21", "rules change labels", async {
        let rule = "rules:\n- name: dapr_http_server_request_count\n  labels:\n  - name: path\n    regex:\n      \"/x\": \"/v1.0/invoke/.+\"\n- name: dapr_http_server_latency\n  labels:\n  - name: path\n    regex:\n      \"/y\": \"(\"";
        let a = set.caller(rule).await?;
        a.send(&get("status/200")).await?;
        counts(&a, REQUESTS, &["path=\"/x\"", "status=\"200\""], 1).await?;
        a.program.logged("a metric rule is left out").await
    })
    .await;
    rows.row("M-30", "error codes are counted", async {
        let a = set.caller("recordErrorCodes: true").await?;
        a.send(&Request::get("/v1.0/invoke")).await?;
        let labels = [
            "category=\"service-invocation\"",
            "error_code=\"ERR_DIRECT_INVOKE\"",
        ];
        counts(&a, "dapr_error_code_total", &labels, 1).await?;
        // An answer of the app that nobody takes for a success counts as well; a success does not.
        a.send(&get("status/404")).await?;
        a.send(&get("status/200")).await?;
        counts(&a, "dapr_error_code_total", &labels, 2).await
    })
    .await;
    rows.row("M-40", "series do not follow paths", async {
        let a = set.caller("http:\n  increasedCardinality: false").await?;
        a.send(&get("p")).await?;
        counts(&a, REQUESTS, &["path=\"\"", "status=\"200\""], 1).await?;
        let before = names(&text(&a, "/").await?).len();
        for path in 0..100 {
            a.send(&get(&format!("p{path}"))).await?;
        }
        counts(&a, REQUESTS, &["path=\"\"", "status=\"200\""], 101).await?;
        same("series", before, names(&text(&a, "/").await?).len())
    })
    .await;
    rows.close();
}

const SENT: &str = "dapr_runtime_service_invocation_req_sent_total";
const ANSWERED: &str = "dapr_runtime_service_invocation_res_recv_total";
const LATENCIES: &str = "dapr_runtime_service_invocation_res_recv_latency_ms_count";
const ERRORS: &str = "dapr_runtime_service_invocation_errors_total";

#[tokio::test]
async fn calls_are_counted() {
    let world = World::new();
    let app = http_app().await.unwrap();
    let grpc = GrpcApp::start(|mut call| {
        Box::pin(async move {
            call.message().await;
            if call.path().ends_with("/OnInvoke") {
                return call.end(5, "not here", &[]);
            }
            call.begin_reply(&[]);
            call.reply(b"r");
            call.end(0, "", &[]);
        })
    });
    let grpc = grpc.await.unwrap();
    let b = Spec::new("b").app(app.port()).ready(&world).await.unwrap();
    let g = Spec::new("g").app(grpc.port()).protocol("grpc");
    let g = g.ready(&world).await.unwrap();
    let a = Spec::new("a").start(&world).await.unwrap();
    let mut rows = Rows::of("metrics");
    rows.row("M-05", "an HTTP call", async {
        a.send(&get("status/200")).await?;
        counts(&a, SENT, &["dst_app_id=\"b\"", "type=\"unary\""], 1).await?;
        let labels = ["src_app_id=\"b\"", "status=\"200\"", "type=\"unary\""];
        counts(&a, ANSWERED, &labels, 1).await?;
        counts(&a, LATENCIES, &["src_app_id=\"b\"", "status=\"200\""], 1).await?;
        let received = "dapr_runtime_service_invocation_req_recv_total";
        counts(&b, received, &["src_app_id=\"a\""], 1).await?;
        let replied = "dapr_runtime_service_invocation_res_sent_total";
        counts(&b, replied, &["dst_app_id=\"a\"", "status=\"200\""], 1).await
    })
    .await;
    rows.row("M-06, M-22", "a gRPC app through InvokeService", async {
        let reply = invoke_service(&a, "g", "x").await?;
        same("code", Some(5), reply.code())?;
        counts(&a, ANSWERED, &["src_app_id=\"g\"", "status=\"5\""], 1).await?;
        let replied = "dapr_runtime_service_invocation_res_sent_total";
        counts(&g, replied, &["status=\"5\""], 1).await?;
        let method = "grpc_server_method=\"/dapr.proto.runtime.v1.Dapr/InvokeService\"";
        let rpcs = "dapr_grpc_io_server_completed_rpcs";
        counts(&a, rpcs, &[method, "grpc_server_status=\"NotFound\""], 1).await
    })
    .await;
    rows.row("M-07", "a proxied call", async {
        let before = series(&g, "dapr_runtime_service_invocation_req_recv_total", &[]).await?;
        let client = a.client().await?;
        let reply = client
            .call("/x.Y/Z", &[("dapr-app-id", "g")], &[b"m"])
            .await?;
        same("code", Some(0), reply.code())?;
        counts(
            &a,
            ANSWERED,
            &["src_app_id=\"g\"", "status=\"0\"", "type=\"unary\""],
            1,
        )
        .await?;
        counts(&a, LATENCIES, &["src_app_id=\"g\"", "status=\"0\""], 1).await?;
        counts(&a, SENT, &["dst_app_id=\"g\"", "type=\"unary\""], 2).await?;
        let received = "dapr_runtime_service_invocation_req_recv_total";
        counts(&g, received, &["src_app_id=\"a\""], before + 1).await
    })
    .await;
    rows.row("M-08", "a proxied stream", async {
        let client = a.client().await?;
        let metadata = [("dapr-app-id", "g"), ("dapr-stream", "true")];
        let reply = client.call("/x.Y/Z", &metadata, &[b"m"]).await?;
        same("code", Some(0), reply.code())?;
        counts(&a, SENT, &["dst_app_id=\"g\"", "type=\"streaming\""], 1).await?;
        counts(&a, LATENCIES, &["src_app_id=\"g\"", "status=\"0\""], 1).await
    })
    .await;
    rows.row("6.3", "calls without an answer, and attempts", async {
        let none = a
            .send(&Request::get("/v1.0/invoke/nobody/method/x"))
            .await?;
        same("status", 500, none.status())?;
        counts(
            &a,
            ERRORS,
            &["dst_app_id=\"nobody\"", "reason=\"resolve\""],
            1,
        )
        .await?;
        crate::rig::register(&world, "gone", 1)?;
        let gone = a.send(&Request::get("/v1.0/invoke/gone/method/x")).await?;
        same("status", 500, gone.status())?;
        counts(
            &a,
            ERRORS,
            &["dst_app_id=\"gone\"", "reason=\"connect\""],
            1,
        )
        .await?;
        let attempts = "dapr_resiliency_attempts_sum";
        let text = text(&a, "/").await?;
        let line = text
            .lines()
            .find(|line| line.starts_with(attempts) && line.contains("app_gone"));
        let line = line.unwrap_or_default();
        ensure!(line.ends_with(" 4.0"), "{line} in {text}");
        let balance = "dapr_resiliency_retry_budget_balance";
        ensure!(text.contains(balance), "{text}");
        Ok(())
    })
    .await;
    rows.close();
}
