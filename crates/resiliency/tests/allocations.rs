//! A call whose target and breaker are known allocates nothing, whatever its policies and however it ends.

#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use ironside_resiliency::attempts::{Attempts, Body, Call, Go, Route, Step};
use ironside_resiliency::balance::{Balancer, Tried, affinity};
use ironside_resiliency::outcome::{End, Failure, Outcome, Path};
use ironside_resiliency::{Id, Input, Table, Target};
use ironside_resources::resiliency::{Verb, decode};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

const SPEC: &str = "{metadata: {name: r}, spec: {policies: {\
    timeouts: {t: 5s}, \
    retries: {r: {policy: exponential, maxRetries: 3, matching: {httpStatusCodes: 500-599}}, DefaultRetryPolicy: {maxRetries: 1}}, \
    circuitBreakers: {c: {trip: double(totalFailures) / double(requests) > 0.5 && requests > 100}}}, \
    targets: {apps: {b: {timeout: t, retry: r, circuitBreaker: c, overallTimeout: 60s, retryBudget: {}, \
      rateLimit: {requestsPerSecond: 1000}, methods: [{path: /x/*, retry: r}, {path: /**, verbs: [PUT]}]}}}}}";

const CALL: Call = Call {
    path: Path::Http,
    route: Route::Peer,
    verb: Some(Verb::Get),
    body: Body::Kept,
    deadline: Some(Duration::from_secs(1000)),
};

fn id(app: &'static str) -> Id<'static> {
    Id::App {
        written: app,
        app,
        namespace: "own",
    }
}

/// Makes a call that always ends the same way; returns how often it was sent.
fn run(target: Arc<Target>, outcome: Outcome, now: &mut Duration, rng: &mut SmallRng) -> u32 {
    let mut attempts = Attempts::begin(target, "orders", CALL, *now);
    loop {
        if let Go::Refused(_) = attempts.admit(*now) {
            return attempts.sent();
        }
        match attempts.next(*now, outcome, rng) {
            Step::Wait { pause, .. } => *now += pause,
            Step::Stop(_) => return attempts.sent(),
        }
    }
}

#[test]
fn attempts_allocate_nothing() {
    let resources = [decode(SPEC).unwrap()];
    let table = Table::compile(&Input {
        app_id: "a",
        namespace: "own",
        resources: &resources,
        previous: None,
    });
    let table = table.table;
    let mut now = Duration::from_secs(1);
    let mut rng = SmallRng::seed_from_u64(1);
    let failed: Outcome = End::Http(503).into();
    let down: Outcome = Failure::Unreachable.into();
    for (app, outcome, sent) in [
        ("b", failed, 4),
        ("b", down, 4),
        ("b", End::Http(200).into(), 1),
        ("other", down, 8),
    ] {
        // The first call makes the target and its breaker known.
        let first = run(table.target(id(app)), outcome, &mut now, &mut rng);
        let mut again = 0;
        let count = measure(|| again = run(table.target(id(app)), outcome, &mut now, &mut rng));
        assert_eq!(first, sent, "{app} {outcome:?}");
        assert_eq!((again, count.count_total), (sent, 0), "{app} {outcome:?}");
    }
}

#[test]
fn choice_of_an_address_allocates_nothing() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut balancer = Balancer::new(None);
    balancer.update(0..20);
    let hash = affinity(b"user");
    let count = measure(|| {
        for call in 0..1000_u64 {
            let now = Duration::from_millis(call);
            let (mut tried, tied) = (Tried::default(), (call % 2 == 0).then_some(hash));
            for _ in 0..3 {
                let Some((mut ticket, key)) = balancer.pick(now, &tried, tied, &mut rng) else {
                    return;
                };
                let is_down = *key == 3;
                tried.add(&ticket);
                let outcome = if is_down {
                    Failure::Unreachable.into()
                } else {
                    End::Http(200).into()
                };
                balancer.respond(now, &mut ticket, outcome, &mut rng);
                balancer.release(now, ticket);
            }
        }
    });
    assert_eq!(count.count_total, 0);
    assert_eq!(balancer.census().ready + balancer.census().ejected, 20);
}
