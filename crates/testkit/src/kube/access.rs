//! Who may do what: the rules of roles, enforced.
//!
//! Owns the judgement of one request by a list of rules, for one client. A rule with names lets through a list or a
//! watch only if its field selector asks for such a name, as in a real cluster. Without rules everything is allowed.

use super::faults::Seen;
use super::store::Refusal;
use serde_json::Value;

/// One rule of a Role (with its namespace) or of a ClusterRole (without).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    namespace: Option<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    verbs: Vec<String>,
    /// Empty for all names.
    names: Vec<String>,
}

// === impl Rule ===

impl Rule {
    /// Reads the `rules` of a Role or ClusterRole; a Role's namespace is in its metadata.
    #[must_use]
    pub fn of_role(role: &Value) -> Vec<Self> {
        let namespace = role.pointer("/metadata/namespace").and_then(Value::as_str);
        let rules = role.get("rules").and_then(Value::as_array);
        let read = |rule: &Value| Self {
            namespace: namespace.map(str::to_owned),
            groups: words(rule, "apiGroups"),
            resources: words(rule, "resources"),
            verbs: words(rule, "verbs"),
            names: words(rule, "resourceNames"),
        };
        rules.into_iter().flatten().map(read).collect()
    }

    fn allows(&self, seen: &Seen) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|have| have == word || have == "*");
        let in_place = match &self.namespace {
            None => true,
            Some(own) => seen.namespace.as_ref() == Some(own),
        };
        let named = self.names.is_empty()
            || seen
                .name
                .as_ref()
                .is_some_and(|name| self.names.contains(name));
        in_place
            && named
            && has(&self.groups, &seen.group)
            && has(&self.resources, &seen.resource)
            && has(&self.verbs, seen.verb)
    }
}

/// Judges a request.
pub(super) fn check(rules: Option<&[Rule]>, seen: &Seen) -> Result<(), Refusal> {
    let Some(rules) = rules else { return Ok(()) };
    if rules.iter().any(|rule| rule.allows(seen)) {
        return Ok(());
    }
    let Seen {
        verb,
        group,
        resource,
        namespace,
        name,
        query: _,
        body: _,
    } = seen;
    let object = match name {
        Some(name) => format!("{resource} {name:?}"),
        None => resource.clone(),
    };
    let place = match namespace {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    Err(Refusal::new(
        403,
        format!(
            "{object} is forbidden: User \"system:serviceaccount:test\" cannot {verb} resource {resource:?} in API \
             group {group:?} {place}"
        ),
    ))
}

fn words(rule: &Value, name: &str) -> Vec<String> {
    let list = rule.get(name).and_then(Value::as_array);
    let words = list.into_iter().flatten().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}
