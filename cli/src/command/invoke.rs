//! `invoke`: calls a method of an app through a sidecar of this machine, or with `-k` of a cluster.
//!
//! Without `--from` this is a call of the target's own sidecar to itself, as in the reference: no discovery, no mutual
//! TLS, no policy. With `--from` another app's sidecar makes the call, and all of them apply. A sidecar in a pod
//! listens on the pod's loopback alone and is reached by a port-forward. Facts: cli-and-clients 1.13, CL-47 to CL-50.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use ironside_chassis::args::GoDuration;

use super::Session;
use crate::api::{Api, CallError, Endpoint, Pod, status_line};
use crate::cluster::Cluster;
use crate::cluster::sidecars::{self, Sidecar};
use crate::instances;
use crate::output;

/// How many redirects are followed, as the reference's HTTP client does.
const REDIRECTS: usize = 10;
/// Where a sidecar's HTTP API listens unless it is told otherwise.
const HTTP_PORT: u16 = 3500;

/// Runs the command.
pub(crate) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let values = &session.values;
    let app_id = values.text("app-id").unwrap_or_default();
    let body = match payload(values.text("data"), values.text("data-file")) {
        Ok(body) => body,
        Err(error) => {
            session.status.failure(&format!("{error:#}"));
            return Ok(ExitCode::FAILURE);
        }
    };
    match call(session, app_id, body).await {
        Ok(answer) => Ok(report(session, app_id, &answer)),
        Err(error) => {
            session
                .status
                .failure(&format!("error invoking app {app_id}: {error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The body that the two flags ask for.
pub(crate) fn payload(data: Option<&str>, file: Option<&str>) -> anyhow::Result<Bytes> {
    let data = data.filter(|data| !data.is_empty());
    let file = file.filter(|file| !file.is_empty());
    match (data, file) {
        (Some(_), Some(_)) => {
            bail!("Only one of --data and --data-file allowed in the same invoke command")
        }
        (Some(data), None) => Ok(Bytes::from(data.to_owned())),
        (None, Some(file)) => match fs::read(file) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(error) => bail!("Error reading payload from '{file}'. Error: {error}"),
        },
        (None, None) => Ok(Bytes::new()),
    }
}

async fn call(session: &Session, app_id: &str, body: Bytes) -> anyhow::Result<Response<Bytes>> {
    let values = &session.values;
    let limit = values
        .text("timeout")
        .filter(|text| !text.is_empty())
        .map(limit)
        .transpose()?;
    let mut headers = extra_headers(&values.texts("header"))?;
    headers
        .entry(header::CONTENT_TYPE)
        .or_insert(HeaderValue::from_static("application/json"));
    let verb = values.text("verb").unwrap_or("POST").to_owned();
    let verb =
        Method::from_bytes(verb.as_bytes()).with_context(|| format!("invalid verb {verb:?}"))?;
    let api = sidecar(session, app_id).await?;
    let method = values.text("method").unwrap_or_default();
    // Pasted as it is, so that a query may follow the method.
    let target = format!("/v1.0/invoke/{app_id}/method/{method}");
    let call = follow(&api, verb, target, headers, body);
    let answer = match limit {
        None => call.await,
        Some(limit) => match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(CallError::Slow(limit)),
        },
    };
    Ok(answer?)
}

fn limit(text: &str) -> anyhow::Result<Duration> {
    let limit: GoDuration = text.parse().context("invalid timeout")?;
    limit.to_std().context("invalid timeout: it is negative")
}

fn extra_headers(given: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for text in given {
        let Some((name, value)) = text.split_once('=').or_else(|| text.split_once(':')) else {
            bail!("invalid header {text:?}: it should be Name=value");
        };
        let name: HeaderName = name
            .trim()
            .parse()
            .with_context(|| format!("invalid header name {name:?}"))?;
        let value = HeaderValue::from_str(value.trim())
            .with_context(|| format!("invalid value of header {name}"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The sidecar that makes the call.
async fn sidecar(session: &Session, app_id: &str) -> anyhow::Result<Api> {
    let from = session.values.text("from").filter(|from| !from.is_empty());
    let socket = session
        .values
        .text("unix-domain-socket")
        .filter(|folder| !folder.is_empty());
    let caller = from.unwrap_or(app_id);
    if session.values.switch("kubernetes") {
        ensure!(socket.is_none(), "--unix-domain-socket does not go with -k");
        return in_cluster(session, caller).await;
    }
    if let Some(folder) = socket {
        return Ok(Api {
            endpoint: Endpoint::socket(Path::new(folder), caller, "http"),
            token: session.token().map(str::to_owned),
        });
    }
    let found = instances::found()
        .into_iter()
        .find(|one| one.vector.app_id == caller);
    let Some(instance) = found else {
        bail!("app ID {caller} not found");
    };
    Ok(instance.api(session.token()))
}

/// The first running sidecar with this app ID in the namespace.
async fn in_cluster(session: &Session, app_id: &str) -> anyhow::Result<Api> {
    let namespace = session.values.text("namespace").unwrap_or("default");
    let cluster = Cluster::of(session).await?;
    let pods = cluster.pods(Some(namespace), "").await?;
    let mut sidecars = pods.iter().filter_map(Sidecar::of);
    let found = sidecars.find(|one| one.app_id() == app_id && one.runs());
    let Some(sidecar) = found else {
        bail!("app ID {app_id} not found in namespace {namespace}");
    };
    forwarded(session, &cluster, &sidecar)
}

/// The API of a sidecar in a pod.
pub(crate) fn forwarded(
    session: &Session,
    cluster: &Cluster,
    sidecar: &Sidecar<'_>,
) -> anyhow::Result<Api> {
    let port = sidecar.flag("dapr-http-port").map(str::parse).transpose();
    let port = port.context("the sidecar's --dapr-http-port")?;
    let namespace = sidecars::namespace(sidecar.pod);
    Ok(Api {
        endpoint: Endpoint::Pod(Box::new(Pod {
            pods: kube::Api::namespaced(cluster.client(), namespace),
            name: sidecars::name(sidecar.pod).to_owned(),
            port: port.unwrap_or(HTTP_PORT),
        })),
        token: session.token().map(str::to_owned),
    })
}

/// Sends the call and follows redirects on the same sidecar.
async fn follow(
    api: &Api,
    mut verb: Method,
    mut target: String,
    headers: HeaderMap,
    mut body: Bytes,
) -> Result<Response<Bytes>, CallError> {
    for _ in 0..REDIRECTS {
        let answer = api
            .call(verb.clone(), &target, headers.clone(), body.clone(), None)
            .await?;
        let Some(next) = redirect(&answer) else {
            return Ok(answer);
        };
        let keeps_verb = matches!(
            answer.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        if !keeps_verb && verb != Method::HEAD {
            verb = Method::GET;
            body = Bytes::new();
        }
        target = next;
    }
    api.call(verb, &target, headers, body, None).await
}

/// Where an answer sends us, if that is a path on the same sidecar.
fn redirect(answer: &Response<Bytes>) -> Option<String> {
    let moved = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers().get(header::LOCATION).filter(|_| moved)?;
    let location: http::Uri = location.to_str().ok()?.parse().ok()?;
    let path = location.path_and_query()?.as_str();
    (location.authority().is_none() && path.starts_with('/')).then(|| path.to_owned())
}

fn report(session: &Session, app_id: &str, answer: &Response<Bytes>) -> ExitCode {
    let status = answer.status();
    if !(200..400).contains(&status.as_u16()) {
        let line = status_line(status);
        session
            .status
            .failure(&format!("error invoking app {app_id}: {line}"));
        if !answer.body().is_empty() {
            output::err(answer.body());
            output::err(b"\n");
        }
        return ExitCode::FAILURE;
    }
    if !answer.body().is_empty() {
        output::out(answer.body());
        output::out(b"\n");
    }
    session.status.success("App invoked successfully");
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fact: CL-47.
    #[test]
    fn data_comes_from_one_place() {
        assert_eq!(payload(Some("{}"), None).unwrap(), "{}");
        assert_eq!(payload(None, None).unwrap(), "");
        assert_eq!(
            payload(Some("a"), Some("b")).unwrap_err().to_string(),
            "Only one of --data and --data-file allowed in the same invoke command"
        );
        let missing = payload(None, Some("/nowhere/at/all"))
            .unwrap_err()
            .to_string();
        assert!(
            missing.starts_with("Error reading payload from '/nowhere/at/all'. Error: "),
            "{missing}"
        );
    }

    #[test]
    fn headers_are_name_and_value() {
        let headers = extra_headers(&["X-A=b=c".to_owned(), "x-a=d".to_owned()]).unwrap();
        let values: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["b=c", "d"]);
        assert!(extra_headers(&["nothing".to_owned()]).is_err());
        assert!(extra_headers(&["bad name=x".to_owned()]).is_err());
    }

    #[test]
    fn only_redirects_to_the_same_sidecar_are_followed() {
        let answer = |status: u16, location: &str| {
            let answer = Response::builder()
                .status(status)
                .header(header::LOCATION, location);
            redirect(&answer.body(Bytes::new()).unwrap())
        };
        assert_eq!(answer(302, "/v1.0/x?a=1").as_deref(), Some("/v1.0/x?a=1"));
        assert_eq!(answer(302, "http://elsewhere/x"), None);
        assert_eq!(answer(200, "/v1.0/x"), None);
    }
}
