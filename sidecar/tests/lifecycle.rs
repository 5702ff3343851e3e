//! Start, readiness, signals and ends of `daprd` (process-interface 2.4 to 2.8, 10).

mod rig;

use ironside_testkit::http::{Answer, Connection, Gate, HttpApp, Request, Setup};
use rig::{NEVER, Plan, app, ask, hanging, within};
use rustix::process::Signal;
use tokio::net::TcpStream;

/// Fact: process-interface 10 row 5, service-invocation SI-110, SI-111.
#[tokio::test]
async fn waiting_for_the_app_is_outbound_ready_and_ends_with_0() {
    let mut sidecar = Plan::new(NEVER).start();
    sidecar
        .line("This will block until the app is listening")
        .await;
    let health = sidecar.get("/v1.0/healthz").await;
    assert_eq!(health.status(), 500);
    assert_eq!(
        health.text(),
        r#"{"errorCode":"ERR_HEALTH_NOT_READY","message":"dapr is not ready: [runtime]"}"#
    );
    assert_eq!(sidecar.get("/v1.0/healthz/outbound").await.status(), 204);
    assert_eq!(sidecar.terminate().await, 0);
    let log = sidecar.log().join("\n");
    assert!(
        log.contains("Received signal 'terminated'; beginning shutdown"),
        "{log}"
    );
    assert!(
        log.ends_with("scope=dapr.runtime type=log ver=unknown")
            && log.contains("Daprd shutdown gracefully"),
        "{log}"
    );
}

/// Fact: service-invocation SI-146.
#[tokio::test]
async fn an_app_that_comes_late_makes_the_sidecar_ready() {
    let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = reserved.local_addr().unwrap().port();
    drop(reserved);
    let mut sidecar = Plan::new(port).start();
    sidecar
        .line("This will block until the app is listening")
        .await;
    let app = Setup::new(|_| Answer::text("ok"))
        .port(port)
        .start()
        .await
        .unwrap();
    sidecar.ready().await;
    assert_eq!(sidecar.get("/v1.0/healthz").await.status(), 204);
    drop(app);
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: process-interface 10 row 8, service-invocation SI-144.
#[tokio::test]
async fn without_an_identity_nothing_listens() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let roots = ironside_testkit::certs::Ca::new().root_pem();
    let words = [
        "--app-id",
        "appa",
        "--enable-mtls",
        "--sentry-address",
        &nobody.to_string(),
        "--dapr-http-port",
        &free.to_string(),
    ];
    let mut sidecar = Plan::bare(&words).env("DAPR_TRUST_ANCHORS", &roots).start();
    sidecar.line("Fetching initial identity").await;
    assert!(TcpStream::connect(("127.0.0.1", free)).await.is_err());
    assert_eq!(sidecar.terminate().await, 0);
    assert!(
        !sidecar
            .log()
            .iter()
            .any(|line| line.contains("running on port"))
    );
}

/// Fact: service-invocation SI-147.
#[tokio::test]
async fn a_call_in_flight_finishes_and_new_connections_are_refused() {
    let gate = Gate::new();
    let app = hanging(&gate).await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.ready().await;
    let port = sidecar.http_port().await;
    let _startup = app.take();
    let call = ask(port, Request::get("/v1.0/invoke/appa/method/hang"));
    let stop = async {
        app.busy(1).await;
        sidecar.signal(Signal::TERM);
        sidecar.line("Closing HTTP server").await;
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        gate.open();
    };
    let (reply, ()) = within("call and signal", async { tokio::join!(call, stop) }).await;
    assert_eq!((reply.status(), reply.text().as_str()), (200, "late"));
    assert_eq!(sidecar.exit_code().await, 0);
}

/// Fact: process-interface 10 row 7, service-invocation SI-148.
#[tokio::test]
async fn a_call_that_hangs_is_cut_at_the_grace_period() {
    let app = hanging(&Gate::new()).await;
    let mut sidecar = Plan::new(app.port())
        .words(&["--dapr-graceful-shutdown-seconds", "1"])
        .start();
    sidecar.ready().await;
    let mut client = Connection::tcp(sidecar.http_port().await).await.unwrap();
    client
        .write(b"GET /v1.0/invoke/appa/method/hang HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    within("the call at the app", app.busy(1)).await;
    assert_eq!(sidecar.terminate().await, 1);
    within("the end of the connection", client.closed()).await;
    assert!(
        sidecar
            .log()
            .last()
            .unwrap()
            .contains("level=fatal msg=\"Graceful shutdown timeout exceeded, forcing shutdown\"")
    );
}

/// Fact: process-interface 10 row 6, service-invocation SI-151.
#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let app = hanging(&Gate::new()).await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.ready().await;
    let mut client = Connection::tcp(sidecar.http_port().await).await.unwrap();
    client
        .write(b"GET /v1.0/invoke/appa/method/hang HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    within("the call at the app", app.busy(1)).await;
    sidecar.signal(Signal::TERM);
    sidecar
        .line("Received signal 'terminated'; beginning shutdown")
        .await;
    sidecar.line("Dapr is shutting down").await;
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.exit_code().await, 1);
    sidecar
        .line("Received signal 'interrupt' during shutdown; exiting immediately")
        .await;
}

/// Fact: process-interface 2.7, last sentence: idle connections must not hold up the exit.
#[tokio::test]
async fn idle_connections_do_not_hold_up_the_exit() {
    let app = app().await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.ready().await;
    let port = sidecar.http_port().await;
    let mut kept = Connection::tcp(port).await.unwrap();
    assert_eq!(
        kept.send(&Request::get("/v1.0/healthz"))
            .await
            .unwrap()
            .status(),
        204
    );
    let _silent = Connection::tcp(port).await.unwrap();
    let _grpc = ironside_testkit::grpc::GrpcClient::connect(sidecar.grpc_port().await)
        .await
        .unwrap();
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: service-invocation SI-115, SI-116.
#[tokio::test]
async fn the_shutdown_api_ends_with_0_or_by_force_with_1() {
    let app = app().await;
    for (force, code, text) in [
        (None, 0, "Daprd shutdown gracefully"),
        (
            Some("TRUE"),
            1,
            "Force shutdown requested, exiting immediately without graceful shutdown",
        ),
    ] {
        let mut sidecar = Plan::new(app.port()).start();
        sidecar.ready().await;
        let request = Request::new("POST", "/v1.0/shutdown");
        let request = force.into_iter().fold(request, |request, value| {
            request.header("dapr-force-shutdown", value)
        });
        assert_eq!(sidecar.ask(request).await.status(), 204);
        assert_eq!(sidecar.exit_code().await, code);
        sidecar.line("Shutdown requested via API").await;
        sidecar.line(text).await;
    }
}

/// Fact: service-invocation SI-149; process-interface 2.8.
#[tokio::test]
async fn a_blocked_shutdown_serves_until_its_time_is_over() {
    let app = app().await;
    let mut sidecar = Plan::new(app.port())
        .words(&["--dapr-block-shutdown-duration", "1s"])
        .start();
    sidecar.ready().await;
    sidecar.signal(Signal::TERM);
    sidecar
        .line("Blocking graceful shutdown for 1s or until app reports unhealthy...")
        .await;
    assert_eq!(
        sidecar.get("/v1.0/invoke/appa/method/x").await.status(),
        200
    );
    sidecar
        .line("Block shutdown period expired, entering shutdown...")
        .await;
    assert_eq!(sidecar.exit_code().await, 0);
}

/// Fact: service-invocation SI-150.
#[tokio::test]
async fn an_app_that_turns_unhealthy_ends_the_block() {
    let healthy = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let state = std::sync::Arc::clone(&healthy);
    let app = HttpApp::start(
        move |_| match state.load(std::sync::atomic::Ordering::SeqCst) {
            true => Answer::text("ok"),
            false => Answer::status(503).body(""),
        },
    )
    .await
    .unwrap();
    let words = [
        "--dapr-block-shutdown-duration",
        "180s",
        "--enable-app-health-check",
        "--app-health-probe-interval",
        "1",
        "--app-health-threshold",
        "1",
    ];
    let mut sidecar = Plan::new(app.port()).words(&words).start();
    sidecar.line("App entered healthy status").await;
    sidecar.signal(Signal::TERM);
    sidecar.line("Blocking graceful shutdown for 3m0s").await;
    healthy.store(false, std::sync::atomic::Ordering::SeqCst);
    sidecar
        .line("App reported unhealthy, entering shutdown...")
        .await;
    assert_eq!(sidecar.exit_code().await, 0);
}

/// Fact: service-invocation SI-133, SI-134, E6a.
#[tokio::test]
async fn an_unhealthy_app_is_not_called_until_it_recovers() {
    let status = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(503));
    let state = std::sync::Arc::clone(&status);
    let app = HttpApp::start(move |seen| match seen.path() {
        "/custom" => Answer::status(state.load(std::sync::atomic::Ordering::SeqCst)).body(""),
        _ => Answer::text("ok"),
    })
    .await
    .unwrap();
    let words = [
        "--enable-app-health-check",
        "--app-health-check-path",
        "custom",
        "--app-health-probe-interval",
        "1",
        "--app-health-threshold",
        "1",
    ];
    let mut sidecar = Plan::new(app.port()).words(&words).start();
    sidecar.ready().await;
    let refused = sidecar.get("/v1.0/invoke/appa/method/x").await;
    assert_eq!(refused.status(), 500);
    assert!(
        refused.text().contains("app is not in a healthy state"),
        "{}",
        refused.text()
    );
    assert_eq!(
        sidecar.get("/v1.0/healthz").await.status(),
        204,
        "probes do not count here"
    );
    status.store(204, std::sync::atomic::Ordering::SeqCst);
    sidecar.line("App entered healthy status").await;
    assert_eq!(
        sidecar.get("/v1.0/invoke/appa/method/x").await.status(),
        200
    );
    status.store(500, std::sync::atomic::Ordering::SeqCst);
    sidecar.line("App entered un-healthy status").await;
    assert_eq!(
        sidecar.get("/v1.0/invoke/appa/method/x").await.status(),
        500
    );
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: service-invocation SI-152.
#[tokio::test]
async fn the_app_is_asked_for_its_configuration_once_unless_told_not_to() {
    let app = app().await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.line("Application configuration loaded").await;
    let seen = app.take();
    let asked: Vec<_> = seen
        .iter()
        .filter(|seen| seen.path() == "/dapr/config")
        .collect();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].header("dapr-app-id"), Some("appa"));
    assert_eq!(sidecar.terminate().await, 0);
    let mut sidecar = Plan::new(app.port())
        .words(&["--disable-init-endpoints", "config"])
        .start();
    sidecar
        .line("Skipping programmatic dapr configuration loading")
        .await;
    sidecar.ready().await;
    assert_eq!(sidecar.terminate().await, 0);
    assert!(app.take().iter().all(|seen| seen.path() != "/dapr/config"));
}

/// Fact: service-invocation SI-153.
#[tokio::test]
async fn socket_files_replace_the_ports_and_go_with_the_process() {
    let app = app().await;
    let plan = Plan::new(app.port());
    let folder = plan.path("");
    let mut sidecar = plan
        .words(&["--unix-domain-socket", folder.to_str().unwrap()])
        .start();
    sidecar.ready().await;
    let socket = sidecar.path("dapr-appa-http.socket");
    let mut connection = Connection::unix(&socket).await.unwrap();
    assert_eq!(
        connection
            .send(&Request::get("/v1.0/invoke/appa/method/x"))
            .await
            .unwrap()
            .text(),
        "GET /x"
    );
    assert!(sidecar.path("dapr-appa-grpc.socket").exists());
    assert!(
        !sidecar
            .log()
            .iter()
            .any(|line| line.contains("listening on TCP address: 127.0.0.1")
                && line.contains("dapr.runtime.http"))
    );
    assert_eq!(sidecar.terminate().await, 0);
    assert!(!socket.exists());
}

/// Several data threads share the ports; each request is served by one of them.
#[tokio::test]
async fn several_data_workers_serve_the_same_ports() {
    let app = app().await;
    let mut sidecar = Plan::new(app.port())
        .words(&["--data-workers", "3"])
        .start();
    sidecar.ready().await;
    for _ in 0..24 {
        assert_eq!(
            sidecar.get("/v1.0/invoke/appa/method/x").await.status(),
            200
        );
    }
    assert_eq!(sidecar.terminate().await, 0);
}
