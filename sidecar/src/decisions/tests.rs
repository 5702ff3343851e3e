//! Decisions of real policy sets, as the list of the API and the series show them.

use std::time::{Duration, SystemTime};

use ironside_identity::SpiffeId;
use ironside_policy::{AppKind, Callee, Input, Namespaces, PolicySet, Verb, VerbSet};
use ironside_resources::access_control::decode;
use ironside_telemetry::metrics::Settings;
use serde_json::{Value, json};

use super::*;
use crate::live::PolicySnapshot;

const RULES: &str = "apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata: {name: orders, namespace: shop}
spec:
  policies:
  - appId: web
    namespace: default
    operations:
    - {name: /public, action: allow}
    - {name: /a, httpVerb: [GET], action: allow}
";

const DRAFT: &str = "apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata: {name: draft, namespace: shop}
spec:
  mode: Audit
  policies:
  - appId: web
    namespace: default
    operations:
    - {name: /public/old, action: deny}
    - {name: /new, action: allow}
";

fn live(objects: &[&str]) -> Live {
    let objects: Vec<_> = objects.iter().map(|text| decode(text).unwrap()).collect();
    let callee = Callee {
        app_id: "orders".parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        trust_domain: "public".parse().unwrap(),
        app: AppKind::Http,
    };
    let policy = PolicySet::compile(&Input {
        callee: &callee,
        block: None,
        objects: &objects,
        refused: &[],
        namespaces: Namespaces::Own,
        deny_by_default: false,
    });
    Live {
        policy: Arc::new(policy.unwrap()),
        snapshot: PolicySnapshot {
            number: 7,
            since: SystemTime::UNIX_EPOCH,
        },
        ..Live::default()
    }
}

fn web() -> SpiffeId {
    SpiffeId::parse("spiffe://public/ns/default/web").unwrap()
}

fn asked<'a>(caller: Caller<'a>, method: &'a str, verb: Verb) -> Asked<'a> {
    Asked {
        caller,
        operation: Operation::invoke(method, verb),
        raw: method,
        protocol: Protocol::Http,
        trace: None,
    }
}

struct Rig {
    decisions: Decisions,
    recorder: Arc<Recorder>,
    hand: ironside_chassis::clock::ManualClock,
    metrics: Arc<Metrics>,
}

impl Rig {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new("orders", Settings::default()));
        let (clock, hand) = Clock::manual(SystemTime::UNIX_EPOCH);
        let decisions = Decisions::new(Arc::clone(&metrics), clock, false);
        let recorder = decisions.recorder();
        Self {
            decisions,
            recorder,
            hand,
            metrics,
        }
    }

    fn decide(&self, live: &Live, asked: &Asked<'_>) {
        let decision = live.policy.decide(asked.caller, &asked.operation);
        self.recorder.record(live, asked, &decision);
    }

    fn list(&self) -> Vec<Value> {
        let text = self.decisions.json();
        assert!(text.ends_with("]}\n"), "{text}");
        let list: Value = serde_json::from_str(&text).unwrap();
        list["decisions"].as_array().unwrap().clone()
    }

    /// The samples of one family, sorted.
    fn series(&self, family: &str) -> Vec<String> {
        let text = self.metrics.exposition();
        let lines = text.lines().filter(|line| line.starts_with(family));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

/// Fact: security 4.9, the fields of a record.
#[test]
fn a_decision_is_told_with_its_rule_and_its_call() {
    let rig = Rig::new();
    let live = live(&[RULES]);
    let id = web();
    rig.hand.advance(Duration::from_millis(1_500));
    let trace = TraceNumber::of_parent(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let call = Asked {
        raw: "public/../a",
        trace,
        operation: Operation {
            overrides: VerbSet::overrides(["PUT"]),
            ..Operation::invoke("a", Verb::Get)
        },
        ..asked(Caller::Peer(&id), "a", Verb::Get)
    };
    rig.decide(&live, &call);
    let want = json!({
        "time": "1970-01-01T00:00:01.5Z",
        "decision": "deny",
        "reason": "global-default",
        "policy": "shop/orders",
        "rule": "/spec/defaultAction",
        "caller": "spiffe://public/ns/default/web",
        "operation": "/a",
        "rawOperation": "public/../a",
        "verb": "GET",
        "overrides": ["PUT"],
        "protocol": "http",
        "snapshot": 7,
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    assert_eq!(rig.list(), [want]);
    rig.decide(&live, &asked(Caller::Peer(&id), "/a", Verb::Get));
    let newest = rig.list().remove(0);
    let rule = (&newest["decision"], &newest["reason"], &newest["rule"]);
    assert_eq!(
        rule,
        (
            &json!("allow"),
            &json!("operation-rule"),
            &json!("/spec/policies/0/operations/1")
        )
    );
    assert_eq!(
        (&newest["rawOperation"], &newest["overrides"]),
        (&Value::Null, &Value::Null)
    );
}

/// Row K192: what objects under audit would change is told besides, and nothing where they change nothing.
#[test]
fn what_audit_would_change_is_told_and_counted() {
    let rig = Rig::new();
    let live = live(&[RULES, DRAFT]);
    let id = web();
    let audit_of = |method, verb| {
        rig.decide(&live, &asked(Caller::Peer(&id), method, verb));
        let newest = rig.list().remove(0);
        (newest["decision"].clone(), newest["audit"].clone())
    };
    let (decision, audit) = audit_of("public/old", Verb::Get);
    assert_eq!(decision, "allow");
    assert_eq!(
        audit,
        json!({
            "decision": "would_deny",
            "reason": "operation-rule",
            "policy": "shop/draft",
            "rule": "/spec/policies/0/operations/0",
        })
    );
    let (decision, audit) = audit_of("new", Verb::Get);
    assert_eq!(
        (decision, &audit["decision"]),
        (json!("deny"), &json!("would_allow"))
    );
    assert_eq!(
        audit_of("public/x", Verb::Get),
        (json!("allow"), Value::Null)
    );
    let labels = |decision: &str, reason: &str, policy: &str| {
        format!(
            "dapr_runtime_accesscontrol_decisions_total{{decision=\"{decision}\",reason=\"{reason}\",policy=\"{policy}\",src_app_id=\"web\",src_namespace=\"default\"}} "
        )
    };
    assert_eq!(
        rig.series("dapr_runtime_accesscontrol_decisions_total"),
        [
            labels("allow", "operation-rule", "shop/orders") + "2",
            labels("deny", "global-default", "shop/orders") + "1",
            labels("would_allow", "operation-rule", "shop/draft") + "1",
            labels("would_deny", "operation-rule", "shop/draft") + "1",
        ]
    );
}

/// Rows K100, K122: the reference's counters carry the caller; without one their labels are empty.
#[test]
fn the_reference_s_counters_are_kept() {
    let rig = Rig::new();
    let id = web();
    let open = Live::default();
    rig.decide(&open, &asked(Caller::Peer(&id), "a", Verb::Get));
    rig.decide(&open, &asked(Caller::Anonymous, "a", Verb::Get));
    let allowed = "dapr_runtime_acl_global_policy_action_allowed_total";
    assert_eq!(
        rig.series("dapr_runtime_acl_"),
        [
            format!("{allowed}{{app_id=\"\",trustDomain=\"\",namespace=\"\"}} 1"),
            format!("{allowed}{{app_id=\"web\",trustDomain=\"public\",namespace=\"default\"}} 1"),
        ]
    );
    // What no list said is in our counter alone.
    let reserved = Asked {
        operation: Operation::proxied("/dapr.proto.runtime.v1.AppCallback/OnInvoke"),
        ..asked(Caller::Peer(&id), "", Verb::None)
    };
    rig.decide(&open, &reserved);
    let relay = Decision::deny(ironside_policy::Reason::RelayRefused);
    rig.recorder.record(&open, &reserved, &relay);
    assert_eq!(rig.series("dapr_runtime_acl_").len(), 2);
    let ours = rig
        .series("dapr_runtime_accesscontrol_decisions_total")
        .join("\n");
    for reason in ["no-policy", "reserved-service", "relay-refused"] {
        assert!(
            ours.contains(&format!("reason=\"{reason}\",policy=\"-\"")),
            "{ours}"
        );
    }
}

/// The newest decisions of all threads, in order, and not one more.
#[test]
fn the_list_holds_the_newest_of_all_threads() {
    let rig = Rig::new();
    let other = rig.decisions.recorder();
    let live = live(&[RULES]);
    let id = web();
    for number in 0..2 * KEPT + 50 {
        rig.hand.advance(Duration::from_millis(1));
        let method = format!("public/{number}");
        let asked = asked(Caller::Peer(&id), &method, Verb::Get);
        let recorder = if number % 3 == 0 {
            &other
        } else {
            &rig.recorder
        };
        let decision = live.policy.decide(asked.caller, &asked.operation);
        recorder.record(&live, &asked, &decision);
    }
    let list = rig.list();
    assert_eq!(list.len(), KEPT);
    for (back, record) in list.iter().enumerate() {
        let number = 2 * KEPT + 49 - back;
        assert_eq!(record["operation"], format!("/public/{number}"));
    }
}

/// Row K221: whatever a peer sends, an entry is bounded, exact up to its bound, and safe to look at.
#[test]
fn entries_are_bounded_and_printable() {
    let rig = Rig::new();
    let live = live(&[RULES]);
    let id = web();
    let odd = "a\"b\\c\u{9b}31m\u{202e}é\u{e0001}";
    rig.decide(&live, &asked(Caller::Peer(&id), odd, Verb::Get));
    let text = rig.decisions.json();
    assert!(
        text.contains(r#""operation":"/a\"b\\c\u009b31m\u202eé\udb40\udc01""#),
        "{text}"
    );
    assert_eq!(rig.list()[0]["operation"], format!("/{odd}"));
    assert_eq!(rig.list()[0]["truncated"], Value::Null);
    let long = "é".repeat(4_000_000);
    let raw = format!("x/../{long}");
    for _ in 0..KEPT {
        let call = Asked {
            raw: &raw,
            ..asked(Caller::Peer(&id), &long, Verb::Get)
        };
        let decision = Decision::deny(ironside_policy::Reason::GlobalDefault);
        rig.recorder.record(&live, &call, &decision);
    }
    let list = rig.list();
    assert_eq!(list[0]["truncated"], true);
    assert_eq!(list[0]["operation"].as_str().unwrap().len(), 1025);
    assert_eq!(list[0]["rawOperation"].as_str().unwrap().len(), 255);
    assert!(rig.decisions.json().len() < KEPT * 2_000);
}

/// Row K221: paths make no series, callers and objects a bounded number of them.
#[test]
fn series_do_not_grow_with_paths() {
    let rig = Rig::new();
    let live = live(&[RULES]);
    let id = web();
    for number in 0..10_000 {
        let method = format!("x{number}/\u{1b}[31m");
        rig.decide(&live, &asked(Caller::Peer(&id), &method, Verb::Get));
    }
    assert_eq!(
        rig.series("dapr_runtime_ac"),
        [
            "dapr_runtime_accesscontrol_decisions_total{decision=\"deny\",reason=\"global-default\",policy=\"shop/orders\",src_app_id=\"web\",src_namespace=\"default\"} 10000",
            "dapr_runtime_acl_global_policy_action_blocked_total{app_id=\"web\",trustDomain=\"public\",namespace=\"default\"} 10000",
        ]
    );
}

/// Counters stay when the tables that find them start anew.
#[test]
fn many_callers_are_counted_right() {
    let rig = Rig::new();
    let live = Live::default();
    for round in 0..2 {
        for number in 0..1_500 {
            let id = SpiffeId::parse(&format!("spiffe://public/ns/default/app{number}")).unwrap();
            rig.decide(&live, &asked(Caller::Peer(&id), "a", Verb::Get));
        }
        let series = rig.series("dapr_runtime_accesscontrol_decisions_total");
        assert_eq!(series.len(), 1_500);
        let want = format!(" {}", round + 1);
        assert!(series.iter().all(|line| line.ends_with(&want)));
    }
}

#[test]
fn the_trace_is_that_of_a_traceparent() {
    let id = |text: &str| TraceNumber::of_parent(text.as_bytes()).map(|id| id.to_string());
    let digits = "4bf92f3577b34da6a3ce929d0e0e4736";
    assert_eq!(
        id(&format!("00-{digits}-00f067aa0ba902b7-01")).as_deref(),
        Some(digits)
    );
    for none in [
        "00-00000000000000000000000000000000-0000000000000000-00",
        "00-4bf92f3577b34da6a3ce929d0e0e473",
        "00-4bf92f3577b34da6\n3ce929d0e0e4736-00f067aa0ba902b7-01",
        "",
    ] {
        assert_eq!(id(none), None, "{none:?}");
    }
}

/// What is noted of an allowed call costs no allocation once its caller is known and the ring is full.
#[test]
fn an_allowed_call_allocates_nothing() {
    let rig = Rig::new();
    let live = live(&[RULES]);
    let id = web();
    let path = format!("public/{}", "x".repeat(100));
    let asked = asked(Caller::Peer(&id), &path, Verb::Get);
    let note = || {
        let decision = live.policy.decide(asked.caller, &asked.operation);
        assert!(decision.is_allowed());
        rig.recorder.record(&live, &asked, &decision);
    };
    (0..KEPT + 1).for_each(|_| note());
    let counted = allocation_counter::measure(|| (0..1_000).for_each(|_| note()));
    assert_eq!(counted.count_total, 0);
}
