//! What each program may do, compared with the list in docs/kubernetes.md.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::rig::{Render, render, root};

/// The heading of the list.
const HEADING: &str = "## Rights";

fn words(value: &Value) -> String {
    let list = value.as_array().into_iter().flatten();
    let words: Vec<_> = list.map(|word| word.as_str().unwrap()).collect();
    words.join(", ")
}

/// Roles that people are given, by whoever may.
const FOR_PEOPLE: [&str; 2] = ["dapr-access-control-editor", "dapr-access-control-viewer"];

/// Rows as the document has them: account, where, group, resources, names, verbs.
fn rows(render: &Render) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for kind in ["ClusterRole", "Role"] {
        for role in render.all(kind) {
            let name = &role["metadata"]["name"];
            let is_for_people = FOR_PEOPLE.iter().any(|one| name == one);
            let binding = format!("{kind}Binding");
            let binding = render
                .all(&binding)
                .find(|one| one["roleRef"]["name"] == *name);
            let (account, place) = if is_for_people {
                assert!(binding.is_none(), "{name} is given to nobody");
                (name.as_str().unwrap(), "where bound")
            } else {
                let binding = binding.unwrap_or_else(|| panic!("nobody has {name}"));
                assert_eq!(binding["roleRef"]["kind"], kind);
                assert_eq!(
                    binding["metadata"]["namespace"],
                    role["metadata"]["namespace"]
                );
                let subjects = binding["subjects"].as_array().unwrap();
                assert_eq!(subjects.len(), 1, "{name}");
                let place = match role["metadata"]["namespace"].as_str() {
                    None => "everywhere",
                    Some("dapr-system") => "own namespace",
                    Some(other) => other,
                };
                (subjects[0]["name"].as_str().unwrap(), place)
            };
            for rule in role["rules"].as_array().unwrap() {
                let group = words(&rule["apiGroups"]);
                let group = if group.is_empty() { "core" } else { &group };
                let (resources, names) = (words(&rule["resources"]), words(&rule["resourceNames"]));
                let names = if names.is_empty() { "all" } else { &names };
                let verbs = words(&rule["verbs"]);
                rows.insert(format!(
                    "| {account} | {place} | {group} | {resources} | {names} | {verbs} |"
                ));
            }
        }
    }
    rows
}

/// The RBAC snapshot equals the documented list.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn rights_are_those_of_the_document() {
    let text = fs::read_to_string(root().join("docs/kubernetes.md")).unwrap();
    let after = text.split_once(HEADING).unwrap().1;
    let section = after.split("\n## ").next().unwrap();
    // Code marks are for readers.
    let table = section.lines().filter(|line| line.starts_with("| dapr-"));
    let documented: BTreeSet<_> = table.map(|line| line.replace('`', "")).collect();
    assert_eq!(documented, rows(&render("")));
}

/// Who may look at a namespace may look at its rules; who deploys apps there may not change them.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn people_read_rules_with_view_and_change_them_only_if_given_the_right() {
    let render = render("");
    let labels = |name: &str| {
        let role = render.object("ClusterRole", name);
        role["metadata"]["labels"].to_string()
    };
    assert!(
        labels("dapr-access-control-viewer")
            .contains("\"rbac.authorization.k8s.io/aggregate-to-view\":\"true\"")
    );
    assert!(!labels("dapr-access-control-editor").contains("aggregate"));
}

/// Nobody reads Secrets of a whole cluster, or may do everything; watching by name asks for the right to a name.
#[test]
#[ignore = "needs helm: cargo xtask e2e chart"]
fn nobody_reads_secrets_of_others_unless_asked_to() {
    for values in [
        "",
        "global: {rbac: {namespaced: true}}",
        "global: {ha: {enabled: true}}",
    ] {
        let render = render(values);
        for role in render.all("ClusterRole").chain(render.all("Role")) {
            for rule in role["rules"].as_array().unwrap() {
                let text = rule.to_string();
                assert!(!text.contains("\"*\""), "{text}");
                let has_secrets = words(&rule["resources"]).contains("secrets");
                let named = rule["resourceNames"] == serde_json::json!(["dapr-trust-bundle"]);
                assert!(!has_secrets || named, "{values}: {text}");
            }
        }
    }
    let asked = render("dapr_operator: {secretResolution: {namespaces: [shop, shop]}}");
    let mut secrets = asked
        .all("Role")
        .filter(|role| role["metadata"]["name"] == "dapr-operator-secrets");
    let role = secrets.next().unwrap();
    assert_eq!(role["metadata"]["namespace"], "shop");
    assert_eq!(words(&role["rules"][0]["verbs"]), "get");
    assert!(secrets.next().is_none());
}
