//! The objects of the chart, without Helm.
//!
//! Pure. Two renders, of one replica and of several, are made by Helm of the chart (`tests/cli/render.rs`) and lie in
//! this binary; names that stand for namespace, registry and tag are filled in here, as are the few values that flags
//! have. Objects carry Helm's marks of ownership, so that a later `helm upgrade --install` takes them over.

use anyhow::{Context as _, ensure};
use ironside_resources::yaml;
use serde_json::{Value, json};

use super::{Plan, RELEASE};

const SINGLE: &str = include_str!("../../../render/single.yaml");
const REPLICATED: &str = include_str!("../../../render/replicated.yaml");

/// What stands in the renders for the values of a cluster.
const NAMESPACE: &str = "ironside-namespace";
const REGISTRY: &str = "ironside.registry.invalid";
const TAG: &str = "ironside-tag";

/// The objects of a plan, in the order in which they are applied.
pub(super) fn objects(plan: &Plan) -> anyhow::Result<Vec<Value>> {
    ensure!(
        plan.registry.is_some(),
        "name the registry of the images with --image-registry: no images are published yet. Build them with `cargo \
         xtask images --out images`, or with an engine from the Dockerfile; push them, or load images/ironside.tar into \
         the nodes; their registry is then ironside.test, and --runtime-version e2e"
    );
    let text = match plan.is_replicated {
        Some(true) => REPLICATED,
        Some(false) | None => SINGLE,
    };
    let mut objects = read(text)?;
    for object in &mut objects {
        fill(object, plan);
        own(object, &plan.namespace);
        adapt(object, plan);
    }
    objects.sort_by_key(rank);
    Ok(objects)
}

/// Every object that any plan has.
pub(super) fn everything(plan: &Plan) -> anyhow::Result<Vec<Value>> {
    let mut all = objects(&Plan {
        is_replicated: Some(false),
        ..plan.clone()
    })?;
    for object in objects(&Plan {
        is_replicated: Some(true),
        ..plan.clone()
    })? {
        let is_same = |one: &Value| {
            one.get("kind") == object.get("kind") && one.get("metadata") == object.get("metadata")
        };
        if !all.iter().any(is_same) {
            all.push(object);
        }
    }
    Ok(all)
}

/// The roles of one replica and their bindings, with stand-ins for names.
pub(super) fn roles() -> anyhow::Result<Vec<Value>> {
    let mut objects = read(SINGLE)?;
    objects.retain(|object| {
        let group = object.get("apiVersion").and_then(Value::as_str);
        group == Some("rbac.authorization.k8s.io/v1")
    });
    Ok(objects)
}

/// Puts the plan's names in the place of the stand-ins, in texts alone: a namespace `no` is no boolean.
fn fill(value: &mut Value, plan: &Plan) {
    match value {
        Value::String(text) => {
            *text = text
                .replace(NAMESPACE, &plan.namespace)
                .replace(REGISTRY, plan.registry.as_deref().unwrap_or_default())
                .replace(TAG, plan.version());
        }
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, plan)),
        Value::Object(members) => members.values_mut().for_each(|member| fill(member, plan)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn read(text: &str) -> anyhow::Result<Vec<Value>> {
    yaml::documents(text)
        .map(|document| yaml::from_str(document).context("the render of this build cannot be read"))
        .collect()
}

/// Marks an object as Helm marks those of a release.
fn own(object: &mut Value, namespace: &str) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        let notes = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(notes) = notes.as_object_mut() {
            notes.insert("meta.helm.sh/release-name".to_owned(), RELEASE.into());
            notes.insert(
                "meta.helm.sh/release-namespace".to_owned(),
                namespace.into(),
            );
        }
    }
}

/// Fills in the values that are more than a name.
fn adapt(object: &mut Value, plan: &Plan) {
    let kind = object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let name = object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    match (kind.as_str(), name.as_str()) {
        ("Configuration", "daprsystem") => {
            if let Some(enabled) = object.pointer_mut("/spec/mtls/enabled") {
                *enabled = plan.is_mutual().into();
            }
        }
        ("Deployment", _) => {
            // Programs read the system configuration once: another one is another pod.
            let sum =
                object.pointer_mut("/spec/template/metadata/annotations/checksum~1daprsystem");
            if let Some(sum) = sum {
                *sum = format!("{} {}", plan.namespace, plan.is_mutual()).into();
            }
        }
        ("Secret" | "ConfigMap", "dapr-trust-bundle") => {
            if let (Some([root, issuer, key]), Some(members)) =
                (&plan.authority, object.as_object_mut())
            {
                let data = match kind.as_str() {
                    "Secret" => (
                        "stringData",
                        json!({"ca.crt": root, "issuer.crt": issuer, "issuer.key": key}),
                    ),
                    _ => ("data", json!({"ca.crt": root})),
                };
                members.insert(data.0.to_owned(), data.1);
            }
        }
        _ => {}
    }
}

/// What others need comes first; what calls the injector comes last.
fn rank(object: &Value) -> usize {
    const ORDER: [&str; 8] = [
        "ServiceAccount",
        "Secret",
        "ConfigMap",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Configuration",
    ];
    let kind = object
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or_default();
    match ORDER.iter().position(|one| *one == kind) {
        Some(at) => at,
        None if kind == "MutatingWebhookConfiguration" => ORDER.len() + 1,
        None => ORDER.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            registry: Some("r.example:5000/x".to_owned()),
            tag: Some("7".to_owned()),
            is_replicated: None,
            ..Plan::bare("own-ns")
        }
    }

    #[test]
    fn a_namespace_is_a_text_whatever_it_looks_like() {
        for namespace in ["no", "1", "null"] {
            let objects = objects(&Plan {
                namespace: namespace.to_owned(),
                ..plan()
            })
            .unwrap();
            let account = objects
                .iter()
                .find(|one| one["kind"] == "ServiceAccount")
                .unwrap();
            assert_eq!(account["metadata"]["namespace"], namespace);
        }
    }

    #[test]
    fn nothing_of_the_stand_ins_is_left() {
        for is_replicated in [false, true] {
            let objects = objects(&Plan {
                is_replicated: Some(is_replicated),
                ..plan()
            })
            .unwrap();
            let text = serde_json::to_string(&objects).unwrap();
            for left in [NAMESPACE, REGISTRY, TAG] {
                assert!(!text.contains(left), "{left}");
            }
            assert!(text.contains("r.example:5000/x/operator:7"), "{text}");
            assert_eq!(
                objects.last().unwrap()["kind"],
                "MutatingWebhookConfiguration"
            );
            let replicas = objects.iter().filter(|one| one["kind"] == "Deployment");
            let expected = if is_replicated { 3 } else { 1 };
            assert!(
                replicas
                    .into_iter()
                    .all(|one| one["spec"]["replicas"] == expected)
            );
        }
    }

    #[test]
    fn flags_become_values() {
        let find = |objects: &[Value], kind: &str| {
            let found = objects.iter().find(|one| one["kind"] == kind);
            found.unwrap().clone()
        };
        let on = objects(&plan()).unwrap();
        assert_eq!(find(&on, "Configuration")["spec"]["mtls"]["enabled"], true);
        assert_eq!(find(&on, "Secret").get("stringData"), None);
        let off = Plan {
            is_mutual: Some(false),
            authority: Some(["a", "b", "c"].map(str::to_owned)),
            ..plan()
        };
        let off = objects(&off).unwrap();
        assert_eq!(
            find(&off, "Configuration")["spec"]["mtls"]["enabled"],
            false
        );
        assert_eq!(find(&off, "Secret")["stringData"]["issuer.key"], "c");
        assert_eq!(find(&off, "ConfigMap")["data"]["ca.crt"], "a");
        let at = "/metadata/annotations/meta.helm.sh~1release-namespace";
        assert!(
            off.iter()
                .all(|one| one.pointer(at) == Some(&json!("own-ns")))
        );
        let refused = objects(&Plan {
            registry: None,
            ..plan()
        })
        .unwrap_err();
        assert!(
            refused.to_string().contains("--image-registry"),
            "{refused}"
        );
    }
}
