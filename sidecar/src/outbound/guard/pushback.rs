//! What a callee says about another attempt: `grpc-retry-pushback-ms` and `Retry-After`.
//!
//! Owns how they are read. Whether a policy heeds them is decided in `ironside_resiliency`. Pure. Source:
//! resiliency-observability 6.2, row "Backoff with jitter; server pushback".

use std::time::{Duration, SystemTime};

use http::header;
use ironside_resiliency::outcome::Pushback;

/// Reads what a callee says; `now` is what a date counts from.
pub(crate) fn pushback(
    headers: &http::HeaderMap,
    trailers: &http::HeaderMap,
    now: SystemTime,
) -> Option<Pushback> {
    let named = |name: &str| {
        let value = trailers.get(name).or_else(|| headers.get(name));
        value?.to_str().ok()
    };
    if let Some(text) = named("grpc-retry-pushback-ms") {
        // Whatever is no time means no retry (gRFC A6).
        let pause = text.parse().map(Duration::from_millis);
        return Some(pause.map_or(Pushback::Never, Pushback::After));
    }
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    retry_after(text, now).map(Pushback::RetryAfter)
}

/// Reads `Retry-After`: seconds, or a date, of which one that is over means no pause (RFC 9110 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let seconds = text.parse().map(Duration::from_secs).ok();
    let until = || httpdate::parse_http_date(text).ok();
    seconds.or_else(|| Some(until()?.duration_since(now).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// resiliency-observability 6.2, row "Backoff with jitter; server pushback".
    #[test]
    fn retry_after_is_seconds_or_a_date() {
        // Sun, 06 Nov 1994 08:49:37 GMT
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (text, pause) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60)),
            ("Sun Nov  6 08:50:37 1994", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("Sun, 06 Nov 1994 25:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:50:37 CET", None),
        ] {
            let pause = pause.map(Duration::from_secs);
            assert_eq!(retry_after(text, now), pause, "{text}");
        }
    }
}
