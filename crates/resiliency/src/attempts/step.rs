//! The words between a call's attempts and whoever makes them.

use std::time::Duration;

use ironside_resources::resiliency::Verb;

use crate::breaker::Refusal;
use crate::outcome::Path;

/// What is known of a call before it is made.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// How it is made.
    pub path: Path,
    /// Where it goes.
    pub route: Route,
    /// Its HTTP verb, if it has one that policies can name.
    pub verb: Option<Verb>,
    /// Its body.
    pub body: Body,
    /// When its caller stops waiting.
    pub deadline: Option<Duration>,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Another sidecar; the built-in retries are for this hop.
    Peer,
    /// The own app.
    Own,
    /// An HTTPEndpoint or a URL.
    External,
}

/// Whether a request can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Its bytes are kept.
    Kept,
    /// It is a stream that passes once; until it is told to be gone, nothing of it was sent.
    Once,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// Send the request.
    Send {
        /// When to give up on it: tell [`crate::outcome::Failure::Timeout`] then.
        until: Option<Duration>,
        /// How often it was sent with this one.
        number: u32,
    },
    /// Do not send: the limit of the attempt passed while waiting. Tell [`crate::outcome::Failure::Timeout`].
    TimedOut,
    /// Do not send, and never again.
    Refused(Refused),
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The breaker: its text is what the caller sees, even after an answer.
    Breaker(Refusal),
    /// The target's rate is used up for this long: that is what the caller sees, even after an answer.
    Rate(Duration),
    /// The caller's time, or that of all attempts, is over. An earlier answer stands.
    Deadline,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Wait, then ask [`super::Attempts::admit`].
    Wait {
        /// How long.
        pause: Duration,
        /// Who wants it.
        level: Level,
        /// Which retry of that level it is for; the first one is worth a line.
        retry: u32,
    },
    /// No further attempt: the outcome stands.
    Stop(Stop),
}

/// Whose retry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// None: the peer was not reached, and another address is left.
    Address,
    /// That of the hop between sidecars.
    BuiltIn,
    /// That of a policy.
    Policy,
}

/// Why there is no further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It succeeded.
    Success,
    /// Nothing would try it again.
    Final,
    /// The policy does not take this failure up.
    NotMatched,
    /// All retries were made.
    Exhausted {
        /// How many.
        retries: u32,
        /// Whose.
        level: Level,
    },
    /// The target's budget is empty.
    Budget,
    /// The next attempt would be too late.
    Deadline,
    /// A part of a response went on already.
    Committed,
    /// The body cannot be sent again.
    BodyGone,
    /// The callee asked for it.
    Pushback,
}
