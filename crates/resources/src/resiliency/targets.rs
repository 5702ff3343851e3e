//! Reading of `spec.targets`.
//!
//! Actors are checked for what makes the reference refuse the resource, components are accepted as they are:
//! both belong to other building blocks. Bounds: resiliency-observability 6.2.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::policies::{retry_budget, verbs};
use super::reader::{Object, Reader};
use super::{
    AppTarget, Flaw, MAX_BREAKER_CACHE, MethodPattern, MethodTarget, OutlierDetection, PolicyNames,
    RateLimit, Remark, SessionAffinity,
};

/// Most entries of `methods`: each request is compared with all of them.
const MAX_METHODS: usize = 128;
/// Most requests a second that can be asked for.
const MAX_RATE: f64 = 1_000_000.0;
/// Longest limit that can be asked for.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest name of a header.
const MAX_HEADER: usize = 128;

pub(super) fn read(mut targets: Object<'_>, reader: &mut Reader) -> BTreeMap<String, AppTarget> {
    let apps = targets.object("apps", reader);
    let actors = targets.object("actors", reader);
    let _components = targets.object("components", reader);
    targets.close(reader);
    for (name, value) in actors.entries() {
        actor(reader.object(Some(value), actors.at(name)), reader);
    }
    let mut read = BTreeMap::new();
    for (id, value) in apps.entries() {
        let target = app(reader.object(Some(value), apps.at(id)), reader);
        read.insert(id.to_owned(), target);
    }
    read
}

fn actor(mut actor: Object<'_>, reader: &mut Reader) {
    let has_breaker = names(&mut actor, reader).circuit_breaker.is_some();
    let scope = actor.text("circuitBreakerScope", reader);
    let is_scope = scope.is_some_and(|scope| ["type", "id", "both"].contains(&scope.as_ref()));
    if has_breaker && !is_scope {
        reader.problem(actor.at("circuitBreakerScope"), Flaw::ActorScope);
    }
    let _size = cache_size(&mut actor, reader);
}

fn names(object: &mut Object<'_>, reader: &mut Reader) -> PolicyNames {
    PolicyNames {
        timeout: object.name("timeout", reader),
        retry: object.name("retry", reader),
        circuit_breaker: object.name("circuitBreaker", reader),
    }
}

fn app(mut app: Object<'_>, reader: &mut Reader) -> AppTarget {
    let names = names(&mut app, reader);
    let breaker_cache = cache_size(&mut app, reader);
    let limits = Duration::from_millis(1)..=LONGEST;
    let overall_timeout = app.span("overallTimeout", limits.clone(), reader);
    let idle_timeout = app.span("idleTimeout", limits, reader);
    let budget = app.some_object("retryBudget", reader);
    let outliers = app.some_object("outlierDetection", reader);
    let target = AppTarget {
        names,
        breaker_cache,
        overall_timeout,
        idle_timeout,
        retry_budget: budget.map(|budget| retry_budget(budget, reader)),
        outlier_detection: outliers.map(|outliers| outlier_detection(outliers, reader)),
        rate_limit: rate_limit(&mut app, reader),
        session_affinity: session_affinity(&mut app, reader),
        methods: methods(&mut app, reader),
    };
    app.close(reader);
    target
}

fn cache_size(object: &mut Object<'_>, reader: &mut Reader) -> Option<NonZeroU32> {
    const KEY: &str = "circuitBreakerCacheSize";
    let size = object.integer(KEY, reader)?;
    if size < 0 {
        let high = f64::from(MAX_BREAKER_CACHE.get());
        reader.problem(object.at(KEY), Flaw::Number { low: 0.0, high });
    }
    if size > i64::from(MAX_BREAKER_CACHE.get()) {
        let remark = Remark::CacheSize(MAX_BREAKER_CACHE.get());
        reader.note(object.at(KEY), remark);
        return Some(MAX_BREAKER_CACHE);
    }
    u32::try_from(size).ok().and_then(NonZeroU32::new)
}

fn outlier_detection(mut outliers: Object<'_>, reader: &mut Reader) -> OutlierDetection {
    let usual = OutlierDetection::default();
    let failures = outliers.count("consecutiveFailures", 0..=10_000, reader);
    let rate = outliers.number("successRateThreshold", 0.0..=1.0, reader);
    let window = Duration::from_secs(1)..=Duration::from_secs(600);
    let window = outliers.span("window", window, reader);
    let requests = outliers.count("minRequests", 1..=1_000_000, reader);
    let hour = Duration::from_secs(3600);
    let shortest = Duration::from_millis(1);
    let min = outliers.span("minEjection", shortest..=hour, reader);
    let max = outliers.span("maxEjection", shortest..=hour, reader);
    let percent = outliers.count("maxEjectionPercent", 0..=100, reader);
    let percent = percent.and_then(|percent| u8::try_from(percent).ok());
    let min_ejection = min.unwrap_or(usual.min_ejection);
    let max_ejection = max.unwrap_or(usual.max_ejection.max(min_ejection));
    if max_ejection < min_ejection {
        let at = outliers.at("maxEjection");
        reader.problem(at, Flaw::Below("minEjection"));
    }
    outliers.close(reader);
    OutlierDetection {
        consecutive_failures: match failures {
            Some(failures) => NonZeroU32::new(failures),
            None => usual.consecutive_failures,
        },
        success_rate_threshold: rate,
        window: window.unwrap_or(usual.window),
        min_requests: requests.unwrap_or(usual.min_requests),
        min_ejection,
        max_ejection,
        max_ejection_percent: percent.unwrap_or(usual.max_ejection_percent),
    }
}

fn rate_limit(app: &mut Object<'_>, reader: &mut Reader) -> Option<RateLimit> {
    const KEY: &str = "requestsPerSecond";
    let mut limit = app.some_object("rateLimit", reader)?;
    let is_given = limit.get(KEY).is_some();
    let rate = limit.number(KEY, 0.001..=MAX_RATE, reader);
    let burst = limit.count("burst", 1..=1_000_000, reader);
    if !is_given {
        reader.problem(limit.at(KEY), Flaw::Missing);
    }
    limit.close(reader);
    let requests_per_second = rate?;
    Some(RateLimit {
        requests_per_second,
        burst: burst
            .and_then(NonZeroU32::new)
            .unwrap_or_else(|| RateLimit::usual_burst(requests_per_second)),
    })
}

fn session_affinity(app: &mut Object<'_>, reader: &mut Reader) -> Option<SessionAffinity> {
    let mut affinity = app.some_object("sessionAffinity", reader)?;
    let header = affinity.text("header", reader);
    let at = affinity.at("header");
    affinity.close(reader);
    let Some(header) = header else {
        reader.problem(at, Flaw::Missing);
        return None;
    };
    if !is_header_name(&header) {
        reader.problem(at, Flaw::Header(header.into()));
        return None;
    }
    let header = header.to_ascii_lowercase().into();
    Some(SessionAffinity { header })
}

/// A token of RFC 9110, 5.6.2.
fn is_header_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_HEADER).contains(&text.len()) && text.bytes().all(inner)
}

fn methods(app: &mut Object<'_>, reader: &mut Reader) -> Vec<MethodTarget> {
    let at = app.at("methods");
    let list = app.list("methods", reader);
    if list.len() > MAX_METHODS {
        reader.problem(at, Flaw::TooMany(MAX_METHODS));
        return Vec::new();
    }
    let mut read: Vec<(MethodTarget, String)> = Vec::new();
    for (index, value) in list.iter().enumerate() {
        let at = format!("{at}/{index}");
        let Some(target) = method(reader.object(Some(value), at.clone()), reader) else {
            continue;
        };
        let same = |(other, _): &&(MethodTarget, String)| {
            other.path.segments() == target.path.segments() && other.verbs.overlaps(target.verbs)
        };
        // An entry with verbs is the more specific one of the same path.
        let equal = |(other, _): &&(MethodTarget, String)| {
            other.verbs.is_empty() == target.verbs.is_empty()
        };
        if let Some((_, other)) = read.iter().filter(same).find(equal) {
            let flaw = Flaw::SameMethod(other.as_str().into());
            reader.problem(at.as_str(), flaw);
        }
        read.push((target, at));
    }
    read.into_iter().map(|(target, _)| target).collect()
}

fn method(mut method: Object<'_>, reader: &mut Reader) -> Option<MethodTarget> {
    let path = method.text("path", reader);
    let at = method.at("path");
    let verbs = verbs(&mut method, "verbs", reader);
    let names = names(&mut method, reader);
    method.close(reader);
    let Some(path) = path else {
        reader.problem(at, Flaw::Missing);
        return None;
    };
    let path = MethodPattern::parse(&path);
    let path = path.map_err(|flaw| reader.problem(at, Flaw::Pattern(flaw)));
    Some(MethodTarget {
        path: path.ok()?,
        verbs,
        names,
    })
}

// === impl RateLimit ===

impl RateLimit {
    /// As many at once as come in a second, at least one.
    pub(crate) fn usual_burst(requests_per_second: f64) -> NonZeroU32 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the rate is between zero and MAX_RATE"
        )]
        let burst = requests_per_second.ceil() as u32;
        NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)
    }
}
