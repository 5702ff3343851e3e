//! The way from one app to another, one broken stage at a time.

use ironside_testkit::certs::Ca;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::super::finding::Weight;
use super::{App, Way, judge};

fn pod(name: &str, args: &[&str]) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "app"}, {"name": "daprd", "args": args}]},
        "status": {"containerStatuses": [
            {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0},
        ]},
    }))
    .unwrap()
}

fn way<'a>(callers: &'a [Pod], callees: &'a [Pod]) -> Way<'a> {
    Way {
        from: App::read("shop/web"),
        to: App::read("shop/orders"),
        callers: callers.iter().collect(),
        callees: callees.iter().collect(),
        service: Ok(Some(vec![
            "dapr-http".to_owned(),
            "dapr-internal".to_owned(),
        ])),
        addresses: Ok(1),
        healths: vec![("shop/orders-1".to_owned(), Ok((204, String::new())))],
        roots: None,
        verdict: Ok((true, "allow".to_owned())),
    }
}

fn bad(way: &Way<'_>) -> Vec<(&'static str, Weight, String)> {
    let found = judge(way)
        .into_iter()
        .filter(|one| one.weight != Weight::Good);
    found.map(|one| (one.check, one.weight, one.text)).collect()
}

#[test]
fn each_broken_stage_is_found_alone() {
    let callers = [pod("web-1", &["--app-id", "web", "--enable-mtls"])];
    let callees = [pod(
        "orders-1",
        &["--app-id", "orders", "--app-port", "80", "--enable-mtls"],
    )];
    assert_eq!(bad(&way(&callers, &callees)), []);
    let checks: Vec<&str> = judge(&way(&callers, &callees))
        .iter()
        .map(|one| one.check)
        .collect();
    assert_eq!(
        checks,
        [
            "sidecars",
            "resolution",
            "port",
            "identity",
            "policy",
            "app"
        ]
    );

    type Break<'a> = fn(&mut Way<'a>);
    let faults: [(Break<'_>, &str, Weight, &str); 9] = [
        (
            |w| w.callers.clear(),
            "sidecars",
            Weight::Error,
            "no pod of shop/web has a sidecar",
        ),
        (
            |w| w.service = Ok(None),
            "resolution",
            Weight::Error,
            "there is no Service shop/orders-dapr",
        ),
        (
            |w| w.service = Ok(Some(vec![])),
            "resolution",
            Weight::Error,
            "has no port dapr-internal",
        ),
        (
            |w| w.addresses = Ok(0),
            "resolution",
            Weight::Error,
            "has no ready address",
        ),
        (
            |w| w.addresses = Err("no".to_owned()),
            "resolution",
            Weight::Unknown,
            "no",
        ),
        (
            |w| w.healths[0].1 = Ok((500, "dapr is not ready: [runtime]".to_owned())),
            "sidecars",
            Weight::Error,
            "shop/orders-1 is not ready: dapr is not ready: [runtime]",
        ),
        (
            |w| w.healths[0].1 = Ok((403, "no".to_owned())),
            "sidecars",
            Weight::Unknown,
            "cannot ask shop/orders-1: no",
        ),
        (
            |w| w.verdict = Ok((false, "deny: x".to_owned())),
            "policy",
            Weight::Error,
            "deny: x",
        ),
        (
            |w| w.verdict = Err("broken".to_owned()),
            "policy",
            Weight::Error,
            "broken",
        ),
    ];
    for (fault, check, weight, text) in faults {
        let mut way = way(&callers, &callees);
        fault(&mut way);
        let found = bad(&way);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        let (at, how, what) = &found[0];
        assert!(
            (*at, *how) == (check, weight) && what.contains(text),
            "{text}: {found:?}"
        );
    }
    for (args, check, text) in [
        (
            &["--app-id", "orders", "--enable-mtls"][..],
            "port",
            "the sidecar of orders-1 has no app port",
        ),
        (
            &["--app-id", "orders", "--app-port", "80"],
            "identity",
            "has mutual TLS, the other has not",
        ),
        (
            &[
                "--app-id",
                "orders",
                "--app-port",
                "80",
                "--enable-mtls",
                "--dapr-internal-grpc-port",
                "7",
            ],
            "port",
            "the caller dials port 50002, its own, and orders-1 listens on 7",
        ),
    ] {
        let callees = [pod("orders-1", args)];
        let found = bad(&way(&callers, &callees));
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(
            found[0].0 == check && found[0].2.contains(text),
            "{found:?}"
        );
    }
    let mut ill = callees.clone();
    ill[0]
        .status
        .as_mut()
        .unwrap()
        .container_statuses
        .as_mut()
        .unwrap()[0]
        .ready = false;
    assert_eq!(
        bad(&way(&callers, &ill))[0].2,
        "container app of orders-1 is not ready"
    );
}

/// After a rotation every older pod was started with other roots; most have got the new ones since.
#[test]
fn roots_of_the_start_are_a_warning_only_where_no_others_can_have_come() {
    let (old, new) = (Ca::new(), Ca::new());
    let started = |name: &str, more: serde_json::Value| {
        let mut pod = pod(name, &["--app-id", name, "--app-port", "80"]);
        let roots = json!({"name": "DAPR_TRUST_ANCHORS", "value": old.root_pem()});
        let env = [vec![roots], more.as_array().unwrap().clone()].concat();
        let sidecar = &mut pod.spec.as_mut().unwrap().containers[1];
        sidecar.env = Some(serde_json::from_value(env.into()).unwrap());
        pod
    };
    let cache = json!([{"name": "DAPR_TRUST_ANCHORS_CACHE", "value": "/var/run/anchors.pem"}]);
    let (callers, callees) = ([started("web-1", cache)], [started("orders-1", json!([]))]);
    let mut way = way(&callers, &callees);
    let (of_old, of_new) = (old.bundle(), new.bundle());
    way.roots = Some(&of_old);
    assert_eq!(bad(&way), []);
    way.roots = Some(&of_new);
    let text = "was started with none of the current roots";
    let expected = [
        (
            "identity",
            Weight::Note,
            format!(
                "web-1 {text}; a sidecar of this project takes new ones from Sentry while it runs"
            ),
        ),
        (
            "identity",
            Weight::Warning,
            format!("orders-1 {text}, and nothing says that it takes new ones from Sentry"),
        ),
    ];
    assert_eq!(bad(&way), expected);
}

#[test]
fn an_app_of_another_namespace_is_called_by_both_names() {
    let (web, orders) = (App::read("shop/web"), App::read("shop/orders"));
    assert_eq!(orders.target(&web), "orders");
    assert_eq!(orders.target(&App::read("web")), "orders.shop");
}
