//! Both evaluations side by side, and edits: K180 and rows of the table in security 4.4.

use proptest::prelude::*;
use rand::Rng as _;

use super::*;
use crate::{
    Caller, Operation,
    tests::{
        agreement::Maker,
        support::{Given, http, object, set_of, web_entry},
    },
};

fn of(operations: &str) -> Equivalence {
    let entry = web_entry(&format!(", operations: [{operations}]"));
    equivalence(
        &object("o", &format!("{{policies: [{entry}]}}")),
        AppKind::Http,
    )
}

fn first(operations: &str) -> Option<String> {
    match of(operations) {
        Equivalence::Diverges(list) => {
            let Divergence {
                sample,
                compatible,
                specific,
            } = list.first()?;
            Some(format!(
                "{} {}: {compatible} / {specific}",
                sample.verb, sample.path
            ))
        }
        Equivalence::Equivalent => None,
        Equivalence::NotComputed => Some("not computed".to_owned()),
    }
}

/// Fact: K180; the rows of 4.4 where both ways say the same, and where they do not.
#[test]
fn both_ways_agree_or_show_where_not() {
    for (operations, want) in [
        ("{name: /op1, httpVerb: ['*'], action: allow}", None),
        (
            "{name: /admin, httpVerb: ['*'], action: deny}, {name: /**, httpVerb: ['*'], action: allow}",
            None,
        ),
        (
            "{name: /op1, httpVerb: ['*'], action: allow}, {name: /op1/secret, httpVerb: ['*'], action: deny}",
            Some("GET /op1/secret: allow / deny"),
        ),
        (
            "{name: /**, httpVerb: ['*'], action: allow}, {name: /admin, httpVerb: ['*'], action: deny}",
            Some("GET /admin: allow / deny"),
        ),
        (
            "{name: '/a/*/c', httpVerb: ['*'], action: allow}",
            Some("GET /a/x/c: deny by default / allow"),
        ),
        (
            "{name: /op1, action: allow}",
            Some("GET /op1: deny by default / allow"),
        ),
        (
            "{name: /x, httpVerb: ['*'], action: allow}, {name: x, httpVerb: ['*'], action: deny}",
            Some("GET /x: allow / deny"),
        ),
        (
            "{name: /a, httpVerb: [GET], action: allow}, {name: /a, httpVerb: [PUT], action: allow}",
            Some("PUT /a: deny by default / allow"),
        ),
    ] {
        assert_eq!(first(operations).as_deref(), want, "{operations}");
    }
}

#[test]
fn wildcard_callers_have_no_counterpart() {
    let object = object(
        "o",
        "{policies: [{appId: '*', namespace: shop, defaultAction: allow}]}",
    );
    let Equivalence::Diverges(list) = equivalence(&object, AppKind::Http) else {
        panic!("the reference knows no wildcards");
    };
    assert_eq!(
        list[0].specific,
        Said {
            allows: true,
            is_explicit: true
        }
    );
}

#[test]
fn too_much_is_not_computed() {
    let rule = |n: u32| format!("{{name: '/*a{n}*b{n}*/*c{n}*/*d{n}*', action: allow}}");
    let rules: Vec<String> = (0..60).map(rule).collect();
    assert_eq!(of(&rules.join(", ")), Equivalence::NotComputed);
}

#[test]
fn an_edit_is_told_by_the_requests_that_it_changes() {
    let with = |rest: &str| set_of(&[&format!("{{policies: [{}]}}", web_entry(rest))]);
    let old = with(", operations: [{name: /a, httpVerb: [GET], action: allow}]");
    let new = with(", operations: [{name: /a, httpVerb: [GET, PUT], action: allow}]");
    let changes = old.changes(&new);
    assert!(changes.is_complete);
    let list: Vec<String> = changes
        .list
        .iter()
        .map(|one| one.sample.to_string())
        .collect();
    assert_eq!(
        list,
        [
            "PUT /a from spiffe://public/ns/shop/web",
            "PUT /a/x from spiffe://public/ns/shop/web"
        ]
    );
    assert!(!changes.list[0].before.is_allowed() && changes.list[0].after.is_allowed());
    assert_eq!(old.changes(&old).count, 0);
    let open = set_of(&["{unauthenticated: DefaultAction, defaultAction: allow}"]);
    let closed = set_of(&["{defaultAction: allow}"]);
    assert_eq!(open.changes(&closed).list[0].sample.caller, None);
}

/// Whether real requests agree; those of one reading, in small letters, with a verb.
fn random_requests_agree(one: &PolicySet, other: &PolicySet, maker: &mut Maker) -> bool {
    (0..200).all(|_| {
        let peer = maker.peer();
        let method = maker.method();
        let Some(method) = http(&method).filter(|text| !text.contains(['%', '\\', ';'])) else {
            return true;
        };
        let method = crate::tests::naive::lower(&method);
        let verb = maker.pick(&[Verb::Get, Verb::Post, Verb::Delete, Verb::Put]);
        let operation = Operation::invoke(&method, verb);
        let decide = |set: &PolicySet| set.decide(Caller::Peer(&peer), &operation).is_allowed();
        decide(one) == decide(other)
    })
}

#[test]
fn what_is_called_equivalent_agrees_on_random_requests() {
    let mut equivalent = 0;
    for seed in 0..3000 {
        let mut maker = Maker::new(seed);
        let given = maker.few();
        for object in &given.objects {
            let mut object = object.clone();
            object.spec.mode = ironside_resources::access_control::Mode::Enforce;
            if equivalence(&object, given.app) != Equivalence::Equivalent {
                continue;
            }
            equivalent += 1;
            let with = |evaluation| {
                let mut object = object.clone();
                object.spec.evaluation = evaluation;
                PolicySet::compiled(Compiled::alone(&object, given.app).unwrap())
            };
            let both = [Evaluation::DaprCompatible, Evaluation::MostSpecific].map(with);
            assert!(
                random_requests_agree(&both[0], &both[1], &mut maker),
                "seed {seed}: {object:?}"
            );
        }
    }
    assert!(equivalent > 300, "{equivalent}");
}

proptest! {
    /// What `changes` does not mention stays as it was.
    #[test]
    fn no_change_means_none(seed in any::<u64>()) {
        let mut maker = Maker::new(seed);
        let given = maker.few();
        let mut edited = Given { app: given.app, block: given.block.clone(), objects: given.objects.clone(), ..Given::default() };
        for object in &mut edited.objects {
            for policy in &mut object.spec.policies {
                let count = policy.operations.len();
                if count > 0 {
                    policy.operations.remove(maker.0.random_range(0..count));
                }
            }
        }
        let (old, new) = (given.set(), edited.set());
        let changes = old.changes(&new);
        prop_assert!(changes.is_complete);
        if changes.count == 0 {
            prop_assert!(random_requests_agree(&old, &new, &mut maker));
        }
    }
}
