//! `annotate`: annotations added to the manifest of a workload, everything else left as it is.
//!
//! Owns where manifests come from and which object is meant; [`flags`] knows which flag is which annotation, [`edit`]
//! changes the text. Touches no cluster. Facts: cli-and-clients 1.16.

mod edit;
mod flags;
mod source;

pub(crate) use flags::FLAGS;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use ironside_resources::yaml;
use serde_json::Value;

use super::Session;
use crate::output;
use edit::Step;

/// Which object is meant; the first one without a name.
#[derive(Debug, Default)]
struct Wanted<'a> {
    name: Option<&'a str>,
    namespace: Option<&'a str>,
}

/// A workload in a document.
#[derive(Debug)]
struct Workload {
    /// The way to its pods' annotations.
    path: Vec<Step>,
    /// The app id that it gets if none is given.
    app_id: String,
}

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let values = &session.values;
    let wanted = Wanted {
        name: values.text("resource").filter(|text| !text.is_empty()),
        namespace: values.text("namespace").filter(|text| !text.is_empty()),
    };
    let refusal = if !values.switch("kubernetes") {
        Some("annotate is for Kubernetes manifests: add -k")
    } else if session.words.is_empty() {
        Some("please specify a Kubernetes resource file")
    } else if wanted.namespace.is_some() && wanted.name.is_none() {
        Some("--resource is required when --namespace is provided.")
    } else {
        None
    };
    if let Some(text) = refusal {
        session.status.failure(text);
        return Ok(ExitCode::FAILURE);
    }
    let mut texts = Vec::new();
    for word in &session.words {
        texts.extend(source::read(word).await?);
    }
    let documents: Vec<&str> = texts
        .iter()
        .flat_map(|text| yaml::documents(text))
        .collect();
    let Some(done) = annotated(&documents, &wanted, &flags::annotations(values))? else {
        session.status.failure(&match wanted.name {
            Some(name) => format!("there is no workload of the name {name} in the given manifests"),
            None => "there is no workload in the given manifests".to_owned(),
        });
        return Ok(ExitCode::FAILURE);
    };
    output::out(done.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// All documents, the first that fits with annotations; none if none fits.
fn annotated(
    documents: &[&str],
    wanted: &Wanted<'_>,
    annotations: &BTreeMap<&'static str, String>,
) -> anyhow::Result<Option<String>> {
    let mut is_done = false;
    let mut parts = Vec::new();
    for document in documents {
        let value: Value = yaml::from_str(document).context("a manifest cannot be read")?;
        let found = (!is_done).then(|| workload(&value, wanted)).flatten();
        parts.push(match found {
            None => (*document).to_owned(),
            Some(found) => {
                is_done = true;
                let held = edit::at(&value, &found.path);
                let mut set = annotations.clone();
                set.insert("dapr.io/enabled", "true".to_owned());
                if held.is_none_or(|held| held.get("dapr.io/app-id").is_none()) {
                    set.entry("dapr.io/app-id").or_insert(found.app_id);
                }
                edit::annotate(document, &value, &found.path, &set)?
            }
        });
    }
    for part in &mut parts {
        if !part.ends_with('\n') {
            part.push('\n');
        }
    }
    Ok(is_done.then(|| parts.join("---\n")))
}

/// The first workload of an object that is meant: itself, or an item of a list.
fn workload(object: &Value, wanted: &Wanted<'_>) -> Option<Workload> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kind = text("/kind")?;
    if kind.ends_with("List") {
        let items = object.get("items")?.as_array()?.iter().enumerate();
        return items
            .filter_map(|(at, item)| {
                let mut found = workload(item, wanted)?;
                found
                    .path
                    .splice(0..0, [Step::Key("items"), Step::Item(at)]);
                Some(found)
            })
            .next();
    }
    let way: &[&'static str] = match kind {
        "Pod" => &["metadata", "annotations"],
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "Job" => {
            &["spec", "template", "metadata", "annotations"]
        }
        "CronJob" => &[
            "spec",
            "jobTemplate",
            "spec",
            "template",
            "metadata",
            "annotations",
        ],
        _ => return None,
    };
    let name = text("/metadata/name").unwrap_or_default();
    let namespace = text("/metadata/namespace").unwrap_or("default");
    let is = |wanted: Option<&str>, found: &str| {
        wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(found))
    };
    if !is(wanted.name, name) || !is(wanted.namespace, namespace) {
        return None;
    }
    Some(Workload {
        path: way.iter().copied().map(Step::Key).collect(),
        app_id: format!("{namespace}-{}-{name}", kind.to_lowercase()),
    })
}

#[cfg(test)]
mod tests;
