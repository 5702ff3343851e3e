//! The definition of HTTPEndpoint. Source: kubernetes 4.4, 4.5.

use serde_json::{Value, json};

use super::definition::{self, Definition, add_rule, auth, extend, require, scopes};
use super::structural;
use crate::http_endpoint::HttpEndpointSpec;

const SPEC: &str = "/properties/spec";
const FIELDS: &str = "/properties/spec/properties";
/// Longest address.
const MAX_URL: usize = 2048;

pub(super) fn definition() -> Definition {
    Definition {
        kind: "HTTPEndpoint",
        plural: "httpendpoints",
        singular: "httpendpoint",
        short_names: &["hep"],
        part_of: "dapr",
        made_from: "http_endpoint.rs",
        schema: schema(),
        columns: json!([
            {"name": "URL", "type": "string", "jsonPath": ".spec.baseUrl"},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
        ]),
    }
}

fn schema() -> Value {
    let spec = structural::<HttpEndpointSpec>();
    let mut schema = definition::object("An outside address that is invoked by name.", spec);
    let it = &mut schema;
    scopes(
        it,
        "The apps that may call it; empty means all of the namespace.",
    );
    auth(it);
    require(it, SPEC, &["baseUrl"]);
    extend(
        it,
        &format!("{FIELDS}/baseUrl"),
        json!({"maxLength": MAX_URL}),
    );
    add_rule(
        it,
        &format!("{FIELDS}/baseUrl"),
        "self.matches('(?i)^https?://')",
        "must begin with http:// or https://",
    );
    let header = format!("{FIELDS}/headers/items");
    require(it, &header, &["name"]);
    require(it, &format!("{header}/properties/secretKeyRef"), &["name"]);
    let tls = format!("{FIELDS}/clientTLS/properties");
    for document in ["rootCA", "certificate", "privateKey"] {
        let secret = format!("{tls}/{document}/properties/secretKeyRef");
        require(it, &secret, &["name"]);
    }
    let words = json!({"default": "Never", "enum": ["Never", "OnceAsClient", "FreelyAsClient"]});
    extend(it, &format!("{tls}/renegotiation"), words);
    schema
}
