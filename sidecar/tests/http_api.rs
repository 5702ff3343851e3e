//! The HTTP API's own routes and the stages before them (service-invocation 1.1, 1.14, 1.15; golden 11, 12).

mod rig;

use ironside_testkit::http::{Connection, Gate, Request};
use rig::{NEVER, Plan, app, ask, hanging, within};
use serde_json::Value;

/// Fact: golden 12, golden 11 (E19), service-invocation SI-112 to SI-114.
#[tokio::test]
async fn health_and_metadata() {
    let app = app().await;
    let words = ["--app-max-concurrency", "7", "--enable-app-health-check"];
    let mut sidecar = Plan::new(app.port()).words(&words).start();
    sidecar.ready().await;
    let health = sidecar.get("/v1.0/healthz").await;
    assert_eq!(
        (
            health.status(),
            health.header("traceparent"),
            health.body.len()
        ),
        (204, None, 0)
    );
    assert_eq!(sidecar.get("/v1.0/healthz/outbound").await.status(), 204);
    let mismatch = sidecar.get("/v1.0/healthz?appid=zz").await;
    assert_eq!(mismatch.status(), 500);
    assert_eq!(
        mismatch.text(),
        r#"{"errorCode":"ERR_HEALTH_APPID_NOT_MATCH","message":"dapr app-id does not match"}"#
    );
    assert_eq!(sidecar.get("/v1.0/healthz?appid=appa").await.status(), 204);

    let put = sidecar
        .ask(Request::new("PUT", "/v1.0/metadata/k%20x").body("v"))
        .await;
    assert_eq!(put.status(), 204);
    assert!(put.header("traceparent").is_some());
    let metadata = sidecar.get("/v1.0/metadata").await;
    assert_eq!(metadata.header("content-type"), Some("application/json"));
    let value: Value = serde_json::from_str(&metadata.text()).unwrap();
    let since = &value["extended"]["accessControl.lastChange"];
    assert!(since.as_str().unwrap().ends_with('Z'));
    let expected = format!(
        concat!(
            r#"{{"id":"appa","runtimeVersion":"edge","enabledFeatures":["HotReload","WorkflowsRemoteActivityReminder"],"#,
            r#""extended":{{"accessControl.lastChange":{},"accessControl.objects":"0","accessControl.snapshot":"1","daprRuntimeVersion":"edge","k x":"v"}},"#,
            r#""appConnectionProperties":{{"port":{},"protocol":"http","channelAddress":"127.0.0.1","maxConcurrency":7,"#,
            r#""health":{{"healthCheckPath":"/healthz","healthProbeInterval":"5s","healthProbeTimeout":"500ms","healthThreshold":3}}}},"#,
            r#""actorRuntime":{{"runtimeStatus":"DISABLED","hostReady":false,"placement":"placement: disconnected"}}}}"#,
            "\n"
        ),
        since,
        app.port()
    );
    assert_eq!(metadata.text(), expected);
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: service-invocation 1.3, SI-011, SI-012: there is no 405.
#[tokio::test]
async fn what_is_no_route_is_an_invocation_without_target() {
    let mut sidecar = Plan::new(NEVER).start();
    let e1 = r#"{"errorCode":"ERR_DIRECT_INVOKE","message":"failed getting app id either from the URL path or the header dapr-app-id"}"#;
    for (method, path) in [
        ("GET", "/unknown"),
        ("POST", "/v1.0/metadata"),
        ("OPTIONS", "/v1.0/metadata"),
        ("GET", "/v1.0/shutdown"),
    ] {
        let reply = sidecar.ask(Request::new(method, path)).await;
        assert_eq!(
            (reply.status(), reply.text().as_str()),
            (404, e1),
            "{method} {path}"
        );
    }
    assert_eq!(
        sidecar
            .ask(Request::new("HEAD", "/v1.0/healthz"))
            .await
            .status(),
        404
    );
    let state = sidecar.get("/v1.0/state/s/k").await;
    assert_eq!(state.status(), 500);
    assert!(state.text().contains("ERR_STATE_STORE_NOT_CONFIGURED"));
}

/// Fact: golden 11 (E15, E16): neither answer has a trace header.
#[tokio::test]
async fn bad_baggage_and_large_heads_are_refused_in_text() {
    let mut sidecar = Plan::new(NEVER).start();
    let refused = sidecar
        .ask(Request::get("/v1.0/invoke/appb/method/x").header("baggage", "invalid-baggage"))
        .await;
    assert_eq!(refused.status(), 400);
    assert_eq!(
        refused.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(refused.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(refused.header("traceparent"), None);
    assert_eq!(
        refused.text(),
        "invalid baggage header: invalid baggage list-member: \"invalid-baggage\"\n"
    );
    let large = sidecar
        .ask(Request::get("/v1.0/invoke/appb/method/x").header("X-Big", &"y".repeat(8300)))
        .await;
    assert_eq!(
        (large.status(), large.reason()),
        (431, "Request Header Fields Too Large")
    );
    assert_eq!(large.header("connection"), Some("close"));
    assert_eq!(large.header("traceparent"), None);
    assert_eq!(large.text(), "431 Request Header Fields Too Large");
    let huge = sidecar
        .ask(Request::get("/v1.0/healthz").header("X-Big", &"y".repeat(64 * 1024)))
        .await;
    assert_eq!(huge.text(), "431 Request Header Fields Too Large");
    assert_eq!(
        sidecar
            .ask(Request::get("/v1.0/healthz/outbound").header("X-Big", &"y".repeat(8000)))
            .await
            .status(),
        204
    );
}

/// Fact: service-invocation SI-119, SI-120, process-interface 10 row 9.
#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_at_health() {
    let app = app().await;
    let words = [
        "--dapr-public-port",
        "0",
        "--dapr-public-listen-address",
        "127.0.0.1",
    ];
    let mut sidecar = Plan::new(app.port())
        .words(&words)
        .env("DAPR_API_TOKEN", "t0ken")
        .start();
    sidecar.ready().await;
    for request in [
        Request::get("/v1.0/metadata"),
        Request::get("/v1.0/metadata").header("dapr-api-token", "other"),
        Request::new("PUT", "/v1.0/healthz"),
        Request::get("/v1.0/invoke/appa/method/x"),
    ] {
        let reply = sidecar.ask(request).await;
        assert_eq!(
            (reply.status(), reply.text().as_str()),
            (401, "invalid api token\n")
        );
    }
    assert_eq!(sidecar.get("/v1.0/healthz").await.status(), 204);
    assert_eq!(sidecar.get("/v1.0/healthz/outbound").await.status(), 204);
    let _startup = app.take();
    let called = sidecar
        .ask(Request::get("/v1.0/invoke/appa/method/x").header("dapr-api-token", "t0ken"))
        .await;
    assert_eq!(called.status(), 200);
    assert!(
        app.seen()
            .iter()
            .all(|seen| seen.header("dapr-api-token").is_none())
    );
    let log = sidecar.log();
    let mut public = log
        .iter()
        .filter(|line| line.contains("HTTP server listening on TCP address: 127.0.0.1:"));
    let port = public
        .next_back()
        .unwrap()
        .split("127.0.0.1:")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    let port: u16 = port.parse().unwrap();
    for (path, status) in [
        ("/v1.0/healthz", 204),
        ("/v1.0/metadata", 200),
        ("/v1.0/invoke/appa/method/x", 404),
    ] {
        assert_eq!(
            within(path, ask(port, Request::get(path))).await.status(),
            status,
            "{path}"
        );
    }
    let unknown = within("an answer", ask(port, Request::get("/x"))).await;
    assert_eq!(unknown.text(), "404 page not found\n");
}

/// Fact: service-invocation SI-117, SI-118.
#[tokio::test]
async fn cors_is_off_by_default_and_answers_before_the_token() {
    let preflight = |origin| {
        Request::new("OPTIONS", "/v1.0/metadata")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "GET")
    };
    let mut off = Plan::new(NEVER).start();
    let reply = off.ask(preflight("https://x")).await;
    assert_eq!(
        (reply.status(), reply.header("access-control-allow-origin")),
        (404, None)
    );
    let mut on = Plan::new(NEVER)
        .words(&["--allowed-origins", "https://x"])
        .env("DAPR_API_TOKEN", "t")
        .start();
    let own = on.ask(preflight("https://x")).await;
    assert_eq!(
        (own.status(), own.header("access-control-allow-origin")),
        (200, Some("https://x"))
    );
    let foreign = on.ask(preflight("https://y")).await;
    assert_eq!(
        (
            foreign.status(),
            foreign.header("access-control-allow-origin")
        ),
        (200, None)
    );
    assert!(own.header("vary").is_some() && foreign.header("vary").is_some());
}

/// Fact: service-invocation SI-124, SI-125.
#[tokio::test]
async fn access_lists_close_routes() {
    let plan = Plan::new(NEVER);
    let denied = plan.write(
        "c.yaml",
        "spec: {api: {denied: [{name: metadata, version: v1.0, protocol: http}]}}",
    );
    let mut sidecar = plan.words(&["--config", denied.to_str().unwrap()]).start();
    assert!(
        sidecar
            .get("/v1.0/metadata")
            .await
            .text()
            .contains("ERR_DIRECT_INVOKE")
    );
    assert_eq!(sidecar.get("/v1.0/healthz/outbound").await.status(), 204);
    let plan = Plan::new(NEVER);
    let allowed = plan.write(
        "c.yaml",
        "spec: {api: {allowed: [{name: state, version: v1.0, protocol: http}]}}",
    );
    let mut sidecar = plan.words(&["--config", allowed.to_str().unwrap()]).start();
    let reply = sidecar.get("/v1.0/invoke/a/method/x").await;
    assert_eq!(
        (reply.status(), reply.text().as_str()),
        (404, "404 page not found\n")
    );
}

/// Fact: service-invocation SI-127, process-interface 10 row 16: `Upgrade: h2c` is answered in HTTP/1.1, a
/// deliberate difference.
#[tokio::test]
async fn http2_by_prior_knowledge_and_upgrade_ignored() {
    let mut sidecar = Plan::new(NEVER).start();
    let upgrade = Request::get("/v1.0/healthz/outbound")
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA");
    assert_eq!(sidecar.ask(upgrade).await.status(), 204);
    let mut preface = Connection::tcp(sidecar.http_port().await).await.unwrap();
    preface
        .write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let client = ironside_testkit::grpc::GrpcClient::connect(sidecar.http_port().await).await;
    assert!(client.is_ok(), "HTTP/2 is spoken");
}

/// Fact: process-interface 10 row 15.
#[tokio::test]
async fn metrics_are_the_same_at_every_path() {
    let mut sidecar = Plan::new(NEVER).start();
    assert_eq!(sidecar.get("/v1.0/metadata").await.status(), 200);
    let port = sidecar.metrics_port().await;
    let mut texts = Vec::new();
    for path in ["/", "/metrics", "/x"] {
        let reply = within("metrics", ask(port, Request::get(path))).await;
        let own = reply
            .text()
            .lines()
            .filter(|line| line.starts_with("dapr_"))
            .collect::<Vec<_>>()
            .join("\n");
        texts.push(own);
    }
    assert!(texts[0].contains(r#"dapr_http_server_request_count{app_id="appa",method="GET",path="/v1.0/metadata",status="200"} 1"#), "{}", texts[0]);
    assert!(texts.iter().all(|text| *text == texts[0]));
}

/// Fact: process-interface 7, API log.
#[tokio::test]
async fn the_api_log_has_a_line_for_each_call_that_was_let_in() {
    let app = app().await;
    let words = [
        "--enable-api-logging",
        "--log-as-json",
        "--log-level",
        "error",
    ];
    let mut sidecar = Plan::new(app.port())
        .words(&words)
        .env("DAPR_API_TOKEN", "t")
        .start();
    let refused = Request::get("/v1.0/metadata");
    let called = Request::new("POST", "/v1.0/invoke/appa/method/x?q=1")
        .header("dapr-api-token", "t")
        .header("User-Agent", "me/1")
        .body("b");
    let port = free_run(&mut sidecar).await;
    assert_eq!(within("refusal", ask(port, refused)).await.status(), 401);
    assert_eq!(within("call", ask(port, called)).await.status(), 200);
    let line = sidecar.line("POST /v1.0/invoke/appa/method/x").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["method"], "POST /v1.0/invoke/appa/method/x");
    assert_eq!(
        (&line["code"], &line["useragent"], &line["scope"]),
        (
            &200.into(),
            &"me/1".into(),
            &"dapr.runtime.http-info".into()
        )
    );
    assert_eq!(line["size"], "POST /x?q=1".len());
    assert_eq!(sidecar.terminate().await, 0);
    let log = sidecar.log();
    assert!(
        !log.iter().any(|line| line.contains("GET /v1.0/metadata")),
        "a refused call has no line: {log:?}"
    );
}

/// The HTTP port of a sidecar whose log says nothing: found through the kernel's list of this process.
async fn free_run(sidecar: &mut rig::Daprd) -> u16 {
    within("a listening port", async {
        loop {
            for port in rig::listening(sidecar.pid()) {
                let request = Request::get("/v1.0/healthz");
                if let Ok(mut connection) = Connection::tcp(port).await
                    && let Ok(Ok(reply)) = tokio::time::timeout(
                        std::time::Duration::from_secs(2),
                        connection.send(&request),
                    )
                    .await
                    && reply.status() == 204
                {
                    return port;
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// Fact: cli-and-clients 2.9: half of a request, then nothing, costs the client its connection only.
#[tokio::test]
async fn clients_that_misbehave_lose_their_connection_and_nobody_else() {
    let app = app().await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.ready().await;
    let port = sidecar.http_port().await;
    let silent = Connection::tcp(port).await.unwrap();
    for bytes in [
        &b"GET /v1.0/healthz HTTP/1.1\r\nHost: x\r\nBroken\0Header: 1\r\n\r\n"[..],
        b"POST /v1.0/invoke/appa/method/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1.0/invoke/appa/method/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"garbage\r\n\r\n",
    ] {
        let mut connection = Connection::tcp(port).await.unwrap();
        connection.write(bytes).await.unwrap();
        within("the end of a broken connection", connection.closed()).await;
    }
    let mut half = Connection::tcp(port).await.unwrap();
    half.write(
        b"POST /v1.0/invoke/appa/method/x HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf",
    )
    .await
    .unwrap();
    half.half_close().await.unwrap();
    within("the end of a half-closed connection", half.closed()).await;
    assert_eq!(
        sidecar.get("/v1.0/invoke/appa/method/x").await.status(),
        200
    );
    drop(silent);
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: service-invocation 1.10: a client that goes away cancels the call at the app.
#[tokio::test]
async fn a_client_that_goes_away_cancels_its_call() {
    let app = hanging(&Gate::new()).await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.ready().await;
    let mut client = Connection::tcp(sidecar.http_port().await).await.unwrap();
    client
        .write(b"GET /v1.0/invoke/appa/method/hang HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    within("the call at the app", app.busy(1)).await;
    drop(client);
    within("the cancellation", app.cancelled()).await;
    // No status went over the wire, and yet it is counted.
    let port = sidecar.metrics_port().await;
    let counted = r#"dapr_http_server_request_count{app_id="appa",method="GET",path="/v1.0/invoke/appa/method/hang",status="499"} 1"#;
    within("the count", async {
        while !ask(port, Request::get("/")).await.text().contains(counted) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(sidecar.terminate().await, 0);
}
