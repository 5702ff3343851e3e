//! What the API server does with an object: drops what no schema names, fills in defaults, refuses.
//!
//! As far as the schemas here go: types, what is required, enumerations, upper bounds, doubles in lists that are sets
//! or maps, and rules. Patterns are not looked at.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use cel::{Context, Program, Value as CelValue, extractors::This};
use serde_json::{Map, Value};

/// One kind of it.
pub(crate) struct Server {
    schema: Value,
}

// === impl Server ===

impl Server {
    pub(crate) fn new(schema: Value) -> Self {
        Self { schema }
    }

    /// Returns the object as it would be stored, or everything that is wrong with it, each with its place.
    pub(crate) fn store(&self, object: &Value) -> Result<Value, Vec<String>> {
        let object = self.shaped(object)?;
        let mut wrong = Vec::new();
        rules(&self.schema, &object, &Place::default(), &mut |asked| {
            if !asked.holds {
                wrong.push(format!("{}: {}", asked.place.of_value, asked.message));
            }
        });
        if wrong.is_empty() {
            Ok(object)
        } else {
            Err(wrong)
        }
    }

    /// Returns every rule that is evaluated for an object, as [`rule_id`] names it, and whether it holds.
    pub(crate) fn asked(&self, object: &Value) -> Vec<(String, bool)> {
        let Ok(object) = self.shaped(object) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        rules(&self.schema, &object, &Place::default(), &mut |asked| {
            all.push((rule_id(&asked.place.of_schema, asked.rule), asked.holds));
        });
        all
    }

    /// What rules are evaluated on, or what else is wrong: as in the API server, they come last.
    fn shaped(&self, object: &Value) -> Result<Value, Vec<String>> {
        let mut object = object.clone();
        prune(&self.schema, &mut object);
        fill(&self.schema, &mut object);
        let mut wrong = Vec::new();
        shape(&self.schema, &object, "", &mut wrong);
        if wrong.is_empty() {
            Ok(object)
        } else {
            Err(wrong)
        }
    }

    /// Returns what the rules alone have against an object, without doubles.
    pub(crate) fn broken_rules(&self, object: &Value) -> Vec<String> {
        let mut texts = Vec::new();
        rules(&self.schema, object, &Place::default(), &mut |asked| {
            if !asked.holds {
                texts.push(asked.message.to_owned());
            }
        });
        texts.sort_unstable();
        texts.dedup();
        texts
    }
}

/// What a rule is called, however many have its text or its message.
pub(crate) fn rule_id(schema: &str, rule: &str) -> String {
    format!("{schema}: {rule}")
}

/// Where one is.
#[derive(Clone, Debug, Default)]
struct Place {
    /// In the object, as the API server writes it.
    of_value: String,
    /// In the schema: a pointer, with `*` for any key and `0` for any item.
    of_schema: String,
}

/// A rule that was evaluated.
struct Asked<'a> {
    place: &'a Place,
    rule: &'a str,
    message: &'a str,
    holds: bool,
}

/// The schemas below one, each with its values and what their places are called.
fn below<'s, 'v>(schema: &'s Value, value: &'v Value) -> Vec<(&'s Value, &'v Value, String)> {
    match value {
        Value::Object(members) => members
            .iter()
            .filter_map(|(name, value)| Some((property(schema, name)?, value, format!(".{name}"))))
            .collect(),
        Value::Array(list) => {
            let Some(items) = schema.get("items") else {
                return Vec::new();
            };
            let values = list.iter().enumerate();
            values
                .map(|(i, value)| (items, value, format!("[{i}]")))
                .collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

fn property<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    let known = schema.get("properties").and_then(|all| all.get(name));
    known.or_else(|| schema.get("additionalProperties"))
}

fn prune(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            let is_opaque = schema.get("x-kubernetes-preserve-unknown-fields").is_some();
            // Every object has metadata; their schema is the API server's own.
            let is_open = is_opaque || *schema == serde_json::json!({"type": "object"});
            members.retain(|name, _| is_open || property(schema, name).is_some());
            for (name, value) in members {
                if let Some(inner) = property(schema, name) {
                    prune(inner, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                list.iter_mut().for_each(|value| prune(items, value));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fill(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, inner) in properties.into_iter().flatten() {
                if let Some(default) = inner.get("default") {
                    members.entry(name).or_insert_with(|| default.clone());
                }
            }
            for (name, value) in members {
                if let Some(inner) = property(schema, name) {
                    fill(inner, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(items) = schema.get("items") {
                list.iter_mut().for_each(|value| fill(items, value));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn shape(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let word = |name: &str| schema.get(name);
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let want = word("type").and_then(Value::as_str).unwrap_or(found);
    if want != found && (want, found) != ("number", "integer") {
        wrong.push(format!("{at}: must be of type {want}: {found}"));
        return;
    }
    let required = word("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            wrong.push(format!("{at}.{name}: Required value"));
        }
    }
    let words = word("enum").and_then(Value::as_array);
    if words.is_some_and(|words| !words.contains(value)) {
        wrong.push(format!("{at}: Unsupported value: {value}"));
    }
    let size = match value {
        Value::Array(list) => Some(("maxItems", list.len())),
        Value::Object(members) => Some(("maxProperties", members.len())),
        Value::String(text) => Some(("maxLength", text.chars().count())),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    };
    if let Some((bound, size)) = size {
        let most = word(bound).and_then(Value::as_u64).unwrap_or(u64::MAX);
        if u64::try_from(size).unwrap() > most {
            let much = if bound == "maxLength" { "long" } else { "many" };
            wrong.push(format!("{at}: Too {much}: at most {most}"));
        }
    }
    doubles(schema, value, at, wrong);
    if let Some(number) = value.as_f64() {
        let low = word("minimum").and_then(Value::as_f64);
        let high = word("maximum").and_then(Value::as_f64);
        if low.is_some_and(|low| number < low) || high.is_some_and(|high| number > high) {
            wrong.push(format!("{at}: Invalid value: {number}"));
        }
    }
    for (schema, value, name) in below(schema, value) {
        shape(schema, value, &format!("{at}{name}"), wrong);
    }
}

/// Items of a set that are equal, and those of a map with equal keys.
fn doubles(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let keys: Option<Vec<_>> = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => None,
        Some("map") => schema["x-kubernetes-list-map-keys"]
            .as_array()
            .map(|keys| keys.iter().filter_map(Value::as_str).collect()),
        Some(_) | None => return,
    };
    let mut known = Vec::new();
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let of_item = match &keys {
            Some(keys) => keys.iter().map(|key| item.get(key)).collect(),
            None => vec![Some(item)],
        };
        if known.contains(&of_item) {
            wrong.push(format!("{at}[{index}]: Duplicate value"));
        }
        known.push(of_item);
    }
}

fn rules(schema: &Value, value: &Value, place: &Place, look: &mut dyn FnMut(&Asked<'_>)) {
    let here = schema.get("x-kubernetes-validations");
    for rule in here.and_then(Value::as_array).into_iter().flatten() {
        let (rule, message) = (&rule["rule"], &rule["message"]);
        let (rule, message) = (rule.as_str().unwrap(), message.as_str().unwrap());
        let holds = holds(rule, value);
        look(&Asked {
            place,
            rule,
            message,
            holds,
        });
    }
    let is_known = |key: &str| {
        let known = schema.get("properties");
        known.is_some_and(|known| known.get(key).is_some())
    };
    for (schema, value, name) in below(schema, value) {
        let key = match name.strip_prefix('.') {
            Some(key) if is_known(key) => key,
            Some(_) => "*",
            None => "0",
        };
        let place = Place {
            of_value: format!("{}{name}", place.of_value),
            of_schema: format!("{}/{key}", place.of_schema),
        };
        rules(schema, value, &place, look);
    }
}

thread_local! {
    /// Rules, ready to run.
    static PROGRAMS: RefCell<HashMap<String, Arc<Program>>> = RefCell::default();
}

fn program(rule: &str) -> Arc<Program> {
    PROGRAMS.with_borrow_mut(|programs| {
        let compile = || Arc::new(Program::compile(rule).unwrap());
        let program = programs.entry(rule.to_owned()).or_insert_with(compile);
        Arc::clone(program)
    })
}

/// Evaluates a rule as the API server does.
fn holds(rule: &str, value: &Value) -> bool {
    let mut context = Context::default();
    context.add_variable("self", escaped(value)).unwrap();
    // Not of the language itself, but of the libraries of the API server.
    let added = context.add_function("indexOf", |text: This<Arc<String>>, part: Arc<String>| {
        let at = text.0.find(part.as_str());
        let at = at.map(|at| text.0[..at].chars().count());
        at.map_or(-1, |at| i64::try_from(at).unwrap())
    });
    added.unwrap();
    match program(rule).execute(&context) {
        Ok(CelValue::Bool(holds)) => holds,
        other => panic!("{rule}: {other:?}"),
    }
}

/// Names as the API server escapes reserved words.
fn escaped(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                let is_reserved = name == "namespace";
                let name = if is_reserved { "__namespace__" } else { name };
                (name.to_owned(), escaped(value))
            };
            Value::Object(members.iter().map(member).collect::<Map<_, _>>())
        }
        Value::Array(list) => list.iter().map(escaped).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}
