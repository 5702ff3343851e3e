//! Words for sidecar and app, row by row.

use super::*;

const PORTS: ChosenPorts = ChosenPorts {
    http: 20_001,
    grpc: 20_002,
    internal: 20_003,
    metrics: 20_004,
    profile: None,
};

fn spec() -> AppSpec {
    AppSpec {
        app_id: "nodeapp".to_owned(),
        ..AppSpec::default()
    }
}

fn line(spec: &AppSpec, mutual_tls: &MutualTls, log: LogForm) -> String {
    let words = arguments(spec, PORTS, mutual_tls, log).unwrap();
    words.join(" ".as_ref()).into_string().unwrap()
}

/// Fact: cli-and-clients 1.5, CL-12, but for services that nobody asked for: the sidecar would warn of them.
#[test]
fn a_plain_run_gives_the_references_vector() {
    assert_eq!(
        line(&spec(), &MutualTls::Off, LogForm::Text),
        "--app-protocol http --log-level info --app-max-concurrency -1 --max-body-size 4194304 \
         --read-buffer-size 4096 --app-id nodeapp \
         --app-port 0 --dapr-http-port 20001 --dapr-grpc-port 20002 --profile-port -1 --metrics-port 20004 \
         --dapr-internal-grpc-port 20003"
    );
}

/// Fact: cli-and-clients 1.5, CL-12.
#[test]
fn every_setting_has_its_place() {
    let full = AppSpec {
        config: Some("/c.yaml".into()),
        listen_addresses: "127.0.0.1".to_owned(),
        enable_profiling: true,
        app_max_concurrency: 3,
        placement_host_address: "placed".to_owned(),
        resources: vec!["/r1".into(), "/r2".into()],
        app_ssl: true,
        health: super::super::spec::Health {
            enabled: true,
            path: "/h".to_owned(),
            interval: 1,
            timeout: 2,
            threshold: 4,
        },
        api_logging: Some(true),
        scheduler_host_address: "sched:1".to_owned(),
        app_channel_address: "10.0.0.1".to_owned(),
        app_port: 3000,
        unix_domain_socket: Some("/tmp/s".into()),
        ..spec()
    };
    assert_eq!(
        line(
            &full,
            &MutualTls::From("localhost:50001".to_owned()),
            LogForm::Json
        ),
        "--config /c.yaml --app-protocol http --dapr-listen-addresses 127.0.0.1 --enable-profiling --log-level info \
         --app-max-concurrency 3 --placement-host-address placed:50005 --resources-path /r1 --resources-path /r2 --app-ssl --max-body-size 4194304 \
         --read-buffer-size 4096 --enable-app-health-check --app-health-check-path /h --app-health-probe-interval 1 \
         --app-health-probe-timeout 2 --app-health-threshold 4 --enable-api-logging --scheduler-host-address sched:1 \
         --app-id nodeapp --app-channel-address 10.0.0.1 --app-port 3000 --dapr-http-port 20001 --dapr-grpc-port 20002 \
         --profile-port -1 --metrics-port 20004 --unix-domain-socket /tmp/s --dapr-internal-grpc-port 20003 \
         --enable-mtls --sentry-address localhost:50001 --log-as-json"
    );
}

fn variables(spec: &AppSpec, parent: &Environment) -> BTreeMap<String, String> {
    let all = environment(spec, PORTS, parent);
    let count = all.len();
    let map: BTreeMap<String, String> = all
        .into_iter()
        .map(|(name, value)| (name.into_string().unwrap(), value.into_string().unwrap()))
        .collect();
    assert_eq!(map.len(), count, "a variable twice");
    map
}

/// Fact: CL-22, CL-23.
#[test]
fn the_app_sees_the_new_values_once() {
    let parent = Environment::from([("DAPR_HTTP_PORT", "1"), ("APP_ID", "x"), ("KEPT", "yes")]);
    let seen = variables(&spec(), &parent);
    for (name, expected) in [
        ("APP_ID", "nodeapp"),
        ("APP_PROTOCOL", "http"),
        ("APP_CHANNEL_ADDRESS", "127.0.0.1"),
        ("DAPR_HTTP_PORT", "20001"),
        ("DAPR_GRPC_PORT", "20002"),
        ("DAPR_METRICS_PORT", "20004"),
        ("KEPT", "yes"),
    ] {
        assert_eq!(seen.get(name).map(String::as_str), Some(expected), "{name}");
    }
    assert!(!seen.contains_key("APP_PORT"));
    assert!(!seen.contains_key("DAPR_GRPC_ENDPOINT"));
}

#[test]
fn template_variables_beat_all_others() {
    let own = AppSpec {
        environment: vec![("APP_ID".to_owned(), "mine".to_owned())],
        app_port: 80,
        unix_domain_socket: Some("/tmp/s".into()),
        ..spec()
    };
    let seen = variables(&own, &Environment::default());
    assert_eq!(seen["APP_ID"], "mine");
    assert_eq!(seen["APP_PORT"], "80");
    assert_eq!(
        seen["DAPR_GRPC_ENDPOINT"],
        "unix:///tmp/s/dapr-nodeapp-grpc.socket"
    );
}

/// Fact: CL-24.
#[test]
fn the_protocol_is_lower_case_and_knows_tls() {
    for (given, ssl, expected) in [
        ("HTTP", false, Some("http")),
        ("http", true, Some("https")),
        ("grpc", true, Some("grpcs")),
        ("GRPCS", false, Some("grpcs")),
        ("h2c", false, Some("h2c")),
        ("ftp", false, None),
    ] {
        let spec = AppSpec {
            app_protocol: given.to_owned(),
            app_ssl: ssl,
            ..spec()
        };
        let seen = variables(&spec, &Environment::default());
        assert_eq!(
            seen.get("APP_PROTOCOL").map(String::as_str),
            expected,
            "{given}"
        );
    }
}

#[test]
fn addresses_without_a_port_get_one() {
    for (given, expected) in [
        ("localhost", "localhost:5"),
        ("h:1", "h:1"),
        ("", ""),
        ("::1", "::1:5"),
        ("[::1]:7", "[::1]:7"),
        ("[::1]", "[::1]:5"),
    ] {
        assert_eq!(with_port(given, 5), expected);
    }
}
