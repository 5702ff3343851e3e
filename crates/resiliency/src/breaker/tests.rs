//! Scripts of (time, event) rows: resiliency-observability 1.5, R-40 to R-56.

use ironside_resources::resiliency::Trip;
use proptest::prelude::*;

use super::*;

fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn policy(trip: &str) -> BreakerPolicy {
    BreakerPolicy {
        timeout: at(5000),
        trip: Trip::parse(trip).unwrap(),
        ..BreakerPolicy::default()
    }
}

/// One row: a call that ends at once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Call {
    Ok,
    Fails,
    IsRefused(Refusal),
}

use Call::{Fails, IsRefused, Ok as Succeeds};

const OPEN: Call = IsRefused(Refusal::Open);

#[track_caller]
fn script(policy: &BreakerPolicy, rows: &[(u64, Call, State)]) {
    let mut breaker = Breaker::default();
    for (row, (time, call, state)) in rows.iter().enumerate() {
        let now = at(*time);
        match (breaker.admit(policy, now).0, call) {
            (Ok(permit), Succeeds | Fails) => {
                breaker.record(policy, now, permit, *call == Succeeds);
            }
            (Err(refusal), IsRefused(want)) => assert_eq!(refusal, *want, "row {row}"),
            (verdict, _) => panic!("row {row}: {call:?} got {verdict:?}"),
        }
        assert_eq!(breaker.state(policy, now).0, *state, "row {row}");
    }
}

///
#[test]
fn three_failures_open_it_and_a_probe_closes_it() {
    script(
        &policy("consecutiveFailures >= 3"),
        &[
            (0, Fails, State::Closed),
            (10, Fails, State::Closed),
            (20, Fails, State::Open),
            (30, OPEN, State::Open),
            (5020, OPEN, State::Open),
            (6000, Succeeds, State::Closed),
            (6010, Fails, State::Closed),
            (6020, Fails, State::Closed),
            (6030, Succeeds, State::Closed),
            (6040, Fails, State::Closed),
        ],
    );
}

///
#[test]
fn a_probe_that_fails_opens_it_for_the_full_timeout() {
    script(
        &policy("consecutiveFailures >= 1"),
        &[
            (0, Fails, State::Open),
            (6000, Fails, State::Open),
            (10_999, OPEN, State::Open),
            (11_000, OPEN, State::Open),
            (11_001, Succeeds, State::Closed),
        ],
    );
}

///
#[test]
fn half_open_lets_through_what_it_may_and_no_more() {
    let policy = policy("consecutiveFailures >= 1");
    let mut breaker = Breaker::default();
    let permit = breaker.admit(&policy, at(0)).0.unwrap();
    breaker.record(&policy, at(0), permit, false);
    let (first, change) = breaker.admit(&policy, at(6000));
    let (from, to) = (State::Open, State::HalfOpen);
    assert_eq!(change, Some(Change { from, to }));
    assert_eq!(breaker.admit(&policy, at(6000)).0, Err(Refusal::TooMany));
    let change = breaker.record(&policy, at(6100), first.unwrap(), true);
    let (from, to) = (State::HalfOpen, State::Closed);
    assert_eq!(change, Some(Change { from, to }));
    assert_eq!(Refusal::TooMany.to_string(), "too many requests");
    assert_eq!(Refusal::Open.to_string(), "circuit breaker is open");
}

///
#[test]
fn it_closes_after_as_many_successes_as_probes() {
    let policy = BreakerPolicy {
        max_requests: NonZeroU32::new(3).unwrap(),
        ..policy("consecutiveFailures >= 1")
    };
    script(
        &policy,
        &[
            (0, Fails, State::Open),
            (6000, Succeeds, State::HalfOpen),
            (6001, Succeeds, State::HalfOpen),
            (6002, Succeeds, State::Closed),
        ],
    );
    script(
        &policy,
        &[
            (0, Fails, State::Open),
            (6000, Succeeds, State::HalfOpen),
            (6001, Fails, State::Open),
            (6002, OPEN, State::Open),
        ],
    );
}

///
#[test]
fn without_keys_the_sixth_failure_opens_it_for_a_minute() {
    let mut rows = vec![(0, Fails, State::Closed); 5];
    rows.extend([
        (0, Fails, State::Open),
        (59_999, OPEN, State::Open),
        (60_001, Succeeds, State::Closed),
    ]);
    script(&BreakerPolicy::default(), &rows);
}

///
#[test]
fn counters_start_anew_after_the_interval() {
    let policy = BreakerPolicy {
        interval: Some(at(2000)),
        ..policy("consecutiveFailures >= 3")
    };
    script(
        &policy,
        &[
            (0, Fails, State::Closed),
            (10, Fails, State::Closed),
            (3000, Fails, State::Closed),
            (3010, Fails, State::Closed),
            (3020, Fails, State::Open),
        ],
    );
    script(
        &policy,
        &[
            (0, Fails, State::Closed),
            (1000, Fails, State::Closed),
            (2000, Fails, State::Open),
        ],
    );
}

///
#[test]
fn the_expression_sees_the_counts_with_the_new_failure() {
    script(
        &policy("totalFailures > 2 && requests > 5"),
        &[
            (0, Fails, State::Closed),
            (1, Fails, State::Closed),
            (2, Fails, State::Closed),
            (3, Succeeds, State::Closed),
            (4, Succeeds, State::Closed),
            (5, Fails, State::Open),
        ],
    );
}

///
#[test]
fn an_expression_over_nothing_never_trips() {
    script(&policy("nosuch > 1"), &[(0, Fails, State::Closed); 50]);
}

#[test]
fn results_of_an_earlier_state_are_ignored() {
    let policy = policy("consecutiveFailures >= 1");
    let mut breaker = Breaker::default();
    let late = breaker.admit(&policy, at(0)).0.unwrap();
    let later = breaker.admit(&policy, at(0)).0.unwrap();
    let permit = breaker.admit(&policy, at(0)).0.unwrap();
    breaker.record(&policy, at(1), permit, false);
    assert_eq!(breaker.record(&policy, at(2), late, true), None);
    let probe = breaker.admit(&policy, at(6000)).0.unwrap();
    breaker.record(&policy, at(6001), probe, true);
    assert_eq!(breaker.record(&policy, at(6002), later, false), None);
    assert_eq!(breaker.state(&policy, at(6002)).0, State::Closed);
    assert_eq!(breaker.counts(), Counts::default());
}

#[test]
fn a_call_that_was_not_made_gives_its_place_back() {
    let policy = policy("consecutiveFailures >= 1");
    let mut breaker = Breaker::default();
    let permit = breaker.admit(&policy, at(0)).0.unwrap();
    breaker.record(&policy, at(0), permit, false);
    let probe = breaker.admit(&policy, at(6000)).0.unwrap();
    breaker.forget(probe);
    assert!(breaker.admit(&policy, at(6000)).0.is_ok());
}

///
#[test]
fn each_key_has_its_own_and_the_longest_unused_goes() {
    let policy = policy("consecutiveFailures >= 1");
    let breakers = Breakers::new(policy.clone(), NonZeroU32::MIN);
    let fail = |key: &str| {
        let cell = breakers.of(key);
        let permit = cell.lock().admit(&policy, at(0)).0.unwrap();
        cell.lock().record(&policy, at(0), permit, false);
    };
    fail("a");
    assert_eq!(breakers.of("a").lock().state(&policy, at(1)).0, State::Open);
    assert_eq!(
        breakers.of("b").lock().state(&policy, at(1)).0,
        State::Closed
    );
    assert_eq!(
        breakers.of("a").lock().state(&policy, at(1)).0,
        State::Closed
    );
}

proptest! {
    /// Half-open never has more calls under way than it may, whatever the order of events.
    #[test]
    fn probes_are_bounded(
        max in 1_u32..4,
        events in prop::collection::vec((0_u64..3000, 0_u8..4), 0..200),
    ) {
        let policy = BreakerPolicy { max_requests: NonZeroU32::new(max).unwrap(), ..policy("consecutiveFailures >= 2") };
        let (mut breaker, mut now) = (Breaker::default(), 0);
        let mut under_way: Vec<(Permit, State)> = Vec::new();
        for (step, event) in events {
            now += step;
            match event {
                0 | 1 => {
                    let (verdict, _) = breaker.admit(&policy, at(now));
                    let state = breaker.state(&policy, at(now)).0;
                    prop_assert_eq!(verdict == Err(Refusal::Open), state == State::Open);
                    if let Ok(permit) = verdict {
                        under_way.push((permit, state));
                    }
                }
                _ if !under_way.is_empty() => {
                    let (permit, _) = under_way.remove(0);
                    breaker.record(&policy, at(now), permit, event == 2);
                }
                _ => {}
            }
            let generation = breaker.generation;
            if breaker.state == State::HalfOpen {
                let probes = under_way.iter().filter(|(permit, _)| permit.0 == generation).count();
                prop_assert!(probes <= max as usize);
            }
        }
    }
}
