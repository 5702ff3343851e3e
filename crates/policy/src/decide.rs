//! The decision: a policy set, a caller, an operation, an answer with its reason.
//!
//! Owns the combination of several objects (security 4.5), the rules by which doubt becomes a denial (4.6) and
//! the readings of a path (3.17). A set is compiled as a whole and replaced as a whole.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ironside_identity::SpiffeId;

use crate::{
    Verb, VerbSet,
    compile::Compiled,
    engine::reading,
    object::{Paths, Question},
};

mod combine;
mod verdict;

pub use verdict::{Decision, Matched, Reason, Source, Verdict};

pub(crate) use combine::Fixed;

/// What a peer wants to do, as policy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation<'a> {
    /// The cleaned method: take it from a [`crate::Method`].
    pub method: &'a str,
    /// The verb; [`Verb::None`] for proxied gRPC.
    pub verb: Verb,
    /// How the call came.
    pub form: Form,
    /// Verbs that the app may take it for, by [`crate::OVERRIDE_HEADERS`].
    pub overrides: VerbSet,
}

/// How a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As an invocation.
    Invoke,
    /// As a gRPC call that is passed on unparsed.
    Proxied,
}

/// Who calls. A malformed identity never gets here: its handshake is refused.
#[derive(Debug, Clone, Copy)]
pub enum Caller<'a> {
    /// A peer that proved who it is.
    Peer(&'a SpiffeId),
    /// A peer without identity: mutual TLS is off.
    Anonymous,
    /// The own app, through the own sidecar.
    Own,
}

/// A rule, an entry or an object of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId {
    pub(crate) object: u32,
    pub(crate) entry: Option<u32>,
    pub(crate) operation: Option<u32>,
}

/// Everything that is known of who may call what at one app.
#[derive(Debug, Default)]
pub struct PolicySet {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    /// No policy is configured: the reference's default is to allow.
    #[default]
    Unconfigured,
    /// The first policy has not arrived (fact F1).
    Pending,
    /// Rules.
    Compiled(Box<Compiled>),
    /// Rules that nobody vouches for any more (fact F5).
    Expired(Box<Compiled>),
}

/// Services that are refused through the proxy: their handlers are reached by other ways only (fact O-A6).
const RESERVED: [&str; 3] = [
    "dapr.proto.runtime.v1.",
    "dapr.proto.internals.v1.",
    "grpc.reflection.",
];

// === impl Operation ===

impl<'a> Operation<'a> {
    /// An invocation.
    #[must_use]
    pub fn invoke(method: &'a str, verb: Verb) -> Self {
        Self {
            method,
            verb,
            form: Form::Invoke,
            overrides: VerbSet::NONE,
        }
    }

    /// A proxied gRPC call; `method` is the full one.
    #[must_use]
    pub fn proxied(method: &'a str) -> Self {
        Self {
            method,
            verb: Verb::None,
            form: Form::Proxied,
            overrides: VerbSet::NONE,
        }
    }

    fn is_reserved(method: &str) -> bool {
        let method = method.strip_prefix('/').unwrap_or(method);
        RESERVED.iter().any(|service| method.starts_with(service))
    }
}

// === impl PolicySet ===

impl PolicySet {
    /// The set of an app that waits for its first policy: peers are refused until then (fact F1).
    #[must_use]
    pub fn pending() -> Self {
        Self {
            state: State::Pending,
        }
    }

    pub(crate) fn compiled(compiled: Compiled) -> Self {
        Self {
            state: State::Compiled(Box::new(compiled)),
        }
    }

    /// Returns the same rules, denying all peers if objects apply: they are too old to trust (fact F5).
    #[must_use]
    pub fn expired(self) -> Self {
        let state = match self.state {
            State::Compiled(compiled) | State::Expired(compiled) => State::Expired(compiled),
            state @ (State::Unconfigured | State::Pending) => state,
        };
        Self { state }
    }

    /// Returns whether the set still waits for its first policy.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        matches!(self.state, State::Pending)
    }

    pub(crate) fn rules(&self) -> Option<&Compiled> {
        match &self.state {
            State::Compiled(compiled) | State::Expired(compiled) => Some(compiled),
            State::Unconfigured | State::Pending => None,
        }
    }

    /// Decides.
    ///
    /// Allocates nothing, but for buffers of the thread that grow to the longest paths that can be read in several
    /// ways. A defect in here denies (fact F12).
    #[must_use]
    pub fn decide(&self, caller: Caller<'_>, operation: &Operation<'_>) -> Decision {
        guarded(|| self.evaluate(caller, operation))
    }

    fn evaluate(&self, caller: Caller<'_>, operation: &Operation<'_>) -> Decision {
        if operation.form == Form::Proxied && Operation::is_reserved(operation.method) {
            return Decision::deny(Reason::ReservedService);
        }
        let is_own = matches!(caller, Caller::Own);
        match &self.state {
            State::Unconfigured => Decision::allow(Reason::NoPolicy),
            State::Pending if is_own => Decision::allow(Reason::NoPolicy),
            State::Pending => Decision::deny(Reason::PolicyUnavailable),
            State::Expired(compiled) if !is_own && compiled.has_objects() => {
                Decision::deny(Reason::PolicyUnavailable)
            }
            State::Compiled(compiled) | State::Expired(compiled) => {
                judge(compiled, caller, operation)
            }
        }
    }
}

/// Turns a panic into a denial.
fn guarded(evaluate: impl FnOnce() -> Decision) -> Decision {
    catch_unwind(AssertUnwindSafe(evaluate))
        .unwrap_or_else(|_panic| Decision::deny(Reason::InternalError))
}

fn judge(compiled: &Compiled, caller: Caller<'_>, operation: &Operation<'_>) -> Decision {
    let view = match compiled.view(caller) {
        combine::View::Settled(decision) => return decision,
        combine::View::Open(view) => view,
    };
    let ask = |paths: Paths<'_>| {
        let question = |verb| Question {
            app: compiled.app,
            form: operation.form,
            verb,
            paths,
        };
        let first = view.decide(question(operation.verb));
        let others = operation
            .overrides
            .iter()
            .filter(|verb| *verb != operation.verb);
        others.fold(first, |decision, verb| {
            decision.and(view.decide(question(verb)))
        })
    };
    let path = operation.method;
    let first = ask(Paths {
        specific: path,
        compatible: path,
    });
    if path.is_ascii() && reading::is_plain(path) {
        return first;
    }
    let is_audited = first.audit.is_some();
    let doubt = if view.is_ruled() {
        Verdict::Deny(Matched::of(Reason::AmbiguousPath))
    } else {
        Verdict::Allow(Matched::of(Reason::NoPolicy))
    };
    first.and(other_readings(compiled, operation, doubt, is_audited, ask))
}

thread_local! {
    /// Kept between calls, so that a warm thread allocates nothing.
    static LOWERED: Cell<String> = const { Cell::new(String::new()) };
}

/// The strictest answer to the other readings of a path; `doubt` if they cannot be told.
fn other_readings(
    compiled: &Compiled,
    operation: &Operation<'_>,
    doubt: Verdict,
    is_audited: bool,
    ask: impl Fn(Paths<'_>) -> Decision,
) -> Decision {
    let mut strictest = Decision::allow(Reason::NoPolicy).under_audit(is_audited);
    let is_folded = compiled.is_folded(operation.form);
    let mut lowered = LOWERED.take();
    let read = reading::each(operation.method, |text| {
        if operation.form == Form::Proxied && Operation::is_reserved(text) {
            let reserved = Decision::deny(Reason::ReservedService);
            strictest = strictest.and(reserved.under_audit(is_audited));
        }
        let paths = Paths {
            specific: text,
            compatible: text,
        };
        strictest = strictest.and(ask(paths).ambiguous());
        if is_folded && !text.is_ascii() {
            lowered.clear();
            reading::lower(text, &mut lowered);
            let paths = Paths {
                compatible: &lowered,
                ..paths
            };
            strictest = strictest.and(ask(paths).ambiguous());
        }
        true
    });
    LOWERED.set(lowered);
    match read {
        Ok(()) => strictest,
        // Where no rule applies there is nothing to get around (fact O-A3); an audit is told all the same.
        Err(reading::Unreadable) => Decision {
            verdict: doubt,
            ..Decision::deny(Reason::AmbiguousPath).under_audit(is_audited)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: F12.
    #[test]
    fn a_panic_denies() {
        let decision = guarded(|| panic!("a defect"));
        assert_eq!(decision, Decision::deny(Reason::InternalError));
    }

    /// Fact: F1.
    #[test]
    fn nothing_but_the_own_app_passes_before_the_first_policy() {
        let set = PolicySet::pending();
        let operation = Operation::invoke("a", Verb::Get);
        let decision = set.decide(Caller::Anonymous, &operation);
        assert_eq!(decision, Decision::deny(Reason::PolicyUnavailable));
        assert!(set.decide(Caller::Own, &operation).is_allowed());
    }
}
