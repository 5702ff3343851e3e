//! Flags, exit codes and errands of `daprd` (process-interface 1, 2.1, 10).

mod rig;

use rig::{NEVER, Plan, app};
use rustix::process::Signal;

async fn refused(words: &[&str], code: i32, text: &str) {
    let (got, log) = Plan::bare(words).start().end().await;
    assert_eq!(got, code, "{words:?}: {log}");
    assert!(log.contains(text), "{words:?}: {log}");
}

/// Fact: process-interface 10, rows 2, 3, 4, 17; service-invocation SI-130, SI-135, SI-143.
#[tokio::test]
async fn what_cannot_be_read_is_2_and_what_is_refused_is_1() {
    refused(&["--no-such-flag"], 2, "unknown flag: --no-such-flag").await;
    refused(&["--app-max-concurrency", "x"], 2, "app-max-concurrency").await;
    refused(
        &["--app-id", "a", "--app-port", "x"],
        1,
        "error parsing app-port flag",
    )
    .await;
    refused(
        &["--app-id", "a.b"],
        1,
        "level=fatal msg=\"Fatal error from runtime: parameter app-id cannot contain dots\"",
    )
    .await;
    refused(&[], 1, "parameter app-id cannot be empty").await;
    refused(
        &["--app-id", "a", "--app-protocol", "ftp"],
        1,
        "invalid value for 'app-protocol': ftp",
    )
    .await;
    refused(
        &["--app-id", "a", "--dapr-http-port", "0"],
        1,
        "conflicts with 'app-port'",
    )
    .await;
    refused(&["--app-id", "a", "--mode", "x"], 1, "invalid mode: x").await;
    refused(
        &["--app-id", "a", "--log-level", "loud"],
        1,
        "invalid value for --log-level: loud",
    )
    .await;
    refused(
        &["--app-id", "a", "--enable-mtls"],
        1,
        "trust anchors are required",
    )
    .await;
    refused(
        &["--app-id", "a", "--log-file", "/no/such/dir/log"],
        1,
        "/no/such/dir/log",
    )
    .await;
    for file in ["/no/such/dir/calls.jsonl", "/dev/null"] {
        let words = ["--app-id", "a", "--access-log-file", file];
        let text = format!("failed to open the access log file {file}: ");
        refused(&words, 1, &text).await;
    }
    refused(
        &["--app-id", "a", "--config", "/no/such/file"],
        1,
        "error loading configuration: open /no/such/file",
    )
    .await;
    refused(
        &["--app-id", "a", "--resources-path", "/no/such/dir"],
        1,
        "failed to load components: open /no/such/dir",
    )
    .await;
}

#[tokio::test]
async fn errands_end_with_0() {
    let (code, text) = Plan::bare(&["--version"]).start().end().await;
    assert_eq!((code, text.as_str()), (0, "edge"));
    let (code, text) = Plan::bare(&["-build-info"]).start().end().await;
    assert_eq!(code, 0);
    assert!(text.starts_with("Version: edge\nGit Commit: "), "{text}");
    let (code, text) = Plan::bare(&["--help"]).start().end().await;
    assert_eq!(code, 0);
    assert!(text.contains("--app-id"), "{text}");
}

/// Fact: process-interface 2.1, `wait`.
#[tokio::test]
async fn wait_ends_once_a_sidecar_is_up() {
    let mut sidecar = Plan::new(NEVER).start();
    let port = sidecar.http_port().await.to_string();
    let (code, text) = Plan::bare(&["--wait", "--dapr-http-port", &port])
        .start()
        .end()
        .await;
    assert_eq!(code, 0);
    assert!(text.contains("the sidecar is up"), "{text}");
    assert_eq!(sidecar.terminate().await, 0);
}

/// Fact: process-interface 10, rows 1, 4, 22; service-invocation SI-154. The environment is empty but for the
/// registry folder of the rig.
#[tokio::test]
async fn single_dashes_positional_words_and_any_case_start() {
    let app = app().await;
    let words = [
        "/daprd",
        "-mode",
        "standalone",
        "-log-level",
        "DEBUG",
        "-app-protocol",
        "HTTP",
    ];
    let mut sidecar = Plan::new(app.port()).words(&words).start();
    sidecar.ready().await;
    assert_eq!(sidecar.terminate().await, 0);
    let log = sidecar.log();
    assert!(
        log.iter()
            .any(|line| line.contains("Log level set to: debug")),
        "{log:?}"
    );
    assert!(
        log.last().unwrap().contains("Daprd shutdown gracefully"),
        "{log:?}"
    );
}

/// Fact: process-interface 7, golden 35: the lines of a start, in their order.
#[tokio::test]
async fn the_log_tells_the_start_in_the_words_of_the_reference() {
    let app = app().await;
    let mut sidecar = Plan::new(app.port()).start();
    sidecar.ready().await;
    let log = sidecar.log();
    let mut rest = log.iter();
    for text in [
        "msg=\"Starting Dapr Runtime -- version edge -- commit \" app_id=appa",
        "msg=\"Log level set to: info\" app_id=appa",
        "level=warning msg=\"mTLS is disabled. Skipping certificate request and tls validation\"",
        "msg=\"Enabled features: HotReload WorkflowsRemoteActivityReminder\"",
        "msg=\"metric spec: {\\\"enabled\\\":true}\"",
        "msg=\"standalone mode configured\"",
        "msg=\"app id: appa\"",
        "msg=\"Dapr trace sampler initialized: ParentBased{root:TraceIDRatioBased{0.0001}",
        "msg=\"metrics server started on 127.0.0.1:",
        "msg=\"Initialized name resolution to mdns\"",
        "msg=\"Loading components…\"",
        "msg=\"gRPC server listening on TCP address: 127.0.0.1:",
        "msg=\"API gRPC server is running on port ",
        "msg=\"HTTP server listening on TCP address: 127.0.0.1:",
        "msg=\"HTTP server is running on port ",
        "msg=\"The request body size parameter is: 4194304 bytes\"",
        "msg=\"Internal gRPC server is running on 127.0.0.1:",
        "msg=\"application protocol: http. waiting on port ",
        "msg=\"application discovered on port ",
        "msg=\"dapr initialized. Status: Running. Init Elapsed ",
    ] {
        assert!(
            rest.any(|line| line.contains(text)),
            "{text} is missing or late in\n{}",
            log.join("\n")
        );
    }
}

/// Fact: process-interface 8, first row.
#[tokio::test]
async fn flags_of_other_blocks_are_one_warning() {
    let words = [
        "--placement-host-address",
        "p:1",
        "--scheduler-host-address",
        "s:1",
        "--scheduler-job-streams",
        "3",
    ];
    let mut sidecar = Plan::new(NEVER).words(&words).start();
    let line = sidecar
        .line("building blocks that are not offered have no effect")
        .await;
    assert!(
        line.contains("--placement-host-address, --scheduler-host-address"),
        "{line}"
    );
    assert!(!line.contains("job-streams"), "{line}");
    sidecar.signal(Signal::INT);
    assert_eq!(sidecar.exit_code().await, 0);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let words = ["--metrics-port", &port];
    let mut sidecar = Plan::new(NEVER).words(&words).start();
    let line = sidecar.line("level=fatal").await;
    assert!(line.contains("metrics") && line.contains(&port), "{line}");
    assert_eq!(sidecar.exit_code().await, 1);
}

/// KP-14, M-02, M-03: without metrics their port is not opened, even if it could not be.
#[tokio::test]
async fn without_metrics_their_port_stays_closed() {
    let app = app().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let words = ["--enable-metrics=false", "--metrics-port", &port];
    let mut sidecar = Plan::new(app.port()).words(&words).start();
    sidecar.ready().await;
    let log = sidecar.log();
    let line = log
        .iter()
        .find(|line| line.contains("metrics server started"));
    assert_eq!(line, None);
}
