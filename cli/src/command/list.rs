//! `list`: the running sidecars, as a table, JSON or YAML.
//!
//! Facts: cli-and-clients 1.12.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use serde::Serialize;

use super::Session;
use crate::instances::{self, Instance, proc};
use crate::output::{self, age, table};

/// A command longer than this is cut in the table.
const COMMAND_WIDTH: usize = 20;
/// How much of a cut command stays.
const COMMAND_KEPT: usize = 17;

/// One row; the order of the fields is the order of the keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    app_id: String,
    http_port: u16,
    grpc_port: u16,
    app_port: u16,
    metrics_enabled: bool,
    command: String,
    age: String,
    created: String,
    daprd_pid: i32,
    cli_pid: i32,
    app_pid: i32,
    max_request_body_size: i64,
    http_read_buffer_size: i64,
    run_template_path: String,
    app_log_path: String,
    daprd_log_path: String,
    run_template_name: String,
}

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    if session.values.switch("kubernetes") {
        return super::cluster::list::run(session).await;
    }
    let form = session.values.text("output").unwrap_or("table");
    if !matches!(form, "table" | "json" | "yaml") {
        session
            .status
            .failure("An invalid output format was specified.");
        return Ok(ExitCode::FAILURE);
    }
    let instances = instances::list(session.token()).await;
    let boot = proc::boot().unwrap_or(SystemTime::UNIX_EPOCH);
    let rows: Vec<Row> = instances
        .iter()
        .map(|one| Row::new(one, boot, session.clock.now()))
        .collect();
    match form {
        // Neither form has a final newline in the reference; YAML's own is part of it.
        "json" => output::out(
            serde_json::to_string_pretty(&rows)
                .context("writing JSON")?
                .as_bytes(),
        ),
        "yaml" => output::out(
            serde_yaml::to_string(&rows)
                .context("writing YAML")?
                .as_bytes(),
        ),
        _ if rows.is_empty() => output::line("No Dapr instances found."),
        _ => output::out(as_table(&rows).as_bytes()),
    }
    Ok(ExitCode::SUCCESS)
}

fn as_table(rows: &[Row]) -> String {
    let headings = [
        "app_id",
        "http_port",
        "grpc_port",
        "app_port",
        "command",
        "age",
        "created",
        "daprd_pid",
        "cli_pid",
        "app_pid",
        "run_template_path",
        "app_log_path",
        "daprd_log_path",
        "runtemplatename",
    ];
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    table::plain(&headings, &cells)
}

fn shortened(command: &str) -> String {
    if command.chars().count() <= COMMAND_WIDTH {
        return command.to_owned();
    }
    let kept: String = command.chars().take(COMMAND_KEPT).collect();
    format!("{kept}...")
}

// === impl Row ===

impl Row {
    fn new(instance: &Instance, boot: SystemTime, now: SystemTime) -> Self {
        let Instance {
            process,
            vector,
            extended,
        } = instance;
        let started = boot + proc::since_boot(process.ticks);
        Self {
            app_id: vector.app_id.clone(),
            http_port: vector.http_port,
            grpc_port: vector.grpc_port,
            app_port: vector.app_port,
            metrics_enabled: vector.metrics_enabled,
            command: extended.app_command.clone(),
            age: age::age(now.duration_since(started).unwrap_or_default()),
            created: age::created(started),
            daprd_pid: process.pid,
            cli_pid: extended.cli_pid.parse().unwrap_or(0),
            app_pid: extended.app_pid.parse().unwrap_or(0),
            max_request_body_size: vector.max_body,
            http_read_buffer_size: vector.read_buffer,
            run_template_path: extended.run_template_path.clone(),
            app_log_path: extended.app_log_path.clone(),
            daprd_log_path: extended.daprd_log_path.clone(),
            run_template_name: extended.run_template_name.clone(),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.app_id.clone(),
            self.http_port.to_string(),
            self.grpc_port.to_string(),
            self.app_port.to_string(),
            shortened(&self.command),
            self.age.clone(),
            self.created.clone(),
            self.daprd_pid.to_string(),
            self.cli_pid.to_string(),
            self.app_pid.to_string(),
            self.run_template_path.clone(),
            self.app_log_path.clone(),
            self.daprd_log_path.clone(),
            self.run_template_name.clone(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            app_id: "nodeapp".to_owned(),
            http_port: 3500,
            grpc_port: 20_001,
            app_port: 3000,
            metrics_enabled: true,
            command: "node app.js --with-words".to_owned(),
            age: "5s".to_owned(),
            created: "2026-08-01 12:00.07".to_owned(),
            daprd_pid: 10,
            cli_pid: 0,
            app_pid: 0,
            max_request_body_size: 4 << 20,
            http_read_buffer_size: 4 << 10,
            run_template_path: String::new(),
            app_log_path: String::new(),
            daprd_log_path: String::new(),
            run_template_name: String::new(),
        }
    }

    /// Fact: CL-41.
    #[test]
    fn the_table_leaves_blank_columns_out() {
        let text = as_table(&[row()]);
        let mut lines = text.lines();
        let header: Vec<&str> = lines
            .next()
            .unwrap()
            .split("  ")
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .collect();
        assert_eq!(
            header,
            [
                "APP ID",
                "HTTP PORT",
                "GRPC PORT",
                "APP PORT",
                "COMMAND",
                "AGE",
                "CREATED",
                "DAPRD PID",
                "CLI PID",
                "APP PID"
            ]
        );
        assert!(lines.next().unwrap().contains("node app.js --wit...  "));
    }

    /// Fact: CL-41.
    #[test]
    fn the_keys_are_in_the_references_order() {
        let text = serde_json::to_string(&row()).unwrap();
        let keys = [
            "appId",
            "httpPort",
            "grpcPort",
            "appPort",
            "metricsEnabled",
            "command",
            "age",
            "created",
            "daprdPid",
            "cliPid",
            "appPid",
            "maxRequestBodySize",
            "httpReadBufferSize",
            "runTemplatePath",
            "appLogPath",
            "daprdLogPath",
            "runTemplateName",
        ];
        let places: Vec<usize> = keys
            .iter()
            .map(|key| text.find(&format!("\"{key}\":")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{text}");
    }
}
