//! The definition of Component. Source: kubernetes 4.4.

use serde_json::{Value, json};

use super::definition::{self, Definition, auth, require, scopes};
use super::structural;
use crate::component::ComponentSpec;

const SPEC: &str = "/properties/spec";

pub(super) fn definition() -> Definition {
    Definition {
        kind: "Component",
        plural: "components",
        singular: "component",
        short_names: &[],
        part_of: "dapr",
        made_from: "component.rs",
        schema: schema(),
        columns: json!([
            {"name": "Type", "type": "string", "jsonPath": ".spec.type"},
            {"name": "Version", "type": "string", "jsonPath": ".spec.version"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]),
    }
}

fn schema() -> Value {
    let spec = structural::<ComponentSpec>();
    let mut schema = definition::object("A type, its version and its properties.", spec);
    let it = &mut schema;
    scopes(
        it,
        "The apps that may use it; empty means all of the namespace.",
    );
    auth(it);
    require(it, SPEC, &["type", "version", "metadata"]);
    let property = format!("{SPEC}/properties/metadata/items");
    require(it, &property, &["name"]);
    require(
        it,
        &format!("{property}/properties/secretKeyRef"),
        &["name"],
    );
    schema
}
