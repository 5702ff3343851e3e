//! `list -k`: the sidecars of a cluster, native ones included.
//!
//! Facts: cli-and-clients 1.15, CL-87.

use std::cmp::Reverse;
use std::process::ExitCode;

use serde::Serialize;

use super::{Form, Session, one_namespace};
use crate::cluster::sidecars::{self, Sidecar};
use crate::cluster::{Cluster, control_plane};
use crate::output::{self, age};

/// One row; the order of the fields is the order of the keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    app_id: String,
    app_port: String,
    age: String,
    created: String,
}

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let form = Form::of(session)?;
    let cluster = Cluster::of(session).await?;
    let pods = cluster.pods(one_namespace(session), "").await?;
    let found = pods.iter().filter_map(Sidecar::of);
    let mut rows: Vec<Row> = found.map(|one| Row::of(&one, session)).collect();
    rows.sort_by(|a, b| {
        let key = |row: &Row| (Reverse(row.namespace.clone()), row.app_id.clone());
        key(a).cmp(&key(b))
    });
    if rows.is_empty() && form == Form::Table {
        output::line("No Dapr instances found.");
    } else {
        let headings = ["namespace", "app_id", "app_port", "age", "created"];
        form.print(&rows, &headings, Row::cells)?;
    }
    control_plane::warn_of_end(session, &cluster, form != Form::Table).await;
    Ok(ExitCode::SUCCESS)
}

// === impl Row ===

impl Row {
    fn of(sidecar: &Sidecar<'_>, session: &Session) -> Self {
        let pod = sidecar.pod;
        let now = session.clock.now();
        let created = sidecars::created(&pod.metadata);
        Self {
            namespace: sidecars::namespace(pod).to_owned(),
            app_id: sidecar.app_id().to_owned(),
            app_port: sidecar.flag("app-port").unwrap_or_default().to_owned(),
            age: age::age(sidecars::age(&pod.metadata, now)),
            created: created.map(age::created).unwrap_or_default(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let Self {
            namespace,
            app_id,
            app_port,
            age,
            created,
        } = self;
        [namespace, app_id, app_port, age, created]
            .map(Clone::clone)
            .to_vec()
    }
}
