//! Reading of `spec.policies`. Defaults and bounds: resiliency-observability 1.1, 6.2.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::reader::{Object, Reader};
use super::{
    Backoff, BreakerPolicy, DEFAULT_EXPONENTIAL_ELAPSED, DEFAULT_EXPONENTIAL_JITTER,
    DEFAULT_INITIAL_INTERVAL, DEFAULT_MAX_INTERVAL, DEFAULT_MULTIPLIER, DEFAULT_RETRY_PAUSE, Flaw,
    GrpcCodes, HttpCodes, Matching, Policies, Remark, RetryBudget, RetryPolicy, Timeout, Trip,
    Verb, Verbs,
};

/// Longest interval, elapsed time and the like that a manifest can ask for by one of our own keys.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest of them.
const SHORTEST: Duration = Duration::from_millis(1);
/// Names of budgets that apply without being named by a target.
pub(super) const BUDGET_DEFAULTS: [&str; 2] =
    ["DefaultAppRetryBudgetPolicy", "DefaultRetryBudgetPolicy"];

pub(super) fn read(mut policies: Object<'_>, reader: &mut Reader) -> Policies {
    let timeouts = policies.object("timeouts", reader);
    let retries = policies.object("retries", reader);
    let breakers = policies.object("circuitBreakers", reader);
    let budgets = policies.object("retryBudgets", reader);
    policies.close(reader);
    let read = Policies {
        timeouts: read_timeouts(&timeouts, reader),
        retries: each(&retries, reader, retry),
        circuit_breakers: each(&breakers, reader, breaker),
        retry_budgets: each(&budgets, reader, retry_budget),
    };
    for name in read.retry_budgets.keys() {
        if !BUDGET_DEFAULTS.contains(&name.as_str()) {
            reader.note(budgets.at(name), Remark::UnusedBudget);
        }
    }
    read
}

/// Reads the entries of an object whose keys are names.
fn each<'v, T>(
    object: &Object<'v>,
    reader: &mut Reader,
    read: impl Fn(Object<'v>, &mut Reader) -> T,
) -> BTreeMap<String, T> {
    let entries = object.entries();
    let entry = |(name, value)| {
        let entry = reader.object(Some(value), object.at(name));
        (String::from(name), read(entry, reader))
    };
    entries.map(entry).collect()
}

fn read_timeouts(timeouts: &Object<'_>, reader: &mut Reader) -> BTreeMap<String, Timeout> {
    let mut read = BTreeMap::new();
    for (name, value) in timeouts.entries() {
        let at = timeouts.at(name);
        let text = reader.text(value, &at);
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            // Another shape is a problem already.
            if value.is_null() || value.is_string() {
                reader.problem(at, Flaw::EmptyDuration);
            }
            continue;
        };
        let Some(limit) = reader.duration(&text, &at) else {
            continue;
        };
        let limit = limit.to_std().filter(|limit| !limit.is_zero());
        if limit.is_none() {
            reader.note(at, Remark::NoLimit);
        }
        read.insert(name.to_owned(), limit);
    }
    read
}

fn retry(mut retry: Object<'_>, reader: &mut Reader) -> RetryPolicy {
    let is_exponential = retry_kind(&mut retry, reader);
    let pause = retry.pause("duration", reader);
    let pause = pause.unwrap_or(DEFAULT_RETRY_PAUSE);
    let max_interval = retry.pause("maxInterval", reader);
    let max_interval = max_interval.unwrap_or(DEFAULT_MAX_INTERVAL);
    let initial = retry.span("initialInterval", SHORTEST..=LONGEST, reader);
    let multiplier = retry.number("multiplier", 1.0..=100.0, reader);
    let jitter = retry.number("jitter", 0.0..=1.0, reader);
    let max_elapsed = retry.span("maxElapsed", SHORTEST..=LONGEST, reader);
    // Negative and absent mean without limit; more than fits is as good as that.
    let max_retries = retry.integer("maxRetries", reader).unwrap_or(-1);
    let max_retries = u32::try_from(max_retries).ok();
    let honor_retry_after = retry.flag("honorRetryAfter", reader);
    let matching = matching(&mut retry, reader, Subject::Request);
    let at = retry.here().to_owned();
    retry.close(reader);
    let backoff = if is_exponential {
        Backoff::Exponential {
            initial: initial.unwrap_or(DEFAULT_INITIAL_INTERVAL),
            multiplier: multiplier.unwrap_or(DEFAULT_MULTIPLIER),
            max_interval,
        }
    } else {
        Backoff::Constant(pause)
    };
    if max_retries.is_none() && backoff.is_busy() {
        reader.note(at, Remark::Busy);
    }
    let (usual_jitter, usual_elapsed) = if is_exponential {
        let elapsed = Some(DEFAULT_EXPONENTIAL_ELAPSED);
        (DEFAULT_EXPONENTIAL_JITTER, elapsed)
    } else {
        (0.0, None)
    };
    RetryPolicy {
        backoff,
        max_retries,
        matching,
        jitter: jitter.unwrap_or(usual_jitter),
        max_elapsed: max_elapsed.or(usual_elapsed),
        max_interval,
        honor_retry_after,
    }
}

/// Returns whether the retry is an exponential one.
fn retry_kind(retry: &mut Object<'_>, reader: &mut Reader) -> bool {
    let Some(kind) = retry.text("policy", reader) else {
        return false;
    };
    let is_exponential = kind.eq_ignore_ascii_case("exponential");
    if !is_exponential && !kind.eq_ignore_ascii_case("constant") {
        let flaw = Flaw::RetryKind(kind.into());
        reader.problem(retry.at("policy"), flaw);
    }
    is_exponential
}

fn breaker(mut breaker: Object<'_>, reader: &mut Reader) -> BreakerPolicy {
    let max_requests = breaker.count("maxRequests", 0..=u32::MAX, reader);
    let interval = breaker.duration("interval", reader);
    let timeout = breaker.duration("timeout", reader);
    let usual = BreakerPolicy::default();
    let trip = trip(&mut breaker, reader).unwrap_or(usual.trip);
    let matching = matching(&mut breaker, reader, Subject::Outcome);
    breaker.close(reader);
    let positive = |span: crate::GoDuration| span.to_std().filter(|span| !span.is_zero());
    BreakerPolicy {
        max_requests: max_requests
            .and_then(NonZeroU32::new)
            .unwrap_or(usual.max_requests),
        interval: interval.and_then(positive),
        timeout: timeout.and_then(positive).unwrap_or(usual.timeout),
        trip,
        matching,
    }
}

fn trip(breaker: &mut Object<'_>, reader: &mut Reader) -> Option<Trip> {
    let text = breaker.text("trip", reader)?;
    let at = breaker.at("trip");
    let trip = Trip::parse(&text);
    let trip = trip.map_err(|error| reader.problem(at.as_str(), Flaw::Trip(error)));
    let trip = trip.ok()?;
    for remark in trip.remarks() {
        reader.note(at.as_str(), remark);
    }
    Some(trip)
}

/// What a `matching` looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// How an attempt ended, and the request.
    Request,
    /// How an attempt ended.
    Outcome,
}

fn matching(policy: &mut Object<'_>, reader: &mut Reader, subject: Subject) -> Matching {
    let mut matching = policy.object("matching", reader);
    let http = codes(&mut matching, reader, "httpStatusCodes", HttpCodes::parse);
    let grpc = codes(&mut matching, reader, "gRPCStatusCodes", GrpcCodes::parse);
    let verbs = if subject == Subject::Request {
        verbs(&mut matching, "httpMethods", reader)
    } else {
        Verbs::default()
    };
    matching.close(reader);
    Matching { http, grpc, verbs }
}

fn codes<T: Default>(
    matching: &mut Object<'_>,
    reader: &mut Reader,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, super::CodesError>,
) -> T {
    let Some(text) = matching.text(key, reader) else {
        return T::default();
    };
    let codes = parse(&text);
    let codes = codes.map_err(|error| reader.problem(matching.at(key), Flaw::Codes(error)));
    codes.unwrap_or_default()
}

/// A list of verbs.
pub(super) fn verbs(object: &mut Object<'_>, key: &'static str, reader: &mut Reader) -> Verbs {
    let at = object.at(key);
    let list = object.list(key, reader).iter().enumerate();
    let verb = |(index, value)| {
        let at = format!("{at}/{index}");
        let text = reader.text(value, &at)?;
        let verb = Verb::parse(&text);
        if verb.is_none() {
            reader.problem(at, Flaw::Verb(text.into()));
        }
        verb
    };
    list.filter_map(verb).collect()
}

pub(super) fn retry_budget(mut budget: Object<'_>, reader: &mut Reader) -> RetryBudget {
    let usual = RetryBudget::default();
    let ratio = budget.number("ratio", 0.0..=10.0, reader);
    let floor = budget.count("minRetriesPerSecond", 0..=100_000, reader);
    let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
    let ttl = budget.span("ttl", bounds, reader);
    budget.close(reader);
    RetryBudget {
        ratio: ratio.unwrap_or(usual.ratio),
        min_retries_per_second: floor.unwrap_or(usual.min_retries_per_second),
        ttl: ttl.unwrap_or(usual.ttl),
    }
}

// === impl Backoff ===

impl Backoff {
    /// Returns whether it comes to no pause at all.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        match self {
            Self::Constant(pause) => pause.is_zero(),
            Self::Exponential { max_interval, .. } => max_interval.is_zero(),
        }
    }
}
