//! Every field of resiliency-observability 1.1 and 6.2, and every way to get one wrong.

use proptest::prelude::*;

use super::*;
use crate::yaml;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn document(spec: &str) -> String {
    let spec: serde_json::Value = yaml::decode(spec).unwrap().unwrap_or_default();
    format!(
        "{{apiVersion: dapr.io/v1alpha1, kind: Resiliency, metadata: {{name: r}}, spec: {spec}}}"
    )
}

fn read(spec: &str) -> Resiliency {
    decode(&document(spec)).unwrap()
}

fn problems(spec: &str) -> Vec<String> {
    match decode(&document(spec)).unwrap_err() {
        ResiliencyError::Problems(problems) => problems.iter().map(ToString::to_string).collect(),
        ResiliencyError::Shape(error) => panic!("{error}"),
    }
}

fn notes(spec: &str) -> Vec<String> {
    read(spec).notes.iter().map(ToString::to_string).collect()
}

fn retry(fields: &str) -> RetryPolicy {
    let read = read(&format!("{{policies: {{retries: {{r: {fields}}}}}}}"));
    read.policies.retries["r"].clone()
}

fn breaker(fields: &str) -> BreakerPolicy {
    let read = read(&format!(
        "{{policies: {{circuitBreakers: {{c: {fields}}}}}}}"
    ));
    read.policies.circuit_breakers["c"].clone()
}

fn app(fields: &str) -> AppTarget {
    let read = read(&format!("{{targets: {{apps: {{b: {fields}}}}}}}"));
    read.apps["b"].clone()
}

/// The manifest of the service-to-service walk-through (cli-and-clients 3.1).
#[test]
fn a_whole_manifest_is_read() {
    let read = decode(
        "apiVersion: dapr.io/v1alpha1\n\
         kind: Resiliency\n\
         metadata:\n  name: myresiliency\n  namespace: shop\n\
         scopes:\n  - checkout\n\
         spec:\n\
         \x20 policies:\n\
         \x20   retries:\n\
         \x20     retryForever:\n        policy: constant\n        duration: 5s\n        maxRetries: -1\n\
         \x20   circuitBreakers:\n\
         \x20     simpleCB:\n        maxRequests: 1\n        timeout: 5s\n        trip: consecutiveFailures >= 5\n\
         \x20   timeouts:\n      general: 5s\n\
         \x20 targets:\n\
         \x20   apps:\n\
         \x20     order-processor:\n        timeout: general\n        retry: retryForever\n        circuitBreaker: simpleCB\n\
         \x20   actors:\n      cart: {retry: retryForever, circuitBreaker: simpleCB, circuitBreakerScope: both}\n\
         \x20   components:\n      store: {outbound: {retry: retryForever}}\n",
    )
    .unwrap();
    assert_eq!(
        (read.name.as_str(), read.namespace.as_str()),
        ("myresiliency", "shop")
    );
    assert!(read.applies_to("checkout") && !read.applies_to("order-processor"));
    assert_eq!(read.notes, []);
    assert_eq!(read.policies.timeouts["general"], Some(secs(5)));
    let retry = RetryPolicy {
        backoff: Backoff::Constant(secs(5)),
        ..RetryPolicy::default()
    };
    assert_eq!(read.policies.retries["retryForever"], retry);
    let breaker = BreakerPolicy {
        timeout: secs(5),
        trip: Trip::parse("consecutiveFailures >= 5").unwrap(),
        ..BreakerPolicy::default()
    };
    assert_eq!(read.policies.circuit_breakers["simpleCB"], breaker);
    let names = PolicyNames {
        timeout: Some("general".into()),
        retry: Some("retryForever".into()),
        circuit_breaker: Some("simpleCB".into()),
    };
    let target = AppTarget {
        names,
        ..AppTarget::default()
    };
    assert_eq!(read.apps["order-processor"], target);
    assert!(Resiliency::default().applies_to("any"));
}

#[test]
fn the_view_of_a_cluster_is_read_alike() {
    let spec = "{policies: {timeouts: {t: '250'}}, targets: {apps: {b: {timeout: t}}}}";
    let value: serde_json::Value = yaml::decode(&document(spec)).unwrap().unwrap();
    let view = serde_json::to_vec(&value).unwrap();
    assert_eq!(from_json(&view).unwrap(), read(spec));
    assert!(matches!(from_json(b"{"), Err(ResiliencyError::Shape(_))));
    assert!(matches!(
        from_json(b"[]"),
        Err(ResiliencyError::Problems(_))
    ));
}

/// R-37, R-38
#[test]
fn timeouts_are_spans_or_milliseconds() {
    for (text, want) in [
        ("500ms", Some(millis(500))),
        ("1m30s", Some(secs(90))),
        ("'250'", Some(millis(250))),
        ("250", Some(millis(250))),
        ("0", None),
        ("-1s", None),
    ] {
        let read = read(&format!("{{policies: {{timeouts: {{t: {text}}}}}}}"));
        assert_eq!(read.policies.timeouts["t"], want, "{text}");
        assert_eq!(read.notes.len(), usize::from(want.is_none()), "{text}");
    }
    for (text, want) in [
        ("abc", "time: invalid duration \"abc\": write"),
        ("''", "is empty: write"),
        ("~", "is empty: write"),
        ("5d", "time: unknown unit \"d\" in duration \"5d\": write"),
        (
            "'9223372036854775807'",
            "time: invalid duration \"9223372036854775807\": write",
        ),
        ("[5s]", "must be text, is a list"),
    ] {
        let problems = problems(&format!("{{policies: {{timeouts: {{t: {text}}}}}}}"));
        let [problem] = problems.as_slice() else {
            panic!("{problems:?}")
        };
        let text = problem.strip_prefix("/spec/policies/timeouts/t: ").unwrap();
        assert!(text.starts_with(want), "{text}");
    }
}

/// R-12 to R-16, R-18, R-19
#[test]
fn retries_have_the_defaults_of_the_reference() {
    assert_eq!(retry("{}"), RetryPolicy::default());
    assert_eq!(
        retry("{policy: CONSTANT, duration: 5s, maxRetries: -7}"),
        RetryPolicy::default()
    );
    assert_eq!(retry("{policy: '', duration: ''}"), RetryPolicy::default());
    assert_eq!(
        retry("{duration: '250'}").backoff,
        Backoff::Constant(millis(250))
    );
    assert_eq!(retry("{maxRetries: 0}").max_retries, Some(0));
    assert_eq!(retry("{maxRetries: 99999999999}").max_retries, None);
    let exponential = retry("{policy: Exponential, duration: 10s}");
    let want = RetryPolicy {
        backoff: Backoff::Exponential {
            initial: millis(500),
            multiplier: 1.5,
            max_interval: secs(60),
        },
        jitter: 0.5,
        max_elapsed: Some(secs(900)),
        ..RetryPolicy::default()
    };
    assert_eq!(exponential, want);
}

/// Fact: resiliency-observability 6.2, rows "Backoff with jitter" and "Retry only when safe".
#[test]
fn retries_have_keys_of_our_own() {
    let read = retry(
        "{policy: exponential, initialInterval: 100ms, multiplier: 2, maxInterval: 1s, jitter: 0, maxElapsed: 10s,\
          honorRetryAfter: true, matching: {httpMethods: [get, PUT], httpStatusCodes: '503', gRPCStatusCodes: 14}}",
    );
    let matching = Matching {
        http: HttpCodes::parse("503").unwrap(),
        grpc: GrpcCodes::parse("14").unwrap(),
        verbs: [Verb::Get, Verb::Put].into_iter().collect(),
    };
    let want = RetryPolicy {
        backoff: Backoff::Exponential {
            initial: millis(100),
            multiplier: 2.0,
            max_interval: secs(1),
        },
        max_retries: None,
        matching,
        jitter: 0.0,
        max_elapsed: Some(secs(10)),
        max_interval: secs(1),
        honor_retry_after: true,
    };
    assert_eq!(read, want);
}

/// R-44, R-45, R-46, R-48
#[test]
fn breakers_have_the_defaults_of_the_reference() {
    assert_eq!(breaker("{}"), BreakerPolicy::default());
    assert_eq!(
        breaker("{maxRequests: 0, interval: 0, timeout: 0s, trip: ''}"),
        BreakerPolicy::default()
    );
    assert_eq!(
        breaker("{interval: -5s, timeout: -1}"),
        BreakerPolicy::default()
    );
    let read = breaker(
        "{maxRequests: 3, interval: 2s, timeout: 5s, trip: totalFailures > 2 && requests > 5, matching: {httpStatusCodes: '500-599'}}",
    );
    let want = BreakerPolicy {
        max_requests: NonZeroU32::new(3).unwrap(),
        interval: Some(secs(2)),
        timeout: secs(5),
        trip: Trip::parse("totalFailures > 2 && requests > 5").unwrap(),
        matching: Matching {
            http: HttpCodes::parse("500-599").unwrap(),
            ..Matching::default()
        },
    };
    assert_eq!(read, want);
}

/// R-07, R-56 and the opt-in rows of 6.2
#[test]
fn targets_have_all_keys() {
    assert_eq!(app("{}"), AppTarget::default());
    assert_eq!(app("~"), AppTarget::default());
    assert_eq!(app("{circuitBreakerCacheSize: 0}").breaker_cache, None);
    assert_eq!(
        app("{circuitBreakerCacheSize: 1}").breaker_cache,
        NonZeroU32::new(1)
    );
    let read = app(
        "{overallTimeout: 10s, idleTimeout: 1m, retryBudget: {ratio: 0.5, minRetriesPerSecond: 0, ttl: 5s}, \
          outlierDetection: {consecutiveFailures: 3, successRateThreshold: 0.8, window: 20s, minRequests: 10, \
          minEjection: 2s, maxEjection: 30s, maxEjectionPercent: 20}, rateLimit: {requestsPerSecond: 2.5}, \
          sessionAffinity: {header: X-User}, methods: [{path: /orders/*, verbs: [GET], timeout: t}, {path: /**, retry: r, circuitBreaker: c}]}",
    );
    let methods = vec![
        MethodTarget {
            path: MethodPattern::parse("/orders/*").unwrap(),
            verbs: [Verb::Get].into_iter().collect(),
            names: PolicyNames {
                timeout: Some("t".into()),
                ..PolicyNames::default()
            },
        },
        MethodTarget {
            path: MethodPattern::parse("/**").unwrap(),
            verbs: Verbs::default(),
            names: PolicyNames {
                retry: Some("r".into()),
                circuit_breaker: Some("c".into()),
                ..PolicyNames::default()
            },
        },
    ];
    let want = AppTarget {
        names: PolicyNames::default(),
        breaker_cache: None,
        overall_timeout: Some(secs(10)),
        idle_timeout: Some(secs(60)),
        retry_budget: Some(RetryBudget {
            ratio: 0.5,
            min_retries_per_second: 0,
            ttl: secs(5),
        }),
        outlier_detection: Some(OutlierDetection {
            consecutive_failures: NonZeroU32::new(3),
            success_rate_threshold: Some(0.8),
            window: secs(20),
            min_requests: 10,
            min_ejection: secs(2),
            max_ejection: secs(30),
            max_ejection_percent: 20,
        }),
        rate_limit: Some(RateLimit {
            requests_per_second: 2.5,
            burst: NonZeroU32::new(3).unwrap(),
        }),
        session_affinity: Some(SessionAffinity {
            header: "x-user".into(),
        }),
        methods,
    };
    assert_eq!(read, want);
    let defaults =
        app("{retryBudget: {}, outlierDetection: {}, rateLimit: {requestsPerSecond: 0.1}}");
    assert_eq!(defaults.retry_budget, Some(RetryBudget::default()));
    assert_eq!(
        defaults.outlier_detection,
        Some(OutlierDetection::default())
    );
    assert_eq!(defaults.rate_limit.unwrap().burst, NonZeroU32::MIN);
}

#[test]
fn every_problem_is_reported_with_its_place() {
    let spec = "
policies:
  timeouts: {a: '', b: 5x}
  retries:
    a: {policy: linear, duration: soon, maxRetries: many, multiplier: 0.5, jitter: 2, initialInterval: 0s}
    b: 5
    c: {matching: {httpStatusCodes: '500, 502', gRPCStatusCodes: '17', httpMethods: [GOT, {}]}}
    d: {matching: [], honorRetryAfter: 'yes please'}
  circuitBreakers:
    a: {maxRequests: -1, trip: '((', interval: never}
  retryBudgets:
    DefaultRetryBudgetPolicy: {ratio: -1, ttl: 1h}
targets:
  apps:
    a/b: {circuitBreakerCacheSize: -1, overallTimeout: 0s, idleTimeout: 25h, rateLimit: {burst: 0}, sessionAffinity: {header: 'a b'}}
    c: {rateLimit: {requestsPerSecond: 0}, sessionAffinity: {}, outlierDetection: {minEjection: 5s, maxEjection: 1s, maxEjectionPercent: 101}}
    d: {methods: [{path: /a*}, {}, {path: /x}, {path: x, verbs: []}]}
    e: []
  actors:
    t: {circuitBreaker: a, circuitBreakerCacheSize: -1}
";
    let found = problems(spec);
    let want = [
        ("/spec/policies/timeouts/a", "is empty"),
        ("/spec/policies/timeouts/b", "time: unknown unit \"x\""),
        (
            "/spec/policies/retries/a/policy",
            "\"linear\" is no kind of retry",
        ),
        (
            "/spec/policies/retries/a/duration",
            "time: invalid duration \"soon\"",
        ),
        (
            "/spec/policies/retries/a/initialInterval",
            "must be between 1ms and 24h0m0s",
        ),
        (
            "/spec/policies/retries/a/multiplier",
            "must be between 1 and 100",
        ),
        ("/spec/policies/retries/a/jitter", "must be between 0 and 1"),
        (
            "/spec/policies/retries/a/maxRetries",
            "must be a whole number, is text",
        ),
        ("/spec/policies/retries/b", "must be an object, is a number"),
        (
            "/spec/policies/retries/c/matching/httpStatusCodes",
            "\" 502\" is no code",
        ),
        (
            "/spec/policies/retries/c/matching/gRPCStatusCodes",
            "code 17 is out of range",
        ),
        (
            "/spec/policies/retries/c/matching/httpMethods/0",
            "\"GOT\" is no HTTP verb",
        ),
        (
            "/spec/policies/retries/c/matching/httpMethods/1",
            "must be text, is an object",
        ),
        (
            "/spec/policies/retries/d/honorRetryAfter",
            "must be true or false, is text",
        ),
        (
            "/spec/policies/retries/d/matching",
            "must be an object, is a list",
        ),
        (
            "/spec/policies/circuitBreakers/a/maxRequests",
            "must be between 0 and 4294967295",
        ),
        (
            "/spec/policies/circuitBreakers/a/interval",
            "time: invalid duration \"never\"",
        ),
        (
            "/spec/policies/circuitBreakers/a/trip",
            "expected a count, a number or `(`",
        ),
        (
            "/spec/policies/retryBudgets/DefaultRetryBudgetPolicy/ratio",
            "must be between 0 and 10",
        ),
        (
            "/spec/policies/retryBudgets/DefaultRetryBudgetPolicy/ttl",
            "must be between 1s and 1m0s",
        ),
        (
            "/spec/targets/actors/t/circuitBreakerScope",
            "must be type, id or both",
        ),
        (
            "/spec/targets/actors/t/circuitBreakerCacheSize",
            "must be between 0 and 65536",
        ),
        (
            "/spec/targets/apps/a~1b/circuitBreakerCacheSize",
            "must be between 0 and 65536",
        ),
        (
            "/spec/targets/apps/a~1b/overallTimeout",
            "must be between 1ms and 24h0m0s",
        ),
        (
            "/spec/targets/apps/a~1b/idleTimeout",
            "must be between 1ms and 24h0m0s",
        ),
        (
            "/spec/targets/apps/a~1b/rateLimit/burst",
            "must be between 1 and 1000000",
        ),
        (
            "/spec/targets/apps/a~1b/rateLimit/requestsPerSecond",
            "is missing",
        ),
        (
            "/spec/targets/apps/a~1b/sessionAffinity/header",
            "\"a b\" cannot be the name of a header",
        ),
        (
            "/spec/targets/apps/c/outlierDetection/maxEjectionPercent",
            "must be between 0 and 100",
        ),
        (
            "/spec/targets/apps/c/outlierDetection/maxEjection",
            "must not be below minEjection",
        ),
        (
            "/spec/targets/apps/c/rateLimit/requestsPerSecond",
            "must be between 0.001 and 1000000",
        ),
        ("/spec/targets/apps/c/sessionAffinity/header", "is missing"),
        (
            "/spec/targets/apps/d/methods/0/path",
            "has a star inside a segment",
        ),
        ("/spec/targets/apps/d/methods/1/path", "is missing"),
        (
            "/spec/targets/apps/d/methods/3",
            "a request can match this entry and /spec/targets/apps/d/methods/2 equally well",
        ),
        ("/spec/targets/apps/e", "must be an object, is a list"),
    ];
    for (row, (pointer, text)) in want.iter().enumerate() {
        let found = found.get(row).map_or("", String::as_str);
        assert!(
            found.starts_with(&format!("{pointer}: {text}")),
            "{row} {pointer}: {found}"
        );
    }
    assert_eq!(found.len(), want.len(), "{found:#?}");
}

#[test]
fn what_was_probably_not_meant_is_noted() {
    let spec = "
policies:
  timeouts: {a: 0}
  retries:
    a: {duration: -1s, initialIntervall: 5s}
    b: {policy: exponential, maxInterval: 0}
  circuitBreakers: {a: {trip: nosuch > 1, matching: {httpMethods: [GET]}}}
  retryBudgets: {mine: {}, DefaultAppRetryBudgetPolicy: {}}
  limits: {}
targets:
  apps: {b: {retries: a, circuitBreakerCacheSize: 1000000}}
";
    let want = [
        "/spec/policies/limits: this key is not known",
        "/spec/policies/timeouts/a: zero or less limits nothing",
        "/spec/policies/retries/a/duration: a pause below zero is none",
        "/spec/policies/retries/a/initialIntervall: this key is not known",
        "/spec/policies/retries/a: retries without limit and without pause",
        "/spec/policies/retries/b: retries without limit and without pause",
        "/spec/policies/circuitBreakers/a/trip: nosuch is no variable",
        "/spec/policies/circuitBreakers/a/matching/httpMethods: this key is not known",
        "/spec/policies/retryBudgets/mine: has no effect",
        "/spec/targets/apps/b/circuitBreakerCacheSize: only 65536 breakers",
        "/spec/targets/apps/b/retries: this key is not known",
    ];
    let found = notes(spec);
    for (row, want) in want.iter().enumerate() {
        let found = found.get(row).map_or("", String::as_str);
        assert!(found.starts_with(want), "{row} {want}: {found}");
    }
    assert_eq!(found.len(), want.len(), "{found:#?}");
}

#[test]
fn entries_of_one_path_with_and_without_verbs_differ() {
    assert_eq!(
        app("{methods: [{path: /x}, {path: /x, verbs: [GET]}, {path: /x, verbs: [PUT]}]}")
            .methods
            .len(),
        3
    );
    assert_eq!(problems("{targets: {apps: {b: {methods: [{path: /x, verbs: [GET, PUT]}, {path: /x, verbs: [PUT]}]}}}}").len(), 1);
}

proptest! {
    #[test]
    fn any_duration_is_read_or_refused(text in "\\PC*|[-+]?[0-9]{0,20}(ns|us|ms|s|m|h)?([0-9.]{1,4}(ms|s|m))?") {
        let document = serde_json::json!({"spec": {"policies": {
            "timeouts": {"t": text}, "retries": {"r": {"duration": text, "maxElapsed": text}},
            "circuitBreakers": {"c": {"interval": text, "timeout": text}},
        }}});
        let read = from_json(document.to_string().as_bytes());
        if let (Ok(read), Ok(milliseconds)) = (read, text.parse::<u32>()) {
            let limit = (milliseconds > 0).then(|| millis(milliseconds.into()));
            prop_assert_eq!(read.policies.timeouts["t"], limit);
        }
    }

    #[test]
    fn any_document_is_read_or_refused(text in "\\PC*") {
        let _no_panic = (decode(&text), from_json(text.as_bytes()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        let _no_panic = from_json(&bytes);
    }

    #[test]
    fn near_manifests_are_read_or_refused(
        policies in "\\{((timeouts|retries|circuitBreakers|retryBudgets): (5|\\[\\]|\\{a: (5s|''|~|\\{(policy|duration|maxRetries|matching|trip|interval|ratio): (constant|-1|1e400|5s|\\{\\}|\\[1\\]|requests > 1)\\})\\}), )*\\}",
        apps in "\\{(b: \\{((timeout|rateLimit|methods|outlierDetection|sessionAffinity): (x|5|\\[\\{path: /a\\}\\]|\\{requestsPerSecond: 5\\}|\\{header: x\\}|\\{window: 2s\\}), )?\\})?\\}",
    ) {
        let _no_panic = decode(&format!("{{metadata: {{name: r}}, spec: {{policies: {policies}, targets: {{apps: {apps}}}}}}}"));
    }
}
