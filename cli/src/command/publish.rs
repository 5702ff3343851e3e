//! `publish`: asks a sidecar to publish, and relays its refusal.
//!
//! The building block is not offered, so the answer is the sidecar's typed error. Facts: cli-and-clients 1.2, 2.10.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use http::{HeaderMap, HeaderValue, Method, header};

use super::{Session, invoke};
use crate::api::{Api, Endpoint, status_line};
use crate::instances;

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let topic = session.values.text("topic").unwrap_or_default();
    match publish(session, topic).await {
        Ok(()) => {
            session.status.success("Event published successfully");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            session
                .status
                .failure(&format!("error publishing topic {topic}: {error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn publish(session: &Session, topic: &str) -> anyhow::Result<()> {
    let values = &session.values;
    let body = invoke::payload(values.text("data"), values.text("data-file"))?;
    let app_id = values.text("publish-app-id").unwrap_or_default();
    let component = values.text("pubsub").unwrap_or_default();
    let api = sidecar(session, app_id)?;
    let mut headers = HeaderMap::new();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    let target = format!("/v1.0/publish/{component}/{topic}");
    let answer = api.call(Method::POST, &target, headers, body, None).await?;
    if answer.status().is_success() {
        return Ok(());
    }
    bail!(
        "{}: {}",
        status_line(answer.status()),
        String::from_utf8_lossy(answer.body())
    );
}

fn sidecar(session: &Session, app_id: &str) -> anyhow::Result<Api> {
    if let Some(folder) = session
        .values
        .text("unix-domain-socket")
        .filter(|folder| !folder.is_empty())
    {
        return Ok(Api {
            endpoint: Endpoint::socket(Path::new(folder), app_id, "http"),
            token: session.token().map(str::to_owned),
        });
    }
    let found = instances::found()
        .into_iter()
        .find(|one| one.vector.app_id == app_id);
    match found {
        Some(instance) => Ok(instance.api(session.token())),
        None => bail!("app ID {app_id} not found"),
    }
}
