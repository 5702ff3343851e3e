//! The definition of Resiliency.
//!
//! Its decoder reads key by key into checked values, so the shape stands here once more, as types of its own. A test
//! proves that the decoder asks for every key of these types but those of other building blocks, and for no other.
//! Numbers have the decoder's bounds. Source: kubernetes 4.3, 4.5; resiliency-observability 1.1, 6.2.

#![expect(dead_code, reason = "the schema of the types is what they are for")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Value, json};

use super::definition::{
    self, Definition, add_rule, duration_or_millis, extend, scopes, some_duration_or_millis,
};
use super::structural;

/// Policies, and the calls they are for.
#[derive(JsonSchema)]
struct Spec {
    /// Policies by name.
    policies: Policies,
    /// What they are for.
    targets: Targets,
}

/// Policies by name.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Policies {
    /// Limits of one attempt.
    timeouts: Option<BTreeMap<String, String>>,
    /// Whether, when and how often an attempt is followed by another.
    retries: Option<BTreeMap<String, Retry>>,
    /// When calls are refused without being made.
    circuit_breakers: Option<BTreeMap<String, Breaker>>,
    /// How many retries the calls of a target may have together. The names of defaults alone have an effect.
    retry_budgets: Option<BTreeMap<String, Budget>>,
}

/// Whether, when and how often an attempt is followed by another.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Retry {
    /// `constant` or `exponential`.
    policy: Option<String>,
    /// The pause of `constant`.
    duration: Option<String>,
    /// The longest pause of `exponential`.
    max_interval: Option<String>,
    /// The first pause of `exponential`.
    initial_interval: Option<String>,
    /// How much longer the next pause of `exponential` is.
    #[schemars(range(min = 1.0, max = 100.0))]
    multiplier: Option<f64>,
    /// Share by which a pause is shortened or lengthened at random.
    #[schemars(range(min = 0.0, max = 1.0))]
    jitter: Option<f64>,
    /// No retry begins later than this after the first attempt.
    max_elapsed: Option<String>,
    /// Retries after the first attempt; negative is without limit.
    max_retries: Option<i64>,
    /// Whether `Retry-After` of a callee replaces the pause.
    honor_retry_after: Option<bool>,
    /// Which failures are retried; every one when absent.
    matching: Option<RetryMatching>,
}

/// Which failures are meant.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct RetryMatching {
    /// Codes and ranges, such as `429,500-503`.
    http_status_codes: Option<String>,
    /// Codes and ranges, such as `1,4-8`.
    #[schemars(rename = "gRPCStatusCodes")]
    grpc_status_codes: Option<String>,
    /// HTTP verbs of the request.
    http_methods: Option<Vec<String>>,
}

/// Which failures are meant.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct BreakerMatching {
    /// Codes and ranges, such as `429,500-503`.
    http_status_codes: Option<String>,
    /// Codes and ranges, such as `1,4-8`.
    #[schemars(rename = "gRPCStatusCodes")]
    grpc_status_codes: Option<String>,
}

/// When calls are refused without being made.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Breaker {
    /// Probes that are let through half-open, and successes that close it.
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    max_requests: Option<i64>,
    /// Period after which the counters of the closed state start again.
    interval: Option<String>,
    /// Time spent open.
    timeout: Option<String>,
    /// What opens it, in CEL.
    trip: Option<String>,
    /// What counts as a failure; every one when absent.
    matching: Option<BreakerMatching>,
}

/// How many retries there may be together.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Budget {
    /// Retries per call.
    #[schemars(range(min = 0.0, max = 10.0))]
    ratio: Option<f64>,
    /// Retries a second that are allowed besides.
    #[schemars(range(min = 0, max = 100_000))]
    min_retries_per_second: Option<i64>,
    /// How long a call counts.
    ttl: Option<String>,
}

/// What policies are for.
#[derive(JsonSchema)]
struct Targets {
    /// By app ID, name of an HTTPEndpoint or URL.
    apps: Option<BTreeMap<String, App>>,
    /// Of another building block; kept.
    actors: Option<BTreeMap<String, Actor>>,
    /// Of another building block; kept.
    components: Option<BTreeMap<String, Component>>,
}

/// What holds for the calls of one target.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct App {
    /// Name of a timeout.
    timeout: Option<String>,
    /// Name of a retry.
    retry: Option<String>,
    /// Name of a circuit breaker.
    circuit_breaker: Option<String>,
    /// Breakers that are remembered; 100 when absent or zero.
    #[schemars(range(min = 0))]
    circuit_breaker_cache_size: Option<i64>,
    /// Limit of all attempts together.
    overall_timeout: Option<String>,
    /// How long nothing may pass in either direction of a stream.
    idle_timeout: Option<String>,
    /// Bound of all retries together.
    retry_budget: Option<Budget>,
    /// When an address is left out for a while.
    outlier_detection: Option<OutlierDetection>,
    /// Bound of attempts a second.
    rate_limit: Option<RateLimit>,
    /// Calls that stay with one address.
    session_affinity: Option<SessionAffinity>,
    /// Parts of the app with policies of their own.
    methods: Option<Vec<Method>>,
}

/// When an address is left out for a while.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct OutlierDetection {
    /// Failures in a row; zero does not count them.
    #[schemars(range(min = 0, max = 10_000))]
    consecutive_failures: Option<i64>,
    /// Share of successes below which an address is out.
    #[schemars(range(min = 0.0, max = 1.0))]
    success_rate_threshold: Option<f64>,
    /// Time over which the share is measured.
    window: Option<String>,
    /// Calls in it below which the share says nothing.
    #[schemars(range(min = 1, max = 1_000_000))]
    min_requests: Option<i64>,
    /// The first time out; it doubles.
    min_ejection: Option<String>,
    /// The longest time out.
    max_ejection: Option<String>,
    /// Most addresses that are out at once, in percent.
    #[schemars(range(min = 0, max = 100))]
    max_ejection_percent: Option<i64>,
}

/// A bound on requests a second.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct RateLimit {
    /// Requests a second.
    #[schemars(range(min = 0.001, max = 1_000_000.0))]
    requests_per_second: f64,
    /// Requests at once after a pause.
    #[schemars(range(min = 1, max = 1_000_000))]
    burst: Option<i64>,
}

/// Calls that stay with one address.
#[derive(JsonSchema)]
struct SessionAffinity {
    /// Header of the request whose value chooses it.
    header: String,
}

/// Policies of a part of an app.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Method {
    /// Pattern of paths.
    path: String,
    /// HTTP verbs; none means all, and gRPC.
    verbs: Option<Vec<String>>,
    /// Name of a timeout.
    timeout: Option<String>,
    /// Name of a retry.
    retry: Option<String>,
    /// Name of a circuit breaker.
    circuit_breaker: Option<String>,
}

/// Of another building block.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct Actor {
    /// Name of a timeout.
    timeout: Option<String>,
    /// Name of a retry.
    retry: Option<String>,
    /// Name of a circuit breaker.
    circuit_breaker: Option<String>,
    /// `type`, `id` or `both`.
    circuit_breaker_scope: Option<String>,
    /// Breakers that are remembered.
    #[schemars(range(min = 0))]
    circuit_breaker_cache_size: Option<i64>,
}

/// Of another building block.
#[derive(JsonSchema)]
struct Component {
    /// Calls of the component to the app.
    inbound: Option<ComponentPolicies>,
    /// Calls of the app to the component.
    outbound: Option<ComponentPolicies>,
}

/// Of another building block.
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
struct ComponentPolicies {
    /// Name of a timeout.
    timeout: Option<String>,
    /// Name of a retry.
    retry: Option<String>,
    /// Name of a circuit breaker.
    circuit_breaker: Option<String>,
}

const POLICIES: &str = "/properties/spec/properties/policies/properties";
const APP: &str =
    "/properties/spec/properties/targets/properties/apps/additionalProperties/properties";
/// Most policies of a kind, and most targets.
const MAX_NAMES: usize = 512;

pub(super) fn definition() -> Definition {
    Definition {
        kind: "Resiliency",
        plural: "resiliencies",
        singular: "resiliency",
        short_names: &["dres"],
        part_of: "dapr",
        made_from: "schema/resiliency.rs",
        schema: schema(),
        columns: json!([
            {"name": "Scopes", "type": "string", "jsonPath": ".scopes"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]),
    }
}

fn schema() -> Value {
    let spec = structural::<Spec>();
    let about = "Timeouts, retries, circuit breakers, and which calls they are for.";
    let mut schema = definition::object(about, spec);
    let it = &mut schema;
    scopes(
        it,
        "The calling apps it is for; empty means all of the namespace.",
    );
    let named = json!({"maxProperties": MAX_NAMES});
    for kind in ["timeouts", "retries", "circuitBreakers", "retryBudgets"] {
        extend(it, &format!("{POLICIES}/{kind}"), named.clone());
    }
    let apps = APP.strip_suffix("/additionalProperties/properties");
    extend(it, apps.unwrap(), named);
    some_duration_or_millis(it, &format!("{POLICIES}/timeouts/additionalProperties"));
    let retry = format!("{POLICIES}/retries/additionalProperties/properties");
    for span in ["duration", "maxInterval", "initialInterval", "maxElapsed"] {
        duration_or_millis(it, &format!("{retry}/{span}"));
    }
    let kind = format!("{retry}/policy");
    extend(it, &kind, json!({"maxLength": 16}));
    let rule = "self.matches('(?i)^(constant|exponential)?$')";
    add_rule(it, &kind, rule, "must be constant or exponential");
    let breaker = format!("{POLICIES}/circuitBreakers/additionalProperties/properties");
    for span in ["interval", "timeout"] {
        duration_or_millis(it, &format!("{breaker}/{span}"));
    }
    let budget = format!("{POLICIES}/retryBudgets/additionalProperties/properties");
    duration_or_millis(it, &format!("{budget}/ttl"));
    duration_or_millis(it, &format!("{APP}/overallTimeout"));
    duration_or_millis(it, &format!("{APP}/idleTimeout"));
    duration_or_millis(it, &format!("{APP}/retryBudget/properties/ttl"));
    for span in ["window", "minEjection", "maxEjection"] {
        duration_or_millis(it, &format!("{APP}/outlierDetection/properties/{span}"));
    }
    extend(it, &format!("{APP}/methods"), json!({"maxItems": 128}));
    schema
}
