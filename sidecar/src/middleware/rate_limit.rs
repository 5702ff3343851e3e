//! `middleware.http.ratelimit`: so many requests a second from one address.
//!
//! Setting `maxRequestsPerSecond` (default 100). One token bucket for each caller: the first address of
//! `X-Forwarded-For`, else `X-Real-IP`, else the connection's, as in the reference. A client writes the first two
//! itself: this is fairness among clients that mean well, no defence. The table is bounded and every request
//! costs the same: buckets untouched for as long as it takes to fill one are full, and forgotten all at once;
//! when there are too many others, new callers share one.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, PoisonError},
};

use http::{HeaderMap, request::Parts};
use ironside_chassis::{Clock, Tick};

use super::{HandlerError, Settings};

/// Requests a second when nothing is set; the reference's default.
const DEFAULT_RATE: f64 = 100.0;
/// New callers in the time that fills a bucket; at most four times as many are remembered, at about 64 bytes.
const MAX_CALLERS: usize = 16_384;
/// Whom callers share a bucket with while the table is full.
const OVERFLOW: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Where a request came from; the HTTP server puts it into the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddress(pub(crate) SocketAddr);

/// A token bucket per caller.
#[derive(Debug)]
pub(crate) struct RateLimit {
    rate: f64,
    burst: f64,
    clock: Clock,
    callers: Mutex<Callers>,
}

/// The buckets, in two generations.
#[derive(Debug, Default)]
struct Callers {
    /// Touched since `turned`.
    current: HashMap<IpAddr, Bucket>,
    /// Touched before, but not longer ago than it takes to fill a bucket.
    previous: HashMap<IpAddr, Bucket>,
    turned: Option<Tick>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Tick,
}

// === impl RateLimit ===

impl RateLimit {
    pub(super) fn build(settings: &Settings, clock: &Clock) -> Result<Self, HandlerError> {
        let rate = settings
            .rate("maxRequestsPerSecond")?
            .unwrap_or(DEFAULT_RATE);
        Ok(Self {
            rate,
            burst: rate.max(1.0),
            clock: clock.clone(),
            callers: Mutex::default(),
        })
    }

    /// True if the caller of this request has a token left.
    pub(super) fn admits(&self, head: &Parts) -> bool {
        self.admit(caller(head), self.clock.monotonic())
    }

    fn admit(&self, caller: IpAddr, now: Tick) -> bool {
        // A bucket is a plain value: valid after any interrupted change.
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        callers.turn(now, self.burst / self.rate);
        let full = Bucket {
            tokens: self.burst,
            at: now,
        };
        let bucket = callers.bucket(caller, full);
        *bucket = self.refilled(*bucket, now);
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }

    fn refilled(&self, bucket: Bucket, now: Tick) -> Bucket {
        let gained = (now - bucket.at).as_secs_f64() * self.rate;
        Bucket {
            tokens: (bucket.tokens + gained).min(self.burst),
            at: now,
        }
    }
}

// === impl Callers ===

impl Callers {
    /// Begins a new generation after `fill` seconds: whatever was not touched in the last one is full.
    fn turn(&mut self, now: Tick, fill: f64) {
        let turned = *self.turned.get_or_insert(now);
        if (now - turned).as_secs_f64() >= fill {
            self.previous = std::mem::take(&mut self.current);
            self.turned = Some(now);
        }
    }

    /// The caller's bucket, or the one that callers share for whom there is no room.
    fn bucket(&mut self, caller: IpAddr, full: Bucket) -> &mut Bucket {
        let known = self.previous.contains_key(&caller);
        let room = if known { 2 * MAX_CALLERS } else { MAX_CALLERS };
        let fits = self.current.len() < room || self.current.contains_key(&caller);
        let key = if fits { caller } else { OVERFLOW };
        let bucket = self.previous.remove(&key).unwrap_or(full);
        self.current.entry(key).or_insert(bucket)
    }
}

/// The address that a request claims, else the one it came from.
fn caller(head: &Parts) -> IpAddr {
    claimed(&head.headers, "x-forwarded-for")
        .or_else(|| claimed(&head.headers, "x-real-ip"))
        .or_else(|| {
            head.extensions
                .get::<ClientAddress>()
                .map(|client| client.0.ip())
        })
        .unwrap_or(OVERFLOW)
}

fn claimed(headers: &HeaderMap, name: &str) -> Option<IpAddr> {
    headers
        .get(name)?
        .to_str()
        .ok()?
        .split(',')
        .next()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(rate: &str) -> RateLimit {
        let settings: Settings = [("maxRequestsPerSecond", rate)].into_iter().collect();
        RateLimit::build(&settings, &Clock::system()).unwrap()
    }

    fn at(ms: u64) -> Tick {
        Tick::at(Duration::from_millis(ms))
    }

    #[test]
    fn a_caller_has_its_burst_and_then_its_rate() {
        let limit = limit("2");
        let (one, two) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert!(limit.admit(one, at(0)) && limit.admit(one, at(0)));
        assert!(!limit.admit(one, at(0)));
        assert!(limit.admit(two, at(0)), "another caller has its own bucket");
        assert!(limit.admit(one, at(500)));
        assert!(!limit.admit(one, at(600)));
        assert!(
            limit.admit(one, at(5000)) && limit.admit(one, at(5000)) && !limit.admit(one, at(5000))
        );
    }

    #[test]
    fn a_rate_below_one_still_admits_one() {
        let limit = limit("0.5");
        let one = "10.0.0.1".parse().unwrap();
        assert!(limit.admit(one, at(0)));
        assert!(!limit.admit(one, at(1000)));
        assert!(limit.admit(one, at(2000)));
    }

    #[test]
    fn a_flood_of_addresses_stays_bounded() {
        let limit = limit("1");
        for n in 0..=u32::try_from(MAX_CALLERS).unwrap() + 10 {
            limit.admit(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)), at(0));
        }
        let tracked = limit.callers.lock().unwrap().current.len();
        assert_eq!(tracked, MAX_CALLERS + 1);
    }

    #[test]
    fn a_generation_forgets_full_buckets_only() {
        let limit = limit("2");
        let one = "10.0.0.1".parse().unwrap();
        for ms in [0, 0, 900] {
            assert!(limit.admit(one, at(ms)));
        }
        // A new generation begins; what is owed is not forgiven.
        assert!(limit.admit(one, at(1040)));
        assert!(!limit.admit(one, at(1041)));
        let other = "10.0.0.2".parse().unwrap();
        for ms in [2100, 3200] {
            assert!(limit.admit(other, at(ms)));
        }
        let callers = limit.callers.lock().unwrap();
        assert!(!callers.current.contains_key(&one) && !callers.previous.contains_key(&one));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["0", "-1", "many", "inf"] {
            let settings: Settings = [("maxrequestspersecond", text)].into_iter().collect();
            assert!(
                RateLimit::build(&settings, &Clock::system()).is_err(),
                "{text}"
            );
        }
    }
}
