//! Every row of process-interface 6.1.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn try_load(files: &[&str]) -> Result<Configuration, ConfigError> {
    let files = files.iter().map(|text| ConfigFile {
        path: "config.yaml",
        bytes: text.as_bytes(),
    });
    load(files, |name| (name == "APP_ID").then(|| "web".to_owned()))
}

#[track_caller]
fn loaded(files: &[&str]) -> Configuration {
    try_load(files).unwrap()
}

fn spec(section: &str) -> Configuration {
    let indented: Vec<String> = section.lines().map(|line| format!("  {line}")).collect();
    loaded(&[&format!("spec:\n{}\n", indented.join("\n"))])
}

#[test]
fn every_section_is_read() {
    let config = loaded(&["\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata: {name: daprsystem}
spec:
  httpPipeline:
    handlers:
    - name: up
      type: middleware.http.uppercase
      selector: {fields: [{field: f, value: v}]}
  appHttpPipeline:
    handlers:
    - {name: b, type: middleware.http.bearer, version: v2}
  tracing:
    samplingRate: \"0.5\"
    stdout: true
    zipkin: {endpointAddress: 'http://z/api'}
    otel: {protocol: grpc, endpointAddress: 'o:4317', isSecure: false, headers: [a=b], timeout: 10s}
  metrics:
    enabled: false
    recordErrorCodes: true
    http: {increasedCardinality: false, pathMatching: [/a], excludeVerbs: true}
    latencyDistributionBuckets: [1, 2]
    rules:
    - name: m
      labels:
      - {name: l, regex: {to: from}}
    workflow: {anything: [1]}
  mtls:
    enabled: true
    workloadCertTTL: 1h
    allowedClockSkew: 1m
    sentryAddress: s:443
    controlPlaneTrustDomain: cluster.local
    tokenValidators: [{name: jwks, options: {source: x}}]
  accessControl:
    defaultAction: deny
    trustDomain: td
    policies:
    - appId: app
      defaultAction: allow
      trustDomain: public
      namespace: default
      operations:
      - {name: /a/*, httpVerb: [GET, POST], action: deny}
  nameResolution: {component: sqlite, version: v1, configuration: {connectionString: names.db, n: 5}}
  features: [{name: HotReload, enabled: false}, {name: X, enabled: true}]
  api:
    allowed: [{name: invoke, version: v1, protocol: http}]
    denied: [{name: metadata, version: v1.0}]
  logging: {apiLogging: {enabled: true, obfuscateURLs: true, omitHealthChecks: true}}
  components: {deny: [state.redis/v1]}
  secrets: {scopes: [{storeName: s, defaultAccess: deny, allowedSecrets: [a], deniedSecrets: [b]}]}
  wasm: {strictSandbox: true}
  workflow: {maxConcurrentWorkflowInvocations: 5}
  unknown: 5
"]);
    assert_eq!(config.http_pipeline()[0].version(), "v1");
    assert_eq!(
        config.http_pipeline()[0].selector.as_ref().unwrap().fields[0].value,
        "v"
    );
    assert_eq!(config.app_http_pipeline()[0].version(), "v2");
    let tracing = config.spec.tracing.as_ref().unwrap();
    assert_eq!(tracing.sampling_rate.as_deref(), Some("0.5"));
    assert_eq!(tracing.stdout, Some(true));
    let otel = tracing.otel.as_ref().unwrap();
    assert!(!otel.is_secure());
    assert_eq!(otel.headers, Some(vec![OtelHeader::Text("a=b".into())]));
    let metric = config.metric();
    assert_eq!(metric.enabled, Some(false));
    assert_eq!(metric.rules.unwrap()[0].labels[0].regex["to"], "from");
    let mtls = config.spec.mtls.as_ref().unwrap();
    assert_eq!(mtls.workload_cert_ttl.as_deref(), Some("1h"));
    assert_eq!(
        mtls.token_validators.as_ref().unwrap()[0].options["source"],
        "x"
    );
    let access = config.access_control();
    assert_eq!(access.default_action.as_deref(), Some("deny"));
    let policies = access.policies.unwrap();
    assert_eq!(policies[0].operations[0].http_verb, ["GET", "POST"]);
    let resolution = config.spec.name_resolution.as_ref().unwrap();
    assert_eq!(
        resolution.configuration,
        Some(json!({"connectionString": "names.db", "n": 5}))
    );
    assert_eq!(
        config.enabled_features(),
        ["X", "WorkflowsRemoteActivityReminder"]
    );
    let api = config.spec.api.as_ref().unwrap();
    assert_eq!(api.allowed.as_ref().unwrap()[0].protocol, "http");
    assert_eq!(config.api_logging().obfuscate_urls, Some(true));
    assert_eq!(config.denied_components(), ["state.redis/v1"]);
    assert_eq!(config.problems(), []);
}

#[test]
fn without_files_the_defaults_hold() {
    let config = loaded(&[]);
    assert_eq!(config, Configuration::default());
    assert_eq!(config.metric().enabled, Some(true));
    assert_eq!(
        serde_json::to_string(&config.metric()).unwrap(),
        "{\"enabled\":true}"
    );
    let access = config.access_control();
    assert_eq!(access.default_action.as_deref(), Some("allow"));
    assert_eq!(access.trust_domain.as_deref(), Some("public"));
    assert_eq!(access.policies, None);
    assert_eq!(config.enabled_features(), DEFAULT_FEATURES);
    assert!(config.is_feature_enabled(HOT_RELOAD));
    assert!(Otel::default().is_secure());
    assert_eq!(config.api_logging(), ApiLogging::default());
    assert!(config.http_pipeline().is_empty() && config.denied_components().is_empty());
}

#[test]
fn empty_files_are_valid() {
    for text in [
        "",
        "\n",
        "# words\n",
        "---\n",
        "spec:\n",
        "kind: Whatever\n",
        "metadata: 5\n",
    ] {
        assert_eq!(loaded(&[text]), Configuration::default(), "{text:?}");
    }
}

#[test]
fn only_the_first_document_counts() {
    let text = "# head\n---\nspec: {features: [{name: A, enabled: true}]}\n---\nspec: {features: []}\n---\n[\n";
    assert!(loaded(&[text]).is_feature_enabled("A"));
}

#[test]
fn variables_are_replaced_in_the_whole_text() {
    let config = loaded(&["spec:\n  mtls: {sentryAddress: '${APP_ID}:$UNSET'}\n  $APP_ID: x\n"]);
    assert_eq!(
        config.spec.mtls.unwrap().sentry_address.as_deref(),
        Some("web:")
    );
}

#[test]
fn unquoted_scalars_stand_for_text() {
    for (yaml, want) in [
        ("1", "1"),
        ("0.50", "0.50"),
        ("'1'", "1"),
        ("1e-3", "1e-3"),
        ("", ""),
        ("''", ""),
    ] {
        let config = spec(&format!("tracing: {{samplingRate: {yaml}}}"));
        let rate = config.spec.tracing.unwrap().sampling_rate;
        assert_eq!(rate.unwrap_or_default(), want, "{yaml}");
    }
    let config = spec("accessControl: {policies: [{appId: 007, namespace: no}]}");
    let policy = &config.access_control().policies.unwrap()[0];
    assert_eq!(
        (policy.app_id.as_str(), policy.namespace.as_str()),
        ("007", "no")
    );
}

#[test]
fn later_files_win_key_by_key_and_lists_are_replaced() {
    let first = "spec:\n  tracing: {samplingRate: '1', zipkin: {endpointAddress: z}}\n  \
                 httpPipeline: {handlers: [{name: a}, {name: b}]}\n  \
                 metric: {enabled: false, http: {excludeVerbs: true}}\n  \
                 accessControl: {trustDomain: td, policies: [{appId: a}]}\n  \
                 nameResolution: {component: sqlite, configuration: {a: 1}}\n";
    let second = "spec:\n  tracing: {samplingRate: 0, otel: {protocol: http}}\n  \
                  httpPipeline: {handlers: [{name: c}]}\n  \
                  metric: {http: {increasedCardinality: false}}\n  \
                  accessControl: {defaultAction: deny}\n  \
                  nameResolution: {configuration: {b: 2}}\n";
    let third = "spec:\n  tracing:\n  httpPipeline:\n  accessControl: {policies: []}\n";
    let config = loaded(&[first, second, third]);
    let tracing = config.spec.tracing.as_ref().unwrap();
    assert_eq!(tracing.sampling_rate.as_deref(), Some("0"));
    assert_eq!(
        tracing.zipkin.as_ref().unwrap().endpoint_address.as_deref(),
        Some("z")
    );
    assert_eq!(
        tracing.otel.as_ref().unwrap().protocol.as_deref(),
        Some("http")
    );
    let names: Vec<&str> = config
        .http_pipeline()
        .iter()
        .map(|handler| handler.name.as_str())
        .collect();
    assert_eq!(names, ["c"]);
    let metric = config.metric();
    assert_eq!(metric.enabled, Some(false));
    let http = metric.http.unwrap();
    assert_eq!(
        (http.exclude_verbs, http.increased_cardinality),
        (Some(true), Some(false))
    );
    let access = config.access_control();
    assert_eq!(access.trust_domain.as_deref(), Some("td"));
    assert_eq!(access.default_action.as_deref(), Some("deny"));
    assert_eq!(access.policies, Some(vec![]));
    let resolution = config.spec.name_resolution.unwrap();
    assert_eq!(resolution.component.as_deref(), Some("sqlite"));
    assert_eq!(resolution.configuration, Some(json!({"b": 2})));
}

/// Fact: security 3.2: an empty action is not an absent one.
#[test]
fn an_empty_default_action_is_kept() {
    let config = spec("accessControl: {defaultAction: ''}");
    assert_eq!(config.access_control().default_action.as_deref(), Some(""));
    let config = spec("accessControl: {trustDomain: td}");
    assert_eq!(
        config.access_control().default_action.as_deref(),
        Some("allow")
    );
}

#[test]
fn metrics_overrides_metric_one_by_one() {
    let config = spec(
        "metric: {enabled: false, recordErrorCodes: true, http: {excludeVerbs: true}, latencyDistributionBuckets: [1]}\n\
         metrics: {http: {increasedCardinality: true}, latencyDistributionBuckets: []}",
    );
    let metric = config.metric();
    assert_eq!(metric.enabled, Some(false));
    assert_eq!(metric.record_error_codes, Some(true));
    let http = metric.http.unwrap();
    assert_eq!(
        (http.exclude_verbs, http.increased_cardinality),
        (None, Some(true))
    );
    assert_eq!(metric.latency_distribution_buckets, None);
}

#[test]
fn features_named_by_a_file_replace_their_default() {
    let config = spec("features: [{name: HotReload, enabled: false}]");
    assert!(!config.is_feature_enabled(HOT_RELOAD));
    assert_eq!(
        config.enabled_features(),
        ["WorkflowsRemoteActivityReminder"]
    );
    let config = spec("features: [{name: HotReload, enabled: true}, {name: Y}]");
    assert_eq!(
        config.enabled_features(),
        ["HotReload", "WorkflowsRemoteActivityReminder"]
    );
}

#[test]
fn otel_headers_come_in_two_spellings() {
    let config = spec(
        "tracing: {otel: {headers: ['a=b=c', {name: n, value: v}, {name: s, secretKeyRef: {name: k}}]}}",
    );
    let headers = config.spec.tracing.unwrap().otel.unwrap().headers.unwrap();
    assert_eq!(headers[0], OtelHeader::Text("a=b=c".into()));
    let OtelHeader::Named(named) = &headers[1] else {
        panic!("{headers:?}")
    };
    assert_eq!((named.name.as_str(), named.text()), ("n", "v".to_owned()));
    let OtelHeader::Named(named) = &headers[2] else {
        panic!("{headers:?}")
    };
    assert_eq!(named.secret_key_ref.as_ref().unwrap().key(), "k");
}

#[test]
fn unusable_values_are_all_reported() {
    let config = spec(
        "tracing: {otel: {protocol: udp, endpointAddress: x}}\n\
         secrets: {scopes: [{storeName: s, defaultAccess: maybe}, {storeName: s, defaultAccess: ALLOW}]}",
    );
    let texts: Vec<String> = config.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "invalid protocol udp provided for Otel endpoint",
            "defaultAccess maybe can be either allow or deny",
            "s storeName is repeated in secrets configuration",
        ]
    );
    // An address without protocol, or the other way round, is no exporter.
    assert_eq!(spec("tracing: {otel: {protocol: udp}}").problems(), []);
    assert_eq!(spec("tracing: {otel: {endpointAddress: x}}").problems(), []);
}

#[test]
fn wrong_shapes_name_the_file() {
    for text in [
        "spec: [",
        "spec: 5",
        "spec: {features: 5}",
        "spec: {metric: {enabled: perhaps}}",
        "spec: {metric: {latencyDistributionBuckets: [a]}}",
        "- a",
    ] {
        let error = try_load(&["", text]).unwrap_err().to_string();
        assert!(
            error.starts_with("error parsing config.yaml: "),
            "{text}: {error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
    let file = ConfigFile {
        path: "x",
        bytes: b"\xff",
    };
    assert_eq!(
        load([file], |_| None),
        Err(ConfigError::NotText("x".into()))
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_configuration_or_an_error(bytes: Vec<u8>) {
        let _no_panic = load([ConfigFile { path: "x", bytes: &bytes }], |_| None);
    }

    #[test]
    fn loading_a_file_twice_changes_nothing(rate in "[0-9]{1,3}", names in prop::collection::vec("[a-z]{1,4}", 0..4)) {
        let handlers: Vec<String> = names.iter().map(|name| format!("{{name: {name}}}")).collect();
        let text = format!("spec:\n  tracing: {{samplingRate: {rate}}}\n  httpPipeline: {{handlers: [{}]}}\n", handlers.join(", "));
        prop_assert_eq!(loaded(&[&text, &text]), loaded(&[&text]));
    }
}

/// Fact: resiliency-observability 6.2, rows "Concurrency limits", "Rate limiting" and "Deadline propagation".
#[test]
fn bounds_on_what_the_app_takes_in_have_defaults() {
    let limits = Configuration::default().inbound();
    assert_eq!(
        (limits.rate_limit, limits.queue_size, limits.max_wait),
        (None, 10_000, None)
    );
    assert!(!limits.deadline_header);
    let first = "spec: {inbound: {queue: {size: 5, maxWait: 2s}, rateLimit: {burst: 7}, deadlineHeader: true}}";
    let second = "spec: {inbound: {queue: {size: 0}, rateLimit: {requestsPerSecond: 2.5}}}";
    let config = loaded(&[first, second]);
    assert_eq!(config.problems(), []);
    let limits = config.inbound();
    let rate = limits.rate_limit.unwrap();
    assert_eq!((rate.requests_per_second, rate.burst.get()), (2.5, 7));
    assert_eq!(limits.queue_size, 0);
    assert!(limits.deadline_header);
    assert_eq!(limits.max_wait, Some(std::time::Duration::from_secs(2)));
    let rate = loaded(&[second]).inbound().rate_limit.unwrap();
    assert_eq!(rate.burst.get(), 3);
}

#[test]
fn bounds_that_cannot_be_are_problems() {
    let table = [
        (
            "{queue: {size: -1}}",
            "queue.size: must be between 0 and 1000000",
        ),
        (
            "{queue: {maxWait: soon}}",
            "queue.maxWait: time: invalid duration \"soon\": write 500ms, 5s or 1m30s",
        ),
        (
            "{queue: {maxWait: 0s}}",
            "queue.maxWait: must be between 1ms and 24h0m0s",
        ),
        (
            "{queue: {maxWait: -1s}}",
            "queue.maxWait: must be between 1ms and 24h0m0s",
        ),
        ("{rateLimit: {}}", "rateLimit.requestsPerSecond: is missing"),
        (
            "{rateLimit: {requestsPerSecond: 0}}",
            "rateLimit.requestsPerSecond: must be between 0.001 and 1000000",
        ),
        (
            "{rateLimit: {requestsPerSecond: 1, burst: 0}}",
            "rateLimit.burst: must be between 1 and 1000000",
        ),
    ];
    for (section, want) in table {
        let problems = spec(&format!("inbound: {section}")).problems();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts, [format!("spec.inbound.{want}")]);
    }
    let both = spec("inbound: {queue: {size: -1, maxWait: x}, rateLimit: {burst: -1}}").problems();
    assert_eq!(both.len(), 4);
}
