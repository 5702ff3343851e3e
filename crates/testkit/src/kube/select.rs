//! Which objects a list or a watch is about.
//!
//! Owns field selectors on name, namespace, phase and address, and label selectors (`a=b`, `a!=b`, `a`, `!a`). Anything
//! else is refused as the real server refuses it.

use super::store::Refusal;
use serde_json::Value;

/// All conditions must hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector(Vec<Condition>);

#[derive(Clone, Debug)]
struct Condition {
    /// Where the value lies.
    pointer: String,
    /// None asks for presence only.
    value: Option<String>,
    holds: bool,
}

// === impl Selector ===

impl Selector {
    pub(super) fn read(fields: &str, labels: &str) -> Result<Self, Refusal> {
        let mut all = Vec::new();
        for term in terms(fields) {
            all.push(field(term)?);
        }
        for term in terms(labels) {
            all.push(label(term));
        }
        Ok(Self(all))
    }

    /// The one name that a field selector asks for.
    pub(super) fn name(&self) -> Option<&str> {
        let named = self
            .0
            .iter()
            .find(|one| one.pointer == "/metadata/name" && one.holds);
        named?.value.as_deref()
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|condition| condition.is_met(object))
    }
}

// === impl Condition ===

impl Condition {
    fn is_met(&self, object: &Value) -> bool {
        let found = object.pointer(&self.pointer).and_then(Value::as_str);
        let meets = match &self.value {
            Some(value) => found == Some(value),
            None => found.is_some(),
        };
        meets == self.holds
    }
}

fn terms(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|term| !term.is_empty())
}

fn split(term: &str) -> (&str, Option<&str>, bool) {
    if let Some((name, value)) = term.split_once("!=") {
        return (name, Some(value), false);
    }
    if let Some((name, value)) = term.split_once('=') {
        return (name, Some(value.trim_start_matches('=')), true);
    }
    match term.strip_prefix('!') {
        Some(name) => (name, None, false),
        None => (term, None, true),
    }
}

fn field(term: &str) -> Result<Condition, Refusal> {
    let (name, value, holds) = split(term);
    let pointer = match name {
        "metadata.name" => "/metadata/name",
        "metadata.namespace" => "/metadata/namespace",
        "status.phase" => "/status/phase",
        "status.podIP" => "/status/podIP",
        other => {
            let message = format!("field label not supported: {other}");
            return Err(Refusal::new(400, message));
        }
    };
    Ok(Condition {
        pointer: pointer.to_owned(),
        value: value.map(str::to_owned),
        holds,
    })
}

fn label(term: &str) -> Condition {
    let (name, value, holds) = split(term);
    let escaped = name.trim().replace('~', "~0").replace('/', "~1");
    Condition {
        pointer: format!("/metadata/labels/{escaped}"),
        value: value.map(|value| value.trim().to_owned()),
        holds,
    }
}
