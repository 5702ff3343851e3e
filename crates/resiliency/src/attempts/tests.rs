//! Scripts of (time, outcome) rows from resiliency-observability 1.3 to 1.11 and 7, and the bounds of any plan.
//!
//! A script is the driver: it sends when it may, lets each attempt take the time of its row, waits as told.

use ironside_resources::resiliency::decode;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::decide::MAX_HOPS;
use super::*;
use crate::outcome::{End, Pushback};
use crate::{Id, Input, Table};

mod bounds;
mod built_in;
mod limits;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const B: Id<'static> = Id::App {
    written: "b",
    app: "b",
    namespace: "default",
};

fn target(spec: &str) -> Arc<Target> {
    let document = format!("{{metadata: {{name: r}}, spec: {spec}}}");
    let resource = decode(&document).unwrap();
    let input = Input {
        app_id: "a",
        namespace: "default",
        resources: &[resource],
        previous: None,
    };
    Table::compile(&input).table.target(B)
}

fn plain() -> Arc<Target> {
    Table::default().target(B)
}

const GET: Call = Call {
    path: Path::Http,
    route: Route::Peer,
    verb: Some(Verb::Get),
    body: Body::Kept,
    deadline: None,
};

const POST: Call = Call {
    verb: Some(Verb::Post),
    ..GET
};

const DOWN: Outcome = failed(Failure::Unreachable);
const LOST: Outcome = failed(Failure::Lost);
const TIMEOUT: Outcome = failed(Failure::Timeout);

const fn failed(failure: Failure) -> Outcome {
    Outcome {
        end: End::Failed(failure),
        pushback: None,
        elsewhere: false,
    }
}

const fn http(status: u16) -> Outcome {
    Outcome {
        end: End::Http(status),
        pushback: None,
        elsewhere: false,
    }
}

const fn grpc(code: u32) -> Outcome {
    Outcome {
        end: End::Grpc(code),
        pushback: None,
        elsewhere: false,
    }
}

/// What a call came to.
#[derive(Debug, PartialEq)]
struct Run {
    /// When it was sent, in milliseconds.
    sent: Vec<u128>,
    /// When it was over.
    over: u128,
    end: Result<Stop, Refused>,
}

/// Makes a call at `start`; each attempt takes `takes` milliseconds unless its limit passes first.
fn run_at(
    target: &Arc<Target>,
    method: &str,
    call: Call,
    start: u64,
    mut answer: impl FnMut(usize) -> (u64, Outcome),
) -> Run {
    let mut rng = SmallRng::seed_from_u64(5);
    let mut now = ms(start);
    let mut attempts = Attempts::begin(target.clone(), method, call, now);
    let mut sent = Vec::new();
    let end = loop {
        let outcome = match attempts.admit(now) {
            Go::Refused(refused) => break Err(refused),
            Go::TimedOut => TIMEOUT,
            Go::Send { until, number } => {
                assert_eq!(number as usize, sent.len() + 1);
                sent.push((now - ms(start)).as_millis());
                let (takes, outcome) = answer(sent.len());
                let done = now + ms(takes);
                match until.filter(|until| *until < done) {
                    Some(until) => {
                        now = until;
                        TIMEOUT
                    }
                    None => {
                        now = done;
                        outcome
                    }
                }
            }
        };
        match attempts.next(now, outcome, &mut rng) {
            Step::Wait { pause, .. } => now += pause,
            Step::Stop(stop) => break Ok(stop),
        }
        assert!(sent.len() < 1000, "no end");
    };
    let over = (now - ms(start)).as_millis();
    Run { sent, over, end }
}

fn run(target: &Arc<Target>, call: Call, answer: impl FnMut(usize) -> (u64, Outcome)) -> Run {
    run_at(target, "m", call, 0, answer)
}

fn always(outcome: Outcome) -> impl FnMut(usize) -> (u64, Outcome) {
    move |_| (0, outcome)
}

/// Fails so often, then succeeds.
fn after(failures: usize, outcome: Outcome) -> impl FnMut(usize) -> (u64, Outcome) {
    move |number| {
        (
            0,
            if number <= failures {
                outcome
            } else {
                http(200)
            },
        )
    }
}

const fn exhausted(retries: u32, level: Level) -> Result<Stop, Refused> {
    Ok(Stop::Exhausted { retries, level })
}

#[track_caller]
fn check(run: Run, sent: &[u128], over: u128, end: Result<Stop, Refused>) {
    let sent = sent.to_vec();
    assert_eq!(run, Run { sent, over, end });
}

const DEFAULT_RETRY: &str =
    "{policies: {retries: {DefaultAppRetryPolicy: {duration: 100ms, maxRetries: 3}}}}";

fn with_retry(retry: &str) -> Arc<Target> {
    target(&format!(
        "{{policies: {{retries: {{r: {retry}}}}}, targets: {{apps: {{b: {{retry: r}}}}}}}}"
    ))
}

///
#[test]
fn a_default_policy_retries_every_failure() {
    let target = target(DEFAULT_RETRY);
    let sent = [0, 100, 200, 300];
    check(
        run(&target, POST, always(http(400))),
        &sent,
        300,
        exhausted(3, Level::Policy),
    );
    for status in [200, 301, 304, 399] {
        check(
            run(&target, GET, always(http(status))),
            &[0],
            0,
            Ok(Stop::Success),
        );
    }
    check(
        run(&target, GET, after(2, http(503))),
        &[0, 100, 200],
        200,
        Ok(Stop::Success),
    );
    // An explicit policy keeps its meaning for requests that may have arrived.
    check(
        run(&target, POST, after(1, LOST)),
        &[0, 100],
        100,
        Ok(Stop::Success),
    );
}

///
#[test]
fn constant_retries() {
    let never = with_retry("{duration: 10ms, maxRetries: 0}");
    check(
        run(&never, GET, always(http(500))),
        &[0],
        0,
        exhausted(0, Level::Policy),
    );
    for limit in ["", ", maxRetries: -1"] {
        let forever = with_retry(&format!("{{policy: CONSTANT, duration: 10ms{limit}}}"));
        let run = run(&forever, GET, after(20, http(500)));
        assert_eq!(
            (run.sent.len(), run.over, run.end),
            (21, 200, Ok(Stop::Success))
        );
    }
    let usual = with_retry("{maxRetries: 1}");
    check(
        run(&usual, GET, always(http(500))),
        &[0, 5000],
        5000,
        exhausted(1, Level::Policy),
    );
    let number = with_retry("{duration: '250', maxRetries: 1}");
    check(
        run(&number, GET, always(http(500))),
        &[0, 250],
        250,
        exhausted(1, Level::Policy),
    );
}

/// and the cap of 15 minutes (resiliency-observability 1.3)
#[test]
fn exponential_retries() {
    let three = with_retry("{policy: exponential, duration: 10s, maxRetries: 3}");
    let run_of_three = run(&three, GET, always(http(500)));
    let waits: Vec<u128> = run_of_three
        .sent
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .collect();
    for (wait, (low, high)) in waits.iter().zip([(250, 750), (375, 1125), (562, 1688)]) {
        assert!((low..=high).contains(wait), "{waits:?}");
    }
    assert_eq!(run_of_three.end, exhausted(3, Level::Policy));
    let forever = run(&with_retry("{policy: exponential}"), GET, always(http(500)));
    assert!(
        forever.over <= 900_000 && forever.over > 780_000,
        "{forever:?}"
    );
    assert!(matches!(
        forever.end,
        Ok(Stop::Exhausted {
            level: Level::Policy,
            ..
        })
    ));
}

///
#[test]
fn matching_decides_by_code() {
    let some = with_retry(
        "{duration: 1ms, maxRetries: 2, matching: {httpStatusCodes: '200,400-500,501', gRPCStatusCodes: '1,2,5-7'}}",
    );
    let proxy = Call {
        path: Path::Proxy,
        verb: None,
        ..GET
    };
    for (call, outcome, calls) in [
        (GET, http(400), 3),
        (GET, http(420), 3),
        (GET, http(501), 3),
        (GET, http(502), 1),
        (GET, http(200), 1),
        (proxy, grpc(1), 3),
        (proxy, grpc(14), 1),
        (proxy, grpc(20), 1),
        (proxy, DOWN, 3),
    ] {
        let run = run(&some, call, always(outcome));
        assert_eq!(run.sent.len(), calls, "{outcome:?}");
        if calls == 1 && !outcome.is_success(call.path) {
            assert_eq!(run.end, Ok(Stop::NotMatched));
        }
    }
    let every = with_retry("{duration: 1ms, maxRetries: 2, matching: {httpStatusCodes: ''}}");
    for (call, outcome, calls) in [
        (GET, http(418), 3),
        (proxy, grpc(5), 3),
        (proxy, grpc(20), 1),
        (GET, http(600), 1),
    ] {
        assert_eq!(
            run(&every, call, always(outcome)).sent.len(),
            calls,
            "{outcome:?}"
        );
    }
    let unknown = target("{targets: {apps: {b: {retry: nosuch}}}}");
    check(
        run(&unknown, GET, always(http(500))),
        &[0],
        0,
        Ok(Stop::Final),
    );
}

/// R-31 (denials are final), R-32 (`InvokeService` is filtered)
#[test]
fn denials_are_final_and_invoke_service_is_filtered() {
    let retry = with_retry("{duration: 1ms, maxRetries: 2, matching: {httpStatusCodes: '503'}}");
    check(
        run(&retry, GET, always(failed(Failure::Denied))),
        &[0],
        0,
        Ok(Stop::Final),
    );
    let invoke = Call {
        path: Path::InvokeService,
        ..GET
    };
    check(
        run(&retry, invoke, always(http(404))),
        &[0],
        0,
        Ok(Stop::NotMatched),
    );
    assert_eq!(run(&retry, invoke, always(http(503))).sent.len(), 3);
}

/// resiliency-observability 6.2, row "Retry only when safe"
#[test]
fn a_policy_can_be_for_some_verbs() {
    let safe = with_retry("{duration: 1ms, maxRetries: 2, matching: {httpMethods: [GET]}}");
    assert_eq!(run(&safe, GET, always(http(500))).sent.len(), 3);
    check(
        run(&safe, POST, always(http(500))),
        &[0],
        0,
        Ok(Stop::NotMatched),
    );
    let proxy = Call {
        path: Path::Proxy,
        verb: None,
        ..GET
    };
    assert_eq!(run(&safe, proxy, always(grpc(14))).sent.len(), 3);
}

/// nothing is repeated once a part of the response went on; resiliency-observability 1.10
#[test]
fn a_response_under_way_is_never_repeated() {
    let target = target(DEFAULT_RETRY);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut attempts = Attempts::begin(target, "m", GET, ms(0));
    assert!(matches!(attempts.admit(ms(0)), Go::Send { .. }));
    attempts.commit();
    for outcome in [LOST, TIMEOUT, DOWN] {
        let step = attempts.next(ms(5), outcome, &mut rng);
        assert_eq!(step, Step::Stop(Stop::Committed));
    }
}

/// resiliency-observability 1.10 "no retry after any body byte was consumed"
#[test]
fn a_body_that_is_gone_is_not_sent_again() {
    let target = target(DEFAULT_RETRY);
    let stream = Call {
        body: Body::Once,
        ..POST
    };
    check(
        run(&target, stream, always(http(500))),
        &[0],
        0,
        Ok(Stop::BodyGone),
    );
    check(
        run(&target, POST, after(3, http(500))),
        &[0, 100, 200, 300],
        300,
        Ok(Stop::Success),
    );
    let mut rng = SmallRng::seed_from_u64(1);
    let mut attempts = Attempts::begin(target, "m", POST, ms(0));
    attempts.admit(ms(0));
    attempts.body_is_gone();
    assert_eq!(
        attempts.next(ms(0), DOWN, &mut rng),
        Step::Stop(Stop::BodyGone)
    );
}

///
#[test]
fn a_call_to_the_own_app_has_the_policies() {
    let own = Call {
        route: Route::Own,
        ..GET
    };
    check(
        run(&target(DEFAULT_RETRY), own, always(http(500))),
        &[0, 100, 200, 300],
        300,
        exhausted(3, Level::Policy),
    );
}

/// resiliency-observability 6.2, row "Backoff with jitter; server pushback"
#[test]
fn a_callee_can_ask_for_a_pause() {
    let asked = |pushback| Outcome {
        end: End::Http(503),
        pushback: Some(pushback),
        elsewhere: false,
    };
    let deaf = with_retry("{duration: 100ms, maxRetries: 1, maxInterval: 2s}");
    let polite =
        with_retry("{duration: 100ms, maxRetries: 1, maxInterval: 2s, honorRetryAfter: true}");
    for (target, pushback, want) in [
        (&deaf, Pushback::After(ms(700)), 700),
        (&deaf, Pushback::After(ms(60_000)), 2000),
        (&deaf, Pushback::RetryAfter(ms(700)), 100),
        (&polite, Pushback::RetryAfter(ms(700)), 700),
        (&polite, Pushback::RetryAfter(ms(60_000)), 2000),
    ] {
        let run = run(target, GET, always(asked(pushback)));
        check(run, &[0, want], want, exhausted(1, Level::Policy));
    }
    check(
        run(&deaf, GET, always(asked(Pushback::Never))),
        &[0],
        0,
        Ok(Stop::Pushback),
    );
}

/// resiliency-observability 6.2, opt-in keys of retries
#[test]
fn jitter_and_elapsed_time_can_be_bounded() {
    let jittered = with_retry("{duration: 100ms, maxRetries: 50, jitter: 0.5}");
    let sent = run(&jittered, GET, always(http(500))).sent;
    let waits: Vec<u128> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        waits.iter().all(|wait| (50..=150).contains(wait)),
        "{waits:?}"
    );
    assert!(waits.iter().any(|wait| *wait != waits[0]));
    let short = with_retry("{duration: 100ms, maxElapsed: 250ms}");
    check(
        run(&short, GET, always(http(500))),
        &[0, 100, 200],
        200,
        exhausted(2, Level::Policy),
    );
}

#[test]
fn the_driver_sees_what_it_needs_for_logs() {
    let target = target(DEFAULT_RETRY);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut attempts = Attempts::begin(target, "m", GET, ms(0));
    let mut steps = Vec::new();
    for now in 0..5 {
        attempts.admit(ms(now));
        let outcome = if now < 3 { DOWN } else { http(500) };
        steps.push(attempts.next(ms(now), outcome, &mut rng));
    }
    let (built_in, policy) = (Level::BuiltIn, Level::Policy);
    let wait = |pause, level, retry| Step::Wait {
        pause: ms(pause),
        level,
        retry,
    };
    let want = [
        wait(1000, built_in, 1),
        wait(1000, built_in, 2),
        wait(1000, built_in, 3),
        wait(100, policy, 1),
        wait(100, policy, 2),
    ];
    assert_eq!(steps, want);
    assert_eq!((attempts.sent(), attempts.retries()), (5, 2));
    assert_eq!(attempts.built_in_exhausted(), None);
    let mut attempts = Attempts::begin(plain(), "m", GET, ms(0));
    for _ in 0..4 {
        attempts.admit(ms(0));
        attempts.next(ms(0), DOWN, &mut rng);
    }
    assert_eq!(attempts.built_in_exhausted(), Some(3));
    assert!(attempts.rules().retry.is_none());
}
