//! Rows of resiliency-observability 2.6, as settings.

use super::*;

fn compiled(yaml: &str, vars: &[(&str, &str)]) -> (Result<Traces, TraceError>, Vec<String>) {
    let configuration = configuration(yaml);
    let lookup = |name: &str| {
        let found = vars.iter().find(|(have, _)| *have == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let env = EnvAccess {
        keys: None,
        lookup: &lookup,
    };
    let mut warnings = Vec::new();
    let traces = compile(&configuration, "a", &env, &mut warnings);
    (traces, warnings)
}

fn configuration(yaml: &str) -> Configuration {
    let text = format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\nspec: {{tracing: {yaml}}}\n"
    );
    let file = spec::ConfigFile {
        path: "c.yaml",
        bytes: text.as_bytes(),
    };
    spec::load([file], |_| None).unwrap()
}

fn otlp(yaml: &str, vars: &[(&str, &str)]) -> Option<Otlp> {
    let (traces, _) = compiled(yaml, vars);
    traces
        .unwrap()
        .export
        .and_then(|export| export.otlp.clone())
}

fn refusal(yaml: &str, vars: &[(&str, &str)]) -> String {
    compiled(yaml, vars).0.unwrap_err().to_string()
}

/// T-31, T-32, T-35, T-36, T-39.
#[test]
fn rates_and_exporters_are_read_together() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
    let zipkin = "{zipkin: {endpointAddress: 'http://z/api/v2/spans'}}";
    let table = [
        ("{}", &[][..], Sampling::PassThrough, None),
        ("{samplingRate: '0'}", &[endpoint], Sampling::Off, None),
        ("{samplingRate: '1'}", &[], Sampling::ParentBased(1.0), None),
        (
            "{samplingRate: abc}",
            &[],
            Sampling::ParentBased(1e-4),
            None,
        ),
        (
            zipkin,
            &[],
            Sampling::ParentBased(1e-4),
            Some((true, false, false)),
        ),
        (
            "{stdout: true}",
            &[],
            Sampling::ParentBased(1e-4),
            Some((false, false, true)),
        ),
        (
            "{}",
            &[endpoint],
            Sampling::ParentBased(1.0),
            Some((false, true, false)),
        ),
        (
            "{samplingRate: '0.5'}",
            &[endpoint],
            Sampling::ParentBased(0.5),
            Some((false, true, false)),
        ),
        (
            "{zipkin: {endpointAddress: ''}}",
            &[],
            Sampling::PassThrough,
            None,
        ),
        (
            "{otel: {endpointAddress: c}}",
            &[],
            Sampling::PassThrough,
            None,
        ),
        // A Configuration that names a collector is not helped by the environment.
        (
            "{otel: {endpointAddress: c}}",
            &[endpoint],
            Sampling::PassThrough,
            None,
        ),
    ];
    for (yaml, vars, sampling, exporters) in table {
        let (traces, _) = compiled(yaml, vars);
        let traces = traces.unwrap();
        assert_eq!(traces.sampling, sampling, "{yaml} {vars:?}");
        let found = traces.export.as_deref();
        let found = found.map(|e| (e.zipkin.is_some(), e.otlp.is_some(), e.stdout));
        assert_eq!(found, exporters, "{yaml} {vars:?}");
    }
}

/// T-31.
#[test]
fn a_collector_without_protocol_is_warned_of() {
    let (traces, warnings) = compiled("{otel: {endpointAddress: 'c:4317'}}", &[]);
    assert!(traces.unwrap().export.is_none());
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("set protocol to grpc or http"),
        "{warnings:?}"
    );
}

/// T-28, T-29.
#[test]
fn a_collector_of_the_configuration_is_read() {
    for (yaml, uri, wire) in [
        (
            "{otel: {endpointAddress: 'c:4317', protocol: grpc, isSecure: false}}",
            "http://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Wire::Grpc,
        ),
        (
            "{otel: {endpointAddress: 'c:4318', protocol: http, isSecure: false}}",
            "http://c:4318/v1/traces",
            Wire::Http,
        ),
        (
            "{otel: {endpointAddress: 'c:4318/base', protocol: http}}",
            "https://c:4318/base/v1/traces",
            Wire::Http,
        ),
    ] {
        let otlp = otlp(yaml, &[]).unwrap();
        assert_eq!((otlp.uri.to_string().as_str(), otlp.wire), (uri, wire));
        assert_eq!(otlp.timeout, Duration::from_secs(10));
    }
    let headers = "['a=b=c', {name: n, value: v}, {name: e, envRef: MY_TOKEN}, {name: s, secretKeyRef: {name: k}}]";
    let yaml = format!(
        "{{otel: {{endpointAddress: c, protocol: grpc, timeout: 3s, headers: {headers}}}}}"
    );
    let (traces, warnings) = compiled(&yaml, &[("MY_TOKEN", "t")]);
    let otlp = traces.unwrap().export.unwrap().otlp.clone().unwrap();
    assert_eq!(otlp.timeout, Duration::from_secs(3));
    let pairs: Vec<(&str, &[u8])> = otlp
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(
        pairs,
        [("a", &b"b=c"[..]), ("n", b"v"), ("e", b"t"), ("s", b"")]
    );
    assert!(!format!("{otlp:?}").contains("b=c"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// Resiliency-observability 2.6, the table of variables.
#[test]
fn the_environment_names_a_collector() {
    const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    let grpc = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    for (vars, uri) in [
        (
            &[(ALL, "http://c:4317")][..],
            format!("http://c:4317{grpc}"),
        ),
        (&[(ALL, "https://c:4317")], format!("https://c:4317{grpc}")),
        (&[(ALL, "c:4317")], format!("https://c:4317{grpc}")),
        (&[(ALL, "c:4317"), insecure], format!("http://c:4317{grpc}")),
        (
            &[(ALL, "c"), ("OTEL_EXPORTER_OTLP_INSECURE", "1")],
            format!("https://c{grpc}"),
        ),
        (&[(ALL, "http://c:4317/x")], format!("http://c:4317{grpc}")),
        (
            &[(ALL, "http://c:4318/"), protocol],
            "http://c:4318/v1/traces".to_owned(),
        ),
        (
            &[(ALL, "http://c:1"), (TRACES, "http://t:1"), protocol],
            "http://t:1/v1/traces".to_owned(),
        ),
        (
            &[(TRACES, "http://t:1/v1/traces"), protocol],
            "http://t:1/v1/traces".to_owned(),
        ),
        (
            &[(ALL, "http://c/base"), protocol],
            "http://c/base/v1/traces".to_owned(),
        ),
        (
            &[
                (ALL, "http://c:1"),
                protocol,
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ],
            format!("http://c:1{grpc}"),
        ),
    ] {
        assert_eq!(otlp("{}", vars).unwrap().uri.to_string(), uri, "{vars:?}");
    }
    let more = [
        (ALL, "http://c"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", " k = v%20w ,l=x%3Dy"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
    ];
    let otlp = otlp("{}", &more).unwrap();
    assert_eq!(otlp.timeout, Duration::from_millis(250));
    let values: Vec<&[u8]> = otlp.headers.iter().map(|(_, v)| v.as_bytes()).collect();
    assert_eq!(values, [&b"v w"[..], b"x=y"]);
}

/// T-34.
#[test]
fn the_configuration_wins_over_the_environment() {
    let vars = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "from=env"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nonsense"),
    ];
    let otlp = otlp(
        "{otel: {endpointAddress: 'file:1', protocol: http, headers: ['from=file']}}",
        &vars,
    );
    let otlp = otlp.unwrap();
    assert_eq!(otlp.uri.host(), Some("file"));
    assert_eq!(otlp.headers[0].1.as_bytes(), b"file");
}

/// T-33.
#[test]
fn the_resource_is_the_app_and_what_the_environment_adds() {
    let resource = |vars: &[(&str, &str)]| {
        let (traces, _) = compiled("{stdout: true}", vars);
        traces.unwrap().export.unwrap().resource.clone()
    };
    assert_eq!(
        resource(&[]),
        Resource {
            service: "a".into(),
            attributes: vec![]
        }
    );
    let found = resource(&[
        ("OTEL_SERVICE_NAME", "shop"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "k=v, l = a%20b ,service.name=x,broken",
        ),
    ]);
    let attributes = vec![("k".into(), "v".into()), ("l".into(), "a b".into())];
    assert_eq!(
        found,
        Resource {
            service: "shop".into(),
            attributes
        }
    );
}

/// Texts say where, and what to write instead; values of headers stay unsaid.
#[test]
fn what_cannot_be_used_is_refused() {
    const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let headers = |list| [(ALL, "http://c"), ("OTEL_EXPORTER_OTLP_HEADERS", list)];
    for (yaml, vars, part) in [
        (
            "{zipkin: {endpointAddress: 'localhost:9411'}}",
            vec![],
            "spec.tracing.zipkin.endpointAddress",
        ),
        (
            "{zipkin: {endpointAddress: '/api'}}",
            vec![],
            "such as http://localhost:9411/api/v2/spans",
        ),
        (
            "{otel: {endpointAddress: 'http://c', protocol: grpc}}",
            vec![],
            "write host:port",
        ),
        (
            "{otel: {endpointAddress: 'c d', protocol: grpc}}",
            vec![],
            "spec.tracing.otel.endpointAddress",
        ),
        (
            "{otel: {endpointAddress: c, protocol: grpc, headers: [x]}}",
            vec![],
            "write name=value",
        ),
        (
            "{otel: {endpointAddress: c, protocol: grpc, headers: ['a b=x']}}",
            vec![],
            "\"a b\"",
        ),
        (
            "{otel: {endpointAddress: c, protocol: grpc, timeout: soon}}",
            vec![],
            "such as 10s",
        ),
        (
            "{otel: {endpointAddress: c, protocol: grpc, timeout: 0s}}",
            vec![],
            "spec.tracing.otel.timeout",
        ),
        (
            "{}",
            vec![(ALL, "http://c"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "5s")],
            "such as 10000",
        ),
        (
            "{otel: {endpointAddress: c, protocol: grpc, headers: ['Authorization: Bearer secret']}}",
            vec![],
            "entry 1",
        ),
        ("{}", headers("k=v,secret").to_vec(), "entry 2"),
        ("{}", headers("k").to_vec(), "OTEL_EXPORTER_OTLP_HEADERS"),
        ("{}", headers("k=secret%zz").to_vec(), "\"k\""),
        ("{}", vec![(ALL, "http://")], "OTEL_EXPORTER_OTLP_ENDPOINT"),
    ] {
        let text = refusal(yaml, &vars);
        assert!(text.contains(part), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(endpoint in "\\PC{0,40}", list in "\\PC{0,40}", limit in "\\PC{0,8}") {
        let vars = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", &*list),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", &*limit),
            ("OTEL_RESOURCE_ATTRIBUTES", &*list),
        ];
        let _read = compiled("{}", &vars);
    }
}
