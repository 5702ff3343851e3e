//! Snapshots as a table: what is in force after them, and what the operator hears.

use bytes::Bytes;

use super::*;

const ALLOW: &str = r#"{"policies":[{"appId":"web","namespace":"shop","operations":[{"name":"/a","action":"allow"}]}]}"#;
const BAD_PATTERN: &str = r#"{"policies":[{"appId":"web","namespace":"shop","operations":[{"name":"/a/**/b","action":"allow"}]}]}"#;
const SHADOW: &str = r#"{"mode":"Shadow","defaultAction":"deny"}"#;

fn object(uid: &str, generation: i64, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"dapr.io/v1alpha1","kind":"AccessControl","metadata":{{"name":"{uid}","namespace":"shop","uid":"{uid}","generation":{generation}}},"scopes":["orders"],"spec":{spec}}}"#
    )
}

fn snapshot(objects: &[String]) -> WatchResponse {
    WatchResponse {
        snapshot: 1,
        synced: true,
        objects: objects
            .iter()
            .map(|text| Bytes::from(text.clone()))
            .collect(),
        ..WatchResponse::default()
    }
}

fn new() -> Adopted {
    Adopted::new(Namespace::parse("shop").unwrap())
}

/// After these snapshots, all of which must be taken.
fn after(snapshots: &[WatchResponse]) -> Adopted {
    let take = |adopted: Adopted, response| adopted.take(response).unwrap().0;
    snapshots.iter().fold(new(), take)
}

/// Names of the objects in force and of those that deny their scope.
fn names(adopted: &Adopted) -> (Vec<String>, Vec<String>) {
    let held = adopted.held().unwrap();
    let good = held.objects.iter().map(|object| object.name.clone());
    let bad = held.refused.iter().map(|object| object.name.to_string());
    (good.collect(), bad.collect())
}

fn codes<'a>(errors: &'a [ObjectError]) -> Vec<(&'a str, i64, &'a str)> {
    let code = |error: &'a ObjectError| (error.uid.as_str(), error.generation, error.code.as_str());
    errors.iter().map(code).collect()
}

#[test]
fn a_snapshot_replaces_everything() {
    let first = snapshot(&[object("a", 1, ALLOW), object("b", 1, ALLOW)]);
    let second = snapshot(&[object("b", 2, ALLOW), object("c", 1, ALLOW)]);
    let adopted = after(&[first, second]);
    assert_eq!(names(&adopted), (vec!["b".into(), "c".into()], vec![]));
    let seen = HashMap::from([("b".to_owned(), 2), ("c".to_owned(), 1)]);
    assert_eq!(adopted.seen(), seen);
    assert_eq!(adopted.uid_of("shop/b"), Some("b"));
    assert_eq!(adopted.uid_of("other/b"), None);
    assert!(adopted.guards());
    assert!(!after(&[snapshot(&[])]).guards());
}

/// Facts F6, F13, K203, K209: without a good generation an object denies its scope; the others still work.
#[test]
fn what_was_never_good_denies_its_scope() {
    for (spec, want) in [
        (BAD_PATTERN, "InvalidPattern"),
        (SHADOW, "UnknownField"),
        (
            r#"{"defaultAction":"deny","sourceIps":["10.0.0.0/8"]}"#,
            "UnknownField",
        ),
        (
            r#"{"evaluation":"DaprCompatible","defaultAction":"deny","unauthenticated":"Deny"}"#,
            "CompatibleModeForbidsField",
        ),
        ("null", "InvalidPattern"),
        ("7", "UnknownField"),
    ] {
        let response = snapshot(&[object("bad", 4, spec), object("good", 1, ALLOW)]);
        let (adopted, errors) = new().take(&response).unwrap();
        assert_eq!(codes(&errors), [("bad", 4, want)], "{spec}");
        let held = adopted.held().unwrap();
        assert_eq!(held.objects.len(), 1);
        let refused = Refused {
            name: "shop/bad".into(),
            scopes: vec!["orders".into()],
        };
        assert_eq!(held.refused, [refused], "{spec}");
    }
    let odd = object("bad", 1, SHADOW).replace(r#"["orders"]"#, r#""orders""#);
    let adopted = after(&[snapshot(&[odd])]);
    assert!(
        adopted.held().unwrap().refused[0].scopes.is_empty(),
        "everybody's"
    );
}

/// Facts F6, K204.
#[test]
fn the_last_good_generation_stays() {
    let (good, bad) = (object("a", 1, ALLOW), object("a", 2, BAD_PATTERN));
    let adopted = after(&[snapshot(&[good]), snapshot(std::slice::from_ref(&bad))]);
    assert_eq!(names(&adopted), (vec!["a".into()], vec![]));
    assert_eq!(adopted.seen()["a"], 2, "it was seen all the same");
    let outdated = |adopted: &Adopted| adopted.held().unwrap().outdated.clone();
    assert_eq!(outdated(&adopted), ["shop/a".into()]);
    // It is refused again for as long as it comes, and healed by the next good one.
    let (adopted, errors) = adopted.take(&snapshot(&[bad])).unwrap();
    assert_eq!(codes(&errors), [("a", 2, "InvalidPattern")]);
    assert_eq!(outdated(&adopted), ["shop/a".into()]);
    let healed = snapshot(&[object("a", 3, r#"{"defaultAction":"deny"}"#)]);
    let (adopted, errors) = adopted.take(&healed).unwrap();
    assert!(errors.is_empty() && outdated(&adopted).is_empty());
    assert!(adopted.held().unwrap().objects[0].spec.policies.is_empty());
    // Another object of that name has another UID, and no past.
    let again = object("b", 1, BAD_PATTERN).replace(r#""name":"b""#, r#""name":"a""#);
    let (adopted, _) = adopted.take(&snapshot(&[again])).unwrap();
    assert_eq!(names(&adopted), (vec![], vec!["shop/a".into()]));
}

/// Facts F7, K212.
#[test]
fn a_snapshot_that_is_too_large_or_makes_no_sense_is_refused_whole() {
    let large = object("big", 1, ALLOW).replace(
        "\"spec\"",
        &format!("\"x\":\"{}\",\"spec\"", "x".repeat(MAX_OBJECTS)),
    );
    let adopted = after(&[snapshot(&[object("a", 1, ALLOW)])]);
    let refusal = adopted.take(&snapshot(&[large])).unwrap_err();
    assert!(matches!(refusal, Refusal::TooLarge { .. }) && !refusal.ends_stream());
    assert_eq!(
        (refusal.report().uid, refusal.report().code),
        (String::new(), "TooLarge".into())
    );
    let without = |field: &str| object("b", 1, ALLOW).replace(field, "\"y\":1");
    for text in [
        String::new(),
        "{".into(),
        "[]".into(),
        "\u{0}".into(),
        without(r#""uid":"b""#),
        without(r#""generation":1"#),
        object("", 1, ALLOW),
        object(&"u".repeat(200), 1, ALLOW),
        "[".repeat(100_000),
    ] {
        let refused = adopted.take(&snapshot(&[object("c", 1, ALLOW), text.clone()]));
        let refusal = refused.unwrap_err();
        assert_eq!(
            refusal.report().code,
            "Malformed",
            "{}",
            &text[..text.len().min(40)]
        );
    }
    let twice = snapshot(&[object("c", 1, ALLOW), object("c", 1, ALLOW)]);
    assert_eq!(adopted.take(&twice).unwrap_err().report().code, "Malformed");
}

/// Facts F8, K208.
#[test]
fn an_older_generation_is_stale_even_where_it_was_bad() {
    let adopted = after(&[snapshot(&[object("a", 5, ALLOW), object("b", 9, SHADOW)])]);
    for (uid, generation, is_stale) in [
        ("a", 4, true),
        ("a", 5, false),
        ("b", 8, true),
        ("b", 9, false),
        ("c", 0, false),
    ] {
        let others = [("a", 5), ("b", 9)]
            .iter()
            .filter(|(other, _)| *other != uid);
        let mut objects: Vec<String> = others
            .map(|(uid, generation)| object(uid, *generation, ALLOW))
            .collect();
        objects.push(object(uid, generation, ALLOW));
        let taken = adopted.take(&snapshot(&objects));
        assert_eq!(taken.is_err(), is_stale, "{uid} {generation}");
        if let Err(refusal) = taken {
            assert_eq!(refusal.report().code, "stale");
            assert!(refusal.ends_stream());
        }
    }
}

/// Facts F4, F9, K210: nothing goes because it is missing from an incomplete snapshot, and none is a beginning.
#[test]
fn only_a_complete_snapshot_removes() {
    let partial = |objects: &[String]| WatchResponse {
        synced: false,
        ..snapshot(objects)
    };
    let waiting = after(&[partial(&[object("a", 1, ALLOW)])]);
    assert!(
        waiting.held().is_none() && !waiting.has_arrived(),
        "not an empty list"
    );
    assert_eq!(
        names(&after(&[partial(&[object("a", 1, ALLOW)]), snapshot(&[])])),
        (vec![], vec![])
    );
    let adopted = after(&[
        snapshot(&[object("a", 1, ALLOW), object("b", 1, ALLOW)]),
        partial(&[object("b", 2, ALLOW), object("c", 1, ALLOW)]),
    ]);
    assert_eq!(names(&adopted).0, ["a", "b", "c"]);
    assert_eq!(adopted.seen()["b"], 2);
}

/// Facts M8, K199.
#[test]
fn the_default_follows_complete_snapshots() {
    let with = |action: &str, synced| WatchResponse {
        default_action: action.into(),
        synced,
        ..snapshot(&[])
    };
    for (snapshots, want) in [
        (vec![with("", true)], false),
        (vec![with("deny", true)], true),
        (vec![with("Deny", true)], true),
        (vec![with("allow", true)], false),
        (vec![with("deny", true), with("", false)], true),
        (vec![with("deny", true), with("", true)], false),
    ] {
        let adopted = after(&snapshots);
        assert_eq!(
            adopted.held().unwrap().deny_by_default,
            want,
            "{snapshots:?}"
        );
    }
}

/// Facts M10, K196: whatever the operator sends.
#[test]
fn an_object_of_another_namespace_is_never_in_force() {
    let foreign = object("a", 1, ALLOW).replace("\"shop\",\"uid\"", "\"other\",\"uid\"");
    let bad = object("b", 1, SHADOW).replace("\"shop\",\"uid\"", "\"other\",\"uid\"");
    let (adopted, errors) = new().take(&snapshot(&[foreign, bad])).unwrap();
    assert_eq!(
        codes(&errors),
        [("a", 1, "Namespace"), ("b", 1, "Namespace")]
    );
    assert_eq!(names(&adopted), (vec![], vec![]));
    assert!(!adopted.guards());
}

/// The operator ends a stream for a request of more than 256 KiB, and would never hear what is wrong.
#[test]
fn many_errors_fit_into_one_answer_and_hide_nothing() {
    let error = |at: usize| ObjectError {
        uid: format!("{at:036}"),
        generation: 1,
        code: "InvalidPattern".to_owned(),
        message: "x".repeat(MAX_MESSAGE),
    };
    let size = |errors: &[ObjectError]| {
        let ack = ironside_proto::discovery::Ack {
            snapshot: u64::MAX,
            accepted: false,
            errors: errors.to_vec(),
        };
        prost::Message::encoded_len(&ack)
    };
    let few: Vec<_> = (0..200).map(error).collect();
    assert_eq!(abridged(few.clone()), few);
    let many: Vec<_> = (0..10_000).map(error).collect();
    let told = abridged(many.clone());
    assert!(size(&told) < 256 * 1024, "{}", size(&told));
    let (rest, named) = told.split_last().unwrap();
    assert!(named.len() > 200);
    assert_eq!(named, &many[..named.len()]);
    let more = format!("{} more objects", many.len() - named.len());
    assert!(
        rest.uid.is_empty() && rest.message.starts_with(&more),
        "{rest:?}"
    );
}
