//! Which policies a call gets: resiliency-observability 1.1, 1.2, 1.6, 1.7, 1.12.

use ironside_resources::resiliency::{Verb, decode};
use proptest::prelude::*;

use super::*;
use crate::breaker::State;

fn resource(name: &str, spec: &str) -> Resiliency {
    decode(&format!(
        "{{metadata: {{name: {name}, namespace: ns}}, spec: {spec}}}"
    ))
    .unwrap()
}

fn compile_with(resources: &[Resiliency], previous: Option<&Table>) -> Compiled {
    Table::compile(&Input {
        app_id: "a",
        namespace: "own",
        resources,
        previous,
    })
}

fn compile(specs: &[&str]) -> Compiled {
    let named = |(index, spec): (usize, &&str)| resource(&format!("r{index}"), spec);
    let resources: Vec<Resiliency> = specs.iter().enumerate().map(named).collect();
    compile_with(&resources, None)
}

fn notes(specs: &[&str]) -> Vec<String> {
    compile(specs)
        .notes
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn app(written: &str) -> Id<'_> {
    let (app, namespace) = written.split_once('.').unwrap_or((written, "own"));
    Id::App {
        written,
        app,
        namespace,
    }
}

/// Names of the policies of a call, `-` for none: timeout, retry, breaker, and `+` with built-in retries.
fn names(target: &Target, method: &str, verb: Option<Verb>) -> String {
    let rules = target.rules(method, verb);
    let timeout = rules.timeout.as_ref().map_or("-", |owned| &*owned.name);
    let retry = rules.retry.as_ref().map_or("-", |owned| &*owned.name);
    let breaker = rules.breakers.as_ref().map_or("-", |owned| &*owned.name);
    let built_in = if target.has_built_in_retries() {
        " +"
    } else {
        ""
    };
    format!("{timeout} {retry} {breaker}{built_in}")
}

fn found(table: &Table, id: Id<'_>) -> String {
    names(&table.target(id), "m", None)
}

const POLICIES: &str = "policies: {timeouts: {t: 1s, t2: 2s}, retries: {r: {}, r2: {}}, circuitBreakers: {c: {}, c2: {}}}";

#[test]
fn nothing_is_the_built_in_retries() {
    let table = Table::default();
    assert_eq!(found(&table, app("b")), "- - - +");
    assert_eq!(table.resources().len(), 0);
    let balance = table.target(app("b")).budget_balance(Duration::ZERO);
    assert_eq!(balance, Some(100));
}

/// resiliency-observability 1.6: an entry alone, else each kind by its own default.
#[test]
fn an_entry_is_not_filled_from_the_defaults() {
    let spec = "{policies: {timeouts: {t: 1s, DefaultTimeoutPolicy: 5s}, retries: {DefaultAppRetryPolicy: {}, DefaultRetryPolicy: {}}, circuitBreakers: {DefaultCircuitBreakerPolicy: {}}}, targets: {apps: {b: {timeout: t}, c: {}}}}";
    let table = compile(&[spec]).table;
    let defaults = "DefaultTimeoutPolicy DefaultAppRetryPolicy DefaultCircuitBreakerPolicy +";
    assert_eq!(found(&table, app("b")), "t - -");
    assert_eq!(found(&table, app("c")), "- - -");
    assert_eq!(found(&table, app("d")), defaults);
    assert_eq!(found(&table, Id::External("http://x")), defaults);
    assert_eq!(table.target(app("c")).budget_balance(Duration::ZERO), None);
}

/// and resiliency-observability 1.7 "one canonical id"
#[test]
fn one_app_is_one_target_however_it_is_written() {
    let spec = format!(
        "{{{POLICIES}, targets: {{apps: {{b: {{retry: r}}, b.ns2: {{retry: r2}}, c.own: {{timeout: t}}, d.ns2: {{timeout: t2}}, 'http://x/y': {{circuitBreaker: c}}, e: {{timeout: t}}, e.own: {{timeout: t2}}}}}}}}"
    );
    let table = compile(&[&spec]).table;
    for (written, want) in [
        ("b", "- r -"),
        ("b.own", "- r -"),
        ("b.ns2", "- r2 -"),
        ("b.ns3", "- r -"),
        ("c", "t - -"),
        ("c.own", "t - -"),
        ("c.ns2", "- - - +"),
        ("d", "- - - +"),
        ("d.ns2", "t2 - -"),
        ("e", "t - -"),
        ("e.own", "t2 - -"),
        ("e.ns2", "t - -"),
        ("B", "- - - +"),
    ] {
        assert_eq!(found(&table, app(written)), want, "{written}");
    }
    assert_eq!(found(&table, Id::External("http://x/y")), "- - c");
    assert_eq!(found(&table, Id::External("c.own")), "t - -");
    assert_eq!(found(&table, Id::External("b.x")), "- - - +");
    let same =
        |one: &str, other: &str| Arc::ptr_eq(&table.target(app(one)), &table.target(app(other)));
    assert!(same("b", "b.own") && same("c", "c.own") && same("b.ns3", "b.ns3"));
    // Apps of two namespaces share policies, not state.
    assert!(!same("b", "b.ns3"));
}

///
#[test]
fn scopes_choose_the_caller() {
    let spec = format!("{{{POLICIES}, targets: {{apps: {{b: {{timeout: t}}}}}}}}");
    let mut resources = [resource("far", &spec), resource("near", &spec)];
    resources[0].scopes = vec!["other".into()];
    resources[1].scopes = vec!["other".into(), "a".into()];
    let compiled = compile_with(&resources, None);
    let names: Vec<&str> = compiled
        .table
        .resources()
        .iter()
        .map(|owner| &*owner.name)
        .collect();
    assert_eq!(names, ["near"]);
    assert_eq!(compiled.notes, []);
    let target = compiled.table.target(app("b"));
    let timeout = target.rules("m", None).timeout.clone().unwrap();
    assert_eq!(
        (&*timeout.owner.name, &*timeout.owner.namespace),
        ("near", "ns")
    );
}

/// R-68 and the owner of each policy
#[test]
fn later_resources_win_by_name() {
    let one = "{policies: {timeouts: {t: 1s, u: 7s}}, targets: {apps: {b: {timeout: t, overallTimeout: 9s}, c: {timeout: u}}}}";
    let other = "{policies: {timeouts: {t: 2s}}, targets: {apps: {b: {timeout: t}}}}";
    let compiled = compile(&[one, other]);
    let target = compiled.table.target(app("b"));
    let timeout = target.rules("m", None).timeout.clone().unwrap();
    assert_eq!(timeout.policy, Some(Duration::from_secs(2)));
    assert_eq!(&*timeout.owner.name, "r1");
    assert_eq!(target.overall_timeout(), None);
    let timeout = compiled
        .table
        .target(app("c"))
        .rules("m", None)
        .timeout
        .clone()
        .unwrap();
    assert_eq!(&*timeout.owner.name, "r0");
    let notes: Vec<String> = compiled.notes.iter().map(ToString::to_string).collect();
    let want = [
        "timeout \"t\" of Resiliency r0 is replaced by that of r1",
        "target \"b\" of Resiliency r0 is replaced by that of r1",
    ];
    assert_eq!(notes, want);
}

/// the call works; the note says what is missing.
#[test]
fn names_that_nobody_defines_are_noted() {
    let spec = "{policies: {retries: {x: {}, y: {}}}, targets: {apps: {a/b: {retry: z, timeout: t, methods: [{path: /m, circuitBreaker: c}]}}}}";
    let want = [
        "Resiliency r0: /spec/targets/apps/a~1b/timeout: no resource defines a timeout \"t\", so there is none here",
        "Resiliency r0: /spec/targets/apps/a~1b/retry: no resource defines a retry \"z\", so there is none here; there are x, y",
        "Resiliency r0: /spec/targets/apps/a~1b/methods/0/circuitBreaker: no resource defines a circuitBreaker \"c\", so there is none here",
    ];
    assert_eq!(notes(&[spec]), want);
    assert_eq!(found(&compile(&[spec]).table, Id::External("a/b")), "- - -");
    // Another resource may define it, before or after.
    let target = "{targets: {apps: {b: {retry: x}}}}";
    let policy = "{policies: {retries: {x: {}}}}";
    assert_eq!(notes(&[target, policy]), [""; 0]);
    assert_eq!(notes(&[policy, target]), [""; 0]);
}

/// R-70 and resiliency-observability 1.7
#[test]
fn overrides_of_built_in_retries_have_a_minimum() {
    let minimum = "Attempted override of DaprBuiltInServiceRetries did not meet minimum retry count, resetting to 3.";
    for (retry, is_reset) in [
        ("{}", true),
        ("{maxRetries: -1}", true),
        ("{maxRetries: 2}", true),
        ("{maxRetries: 3}", false),
        ("{maxRetries: 9}", false),
    ] {
        let notes = notes(&[&format!(
            "{{policies: {{retries: {{DaprBuiltInServiceRetries: {retry}}}}}}}"
        )]);
        assert_eq!(notes == [minimum], is_reset, "{retry} {notes:?}");
    }
    let protected = notes(&["{policies: {retries: {DaprBuiltInActorNotFoundRetries: {}}}}"]);
    assert_eq!(
        protected,
        [
            "DaprBuiltInActorNotFoundRetries cannot be overridden: the retry of this name has no effect"
        ]
    );
}

#[test]
fn remarks_on_resources_are_passed_on() {
    let want = "Resiliency r0: /spec/limits: this key is not known and has no effect";
    assert_eq!(notes(&["{limits: {}}"]), [want]);
}

/// resiliency-observability 6.2, row "Per-method targets"
#[test]
fn parts_of_an_app_have_policies_of_their_own() {
    let spec = format!(
        "{{{POLICIES}, targets: {{apps: {{b: {{timeout: t, retry: r, circuitBreaker: c, methods: [\
           {{path: /**, verbs: [DELETE], retry: nosuch}},\
           {{path: /orders/*, timeout: t2}},\
           {{path: /orders/*, verbs: [POST], retry: r2}},\
           {{path: /orders/new, circuitBreaker: c2}},\
           {{path: /pkg.S/M, timeout: t2, retry: r2, circuitBreaker: c2}}]}}}}}}}}"
    );
    let target = compile(&[&spec]).table.target(app("b"));
    for (method, verb, want) in [
        ("other", Some(Verb::Get), "t r c"),
        ("orders/5", Some(Verb::Get), "t2 r c"),
        ("orders/5", Some(Verb::Post), "t r2 c"),
        ("orders/5", None, "t2 r c"),
        ("orders/new", Some(Verb::Post), "t r c2"),
        ("orders/5", Some(Verb::Delete), "t2 r c"),
        ("x", Some(Verb::Delete), "t - c"),
        ("x", None, "t r c"),
        ("/pkg.S/M", None, "t2 r2 c2"),
    ] {
        assert_eq!(names(&target, method, verb), want, "{method} {verb:?}");
    }
    let key = |method: &'static str| target.rules(method, None).breaker_key(method).to_owned();
    assert_eq!(
        (key("orders/5"), key("orders/new")),
        ("orders/5".into(), "/orders/new".into())
    );
}

/// Opens the breaker of a method, and takes a token and a retry.
fn wear(target: &Target, method: &str) {
    let rules = target.rules(method, None);
    let (cell, policy) = rules.breaker(method).unwrap();
    let permit = cell.lock().admit(policy, Duration::ZERO).0.unwrap();
    cell.lock().record(policy, Duration::ZERO, permit, false);
    target.shared.token(Duration::ZERO).unwrap();
    let withdrawn = target
        .shared
        .with_budget(|budget| budget.withdraw(Duration::ZERO));
    assert_eq!(withdrawn, Some(true));
}

fn state(target: &Target, method: &str) -> State {
    let (cell, policy) = target.rules(method, None).breaker(method).unwrap();
    cell.lock().state(policy, Duration::ZERO).0
}

/// and resiliency-observability 1.12: state goes on where names and definitions are unchanged.
#[test]
fn state_goes_on_across_a_reload() {
    let spec = |breaker: &str, cache: u32, budget: u32, rest: &str| {
        format!(
            "{{policies: {{circuitBreakers: {{c: {{trip: consecutiveFailures >= {breaker}}}, d: {{trip: totalFailures >= 1}}}}}}, \
              targets: {{apps: {{b: {{circuitBreaker: c, circuitBreakerCacheSize: {cache}, retryBudget: {{minRetriesPerSecond: {budget}}}, rateLimit: {{requestsPerSecond: 1, burst: 1}}, methods: [{{path: /part, circuitBreaker: d}}] {rest}}}}}}}}}"
        )
    };
    let first = compile(&[&spec("1", 5, 10, "")]).table;
    wear(&first.target(app("b")), "m");
    let part = first.target(app("b"));
    let (cell, policy) = part.rules("part", None).breaker("part").unwrap();
    let permit = cell.lock().admit(policy, Duration::ZERO).0.unwrap();
    cell.lock().record(policy, Duration::ZERO, permit, false);
    let again = |spec: &str| {
        let resources = [resource("other-name", spec)];
        compile_with(&resources, Some(&first))
            .table
            .target(app("b"))
    };
    for (spec, breaker, part, budget, has_token) in [
        (spec("1", 5, 10, ""), State::Open, State::Open, 99, false),
        (
            spec("1", 5, 10, ", timeout: t"),
            State::Open,
            State::Open,
            99,
            false,
        ),
        (spec("1", 5, 20, ""), State::Open, State::Open, 200, false),
        (spec("2", 5, 10, ""), State::Closed, State::Open, 99, false),
        (
            spec("1", 6, 10, ""),
            State::Closed,
            State::Closed,
            99,
            false,
        ),
    ] {
        let target = again(&spec);
        assert_eq!(state(&target, "m"), breaker, "{spec}");
        assert_eq!(state(&target, "part"), part, "{spec}");
        assert_eq!(
            target.budget_balance(Duration::ZERO),
            Some(budget),
            "{spec}"
        );
        assert_eq!(
            target.shared.token(Duration::ZERO).is_ok(),
            has_token,
            "{spec}"
        );
    }
}

#[test]
fn targets_without_entry_keep_their_state_too() {
    let defaults = "{policies: {circuitBreakers: {DefaultCircuitBreakerPolicy: {trip: consecutiveFailures >= 1}}}}";
    let first = compile(&[defaults]).table;
    wear(&first.target(app("b")), "m");
    assert_eq!(
        first.target(app("b")).budget_balance(Duration::ZERO),
        Some(99)
    );
    // It is not called between the second and the third.
    let second = compile_with(&[resource("r0", defaults)], Some(&first)).table;
    let with_entry = format!(
        "{}, targets: {{apps: {{c: {{}}}}}}}}",
        &defaults[..defaults.len() - 1]
    );
    let third = compile_with(&[resource("r0", &with_entry)], Some(&second)).table;
    assert_eq!(state(&third.target(app("b")), "m"), State::Open);
    assert_eq!(
        third.target(app("b")).budget_balance(Duration::ZERO),
        Some(99)
    );
    // Another name is another breaker.
    let renamed = defaults.replace("DefaultCircuit", "DefaultAppCircuit");
    let fourth = compile_with(&[resource("r0", &renamed)], Some(&third)).table;
    assert_eq!(state(&fourth.target(app("b")), "m"), State::Closed);
}

#[test]
fn targets_without_entry_are_bounded() {
    let table = Table::default();
    for number in 0..MAX_OTHERS + 500 {
        let target = table.target(app(&format!("app{number}")));
        assert!(target.has_built_in_retries());
    }
    assert_eq!(table.others().known.len(), MAX_OTHERS);
    let again = compile_with(&[], Some(&table)).table;
    assert_eq!(again.others().inherited.len(), MAX_OTHERS);
}

proptest! {
    #[test]
    fn any_target_is_found(written in "\\PC{0,20}|[ab]\\.?(own|ns2)?", is_app: bool) {
        let table = compile(&["{targets: {apps: {a: {}, b.own: {}}}}"]).table;
        let id = if is_app { app(&written) } else { Id::External(&written) };
        let target = table.target(id);
        prop_assert!(Arc::ptr_eq(&target, &table.target(id)));
    }
}
