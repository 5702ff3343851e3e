//! A ConversionReview in, its answer out: Subscription between `v1alpha1` and `v2alpha1` (kubernetes 3.6).
//!
//! Pure. The two differ in one field: `spec.route` of the first is `spec.routes.default` of the second. Rules of the
//! second have no place in the first: they are kept in an annotation, so that a round trip loses nothing. Everything
//! else, metadata included, stays as it is.

use serde_json::{Map, Value, json};

/// Annotation of a `v1alpha1` object: the rules that it cannot hold.
const RULES: &str = "dapr.io/subscription-rules";
const GROUP: &str = "dapr.io/";

/// Why a review has no answer at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReviewError {
    #[error("no ConversionReview: request.{0} is missing or no {1}")]
    Field(&'static str, &'static str),
}

/// Answers a review; what cannot be converted is said in the answer.
///
/// # Errors
/// [`ReviewError`] if it is none.
pub(super) fn answer(mut review: Value) -> Result<Value, ReviewError> {
    let version = review.get("apiVersion").and_then(Value::as_str);
    let version = version.unwrap_or("apiextensions.k8s.io/v1").to_owned();
    let request = review.get_mut("request").map(Value::take);
    let mut request = request.unwrap_or_default();
    let text = |name: &'static str| {
        let text = request.get(name).and_then(Value::as_str);
        let text = text.map(str::to_owned);
        text.ok_or(ReviewError::Field(name, "text"))
    };
    let (uid, wanted) = (text("uid")?, text("desiredAPIVersion")?);
    let objects = request.get_mut("objects").map(Value::take);
    let Some(Value::Array(objects)) = objects else {
        return Err(ReviewError::Field("objects", "list"));
    };
    let converted: Result<Vec<Value>, String> = objects
        .into_iter()
        .map(|object| convert(object, &wanted))
        .collect();
    let response = match converted {
        Ok(objects) => json!({
            "uid": uid, "convertedObjects": objects, "result": {"status": "Success"},
        }),
        Err(message) => json!({
            "uid": uid, "convertedObjects": [], "result": {"status": "Failure", "message": message},
        }),
    };
    Ok(json!({"apiVersion": version, "kind": "ConversionReview", "response": response}))
}

fn convert(mut object: Value, wanted: &str) -> Result<Value, String> {
    let Some(map) = object.as_object_mut() else {
        return Err("an object is no object".to_owned());
    };
    let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, version) = (text("kind").to_owned(), text("apiVersion").to_owned());
    if kind != "Subscription" {
        return Err(format!("kind {kind:?} is not converted here"));
    }
    let steps = (version.strip_prefix(GROUP), wanted.strip_prefix(GROUP));
    match steps {
        (Some(from), Some(to)) if from == to => return Ok(object),
        (Some("v1alpha1"), Some("v2alpha1")) => to_second(map),
        (Some("v2alpha1"), Some("v1alpha1")) => to_first(map),
        _other => {
            return Err(format!("no conversion from {version:?} to {wanted:?}"));
        }
    }
    map.insert("apiVersion".to_owned(), wanted.into());
    Ok(object)
}

fn to_second(object: &mut Map<String, Value>) {
    let rules = notes(object).and_then(|notes| notes.remove(RULES));
    let rules = rules.as_ref().and_then(Value::as_str);
    let rules: Option<Value> = rules.and_then(|text| serde_json::from_str(text).ok());
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let mut routes = Map::new();
    if let Some(route) = spec.remove("route") {
        routes.insert("default".to_owned(), route);
    }
    if let Some(rules @ Value::Array(_)) = rules {
        routes.insert("rules".to_owned(), rules);
    }
    spec.insert("routes".to_owned(), routes.into());
}

fn to_first(object: &mut Map<String, Value>) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let mut routes = spec.remove("routes").unwrap_or_default();
    let mut take = |name: &str| routes.as_object_mut()?.remove(name);
    let (route, rules) = (take("default"), take("rules"));
    if let Some(route) = route {
        spec.insert("route".to_owned(), route);
    }
    let has_rules = |rules: &Value| rules.as_array().is_some_and(|rules| !rules.is_empty());
    if let Some(rules) = rules.filter(has_rules) {
        let meta = object.entry("metadata").or_insert_with(|| json!({}));
        if let Some(meta) = meta.as_object_mut() {
            let notes = meta.entry("annotations").or_insert_with(|| json!({}));
            if let Some(notes) = notes.as_object_mut() {
                notes.insert(RULES.to_owned(), rules.to_string().into());
            }
        }
    }
}

fn notes(object: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    object
        .get_mut("metadata")?
        .get_mut("annotations")?
        .as_object_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "dapr.io/v1alpha1";
    const SECOND: &str = "dapr.io/v2alpha1";

    fn review(wanted: &str, objects: Value) -> Value {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "request": {"uid": "u", "desiredAPIVersion": wanted, "objects": objects}})
    }

    fn converted(wanted: &str, object: &Value) -> Value {
        let answer = answer(review(wanted, json!([object]))).unwrap();
        assert_eq!(
            answer["response"]["result"]["status"], "Success",
            "{answer}"
        );
        assert_eq!(answer["response"]["uid"], "u");
        answer["response"]["convertedObjects"][0].clone()
    }

    #[test]
    fn a_round_trip_loses_nothing() {
        let first = json!({
            "apiVersion": FIRST, "kind": "Subscription", "metadata": {"name": "s", "labels": {"a": "b"}},
            "spec": {"topic": "t", "pubsubname": "p", "route": "/r", "bulkSubscribe": {"enabled": true}},
            "scopes": ["app"],
        });
        let second = converted(SECOND, &first);
        assert_eq!(second["apiVersion"], SECOND);
        assert_eq!(second["spec"]["routes"], json!({"default": "/r"}));
        assert_eq!(second["spec"].get("route"), None);
        assert_eq!(converted(FIRST, &second), first);
        assert_eq!(converted(SECOND, &second), second, "as it is");
        let mut ruled = second.clone();
        ruled["metadata"]["annotations"] = json!({"x": "y"});
        ruled["spec"]["routes"]["rules"] = json!([{"match": "event.type == \"a\"", "path": "/a"}]);
        let back = converted(SECOND, &converted(FIRST, &ruled));
        assert_eq!(back, ruled);
    }

    #[test]
    fn what_is_no_review_is_refused() {
        for value in [
            json!(null),
            json!({}),
            json!({"request": {"uid": "u"}}),
            json!({"request": {"uid": "u", "desiredAPIVersion": SECOND}}),
            json!({"request": {"uid": 5, "desiredAPIVersion": SECOND, "objects": []}}),
        ] {
            assert!(answer(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn what_can_not_be_converted_is_said_in_the_answer() {
        let good = json!({"apiVersion": FIRST, "kind": "Subscription"});
        for (wanted, objects) in [
            (
                SECOND,
                json!([good, {"apiVersion": FIRST, "kind": "Component"}]),
            ),
            (SECOND, json!([5])),
            ("dapr.io/v3", json!([good])),
            ("other/v2alpha1", json!([good])),
        ] {
            let answer = answer(review(wanted, objects)).unwrap();
            let response = &answer["response"];
            assert_eq!(response["result"]["status"], "Failure", "{answer}");
            assert_eq!(response["convertedObjects"], json!([]));
        }
    }
}
