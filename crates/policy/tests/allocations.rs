//! A decision allocates nothing (benchmarks 7, P4).

#![cfg(test)]

#[expect(dead_code, reason = "shared with the benches, which use more of it")]
#[path = "../benches/workload/mod.rs"]
mod workload;

use allocation_counter::measure;
use ironside_policy::{AppKind, Operation, PolicySet, Verb, VerbSet};
use workload::{Shape, caller, work};

fn allocations(set: &PolicySet, operation: &Operation<'_>) -> u64 {
    let caller = caller("app0");
    let decide = || {
        let decision = set.decide(ironside_policy::Caller::Peer(&caller), operation);
        std::hint::black_box(decision);
    };
    // The buffers of the thread are made by the first calls, and each grows when a long text falls to it.
    for _ in 0..100 {
        decide();
    }
    measure(decide).count_total
}

#[test]
fn a_decision_allocates_nothing() {
    for shape in [Shape::Spread, Shape::OneCaller] {
        for app in [AppKind::Http, AppKind::Grpc] {
            for rules in [10, 10_000] {
                let work = work(shape, rules, app);
                for request in &work.requests {
                    let decide = || {
                        std::hint::black_box(request.decide(&work.set));
                    };
                    decide();
                    let found = measure(decide).count_total;
                    assert_eq!(found, 0, "{shape:?} {app:?} {rules} {}", request.name);
                }
            }
        }
    }
}

/// Paths that can be read in several ways, letters beyond ASCII, hidden verbs, overrides.
#[test]
fn odd_requests_allocate_nothing_either() {
    for shape in [Shape::Spread, Shape::OneCaller] {
        let work = work(shape, 1000, AppKind::Http);
        for method in [
            "files/%69mg-1/raw",
            "assets/a;b=c/..\\x",
            "%252e%252e/ä",
            "É/È",
            "assets/x",
        ] {
            for operation in [
                Operation::invoke(method, Verb::Get),
                Operation::invoke(method, Verb::None),
                Operation::proxied(method),
                Operation {
                    overrides: VerbSet::EVERY,
                    ..Operation::invoke(method, Verb::Post)
                },
            ] {
                assert_eq!(
                    allocations(&work.set, &operation),
                    0,
                    "{shape:?} {operation:?}"
                );
            }
        }
    }
}

/// The counter counts.
#[test]
fn an_allocation_is_seen() {
    assert_eq!(
        measure(|| drop(std::hint::black_box(vec![1]))).count_total,
        1
    );
}
