//! How far is the end of the authority, and who must do something about it?
//!
//! Owns fact O-S11 (warnings below 30 days, health lost below one) and what the warning says: an authority that
//! somebody supplied is theirs to replace, and the log tells how and until when.

use crate::authority::Authority;
use ironside_chassis::health::Target;
use ironside_transport::Utc;
use std::time::{Duration, SystemTime};
use tracing::warn;

/// The logger of the reference.
const SCOPE: &str = "dapr.sentry";
const DAY: Duration = Duration::from_secs(86_400);
/// How often a person is warned.
const PAUSE: Duration = Duration::from_secs(3600);
/// An authority that Sentry rotates is near its end below this share of its life, if that is less than 30 days.
const NEAR_SHARE: u32 = 8;
/// And here below this one, if that is less than a day.
const HERE_SHARE: u32 = 40;

/// Who replaces the authority before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tender {
    /// Whoever put it there.
    User,
    /// Sentry; its authorities live this long.
    Sentry {
        /// See [`crate::rotation::Plan`].
        ca_ttl: Duration,
    },
}

/// Tells people and probes of the end.
pub(crate) struct Herald {
    pub(crate) health: Target,
    /// When a person is told again.
    pub(crate) again: Option<SystemTime>,
}

/// How far the end of the authority is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Far,
    /// A person should act.
    Near,
    /// What is issued now lives shorter than it should.
    Here,
}

// === impl Herald ===

impl Herald {
    /// Looks at an authority in effect.
    pub(crate) fn look(&mut self, authority: &Authority, tender: Tender, now: SystemTime) {
        let ends = authority
            .issuer_not_after()
            .min(authority.anchors_not_after());
        let end = End::of(now, ends, tender);
        match end {
            End::Far | End::Near => self.health.ready(),
            End::Here => self.health.not_ready(),
        }
        if end == End::Far {
            self.again = None;
            return;
        }
        if self.again.is_some_and(|again| now < again) {
            return;
        }
        self.again = Some(now + PAUSE);
        let ends = Utc(ends);
        match tender {
            Tender::User => warn!(
                target: SCOPE,
                "The certificate authority expires on: {ends}. It was supplied, so Sentry does not replace it: before \
                 that, append a new root to the trust anchors file, wait for one workload certificate lifetime, then \
                 put the new issuer certificate and key in the place of the old ones"
            ),
            Tender::Sentry { .. } => warn!(
                target: SCOPE,
                "The certificate authority expires on: {ends}, and its rotation is not over; see the log for what \
                 holds it up"
            ),
        }
    }
}

// === impl End ===

impl End {
    fn of(now: SystemTime, ends: SystemTime, tender: Tender) -> Self {
        let (near, here) = match tender {
            Tender::User => (30 * DAY, DAY),
            Tender::Sentry { ca_ttl } => (
                (30 * DAY).min(ca_ttl / NEAR_SHARE),
                DAY.min(ca_ttl / HERE_SHARE),
            ),
        };
        match ends.duration_since(now).unwrap_or_default() {
            left if left < here => Self::Here,
            left if left < near => Self::Near,
            _ => Self::Far,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironside_chassis::health::Health;
    use ironside_testkit::certs::{Ca, now};

    /// Fact: security.md O-S11: a warning an hour below 30 days, health lost below one.
    #[test]
    fn a_person_is_told_hourly_and_probes_on_the_last_day() {
        let (now, hour) = (now(), DAY / 24);
        let ca = Ca::builder()
            .issuer_valid(now - DAY, now + 20 * DAY)
            .build();
        let texts = [ca.root_pem(), ca.issuer_pem(), ca.issuer_key_pem()];
        let [root, issuer, key] = texts.each_ref().map(String::as_bytes);
        let authority = Authority::from_pem(root, issuer, key, now).unwrap();
        let health = Health::new();
        let mut herald = Herald {
            health: health.register("security-provider"),
            again: None,
        };
        let mut look = |at| {
            herald.look(&authority, Tender::User, at);
            (herald.again, health.is_ready())
        };
        let first = look(now);
        assert_eq!(first, (Some(now + hour), true));
        assert_eq!(look(now + hour / 2), first, "told already");
        assert_eq!(look(now + hour), (Some(now + 2 * hour), true));
        let last = now + 19 * DAY + hour;
        assert_eq!(look(last), (Some(last + hour), false));
    }

    /// Fact: security.md O-S11.
    #[test]
    fn the_end_comes_nearer() {
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let hour = DAY / 24;
        let year = Tender::Sentry { ca_ttl: 365 * DAY };
        for tender in [Tender::User, year] {
            let end = |ends| End::of(now, ends, tender);
            assert_eq!(end(now + 31 * DAY), End::Far);
            assert_eq!(end(now + 30 * DAY - hour), End::Near);
            assert_eq!(end(now + DAY), End::Near);
            assert_eq!(end(now + DAY - hour), End::Here);
            assert_eq!(end(now - DAY), End::Here);
        }
    }

    #[test]
    fn short_lives_of_our_own_are_no_alarm() {
        let now = SystemTime::UNIX_EPOCH + 1000 * DAY;
        let minute = Duration::from_secs(60);
        let end = |left| End::of(now, now + left, Tender::Sentry { ca_ttl: 3 * minute });
        assert_eq!(end(minute), End::Far);
        assert_eq!(end(minute / 4), End::Near);
        assert_eq!(end(minute / 15), End::Here);
    }
}
