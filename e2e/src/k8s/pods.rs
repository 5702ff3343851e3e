//! Into pods, through the API server: requests to any port, commands, logs.
//!
//! Ports are reached as `kubectl port-forward` reaches them, so those that listen on a pod's loopback alone (a
//! sidecar's API) are reached as well.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, ListParams, LogParams};
use tokio::io::AsyncReadExt as _;

use super::{PATIENCE, Place};
use crate::wait;

/// The deadline of one request into a pod.
const REQUEST: Duration = Duration::from_secs(30);

/// An answer from a port of a pod.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none; with the body.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

/// A log that is listened to.
#[derive(Debug)]
pub struct Followed(Child);

impl Followed {
    /// All of it, when the container has ended.
    ///
    /// # Errors
    /// If the log could not be followed.
    pub async fn to_the_end(self) -> Result<String> {
        let read = tokio::task::spawn_blocking(move || self.0.wait_with_output());
        let read = wait::within("the end of a log", PATIENCE, read).await?;
        let output = read.context("reading a log")?.context("kubectl logs")?;
        if !output.status.success() {
            bail!("kubectl logs: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Place {
    /// Pods with these labels that are not on their way out, by name.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn pods(&self, labels: &str) -> Result<Vec<Pod>> {
        let list = ListParams::default().labels(labels);
        let mut pods = self.api::<Pod>().list(&list).await.context("pods")?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
        Ok(pods)
    }

    /// The name of the one pod with these labels.
    ///
    /// # Errors
    /// If there is another number of them.
    pub async fn pod(&self, labels: &str) -> Result<String> {
        let pods = self.pods(labels).await?;
        match pods.as_slice() {
            [pod] => pod.metadata.name.clone().context("a pod has a name"),
            _ => bail!("{} pods with {labels}, not one", pods.len()),
        }
    }

    /// Sends a request to a port of a pod. The URI is a path; the host is the pod.
    ///
    /// # Errors
    /// If the port does not answer in time.
    pub async fn request(&self, pod: &str, port: u16, request: Request<Bytes>) -> Result<Answer> {
        let what = format!("{} of port {port} of pod {pod}", request.uri());
        let attempt = Box::pin(self.attempt(pod, port, request));
        wait::within(&what, REQUEST, attempt).await?.context(what)
    }

    async fn attempt(&self, pod: &str, port: u16, request: Request<Bytes>) -> Result<Answer> {
        let mut forward = self.api::<Pod>().portforward(pod, &[port]).await?;
        let stream = forward.take_stream(port).context("the forwarded port")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let (mut head, body) = request.into_parts();
        head.headers
            .entry(HOST)
            .or_insert(http::HeaderValue::from_static("localhost"));
        let exchange = async {
            let sent = Request::from_parts(head, Full::new(body));
            let response = sender.send_request(sent).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        let mut exchange = std::pin::pin!(exchange);
        let answer = tokio::select! {
            answer = &mut exchange => answer,
            ended = connection => match ended {
                // It may have ended after the answer.
                Ok(()) => exchange.await,
                Err(error) => Err(error.into()),
            },
        };
        forward.abort();
        answer
    }

    /// A GET of `path`.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub async fn get(&self, pod: &str, port: u16, path: &str) -> Result<Answer> {
        let request = Request::get(path).body(Bytes::new())?;
        self.request(pod, port, request).await
    }

    /// What a container wrote.
    ///
    /// # Errors
    /// If it has not started.
    pub async fn logs(&self, pod: &str, container: &str) -> Result<String> {
        let of = LogParams {
            container: Some(container.to_owned()),
            ..LogParams::default()
        };
        self.api::<Pod>()
            .logs(pod, &of)
            .await
            .with_context(|| format!("log of {container} in {pod}"))
    }

    /// Listens to a container from its start to its end, which outlives the pod.
    ///
    /// # Errors
    /// If there is no `kubectl`.
    pub fn follow(&self, pod: &str, container: &str) -> Result<Followed> {
        let mut command = self.cluster().kubectl();
        command
            .args(["--namespace", self.namespace(), "logs", "--follow"])
            .args([pod, "--container", container])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(Followed(command.spawn().context("starting kubectl")?))
    }

    /// Runs a command in a container; returns what it wrote to stdout.
    ///
    /// # Errors
    /// If it ends without success, with what it wrote to stderr.
    pub async fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let how = AttachParams::default().container(container).stderr(true);
        let mut process = self
            .api::<Pod>()
            .exec(pod, command.iter().copied(), &how)
            .await?;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let (mut out, mut err) = (process.stdout(), process.stderr());
        let status = process.take_status().context("the status of a command")?;
        let read = async {
            if let Some(out) = out.as_mut() {
                out.read_to_string(&mut stdout).await?;
            }
            if let Some(err) = err.as_mut() {
                err.read_to_string(&mut stderr).await?;
            }
            anyhow::Ok(status.await)
        };
        let what = format!("{command:?} in {pod}");
        let status = wait::within(&what, REQUEST, read).await??;
        let succeeded = status.is_some_and(|status| status.status.as_deref() == Some("Success"));
        if !succeeded {
            bail!("{what}: {stderr}");
        }
        Ok(stdout)
    }
}
