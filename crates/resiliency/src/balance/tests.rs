//! Shares of addresses, ejection and affinity: resiliency-observability 6.2, R-79, R-80.

use std::collections::HashMap;
use std::num::NonZeroU32;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::*;
use crate::outcome::{End, Failure};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn balancer(keys: &str) -> Balancer<char> {
    let mut balancer = Balancer::new(None);
    balancer.update(keys.chars());
    balancer
}

fn ok() -> Outcome {
    End::Http(200).into()
}

/// One call after the other, one every 10 ms, each ending by itself; returns how many each address got.
fn shares(
    balancer: &mut Balancer<char>,
    calls: u64,
    answer: impl Fn(char) -> (u64, Outcome),
) -> HashMap<char, u64> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut shares = HashMap::new();
    let mut under_way: Vec<(Duration, Ticket, Outcome)> = Vec::new();
    for call in 0..calls {
        let now = ms(call * 10);
        while let Some(at) = under_way.iter().position(|(end, ..)| *end <= now) {
            let (end, mut ticket, outcome) = under_way.swap_remove(at);
            balancer.respond(end, &mut ticket, outcome, &mut rng);
            balancer.release(end, ticket);
        }
        let (ticket, key) = balancer
            .pick(now, &Tried::default(), None, &mut rng)
            .unwrap();
        let key = *key;
        *shares.entry(key).or_default() += 1;
        let (latency, outcome) = answer(key);
        under_way.push((now + ms(latency), ticket, outcome));
    }
    shares
}

/// 6.2: of three replicas, one ten times slower gets clearly less than a third.
#[test]
fn a_slow_address_gets_few_calls() {
    let shares = shares(&mut balancer("abc"), 10_000, |key| {
        (if key == 'c' { 50 } else { 5 }, ok())
    });
    assert!(shares[&'c'] < 1000, "{shares:?}");
    assert!(shares[&'a'] > 3000 && shares[&'b'] > 3000, "{shares:?}");
}

///
#[test]
fn an_address_that_fails_fast_gets_few_calls() {
    for end in [
        End::Http(503),
        End::Http(429),
        End::Grpc(8),
        End::Failed(Failure::Unreachable),
    ] {
        let shares = shares(&mut balancer("abc"), 10_000, |key| {
            if key == 'c' {
                (1, end.into())
            } else {
                (20, ok())
            }
        });
        let failed = shares.get(&'c').copied().unwrap_or_default();
        assert!(failed < 1000, "{end:?} {shares:?}");
    }
}

#[test]
fn equal_addresses_get_equal_shares() {
    let shares = shares(&mut balancer("abcd"), 10_000, |_| (5, ok()));
    assert!(
        shares.values().all(|share| (2000..3000).contains(share)),
        "{shares:?}"
    );
}

/// another attempt goes to another address while there is one.
#[test]
fn addresses_that_were_tried_are_avoided() {
    let mut rng = SmallRng::seed_from_u64(1);
    for seed in 0..50 {
        let mut balancer = balancer("abcde");
        let (mut tried, mut order) = (Tried::default(), Vec::new());
        for _ in 0..5 {
            let (ticket, key) = balancer.pick(ms(seed), &tried, None, &mut rng).unwrap();
            order.push(*key);
            tried.add(&ticket);
            assert_eq!(balancer.has_other(ms(seed), &tried), order.len() < 5);
            balancer.release(ms(seed), ticket);
        }
        order.sort_unstable();
        assert_eq!(order, ['a', 'b', 'c', 'd', 'e']);
        assert!(balancer.pick(ms(seed), &tried, None, &mut rng).is_some());
    }
}

/// One that sent its callers elsewhere gets no call for a moment, unless there is no other.
#[test]
fn an_address_that_is_passed_over_is_the_last_choice() {
    let mut rng = SmallRng::seed_from_u64(3);
    let mut balancer = balancer("abc");
    balancer.shun(&'a', ms(100));
    balancer.shun(&'x', ms(100));
    let mut picked = |now: u64, tried: &Tried, affinity: Option<u64>| {
        let (ticket, key) = balancer.pick(ms(now), tried, affinity, &mut rng).unwrap();
        let key = *key;
        let mut tried = *tried;
        tried.add(&ticket);
        let others = balancer.has_other(ms(now), &tried);
        balancer.release(ms(now), ticket);
        (key, tried, others)
    };
    for value in 0..200 {
        let none = Tried::default();
        let affinity = (value % 2 == 0).then_some(value);
        let (first, tried, _) = picked(99, &none, affinity);
        let (second, tried, others) = picked(99, &tried, affinity);
        assert!(first != 'a' && second != 'a' && first != second);
        assert!(others);
        let (third, _, others) = picked(99, &tried, affinity);
        assert_eq!((third, others), ('a', false));
    }
    let again = (0..200).any(|_| picked(100, &Tried::default(), None).0 == 'a');
    assert!(again, "it is one of them again");
}

#[test]
fn one_address_is_always_taken_and_none_never() {
    let mut rng = SmallRng::seed_from_u64(1);
    assert!(
        balancer("")
            .pick(ms(0), &Tried::default(), None, &mut rng)
            .is_none()
    );
    let mut balancer = balancer("a");
    for call in 0..20 {
        let (mut ticket, _) = balancer
            .pick(ms(call), &Tried::default(), None, &mut rng)
            .unwrap();
        let event = balancer.respond(ms(call), &mut ticket, Failure::Unreachable.into(), &mut rng);
        assert_eq!(event, None);
        balancer.release(ms(call), ticket);
    }
}

/// As if a call had tried every other address.
fn all_but(balancer: &Balancer<char>, key: char) -> Tried {
    let mut tried = Tried::default();
    for endpoint in balancer.endpoints.iter().filter(|known| known.key != key) {
        tried.serials[tried.count] = endpoint.serial;
        tried.count += 1;
    }
    tried
}

/// Calls `key` this often, each call ending in `outcome`.
fn hit(
    balancer: &mut Balancer<char>,
    now: Duration,
    key: char,
    count: u32,
    outcome: Outcome,
) -> Vec<Event> {
    let mut rng = SmallRng::seed_from_u64(9);
    let (mut events, tried) = (Vec::new(), all_but(balancer, key));
    for _ in 0..count {
        let (mut ticket, picked) = balancer.pick(now, &tried, None, &mut rng).unwrap();
        assert_eq!(*picked, key);
        events.extend(balancer.respond(now, &mut ticket, outcome, &mut rng));
        balancer.release(now, ticket);
    }
    events
}

/// 6.2: five connections that fail; out for a second, then one probe, then twice as long.
#[test]
fn an_address_that_cannot_be_reached_is_left_out_and_probed() {
    let down: Outcome = Failure::Unreachable.into();
    let mut balancer = balancer("ab");
    assert_eq!(hit(&mut balancer, ms(0), 'a', 4, down), []);
    let events = hit(&mut balancer, ms(0), 'a', 1, down);
    let [
        Event::Ejected {
            reason: Ejection::Connect,
            time,
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert!((ms(500)..=ms(1500)).contains(time), "{time:?}");
    let census = Census {
        ready: 1,
        ejected: 1,
        probing: 0,
    };
    assert_eq!(balancer.census(), census);
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..100 {
        let (ticket, key) = balancer
            .pick(ms(400), &Tried::default(), None, &mut rng)
            .unwrap();
        assert_eq!(*key, 'b');
        balancer.release(ms(400), ticket);
    }
    let (mut probe, key) = balancer
        .pick(ms(1600), &Tried::default(), None, &mut rng)
        .unwrap();
    assert_eq!((*key, probe.is_probe()), ('a', true));
    assert_eq!(balancer.census().probing, 1);
    for _ in 0..100 {
        let (ticket, key) = balancer
            .pick(ms(1600), &Tried::default(), None, &mut rng)
            .unwrap();
        assert_eq!(*key, 'b');
        balancer.release(ms(1600), ticket);
    }
    let event = balancer.respond(ms(1600), &mut probe, down, &mut rng);
    balancer.release(ms(1600), probe);
    let Some(Event::Ejected { time, .. }) = event else {
        panic!("{event:?}")
    };
    assert!((ms(1000)..=ms(3000)).contains(&time), "{time:?}");
    assert_eq!(
        hit(&mut balancer, ms(5000), 'a', 1, ok()),
        [Event::Restored]
    );
    assert_eq!(balancer.census().ready, 2);
    // Once it was well again, the first time out is a short one.
    let events = hit(&mut balancer, ms(5000), 'a', 5, down);
    let [Event::Ejected { time, .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert!(*time <= ms(1500), "{time:?}");
}

#[test]
fn a_probe_that_was_cancelled_is_made_again() {
    let mut balancer = balancer("ab");
    hit(&mut balancer, ms(0), 'a', 5, Failure::Unreachable.into());
    let mut rng = SmallRng::seed_from_u64(1);
    for _ in 0..3 {
        let (ticket, _) = balancer
            .pick(ms(9000), &Tried::default(), None, &mut rng)
            .unwrap();
        assert!(ticket.is_probe());
        balancer.release(ms(9000), ticket);
    }
    let (mut ticket, _) = balancer
        .pick(ms(9000), &Tried::default(), None, &mut rng)
        .unwrap();
    balancer.respond(ms(9000), &mut ticket, Failure::Caller.into(), &mut rng);
    balancer.release(ms(9000), ticket);
    assert_eq!(balancer.census().probing, 0);
}

/// 6.2: answers count only where that is configured.
#[test]
fn bad_answers_eject_only_where_asked_for() {
    let bad: Outcome = End::Http(500).into();
    assert_eq!(hit(&mut balancer("ab"), ms(0), 'a', 50, bad), []);
    let detection = OutlierDetection {
        consecutive_failures: NonZeroU32::new(3),
        ..OutlierDetection::default()
    };
    let mut strict = balancer("ab");
    strict.detect(Some(detection));
    hit(&mut strict, ms(0), 'a', 2, bad);
    hit(&mut strict, ms(0), 'a', 1, End::Http(404).into());
    hit(&mut strict, ms(0), 'a', 2, bad);
    let events = hit(&mut strict, ms(0), 'a', 1, bad);
    assert!(matches!(
        events.as_slice(),
        [Event::Ejected {
            reason: Ejection::Consecutive,
            ..
        }]
    ));
}

#[test]
fn too_few_successes_in_a_window_eject() {
    let detection = OutlierDetection {
        consecutive_failures: None,
        success_rate_threshold: Some(0.8),
        min_requests: 10,
        ..OutlierDetection::default()
    };
    let bad: Outcome = End::Grpc(13).into();
    let mut strict = balancer("ab");
    strict.detect(Some(detection));
    assert_eq!(hit(&mut strict, ms(0), 'a', 9, bad), []);
    // The window is over: counting starts anew.
    assert_eq!(hit(&mut strict, ms(10_000), 'a', 8, ok()), []);
    assert_eq!(hit(&mut strict, ms(10_000), 'a', 2, bad), []);
    let events = hit(&mut strict, ms(10_000), 'a', 1, bad);
    assert!(matches!(
        events.as_slice(),
        [Event::Ejected {
            reason: Ejection::SuccessRate,
            ..
        }]
    ));
}

#[test]
fn an_update_keeps_what_is_known() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut balancer = balancer("ab");
    hit(&mut balancer, ms(0), 'a', 5, Failure::Unreachable.into());
    let (mut gone, _) = balancer
        .pick(ms(0), &Tried::default(), None, &mut rng)
        .unwrap();
    balancer.update("cac".chars());
    assert_eq!(balancer.keys().collect::<String>(), "ca");
    assert_eq!(balancer.census().ejected, 1);
    assert_eq!(balancer.respond(ms(1), &mut gone, ok(), &mut rng), None);
    balancer.release(ms(1), gone);
    assert_eq!(balancer.pending, 0);
    balancer.update("b".chars());
    assert_eq!(
        balancer.census(),
        Census {
            ready: 1,
            ..Census::default()
        }
    );
}

#[test]
fn calls_of_one_value_stay_at_one_address() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut balancer = balancer("abcdefgh");
    let mut picked = |balancer: &mut Balancer<char>, value: &str| {
        let hash = Some(affinity(value.as_bytes()));
        let (ticket, key) = balancer
            .pick(ms(0), &Tried::default(), hash, &mut rng)
            .unwrap();
        let key = *key;
        balancer.release(ms(0), ticket);
        key
    };
    let users: Vec<String> = (0..400).map(|user| format!("user-{user}")).collect();
    let homes: Vec<char> = users
        .iter()
        .map(|user| picked(&mut balancer, user))
        .collect();
    for key in "abcdefgh".chars() {
        let count = homes.iter().filter(|home| **home == key).count();
        assert!((20..=90).contains(&count), "{key} {count}");
    }
    // An address that goes moves only the calls that were there.
    balancer.update("abcdefg".chars());
    for (user, home) in users.iter().zip(&homes) {
        let now = picked(&mut balancer, user);
        assert!(now == *home || *home == 'h', "{user}");
    }
}

#[test]
fn affinity_yields_to_load() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut balancer = balancer("abcd");
    let hash = Some(affinity(b"one"));
    let mut tickets = Vec::new();
    let mut shares: HashMap<char, u32> = HashMap::new();
    for _ in 0..100 {
        let (ticket, key) = balancer
            .pick(ms(0), &Tried::default(), hash, &mut rng)
            .unwrap();
        *shares.entry(*key).or_default() += 1;
        tickets.push(ticket);
    }
    assert!(shares.values().all(|share| *share <= 32), "{shares:?}");
    for ticket in tickets {
        balancer.release(ms(1), ticket);
    }
}

proptest! {
    /// Never more are out than may be, one always stays, and times out have their bounds.
    #[test]
    fn ejections_are_bounded(
        count in 1_usize..8,
        percent in 0_u8..=100,
        events in prop::collection::vec((0_u64..2000, 0_u8..4), 0..300),
        seed: u64,
    ) {
        let detection = OutlierDetection {
            consecutive_failures: NonZeroU32::new(2),
            success_rate_threshold: Some(0.5),
            max_ejection_percent: percent,
            ..OutlierDetection::default()
        };
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut balancer = Balancer::new(Some(detection));
        balancer.update(0..count);
        let mut now = 0;
        for (step, end) in events {
            now += step;
            let (mut ticket, key) = balancer.pick(ms(now), &Tried::default(), None, &mut rng).unwrap();
            prop_assert!(*key < count);
            let outcome = match end {
                0 => ok(),
                1 => End::Http(500).into(),
                _ => Failure::Unreachable.into(),
            };
            if let Some(Event::Ejected { time, .. }) = balancer.respond(ms(now), &mut ticket, outcome, &mut rng) {
                prop_assert!(ms(500) <= time && time <= ms(60_000));
            }
            balancer.release(ms(now), ticket);
            let census = balancer.census();
            let out = census.ejected + census.probing;
            prop_assert_eq!(out, balancer.ejected);
            let most = (count * usize::from(percent) / 100).max(usize::from(percent > 0));
            prop_assert!(out <= most && out < count);
        }
        prop_assert_eq!(balancer.pending, 0);
    }
}
