//! Whether somebody still vouches for the snapshot in force (fact F5).
//!
//! Pure. A stream vouches for it from the first complete snapshot on that came over it and was taken: heartbeats
//! before that come from a server that knows of no objects at all, and what is refused says nothing of what is held.

use std::time::Duration;

use ironside_chassis::Tick;

/// How old the snapshot is, and whether that is too old.
#[derive(Debug)]
pub(super) struct Vouch {
    limit: Option<Duration>,
    /// A complete snapshot came over this stream.
    is_of_this_stream: bool,
    /// When somebody vouched for it last.
    at: Option<Tick>,
    is_expired: bool,
}

// === impl Vouch ===

impl Vouch {
    /// Nothing came; without a `limit` nothing is ever too old.
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            is_of_this_stream: false,
            at: None,
            is_expired: false,
        }
    }

    /// Another stream begins, perhaps to another server.
    pub(super) fn opened(&mut self) {
        self.is_of_this_stream = false;
    }

    /// A complete snapshot was taken.
    pub(super) fn taken(&mut self, now: Tick) {
        (self.is_of_this_stream, self.is_expired) = (true, false);
        self.at = Some(now);
    }

    /// A heartbeat; true if the snapshot is in force again.
    pub(super) fn heartbeat(&mut self, now: Tick) -> bool {
        if !self.is_of_this_stream {
            return false;
        }
        self.at = Some(now);
        std::mem::take(&mut self.is_expired)
    }

    /// True if the snapshot is too old from now on.
    pub(super) fn expires(&mut self, now: Tick) -> bool {
        let too_old = |(age, limit)| age > limit;
        let expires = !self.is_expired && self.age(now).zip(self.limit).is_some_and(too_old);
        self.is_expired |= expires;
        expires
    }

    /// True if the snapshot is out of force for its age.
    pub(super) fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// How long ago somebody vouched for it.
    pub(super) fn age(&self, now: Tick) -> Option<Duration> {
        self.at.map(|at| now - at)
    }
}

#[cfg(test)]
mod tests {
    use ironside_chassis::Clock;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// Fact F5: whoever has never read the objects vouches for none, however much it talks.
    #[test]
    fn only_a_stream_that_brought_the_objects_vouches_for_them() {
        let began = Clock::system().monotonic();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut vouch = Vouch::new(Some(LIMIT));
        assert!(!vouch.heartbeat(at(0)));
        assert!(!vouch.expires(at(1000)), "nothing came yet");
        vouch.taken(at(1000));
        assert!(!vouch.heartbeat(at(1050)));
        assert!(!vouch.expires(at(1110)) && vouch.age(at(1110)) == Some(LIMIT));

        vouch.opened();
        assert!(!vouch.heartbeat(at(1109)));
        assert!(vouch.expires(at(1111)) && vouch.is_expired());
        assert!(!vouch.expires(at(1112)), "it is said once");
        assert!(!vouch.heartbeat(at(1113)) && vouch.is_expired());
        assert!(vouch.age(at(1113)) > Some(LIMIT));

        vouch.taken(at(1120));
        assert!(!vouch.is_expired());
        assert!(vouch.expires(at(1181)));
        assert!(vouch.heartbeat(at(1182)), "the same stream is back");
        assert!(!vouch.is_expired());
    }

    #[test]
    fn without_a_limit_nothing_is_too_old() {
        let began = Clock::system().monotonic();
        let mut vouch = Vouch::new(None);
        vouch.taken(began);
        assert!(!vouch.expires(began + LIMIT * 1_000_000));
    }
}
