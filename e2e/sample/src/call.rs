//! One outgoing call: what a test wants to be called, and what came of it.
//!
//! HTTP/1.1, HTTP/2 without TLS, or gRPC as one stream of messages, each sent when the one before came back. A call
//! has a deadline and an outcome; nothing is tried again here.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{Method, Request, Response, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    answer::{Body, full},
    args::Once,
    clock::{Stopwatch, millis},
    grpc,
};

/// Answers longer than this are cut in reports.
const SHOWN: usize = 64 * 1024;

/// Pause between attempts of `sample once`.
const PAUSE: Duration = Duration::from_millis(200);

/// How a call is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speech {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 from the first byte.
    Http2,
    /// gRPC.
    Grpc,
}

/// A call that is wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// `http://host:port/path`; of gRPC the path is `/package.Service/Method`.
    url: String,
    #[serde(default)]
    protocol: Speech,
    /// The verb; of gRPC it is always POST.
    #[serde(default = "get")]
    method: String,
    /// Headers or metadata.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body, or each message of gRPC.
    #[serde(default)]
    body: String,
    /// How many messages of gRPC.
    #[serde(default = "one")]
    messages: u32,
    /// Pause between messages.
    #[serde(default)]
    message_pause_ms: u64,
    /// The deadline of the call.
    #[serde(default = "ten_seconds")]
    timeout_ms: u64,
}

fn get() -> String {
    "GET".to_owned()
}

fn one() -> u32 {
    1
}

fn ten_seconds() -> u64 {
    10_000
}

/// What came of a call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Outcome {
    /// Status of HTTP; 0 if there was no answer.
    pub(crate) status: u16,
    /// Status of gRPC, where the answer had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grpc_status: Option<i32>,
    /// Message of the status of gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_message: Option<String>,
    /// Headers of the answer.
    headers: BTreeMap<String, Vec<String>>,
    /// The body, or the messages of gRPC one after the other.
    body: String,
    /// How long it took.
    ms: u64,
    /// Why there was no whole answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Outcome {
    /// In one word: `200`, `grpc 7`, or the error.
    pub(crate) fn verdict(&self) -> String {
        match (&self.error, self.grpc_status) {
            (Some(error), _) => error.clone(),
            (None, Some(status)) => format!("grpc {status}"),
            (None, None) => self.status.to_string(),
        }
    }

    /// How long it took, in milliseconds.
    pub(crate) fn ms(&self) -> u64 {
        self.ms
    }

    /// Whether the callee answered, and with success.
    pub(crate) fn is_good(&self) -> bool {
        self.error.is_none()
            && (200..300).contains(&self.status)
            && self.grpc_status.unwrap_or(0) == 0
    }
}

/// Makes calls; connections are kept.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    http1: Client<HttpConnector, Body>,
    http2: Client<HttpConnector, Body>,
}

impl Caller {
    /// A caller without connections yet.
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            http1: Client::builder(TokioExecutor::new()).build(connector.clone()),
            http2: Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build(connector),
        }
    }

    /// Makes one call; what goes wrong is part of the outcome.
    pub(crate) async fn make(&self, call: &Call) -> Outcome {
        let watch = Stopwatch::start();
        let limit = Duration::from_millis(call.timeout_ms);
        let attempt = async {
            match call.protocol {
                Speech::Http1 => self.http(&self.http1, call).await,
                Speech::Http2 => self.http(&self.http2, call).await,
                Speech::Grpc => self.grpc(call).await,
            }
        };
        let made = match tokio::time::timeout(limit, attempt).await {
            Ok(made) => made,
            Err(_late) => Err(anyhow::anyhow!("no answer within {limit:?}")),
        };
        let mut outcome = made.unwrap_or_else(|error| Outcome {
            status: 0,
            grpc_status: None,
            grpc_message: None,
            headers: BTreeMap::new(),
            body: String::new(),
            ms: 0,
            error: Some(format!("{error:#}")),
        });
        outcome.ms = millis(watch.elapsed());
        outcome
    }

    async fn http(&self, client: &Client<HttpConnector, Body>, call: &Call) -> Result<Outcome> {
        let request = head(call, call.method.parse().context("verb")?)?
            .body(full(Bytes::from(call.body.clone())))
            .context("request")?;
        let response = client.request(request).await.context("request")?;
        let (outcome, body) = begun(response);
        let body = body
            .collect()
            .await
            .context("body of the answer")?
            .to_bytes();
        Ok(Outcome {
            body: shown(&body),
            ..outcome
        })
    }

    /// A stream: each message is sent when the one before came back.
    async fn grpc(&self, call: &Call) -> Result<Outcome> {
        let (messages, waiting) = mpsc::channel::<Bytes>(1);
        let stream = stream::unfold(waiting, |mut waiting| async {
            let message = waiting.recv().await?;
            Some((Ok::<_, anyhow::Error>(Frame::data(message)), waiting))
        });
        let request = head(call, Method::POST)?
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(stream).boxed_unsync())
            .context("request")?;
        let message = grpc::framed(call.body.as_bytes());
        let mut left = call.messages;
        if left > 0 {
            left = left.saturating_sub(1);
            messages
                .send(message.clone())
                .await
                .context("the first message")?;
        }
        let mut messages = (left > 0).then_some(messages);
        let response = self.http2.request(request).await.context("request")?;
        let (mut outcome, mut body) = begun(response);
        outcome.take_status(&outcome.headers.clone());
        let mut rest = BytesMut::new();
        let mut came = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame.context("answer")?.into_data() {
                Ok(data) => {
                    rest.extend_from_slice(&data);
                    let mut whole = rest.split().freeze();
                    while let Some(message_back) = grpc::next(&mut whole)? {
                        came.extend_from_slice(&message_back);
                        match &messages {
                            Some(sender) if left > 0 => {
                                left = left.saturating_sub(1);
                                tokio::time::sleep(Duration::from_millis(call.message_pause_ms))
                                    .await;
                                sender.send(message.clone()).await.context("a message")?;
                            }
                            Some(_) | None => messages = None,
                        }
                    }
                    rest.extend_from_slice(&whole);
                    continue;
                }
                Err(frame) => frame,
            };
            if let Ok(trailers) = frame.into_trailers() {
                let named = crate::answer::named(&trailers)
                    .into_iter()
                    .map(|(name, values)| (name.to_owned(), values))
                    .collect();
                outcome.take_status(&named);
            }
        }
        if outcome.grpc_status.is_none() {
            bail!("the stream ended without a status");
        }
        Ok(Outcome {
            body: shown(&came),
            ..outcome
        })
    }
}

impl Outcome {
    fn take_status(&mut self, fields: &BTreeMap<String, Vec<String>>) {
        let first = |name: &str| fields.get(name).and_then(|values| values.first());
        if let Some(status) = first("grpc-status") {
            self.grpc_status = Some(status.parse().unwrap_or(2));
            self.grpc_message = first("grpc-message").cloned();
        }
    }
}

fn head(call: &Call, method: Method) -> Result<http::request::Builder> {
    let uri: Uri = call.url.parse().context("url")?;
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    Ok(request)
}

/// The head of an answer as an outcome without a body yet.
fn begun(response: Response<Incoming>) -> (Outcome, Incoming) {
    let (head, body) = response.into_parts();
    let headers = crate::answer::named(&head.headers)
        .into_iter()
        .map(|(name, values)| (name.to_owned(), values))
        .collect();
    let outcome = Outcome {
        status: head.status.as_u16(),
        grpc_status: None,
        grpc_message: None,
        headers,
        body: String::new(),
        ms: 0,
        error: None,
    };
    (outcome, body)
}

fn shown(body: &[u8]) -> String {
    let part = body.get(..SHOWN).unwrap_or(body);
    String::from_utf8_lossy(part).into_owned()
}

/// `sample once`: calls until the wanted status comes or patience ends.
///
/// # Errors
/// If the last outcome is not the wanted one.
pub(crate) async fn once(options: Once) -> Result<()> {
    let call: Call = serde_json::from_str(&options.call).context("the call")?;
    let caller = Caller::new();
    let watch = Stopwatch::start();
    loop {
        let outcome = caller.make(&call).await;
        // The log of a Job or an init container is where a test reads it.
        eprintln!("{}", serde_json::to_string(&outcome).context("report")?);
        let good = outcome.error.is_none()
            && outcome.status == options.want
            && outcome.grpc_status.unwrap_or(0) == 0;
        if good {
            return Ok(());
        }
        if watch.elapsed() >= options.patience {
            bail!("wanted {}, got {}", options.want, outcome.verdict());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
