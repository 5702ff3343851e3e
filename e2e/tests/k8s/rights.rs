//! What each program may do on a real cluster, whatever gives it the right: the list in docs/kubernetes.md, and no
//! more. Row KH-17.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{
    binaries::root,
    k8s::{self, Helm, Place},
};
use serde_json::{Value, json};

/// The heading of the list.
const HEADING: &str = "## Rights";

/// The accounts of the control plane.
const ACCOUNTS: [&str; 3] = ["dapr-injector", "dapr-operator", "dapr-sentry"];

/// One verb on one resource; an empty name means all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    name: String,
    verb: String,
}

/// Every right that a rule gives.
fn rights(rule: [&[String]; 4]) -> BTreeSet<Right> {
    let [groups, resources, names, verbs] = rule;
    let all = [String::new()];
    let names = if names.is_empty() { &all[..] } else { names };
    let mut rights = BTreeSet::new();
    for group in groups {
        for resource in resources {
            for name in names {
                rights.extend(verbs.iter().map(|verb| Right {
                    group: group.clone(),
                    resource: resource.clone(),
                    name: name.clone(),
                    verb: verb.clone(),
                }));
            }
        }
    }
    rights
}

/// The rights of an account in the document.
fn documented(account: &str, place: &str) -> Result<BTreeSet<Right>> {
    let text = fs::read_to_string(root().join("docs/kubernetes.md"))?;
    let (_, after) = text.split_once(HEADING).context("the list")?;
    let section = after.split("\n## ").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    for line in section.lines() {
        let line = line.replace('`', "");
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", who, at, group, resources, names, verbs, ""] = cells.as_slice() else {
            continue;
        };
        if (*who, *at) != (account, place) {
            continue;
        }
        let words = |text: &str| -> Vec<String> {
            let words = text.split(", ").filter(|word| *word != "all");
            words.map(|word| word.replace("core", "")).collect()
        };
        let (group, resources, names) = (words(group), words(resources), words(names));
        found.extend(rights([&group, &resources, &names, &words(verbs)]));
    }
    Ok(found)
}

/// What `kubectl create` answers to questions that are asked in the name of an account.
fn ask(place: &Place, account: &str, questions: &[Value]) -> Result<Vec<Value>> {
    let user = format!("--as=system:serviceaccount:{account}");
    let questions: Vec<String> = questions.iter().map(Value::to_string).collect();
    let text = questions.join("\n---\n");
    // The schema is behind rights that these accounts do not have.
    let create = [
        "create",
        &user,
        "--validate=false",
        "--output=json",
        "--filename=-",
    ];
    let said = place.kubectl(&create, Some(&text))?;
    ensure!(said.ok, "{}", said.stderr);
    let answers = serde_json::Deserializer::from_str(&said.stdout).into_iter();
    answers.collect::<Result<_, _>>().context("answers")
}

/// The rights that the API server says an account has in a namespace.
fn actual(place: &Place, account: &str, namespace: &str) -> Result<BTreeSet<Right>> {
    let question = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": namespace},
    });
    let answers = ask(place, account, &[question])?;
    let rules = answers
        .first()
        .and_then(|one| one["status"]["resourceRules"].as_array());
    let mut found = BTreeSet::new();
    for rule in rules.context("rules")? {
        let words = |name: &str| -> Vec<String> {
            let list = rule[name].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let (groups, resources) = (words("apiGroups"), words("resources"));
        found.extend(rights([
            &groups,
            &resources,
            &words("resourceNames"),
            &words("verbs"),
        ]));
    }
    Ok(found)
}

async fn snapshot(place: &Place) -> Result<()> {
    let helm = Helm::new(place.cluster());
    helm.shared().await?;
    let own = helm.namespace();
    // What everybody has who is known.
    let nobody = format!("{}:nobody", place.namespace());
    let base = actual(place, &nobody, place.namespace())?;
    for account in ACCOUNTS {
        let user = format!("{own}:{account}");
        let everywhere = actual(place, &user, place.namespace())?;
        let everywhere: BTreeSet<Right> = everywhere.difference(&base).cloned().collect();
        assert_eq!(everywhere, documented(account, "everywhere")?, "{account}");
        let here = actual(place, &user, own)?;
        let here: BTreeSet<Right> = here.difference(&base).cloned().collect();
        let mut want = documented(account, "own namespace")?;
        want.extend(everywhere);
        assert_eq!(here, want, "{account} in {own}");
    }
    Ok(())
}

/// The RBAC snapshot equals the documented list.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_programs_have_the_documented_rights_and_no_more() {
    k8s::test(
        "rights::the_programs_have_the_documented_rights_and_no_more",
        snapshot,
    )
    .await;
}

fn review(right: &Right, namespace: Option<&str>) -> Value {
    let (resource, subresource) = right
        .resource
        .split_once('/')
        .unwrap_or((&right.resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "namespace": namespace.unwrap_or_default(), "verb": right.verb, "group": right.group,
            "resource": resource, "subresource": subresource, "name": right.name,
        }},
    })
}

async fn reviews(place: &Place) -> Result<()> {
    let helm = Helm::new(place.cluster());
    helm.shared().await?;
    let own = helm.namespace();
    let mut count = 0;
    for account in ACCOUNTS {
        let mut questions = Vec::new();
        for (at, namespace) in [("everywhere", None), ("own namespace", Some(own))] {
            let all = documented(account, at)?;
            questions.extend(all.iter().map(|right| review(right, namespace)));
        }
        let allowed = questions.len();
        // Secrets of everybody, of the neighbours, and of the control plane.
        for verb in [
            "get", "list", "watch", "create", "update", "patch", "delete",
        ] {
            for namespace in [None, Some(place.namespace()), Some(own)] {
                let right = Right {
                    group: String::new(),
                    resource: "secrets".to_owned(),
                    name: String::new(),
                    verb: verb.to_owned(),
                };
                questions.push(review(&right, namespace));
            }
        }
        let answers = ask(place, &format!("{own}:{account}"), &questions)?;
        ensure!(
            answers.len() == questions.len(),
            "{} answers",
            answers.len()
        );
        for (index, (question, answer)) in questions.iter().zip(&answers).enumerate() {
            let want = index < allowed;
            ensure!(
                answer["status"]["allowed"] == want,
                "{account}: {question}: {answer}"
            );
        }
        count += questions.len();
    }
    println!("{count} access reviews");
    Ok(())
}

/// KH-17
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask e2e k8s"]
async fn the_programs_may_do_what_they_need_and_read_no_secrets() {
    k8s::test(
        "rights::the_programs_may_do_what_they_need_and_read_no_secrets",
        reviews,
    )
    .await;
}
