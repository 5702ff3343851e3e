//! The plan row by row, and whole years in simulated time.

mod year;

use super::plan::{Instants, RootKey, Situation};
use super::state::Phase;
use super::*;
use crate::authority::Authority;
use ironside_identity::{SpiffeId, pem};
use ironside_testkit::certs::now;
use std::time::{Duration, SystemTime};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// The defaults of a Sentry.
const PLAN: Plan = Plan {
    leaf_ttl: DAY,
    skew: Duration::from_secs(15 * 60),
    ca_ttl: Duration::from_secs(365 * 86_400),
    root_ttl: Duration::from_secs(3650 * 86_400),
    root_key: RootKey::Discard,
};
/// The shortest lives that are asked for: root and issuer three minutes, leaves one.
const FAST: Plan = Plan {
    leaf_ttl: MINUTE,
    skew: Duration::from_secs(5),
    ca_ttl: Duration::from_secs(180),
    root_ttl: Duration::from_secs(600),
    root_key: RootKey::Discard,
};

fn maker(plan: Plan) -> Maker {
    Maker {
        own: SpiffeId::parse("spiffe://localhost/ns/default/dapr-sentry").unwrap(),
        plan,
    }
}

fn steady(start: SystemTime, plan: &Plan) -> Situation {
    Situation {
        phase: Instants::Steady,
        issuer_ends: start + plan.ca_ttl,
        root_ends: start + plan.ca_ttl,
        has_root_key: false,
        cross_ends: None,
        hold: plan.hold(),
        requested: false,
    }
}

#[test]
fn a_hold_is_a_life_and_the_time_to_hear_of_it() {
    assert_eq!(PLAN.hold(), DAY + 15 * MINUTE + MINUTE / 2);
    assert_eq!(FAST.hold(), Duration::from_secs(60 + 5 + 6));
    assert!(FAST.least_ca_ttl() <= FAST.ca_ttl);
    // A quarter of a year, or what two phases need, or what is left after the last rotation.
    assert_eq!(PLAN.lead(PLAN.hold()), PLAN.ca_ttl / 4);
    let week = Plan {
        ca_ttl: 7 * DAY,
        ..PLAN
    };
    assert_eq!(week.lead(week.hold()), week.hold().mul_f64(2.25));
    assert_eq!(FAST.lead(FAST.hold()), FAST.ca_ttl - FAST.hold());
}

#[test]
fn the_plan_row_by_row() {
    let start = now();
    let check = |plan: Plan, situation: Situation, at: Duration, step, due: Duration| {
        let expected = (start + due, step);
        assert_eq!(plan.next(&situation, start + at), expected, "{situation:?}");
    };
    let (year, hold, lead) = (PLAN.ca_ttl, PLAN.hold(), PLAN.ca_ttl / 4);
    let quiet = steady(start, &PLAN);
    let zero = Duration::ZERO;
    check(PLAN, quiet, zero, Step::Distribute, year - lead);
    check(PLAN, quiet, year, Step::Distribute, year - lead);
    let wanted = Situation {
        requested: true,
        ..quiet
    };
    check(PLAN, wanted, HOUR, Step::Distribute, HOUR);
    let distribute = |since: Duration| Situation {
        phase: Instants::Distribute {
            since: start + since,
        },
        ..quiet
    };
    check(PLAN, distribute(DAY), DAY, Step::Sign, DAY + hold);
    // A wish changes nothing while a rotation is on its way.
    let again = Situation {
        requested: true,
        ..distribute(DAY)
    };
    check(PLAN, again, DAY, Step::Sign, DAY + hold);
    // Late: twelve hours are left, or none.
    let late = year - 12 * HOUR;
    check(PLAN, distribute(late), late, Step::Sign, year - 4 * HOUR);
    check(
        PLAN,
        distribute(year + DAY),
        year + DAY,
        Step::Sign,
        year + DAY,
    );
    let sign = |since: Duration, old_ends: Duration| Situation {
        phase: Instants::Sign {
            since: start + since,
            old_ends: start + old_ends,
        },
        issuer_ends: start + 2 * year,
        root_ends: start + 2 * year,
        ..quiet
    };
    check(PLAN, sign(DAY, year), DAY, Step::Withdraw, DAY + hold);
    let soon = year + PLAN.skew;
    check(
        PLAN,
        sign(year - HOUR, year),
        year - HOUR,
        Step::Withdraw,
        soon,
    );
    let cross = Situation {
        cross_ends: Some(start + DAY),
        ..quiet
    };
    check(PLAN, cross, zero, Step::DropCross, DAY);
    let longer = Situation {
        hold: hold - MINUTE,
        ..distribute(zero)
    };
    check(PLAN, longer, HOUR, Step::Remember, HOUR);
    let shorter = Situation {
        hold: 2 * hold,
        ..distribute(zero)
    };
    check(PLAN, shorter, HOUR, Step::Sign, 2 * hold);
}

#[test]
fn a_kept_root_key_rotates_the_issuer_alone_as_long_as_the_root_lasts() {
    let start = now();
    let keep = Plan {
        root_key: RootKey::Keep,
        ..PLAN
    };
    let lead = PLAN.ca_ttl / 4;
    let kept = Situation {
        root_ends: start + PLAN.root_ttl,
        has_root_key: true,
        ..steady(start, &PLAN)
    };
    let due = start + PLAN.ca_ttl - lead;
    assert_eq!(keep.next(&kept, start), (due, Step::Reissue));
    // The root would end before the next issuer.
    let ending = Situation {
        root_ends: due + PLAN.ca_ttl - HOUR,
        ..kept
    };
    assert_eq!(keep.next(&ending, start), (due, Step::Distribute));
    // The key of a root made before was not kept.
    let without = Situation {
        has_root_key: false,
        ..kept
    };
    assert_eq!(keep.next(&without, start), (due, Step::Distribute));
    // And one that is kept no more is dropped at once.
    assert_eq!(PLAN.next(&kept, start), (start, Step::ForgetRootKey));
}

fn certificates(text: &[u8]) -> usize {
    pem::certificates(text).unwrap().len()
}

/// The chain of each phase: how many roots are answered, how many certificates stand behind a leaf.
#[test]
fn the_phases_show_in_the_files() {
    let (maker, mut now) = (maker(PLAN), now());
    let mut state = maker.first(now).unwrap();
    let mut seen = vec![];
    let mut issuers = vec![];
    for _ in 0..4 {
        let texts = state.texts();
        Authority::from_texts(&texts, now).unwrap();
        seen.push((
            state.phase_name(),
            certificates(&texts.root),
            certificates(&texts.issuer),
        ));
        issuers.push(pem::certificates(&texts.issuer).unwrap().remove(0));
        let (due, _step) = maker.advance(&state, false, now).unwrap().next;
        now = due;
        let advanced = maker.advance(&state, false, now).unwrap();
        assert_eq!(advanced.steps.len(), 1);
        assert_eq!(advanced.state.generation, state.generation + 1);
        assert_eq!(advanced.state.previous, Some(texts.marks()));
        state = advanced.state;
    }
    let expected = [
        ("steady", 1, 1),
        ("distribute", 2, 1),
        ("sign", 2, 3),
        ("steady", 1, 3),
    ];
    assert_eq!(seen, expected);
    assert_eq!(issuers[0], issuers[1]);
    assert_ne!(issuers[1], issuers[2]);
    assert_eq!(issuers[2], issuers[3]);
    // The old issuer has ended, and with it the way to the old root.
    assert_eq!(certificates(&state.texts().issuer), 1);
}

#[test]
fn an_authority_that_ended_while_nobody_looked_is_replaced_at_once() {
    let (maker, start) = (maker(PLAN), now());
    let old = maker.first(start).unwrap();
    let later = start + 2 * PLAN.ca_ttl;
    let advanced = maker.advance(&old, false, later).unwrap();
    let steps = [Step::Distribute, Step::Sign, Step::Withdraw];
    assert_eq!(advanced.steps, steps);
    assert_eq!(advanced.state.generation, 2);
    let texts = advanced.state.texts();
    Authority::from_texts(&texts, later).unwrap();
    assert_eq!(
        (certificates(&texts.root), certificates(&texts.issuer)),
        (1, 1)
    );
}

#[test]
fn wishes_in_a_row_do_not_make_a_path_that_nobody_follows() {
    let (maker, mut now) = (maker(PLAN), now());
    let mut state = maker.first(now).unwrap();
    let first = state.texts().root;
    for rotation in 1..=5 {
        let advanced = maker.advance(&state, true, now).unwrap();
        now = advanced.next.0;
        let advanced = maker.advance(&advanced.state, false, now).unwrap();
        now = advanced.next.0;
        state = maker.advance(&advanced.state, false, now).unwrap().state;
        assert!(matches!(state.phase, Phase::Steady), "{state:?}");
        let texts = state.texts();
        Authority::from_texts(&texts, now).unwrap();
        assert!(certificates(&texts.issuer) <= 5, "rotation {rotation}");
        // Two rotations reach back to the first root.
        let pinned = crate::store::Texts {
            root: first.clone(),
            ..texts
        };
        let believed = Authority::from_texts(&pinned, now).is_ok();
        assert_eq!(believed, rotation <= 2, "rotation {rotation}");
    }
}
