//! The flag table of process-interface 2.1, row by row.

use ironside_transport::{MinTls, sentry_client::TokenSource};

use super::*;
use crate::config::AccessLogFile;

const MACHINE_ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 0, 1));

fn given(words: &[&str]) -> Given {
    Given::parse(words.iter().map(Into::into)).unwrap_or_else(|exit| panic!("{}", exit.stderr))
}

fn machine() -> Machine {
    Machine {
        address: MACHINE_ADDRESS,
        hostname: "rig".into(),
        is_root: false,
    }
}

fn with_env(words: &[&str], env: &Environment) -> Result<Startup, ConfigError> {
    let all: Vec<&str> = ["--app-id", "appa"]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    startup(&given(&all), env, machine())
}

fn config(words: &[&str]) -> Config {
    with_env(words, &Environment::default())
        .unwrap_or_else(|err| panic!("{words:?}: {err}"))
        .config
}

fn refusal(words: &[&str]) -> String {
    with_env(words, &Environment::default())
        .map(|_| ())
        .unwrap_err()
        .to_string()
}

#[test]
fn the_access_log_file_has_bounds() {
    assert_eq!(config(&[]).access_log_file, None);
    let file = |words: &[&str]| config(words).access_log_file.unwrap();
    let default = file(&["--access-log-file", "f"]);
    let want = AccessLogFile {
        path: "f".into(),
        max_size: 64 << 20,
        max_files: 4,
    };
    assert_eq!(default, want);
    let small = file(&[
        "--access-log-file=f",
        "--access-log-max-size=64Ki",
        "--access-log-max-files=1",
    ]);
    assert_eq!((small.max_size, small.max_files), (64 << 10, 1));
    assert!(!config(&[]).access_control_strict);
    assert!(config(&["--access-control-strict"]).access_control_strict);
}

#[test]
fn defaults_are_those_of_the_table() {
    let config = config(&[]);
    assert_eq!(config.app_id.as_str(), "appa");
    assert_eq!(config.namespace.as_str(), "default");
    assert!(config.app.is_none() && config.app_health.is_none() && config.identity.is_none());
    assert_eq!(
        (config.max_body, config.max_message, config.read_buffer),
        (Some(4 << 20), 4 << 20, 4096)
    );
    assert_eq!(config.app_max_concurrency, None);
    assert_eq!(config.grace, Some(Duration::from_secs(5)));
    assert_eq!(config.block_shutdown, None);
    assert_eq!(config.api_logging, None);
    assert_eq!(config.data_workers.get(), 1);
    assert_eq!(
        (config.peer_idle, config.peer_sweep),
        (Duration::from_secs(180), Duration::from_secs(45))
    );
    assert_eq!(
        (config.host_address, &*config.announced_host),
        (MACHINE_ADDRESS, "10.9.0.1")
    );
    let listen = config.listen;
    assert_eq!(
        (listen.http_port, listen.grpc_port, listen.internal_port),
        (3500, 50001, None)
    );
    assert_eq!(
        (listen.addresses, listen.public, listen.h2c),
        (vec![String::new()], None, true)
    );
    assert_eq!(listen.metrics, Some(("0.0.0.0".to_owned(), 9090)));
}

/// Fact: process-interface 10, rows 2, 3, 4, 17; service-invocation SI-130, SI-135, SI-143.
#[test]
fn bad_values_are_refused_in_the_words_of_the_reference() {
    for (words, text) in [
        (
            &["--app-port", "x"][..],
            "Fatal error from runtime: error parsing app-port flag",
        ),
        (&["--app-port", "70000"], "70000 is not a port"),
        (
            &["--dapr-http-port", "x"],
            "error parsing dapr-http-port flag",
        ),
        (&["--metrics-port", "x"], "error parsing metrics-port flag"),
        (
            &["--app-id", "a.b"],
            "Fatal error from runtime: parameter app-id cannot contain dots",
        ),
        (
            &["--app-id", ""],
            "Fatal error from runtime: parameter app-id cannot be empty",
        ),
        (
            &["--app-protocol", "ftp"],
            "invalid value for 'app-protocol': ftp",
        ),
        (
            &["--app-port", "3500"],
            "the 'dapr-http-port' argument value 3500 conflicts with 'app-port'",
        ),
        (
            &["--app-port", "50001"],
            "the 'dapr-grpc-port' argument value 50001 conflicts with 'app-port'",
        ),
        (
            &["--dapr-http-port", "0"],
            "the 'dapr-http-port' argument value 0 conflicts with 'app-port'",
        ),
        (
            &["--app-health-probe-timeout", "5001"],
            "must be smaller than 'health-probe-interval'",
        ),
        (
            &["--max-body-size", "4.5x"],
            "Failed to parse flags: invalid value for 'max-body-size' option",
        ),
        (
            &["--max-body-size", "100m"],
            "invalid value for 'max-body-size' option",
        ),
        (
            &["--mode", "x"],
            "Fatal error from runtime: invalid mode: x",
        ),
        (&["--mode", "kubernetes"], "trust anchors are required"),
        (
            &["--disable-init-endpoints", "config,nope"],
            "Failed to parse flags: invalid value for 'disable-init-endpoints'",
        ),
        (
            &["--actors-disseminate-timeout", "0"],
            "'actors-disseminate-timeout'",
        ),
        (
            &["--control-plane-trust-domain", ""],
            "trust domain is missing",
        ),
        (
            &["--enable-mtls"],
            "Fatal error from runtime: trust anchors are required",
        ),
        (
            &["--access-log-max-size", "63Ki"],
            "Failed to parse flags: invalid value for 'access-log-max-size': 63Ki: the least is 64Ki",
        ),
        (
            &["--access-log-max-size", "x"],
            "'access-log-max-size': x: ",
        ),
        (
            &["--access-log-max-files", "0"],
            "'access-log-max-files': 0: it is not 1 to 1000",
        ),
        (
            &["--access-log-max-files", "1001"],
            "'access-log-max-files'",
        ),
        (&["--data-workers", "0"], "'data-workers'"),
        (&["--tls-min-version", "1.1"], "'tls-min-version'"),
    ] {
        let got = refusal(words);
        assert!(got.contains(text), "{words:?}: {got}");
    }
}

#[test]
fn a_flag_value_that_is_no_level_is_refused() {
    let err = log_options(&given(&["--log-level", "loud"]))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(
        err.to_string(),
        "Failed to parse flags: invalid value for --log-level: loud"
    );
    assert!(log_options(&given(&["-log-level", "DEBUG"])).is_ok());
}

#[test]
fn protocols_in_any_case_and_app_ssl() {
    for (words, protocol) in [
        (&["--app-protocol", "HTTP"][..], AppProtocol::Http),
        (&["--app-protocol", ""], AppProtocol::Http),
        (&["--app-protocol", "gRPCs"], AppProtocol::Grpcs),
        (&["--app-ssl"], AppProtocol::Https),
        (&["--app-ssl", "--app-protocol", "grpc"], AppProtocol::Grpcs),
        (&["--app-ssl", "--app-protocol", "h2c"], AppProtocol::H2c),
    ] {
        let all: Vec<&str> = ["--app-port", "6001"]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        assert_eq!(config(&all).app.unwrap().protocol, protocol, "{words:?}");
    }
}

/// Fact: process-interface 2.1, order of precedence for body and buffer sizes.
#[test]
fn sizes_quantity_then_old_flag_then_default() {
    for (words, body) in [
        (&["--max-body-size", "16Mi"][..], Some(16 << 20)),
        (&["--max-body-size", "2Gi"], Some(2 << 30)),
        (&["--max-body-size", "-1"], Some(4 << 20)),
        (&["--max-body-size", "0"], None),
        (&["--max-body-size=-5"], None),
        (&["--dapr-http-max-request-size", "8"], Some(8 << 20)),
        (&["--dapr-http-max-request-size", "-1"], Some(4 << 20)),
        (
            &[
                "--dapr-http-max-request-size",
                "8",
                "--max-body-size",
                "1Mi",
            ],
            Some(1 << 20),
        ),
    ] {
        assert_eq!(config(words).max_body, body, "{words:?}");
    }
    assert_eq!(config(&["--max-body-size", "0"]).max_message, usize::MAX);
    assert_eq!(config(&["--read-buffer-size", "8Ki"]).read_buffer, 8192);
    assert_eq!(
        config(&["--dapr-http-read-buffer-size", "16"]).read_buffer,
        16384
    );
    assert_eq!(config(&["--read-buffer-size", "-1"]).read_buffer, 4096);
}

#[test]
fn app_health_defaults_and_path() {
    let words = [
        "--enable-app-health-check",
        "--app-health-check-path",
        "health",
        "--app-health-probe-interval",
        "0",
        "--app-health-probe-timeout",
        "-1",
        "--app-health-threshold",
        "0",
    ];
    let health = config(&words).app_health.unwrap();
    assert_eq!(&*health.path, "/health");
    assert_eq!(
        (health.interval, health.timeout),
        (Duration::from_secs(5), Duration::from_millis(500))
    );
    assert_eq!(health.threshold, 3);
}

#[test]
fn grace_and_block() {
    assert_eq!(
        config(&["--dapr-graceful-shutdown-seconds", "-1"]).grace,
        Some(Duration::from_secs(5))
    );
    assert_eq!(
        config(&["--dapr-graceful-shutdown-seconds", "7"]).grace,
        Some(Duration::from_secs(7))
    );
    let endless = with_env(
        &["--dapr-graceful-shutdown-seconds", "0"],
        &Environment::default(),
    )
    .unwrap();
    assert_eq!(endless.config.grace, None);
    assert_eq!(endless.warnings.len(), 1);
    let block = config(&["--dapr-block-shutdown-duration", "3m"]).block_shutdown;
    assert_eq!(block, Some(Duration::from_secs(180)));
}

#[test]
fn tri_state_and_lists() {
    assert_eq!(config(&["--enable-api-logging"]).api_logging, Some(true));
    assert_eq!(
        config(&["--enable-api-logging=false"]).api_logging,
        Some(false)
    );
    let files = config(&["--config", "a,b", "-config", "c", "--components-path", "d"]).files;
    assert_eq!(files.configurations, ["a", "b", "c"].map(PathBuf::from));
    assert_eq!(files.resources, [PathBuf::from("d")]);
    let files = config(&["--components-path", "d", "--resources-path", "e"]).files;
    assert_eq!(files.resources, [PathBuf::from("e")]);
    let call = config(&["--disable-init-endpoints", " Config , subscribe"]).app_config_call;
    assert_eq!(call, AppConfigCall::Skipped);
}

#[test]
fn listeners() {
    let words = [
        "--dapr-listen-addresses",
        "[::1],127.0.0.1",
        "--dapr-public-port",
        "3501",
        "--dapr-internal-grpc-port",
        "50002",
        "--dapr-internal-grpc-listen-address",
        "[::1]",
        "--enable-metrics=false",
        "--unix-domain-socket",
        "/tmp/s",
    ];
    let config = config(&words);
    assert_eq!(&*config.announced_host, "::1");
    let listen = config.listen;
    assert_eq!(listen.addresses, ["[::1]", "127.0.0.1"]);
    assert_eq!(listen.public, Some((String::new(), 3501)));
    assert_eq!((listen.internal_port, listen.metrics), (Some(50002), None));
    assert_eq!(listen.unix_socket, Some(PathBuf::from("/tmp/s")));
}

/// Fact: process-interface 2.2.
#[test]
fn the_environment_is_read_as_the_sheet_says() {
    let env = Environment::from([
        ("NAMESPACE", ""),
        ("DAPR_API_TOKEN", "t"),
        ("APP_API_TOKEN", "u"),
        ("DAPR_HOST_IP", "10.1.2.3"),
        ("DAPR_HTTP_DISABLE_H2C", "yes"),
        ("DAPR_GRPC_MAX_CONN_IDLE", "10s"),
        ("DAPR_GRPC_CONN_COLLECTOR_INTERVAL", "soon"),
    ]);
    let Startup { config, warnings } = with_env(&[], &env).unwrap();
    assert_eq!(config.namespace.as_str(), "");
    assert_eq!(
        config.api_token.map(|t| t.expose().clone()).as_deref(),
        Some("t")
    );
    assert_eq!(
        config.app_token.map(|t| t.expose().clone()).as_deref(),
        Some("u")
    );
    assert_eq!(config.host_address.to_string(), "10.1.2.3");
    assert!(!config.listen.h2c);
    assert_eq!(
        (config.peer_idle, config.peer_sweep),
        (Duration::from_secs(10), DEFAULT_PEER_SWEEP)
    );
    assert!(
        warnings
            .iter()
            .any(|w| w.contains("DAPR_GRPC_CONN_COLLECTOR_INTERVAL")),
        "{warnings:?}"
    );
    let bad = with_env(&[], &Environment::from([("DAPR_HOST_IP", "rig")]))
        .map(|_| ())
        .unwrap_err();
    assert!(bad.to_string().contains("DAPR_HOST_IP"));
}

#[test]
fn identity_needs_anchors_and_an_address() {
    let env = Environment::from([
        ("DAPR_TRUST_ANCHORS", "pem"),
        ("DAPR_CONTROLPLANE_TRUST_DOMAIN", "cp.local"),
        ("DAPR_CONTROLPLANE_NAMESPACE", "dapr-system"),
        ("SENTRY_LOCAL_IDENTITY", "ns:id"),
    ]);
    let words = ["--enable-mtls", "--sentry-address", "127.0.0.1:50003"];
    let identity = with_env(&words, &env).unwrap().config.identity.unwrap();
    assert_eq!(
        identity.sentry_id.to_string(),
        "spiffe://cp.local/ns/dapr-system/dapr-sentry"
    );
    assert_eq!(
        (identity.request_id.as_str(), identity.min_tls),
        ("ns:id", MinTls::V1_3)
    );
    let flag = [
        "--enable-mtls",
        "--sentry-address",
        "s:1",
        "--control-plane-trust-domain",
        "flag.wins",
    ];
    let identity = with_env(&flag, &env).unwrap().config.identity.unwrap();
    assert!(
        identity
            .sentry_id
            .to_string()
            .starts_with("spiffe://flag.wins/")
    );
    let err = with_env(&["--enable-mtls"], &env)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(err.contains("sentry address is required"), "{err}");
    let empty = env.with([("DAPR_SENTRY_TOKEN_FILE", String::new())]);
    let err = with_env(&words, &empty)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(err.contains("DAPR_SENTRY_TOKEN_FILE"), "{err}");
}

/// Fact: process-interface 8, first row.
#[test]
fn flags_of_other_blocks_warn_once_and_only_when_set() {
    let quiet = with_env(
        &[
            "--scheduler-job-streams",
            "3",
            "--placement-host-address",
            "",
        ],
        &Environment::default(),
    );
    assert_eq!(quiet.unwrap().warnings, Vec::<String>::new());
    let words = [
        "--placement-host-address",
        "p:1",
        "--scheduler-host-address",
        "s:1",
        "--actors-service",
        "x",
    ];
    let loud = with_env(&words, &Environment::default()).unwrap().warnings;
    assert_eq!(loud.len(), 1);
    for name in [
        "--placement-host-address",
        "--scheduler-host-address",
        "--actors-service",
    ] {
        assert!(loud.iter().any(|line| line.contains(name)), "{loud:?}");
    }
}

/// Fact: process-interface 2.1, "Flags the injector always passes".
#[test]
fn what_the_injector_passes_is_understood() {
    let words = "/daprd --dapr-http-port 3500 --dapr-grpc-port 50001 --dapr-internal-grpc-port 50002 \
        --dapr-listen-addresses [::1],127.0.0.1 --dapr-public-port 3501 --app-protocol http --log-level info \
        --dapr-graceful-shutdown-seconds -1 --mode standalone --control-plane-address o:443 --sentry-address s:443 \
        --app-port 80 --enable-metrics --metrics-port 9090 --config daprsystem --app-channel-address 127.0.0.1 \
        --placement-host-address p:50005 --sentry-request-jwt-audiences x,y --enable-api-logging=true \
        --disable-builtin-k8s-secret-store --app-binding-options-timeout 3s --log-as-json --enable-profiling \
        --app-ssl --app-max-concurrency 5 --max-body-size 8Mi --read-buffer-size 8Ki \
        --unix-domain-socket /var/run/dapr-sockets --dapr-block-shutdown-duration 5s \
        --actors-disseminate-timeout 10s --scheduler-host-address a,b --disable-init-endpoints config";
    let words: Vec<&str> = words.split_whitespace().collect();
    let config = config(&words);
    assert_eq!(config.app_max_concurrency, Some(5));
    assert_eq!(config.listen.http_port, 3500);
}

/// Facts F1, F3, F5: where access control comes from, and how urgently it is needed.
#[test]
fn access_control_comes_from_an_operator_with_mutual_tls() {
    use crate::config::Demand;
    const MTLS: [&str; 3] = ["--enable-mtls", "--sentry-address", "s:1"];
    let roots = ("DAPR_TRUST_ANCHORS", "pem");
    let start = |words: &[&str], env: &[(&str, &str)]| {
        let mut all = Environment::from([roots]);
        for (name, value) in env {
            all = all.with([(*name, (*value).to_owned())]);
        }
        let words: Vec<&str> = MTLS.iter().chain(words).copied().collect();
        with_env(&words, &all)
    };
    let operator = ["--control-plane-address", "op:443"];
    let with = |more: &[&'static str], env: &[(&str, &str)]| {
        let words: Vec<&str> = operator.iter().chain(more).copied().collect();
        start(&words, env).unwrap()
    };
    let plain = with(&[], &[]).config.stream.unwrap();
    assert_eq!(&*plain.address, "op:443");
    assert_eq!(
        plain.operator.to_string(),
        "spiffe://localhost/ns/default/dapr-operator"
    );
    assert_eq!((plain.demand, plain.max_staleness), (Demand::Auto, None));
    assert_eq!(&*plain.name, "rig");
    let required = [
        ("DAPR_ACCESS_CONTROL", "required"),
        ("POD_NAME", "po d\n-1"),
    ];
    let stream = with(&[], &required).config.stream.unwrap();
    assert_eq!((stream.demand, &*stream.name), (Demand::Required, "pod-1"));
    // A flag beats the environment.
    let stream = with(&["--access-control=auto"], &required).config.stream;
    assert_eq!(stream.unwrap().demand, Demand::Auto);
    let limited = with(&["--access-control-max-staleness=45s"], &[]);
    assert_eq!(
        limited.config.stream.unwrap().max_staleness,
        Some(Duration::from_secs(45))
    );
    assert!(limited.warnings.is_empty());
    let short = with(&["--access-control-max-staleness=2s"], &[]).warnings;
    assert!(short[0].contains("less than three heartbeats"), "{short:?}");

    assert!(start(&[], &[]).unwrap().config.stream.is_none());
    for (words, env, text) in [
        (
            &[][..],
            &[("DAPR_ACCESS_CONTROL", "required")][..],
            "access control is required",
        ),
        (
            &["--access-control=required"][..],
            &[][..],
            "access control is required",
        ),
        (
            &["--access-control=of course"][..],
            &[][..],
            "is not auto or required",
        ),
        (
            &[][..],
            &[("DAPR_ACCESS_CONTROL", "Required")][..],
            "is not auto or required",
        ),
        (
            &["--access-control-max-staleness=-1s"][..],
            &[][..],
            "-1s is negative",
        ),
    ] {
        let refused = start(words, env).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains(text), "{words:?} {env:?}: {refused}");
    }
    let without = with_env(&operator, &Environment::default()).unwrap();
    assert!(without.config.stream.is_none() && without.config.is_operator_unasked);
    assert!(without.warnings[0].contains("calls of peers are refused"));
    assert!(
        !with_env(&[], &Environment::default())
            .unwrap()
            .config
            .is_operator_unasked
    );
    assert!(!with(&[], &[]).config.is_operator_unasked);
}

mod kubernetes;
