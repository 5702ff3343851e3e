//! Objects as tables: what goes to sidecars, and when.

use super::*;
use serde_json::json;

pub(crate) fn stored(name: &str, generation: i64, revision: u64, spec: &Value) -> Value {
    json!({
        "apiVersion": API_VERSION, "kind": KIND,
        "metadata": {
            "name": name, "namespace": "shop", "uid": format!("uid-{name}"), "generation": generation,
            "resourceVersion": revision.to_string(), "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "kubectl"}], "labels": {"a": "b"},
        },
        "spec": spec,
    })
}

fn deny() -> Value {
    json!({"defaultAction": "deny"})
}

fn bad() -> Value {
    json!({"policies": [{"appId": "web", "namespace": "shop", "operations": [{"name": "/a/**/b", "action": "allow"}]}]})
}

fn is(value: Value) -> Fact<Object> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    Fact::Is(key(name), Object::of(value))
}

fn key(name: &str) -> Key {
    ("shop".into(), name.into())
}

/// What there is to publish: `whole` or `lost` with UIDs, `look` or `wait`.
fn published(objects: &mut Objects, found: Option<Definition>) -> String {
    let uids = |world: &World| {
        let uids: Vec<&str> = world.objects.iter().map(|object| &*object.uid).collect();
        uids.join(",")
    };
    match objects.publish(found, false) {
        Publish::Wait => "wait".to_owned(),
        Publish::Look => "look".to_owned(),
        Publish::Whole(world) => {
            assert!(world.synced);
            format!("whole {}", uids(&world))
        }
        Publish::Lost(world) => match world {
            Some(world) => {
                assert!(!world.synced);
                format!("lost {}", uids(&world))
            }
            None => "lost".to_owned(),
        },
    }
}

#[test]
fn a_new_status_is_no_news_to_sidecars() {
    let plain = Object::of(stored("a", 3, 10, &deny())).unwrap();
    let mut value = stored("a", 3, 11, &deny());
    value["status"] = json!({"observedGeneration": 3, "policyCount": 2});
    let with_status = Object::of(value).unwrap();
    assert_eq!(plain.stored, with_status.stored);
    assert_eq!((plain.revision, with_status.revision), (10, 11));
    assert_eq!(with_status.status.unwrap().policy_count, 2);
    let json: Value = serde_json::from_slice(&plain.stored.json).unwrap();
    assert_eq!(
        json,
        json!({
            "apiVersion": API_VERSION, "kind": KIND,
            "metadata": {"name": "a", "namespace": "shop", "uid": "uid-a", "generation": 3},
            "spec": {"defaultAction": "deny"},
        })
    );
}

/// Facts K203, K209: whatever is stored goes to sidecars as it is, and is told of.
#[test]
fn what_cannot_be_used_is_distributed_and_says_why() {
    let deep = json!({"policies": (0..200).map(|n| json!({"appId": format!("a{n}"), "namespace": "x"})).collect::<Vec<_>>()});
    let compatible =
        json!({"evaluation": "DaprCompatible", "defaultAction": "deny", "unauthenticated": "Deny"});
    for (spec, reason) in [
        (bad(), "InvalidPattern"),
        (
            json!({"mode": "Shadow", "defaultAction": "deny"}),
            "UnknownField",
        ),
        (
            json!({"defaultAction": "deny", "colour": "red"}),
            "UnknownField",
        ),
        (deep, "TooLarge"),
        (compatible, "CompatibleModeForbidsField"),
        (json!({}), "InvalidPattern"),
    ] {
        let object = Object::of(stored("a", 1, 1, &spec)).unwrap();
        let refused = object.rules.unwrap_err();
        assert_eq!(refused.reason, reason, "{spec}");
        assert!(!refused.message.is_empty() && refused.message.len() <= MAX_TEXT);
        let sent: Value = serde_json::from_slice(&object.stored.json).unwrap();
        assert_eq!(sent["spec"], spec);
    }
    for nobody in [
        json!({}),
        json!([]),
        json!({"metadata": {"name": "a", "namespace": "shop"}}),
    ] {
        assert!(Object::of(nobody.clone()).is_none(), "{nobody}");
    }
}

/// Fact K204: the last good rules stay those in force, for as long as the object is the same.
#[test]
fn the_last_good_rules_are_remembered() {
    let mut objects = Objects::default();
    objects.take(is(stored("a", 1, 1, &deny())));
    objects.take(is(stored("a", 2, 2, &bad())));
    objects.take(is(stored("a", 3, 3, &json!({}))));
    let in_force = |objects: &Objects| {
        let object = objects.get(&key("a")).unwrap();
        objects
            .in_force(object)
            .map(|rules| rules.spec.policies.len())
    };
    assert_eq!(in_force(&objects), Some(0));
    let mut other = stored("a", 1, 4, &bad());
    other["metadata"]["uid"] = "uid-of-another".into();
    objects.take(is(other));
    assert_eq!(in_force(&objects), None, "another object of that name");
    assert!(objects.good.is_empty());
    objects.take(is(stored("a", 5, 5, &deny())));
    assert!(in_force(&objects).is_some() && objects.good.is_empty());
}

/// Facts F4, K210: nothing is taken away with the definition of the kind.
#[test]
fn objects_go_only_while_their_kind_stays() {
    let served = Some(Definition::Served);
    let mut objects = Objects::default();
    assert_eq!(published(&mut objects, None), "wait");
    objects.take(Fact::Listing);
    for name in ["a", "b"] {
        objects.take(is(stored(name, 1, 7, &deny())));
    }
    assert_eq!(
        published(&mut objects, None),
        "wait",
        "the list is not whole"
    );
    objects.take(Fact::Complete);
    assert_eq!(
        published(&mut objects, None),
        "look",
        "sidecars may have more"
    );
    assert_eq!(published(&mut objects, Some(Definition::Unknown)), "look");
    assert_eq!(published(&mut objects, served), "whole uid-a,uid-b");
    // What is new or changed needs no look.
    objects.take(is(stored("b", 2, 8, &bad())));
    objects.take(is(stored("c", 1, 9, &deny())));
    assert_eq!(published(&mut objects, None), "whole uid-a,uid-b,uid-c");
    objects.take(Fact::Gone(key("a")));
    assert_eq!(published(&mut objects, None), "look");
    assert_eq!(published(&mut objects, Some(Definition::Unknown)), "look");
    assert_eq!(
        published(&mut objects, Some(Definition::Going)),
        "lost uid-b,uid-c"
    );
    // It was another deletion: the definition is there.
    assert_eq!(published(&mut objects, served), "whole uid-b,uid-c");
    // The definition goes: all objects are deleted first, then lists fail.
    objects.take(Fact::Gone(key("b")));
    objects.take(Fact::Gone(key("c")));
    assert_eq!(published(&mut objects, Some(Definition::Going)), "lost ");
    objects.take(Fact::NoKind);
    assert_eq!(
        published(&mut objects, served),
        "lost ",
        "the watch has the last word"
    );
    objects.take(Fact::Listing);
    objects.take(Fact::Complete);
    assert_eq!(published(&mut objects, None), "look");
    assert_eq!(published(&mut objects, served), "whole ");
}

/// Fact F4: without the definition there is never an empty list.
#[test]
fn a_kind_that_never_was_is_not_empty() {
    let mut objects = Objects::default();
    objects.take(Fact::Listing);
    objects.take(Fact::NoKind);
    assert_eq!(published(&mut objects, Some(Definition::Going)), "lost");
}

#[test]
fn revisions_only_grow() {
    let mut objects = Objects::default();
    let revision = |objects: &mut Objects| match objects.publish(Some(Definition::Served), true) {
        Publish::Whole(world) => {
            assert!(world.deny_by_default);
            world.revision
        }
        other @ (Publish::Wait | Publish::Look | Publish::Lost(_)) => panic!("{other:?}"),
    };
    objects.take(Fact::Listing);
    objects.take(is(stored("a", 1, 40, &deny())));
    objects.take(Fact::Complete);
    assert_eq!(revision(&mut objects), 40);
    objects.reached(50);
    objects.take(Fact::Gone(key("a")));
    assert_eq!(revision(&mut objects), 50);
    objects.reached(45);
    assert_eq!(revision(&mut objects), 50);
}
