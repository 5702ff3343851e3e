//! The retries of the hop between sidecars: resiliency-observability 1.7.

use super::*;

///
#[test]
fn without_policies_an_answer_is_final() {
    check(
        run(&plain(), GET, always(http(500))),
        &[0],
        0,
        Ok(Stop::Final),
    );
    check(
        run(&plain(), GET, always(grpc(14))),
        &[0],
        0,
        Ok(Stop::Final),
    );
    check(
        run(&plain(), GET, always(http(200))),
        &[0],
        0,
        Ok(Stop::Success),
    );
}

///
#[test]
fn a_peer_that_is_down_is_tried_four_times() {
    let end = exhausted(3, Level::BuiltIn);
    let sent = [0, 1000, 2000, 3000];
    check(run(&plain(), POST, always(DOWN)), &sent, 3000, end);
    let invoke = Call {
        path: Path::InvokeService,
        ..POST
    };
    check(run(&plain(), invoke, always(DOWN)), &sent, 3000, end);
    check(
        run(&plain(), POST, after(2, DOWN)),
        &[0, 1000, 2000],
        2000,
        Ok(Stop::Success),
    );
}

/// An app that closed a connection takes the next: once at once, whatever the call and its policies are.
#[test]
fn a_call_that_was_not_begun_is_made_again_at_once() {
    let not_begun = failed(Failure::NotBegun);
    let once = Call {
        body: Body::Once,
        ..POST
    };
    let proxy = Call {
        path: Path::Proxy,
        verb: None,
        ..GET
    };
    let entry = target("{targets: {apps: {b: {}}}}");
    for call in [GET, POST, once, proxy] {
        for target in [&plain(), &entry] {
            let done = run(target, call, after(1, not_begun));
            check(done, &[0, 0], 0, Ok(Stop::Success));
        }
        let done = run(&entry, call, always(not_begun));
        check(done, &[0, 0], 0, Ok(Stop::Final));
    }
    let end = exhausted(3, Level::BuiltIn);
    let sent = [0, 0, 1000, 2000, 3000];
    check(run(&plain(), POST, always(not_begun)), &sent, 3000, end);
    let other = Outcome {
        elsewhere: true,
        ..not_begun
    };
    let sent = run(&plain(), POST, after(3, other)).sent;
    assert_eq!(sent, [0, 0, 0, 0], "other addresses come first");
}

/// R-04; self-invocation and external targets likewise have no hop.
#[test]
fn only_the_hop_between_sidecars_has_built_in_retries() {
    let others = [
        Call {
            path: Path::Proxy,
            verb: None,
            ..GET
        },
        Call {
            route: Route::Own,
            ..GET
        },
        Call {
            route: Route::External,
            ..GET
        },
    ];
    for call in others {
        check(run(&plain(), call, always(DOWN)), &[0], 0, Ok(Stop::Final));
    }
}

///
#[test]
fn an_entry_or_a_stream_has_no_built_in_retries() {
    for entry in ["{}", "{timeout: t}"] {
        let spec =
            format!("{{policies: {{timeouts: {{t: 1s}}}}, targets: {{apps: {{b: {entry}}}}}}}");
        check(
            run(&target(&spec), GET, always(DOWN)),
            &[0],
            0,
            Ok(Stop::Final),
        );
    }
    let stream = Call {
        body: Body::Once,
        ..GET
    };
    check(
        run(&plain(), stream, always(DOWN)),
        &[0],
        0,
        Ok(Stop::Final),
    );
}

/// resiliency-observability 1.7 "not retried", and the exception for requests that may have arrived.
#[test]
fn built_in_retries_do_nothing_twice() {
    let end = exhausted(3, Level::BuiltIn);
    let sent = [0, 1000, 2000, 3000];
    check(run(&plain(), GET, always(LOST)), &sent, 3000, end);
    for verb in [
        Verb::Head,
        Verb::Put,
        Verb::Delete,
        Verb::Options,
        Verb::Trace,
    ] {
        let call = Call {
            verb: Some(verb),
            ..GET
        };
        check(run(&plain(), call, always(LOST)), &sent, 3000, end);
    }
    for verb in [
        Some(Verb::Post),
        Some(Verb::Patch),
        Some(Verb::Connect),
        None,
    ] {
        let call = Call { verb, ..GET };
        check(run(&plain(), call, always(LOST)), &[0], 0, Ok(Stop::Final));
    }
    for failure in [
        Failure::Unresolved,
        Failure::Timeout,
        Failure::Denied,
        Failure::Caller,
        Failure::Other,
    ] {
        check(
            run(&plain(), GET, always(failed(failure))),
            &[0],
            0,
            Ok(Stop::Final),
        );
    }
    let says_so = target(
        "{policies: {retries: {DaprBuiltInServiceRetries: {duration: 100ms, maxRetries: 3, matching: {httpMethods: [POST]}}}}}",
    );
    check(
        run(&says_so, POST, always(LOST)),
        &[0, 100, 200, 300],
        300,
        end,
    );
    let plain_override = target(
        "{policies: {retries: {DaprBuiltInServiceRetries: {duration: 100ms, maxRetries: 3}}}}",
    );
    check(
        run(&plain_override, POST, always(LOST)),
        &[0],
        0,
        Ok(Stop::Final),
    );
}

/// R-11, golden 36 with N = 1: 8 sends
#[test]
fn a_default_policy_multiplies_with_the_built_in_retries() {
    let one =
        target("{policies: {retries: {DefaultAppRetryPolicy: {duration: 50ms, maxRetries: 1}}}}");
    let sent = [0, 1000, 2000, 3000, 3050, 4050, 5050, 6050];
    check(
        run(&one, GET, always(DOWN)),
        &sent,
        6050,
        exhausted(1, Level::Policy),
    );
    assert_eq!(
        run(&target(DEFAULT_RETRY), GET, always(DOWN)).sent.len(),
        16
    );
}

///
#[test]
fn built_in_retries_can_be_overridden_upwards() {
    let five = target(
        "{policies: {retries: {DaprBuiltInServiceRetries: {maxRetries: 5, duration: 100ms}}}}",
    );
    check(
        run(&five, GET, always(DOWN)),
        &[0, 100, 200, 300, 400, 500],
        500,
        exhausted(5, Level::BuiltIn),
    );
    for limit in ["1", "-1"] {
        let reset = target(&format!(
            "{{policies: {{retries: {{DaprBuiltInServiceRetries: {{maxRetries: {limit}, duration: 100ms}}}}}}}}"
        ));
        check(
            run(&reset, GET, always(DOWN)),
            &[0, 100, 200, 300],
            300,
            exhausted(3, Level::BuiltIn),
        );
    }
}

/// resiliency-observability 1.8: a limit of 1 s cuts the built-in loop after its first wait.
#[test]
fn the_limit_of_an_attempt_cuts_the_built_in_retries() {
    let target = target("{policies: {timeouts: {DefaultAppTimeoutPolicy: 1s}}}");
    check(run(&target, GET, always(DOWN)), &[0], 1000, Ok(Stop::Final));
    let longer = self::target("{policies: {timeouts: {DefaultTimeoutPolicy: 1500ms}}}");
    check(
        run(&longer, GET, always(DOWN)),
        &[0, 1000],
        1500,
        Ok(Stop::Final),
    );
}

/// R-79; resiliency-observability 6.2, row "Retry on another endpoint": a call never needs more than one retry,
/// and no delay, while a replica lives.
#[test]
fn another_address_is_tried_at_once() {
    let elsewhere = |outcome: Outcome| Outcome {
        elsewhere: true,
        ..outcome
    };
    let one_is_down = |number| {
        let outcome = if number == 1 {
            elsewhere(DOWN)
        } else {
            http(200)
        };
        (0, outcome)
    };
    let stream = Call {
        body: Body::Once,
        ..POST
    };
    let proxy = Call {
        path: Path::Proxy,
        verb: None,
        ..GET
    };
    for call in [GET, POST, stream] {
        check(
            run(&plain(), call, one_is_down),
            &[0, 0],
            0,
            Ok(Stop::Success),
        );
    }
    // Nothing was used up: it holds for entries without retries, and the built-in ones are all left.
    let entry = target("{targets: {apps: {b: {}}}}");
    check(
        run(&entry, POST, one_is_down),
        &[0, 0],
        0,
        Ok(Stop::Success),
    );
    let all_down = |number| (0, if number < 3 { elsewhere(DOWN) } else { DOWN });
    let end = exhausted(3, Level::BuiltIn);
    check(
        run(&plain(), POST, all_down),
        &[0, 0, 0, 1000, 2000, 3000],
        3000,
        end,
    );
    check(run(&entry, POST, all_down), &[0, 0, 0], 0, Ok(Stop::Final));
    check(run(&entry, proxy, all_down), &[0, 0, 0], 0, Ok(Stop::Final));
    // Only what never arrived goes on without being counted.
    let lost = |number| {
        (
            0,
            if number == 1 {
                elsewhere(LOST)
            } else {
                http(200)
            },
        )
    };
    check(run(&plain(), GET, lost), &[0, 0], 0, Ok(Stop::Success));
    check(run(&plain(), POST, lost), &[0], 0, Ok(Stop::Final));
    check(
        run(&plain(), GET, always(elsewhere(LOST))),
        &[0, 0, 0, 0],
        0,
        end,
    );
    let own = Call {
        route: Route::Own,
        ..GET
    };
    check(
        run(&plain(), own, always(elsewhere(DOWN))),
        &[0],
        0,
        Ok(Stop::Final),
    );
    let many = run(&plain(), GET, always(elsewhere(DOWN)));
    assert_eq!(many.sent.len(), 1 + MAX_HOPS as usize + 3);
    assert_eq!((many.over, many.end), (3000, end));
}

#[test]
fn a_body_that_is_gone_goes_nowhere_else() {
    let mut rng = SmallRng::seed_from_u64(1);
    let elsewhere = Outcome {
        elsewhere: true,
        ..DOWN
    };
    for commit in [true, false] {
        let mut attempts = Attempts::begin(plain(), "m", POST, ms(0));
        attempts.admit(ms(0));
        if commit {
            attempts.commit();
        } else {
            attempts.body_is_gone();
        }
        let step = attempts.next(ms(0), elsewhere, &mut rng);
        assert_eq!(step, Step::Stop(Stop::Final));
    }
}
