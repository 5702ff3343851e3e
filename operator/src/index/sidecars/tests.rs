//! Who is expected, and how everybody stands, as tables.

use super::*;
use crate::index::access::Object;
use ironside_discovery::report::Ran;
use ironside_discovery::world::App;
use ironside_identity::{AppId, Namespace};
use serde_json::{Value, json};

const S: fn(u64) -> Duration = Duration::from_secs;

fn object(generation: i64, scopes: &[&str]) -> Object {
    let value = json!({
        "metadata": {"name": "p", "namespace": "shop", "uid": "u", "generation": generation},
        "scopes": scopes, "spec": {"defaultAction": "deny"},
    });
    Object::of(value).unwrap()
}

fn meta(value: Value) -> ObjectMeta {
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, app: &str) -> Fact<Pod> {
    let meta =
        meta(json!({"name": name, "labels": {INJECTED: "true"}, "annotations": {APP_ID: app}}));
    Fact::Is(("shop".into(), name.into()), Pod::of(&meta))
}

fn sidecar(app: &str, instance: &str, ran: Option<(i64, Option<&str>)>) -> Sidecar {
    let ran = ran.map(|(generation, refusal)| Ran {
        uid: "u".into(),
        generation,
        refusal: refusal.map(|code| Refusal {
            code: code.into(),
            message: "why".into(),
        }),
    });
    Sidecar {
        app: App {
            namespace: Namespace::parse("shop").unwrap(),
            app_id: AppId::parse(app).unwrap(),
        },
        instance: instance.into(),
        objects: ran.into_iter().collect(),
    }
}

fn tell(sidecars: &mut Sidecars, replica: &str, number: u64, sidecar: Sidecar, now: Duration) {
    let news = News {
        sidecars: vec![(number, sidecar)],
        gone: Vec::new(),
    };
    assert_eq!(sidecars.told(&replica.into(), news, now).len(), 1);
}

fn standing(sidecars: &Sidecars, object: &Object, now: Duration) -> Standing {
    sidecars.standing(Asked {
        object,
        since: S(100),
        now,
        patience: S(10),
    })
}

/// `expected/connected/applied/rejected/outdated/pending`
fn counts(standing: &Standing) -> [usize; 6] {
    [
        standing.expected,
        standing.connected,
        standing.applied,
        standing.rejected,
        standing.outdated,
        standing.pending,
    ]
}

/// Decision: running injected pods are expected, connected or not; up to five laggards are named with a reason.
#[test]
fn every_running_injected_pod_is_expected() {
    let mut sidecars = Sidecars::default();
    let now = S(200);
    for name in [
        "a-ok",
        "b-old",
        "c-mute",
        "d-refuses",
        "e-away",
        "f-away",
        "g-away",
    ] {
        sidecars.pod(pod(name, "orders"), S(0));
    }
    sidecars.pod(pod("other", "cart"), S(0));
    let rows = [
        ("a-ok", Some((3, None))),
        ("b-old", Some((2, None))),
        ("c-mute", None),
        ("d-refuses", Some((3, Some("InvalidPattern")))),
    ];
    for (number, (pod, ran)) in rows.into_iter().enumerate() {
        let instance = format!("{pod}-01234567");
        tell(
            &mut sidecars,
            "own",
            number as u64,
            sidecar("orders", &instance, ran),
            S(50),
        );
    }
    let found = standing(&sidecars, &object(3, &["orders"]), now);
    assert_eq!(counts(&found), [7, 4, 1, 1, 5, 0]);
    assert_eq!(found.apps, ["orders"]);
    assert_eq!(
        found.told_laggards(),
        "b-old (on generation 2), c-mute (does not answer), d-refuses (rejected: InvalidPattern: why), \
         e-away (not connected), f-away (not connected) and 1 more"
    );
    let all = standing(&sidecars, &object(3, &[]), now);
    assert_eq!(counts(&all), [8, 4, 1, 1, 6, 0]);
    let none = standing(&sidecars, &object(3, &["nobody"]), now);
    assert_eq!(counts(&none), [0; 6]);
    assert!(!none.is_complete());
}

/// Security 4.8: there are five seconds to answer, from the change or the connection.
#[test]
fn who_has_time_to_answer_is_pending() {
    let mut sidecars = Sidecars::default();
    sidecars.pod(pod("one", "orders"), S(0));
    tell(
        &mut sidecars,
        "own",
        1,
        sidecar("orders", "one-01234567", Some((2, None))),
        S(0),
    );
    for (now, want) in [(S(104), [1, 1, 0, 0, 0, 1]), (S(106), [1, 1, 0, 0, 1, 0])] {
        assert_eq!(counts(&standing(&sidecars, &object(3, &[]), now)), want);
    }
    tell(
        &mut sidecars,
        "own",
        2,
        sidecar("orders", "one-89abcdef", None),
        S(110),
    );
    let young = standing(&sidecars, &object(3, &[]), S(111));
    assert_eq!(
        counts(&young),
        [1, 1, 0, 0, 0, 1],
        "the newest session of a pod counts"
    );
    tell(
        &mut sidecars,
        "own",
        2,
        sidecar("orders", "one-89abcdef", Some((3, None))),
        S(112),
    );
    assert!(standing(&sidecars, &object(3, &[]), S(112)).is_complete());
}

#[test]
fn a_pod_that_has_just_begun_is_starting() {
    let mut sidecars = Sidecars::default();
    sidecars.pod(pod("one", "orders"), S(195));
    let found = standing(&sidecars, &object(3, &[]), S(200));
    assert_eq!((found.outdated, found.starting), (1, 1));
    let found = standing(&sidecars, &object(3, &[]), S(205));
    assert_eq!((found.outdated, found.starting), (1, 0));
    // It is not young again because something else of it changed.
    sidecars.pod(pod("one", "orders"), S(204));
    assert_eq!(standing(&sidecars, &object(3, &[]), S(206)).starting, 0);
    sidecars.pod(Fact::Gone(("shop".into(), "one".into())), S(207));
    assert_eq!(standing(&sidecars, &object(3, &[]), S(207)).expected, 0);
    assert!(sidecars.since.is_empty());
}

#[test]
fn pods_are_read_by_their_metadata() {
    let injected = json!({INJECTED: "true"});
    for (value, want) in [
        (json!({"name": "p"}), None),
        (
            json!({"name": "p", "labels": injected}),
            Some(("p", AppKind::Http, None)),
        ),
        (
            json!({"name": "p", "labels": {INJECTED: "true", APP_ID: "label"}}),
            Some(("label", AppKind::Http, None)),
        ),
        (
            json!({"name": "p", "labels": injected,
                "annotations": {APP_ID: "a", CONFIG: " c ", PROTOCOL: "GRPCS"}}),
            Some(("a", AppKind::Grpc, Some("c"))),
        ),
        (
            json!({"name": "p", "labels": injected, "deletionTimestamp": "2026-01-01T00:00:00Z"}),
            None,
        ),
    ] {
        let pod = Pod::of(&meta(value.clone()));
        let found = pod
            .as_ref()
            .map(|pod| (&*pod.app_id, pod.kind, pod.config.as_deref()));
        assert_eq!(found, want, "{value}");
    }
}

/// Decision: what other replicas tell counts like what is connected here, until they are gone.
#[test]
fn replicas_are_one() {
    let mut sidecars = Sidecars::default();
    for (replica, pod, number) in [
        ("own", "one", 1),
        ("two#0", "two", 1),
        ("two#0", "three", 2),
    ] {
        sidecars.pod(tests::pod(pod, "orders"), S(0));
        let instance = format!("{pod}-01234567");
        tell(
            &mut sidecars,
            replica,
            number,
            sidecar("orders", &instance, Some((3, None))),
            S(0),
        );
    }
    let counted = |denied| {
        HashMap::from([(
            "u".into(),
            Counts {
                denied,
                would_deny: 1,
            },
        )])
    };
    sidecars.counted(&"own".into(), counted(2));
    sidecars.counted(&"two#0".into(), counted(3));
    sidecars.counted(&"unknown".into(), counted(100));
    let sum = sidecars.last_hour("u");
    assert_eq!((sum.denied, sum.would_deny), (5, 2));
    assert!(standing(&sidecars, &object(3, &[]), S(200)).is_complete());
    let gone = News {
        sidecars: Vec::new(),
        gone: vec![2, 77],
    };
    sidecars.told(&"two#0".into(), gone, S(200));
    assert_eq!(
        counts(&standing(&sidecars, &object(3, &[]), S(200))),
        [3, 2, 2, 0, 1, 0]
    );
    assert_eq!(sidecars.lost(&"two#0".into(), S(200)).len(), 1);
    assert_eq!(
        counts(&standing(&sidecars, &object(3, &[]), S(200))),
        [3, 1, 1, 0, 2, 0]
    );
    assert_eq!(sidecars.last_hour("u").denied, 2);
    assert_eq!(sidecars.seats.len(), 1);
    sidecars.lost(&"own".into(), S(200));
    assert!(sidecars.by_namespace.is_empty() && sidecars.replicas.is_empty());
}

#[test]
fn what_other_replicas_tell_is_bounded() {
    let mut sidecars = Sidecars::default();
    for replica in 0..2 * MAX_REPLICAS {
        let news = News {
            sidecars: vec![(1, sidecar("orders", "one-01234567", None))],
            gone: Vec::new(),
        };
        sidecars.told(&format!("r{replica}").into(), news, S(0));
    }
    assert_eq!(sidecars.seats.len(), MAX_REPLICAS);
}

/// Of a name longer than a sidecar tells, the start is enough.
#[test]
fn long_names_of_pods_are_found() {
    let mut sidecars = Sidecars::default();
    let name = "p".repeat(150);
    sidecars.pod(pod(&name, "orders"), S(0));
    let instance = format!("{}-01234567", &name[..TOLD_NAME]);
    tell(
        &mut sidecars,
        "own",
        1,
        sidecar("orders", &instance, Some((3, None))),
        S(0),
    );
    assert!(standing(&sidecars, &object(3, &[]), S(200)).is_complete());
}

/// Every session ends with its certificate, and all those of a replica with its stream: nobody takes that for a turn.
#[test]
fn who_answered_and_left_is_coming_back() {
    let long = "p".repeat(TOLD_NAME + 20);
    let told = long.get(..TOLD_NAME).unwrap();
    let mut sidecars = Sidecars::default();
    let rows = [
        ("own", "one", "one", Some((3, None))),
        ("two#0", "two", "two", Some((2, None))),
        ("two#0", &long, told, Some((3, None))),
        ("two#0", "mute", "mute", None),
    ];
    for (number, (replica, name, told, ran)) in rows.into_iter().enumerate() {
        sidecars.pod(pod(name, "orders"), S(0));
        let instance = format!("{told}-01234567");
        let sidecar = sidecar("orders", &instance, ran);
        tell(&mut sidecars, replica, number as u64, sidecar, S(50));
    }
    let standing = |sidecars: &Sidecars, now| {
        let found = standing(sidecars, &object(3, &[]), now);
        (found.applied, found.outdated, found.starting)
    };
    assert_eq!(standing(&sidecars, S(200)), (2, 2, 0));
    sidecars.lost(&"two#0".into(), S(200));
    assert_eq!(standing(&sidecars, S(201)), (1, 3, 2), "not the mute one");
    let gone = News {
        sidecars: Vec::new(),
        gone: vec![0],
    };
    sidecars.told(&"own".into(), gone, S(205));
    assert_eq!(standing(&sidecars, S(209)), (0, 4, 3));
    assert_eq!(standing(&sidecars, S(210)), (0, 4, 1), "not for ever");
    let back = sidecar("orders", "one-89abcdef", Some((3, None)));
    tell(&mut sidecars, "own", 9, back, S(211));
    assert_eq!(standing(&sidecars, S(211)), (1, 3, 0));
}
