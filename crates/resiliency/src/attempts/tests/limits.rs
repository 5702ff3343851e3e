//! Timeouts, breakers, deadlines, budgets and rates around the attempts: resiliency-observability 1.5, 1.8, 6.2.

use super::*;

fn with_timeout(rest: &str) -> Arc<Target> {
    target(&format!(
        "{{policies: {{timeouts: {{t: 1s}}, retries: {{r: {{duration: 1s, maxRetries: 2}}}}, circuitBreakers: {{c: {{trip: consecutiveFailures >= 2, timeout: 5s}}}}}}, targets: {{apps: {{b: {{timeout: t, {rest}}}}}}}}}"
    ))
}

/// R-33, R-34, R-37
#[test]
fn a_timeout_ends_an_attempt() {
    let slow = |_| (3000, http(200));
    check(
        run(&with_timeout(""), GET, slow),
        &[0],
        1000,
        Ok(Stop::Final),
    );
    let number = target("{policies: {timeouts: {t: '250'}}, targets: {apps: {b: {timeout: t}}}}");
    check(run(&number, GET, slow), &[0], 250, Ok(Stop::Final));
    let none = target("{policies: {timeouts: {t: 0}}, targets: {apps: {b: {timeout: t}}}}");
    check(run(&none, GET, slow), &[0], 3000, Ok(Stop::Success));
}

/// R-35; resiliency-observability 1.8
#[test]
fn a_timeout_is_per_attempt_and_retried() {
    let run = run(&with_timeout("retry: r"), GET, |_| (9999, http(200)));
    check(run, &[0, 2000, 4000], 5000, exhausted(2, Level::Policy));
}

/// resiliency-observability 1.8: two attempts that timed out open the breaker, which is final.
#[test]
fn a_timeout_counts_as_a_failure_of_the_breaker() {
    let target = with_timeout("retry: r, circuitBreaker: c");
    let open = Err(Refused::Breaker(Refusal::Open));
    check(
        run(&target, GET, |_| (9999, http(200))),
        &[0, 2000],
        4000,
        open,
    );
}

fn with_breaker(breaker: &str, rest: &str) -> Arc<Target> {
    target(&format!(
        "{{policies: {{circuitBreakers: {{c: {breaker}}}, retries: {{r: {{duration: 50ms, maxRetries: 5}}}}}}, targets: {{apps: {{b: {{circuitBreaker: c, {rest}}}}}}}}}"
    ))
}

/// R-40 to R-42, R-52, R-53, R-55
#[test]
fn a_breaker_is_for_a_method() {
    let target = with_breaker("{trip: consecutiveFailures >= 3, timeout: 5s}", "");
    for _ in 0..3 {
        check(
            run(&target, GET, always(http(500))),
            &[0],
            0,
            Ok(Stop::Final),
        );
    }
    let open = Err(Refused::Breaker(Refusal::Open));
    check(run(&target, GET, always(http(200))), &[], 0, open);
    check(
        run_at(&target, "other", GET, 0, always(http(200))),
        &[0],
        0,
        Ok(Stop::Success),
    );
    check(
        run_at(&target, "m", GET, 6000, always(http(500))),
        &[0],
        0,
        Ok(Stop::Final),
    );
    check(
        run_at(&target, "m", GET, 10_000, always(http(200))),
        &[],
        0,
        open,
    );
    check(
        run_at(&target, "m", GET, 12_000, always(http(200))),
        &[0],
        0,
        Ok(Stop::Success),
    );
}

/// R-51 and 6.2, row "Breaker that ignores client errors"
#[test]
fn client_errors_open_a_breaker_unless_told_otherwise() {
    let usual = with_breaker("{trip: consecutiveFailures >= 3}", "");
    let server = with_breaker(
        "{trip: consecutiveFailures >= 3, matching: {httpStatusCodes: 500-599}}",
        "",
    );
    for target in [&usual, &server] {
        for _ in 0..3 {
            run(target, GET, always(http(404)));
        }
    }
    assert_eq!(run(&usual, GET, always(http(200))).sent.len(), 0);
    assert_eq!(run(&server, GET, always(http(200))).sent.len(), 1);
}

/// R-54
#[test]
fn a_breaker_that_opens_ends_the_retries() {
    let target = with_breaker("{trip: consecutiveFailures >= 3}", "retry: r");
    let open = Err(Refused::Breaker(Refusal::Open));
    check(
        run(&target, GET, always(http(500))),
        &[0, 50, 100],
        150,
        open,
    );
}

/// R-43, R-77: who goes away gives the probe's place back, and nothing follows.
#[test]
fn a_caller_that_goes_away_ends_the_call() {
    let target = with_breaker("{trip: consecutiveFailures >= 1, timeout: 5s}", "");
    run(&target, GET, always(http(500)));
    let mut probe = Attempts::begin(target.clone(), "m", GET, ms(6000));
    assert!(matches!(probe.admit(ms(6000)), Go::Send { .. }));
    assert!(probe.take_change().is_some());
    assert_eq!(
        run_at(&target, "m", GET, 6001, always(http(200))).end,
        Err(Refused::Breaker(Refusal::TooMany))
    );
    probe.abandon(ms(6002));
    assert!(matches!(probe.admit(ms(6002)), Go::Refused(_)));
    assert_eq!(
        run_at(&target, "m", GET, 6003, always(http(200))).end,
        Err(Refused::Breaker(Refusal::Open))
    );
    assert_eq!(
        run_at(&target, "m", GET, 12_000, always(http(200)))
            .sent
            .len(),
        1
    );
}

/// resiliency-observability 6.2, row "Deadline propagation"
#[test]
fn retries_that_would_come_too_late_are_not_waited_for() {
    let hurried = Call {
        deadline: Some(ms(1500)),
        ..GET
    };
    check(
        run(&plain(), hurried, always(DOWN)),
        &[0, 1000],
        1000,
        Ok(Stop::Deadline),
    );
    let target = with_retry("{duration: 1s, maxRetries: 5}");
    check(
        run(&target, hurried, always(http(500))),
        &[0, 1000],
        1000,
        Ok(Stop::Deadline),
    );
    check(
        run(&target, hurried, |_| (2000, http(500))),
        &[0],
        1500,
        Ok(Stop::Deadline),
    );
    let late = Call {
        deadline: Some(ms(0)),
        ..GET
    };
    check(
        run(&target, late, always(http(200))),
        &[],
        0,
        Err(Refused::Deadline),
    );
}

/// resiliency-observability 6.2, row "Overall timeout besides per-attempt"
#[test]
fn all_attempts_together_can_have_a_limit() {
    let target = with_timeout("retry: r, overallTimeout: 2500ms");
    check(
        run(&target, GET, |_| (9999, http(200))),
        &[0, 2000],
        2500,
        Ok(Stop::Deadline),
    );
}

/// R-81: an explicit policy is bound only where a budget is set; built-in retries always are.
#[test]
fn a_budget_bounds_all_calls_together() {
    let calls = |target: &Arc<Target>, outcome| {
        let mut sent = 0;
        for call in 0..1000_u64 {
            sent += run_at(target, "m", GET, call * 10, always(outcome))
                .sent
                .len();
        }
        sent
    };
    let free = with_retry("{duration: 0s, maxRetries: 3}");
    assert_eq!(calls(&free, http(503)), 4000);
    let bound = target(
        "{policies: {retries: {r: {duration: 0s, maxRetries: 3}}}, targets: {apps: {b: {retry: r, retryBudget: {}}}}}",
    );
    assert!((1200..=1300).contains(&calls(&bound, http(503))));
    let unbound =
        target("{policies: {retries: {DefaultRetryPolicy: {duration: 0s, maxRetries: 3}}}}");
    assert_eq!(calls(&unbound, http(503)), 4000);
    let by_default = target(
        "{policies: {retries: {DefaultRetryPolicy: {duration: 0s, maxRetries: 3}}, retryBudgets: {DefaultAppRetryBudgetPolicy: {}}}}",
    );
    assert!((1200..=1300).contains(&calls(&by_default, http(503))));
    // Retries of the hop end a second after the last call.
    assert!((1200..=1420).contains(&calls(&plain(), DOWN)));
    let empty = target(
        "{policies: {retries: {r: {duration: 0s}}}, targets: {apps: {b: {retry: r, retryBudget: {ratio: 0, minRetriesPerSecond: 0}}}}}",
    );
    check(
        run(&empty, GET, always(http(503))),
        &[0],
        0,
        Ok(Stop::Budget),
    );
}

/// resiliency-observability 6.2, row "Rate limiting"
#[test]
fn a_rate_bounds_all_attempts_together() {
    let target = target(
        "{policies: {retries: {r: {duration: 100ms, maxRetries: 9}}, circuitBreakers: {c: {trip: 'false', maxRequests: 1}}}, targets: {apps: {b: {retry: r, circuitBreaker: c, rateLimit: {requestsPerSecond: 1, burst: 2}}}}}",
    );
    let run_of_two = run(&target, GET, always(http(503)));
    assert_eq!(run_of_two.sent, [0, 100]);
    let Err(Refused::Rate(wait)) = run_of_two.end else {
        panic!("{run_of_two:?}")
    };
    assert_eq!(wait.as_millis(), 800);
    assert_eq!(
        run_at(&target, "m", GET, 1001, always(http(200)))
            .sent
            .len(),
        1
    );
}

/// R-59
#[test]
fn calls_with_streams_count_for_the_breaker() {
    let stream = Call {
        body: Body::Once,
        ..POST
    };
    let breaker = with_breaker("{trip: consecutiveFailures >= 3}", "");
    for _ in 0..3 {
        run(&breaker, stream, always(http(500)));
    }
    check(
        run(&breaker, stream, always(http(200))),
        &[],
        0,
        Err(Refused::Breaker(Refusal::Open)),
    );
}

/// A call that the rate refuses is none: it neither takes a probe's place nor says anything about the callee.
#[test]
fn a_call_refused_by_the_rate_is_none_for_the_breaker() {
    let target = target(
        "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 1, timeout: 1s}}}, \
          targets: {apps: {b: {circuitBreaker: c, rateLimit: {requestsPerSecond: 0.5, burst: 1}}}}}",
    );
    assert_eq!(run(&target, GET, always(http(500))).sent.len(), 1);
    let refused = run_at(&target, "m", GET, 1500, always(http(200))).end;
    assert!(matches!(refused, Err(Refused::Rate(_))), "{refused:?}");
    let end = run_at(&target, "m", GET, 2001, always(http(200))).end;
    assert_eq!(end, Ok(Stop::Success));
}

#[test]
fn a_call_that_is_dropped_leaves_no_probe_behind() {
    let target = with_breaker("{trip: consecutiveFailures >= 1, timeout: 1s}", "");
    run(&target, GET, always(http(500)));
    let mut probe = Attempts::begin(target.clone(), "m", GET, ms(2000));
    assert!(matches!(probe.admit(ms(2000)), Go::Send { .. }));
    drop(probe);
    let end = run_at(&target, "m", GET, 2001, always(http(200))).end;
    assert_eq!(end, Ok(Stop::Success));
}
