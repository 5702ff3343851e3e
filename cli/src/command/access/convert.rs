//! `accesscontrol convert`: the block of a Configuration as an AccessControl that decides the same.
//!
//! The block is taken over verbatim. Where the most specific rule would decide otherwise, the object keeps the way of
//! the block and every such request is listed above it. Source: security 4.7.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ironside_policy::{AppKind, Equivalence, equivalence};
use ironside_resources::{
    AccessControl,
    access_control::{
        AccessControlSpec, Action, CallerPolicy, Evaluation, HttpVerb, OperationRule,
        Unauthenticated, outlines,
    },
    configuration::{self, ConfigFile},
};
use serde::Serialize;

use super::{Session, app_kind};
use crate::output;

/// Differences that are listed.
const LISTED: usize = 100;

/// The manifest, in the order in which people write it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    scopes: &'a [String],
    spec: &'a AccessControlSpec,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
}

/// Runs the command.
pub(super) fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let values = &session.values;
    let path = values.text("file").unwrap_or_default();
    let bytes = std::fs::read(path).with_context(|| format!("reading {path}"))?;
    let app = app_kind(session)?;
    let lookup = |name: &str| session.environment.text(name).map(str::to_owned);
    let configuration = configuration::load(
        [ConfigFile {
            path,
            bytes: &bytes,
        }],
        lookup,
    )?;
    let Some(block) = &configuration.spec.access_control else {
        bail!("{path}: there is no spec.accessControl to convert");
    };
    let text = String::from_utf8_lossy(&bytes);
    let outline = outlines(&text).next();
    let stem = Path::new(path)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let named = outline
        .as_ref()
        .map(|one| one.name.clone())
        .filter(|name| !name.is_empty());
    let name = named.or(stem).unwrap_or_default();
    let namespace = outline.map(|one| one.namespace).unwrap_or_default();
    let (mut object, mut comments) = translated(block)?;
    object.name = name;
    object.namespace = namespace;
    object.scopes = values.texts("scopes");
    if object.scopes.is_empty() {
        comments.push(
            "It applies to every app of the namespace: name the apps that used the Configuration with --scopes."
                .to_owned(),
        );
    }
    comments.extend(evaluated(&mut object, app)?);
    output::out(written(&object, &comments)?.as_bytes());
    for comment in &comments {
        output::err(format!("{comment}\n").as_bytes());
    }
    Ok(ExitCode::SUCCESS)
}

/// The block in the words of an object, with what that changes in the text and not in decisions.
fn translated(
    block: &configuration::AccessControl,
) -> anyhow::Result<(AccessControl, Vec<String>)> {
    let mut comments = Vec::new();
    let policies = block.policies.as_deref().unwrap_or_default();
    if block.default_action.is_none() && policies.is_empty() {
        bail!("spec.accessControl has neither defaultAction nor policies: it says nothing");
    }
    let default = match block.default_action.as_deref() {
        None => {
            comments.push(
                "defaultAction: allow was implied, because the block had none: consider deny."
                    .to_owned(),
            );
            Action::Allow
        }
        Some("") if policies.is_empty() && block.policies.is_some() => Action::Allow,
        Some(word) => action(word),
    };
    let mut object = AccessControl::default();
    object.spec.default_action = Some(default);
    object.spec.trust_domain = block
        .trust_domain
        .clone()
        .filter(|domain| !domain.is_empty());
    for (at, policy) in policies.iter().enumerate() {
        let later = policies.iter().skip(at + 1);
        let is_replaced = later
            .clone()
            .any(|one| one.app_id == policy.app_id && one.namespace == policy.namespace);
        if is_replaced {
            comments.push(format!(
                "policies/{at} ({}) is left out: a later entry for the same appId and namespace replaced it.",
                policy.app_id
            ));
            continue;
        }
        object.spec.policies.push(entry(at, policy, &mut comments));
    }
    Ok((object, comments))
}

fn entry(at: usize, policy: &configuration::AppPolicy, comments: &mut Vec<String>) -> CallerPolicy {
    let mut operations = Vec::new();
    for (number, rule) in policy.operations.iter().enumerate() {
        let mut verbs = Vec::new();
        for word in &rule.http_verb {
            match verb(word) {
                Some(verb) if verbs.contains(&verb) => {}
                Some(verb) => verbs.push(verb),
                None => comments.push(format!(
                    "policies/{at}/operations/{number}: httpVerb {word:?} is left out: it never matched."
                )),
            }
        }
        if verbs.contains(&HttpVerb::Any) {
            verbs = vec![HttpVerb::Any];
        }
        operations.push(OperationRule {
            name: if rule.name.is_empty() {
                "/".to_owned()
            } else {
                rule.name.clone()
            },
            path_match: None,
            http_verb: verbs,
            action: action(&rule.action),
        });
    }
    let default = policy.default_action.as_str();
    CallerPolicy {
        app_id: policy.app_id.clone(),
        namespace: policy.namespace.clone(),
        trust_domain: Some(policy.trust_domain.clone()),
        default_action: (!default.is_empty()).then(|| action(default)),
        operations,
    }
}

/// Every word but `allow` denies.
fn action(word: &str) -> Action {
    if word.eq_ignore_ascii_case("allow") {
        Action::Allow
    } else {
        Action::Deny
    }
}

fn verb(word: &str) -> Option<HttpVerb> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

/// Chooses how the object is evaluated, and lists what that is for.
fn evaluated(object: &mut AccessControl, app: AppKind) -> anyhow::Result<Vec<String>> {
    let mut comments = Vec::new();
    object.spec.evaluation = Evaluation::MostSpecific;
    let unfit: BTreeSet<String> = object.problems().iter().map(ToString::to_string).collect();
    let compared = equivalence(object, app);
    if unfit.is_empty() && compared == Equivalence::Equivalent {
        if object.spec.default_action == Some(Action::Allow) {
            // Callers without identity met the default of the block.
            object.spec.unauthenticated = Some(Unauthenticated::DefaultAction);
        }
        comments.push(
            "The most specific rule decides the same as the block did, for every request."
                .to_owned(),
        );
        return Ok(comments);
    }
    object.spec.evaluation = Evaluation::DaprCompatible;
    let problems = object.problems();
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        bail!(
            "no AccessControl can say this: {}; correct the block first",
            lines.join("; ")
        );
    }
    comments.push("evaluation: DaprCompatible keeps every decision of the block.".to_owned());
    for problem in &unfit {
        comments.push(format!("MostSpecific refuses {problem}"));
    }
    match compared {
        Equivalence::Equivalent => {}
        Equivalence::NotComputed => comments.push(
            "There are too many combinations to compare it with the most specific rule.".to_owned(),
        ),
        Equivalence::Diverges(list) => {
            comments.push("The most specific rule would decide otherwise:".to_owned());
            for one in list.iter().take(LISTED) {
                comments.push(format!(
                    "  {}: {} now, {} then",
                    one.sample, one.compatible, one.specific
                ));
            }
            if list.len() > LISTED {
                comments.push(format!(
                    "  and {} more kinds of request",
                    list.len() - LISTED
                ));
            }
        }
    }
    Ok(comments)
}

fn written(object: &AccessControl, comments: &[String]) -> anyhow::Result<String> {
    let manifest = Manifest {
        api_version: "dapr.io/v1alpha1",
        kind: "AccessControl",
        metadata: Metadata {
            name: &object.name,
            namespace: &object.namespace,
        },
        scopes: &object.scopes,
        spec: &object.spec,
    };
    let body = serde_yaml::to_string(&manifest).context("writing YAML")?;
    let mut text: String = comments
        .iter()
        .map(|comment| format!("# {comment}\n"))
        .collect();
    text.push_str(&body);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}
