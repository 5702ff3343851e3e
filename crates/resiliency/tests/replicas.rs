//! Attempts and the choice of an address together, over replicas that are slow, failing or gone.
//!
//! A simulation with a clock of its own: calls begin at a fixed rate, each attempt takes what its replica takes.

#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ironside_resiliency::attempts::{Attempts, Body, Call, Go, Route, Step, Stop};
use ironside_resiliency::balance::{Balancer, Tried};
use ironside_resiliency::outcome::{End, Failure, Outcome, Path};
use ironside_resiliency::{Id, Table, Target};
use ironside_resources::resiliency::Verb;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

const POST: Call = Call {
    path: Path::Http,
    route: Route::Peer,
    verb: Some(Verb::Post),
    body: Body::Kept,
    deadline: None,
};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn target() -> Arc<Target> {
    let id = Id::App {
        written: "b",
        app: "b",
        namespace: "own",
    };
    Table::default().target(id)
}

/// What came of many calls.
#[derive(Debug, Default)]
struct Tally {
    successes: u32,
    slowest: Duration,
    /// Attempts by replica.
    sent: BTreeMap<char, u32>,
    most_sent: u32,
}

/// Makes calls one after the other, one every 10 ms at least; `answer` says what a replica does at a time.
fn simulate(
    replicas: &str,
    calls: u64,
    answer: impl Fn(char, Duration) -> (Duration, Outcome),
) -> Tally {
    let (target, mut rng) = (target(), SmallRng::seed_from_u64(11));
    let mut balancer = Balancer::new(None);
    balancer.update(replicas.chars());
    let (mut tally, mut now) = (Tally::default(), Duration::ZERO);
    for call in 0..calls {
        now = now.max(ms(call * 10));
        let (begun, mut tried) = (now, Tried::default());
        let mut attempts = Attempts::begin(target.clone(), "m", POST, now);
        loop {
            if let Go::Refused(_) = attempts.admit(now) {
                break;
            }
            let (mut ticket, replica) = balancer.pick(now, &tried, None, &mut rng).unwrap();
            *tally.sent.entry(*replica).or_default() += 1;
            tried.add(&ticket);
            let (takes, mut outcome) = answer(*replica, now);
            now += takes;
            balancer.respond(now, &mut ticket, outcome, &mut rng);
            balancer.release(now, ticket);
            outcome.elsewhere = balancer.has_other(now, &tried);
            match attempts.next(now, outcome, &mut rng) {
                Step::Wait { pause, .. } => now += pause,
                Step::Stop(stop) => {
                    tally.successes += u32::from(stop == Stop::Success);
                    break;
                }
            }
        }
        tally.slowest = tally.slowest.max(now - begun);
        tally.most_sent = tally.most_sent.max(attempts.sent());
    }
    tally
}

fn ok(takes: u64) -> (Duration, Outcome) {
    (ms(takes), End::Http(200).into())
}

fn down() -> (Duration, Outcome) {
    (ms(1), Failure::Unreachable.into())
}

///
#[test]
fn one_of_two_replicas_is_dead_and_no_call_notices() {
    let tally = simulate(
        "ab",
        100,
        |replica, _| if replica == 'a' { down() } else { ok(5) },
    );
    assert_eq!(tally.successes, 100, "{tally:?}");
    assert!(
        tally.slowest < ms(1000) && tally.most_sent <= 2,
        "{tally:?}"
    );
    assert!(tally.sent[&'a'] <= 15, "{tally:?}");
}

#[test]
fn nine_of_ten_replicas_are_dead_and_calls_get_through() {
    let tally = simulate("abcdefghij", 200, |replica, _| {
        if replica == 'e' { ok(5) } else { down() }
    });
    // Addresses are left out up to a half, and a call goes on to seven others at once; the pause does the rest.
    assert_eq!(tally.successes, 200, "{tally:?}");
    assert!(tally.slowest < ms(3100), "{tally:?}");
}

/// R-05 with several replicas: a restart of all costs time, not errors.
#[test]
fn all_replicas_are_gone_for_a_while() {
    let back = ms(1500);
    let tally = simulate("abc", 1, |_, now| if now < back { down() } else { ok(5) });
    assert_eq!(tally.successes, 1, "{tally:?}");
    assert!(
        tally.slowest >= back && tally.slowest < ms(3100),
        "{tally:?}"
    );
}

/// one that fails fast gets less than a third.
#[test]
fn a_replica_that_fails_fast_draws_no_calls() {
    let bad: Outcome = End::Http(503).into();
    let tally = simulate("abc", 3000, |replica, _| {
        if replica == 'c' { (ms(1), bad) } else { ok(5) }
    });
    assert!(tally.sent[&'c'] < 300, "{tally:?}");
}

/// 6.2: one that is ten times slower gets clearly less than a third, and finds its way back when it is well.
#[test]
fn a_slow_replica_is_spared_and_comes_back() {
    let well = ms(60_000);
    let slow_until = |replica, now| {
        if replica == 'c' && now < well {
            ok(50)
        } else {
            ok(5)
        }
    };
    let slow = simulate("abc", 5000, slow_until);
    assert!(slow.sent[&'c'] < 500, "{slow:?}");
    let both = simulate("abc", 20_000, slow_until);
    let later = both.sent[&'c'] - simulate("abc", 6000, slow_until).sent[&'c'];
    // A fair share of 14,000 calls is a third, after the time in which the old average fades.
    assert!(later > 2000, "{later} {both:?}");
}
