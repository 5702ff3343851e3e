//! The exposition against golden 26, 27 and 28, and the bounds of labels.

use std::collections::BTreeSet;

use super::*;

const LATENCY: Duration = Duration::from_micros(1_900);

fn metrics(settings: Settings) -> Metrics {
    Metrics::new("appa", settings)
}

/// The sample lines, without comments, buckets and order.
fn samples(text: &str) -> BTreeSet<&str> {
    let sample = |line: &&str| !line.starts_with('#') && !line.contains("_bucket{");
    text.lines().filter(sample).collect()
}

#[track_caller]
fn check(metrics: &Metrics, want: &[&str]) {
    let text = metrics.exposition();
    assert_eq!(
        samples(&text),
        want.iter().copied().collect::<BTreeSet<_>>()
    );
    assert!(text.ends_with("# EOF\n"));
}

fn served(path: &str, status: u16) -> HttpServed<'_> {
    HttpServed {
        verb: "GET",
        path,
        status,
        latency: LATENCY,
        request_bytes: None,
        response_bytes: 7,
    }
}

#[test]
fn nothing_is_exposed_before_it_happened() {
    check(&metrics(Settings::default()), &[]);
    let disabled = Metrics::disabled();
    disabled.http_served(&served("/a", 200));
    disabled
        .acl_caller("a", "b", "c")
        .decided(AclScope::App, AclOutcome::Allowed);
    assert!(!disabled.is_enabled());
    check(&disabled, &[]);
}

/// Facts: golden 26, resiliency-observability M-09.
#[test]
fn the_http_server_is_measured() {
    let metrics = metrics(Settings {
        record_error_codes: true,
        ..Settings::default()
    });
    metrics.http_served(&served("/v1.0/invoke/appb/method/hi", 200));
    metrics.http_served(&served("/v1.0/invoke/appb/method/hi", 200));
    metrics.http_served(&HttpServed {
        verb: "FOO",
        request_bytes: Some(5),
        ..served("/unknown", 404)
    });
    metrics.error_answered("service-invocation", "ERR_DIRECT_INVOKE");
    let hi = r#"app_id="appa",method="GET",path="/v1.0/invoke/appb/method/hi",status="200""#;
    let unknown = r#"app_id="appa",method="UNKNOWN",path="/unknown",status="404""#;
    let lines = [
        format!("dapr_http_server_request_count{{{hi}}} 2"),
        format!("dapr_http_server_response_count{{{hi}}} 2"),
        format!("dapr_http_server_latency_sum{{{hi}}} 2.0"),
        format!("dapr_http_server_latency_count{{{hi}}} 2"),
        format!("dapr_http_server_request_count{{{unknown}}} 1"),
        format!("dapr_http_server_response_count{{{unknown}}} 1"),
        format!("dapr_http_server_latency_sum{{{unknown}}} 1.0"),
        format!("dapr_http_server_latency_count{{{unknown}}} 1"),
        r#"dapr_http_server_request_bytes_sum{app_id="appa"} 5.0"#.into(),
        r#"dapr_http_server_request_bytes_count{app_id="appa"} 3"#.into(),
        r#"dapr_http_server_response_bytes_sum{app_id="appa"} 21.0"#.into(),
        r#"dapr_http_server_response_bytes_count{app_id="appa"} 3"#.into(),
        r#"dapr_error_code_total{app_id="appa",category="service-invocation",error_code="ERR_DIRECT_INVOKE"} 1"#.into(),
    ];
    check(&metrics, &lines.each_ref().map(String::as_str));
    let text = metrics.exposition();
    for line in [
        "# HELP dapr_http_server_request_count Count of HTTP requests processed by the server.",
        "# TYPE dapr_http_server_request_count counter",
        "# TYPE dapr_http_server_latency histogram",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}");
    }
}

/// Facts: resiliency-observability M-10, M-15.
#[test]
fn low_cardinality_leaves_path_and_verb_out() {
    let metrics = metrics(Settings {
        increased_cardinality: false,
        exclude_verbs: true,
        ..Settings::default()
    });
    metrics.http_served(&served("/v1.0/invoke/appb/method/hi", 200));
    metrics.http_called(&HttpCalled {
        verb: "GET",
        path: "/dapr/config",
        status: 404,
        latency: LATENCY,
        sent_bytes: 0,
        received_bytes: None,
    });
    let text = metrics.exposition();
    assert!(
        text.contains(
            r#"dapr_http_server_request_count{app_id="appa",method="",path="",status="200"} 1"#
        ),
        "{text}"
    );
    assert!(!text.contains("response_count"));
    assert!(text.contains(r#"dapr_http_client_completed_count{app_id="appa",method="",path="/dapr/config",status="404"} 1"#));
}

/// Facts: golden 26, 27.
#[test]
fn calls_to_the_app_are_measured() {
    let metrics = metrics(Settings::default());
    metrics.http_called(&HttpCalled {
        verb: "POST",
        path: "/nf",
        status: 404,
        latency: LATENCY,
        sent_bytes: 3,
        received_bytes: None,
    });
    metrics.http_probed(500, LATENCY);
    let labels = r#"app_id="appa",method="POST",path="/nf""#;
    let lines = [
        format!("dapr_http_client_completed_count{{{labels},status=\"404\"}} 1"),
        format!("dapr_http_client_roundtrip_latency_sum{{{labels},status=\"404\"}} 1.0"),
        format!("dapr_http_client_roundtrip_latency_count{{{labels},status=\"404\"}} 1"),
        format!("dapr_http_client_sent_bytes_sum{{{labels},status=\"\"}} 3.0"),
        format!("dapr_http_client_sent_bytes_count{{{labels},status=\"\"}} 1"),
        r#"dapr_http_client_received_bytes_sum{app_id="appa"} -1.0"#.into(),
        r#"dapr_http_client_received_bytes_count{app_id="appa"} 1"#.into(),
        r#"dapr_http_healthprobes_completed_count{app_id="appa",status="500"} 1"#.into(),
        r#"dapr_http_healthprobes_roundtrip_latency_sum{app_id="appa",status="500"} 1.0"#.into(),
        r#"dapr_http_healthprobes_roundtrip_latency_count{app_id="appa",status="500"} 1"#.into(),
    ];
    check(&metrics, &lines.each_ref().map(String::as_str));
}

/// Facts: golden 26, 28, resiliency-observability M-22.
#[test]
fn rpcs_are_measured_on_both_sides() {
    let metrics = metrics(Settings::default());
    let unary = Rpc {
        method: "/dapr.proto.runtime.v1.Dapr/InvokeService",
        code: 5,
        latency: LATENCY,
        received_bytes: Some(16),
        sent_bytes: Some(9),
    };
    metrics.rpc_served(&unary);
    metrics.rpc_called(&Rpc {
        method: "/greet.G/Hi",
        code: 0,
        received_bytes: None,
        sent_bytes: None,
        ..unary
    });
    metrics.grpc_probed(14, LATENCY);
    let server = r#"app_id="appa",grpc_server_method="/dapr.proto.runtime.v1.Dapr/InvokeService""#;
    let client = r#"app_id="appa",grpc_client_method="/greet.G/Hi",grpc_client_status="OK""#;
    let probe = r#"app_id="appa",grpc_client_status="Unavailable""#;
    let lines = [
        format!("dapr_grpc_io_server_completed_rpcs{{{server},grpc_server_status=\"NotFound\"}} 1"),
        format!(
            "dapr_grpc_io_server_server_latency_sum{{{server},grpc_server_status=\"NotFound\"}} 1.0"
        ),
        format!(
            "dapr_grpc_io_server_server_latency_count{{{server},grpc_server_status=\"NotFound\"}} 1"
        ),
        format!("dapr_grpc_io_server_received_bytes_per_rpc_sum{{{server}}} 16.0"),
        format!("dapr_grpc_io_server_received_bytes_per_rpc_count{{{server}}} 1"),
        format!("dapr_grpc_io_server_sent_bytes_per_rpc_sum{{{server}}} 9.0"),
        format!("dapr_grpc_io_server_sent_bytes_per_rpc_count{{{server}}} 1"),
        format!("dapr_grpc_io_client_completed_rpcs{{{client}}} 1"),
        format!("dapr_grpc_io_client_roundtrip_latency_sum{{{client}}} 1.0"),
        format!("dapr_grpc_io_client_roundtrip_latency_count{{{client}}} 1"),
        format!("dapr_grpc_io_healthprobes_completed_count{{{probe}}} 1"),
        format!("dapr_grpc_io_healthprobes_roundtrip_latency_sum{{{probe}}} 1.0"),
        format!("dapr_grpc_io_healthprobes_roundtrip_latency_count{{{probe}}} 1"),
    ];
    check(&metrics, &lines.each_ref().map(String::as_str));
}

/// Facts: golden 26, 27, resiliency-observability M-05 to M-08.
#[test]
fn invocations_are_counted_on_both_sides() {
    let metrics = metrics(Settings::default());
    metrics.invocation_sent("appb", CallKind::Unary);
    metrics.invocation_sent("appg", CallKind::Streaming);
    metrics.invocation_answered("appb", 200, CallKind::Unary, Some(LATENCY));
    metrics.invocation_answered("appg", 5, CallKind::Streaming, None);
    metrics.invocation_received("appc");
    metrics.invocation_replied("appc", 13);
    check(
        &metrics,
        &[
            r#"dapr_runtime_service_invocation_req_sent_total{app_id="appa",dst_app_id="appb",type="unary"} 1"#,
            r#"dapr_runtime_service_invocation_req_sent_total{app_id="appa",dst_app_id="appg",type="streaming"} 1"#,
            r#"dapr_runtime_service_invocation_res_recv_total{app_id="appa",src_app_id="appb",status="200",type="unary"} 1"#,
            r#"dapr_runtime_service_invocation_res_recv_total{app_id="appa",src_app_id="appg",status="5",type="streaming"} 1"#,
            r#"dapr_runtime_service_invocation_res_recv_latency_ms_sum{app_id="appa",src_app_id="appb",status="200"} 1.9"#,
            r#"dapr_runtime_service_invocation_res_recv_latency_ms_count{app_id="appa",src_app_id="appb",status="200"} 1"#,
            r#"dapr_runtime_service_invocation_req_recv_total{app_id="appa",src_app_id="appc"} 1"#,
            r#"dapr_runtime_service_invocation_res_sent_total{app_id="appa",dst_app_id="appc",status="13"} 1"#,
        ],
    );
}

/// Facts: golden 27 (the first row), resiliency-observability 3.4.
#[test]
fn security_and_components_are_counted() {
    let metrics = metrics(Settings::default());
    metrics
        .acl_caller("", "", "")
        .decided(AclScope::Global, AclOutcome::Allowed);
    let caller = metrics.acl_caller("web", "public", "prod");
    caller.decided(AclScope::App, AclOutcome::Blocked);
    metrics
        .acl_caller("web", "public", "prod")
        .decided(AclScope::App, AclOutcome::Blocked);
    metrics.mtls_initialised();
    metrics.mtls_initialisation_failed(RotationFailure::SentryToken);
    metrics.certificates_expire(1_800_000_000, Some(1_900_000_000));
    metrics.certificate_rotated();
    metrics.certificate_rotation_failed(RotationFailure::SentryConnection);
    metrics.component_loaded();
    metrics.component_started("middleware.http.uppercase");
    metrics.component_failed("state.redis", ComponentFailure::Creation, "store");
    metrics.component_failed("state.redis", ComponentFailure::Creation, "store");
    metrics.error_answered("service-invocation", "ERR_DIRECT_INVOKE");
    check(
        &metrics,
        &[
            r#"dapr_runtime_acl_global_policy_action_allowed_total{app_id="",trustDomain="",namespace=""} 1"#,
            r#"dapr_runtime_acl_app_policy_action_blocked_total{app_id="web",trustDomain="public",namespace="prod"} 2"#,
            r#"dapr_runtime_mtls_init_total{app_id="appa"} 1"#,
            r#"dapr_runtime_mtls_init_fail_total{app_id="appa",reason="sentry_token"} 1"#,
            r#"dapr_runtime_mtls_workload_cert_expiry_timestamp{app_id="appa"} 1800000000"#,
            r#"dapr_runtime_mtls_trust_anchor_expiry_timestamp{app_id="appa"} 1900000000"#,
            r#"dapr_runtime_mtls_workload_cert_rotated_total{app_id="appa"} 1"#,
            r#"dapr_runtime_mtls_workload_cert_rotated_fail_total{app_id="appa",reason="sentry_conn"} 1"#,
            r#"dapr_runtime_component_loaded{app_id="appa"} 1"#,
            r#"dapr_runtime_component_init_total{app_id="appa",component="middleware.http.uppercase"} 1"#,
            r#"dapr_runtime_component_init_fail_total{app_id="appa",component="state.redis",reason="creation",componentName="store"} 2"#,
        ],
    );
}

/// The upper bounds of one histogram, without the infinite one.
fn bounds(text: &str, name: &str) -> Vec<f64> {
    let start = format!("dapr_{name}_bucket{{le=\"");
    let bound = |line: &str| line.strip_prefix(&start)?.split('"').next()?.parse().ok();
    let all = text
        .lines()
        .filter(|line| line.contains(&format!("dapr_{name}_bucket{{")));
    let le = |line: &str| {
        let le = line.split("le=\"").nth(1)?.split('"').next()?;
        le.parse::<f64>().ok()
    };
    all.filter_map(|line| bound(line).or_else(|| le(line)))
        .filter(|bound| bound.is_finite())
        .collect()
}

/// Facts: resiliency-observability M-17, M-18; golden 26 and 27 for sizes.
#[test]
fn histograms_have_the_reference_buckets() {
    let default = metrics(Settings::default());
    default.http_served(&served("/a", 200));
    let text = default.exposition();
    let want = DEFAULT_LATENCY_BUCKETS_MS
        .map(|bound| u32::try_from(bound).unwrap())
        .map(f64::from);
    assert_eq!(bounds(&text, "http_server_latency"), want);
    let sizes = bounds(&text, "http_server_request_bytes");
    assert_eq!(sizes.len(), 13);
    assert_eq!(
        (sizes[0], sizes[6], sizes[12]),
        (1024.0, 1_048_576.0, 4_294_967_296.0)
    );
    let own = metrics(Settings {
        latency_buckets_ms: vec![100, 10, 10],
        ..Settings::default()
    });
    own.http_served(&served("/a", 200));
    assert_eq!(
        bounds(&own.exposition(), "http_server_latency"),
        [10.0, 100.0]
    );
}

/// Fact: resiliency-observability M-40, also where the raw path is a label.
#[test]
fn labels_that_callers_choose_are_bounded() {
    let metrics = metrics(Settings::default());
    for n in 0..10_000 {
        let text = format!("/p{n}");
        metrics.http_served(&served(&text, 200));
        metrics.invocation_sent(&text, CallKind::Unary);
        metrics.rpc_served(&Rpc {
            method: &text,
            code: n,
            latency: LATENCY,
            received_bytes: None,
            sent_bytes: None,
        });
    }
    let text = metrics.exposition();
    let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(series("dapr_http_server_request_count{"), 2001);
    let shared = r#"request_count{app_id="appa",method="GET",path="_other",status="200"} 8000"#;
    assert!(text.contains(shared));
    for (metric, count) in [
        ("http_server_request_count", 8000),
        ("runtime_service_invocation_req_sent_total", 8000),
        ("grpc_io_server_completed_rpcs", 8000),
    ] {
        let line = format!(
            "dapr_runtime_metrics_overflow_total{{app_id=\"appa\",metric=\"{metric}\"}} {count}"
        );
        assert!(text.lines().any(|have| have == line), "{line}");
    }
    assert_eq!(
        series("dapr_runtime_service_invocation_req_sent_total{"),
        2001
    );
    assert!(
        text.contains(r#"req_sent_total{app_id="appa",dst_app_id="_other",type="unary"} 8000"#)
    );
    assert!(series("dapr_grpc_io_server_completed_rpcs{") <= 2064);
}

#[test]
fn label_values_are_escaped() {
    let metrics = metrics(Settings::default());
    metrics.invocation_received("a\"} evil\\\n");
    let text = metrics.exposition();
    assert!(text.contains(r#"src_app_id="a\"} evil\\\n"} 1"#), "{text}");
}

fn decided<'a>(outcome: Outcome, policy: &'a str, app_id: &'a str) -> DecisionLabels<'a> {
    DecisionLabels {
        outcome,
        reason: "operation-rule",
        policy,
        app_id,
        namespace: "shop",
    }
}

/// Facts: security 4.9, K192.
#[test]
fn decisions_are_counted_by_what_was_said_and_to_whom() {
    let metrics = metrics(Settings::default());
    let allowed = metrics.decision_count(&decided(Outcome::Allow, "shop/orders", "web"));
    allowed.inc();
    metrics
        .decision_count(&decided(Outcome::Allow, "shop/orders", "web"))
        .inc();
    metrics
        .decision_count(&decided(Outcome::WouldDeny, "-", "web"))
        .inc();
    metrics.access_control_snapshot(3);
    metrics.access_control_objects(ObjectState::Ok, 2);
    metrics.access_control_objects(ObjectState::Invalid, 0);
    metrics.access_control_source(SourceState::Live);
    metrics.access_control_source(SourceState::File);
    metrics.access_control_heartbeat(Duration::from_millis(2_900));
    metrics.access_log_dropped(7);
    check(
        &metrics,
        &[
            r#"dapr_runtime_accesscontrol_decisions_total{decision="allow",reason="operation-rule",policy="shop/orders",src_app_id="web",src_namespace="shop"} 2"#,
            r#"dapr_runtime_accesscontrol_decisions_total{decision="would_deny",reason="operation-rule",policy="-",src_app_id="web",src_namespace="shop"} 1"#,
            "dapr_runtime_accesscontrol_snapshot 3",
            r#"dapr_runtime_accesscontrol_objects{state="ok"} 2"#,
            r#"dapr_runtime_accesscontrol_objects{state="invalid"} 0"#,
            r#"dapr_runtime_accesscontrol_source{state="live"} 0"#,
            r#"dapr_runtime_accesscontrol_source{state="stale"} 0"#,
            r#"dapr_runtime_accesscontrol_source{state="unavailable"} 0"#,
            r#"dapr_runtime_accesscontrol_source{state="unsupported"} 0"#,
            r#"dapr_runtime_accesscontrol_source{state="file"} 1"#,
            "dapr_runtime_accesscontrol_seconds_since_heartbeat 2",
            "dapr_runtime_access_log_dropped_total 7",
        ],
    );
}

/// Row K221: names come from certificates and from objects, and even those are bounded.
#[test]
fn decisions_have_a_bounded_number_of_series() {
    let metrics = metrics(Settings::default());
    for number in 0..20_000 {
        let name = format!("app{number}");
        metrics
            .decision_count(&decided(Outcome::Deny, &name, &name))
            .inc();
    }
    let text = metrics.exposition();
    let lines = samples(&text);
    let series = lines
        .iter()
        .filter(|line| line.contains("decisions_total{"));
    assert_eq!(series.count(), 5_001);
    let shared = r#"dapr_runtime_accesscontrol_decisions_total{decision="deny",reason="operation-rule",policy="_other",src_app_id="_other",src_namespace="_other"} 15000"#;
    assert!(lines.contains(shared));
}

/// M-23 to M-27; resiliency-observability 3.4, 6.3.
#[test]
fn policies_are_counted_by_their_resource_and_target() {
    let metrics = metrics(Settings::default());
    let labels = PolicyLabels {
        name: "r",
        namespace: "",
        target: "b",
    };
    metrics.resiliency_loaded("r", "");
    let retry = metrics.resiliency_policy(PolicyKind::Retry, labels);
    let breaker = metrics.resiliency_breaker(labels);
    let loaded = r#"dapr_resiliency_loaded{app_id="appa",name="r",namespace=""} 1"#;
    check(&metrics, &[loaded]);
    retry.looked_up();
    retry.looked_up();
    retry.activated();
    breaker.looked_up(BreakerState::Closed);
    breaker.changed(BreakerState::Open);
    breaker.looked_up(BreakerState::Open);
    metrics.resiliency_retried("b", "p", "exhausted");
    metrics.resiliency_ejected("b", "connect");
    metrics.resiliency_endpoints("b", EndpointState::Ejected, 1);
    let line = |name: &str, policy: &str, status: &str, value: u64| {
        format!(
            "dapr_resiliency_{name}{{app_id=\"appa\",name=\"r\",policy=\"{policy}\",namespace=\"\",flow_direction=\"outbound\",target=\"app_b\",status=\"{status}\"}} {value}"
        )
    };
    let lines = [
        line("count", "retry", "", 2),
        line("activations_total", "retry", "", 1),
        line("count", "circuitbreaker", "closed", 1),
        line("count", "circuitbreaker", "open", 1),
        line("activations_total", "circuitbreaker", "open", 1),
        line("cb_state", "circuitbreaker", "closed", 0),
        line("cb_state", "circuitbreaker", "half-open", 0),
        line("cb_state", "circuitbreaker", "open", 1),
        line("cb_state", "circuitbreaker", "unknown", 0),
        r#"dapr_resiliency_retries_total{app_id="appa",target="app_b",policy_name="p",outcome="exhausted"} 1"#.to_owned(),
        r#"dapr_resiliency_ejections_total{app_id="appa",target="app_b",reason="connect"} 1"#.to_owned(),
        r#"dapr_resiliency_endpoints{app_id="appa",target="app_b",state="ejected"} 1"#.to_owned(),
        loaded.to_owned(),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(&metrics, &lines);
}

/// Targets are what callers write: beyond a thousand they share their series.
#[test]
fn targets_of_policies_are_bounded() {
    let metrics = metrics(Settings::default());
    for number in 0..3000 {
        let labels = PolicyLabels {
            name: "r",
            namespace: "",
            target: &format!("b{number}"),
        };
        let meter = metrics.resiliency_policy(PolicyKind::Timeout, labels);
        meter.looked_up();
    }
    let text = metrics.exposition();
    let lines = samples(&text);
    // One is the counter of those that share.
    assert_eq!(lines.len(), 1002);
    let shared = |line: &&&str| line.contains("target=\"app__other\"") && line.ends_with(" 2000");
    assert!(lines.iter().any(|line| shared(&line)));
}

/// M-21: rules reach counters, histograms and the families of gRPC, and what they merge is one series.
#[test]
fn rules_change_labels() {
    let mut rules = Rules::default();
    for metric in ["dapr_http_server_request_count", "http_server_latency"] {
        rules.add(metric, "path", "/v1.0/invoke/.+", "/x").unwrap();
    }
    let rpcs = "dapr_grpc_io_server_completed_rpcs";
    rules.add(rpcs, "grpc_server_method", "^/.*/", "").unwrap();
    let metrics = metrics(Settings {
        rules,
        ..Settings::default()
    });
    for method in 0..3000 {
        metrics.http_served(&served(&format!("/v1.0/invoke/b/method/m{method}"), 200));
    }
    metrics.rpc_served(&Rpc {
        method: "/a.B/C",
        code: 0,
        latency: LATENCY,
        received_bytes: None,
        sent_bytes: None,
    });
    let text = metrics.exposition();
    for line in [
        r#"dapr_http_server_request_count{app_id="appa",method="GET",path="/x",status="200"} 2000"#,
        r#"dapr_http_server_latency_count{app_id="appa",method="GET",path="/x",status="200"} 2000"#,
        r#"dapr_http_server_response_count{app_id="appa",method="GET",path="_other",status="200"} 1000"#,
        r#"dapr_grpc_io_server_completed_rpcs{app_id="appa",grpc_server_method="C",grpc_server_status="OK"} 1"#,
        r#"dapr_grpc_io_server_server_latency_count{app_id="appa",grpc_server_method="/a.B/C",grpc_server_status="OK"} 1"#,
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
}

/// Numbers and UUIDs in paths are one of many, unless somebody wrote patterns.
#[test]
fn templates_are_learned() {
    let metrics = metrics(Settings::default());
    for order in 0..5000 {
        metrics.http_served(&served(
            &format!("/v1.0/invoke/b/method/orders/{order}"),
            200,
        ));
    }
    let text = metrics.exposition();
    let series = |line: &&str| line.starts_with("dapr_http_server_request_count{");
    assert_eq!(text.lines().filter(series).count(), 17);
    let template = r#"path="/v1.0/invoke/b/method/orders/{id}",status="200"} 4984"#;
    assert!(text.contains(template), "{text}");
}

/// resiliency-observability 6.3.
#[test]
fn calls_that_failed_and_their_attempts_are_counted() {
    let metrics = metrics(Settings::default());
    metrics.invocation_failed("b", Failure::BreakerOpen);
    metrics.invocation_failed("b", Failure::BreakerOpen);
    let attempts = metrics.resiliency_attempts("b");
    attempts.took(1, None);
    attempts.took(4, Some(7));
    check(
        &metrics,
        &[
            r#"dapr_runtime_service_invocation_errors_total{app_id="appa",dst_app_id="b",reason="cb_open"} 2"#,
            r#"dapr_resiliency_attempts_sum{app_id="appa",target="app_b"} 5.0"#,
            r#"dapr_resiliency_attempts_count{app_id="appa",target="app_b"} 2"#,
            r#"dapr_resiliency_retry_budget_balance{app_id="appa",target="app_b"} 7"#,
        ],
    );
    assert_eq!(
        bounds(&metrics.exposition(), "resiliency_attempts"),
        [1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 13.0]
    );
}
