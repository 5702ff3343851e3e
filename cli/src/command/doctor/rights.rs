//! The rights that the programs of the control plane need.
//!
//! Pure. They are those that the chart grants: read from the render in this binary, so that there is no second list
//! that could fall behind it. What depends on how the operator runs is left out or added by its flags.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cluster::control_plane::SYSTEM;
use crate::command::install::roles;

const OPERATOR: &str = "dapr-operator";
const INJECTOR: &str = "dapr-injector";
/// The group of the definitions of kinds.
const DEFINITIONS: &str = "apiextensions.k8s.io";
const EVENTS: &str = "events.k8s.io";

/// Where a right must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the whole cluster.
    Cluster,
    /// In the namespace that the operator looks at, or in all.
    Watched,
    /// In the control plane's namespace.
    Own,
}

/// One right of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Right {
    /// Its ServiceAccount.
    account: String,
    verb: String,
    group: String,
    resource: String,
    /// Empty for all.
    name: String,
    place: Place,
}

/// What the rights of a control plane depend on.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Its namespace.
    pub own: String,
    /// The only namespace that the operator looks at.
    pub watched: Option<String>,
    /// The name of the system configuration, if it is not the usual one.
    pub system: Option<String>,
    /// The switches that the operator runs with.
    pub switches: Vec<String>,
    /// Whether there is no injector, which the chart may be told.
    pub is_without_injector: bool,
}

/// The switch without which the operator leaves definitions alone; with rights of one namespace it is never given.
const MANAGES: &str = "manage-crds";

/// Rights that only a switch of the operator asks for.
const BY_SWITCH: [(&str, &str, &str, &[&str]); 3] = [
    (
        "enable-argo-rollout-service-reconciler",
        "argoproj.io",
        "rollouts",
        &["get", "list", "watch"],
    ),
    (
        "enable-argo-rollout-service-reconciler",
        "argoproj.io",
        "rollouts/finalizers",
        &["update"],
    ),
    ("watchdog-can-patch-pod-labels", "", "pods", &["patch"]),
];

/// What a control plane of this shape needs.
pub(super) fn needed(shape: &Shape) -> anyhow::Result<Vec<Right>> {
    let has = |switch: &str| shape.switches.iter().any(|one| one == switch);
    let mut all = granted().context("the roles of this build")?;
    all.retain(|right| right.group != DEFINITIONS || has(MANAGES));
    all.retain(|right| right.account != INJECTOR || !shape.is_without_injector);
    for right in &mut all {
        if let (SYSTEM, Some(system)) = (right.name.as_str(), &shape.system) {
            right.name.clone_from(system);
        }
    }
    for (switch, group, resource, verbs) in BY_SWITCH {
        let verbs = verbs.iter().filter(|_| has(switch));
        all.extend(verbs.map(|verb| Right {
            account: OPERATOR.to_owned(),
            verb: (*verb).to_owned(),
            group: group.to_owned(),
            resource: resource.to_owned(),
            name: String::new(),
            place: Place::Watched,
        }));
    }
    Ok(all)
}

/// Every right that the chart gives to a program by default.
fn granted() -> anyhow::Result<Vec<Right>> {
    let objects = roles()?;
    let text = |value: &Value, at: &str| -> String {
        let text = value.pointer(at).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let mut all = Vec::new();
    for (kind, binding) in [
        ("ClusterRole", "ClusterRoleBinding"),
        ("Role", "RoleBinding"),
    ] {
        let bindings = objects.iter().filter(|one| text(one, "/kind") == binding);
        for binding in bindings {
            let account = text(binding, "/subjects/0/name");
            let name = text(binding, "/roleRef/name");
            let role = objects
                .iter()
                .find(|one| text(one, "/kind") == kind && text(one, "/metadata/name") == name);
            let role = role.with_context(|| format!("{account} is bound to {kind} {name}"))?;
            let rules = role.get("rules").and_then(Value::as_array);
            for rule in rules.into_iter().flatten() {
                all.extend(of_rule(&account, kind == "Role", rule));
            }
        }
    }
    Ok(all)
}

fn of_rule(account: &str, is_own: bool, rule: &Value) -> Vec<Right> {
    let words = |member: &str| -> Vec<String> {
        let words = rule.get(member).and_then(Value::as_array);
        let words = words.into_iter().flatten().filter_map(Value::as_str);
        words.map(str::to_owned).collect()
    };
    let mut names = words("resourceNames");
    if names.is_empty() {
        names.push(String::new());
    }
    let mut all = Vec::new();
    for group in words("apiGroups") {
        let place = match (is_own, account) {
            (true, _) => Place::Own,
            (false, OPERATOR) if group != DEFINITIONS => Place::Watched,
            (false, _) => Place::Cluster,
        };
        for resource in words("resources") {
            for name in &names {
                all.extend(words("verbs").into_iter().map(|verb| Right {
                    account: account.to_owned(),
                    verb,
                    group: group.clone(),
                    resource: resource.clone(),
                    name: name.clone(),
                    place,
                }));
            }
        }
    }
    all
}

// === impl Right ===

impl Right {
    /// The `spec` of the review that asks for it.
    pub(super) fn question(&self, shape: &Shape) -> Value {
        let own = &shape.own;
        let (resource, part) = match self.resource.split_once('/') {
            Some((resource, part)) => (resource, part),
            None => (self.resource.as_str(), ""),
        };
        let namespace = match self.place {
            Place::Cluster => "",
            Place::Watched => shape.watched.as_deref().unwrap_or_default(),
            Place::Own => own,
        };
        json!({
            "user": format!("system:serviceaccount:{own}:{}", self.account),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{own}"), "system:authenticated"],
            "resourceAttributes": {
                "verb": self.verb, "group": self.group, "resource": resource, "subresource": part,
                "name": self.name, "namespace": namespace,
            },
        })
    }

    /// Whether calls are hurt by its want; without Events people only learn less.
    pub(super) fn is_vital(&self) -> bool {
        self.group != EVENTS
    }

    /// Whether two differ by nothing but the verb.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        let same = Self {
            verb: self.verb.clone(),
            ..other.clone()
        };
        *self == same
    }

    /// Rights that differ by nothing but the verb, as what an account may not do.
    pub(super) fn words(rights: &[&Self]) -> String {
        let Some(Self {
            account,
            resource,
            name,
            place,
            ..
        }) = rights.first()
        else {
            return String::new();
        };
        let verbs: Vec<&str> = rights.iter().map(|right| right.verb.as_str()).collect();
        let (verbs, space) = (verbs.join(", "), if name.is_empty() { "" } else { " " });
        let place = match place {
            Place::Own => " in its own namespace",
            Place::Cluster | Place::Watched => "",
        };
        format!("{account} may not {verbs} {resource}{space}{name}{place}")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn shape(switches: &[&str]) -> Shape {
        Shape {
            own: "dapr-system".to_owned(),
            switches: switches.iter().map(|&one| one.to_owned()).collect(),
            ..Shape::default()
        }
    }

    /// Rights as the words of a line: account, place, group, resource, name, verb.
    fn lines(rights: &[Right]) -> BTreeSet<[String; 6]> {
        let line = |right: &Right| {
            let place = match right.place {
                Place::Own => "own namespace",
                Place::Cluster | Place::Watched => "everywhere",
            };
            let place = place.to_owned();
            let Right {
                account,
                verb,
                group,
                resource,
                name,
                place: _,
            } = right.clone();
            [account, place, group, resource, name, verb]
        };
        rights.iter().map(line).collect()
    }

    /// The list of docs/kubernetes.md, which another test compares with what Helm makes of the chart.
    #[test]
    fn every_right_that_the_chart_gives_to_a_program_is_asked_for() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/kubernetes.md");
        let text = std::fs::read_to_string(path).unwrap();
        let section = text.split_once("\n## Rights\n").unwrap().1;
        let section = section.split("\n## ").next().unwrap();
        let mut documented = BTreeSet::new();
        for line in section.lines() {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let ["", account, place, group, resources, names, verbs, ""] = cells[..] else {
                continue;
            };
            if !["everywhere", "own namespace"].contains(&place) {
                continue;
            }
            let group = if group == "core" { "" } else { group };
            for resource in resources.split(", ") {
                for name in names.split(", ") {
                    let name = if name == "all" { "" } else { name };
                    documented.extend(verbs.split(", ").map(|verb| {
                        [account, place, group, resource, name, verb].map(str::to_owned)
                    }));
                }
            }
        }
        assert!(documented.len() > 80, "{}", documented.len());
        let asked = needed(&shape(&[MANAGES])).unwrap();
        assert_eq!(lines(&asked), documented);
        assert_eq!(asked.len(), documented.len(), "none twice");
    }

    fn template(path: &str) -> &'static str {
        let mut files = crate::chart::files();
        let (_, bytes) = files.find(|(one, _)| *one == path).unwrap();
        std::str::from_utf8(bytes).unwrap()
    }

    /// What is between a condition of a template and its end.
    fn block<'a>(text: &'a str, condition: &str) -> &'a str {
        let start = format!("{{{{- if {condition} }}}}\n");
        let (_, after) = text.split_once(&start).unwrap();
        after.split_once("{{- end }}").unwrap().0
    }

    /// Conditions in the templates of roles: each must be known to this file.
    #[test]
    fn rights_that_depend_on_a_value_are_known() {
        let operator = template("templates/rbac/operator.yaml");
        let conditions = |text: &str| -> BTreeSet<String> {
            let parts = text.split("{{").skip(1);
            let parts = parts.filter_map(|part| part.split_once("}}"));
            let inner = parts.map(|(inner, _)| inner.trim_start_matches('-').trim());
            let conditions = inner.filter_map(|inner| inner.strip_prefix("if "));
            conditions.map(str::to_owned).collect()
        };
        let expected = [
            // `--manage-crds`; what remains of it without is for the kind of another project.
            ".Values.crds.manage",
            "not .Values.crds.manage",
            // `--watch-namespace`
            ".Values.global.rbac.namespaced",
            ".Values.global.argoRolloutServiceReconciler.enabled",
            ".Values.global.operator.watchdogCanPatchPodLabels",
        ];
        assert_eq!(
            conditions(operator),
            expected.map(str::to_owned).into_iter().collect()
        );
        let injector = conditions(template("templates/rbac/injector.yaml"));
        assert_eq!(
            injector.into_iter().collect::<Vec<_>>(),
            [".Values.dapr_sidecar_injector.enabled"]
        );
        let sentry = conditions(template("templates/rbac/sentry.yaml"));
        assert!(sentry.is_empty(), "{sentry:?}");

        let switch = "enable-argo-rollout-service-reconciler";
        let rules = block(
            operator,
            ".Values.global.argoRolloutServiceReconciler.enabled",
        );
        let rules: Vec<Value> = ironside_resources::yaml::from_str(rules).unwrap();
        let of_chart: Vec<Right> = rules
            .iter()
            .flat_map(|rule| of_rule(OPERATOR, false, rule))
            .collect();
        let usual = lines(&needed(&shape(&[])).unwrap());
        let more = |switch: &str| {
            let all = lines(&needed(&shape(&[switch])).unwrap());
            all.difference(&usual).cloned().collect::<BTreeSet<_>>()
        };
        assert_eq!(more(switch), lines(&of_chart));
        assert!(operator.contains("watchdogCanPatchPodLabels }}, patch{{ end }}]"));
        let patches = more("watchdog-can-patch-pod-labels");
        let patches: Vec<_> = patches.iter().map(|line| line.join(" ")).collect();
        assert_eq!(patches, ["dapr-operator everywhere  pods  patch"]);
    }

    #[test]
    fn a_question_is_asked_where_the_right_must_hold() {
        let mut shape = shape(&[]);
        shape.watched = Some("shop".to_owned());
        shape.system = Some("mine".to_owned());
        let all = needed(&shape).unwrap();
        assert!(all.iter().all(|right| right.group != DEFINITIONS));
        shape.is_without_injector = true;
        let fewer = needed(&shape).unwrap();
        assert!(fewer.len() < all.len() && fewer.iter().all(|right| right.account != INJECTOR));
        let of = |account: &str, verb: &str, resource: &str| -> Vec<(String, String)> {
            let mine = all.iter().filter(|right| {
                right.account == account && right.verb == verb && right.resource == resource
            });
            mine.map(|right| {
                let question = right.question(&shape);
                let text = |member: &str| {
                    let value = &question["resourceAttributes"][member];
                    value.as_str().unwrap().to_owned()
                };
                assert_eq!(
                    question["user"],
                    format!("system:serviceaccount:dapr-system:{account}")
                );
                (text("namespace"), text("name"))
            })
            .collect()
        };
        let pair = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        assert_eq!(of("dapr-sentry", "list", "pods"), [pair("", "")]);
        assert_eq!(of("dapr-operator", "list", "pods"), [pair("shop", "")]);
        assert_eq!(
            of("dapr-operator", "watch", "configurations"),
            [pair("shop", ""), pair("dapr-system", "mine")]
        );
        assert_eq!(
            of("dapr-injector", "watch", "configurations"),
            [pair("dapr-system", "mine")]
        );
        assert_eq!(
            of("dapr-injector", "get", "mutatingwebhookconfigurations"),
            [pair("", "dapr-sidecar-injector")]
        );
        let status = all
            .iter()
            .find(|right| right.resource == "accesscontrols/status");
        let question = status.unwrap().question(&shape);
        let asked = &question["resourceAttributes"];
        assert_eq!(
            (&asked["resource"], &asked["subresource"]),
            (&json!("accesscontrols"), &json!("status"))
        );
    }
}
