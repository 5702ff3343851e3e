//! What becomes of a pod, row by row (kubernetes.md 9.1, 9.2).

use super::*;
use crate::patch::tests::{ANCHORS, base, plain};
use serde_json::json;

const CONTROLLER: &str = "system:serviceaccount:kube-system:replicaset-controller";

fn ask(user: &str, object: Value) -> Request {
    serde_json::from_value(json!({
        "uid": "u-1", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "n1",
        "operation": "CREATE", "userInfo": {"username": user, "groups": ["system:authenticated"]},
        "object": object, "oldObject": null, "options": {"kind": "CreateOptions"},
    }))
    .unwrap()
}

fn decided(request: &Request) -> Verdict {
    let (settings, callers) = (plain(), Callers::new(&[]).unwrap());
    decide(
        request,
        &Moment {
            settings: &settings,
            callers: &callers,
            trust_anchors: Some(ANCHORS),
            mtls: true,
        },
    )
}

/// The base pod with other annotations: nothing takes one away.
fn annotated(pairs: &[(&str, Option<&str>)]) -> Value {
    let mut pod = base();
    let annotations = pod["metadata"]["annotations"].as_object_mut().unwrap();
    for (name, value) in pairs {
        let name = format!("dapr.io/{name}");
        match value {
            Some(value) => annotations.insert(name, (*value).into()),
            None => annotations.remove(&name),
        };
    }
    pod
}

fn judged(pairs: &[(&str, Option<&str>)]) -> Verdict {
    decided(&ask(CONTROLLER, annotated(pairs)))
}

fn denied(verdict: Verdict) -> String {
    match verdict.answer {
        Answer::Deny(text) => text,
        other @ (Answer::Allow | Answer::Patch(_)) => panic!("{other:?}"),
    }
}

fn is_patched(verdict: &Verdict) -> bool {
    matches!(verdict.answer, Answer::Patch(_))
}

/// KI-07, KI-08, KI-09, KI-10
#[test]
fn pods_that_ask_for_a_sidecar_get_one() {
    for yes in ["true", "TRUE", "True", "yes", "on", "1"] {
        let verdict = judged(&[("enabled", Some(yes))]);
        assert!(is_patched(&verdict), "{yes}");
        let unusual = !yes.eq_ignore_ascii_case("true");
        assert_eq!(
            !verdict.warnings.is_empty(),
            unusual,
            "{:?}",
            verdict.warnings
        );
    }
    for no in [None, Some("false"), Some(""), Some("0"), Some("maybe")] {
        let verdict = judged(&[("enabled", no)]);
        assert_eq!(
            (verdict.answer, verdict.outcome),
            (Answer::Allow, Outcome::NotEnabled)
        );
        assert_eq!(verdict.warnings.len(), usize::from(no == Some("maybe")));
        assert_eq!(verdict.event, None);
        // Whoever asks: this comes before the caller.
        let anyone = decided(&ask("anyone", annotated(&[("enabled", no)])));
        assert_eq!(anyone.outcome, Outcome::NotEnabled);
    }
}

/// The warning goes to the controller; who wrote the Deployment finds it at its ReplicaSet.
#[test]
fn a_value_that_says_neither_yes_nor_no_is_told_to_the_owner() {
    let mut pod = annotated(&[("enabled", Some("ture"))]);
    pod["metadata"]["ownerReferences"] =
        json!([{"kind": "ReplicaSet", "name": "app1-7d9", "uid": "u-9", "controller": true}]);
    let request = ask(CONTROLLER, pod);
    let verdict = decided(&request);
    let text = "dapr.io/enabled: \"ture\" counts as false; no sidecar is injected";
    assert_eq!(verdict.warnings, [text]);
    let (subject, news) = verdict.event.unwrap();
    assert_eq!(
        (subject.name.as_str(), news.reason, news.note.as_str()),
        ("app1-7d9", "SidecarNotInjected", text)
    );
    // KI-24: nothing is written for a trial.
    let trial = Request {
        dry_run: Some(true),
        ..request
    };
    assert_eq!(decided(&trial).event, None);
}

/// KI-11
#[test]
fn a_caller_who_is_not_allowed_is_named() {
    let mut pod = base();
    pod["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "v1", "kind": "Other", "name": "o", "uid": "u-8"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app1-7d9", "uid": "u-9", "controller": true},
    ]);
    let request = ask("system:serviceaccount:some-ns:some-sa", pod);
    let verdict = decided(&request);
    assert_eq!(
        (&verdict.answer, verdict.outcome),
        (&Answer::Allow, Outcome::CallerNotAllowed)
    );
    assert!(verdict.warnings[0].contains("system:serviceaccount:some-ns:some-sa"));
    let (subject, news) = verdict.event.unwrap();
    assert_eq!(
        (subject.name.as_str(), subject.uid.as_str()),
        ("app1-7d9", "u-9")
    );
    assert_eq!(
        (subject.namespace.as_str(), news.reason),
        ("n1", "SidecarNotInjected")
    );
    // KI-24: nothing is written for a trial.
    let trial = Request {
        dry_run: Some(true),
        ..request
    };
    assert!(decided(&trial).event.is_none());
}

/// KI-17, KI-18
#[test]
fn a_pod_that_has_a_sidecar_is_left_alone() {
    for list in ["containers", "initContainers"] {
        let mut pod = base();
        pod["spec"][list] = json!([{"name": "daprd"}]);
        let verdict = decided(&ask(CONTROLLER, pod));
        assert_eq!(
            (verdict.answer, verdict.outcome),
            (Answer::Allow, Outcome::SidecarExists)
        );
    }
}

/// KI-19, KI-20, KI-21, KI-22
#[test]
fn app_ids_make_names_of_services() {
    let mut named = annotated(&[("app-id", None)]);
    named["metadata"] = json!({"name": "solo", "annotations": {"dapr.io/enabled": "true"}});
    let verdict = decided(&ask(CONTROLLER, named));
    let Answer::Patch(patch) = &verdict.answer else {
        panic!("{:?}", verdict.answer);
    };
    let patch = serde_json::to_string(patch).unwrap();
    assert!(patch.contains(r#""--app-id","solo""#), "{patch}");
    let label = r#""path":"/metadata/labels/dapr.io~1app-id","value":"solo""#;
    assert!(patch.contains(label), "{patch}");
    assert_eq!(verdict.app_id, "solo");
    for none in [None, Some("")] {
        let text = denied(judged(&[("app-id", none)]));
        assert_eq!(text, "value for the dapr.io/app-id annotation is empty");
    }
    let long = "a".repeat(59);
    for bad in ["App_1", long.as_str(), "a.b", "-a", "a b", "é"] {
        let text = denied(judged(&[("app-id", Some(bad))]));
        assert!(
            text.starts_with(&format!(
                "invalid app id (input: '{bad}', service: '{bad}-dapr')"
            )),
            "{text}"
        );
    }
    for good in [&long[..58], "a", "0", "a--b", "a-"] {
        assert!(is_patched(&judged(&[("app-id", Some(good))])), "{good}");
    }
}

/// KI-06
#[test]
fn other_kinds_pass() {
    let mut request = ask(CONTROLLER, base());
    request.kind.kind = "Deployment".into();
    let verdict = decided(&request);
    assert_eq!(
        (verdict.answer, verdict.outcome),
        (Answer::Allow, Outcome::NotAPod)
    );
}

#[test]
fn a_pod_that_cannot_be_read_is_denied_if_it_may_have_asked() {
    let asks = json!({"annotations": {"dapr.io/enabled": "true"}});
    for (pod, text) in [
        (
            json!({"metadata": asks, "spec": {"containers": 7}}),
            "the pod cannot be decoded",
        ),
        (
            json!({"metadata": asks, "spec": {"initContainers": [["a"]]}}),
            "the pod cannot be decoded: a container is no object",
        ),
        (json!({"metadata": asks}), "the pod has no spec"),
        (json!({"metadata": asks, "spec": []}), "the pod has no spec"),
        (Value::Null, "the pod has no metadata"),
        (json!("pod"), "the pod has no metadata"),
    ] {
        let said = denied(decided(&ask(CONTROLLER, pod)));
        assert!(said.starts_with(text), "{said}");
    }
    let odd = json!({"metadata": {}, "spec": {"containers": 7}});
    assert_eq!(decided(&ask(CONTROLLER, odd)).outcome, Outcome::NotEnabled);
}

#[test]
fn numbers_that_are_no_ports_are_denied_with_their_name() {
    for (name, value) in [
        ("app-port", "65536"),
        ("app-port", "-1"),
        ("grpc-port", "0"),
        ("metrics-port", "70000"),
        ("internal-grpc-port", "99999999999"),
    ] {
        let text = denied(judged(&[(name, Some(value))]));
        let begin =
            format!("invalid value for the annotation dapr.io/{name}: \"{value}\" is no port");
        assert!(text.starts_with(&begin), "{text}");
    }
}

#[test]
fn nobody_is_injected_before_there_are_anchors() {
    let (settings, callers) = (plain(), Callers::new(&[]).unwrap());
    let moment = Moment {
        settings: &settings,
        callers: &callers,
        trust_anchors: None,
        mtls: true,
    };
    let text = denied(decide(&ask(CONTROLLER, base()), &moment));
    assert!(
        text.starts_with("the trust anchors are not available yet"),
        "{text}"
    );
}

/// KP-18, KP-24, KP-38: what the user should know, in words.
#[test]
fn warnings_say_what_is_wrong() {
    for (name, value, text) in [
        (
            "foo",
            "x",
            "unknown annotation \"dapr.io/foo\"; it is ignored",
        ),
        (
            "app-prot",
            "3",
            "unknown annotation \"dapr.io/app-prot\"; did you mean dapr.io/app-port?",
        ),
        (
            "enable-api-loging",
            "x",
            "did you mean dapr.io/enable-api-logging?",
        ),
        (
            "app-port",
            "abc",
            "dapr.io/app-port: \"abc\" is no number; the default is used",
        ),
        (
            "app-protocol",
            "bogus",
            "dapr.io/app-protocol: \"bogus\" is none of http, https",
        ),
        (
            "log-as-json",
            "yes",
            "dapr.io/log-as-json: \"yes\" counts as true; write true or false",
        ),
        (
            "log-as-json",
            "nope",
            "dapr.io/log-as-json: \"nope\" counts as false",
        ),
        (
            "sidecar-cpu-limit",
            "lots",
            "dapr.io/sidecar-cpu-limit: \"lots\" is no quantity",
        ),
        (
            "max-body-size",
            "4 MB",
            "dapr.io/max-body-size: \"4 MB\" is no quantity",
        ),
        (
            "block-shutdown-duration",
            "10",
            "dapr.io/block-shutdown-duration: \"10\" is no duration",
        ),
        (
            "sidecar-seccomp-profile-type",
            "runtimedefault",
            "is none of RuntimeDefault, Unconfined",
        ),
        (
            "sidecar-readiness-probe-period-seconds",
            "0",
            "is not between 1 and 2147483647",
        ),
        (
            "enable-debug",
            "true",
            "dapr.io/enable-debug: it has no effect here",
        ),
        ("component-container", "{}", "it has no effect here"),
        ("sidecar-image", "", "an empty image"),
        (
            "env",
            "nothing",
            "dapr.io/env: \"nothing\" is no pair NAME=value; it is left out",
        ),
        (
            "env",
            "NAMESPACE=x",
            "NAMESPACE takes the place of what the sidecar needs",
        ),
        ("env-from-secret", "A=b:c:d", "A has more than one colon"),
        ("volume-mounts", "nope:/m", "the pod has no volume \"nope\""),
        (
            "volume-mounts-rw",
            "nope",
            "\"nope\" is no pair volume:path",
        ),
        (
            "app-port",
            "3500",
            "dapr.io/app-port: port 3500 of container daprd is taken: HTTP API",
        ),
        ("metrics-port", "50001", "is taken: dapr.io/grpc-port"),
    ] {
        let verdict = judged(&[(name, Some(value))]);
        assert!(is_patched(&verdict), "{name}");
        let [warning] = verdict.warnings.as_slice() else {
            panic!("{name}: {:?}", verdict.warnings);
        };
        assert!(warning.contains(text), "{warning}");
    }
    assert_eq!(judged(&[]).warnings, [""; 0]);
    for quiet in ["control-plane", "config", "app-protocol"] {
        assert_eq!(
            judged(&[(quiet, Some("grpc"))]).warnings,
            [""; 0],
            "{quiet}"
        );
    }
}

#[test]
fn warnings_are_bounded_and_told_to_the_owner() {
    let names: Vec<String> = (0..100)
        .map(|number| format!("zz{number}{}", "x".repeat(200)))
        .collect();
    let pairs: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), Some("1")))
        .collect();
    let mut pod = annotated(&pairs);
    pod["metadata"]["ownerReferences"] = json!([{"kind": "Job", "name": "j", "uid": "u"}]);
    let verdict = decided(&ask(CONTROLLER, pod));
    assert_eq!(verdict.warnings.len(), 17);
    assert!(verdict.warnings.iter().all(|warning| warning.len() < 256));
    let (subject, news) = verdict.event.unwrap();
    assert_eq!(
        (subject.kind.as_str(), news.reason),
        ("Job", "SidecarAnnotations")
    );
}

/// A body with as much of everything as fits in 3 MiB is answered at once.
#[test]
fn time_is_bounded_by_the_length() {
    let long = |part: &str| part.repeat(700_000 / part.len());
    let mut pairs: Vec<(String, String)> = (0..20_000)
        .map(|n| (format!("app-prot{n}"), "x".into()))
        .collect();
    pairs.push(("env".into(), long(",")));
    pairs.push(("volume-mounts".into(), long("v:/m,")));
    pairs.push(("pluggable-components".into(), long("a,")));
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(n, v)| (n.as_str(), Some(v.as_str())))
        .collect();
    let mut pod = annotated(&pairs);
    let volumes: Vec<_> = (0..30_000)
        .map(|n| json!({"name": format!("v{n}")}))
        .collect();
    pod["spec"]["volumes"] = volumes.into();
    // It would take minutes if any two of these were compared with each other.
    assert!(is_patched(&decided(&ask(CONTROLLER, pod))));
}
