//! The built-in retry: what every call gets without a policy.
//!
//! Three retries at a constant second, only for a peer that is unavailable or refuses our identity
//! (service-invocation 1.6), and only for a request that cannot have done anything yet, or may be done twice.

use std::time::Duration;

/// Retries after the first attempt. Source: service-invocation 1.6.
pub const BUILT_IN_RETRIES: u32 = 3;
/// Pause before each of them. Source: service-invocation 1.6.
pub const BUILT_IN_PAUSE: Duration = Duration::from_secs(1);

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The peer could not be reached, or its identity or ours was refused; the request never left.
    Unreachable,
    /// The connection broke after the request may have arrived.
    Lost {
        /// A second delivery does no more than the first.
        idempotent: bool,
    },
    /// An answer, or an error that another attempt would meet again.
    Final,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Another attempt after this pause.
    Wait(Duration),
    /// No further attempt; the outcome stands as it is.
    Stop,
    /// No further attempt: this many retries failed like the first attempt.
    Exhausted(u32),
}

/// The attempts of one call.
#[derive(Debug, Clone)]
pub struct Attempts {
    replayable: bool,
    retries: u32,
}

impl Attempts {
    /// The built-in plan; `replayable` says whether the body can be sent again.
    #[must_use]
    pub fn built_in(replayable: bool) -> Self {
        Self {
            replayable,
            retries: 0,
        }
    }

    /// Says that the body can no longer be sent again.
    pub fn body_is_gone(&mut self) {
        self.replayable = false;
    }

    /// The step after an outcome. Never gives more than [`BUILT_IN_RETRIES`] waits.
    pub fn next(&mut self, outcome: Outcome) -> Step {
        let again = match outcome {
            Outcome::Unreachable | Outcome::Lost { idempotent: true } => self.replayable,
            Outcome::Lost { idempotent: false } | Outcome::Final => false,
        };
        match (again, self.retries) {
            (false, _) => Step::Stop,
            (true, BUILT_IN_RETRIES) => Step::Exhausted(BUILT_IN_RETRIES),
            (true, _) => {
                self.retries += 1;
                Step::Wait(BUILT_IN_PAUSE)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(replayable: bool, script: &[(Outcome, Step)]) {
        let mut attempts = Attempts::built_in(replayable);
        for (row, (outcome, step)) in script.iter().enumerate() {
            assert_eq!(attempts.next(*outcome), *step, "row {row}");
        }
    }

    const WAIT: Step = Step::Wait(BUILT_IN_PAUSE);

    #[test]
    fn an_unreachable_peer_is_tried_four_times() {
        check(
            true,
            &[
                (Outcome::Unreachable, WAIT),
                (Outcome::Unreachable, WAIT),
                (Outcome::Unreachable, WAIT),
                (Outcome::Unreachable, Step::Exhausted(3)),
            ],
        );
    }

    #[test]
    fn a_body_that_is_gone_is_not_sent_again() {
        check(false, &[(Outcome::Unreachable, Step::Stop)]);
    }

    #[test]
    fn a_request_that_may_have_arrived_is_repeated_only_if_that_does_no_harm() {
        check(true, &[(Outcome::Lost { idempotent: false }, Step::Stop)]);
        check(
            true,
            &[
                (Outcome::Lost { idempotent: true }, WAIT),
                (Outcome::Final, Step::Stop),
            ],
        );
    }
}
