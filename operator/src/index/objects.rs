//! Resources that are handed to sidecars, as they are stored.
//!
//! Owns the four kinds and what is kept of an object: its whole JSON but for `managedFields`, so that fields of a
//! later version reach later sidecars (kubernetes 7, "CRD newer than operator"), and a print of what a sidecar acts
//! on, so that a write that changes labels or status only is no change (KG-15).

#[cfg(test)]
use super::mirror::Key;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Group and version of all kinds.
pub(crate) const API_VERSION: &str = "dapr.io/v1alpha1";

/// A kind that sidecars ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Configuration,
    Resiliency,
    HttpEndpoint,
    Component,
}

/// An object as it is handed out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) kind: Kind,
    pub(crate) uid: Box<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    /// The apps it is for; empty means all of the namespace.
    scopes: Vec<Box<str>>,
    /// Of everything but metadata and status.
    print: [u8; 32],
    /// The whole object.
    pub(crate) json: Bytes,
}

// === impl Kind ===

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 4] = [
        Self::Configuration,
        Self::Resiliency,
        Self::HttpEndpoint,
        Self::Component,
    ];

    /// As manifests spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Resiliency => "Resiliency",
            Self::HttpEndpoint => "HTTPEndpoint",
            Self::Component => "Component",
        }
    }

    /// As paths spell it.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Configuration => "configurations",
            Self::Resiliency => "resiliencies",
            Self::HttpEndpoint => "httpendpoints",
            Self::Component => "components",
        }
    }

    /// Whether objects name the apps that they are for.
    pub(crate) fn is_scoped(self) -> bool {
        match self {
            Self::Configuration => false,
            Self::Resiliency | Self::HttpEndpoint | Self::Component => true,
        }
    }
}

// === impl Stored ===

impl Stored {
    /// Takes an object as the API server sends it; none if nobody could say whose it is.
    pub(crate) fn of(kind: Kind, mut value: Value) -> Option<Self> {
        let object = value.as_object_mut()?;
        object.insert("apiVersion".to_owned(), API_VERSION.into());
        object.insert("kind".to_owned(), kind.as_str().into());
        let meta = object.get_mut("metadata")?.as_object_mut()?;
        meta.remove("managedFields");
        let text = |name: &str| meta.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, namespace) = (text("name"), text("namespace"));
        if name.is_empty() || namespace.is_empty() {
            return None;
        }
        let (name, namespace) = (name.into(), namespace.into());
        let uid = text("uid").into();
        let scopes = object.get("scopes").and_then(Value::as_array);
        let scopes = scopes.into_iter().flatten().filter_map(Value::as_str);
        let scopes = match kind.is_scoped() {
            true => scopes.map(Into::into).collect(),
            false => Vec::new(),
        };
        let print = print(object);
        let json = serde_json::to_vec(&value).ok()?.into();
        Some(Self {
            kind,
            uid,
            namespace,
            name,
            scopes,
            print,
            json,
        })
    }

    #[cfg(test)]
    pub(crate) fn key(&self) -> Key {
        (Arc::clone(&self.namespace), Arc::clone(&self.name))
    }

    /// Whether this app is to have it.
    pub(crate) fn is_for(&self, app_id: &str) -> bool {
        self.scopes.is_empty() || self.scopes.iter().any(|scope| **scope == *app_id)
    }

    /// Whether a sidecar that acts on one acts on the other alike.
    pub(crate) fn means_the_same(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

/// Keys of objects are sorted, so equal contents have equal prints.
fn print(object: &serde_json::Map<String, Value>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, value) in object {
        if !matches!(name.as_str(), "metadata" | "status") {
            hash.update(name.as_bytes());
            hash.update([0]);
            hash.update(value.to_string().as_bytes());
            hash.update([0]);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn endpoint(name: &str, scopes: &[&str], url: &str) -> Stored {
        let value = json!({
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
            "scopes": scopes, "spec": {"baseUrl": url},
        });
        Stored::of(Kind::HttpEndpoint, value).unwrap()
    }

    /// KG-23: unknown fields survive; kind and version are set.
    #[test]
    fn an_object_is_kept_as_it_is_stored() {
        let stored = Stored::of(
            Kind::HttpEndpoint,
            json!({
                "metadata": {"name": "a", "namespace": "shop", "uid": "u", "managedFields": [{"manager": "x"}],
                    "labels": {"l": "1"}},
                "spec": {"baseUrl": "http://a", "ofALaterVersion": {"deep": [1, 2.5, null]}},
            }),
        );
        let json: Value = serde_json::from_slice(&stored.unwrap().json).unwrap();
        assert_eq!(json["kind"], "HTTPEndpoint");
        assert_eq!(json["apiVersion"], API_VERSION);
        assert_eq!(
            json["spec"]["ofALaterVersion"],
            json!({"deep": [1, 2.5, null]})
        );
        assert_eq!(json["metadata"]["labels"]["l"], "1");
        assert!(json["metadata"].get("managedFields").is_none());
    }

    /// KG-15, KC-14: what sidecars do not act on is no change, a status among it.
    #[test]
    fn metadata_and_status_mean_nothing() {
        let one = json!({"metadata": {"name": "a", "namespace": "n", "resourceVersion": "1"}, "spec": {"x": 1}});
        let mut two = one.clone();
        two["metadata"]["resourceVersion"] = "2".into();
        two["metadata"]["annotations"] = json!({"a": "b"});
        two["status"] = json!({"conditions": []});
        let read = |value: &Value| Stored::of(Kind::Resiliency, value.clone()).unwrap();
        assert!(read(&one).means_the_same(&read(&two)));
        two["spec"]["x"] = 2.into();
        assert!(!read(&one).means_the_same(&read(&two)));
        let mut three = one.clone();
        three["scopes"] = json!(["a"]);
        assert!(!read(&one).means_the_same(&read(&three)));
    }

    #[test]
    fn what_belongs_to_nobody_is_not_kept() {
        for value in [
            json!(null),
            json!({}),
            json!({"metadata": {"name": "a"}}),
            json!({"metadata": {"namespace": "a"}}),
            json!({"metadata": []}),
        ] {
            assert!(
                Stored::of(Kind::Component, value.clone()).is_none(),
                "{value}"
            );
        }
    }

    #[test]
    fn scopes_name_apps_and_none_means_all() {
        assert!(endpoint("a", &[], "u").is_for("x"));
        assert!(endpoint("a", &["x", "y"], "u").is_for("y"));
        assert!(!endpoint("a", &["x", "y"], "u").is_for("z"));
        let odd = json!({"metadata": {"name": "a", "namespace": "n"}, "scopes": ["x"]});
        let configuration = Stored::of(Kind::Configuration, odd).unwrap();
        assert!(
            configuration.is_for("z"),
            "a Configuration has no scopes (4.2)"
        );
    }
}
