//! Values that are refused, and the schema that judges them.

use std::collections::BTreeSet;

use ironside_resources::yaml;
use serde_json::Value;

use crate::rig::{refused, root};

/// Images are not published yet: a render without a registry says how to get them.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn a_registry_must_be_named() {
    let found = refused("global: {registry: ''}");
    for hint in [
        "global.registry is not set",
        "cargo xtask images",
        "--set global.registry=",
    ] {
        assert!(found.contains(hint), "{hint}: {found}");
    }
}

#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn values_of_wrong_type_are_refused_with_their_place() {
    for (values, place) in [
        (
            "dapr_operator: {replicaCount: many}",
            "/dapr_operator/replicaCount",
        ),
        ("global: {tag: 1.10}", "/global/tag"),
        (
            "global: {mtls: {workloadCertTTL: 1d}}",
            "/global/mtls/workloadCertTTL",
        ),
        (
            "global: {prometheus: {port: 70000}}",
            "/global/prometheus/port",
        ),
        (
            "dapr_sidecar_injector: {webhookFailurePolicy: Maybe}",
            "/dapr_sidecar_injector/webhookFailurePolicy",
        ),
        (
            "dapr_sidecar_injector: {nativeSidecar: 'yes'}",
            "/dapr_sidecar_injector/nativeSidecar",
        ),
    ] {
        let found = refused(values);
        assert!(found.contains(place), "{values}: {found}");
    }
}

/// Places of all values, without what is inside of lists and free maps.
fn places(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{key}");
        if value.as_object().is_none_or(serde_json::Map::is_empty) {
            found.insert(at);
        } else {
            places(value, &at, found);
        }
    }
}

/// Every value that the chart has is one that its schema judges.
#[test]
fn the_schema_speaks_of_every_value() {
    let chart = root().join("charts/ironside");
    let read = |name: &str| std::fs::read_to_string(chart.join(name)).unwrap();
    let values: Value = yaml::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut found = BTreeSet::new();
    places(&values, "", &mut found);
    for place in found {
        let mut here = &schema;
        for key in place.split('/').skip(1) {
            // A free map says no more of its keys than their type.
            let Some(known) = here.get("properties") else {
                break;
            };
            here = known.get(key).unwrap_or_else(|| panic!("{place}"));
        }
    }
}
