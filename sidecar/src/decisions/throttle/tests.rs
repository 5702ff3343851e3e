//! Budgets and their bounds.

use super::*;

const CALLER: &str = "spiffe://public/ns/default/web";

fn event<'a>(caller: &'a str, operation: &'a str) -> Event<'a> {
    Event {
        outcome: Outcome::Deny,
        caller,
        operation,
        verb: "GET",
    }
}

fn at(seconds: u64) -> Tick {
    Tick::at(Duration::from_secs(seconds))
}

/// Row K222: ten lines, then a count, of which nothing is lost.
#[test]
fn a_thousand_of_the_same_are_ten_lines_and_a_count() {
    let throttle = Throttle::default();
    let admitted = |now: Tick| throttle.admit(now, &event(CALLER, "/admin"));
    let lines = (0..1000).filter(|_| admitted(at(1)).0).count();
    assert_eq!(lines, 10);
    assert_eq!(throttle.ended(at(60)), []);
    let (is_written, left_out) = admitted(at(61));
    assert!(is_written);
    let about = About {
        outcome: Outcome::Deny,
        operation: "/admin".into(),
        verb: "GET",
    };
    let want = |count| Summary {
        caller: Some(CALLER.into()),
        about: Some(about.clone()),
        count,
    };
    assert_eq!(left_out, Some(want(990)));
    (0..11).for_each(|_| drop(admitted(at(62))));
    assert_eq!(throttle.ended(at(121)), [want(2)]);
    assert_eq!(throttle.all(), []);
}

/// What differs is counted apart: caller, operation, verb, what was decided.
#[test]
fn each_caller_and_operation_has_a_budget_of_its_own() {
    let throttle = Throttle::default();
    let base = event(CALLER, "/admin");
    for event in [
        base,
        event("spiffe://public/ns/default/other", "/admin"),
        event("", "/admin"),
        event(CALLER, "/other"),
        Event {
            verb: "PUT",
            ..base
        },
        Event {
            outcome: Outcome::WouldDeny,
            ..base
        },
    ] {
        let lines = (0..20).filter(|_| throttle.admit(at(0), &event).0).count();
        assert_eq!(lines, 10, "{event:?}");
    }
}

fn entries(throttle: &Throttle) -> usize {
    let of = |shard: &Mutex<Shard>| {
        let shard = lock(shard);
        let operations = shard.callers.values().map(|b| b.operations.len());
        operations.sum::<usize>()
    };
    throttle.shards.iter().map(of).sum()
}

/// A million operations of one caller: so many lines, so much memory, and every one is counted.
#[test]
fn ever_new_operations_share_a_budget() {
    let throttle = Throttle::default();
    let mut lines = 0;
    for number in 0..1_000_000 {
        let operation = format!("/{number}");
        lines += u64::from(throttle.admit(at(0), &event(CALLER, &operation)).0);
    }
    assert_eq!(entries(&throttle), MAX_OPERATIONS);
    assert_eq!(lines, MAX_OPERATIONS as u64 + LINES);
    let left_out = throttle.all();
    let [
        Summary {
            caller,
            about,
            count,
        },
    ] = left_out.as_slice()
    else {
        panic!("{left_out:?}");
    };
    assert_eq!((caller.as_deref(), about), (Some(CALLER), &None));
    assert_eq!(count + lines, 1_000_000);
    assert_eq!(entries(&throttle), 0);
}

/// A caller that floods does not silence another one, and many callers have a bound as well.
#[test]
fn callers_beyond_the_first_ones_share_a_budget() {
    let throttle = Throttle::default();
    let (mut lines, mut all) = (0, 0);
    for number in 0..10_000 {
        let caller = format!("spiffe://public/ns/default/app{number}");
        for _ in 0..3 {
            all += 1;
            lines += u64::from(throttle.admit(at(0), &event(&caller, "/x")).0);
        }
    }
    let most = SHARDS * MAX_CALLERS;
    assert!(entries(&throttle) <= most);
    assert!(lines <= 3 * most as u64 + LINES * SHARDS as u64);
    let counted: u64 = throttle.all().iter().map(|summary| summary.count).sum();
    assert_eq!(lines + counted, all);
}
