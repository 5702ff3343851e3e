//! Where objects name secrets, and how a secret is put there (kubernetes 3.8).
//!
//! Pure. References to other stores than the cluster's own are left to the sidecar. Headers of traces get the plain
//! text, everything else base64, which is what sidecars expect of each.

use super::objects::Kind;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The data of a Secret, as the API server holds it: base64. Never printed.
#[derive(Default)]
pub(crate) struct SecretData(pub(crate) BTreeMap<String, String>);

/// Why an object has not what it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FillError {
    #[error("Secret {0:?} is not there")]
    SecretMissing(Box<str>),
    #[error("a header of spec.tracing.otel names Secret {0:?} and no key of it")]
    KeyUnnamed(Box<str>),
    #[error("Secret {secret:?} has no key {key:?}")]
    KeyMissing { secret: Box<str>, key: Box<str> },
    #[error("key {key:?} of Secret {secret:?} is no UTF-8 text")]
    NotText { secret: Box<str>, key: Box<str> },
}

// === impl SecretData ===

impl SecretData {
    /// Takes the data of a Secret.
    pub(crate) fn of(secret: &Value) -> Self {
        let data = secret.get("data").and_then(Value::as_object);
        let pairs = data.into_iter().flatten();
        let pairs =
            pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
        Self(pairs.collect())
    }
}

/// Names of the Secrets that an object wants.
pub(crate) fn names(kind: Kind, object: &mut Value) -> BTreeSet<Box<str>> {
    let places = places(kind, object).into_iter();
    places
        .filter_map(|place| Some(reference(place)?.0))
        .collect()
}

/// Puts the secrets where they are named.
///
/// # Errors
/// [`FillError`] for the first that is not there; the object is of no use then.
pub(crate) fn fill(
    kind: Kind,
    object: &mut Value,
    secrets: &HashMap<Box<str>, Arc<SecretData>>,
) -> Result<(), FillError> {
    for place in places(kind, object) {
        let Some((secret, key)) = reference(place) else {
            continue;
        };
        let data = secrets
            .get(&secret)
            .ok_or_else(|| FillError::SecretMissing(secret.clone()))?;
        let value = match kind {
            Kind::Configuration => plain(data, secret, key)?,
            Kind::Resiliency | Kind::HttpEndpoint | Kind::Component => {
                let key = key.unwrap_or(secret);
                // A key that is not there leaves the value as it is.
                match data.0.get(&*key) {
                    Some(value) => value.clone(),
                    None => continue,
                }
            }
        };
        if let Some(place) = place.as_object_mut() {
            place.insert("value".to_owned(), value.into());
        }
    }
    Ok(())
}

fn plain(data: &SecretData, secret: Box<str>, key: Option<Box<str>>) -> Result<String, FillError> {
    let Some(key) = key else {
        return Err(FillError::KeyUnnamed(secret));
    };
    let Some(value) = data.0.get(&*key) else {
        return Err(FillError::KeyMissing { secret, key });
    };
    let text = STANDARD.decode(value).ok();
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or(FillError::NotText { secret, key })
}

/// The items that may name a secret.
fn places(kind: Kind, object: &mut Value) -> Vec<&mut Value> {
    let store = super::text(object, "/auth/secretStore");
    let is_ours = store.is_none_or(|store| store.eq_ignore_ascii_case("kubernetes"));
    if !is_ours && kind != Kind::Configuration {
        return Vec::new();
    }
    let spec = object.get_mut("spec").and_then(Value::as_object_mut);
    let fields = spec.into_iter().flatten();
    let mut found = Vec::new();
    for (name, value) in fields {
        match (kind, name.as_str()) {
            (Kind::Configuration, "tracing") => {
                found.extend(items(value.pointer_mut("/otel/headers")));
            }
            (Kind::Component, "metadata") | (Kind::HttpEndpoint, "headers") => {
                found.extend(items(Some(value)));
            }
            (Kind::HttpEndpoint, "clientTLS") => {
                let parts = value.as_object_mut().into_iter().flatten();
                let parts = parts.filter(|(name, _)| TLS_PARTS.contains(&name.as_str()));
                found.extend(parts.map(|(_, value)| value));
            }
            (_, _) => {}
        }
    }
    found
}

/// Fields of `clientTLS` that may name a secret.
const TLS_PARTS: [&str; 3] = ["rootCA", "certificate", "privateKey"];

fn items(list: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    list.and_then(Value::as_array_mut).into_iter().flatten()
}

/// Name and key of the secret that an item names.
fn reference(item: &Value) -> Option<(Box<str>, Option<Box<str>>)> {
    let name = super::text(item, "/secretKeyRef/name")?;
    let key = super::text(item, "/secretKeyRef/key");
    Some((name.into(), key.map(Into::into)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secrets() -> HashMap<Box<str>, Arc<SecretData>> {
        let secret = json!({"data": {"token": "c2VjcmV0", "s": "b25l", "raw": "/w==", "odd": 5}});
        HashMap::from([("s".into(), Arc::new(SecretData::of(&secret)))])
    }

    fn filled(kind: Kind, mut object: Value) -> Result<Value, FillError> {
        fill(kind, &mut object, &secrets()).map(|()| object)
    }

    /// KG-07: base64, the key is the secret's name when none is said, a missing key leaves things as they are.
    #[test]
    fn endpoints_and_components_get_base64() {
        let headers = json!([
            {"name": "a", "secretKeyRef": {"name": "s", "key": "token"}},
            {"name": "b", "secretKeyRef": {"name": "s"}},
            {"name": "c", "secretKeyRef": {"name": "s", "key": "none"}},
            {"name": "d", "value": "plain"},
        ]);
        let tls = json!({"rootCA": {"secretKeyRef": {"name": "s", "key": "token"}}, "renegotiation": "Never"});
        let object = json!({"spec": {"baseUrl": "u", "headers": headers, "clientTLS": tls}});
        let found = filled(Kind::HttpEndpoint, object).unwrap();
        let headers = &found["spec"]["headers"];
        assert_eq!(headers[0]["value"], "c2VjcmV0");
        assert_eq!(
            headers[0]["secretKeyRef"]["name"], "s",
            "the reference stays"
        );
        assert_eq!(headers[1]["value"], "b25l");
        assert_eq!(headers[2].get("value"), None);
        assert_eq!(headers[3]["value"], "plain");
        assert_eq!(found["spec"]["clientTLS"]["rootCA"]["value"], "c2VjcmV0");
        let metadata = json!([{"name": "a", "secretKeyRef": {"name": "s", "key": "token"}}]);
        let found = filled(Kind::Component, json!({"spec": {"metadata": metadata}})).unwrap();
        assert_eq!(found["spec"]["metadata"][0]["value"], "c2VjcmV0");
    }

    #[test]
    fn other_stores_are_the_sidecar_s() {
        for (store, touched) in [("vault", false), ("kubernetes", true), ("", true)] {
            let metadata = json!([{"name": "a", "secretKeyRef": {"name": "s", "key": "token"}}]);
            let object = json!({"auth": {"secretStore": store}, "spec": {"metadata": metadata}});
            let mut asked = object.clone();
            assert_eq!(names(Kind::Component, &mut asked).is_empty(), !touched);
            let found = filled(Kind::Component, object).unwrap();
            let value = found["spec"]["metadata"][0].get("value");
            assert_eq!(value.is_some(), touched, "{store}");
        }
    }

    /// KG-05: plain text; the key is needed; what is missing is an error.
    #[test]
    fn configurations_get_plain_text_or_an_error() {
        let object = |reference: Value| {
            let headers = json!([{"name": "h", "secretKeyRef": reference}]);
            json!({"spec": {"tracing": {"otel": {"headers": headers}}}})
        };
        let ask = |reference| filled(Kind::Configuration, object(reference));
        let found = ask(json!({"name": "s", "key": "token"})).unwrap();
        assert_eq!(
            found["spec"]["tracing"]["otel"]["headers"][0]["value"],
            "secret"
        );
        let refused = |reference| ask(reference).unwrap_err();
        assert_eq!(
            refused(json!({"name": "s"})),
            FillError::KeyUnnamed("s".into())
        );
        assert_eq!(
            refused(json!({"name": "t", "key": "k"})),
            FillError::SecretMissing("t".into())
        );
        let no_key = FillError::KeyMissing {
            secret: "s".into(),
            key: "k".into(),
        };
        assert_eq!(refused(json!({"name": "s", "key": "k"})), no_key);
        let no_text = FillError::NotText {
            secret: "s".into(),
            key: "raw".into(),
        };
        assert_eq!(refused(json!({"name": "s", "key": "raw"})), no_text);
    }

    /// KG-08: what is not there is said by name.
    #[test]
    fn a_missing_secret_makes_the_object_useless() {
        let headers = json!([{"name": "a", "secretKeyRef": {"name": "gone", "key": "k"}}]);
        let mut object = json!({"spec": {"headers": headers}});
        let wanted = names(Kind::HttpEndpoint, &mut object);
        assert_eq!(wanted, BTreeSet::from(["gone".into()]));
        let refused = filled(Kind::HttpEndpoint, object).unwrap_err();
        assert_eq!(refused, FillError::SecretMissing("gone".into()));
    }

    #[test]
    fn odd_shapes_name_nothing() {
        for spec in [
            json!(null),
            json!([]),
            json!({"headers": {}}),
            json!({"headers": [1, null, "x"]}),
            json!({"headers": [{"secretKeyRef": "s"}], "clientTLS": []}),
        ] {
            let object = json!({"spec": spec, "auth": "x"});
            assert!(
                filled(Kind::HttpEndpoint, object.clone()).is_ok(),
                "{object}"
            );
        }
    }
}
