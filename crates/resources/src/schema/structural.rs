//! A schema as the API server wants it: no references, no choices, no `null`, one type everywhere.
//!
//! Owns the way from what schemars says of a type to that; bounds and rules are laid over it elsewhere.

use serde_json::{Map, Value, json};

/// Keeps whatever is there.
const OPAQUE: &str = "x-kubernetes-preserve-unknown-fields";

/// The schema of a type without references and without `null`.
pub(crate) fn structural<T: schemars::JsonSchema>() -> Value {
    let settings = schemars::generate::SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let mut schema = schema.to_value();
    tidy(&mut schema);
    schema
}

fn tidy(schema: &mut Value) {
    if *schema == json!(true) {
        *schema = json!({OPAQUE: true});
    }
    let members = schema.as_object_mut().unwrap();
    members.remove("title");
    flatten_choice(members);
    drop_null(members);
    // The API server knows signed ones only.
    if let Some(Value::String(format)) = members.get_mut("format") {
        *format = format.trim_start_matches('u').to_owned();
    }
    if members.get("default").is_some_and(is_empty) {
        members.remove("default");
    }
    if !members.contains_key("type") {
        members.insert(OPAQUE.to_owned(), json!(true));
    }
    // Structural schemas say what is known; the rest is pruned or refused by the strictness of the client.
    if members
        .get("additionalProperties")
        .is_some_and(Value::is_boolean)
    {
        members.remove("additionalProperties");
    }
    for word in ["items", "additionalProperties"] {
        if let Some(inner) = members.get_mut(word) {
            tidy(inner);
        }
    }
    let properties = members.get_mut("properties").and_then(Value::as_object_mut);
    properties
        .into_iter()
        .flat_map(Map::values_mut)
        .for_each(tidy);
}

/// Defaults that say no more than that a value is absent.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(_) => true,
    }
}

/// A choice of single words becomes an enumeration; an optional choice loses its `null`.
fn flatten_choice(members: &mut Map<String, Value>) {
    if let Some(Value::Array(options)) = members.remove("anyOf") {
        let is_null = |option: &Value| option.get("type") == Some(&json!("null"));
        for option in options.into_iter().filter(|option| !is_null(option)) {
            let Value::Object(option) = option else {
                continue;
            };
            for (name, value) in option {
                members.entry(name).or_insert(value);
            }
        }
    }
    if let Some(Value::Array(options)) = members.remove("oneOf") {
        let words = options.iter().flat_map(|option| {
            let one = option.get("const").cloned();
            let several = option.get("enum").and_then(Value::as_array).cloned();
            one.into_iter().chain(several.into_iter().flatten())
        });
        let words: Vec<Value> = words.flat_map(spellings).collect();
        members.insert("type".to_owned(), json!("string"));
        members.insert("enum".to_owned(), json!(words));
    }
}

/// The words of an action are taken in three spellings.
fn spellings(word: Value) -> Vec<Value> {
    match word.as_str() {
        Some("allow") => vec![json!("allow"), json!("Allow"), json!("ALLOW")],
        Some("deny") => vec![json!("deny"), json!("Deny"), json!("DENY")],
        _ => vec![word],
    }
}

fn drop_null(members: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = members.get("type") {
        let first = types.iter().find(|one| **one != json!("null")).cloned();
        members.insert("type".to_owned(), first.unwrap());
    }
    if let Some(Value::Array(words)) = members.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
}
