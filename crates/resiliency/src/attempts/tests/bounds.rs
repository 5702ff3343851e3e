//! The bounds of any plan, whatever happens.

use proptest::prelude::*;

use super::*;

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let end = prop_oneof![
        (100_u16..700).prop_map(End::Http),
        (0_u32..30).prop_map(End::Grpc),
        prop::sample::select(vec![
            Failure::Unreachable,
            Failure::NotBegun,
            Failure::Lost,
            Failure::Unresolved,
            Failure::Timeout,
            Failure::Idle,
            Failure::Denied,
            Failure::Unfit,
            Failure::Caller,
            Failure::Other,
        ])
        .prop_map(End::Failed),
    ];
    let pushback = prop_oneof![
        Just(None),
        (0_u64..5000).prop_map(|pause| Some(Pushback::After(ms(pause)))),
        (0_u64..5000).prop_map(|pause| Some(Pushback::RetryAfter(ms(pause)))),
        Just(Some(Pushback::Never)),
    ];
    (end, pushback, any::<bool>()).prop_map(|(end, pushback, elsewhere)| Outcome {
        end,
        pushback,
        elsewhere,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// No plan ever exceeds its bounds: attempts, time, rate; whatever happens.
    #[test]
    fn no_plan_exceeds_its_bounds(
        retries in 0_u32..5,
        is_exponential: bool,
        is_named: bool,
        pause in 0_u64..500,
        timeout in 1_u64..2000,
        overall in prop::option::of(1_u64..8000),
        elapsed in prop::option::of(1_u64..4000),
        rate in prop::option::of(1_u32..20),
        deadline in prop::option::of(0_u64..8000),
        path in prop::sample::select(vec![Path::Http, Path::InvokeService, Path::Proxy]),
        route in prop::sample::select(vec![Route::Peer, Route::Own, Route::External]),
        body in prop::sample::select(vec![Body::Kept, Body::Once]),
        outcomes in prop::collection::vec((0_u64..3000, any_outcome()), 1..40),
        calls in 1_u64..4,
    ) {
        let kind = if is_exponential { "exponential" } else { "constant" };
        let elapsed_key = elapsed.map_or(String::new(), |elapsed| format!(", maxElapsed: {elapsed}ms"));
        let retry = format!("{{policy: {kind}, duration: {pause}ms, maxInterval: 1s, maxRetries: {retries}{elapsed_key}}}");
        let timeout_text = format!("{timeout}ms");
        let spec = if is_named {
            let overall = overall.map_or(String::new(), |overall| format!(", overallTimeout: {overall}ms"));
            let rate = rate.map_or(String::new(), |rate| format!(", rateLimit: {{requestsPerSecond: {rate}, burst: 2}}"));
            format!("{{policies: {{timeouts: {{t: {timeout_text}}}, retries: {{r: {retry}}}}}, targets: {{apps: {{b: {{timeout: t, retry: r{overall}{rate}}}}}}}}}")
        } else {
            format!("{{policies: {{timeouts: {{DefaultTimeoutPolicy: {timeout_text}}}, retries: {{DefaultRetryPolicy: {retry}}}}}}}")
        };
        let target = target(&spec);
        let call = Call { path, route, verb: Some(Verb::Get), body, deadline: deadline.map(ms) };
        let mut sends: Vec<u128> = Vec::new();
        for number in 0..calls {
            let start = number * 100;
            let mut next = outcomes.iter().cycle();
            let run = run_at(&target, "m", call, start, |_| next.next().copied().unwrap());
            let has_built_in = !is_named && route == Route::Peer && path != Path::Proxy;
            let most = (retries as usize + 1) * if has_built_in { 4 } else { 1 };
            let most = most + if route == Route::Peer { MAX_HOPS as usize } else { 0 };
            prop_assert!(run.sent.len() <= most, "{run:?}");
            if body == Body::Once && route != Route::Peer {
                prop_assert!(run.sent.len() <= 1);
            }
            let limits = [deadline.map(|deadline| deadline.saturating_sub(start)), overall.filter(|_| is_named)];
            for limit in limits.into_iter().flatten() {
                prop_assert!(run.over <= limit.into(), "{run:?} {limit}");
                prop_assert!(run.sent.iter().all(|sent| *sent < limit.into()), "{run:?} {limit}");
            }
            if let Some(elapsed) = elapsed {
                // The built-in retries of the last attempt still have its limit.
                let bound = u128::from(elapsed + timeout);
                prop_assert!(run.sent.iter().all(|sent| *sent <= bound), "{run:?}");
            }
            let attempts = u128::from(retries) + 1;
            let longest = u128::from(timeout) + 1500.max(u128::from(pause)).max(1000);
            prop_assert!(run.over <= attempts * longest, "{run:?}");
            sends.extend(run.sent.iter().map(|sent| sent + u128::from(start)));
        }
        if let Some(rate) = rate.filter(|_| is_named && calls == 1) {
            for (first, start) in sends.iter().enumerate() {
                for (last, end) in sends.iter().enumerate().skip(first) {
                    // Times are cut to whole milliseconds here.
                    let bound = 2.0 + f64::from(rate) * (end - start + 1) as f64 / 1000.0;
                    prop_assert!((last - first + 1) as f64 <= bound);
                }
            }
        }
    }
}
