//! The kind Resiliency: timeouts, retries, circuit breakers, and which calls they are for.
//!
//! Owns the schema as values that were checked (a duration is a span, an expression a tree) and the reading of
//! files and of the JSON view that a cluster gives. A resource is taken whole or not at all, and every problem
//! is reported with its place and a way out. Unknown keys are ignored and noted, as the reference ignores
//! them. What a policy does with an outcome is the resiliency crate's part, as is the merging of several
//! resources. Source: resiliency-observability 1.1, 1.4, 1.5, 6.2.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

mod codes;
mod decode;
mod policies;
mod problem;
mod reader;
mod route;
mod targets;
mod trip;
mod verb;

pub use codes::{CodesError, GrpcCodes, HttpCodes, Range as CodeRange};
pub use decode::{ResiliencyError, decode, from_json};
pub use problem::{Flaw, Note, Problem, Remark};
#[cfg(test)]
pub(crate) use reader::ASKED;
pub use route::{MethodPattern, PatternFlaw, Segment};
pub use trip::{
    BinaryOp, Conversion, Expr, Literal, TRIP_BOUNDS, Trip, TripBounds, TripError, Type, TypeFlaw,
    UnaryOp, Variable,
};
pub use verb::{Verb, Verbs};

/// Policies and the calls they are for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resiliency {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`; empty when absent.
    pub namespace: String,
    /// The calling apps it is for; empty means all.
    pub scopes: Vec<String>,
    /// `spec.policies`.
    pub policies: Policies,
    /// `spec.targets.apps` by the ID as a caller gives it, HTTPEndpoint names and URLs included.
    pub apps: BTreeMap<String, AppTarget>,
    /// What was accepted and probably not meant.
    pub notes: Vec<Note>,
}

/// Policies by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// Limits of one attempt.
    pub timeouts: BTreeMap<String, Timeout>,
    /// Retries.
    pub retries: BTreeMap<String, RetryPolicy>,
    /// Circuit breakers.
    pub circuit_breakers: BTreeMap<String, BreakerPolicy>,
    /// Retry budgets; only the names of defaults have an effect.
    pub retry_budgets: BTreeMap<String, RetryBudget>,
}

/// The limit of one attempt; `None` where the manifest says zero or less, which limits nothing.
pub type Timeout = Option<Duration>;

/// Whether, when and how often an attempt is followed by another.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The pauses between attempts.
    pub backoff: Backoff,
    /// Retries after the first attempt; `None` is without limit.
    pub max_retries: Option<u32>,
    /// Which failures are retried.
    pub matching: Matching,
    /// Share by which a pause is shortened or lengthened at random, 0 to 1.
    pub jitter: f64,
    /// No retry begins later than this after the first attempt.
    pub max_elapsed: Option<Duration>,
    /// Longest pause that a callee may ask for; `maxInterval`.
    pub max_interval: Duration,
    /// Whether `Retry-After` of a callee replaces the pause.
    pub honor_retry_after: bool,
}

/// The pauses between attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backoff {
    /// Always the same one.
    Constant(Duration),
    /// Growing ones.
    Exponential {
        /// The first.
        initial: Duration,
        /// How much longer the next one is.
        multiplier: f64,
        /// The longest, before jitter.
        max_interval: Duration,
    },
}

/// Which failures are meant; an empty list means every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching {
    /// By HTTP status.
    pub http: HttpCodes,
    /// By gRPC code.
    pub grpc: GrpcCodes,
    /// By HTTP verb of the request; breakers do not have it.
    pub verbs: Verbs,
}

/// When calls are refused without being made.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// Probes that are let through half-open, and successes that close it.
    pub max_requests: NonZeroU32,
    /// Period after which the counters of the closed state start again; `None` is never.
    pub interval: Option<Duration>,
    /// Time spent open.
    pub timeout: Duration,
    /// What opens it.
    pub trip: Trip,
    /// What counts as a failure.
    pub matching: Matching,
}

/// How many retries the calls of a target may have together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Retries per call.
    pub ratio: f64,
    /// Retries a second that are allowed besides.
    pub min_retries_per_second: u32,
    /// How long a call counts.
    pub ttl: Duration,
}

/// What holds for the calls of one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppTarget {
    /// Names of its policies; an entry without a name has no policy of that kind.
    pub names: PolicyNames,
    /// Breakers that are remembered; `None` where absent or zero.
    pub breaker_cache: Option<NonZeroU32>,
    /// Limit of all attempts together.
    pub overall_timeout: Option<Duration>,
    /// How long nothing may pass in either direction of an answer that has begun, and of a stream that its caller
    /// declares, from its opening.
    pub idle_timeout: Option<Duration>,
    /// Bound of all retries together.
    pub retry_budget: Option<RetryBudget>,
    /// When an address is left out for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// Bound of attempts a second.
    pub rate_limit: Option<RateLimit>,
    /// Calls that stay with one address.
    pub session_affinity: Option<SessionAffinity>,
    /// Parts of the app with policies of their own.
    pub methods: Vec<MethodTarget>,
}

/// Names of policies of any resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyNames {
    /// A name of `policies.timeouts`.
    pub timeout: Option<String>,
    /// A name of `policies.retries`.
    pub retry: Option<String>,
    /// A name of `policies.circuitBreakers`.
    pub circuit_breaker: Option<String>,
}

/// Policies of a part of an app; what it does not name is the app's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodTarget {
    /// The paths.
    pub path: MethodPattern,
    /// The HTTP verbs; none means all, and gRPC.
    pub verbs: Verbs,
    /// Its policies.
    pub names: PolicyNames,
}

/// When an address is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierDetection {
    /// Failures in a row; `None` does not count them.
    pub consecutive_failures: Option<NonZeroU32>,
    /// Share of successes below which an address is out; `None` does not measure it.
    pub success_rate_threshold: Option<f64>,
    /// Time over which the share is measured.
    pub window: Duration,
    /// Calls in it below which the share says nothing.
    pub min_requests: u32,
    /// The first time out; it doubles.
    pub min_ejection: Duration,
    /// The longest time out.
    pub max_ejection: Duration,
    /// Most addresses that are out at once, in percent; one always stays.
    pub max_ejection_percent: u8,
}

/// A bound on requests a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests a second.
    pub requests_per_second: f64,
    /// Requests at once after a pause.
    pub burst: NonZeroU32,
}

/// Calls that stay with one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionAffinity {
    /// Header of the request whose value chooses it, in lower case.
    pub header: Box<str>,
}

/// Pause of a constant retry where none is written. Source: resiliency-observability 1.1.
pub const DEFAULT_RETRY_PAUSE: Duration = Duration::from_secs(5);
/// `maxInterval` where none is written. Source: resiliency-observability 1.1.
pub const DEFAULT_MAX_INTERVAL: Duration = Duration::from_secs(60);
/// First interval of an exponential retry. Source: resiliency-observability 1.1.
pub const DEFAULT_INITIAL_INTERVAL: Duration = Duration::from_millis(500);
/// Growth of the interval of an exponential retry. Source: resiliency-observability 1.1.
pub const DEFAULT_MULTIPLIER: f64 = 1.5;
/// Jitter of an exponential retry. Source: resiliency-observability 1.1.
pub const DEFAULT_EXPONENTIAL_JITTER: f64 = 0.5;
/// After this an exponential retry ends. Source: resiliency-observability 1.1.
pub const DEFAULT_EXPONENTIAL_ELAPSED: Duration = Duration::from_secs(15 * 60);
/// Time a breaker is open where none is written. Source: resiliency-observability 1.1.
pub const DEFAULT_BREAKER_TIMEOUT: Duration = Duration::from_secs(60);
/// Breakers that are remembered for an app. Source: resiliency-observability 1.1.
pub const DEFAULT_BREAKER_CACHE: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// Most breakers that are remembered for an app, whatever a manifest says: each holds a path.
pub const MAX_BREAKER_CACHE: NonZeroU32 = NonZeroU32::new(65_536).unwrap();

// === impl Resiliency ===

impl Resiliency {
    /// Returns whether it is for the calls that this app makes.
    #[must_use]
    pub fn applies_to(&self, app_id: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| scope == app_id)
    }
}

// === impl RetryPolicy ===

impl Default for RetryPolicy {
    /// What a retry without any key means: every 5 s, without limit.
    fn default() -> Self {
        Self {
            backoff: Backoff::Constant(DEFAULT_RETRY_PAUSE),
            max_retries: None,
            matching: Matching::default(),
            jitter: 0.0,
            max_elapsed: None,
            max_interval: DEFAULT_MAX_INTERVAL,
            honor_retry_after: false,
        }
    }
}

// === impl BreakerPolicy ===

impl Default for BreakerPolicy {
    /// What a breaker without any key means.
    fn default() -> Self {
        Self {
            max_requests: NonZeroU32::MIN,
            interval: None,
            timeout: DEFAULT_BREAKER_TIMEOUT,
            trip: Trip::default(),
            matching: Matching::default(),
        }
    }
}

// === impl RetryBudget ===

impl Default for RetryBudget {
    /// 20 % of the calls and 10 a second, over 10 s. Source: resiliency-observability 6.2.
    fn default() -> Self {
        Self {
            ratio: 0.2,
            min_retries_per_second: 10,
            ttl: Duration::from_secs(10),
        }
    }
}

// === impl OutlierDetection ===

impl Default for OutlierDetection {
    /// Five failures in a row, out for 1 s to 60 s, at most half of the addresses. Source:
    /// resiliency-observability 6.2.
    fn default() -> Self {
        Self {
            consecutive_failures: NonZeroU32::new(5),
            success_rate_threshold: None,
            window: Duration::from_secs(10),
            min_requests: 5,
            min_ejection: Duration::from_secs(1),
            max_ejection: Duration::from_secs(60),
            max_ejection_percent: 50,
        }
    }
}

#[cfg(test)]
mod tests;
