//! The section of what an app takes in: rate for each caller, calls that wait for a place, what it is told of them.
//!
//! A key of this project's own; the reference ignores it. Files give it in parts, [`InboundLimits`] is what is
//! in force. Source: resiliency-observability 6.2, rows "Concurrency limits", "Rate limiting" and "Deadline
//! propagation".

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigProblem;
use crate::GoDuration;
use crate::resiliency::RateLimit;

/// What an app takes in, as files give it.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Inbound {
    /// Bound on the requests of each caller.
    pub rate_limit: Option<InboundRate>,
    /// Requests that wait for a place.
    pub queue: Option<InboundQueue>,
    /// Whether an HTTP app is told in the header `dapr-timeout` how many milliseconds its caller still waits.
    pub deadline_header: Option<bool>,
}

/// Bound on the requests of each caller.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InboundRate {
    /// Requests a second.
    pub requests_per_second: Option<f64>,
    /// Requests at once after a pause; as many as come in a second when absent.
    pub burst: Option<i64>,
}

/// Requests that wait for a place.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InboundQueue {
    /// How many.
    pub size: Option<i64>,
    /// How long, as a Go duration; as long as the caller does when absent.
    pub max_wait: Option<String>,
}

/// What is in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InboundLimits {
    /// Bound on the requests of each caller; `None` is none.
    pub rate_limit: Option<RateLimit>,
    /// Requests that may wait for a place.
    pub queue_size: u32,
    /// How long one may; `None` as long as the caller does.
    pub max_wait: Option<Duration>,
    /// Whether an HTTP app is told how long its caller waits.
    pub deadline_header: bool,
}

/// Requests that may wait where no file says how many: a bound on memory that no healthy app meets. Source:
/// resiliency-observability 6.2.
pub const DEFAULT_QUEUE_SIZE: u32 = 10_000;

const RATES: RangeInclusive<f64> = 0.001..=1_000_000.0;
const BURSTS: RangeInclusive<u32> = 1..=1_000_000;
const SIZES: RangeInclusive<u32> = 0..=1_000_000;
const WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(86_400);

/// Reads the parts; what cannot be used is a problem and counts as absent.
pub(super) fn read(section: &Inbound, problems: &mut Vec<ConfigProblem>) -> InboundLimits {
    let queue = section.queue.as_ref();
    let size = queue.and_then(|queue| queue.size);
    let size = size.and_then(|size| count("queue.size", size, &SIZES, problems));
    let wait = queue.and_then(|queue| queue.max_wait.as_deref());
    let wait = wait.filter(|wait| !wait.is_empty());
    let rate = section.rate_limit.as_ref();
    InboundLimits {
        rate_limit: rate.and_then(|rate| rate_limit(rate, problems)),
        queue_size: size.unwrap_or(DEFAULT_QUEUE_SIZE),
        max_wait: wait.and_then(|wait| max_wait(wait, problems)),
        deadline_header: section.deadline_header.unwrap_or(false),
    }
}

fn rate_limit(rate: &InboundRate, problems: &mut Vec<ConfigProblem>) -> Option<RateLimit> {
    const KEY: &str = "rateLimit.requestsPerSecond";
    let burst = rate.burst;
    let burst = burst.and_then(|burst| count("rateLimit.burst", burst, &BURSTS, problems));
    let Some(requests_per_second) = rate.requests_per_second else {
        problems.push(problem(KEY, "is missing"));
        return None;
    };
    if !RATES.contains(&requests_per_second) {
        let (low, high) = (RATES.start(), RATES.end());
        problems.push(problem(KEY, &format!("must be between {low} and {high}")));
        return None;
    }
    let burst = burst.and_then(NonZeroU32::new);
    Some(RateLimit {
        requests_per_second,
        burst: burst.unwrap_or_else(|| RateLimit::usual_burst(requests_per_second)),
    })
}

fn max_wait(text: &str, problems: &mut Vec<ConfigProblem>) -> Option<Duration> {
    const KEY: &str = "queue.maxWait";
    let span = match text.parse::<GoDuration>() {
        Ok(span) => span.to_std(),
        Err(error) => {
            problems.push(problem(KEY, &format!("{error}: write 500ms, 5s or 1m30s")));
            return None;
        }
    };
    let span = span.filter(|span| WAITS.contains(span));
    if span.is_none() {
        let (low, high) = (
            GoDuration::from(*WAITS.start()),
            GoDuration::from(*WAITS.end()),
        );
        problems.push(problem(KEY, &format!("must be between {low} and {high}")));
    }
    span
}

fn count(
    key: &'static str,
    number: i64,
    bounds: &RangeInclusive<u32>,
    problems: &mut Vec<ConfigProblem>,
) -> Option<u32> {
    let number = u32::try_from(number).ok();
    let number = number.filter(|number| bounds.contains(number));
    if number.is_none() {
        let (low, high) = (bounds.start(), bounds.end());
        problems.push(problem(key, &format!("must be between {low} and {high}")));
    }
    number
}

fn problem(key: &'static str, flaw: &str) -> ConfigProblem {
    let flaw = flaw.into();
    ConfigProblem::Inbound { key, flaw }
}
