//! The sidecars that run on this machine.
//!
//! Found as the reference finds them: processes named `daprd`, whose command line and metadata say the rest, so that
//! sidecars started by hand or by another command line are seen too. Facts: cli-and-clients 1.12, CH12, CH13.

pub(crate) mod proc;
pub(crate) mod vector;

use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

use crate::api::{Api, Endpoint};
use proc::{Pid, Process};
use vector::Vector;

/// How long one sidecar may take to answer (CH12).
const ANSWER: Duration = Duration::from_secs(1);

/// A running sidecar.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    /// Its process.
    pub process: Process,
    /// What its command line says.
    pub vector: Vector,
    /// What its metadata says; empty when it did not answer in time.
    pub extended: Extended,
}

/// The members of a sidecar's metadata that the command line puts there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Extended {
    /// The words of the app's command.
    pub app_command: String,
    /// The app's process id.
    #[serde(rename = "appPID")]
    pub app_pid: String,
    /// The process id of the command line that runs it.
    #[serde(rename = "cliPID")]
    pub cli_pid: String,
    /// The template it came from.
    pub run_template_path: String,
    /// That template's name.
    pub run_template_name: String,
    /// The app's log file.
    pub app_log_path: String,
    /// The sidecar's log file.
    pub daprd_log_path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    extended: Extended,
}

/// The sidecars of this machine by their command lines alone, without asking them anything.
pub(crate) fn found() -> Vec<Instance> {
    proc::named("daprd")
        .into_iter()
        .filter_map(|process| {
            let vector = Vector::read(&process.command_line);
            (!vector.app_id.is_empty()).then(|| Instance {
                process,
                vector,
                extended: Extended::default(),
            })
        })
        .collect()
}

/// The sidecars of this machine, with what each says about itself.
pub(crate) async fn list(token: Option<&str>) -> Vec<Instance> {
    let asked = found().into_iter().map(|mut instance| async move {
        instance.extended = instance.ask(token).await.unwrap_or_default();
        instance
    });
    join_all(asked).await
}

// === impl Instance ===

impl Instance {
    /// Its HTTP API.
    pub(crate) fn api(&self, token: Option<&str>) -> Api {
        let Vector {
            app_id,
            unix_domain_socket,
            http_port,
            listen_addresses,
            ..
        } = &self.vector;
        let endpoint = if unix_domain_socket.is_empty() {
            Endpoint::tcp(*http_port, listen_addresses)
        } else {
            Endpoint::socket(&PathBuf::from(unix_domain_socket), app_id, "http")
        };
        Api {
            endpoint,
            token: token.map(str::to_owned),
        }
    }

    /// The process id of the command line that runs it, if that is really its parent.
    ///
    /// Anything that may call the sidecar's API can write this number; a signal goes only to a process that started the
    /// sidecar.
    pub(crate) fn command_line_pid(&self) -> Option<Pid> {
        let said: Pid = self.extended.cli_pid.parse().ok()?;
        proc::ancestors(self.process.pid)
            .any(|pid| pid == said)
            .then_some(said)
    }

    async fn ask(&self, token: Option<&str>) -> Option<Extended> {
        let api = self.api(token);
        let answer = api.call(
            Method::GET,
            "/v1.0/metadata",
            HeaderMap::new(),
            Default::default(),
            Some(ANSWER),
        );
        let answer = answer
            .await
            .ok()
            .filter(|answer| answer.status() == StatusCode::OK)?;
        let metadata: Metadata = serde_json::from_slice(answer.body()).ok()?;
        Some(metadata.extended)
    }
}
