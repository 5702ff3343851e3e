//! `components -k` and `configurations -k`: the objects of `dapr.io`, for people as a table, for programs as stored.
//!
//! Facts: cli-and-clients 1.15, CL-92.

use std::process::ExitCode;

use kube::api::DynamicObject;
use serde::Serialize;
use serde_json::Value;

use super::{Form, Session, one_namespace};
use crate::cluster::{COMPONENTS, CONFIGURATIONS, Cluster, Kind, control_plane, sidecars};
use crate::output::{self, age};

/// An object as the output for programs has it, spelled as in a manifest.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    namespace: String,
    spec: Value,
    #[serde(skip)]
    scopes: String,
    #[serde(skip)]
    created: String,
    #[serde(skip)]
    age: String,
}

/// Runs `components`.
pub(crate) async fn components(session: &Session) -> anyhow::Result<ExitCode> {
    let headings = [
        "namespace",
        "name",
        "type",
        "version",
        "scopes",
        "created",
        "age",
    ];
    let cells = |row: &Row| {
        let text = |name: &str| {
            let member = row.spec.get(name).and_then(Value::as_str);
            member.unwrap_or_default().to_owned()
        };
        vec![
            row.namespace.clone(),
            row.name.clone(),
            text("type"),
            text("version"),
            row.scopes.clone(),
            row.created.clone(),
            row.age.clone(),
        ]
    };
    show(session, COMPONENTS, &headings, cells).await
}

/// Runs `configurations`.
pub(crate) async fn configurations(session: &Session) -> anyhow::Result<ExitCode> {
    let headings = [
        "namespace",
        "name",
        "tracing_enabled",
        "metrics_enabled",
        "age",
        "created",
    ];
    let cells = |row: &Row| {
        vec![
            row.namespace.clone(),
            row.name.clone(),
            traces(&row.spec).to_string(),
            measures(&row.spec).to_string(),
            row.age.clone(),
            row.created.clone(),
        ]
    };
    show(session, CONFIGURATIONS, &headings, cells).await
}

async fn show(
    session: &Session,
    kind: Kind,
    headings: &[&str],
    cells: impl Fn(&Row) -> Vec<String>,
) -> anyhow::Result<ExitCode> {
    let form = Form::of(session)?;
    let cluster = Cluster::of(session).await?;
    let wanted = session.values.text("name").filter(|name| !name.is_empty());
    let found = cluster.objects(kind, one_namespace(session)).await?;
    let mut rows: Vec<Row> = found
        .unwrap_or_default()
        .iter()
        // The cluster's own configuration is the control plane's business.
        .filter(|object| kind.is(COMPONENTS) || !control_plane::is_system(object))
        .map(|object| Row::of(object, session))
        .filter(|row| wanted.is_none_or(|name| row.name.eq_ignore_ascii_case(name)))
        .collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    if rows.is_empty() && form == Form::Table {
        output::line(&format!("No {} found.", kind.plural()));
    } else {
        form.print(&rows, headings, cells)?;
    }
    control_plane::warn_of_end(session, &cluster, form != Form::Table).await;
    Ok(ExitCode::SUCCESS)
}

fn traces(spec: &Value) -> bool {
    let rate = spec.pointer("/tracing/samplingRate");
    let rate = rate.and_then(Value::as_str).unwrap_or_default();
    rate.parse().is_ok_and(|rate: f64| rate != 0.0)
}

/// Metrics are on unless they are turned off, under either spelling.
fn measures(spec: &Value) -> bool {
    let settings = spec.get("metrics").or_else(|| spec.get("metric"));
    let enabled = settings.and_then(|settings| settings.get("enabled"));
    enabled.and_then(Value::as_bool).unwrap_or(true)
}

// === impl Row ===

impl Row {
    fn of(object: &DynamicObject, session: &Session) -> Self {
        let metadata = &object.metadata;
        let scopes = object.data.get("scopes").and_then(Value::as_array);
        let scopes: Vec<&str> = scopes
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            spec: object.data.get("spec").cloned().unwrap_or_default(),
            scopes: scopes.join(","),
            created: sidecars::created(metadata)
                .map(age::created)
                .unwrap_or_default(),
            age: age::age(sidecars::age(metadata, session.clock.now())),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_on_is_read_as_sidecars_read_it() {
        for (spec, tracing, metrics) in [
            (json!({}), false, true),
            (
                json!({"tracing": {"samplingRate": "0.5"}, "metrics": {"enabled": false}}),
                true,
                false,
            ),
            (
                json!({"tracing": {"samplingRate": "0"}, "metric": {"enabled": false}}),
                false,
                false,
            ),
            (
                json!({"tracing": {"samplingRate": "x"}, "metrics": {}}),
                false,
                true,
            ),
        ] {
            assert_eq!(
                (traces(&spec), measures(&spec)),
                (tracing, metrics),
                "{spec}"
            );
        }
    }
}
