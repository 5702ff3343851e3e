//! One stream: what may be said on it, and when something is due.
//!
//! Pure: messages and instants in, steps out; sockets and timers are `server`'s. Who the client is came with the
//! connection and is no part of any message (facts K206, K207). A client that talks too much, says nothing or
//! says it in the wrong order is refused with a status of its own.

use std::{collections::HashMap, time::Duration};

use ironside_proto::discovery::{
    Ack, Hello, Stats, WatchRequest, WatchResponse, watch_request::Request,
};
use tonic::Status;

use crate::{
    MAX_INSTANCE, PROTOCOL,
    world::{App, Indexed, View},
};

/// Requests at once.
const BURST: u32 = 64;
/// Time in which one more request is earned; a sidecar sends an Ack for each snapshot and a Stats a minute.
const EARN: Duration = Duration::from_millis(50);
/// Least time between two Stats; the protocol says a minute, and clocks differ.
const STATS_GAP: Duration = Duration::from_secs(55);

/// How a stream is paced.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Changes within so long are one.
    pub coalesce: Duration,
    /// Time between two heartbeats.
    pub heartbeat: Duration,
}

/// One stream after its Hello.
#[derive(Debug)]
pub struct Session {
    pace: Pace,
    seen: HashMap<String, i64>,
    begun: Duration,
    /// What the client had seen when it began cannot be newer than the world.
    is_confirmed: bool,
    /// Number of the last snapshot.
    number: u64,
    sent: Option<View>,
    /// When what changed must be looked at.
    due: Option<Duration>,
    beat_at: Duration,
    budget: Budget,
    stats_at: Option<Duration>,
}

/// What a client said after its Hello.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// An answer to a snapshot.
    Ack(Ack),
    /// Counts.
    Stats(Stats),
    /// Something that is not to be used.
    Nothing,
}

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look at the world, and send what is new.
    Look,
    /// Send a heartbeat.
    Beat,
    /// Nothing before this instant.
    Wait(Duration),
}

/// What a look at the world brings.
#[derive(Debug)]
pub enum Look {
    /// A snapshot to send.
    Send(WatchResponse),
    /// Nothing new.
    Same,
    /// This server knows less than the client does.
    Behind,
}

/// Requests that a client may still send.
#[derive(Debug)]
struct Budget {
    left: u32,
    earned_at: Duration,
}

// === impl Session ===

impl Session {
    /// Begins with the first request of a stream.
    ///
    /// # Errors
    /// A status for whoever does not begin with a Hello of this protocol.
    pub fn begin(first: WatchRequest, pace: Pace, now: Duration) -> Result<(Self, String), Status> {
        let Some(Request::Hello(hello)) = first.request else {
            return Err(Status::invalid_argument(
                "the first request must be a hello",
            ));
        };
        let Hello {
            protocol,
            instance,
            seen,
        } = hello;
        if protocol != PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "protocol {protocol} is not offered, only {PROTOCOL}"
            )));
        }
        let is_odd = instance.is_empty()
            || instance.len() > MAX_INSTANCE
            || instance.contains(char::is_control);
        if is_odd {
            return Err(Status::invalid_argument(format!(
                "instance must have 1 to {MAX_INSTANCE} printable bytes"
            )));
        }
        let session = Self {
            pace,
            seen,
            begun: now,
            is_confirmed: false,
            number: 0,
            sent: None,
            due: Some(now),
            beat_at: now + pace.heartbeat,
            budget: Budget {
                left: BURST,
                earned_at: now,
            },
            stats_at: None,
        };
        Ok((session, instance))
    }

    /// Takes a later request.
    ///
    /// # Errors
    /// A status that ends the stream.
    pub fn hear(&mut self, request: WatchRequest, now: Duration) -> Result<Heard, Status> {
        if !self.budget.spend(now) {
            return Err(Status::resource_exhausted(
                "too many requests on one stream",
            ));
        }
        match request.request {
            Some(Request::Hello(_)) => Err(Status::invalid_argument("a second hello")),
            Some(Request::Ack(ack)) if ack.snapshot == 0 || ack.snapshot > self.number => Err(
                Status::invalid_argument("an ack of a snapshot that was not sent"),
            ),
            Some(Request::Ack(ack)) => Ok(Heard::Ack(ack)),
            Some(Request::Stats(stats)) => Ok(self.stats(stats, now)),
            // Of a later version.
            None => Ok(Heard::Nothing),
        }
    }

    fn stats(&mut self, stats: Stats, now: Duration) -> Heard {
        let is_early = self.stats_at.is_some_and(|at| now < at + STATS_GAP);
        if is_early {
            return Heard::Nothing;
        }
        self.stats_at = Some(now);
        Heard::Stats(stats)
    }

    /// The world changed.
    pub fn changed(&mut self, now: Duration) {
        self.due.get_or_insert(now + self.pace.coalesce);
    }

    /// What is to be done at `now`.
    #[must_use]
    pub fn step(&self, now: Duration) -> Step {
        match self.due {
            Some(due) if due <= now => Step::Look,
            _ if self.beat_at <= now => Step::Beat,
            due => Step::Wait(due.map_or(self.beat_at, |due| due.min(self.beat_at))),
        }
    }

    /// When the stream began.
    #[must_use]
    pub fn begun(&self) -> Duration {
        self.begun
    }

    /// True while nobody knows whether objects that the client has seen are gone, or not here yet (fact K208): the
    /// world lacks them, and holds what the source held at `confirmed` only, before the stream began. Nothing may be
    /// taken from the client then.
    pub fn doubts(&mut self, world: &Indexed, app: &App, confirmed: Option<Duration>) -> bool {
        // A UID never comes back, and worlds do not grow older: once is enough.
        self.is_confirmed = self.is_confirmed
            || confirmed.is_some_and(|at| at >= self.begun)
            || world.has_all(app, &self.seen);
        !self.is_confirmed
    }

    /// Makes a response of what the client's app sees, if it is anything new.
    #[must_use]
    pub fn look(&mut self, view: View, now: Duration) -> Look {
        self.due = None;
        if view.is_behind(&self.seen) {
            return Look::Behind;
        }
        if self.is_confirmed {
            // Worlds do not grow older: it was asked for the last time.
            self.seen = HashMap::new();
        }
        if self.sent.as_ref().is_some_and(|sent| sent.is_same(&view)) {
            return Look::Same;
        }
        self.number = view.revision.max(self.number + 1);
        self.beat_at = now + self.pace.heartbeat;
        let objects = view.objects.iter();
        let response = WatchResponse {
            snapshot: self.number,
            synced: view.synced,
            objects: objects.map(|known| known.object.json.clone()).collect(),
            sent_at: None,
            default_action: if view.deny_by_default { "deny" } else { "" }.to_owned(),
        };
        self.sent = Some(view);
        Look::Send(response)
    }

    /// There is nothing that could be sent now.
    pub fn skip(&mut self) {
        self.due = None;
    }

    /// A heartbeat.
    #[must_use]
    pub fn beat(&mut self, now: Duration) -> WatchResponse {
        self.beat_at = now + self.pace.heartbeat;
        WatchResponse::default()
    }

    /// Number of the last snapshot, and what it held.
    #[must_use]
    pub fn last(&self) -> Option<(u64, &View)> {
        Some((self.number, self.sent.as_ref()?))
    }
}

// === impl Budget ===

impl Budget {
    fn spend(&mut self, now: Duration) -> bool {
        let steps = now.saturating_sub(self.earned_at).as_nanos() / EARN.as_nanos();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        if steps > 0 {
            self.left = self.left.saturating_add(steps).min(BURST);
            self.earned_at = now;
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or_default();
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::{app, object, world};
    use tonic::Code;

    const PACE: Pace = Pace {
        coalesce: Duration::from_millis(100),
        heartbeat: Duration::from_secs(10),
    };
    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn hello(protocol: u32, instance: &str) -> WatchRequest {
        let hello = Hello {
            protocol,
            instance: instance.to_owned(),
            seen: HashMap::new(),
        };
        WatchRequest {
            request: Some(Request::Hello(hello)),
        }
    }

    fn ack(snapshot: u64) -> WatchRequest {
        let ack = Ack {
            snapshot,
            accepted: true,
            errors: Vec::new(),
        };
        WatchRequest {
            request: Some(Request::Ack(ack)),
        }
    }

    fn stats() -> WatchRequest {
        WatchRequest {
            request: Some(Request::Stats(Stats::default())),
        }
    }

    fn session() -> Session {
        Session::begin(hello(1, "pod-1"), PACE, MS(0)).unwrap().0
    }

    fn view(generation: i64) -> View {
        let world = world(&[object("a", "u", generation, &[])]);
        Indexed::new(world, &Indexed::default(), MS(0)).view(&app("a", "x"))
    }

    fn sent(look: Look) -> WatchResponse {
        match look {
            Look::Send(response) => response,
            Look::Same | Look::Behind => panic!("nothing to send"),
        }
    }

    /// Fact K206: there is nothing in a Hello by which somebody could be somebody else.
    #[test]
    fn a_stream_begins_with_a_hello_of_this_protocol() {
        let long = "x".repeat(MAX_INSTANCE + 1);
        for (first, code) in [
            (hello(1, "pod"), None),
            (hello(2, "pod"), Some(Code::FailedPrecondition)),
            (hello(0, "pod"), Some(Code::FailedPrecondition)),
            (hello(1, ""), Some(Code::InvalidArgument)),
            (hello(1, &long), Some(Code::InvalidArgument)),
            (hello(1, "a\u{1b}[2J"), Some(Code::InvalidArgument)),
            (ack(1), Some(Code::InvalidArgument)),
            (WatchRequest::default(), Some(Code::InvalidArgument)),
        ] {
            let text = format!("{first:?}");
            let found = Session::begin(first, PACE, MS(0)).err();
            assert_eq!(found.map(|status| status.code()), code, "{text}");
        }
    }

    #[test]
    fn snapshots_count_up_and_come_once() {
        let mut session = session();
        assert_eq!(session.step(MS(0)), Step::Look);
        let first = sent(session.look(view(1), MS(0)));
        assert_eq!(
            (first.snapshot, first.objects.len(), first.synced),
            (1, 1, true)
        );
        assert_eq!(session.step(MS(1)), Step::Wait(MS(10_000)));
        session.changed(MS(500));
        session.changed(MS(550));
        assert_eq!(
            session.step(MS(599)),
            Step::Wait(MS(600)),
            "100 ms after the first"
        );
        assert_eq!(session.step(MS(600)), Step::Look);
        assert!(matches!(session.look(view(1), MS(600)), Look::Same));
        session.changed(MS(700));
        assert_eq!(sent(session.look(view(2), MS(800))).snapshot, 2);
        assert_eq!(session.step(MS(10_799)), Step::Wait(MS(10_800)));
        assert_eq!(session.step(MS(10_800)), Step::Beat);
        assert_eq!(session.beat(MS(10_800)), WatchResponse::default());
        assert_eq!(session.step(MS(10_800)), Step::Wait(MS(20_800)));
    }

    #[test]
    fn a_change_of_the_default_or_of_completeness_is_sent() {
        let mut session = session();
        sent(session.look(view(1), MS(0)));
        let denies = View {
            deny_by_default: true,
            ..view(1)
        };
        assert_eq!(sent(session.look(denies, MS(1))).default_action, "deny");
        let partial = View {
            synced: false,
            ..view(1)
        };
        assert!(!sent(session.look(partial, MS(2))).synced);
    }

    /// Fact K208, the server's side of it.
    #[test]
    fn a_server_that_lags_says_so_and_sends_nothing() {
        let mut first = hello(1, "pod");
        if let Some(Request::Hello(hello)) = &mut first.request {
            hello.seen.insert("u".to_owned(), 7);
        }
        let (mut session, _) = Session::begin(first, PACE, MS(0)).unwrap();
        assert!(matches!(session.look(view(6), MS(0)), Look::Behind));
        assert!(matches!(session.look(view(7), MS(0)), Look::Send(_)));
    }

    /// Fact K208: what the client knows and the world lacks is gone only if the world is known to be the newer one.
    #[test]
    fn an_object_is_missed_until_a_later_read_confirms_that_it_is_gone() {
        let begin = |seen: &[(&str, i64)]| {
            let mut first = hello(1, "pod");
            if let Some(Request::Hello(hello)) = &mut first.request {
                let seen = seen.iter().map(|(uid, seen)| ((*uid).to_owned(), *seen));
                hello.seen = seen.collect();
            }
            Session::begin(first, PACE, MS(10)).unwrap().0
        };
        let objects = [object("a", "u", 3, &[]), object("a", "other", 3, &["y"])];
        let world = Indexed::new(world(&objects), &Indexed::default(), MS(0));
        for (seen, doubts) in [
            (&[][..], false),
            (&[("u", 3)], false),
            (&[("u", 3), ("new", 1)], true),
            // No longer for this app, or not yet.
            (&[("other", 3)], false),
            (&[("other", 4)], true),
        ] {
            let found = begin(seen).doubts(&world, &app("a", "x"), Some(MS(9)));
            assert_eq!(found, doubts, "{seen:?}");
        }
        let elsewhere = app("b", "x");
        assert!(
            begin(&[("u", 3)]).doubts(&world, &elsewhere, None),
            "of another namespace"
        );
        let mut session = begin(&[("new", 1)]);
        assert!(session.doubts(&world, &elsewhere, None));
        assert!(!session.doubts(&world, &elsewhere, Some(MS(10))));
        assert!(
            !session.doubts(&Indexed::default(), &elsewhere, None),
            "for good"
        );
    }

    #[test]
    fn numbers_follow_the_source_and_always_grow() {
        let mut session = session();
        for (generation, revision, number) in [(1, 0, 1), (2, 700, 700), (3, 700, 701), (4, 0, 702)]
        {
            let view = View {
                revision,
                ..view(generation)
            };
            let response = sent(session.look(view, MS(0)));
            assert_eq!(response.snapshot, number, "{generation}");
        }
    }

    #[test]
    fn what_the_client_has_seen_is_forgotten_once_it_is_confirmed() {
        let mut first = hello(1, "pod");
        if let Some(Request::Hello(hello)) = &mut first.request {
            hello.seen.insert("u".to_owned(), 1);
        }
        let (mut session, _) = Session::begin(first, PACE, MS(5)).unwrap();
        assert!(session.doubts(&Indexed::default(), &app("a", "x"), None));
        sent(session.look(View::default(), MS(5)));
        assert_eq!(session.seen.len(), 1);
        assert!(!session.doubts(&Indexed::default(), &app("a", "x"), Some(MS(5))));
        sent(session.look(view(1), MS(6)));
        assert!(session.seen.is_empty());
    }

    #[test]
    fn requests_out_of_order_end_the_stream() {
        for (request, code) in [
            (hello(1, "pod"), Code::InvalidArgument),
            (ack(0), Code::InvalidArgument),
            (ack(2), Code::InvalidArgument),
        ] {
            let mut session = session();
            sent(session.look(view(1), MS(0)));
            let text = format!("{request:?}");
            assert_eq!(
                session.hear(request, MS(1)).unwrap_err().code(),
                code,
                "{text}"
            );
        }
        let mut session = session();
        sent(session.look(view(1), MS(0)));
        assert!(matches!(session.hear(ack(1), MS(1)), Ok(Heard::Ack(_))));
        let unknown = WatchRequest::default();
        assert_eq!(session.hear(unknown, MS(1)).unwrap(), Heard::Nothing);
    }

    #[test]
    fn who_talks_too_much_is_cut_off() {
        let mut session = session();
        sent(session.look(view(1), MS(0)));
        for _ in 0..BURST {
            session.hear(ack(1), MS(0)).unwrap();
        }
        let refused = session.hear(ack(1), MS(0)).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(session.hear(ack(1), MS(50)).is_ok(), "one more is earned");
    }

    #[test]
    fn counts_come_once_a_minute() {
        let mut session = session();
        for (at, heard) in [(0, true), (30_000, false), (56_000, true), (57_000, false)] {
            let found = session.hear(stats(), MS(at)).unwrap();
            assert_eq!(matches!(found, Heard::Stats(_)), heard, "{at}");
        }
    }
}
