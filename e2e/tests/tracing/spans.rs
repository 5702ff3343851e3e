//! A span as both wire formats say it, in one form, and what every trace must satisfy.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    trace::v1::{span::SpanKind, status::StatusCode},
};
use serde_json::Value;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) service: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) error: Option<String>,
    pub(crate) events: usize,
    pub(crate) remote: Option<String>,
}

impl Span {
    pub(crate) fn tag(&self, key: &str) -> &str {
        self.tags.get(key).map_or("", String::as_str)
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    let digits = text.bytes();
    text.len() == length
        && digits.clone().all(|b| b.is_ascii_hexdigit())
        && !text.chars().all(|c| c == '0')
}

/// Reads a body that was sent to Zipkin; every field is checked.
pub(crate) fn of_zipkin(body: &[u8]) -> Result<Vec<Span>> {
    let all: Vec<Value> = serde_json::from_slice(body).context("a list of spans")?;
    all.iter().map(zipkin_span).collect()
}

fn zipkin_span(json: &Value) -> Result<Span> {
    let text = |key: &str| {
        let value = json[key].as_str();
        value
            .map(str::to_owned)
            .with_context(|| format!("{key} of {json}"))
    };
    let mut tags: BTreeMap<String, String> = BTreeMap::new();
    for (key, value) in json["tags"].as_object().context("tags")? {
        let value = value.as_str().context("a tag is a text")?;
        ensure!(!value.is_empty(), "{key} is empty");
        tags.insert(key.clone(), value.to_owned());
    }
    for scope in ["otel.scope.name", "otel.library.name"] {
        let scope = tags.remove(scope);
        ensure!(
            scope.as_deref() == Some("dapr-diagnostics"),
            "scope of {json}"
        );
    }
    let failed = tags.remove("otel.status_code");
    let error = tags.remove("error");
    ensure!(failed.is_some() == error.is_some(), "status of {json}");
    ensure!(
        failed.is_none_or(|code| code == "ERROR"),
        "status of {json}"
    );
    let (start, took) = (json["timestamp"].as_u64(), json["duration"].as_u64());
    ensure!(
        start > Some(1_600_000_000_000_000) && took > Some(0),
        "times of {json}"
    );
    ensure!(json["shared"] == false, "shared of {json}");
    let span = Span {
        trace: text("traceId")?,
        id: text("id")?,
        parent: json["parentId"].as_str().map(str::to_owned),
        name: text("name")?,
        kind: text("kind")?,
        service: json["localEndpoint"]["serviceName"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        tags,
        error,
        events: json["annotations"].as_array().map_or(0, Vec::len),
        remote: json["remoteEndpoint"]["serviceName"]
            .as_str()
            .map(str::to_owned),
    };
    ensure!(
        is_hex(&span.trace, 32) && is_hex(&span.id, 16),
        "ids of {span:?}"
    );
    Ok(span)
}

/// Reads what was sent to an OTLP collector; the attributes of the resource are tags with `resource.` before them.
pub(crate) fn of_otlp(request: &ExportTraceServiceRequest) -> Result<Vec<Span>> {
    let mut all = Vec::new();
    for group in &request.resource_spans {
        let resource = group.resource.as_ref().context("a resource")?;
        let mut own = pairs(&resource.attributes)?;
        let service = own.remove("service.name").context("service.name")?;
        for scope in &group.scope_spans {
            let name = scope.scope.as_ref().map(|scope| scope.name.as_str());
            ensure!(name == Some("dapr-diagnostics"), "scope {name:?}");
            for span in &scope.spans {
                let mut tags = pairs(&span.attributes)?;
                tags.extend(
                    own.iter()
                        .map(|(k, v)| (format!("resource.{k}"), v.clone())),
                );
                let kind = match span.kind() {
                    SpanKind::Client => "CLIENT",
                    SpanKind::Server => "SERVER",
                    SpanKind::Unspecified
                    | SpanKind::Internal
                    | SpanKind::Producer
                    | SpanKind::Consumer => anyhow::bail!("kind {:?}", span.kind()),
                };
                let status = span.status.clone().unwrap_or_default();
                ensure!(span.flags & 1 == 1, "what is exported is sampled");
                ensure!(
                    span.end_time_unix_nano >= span.start_time_unix_nano,
                    "times"
                );
                let parent = hex(&span.parent_span_id);
                let span = Span {
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: (!parent.is_empty()).then_some(parent),
                    name: span.name.clone(),
                    kind: kind.to_owned(),
                    service: service.clone(),
                    tags,
                    error: (status.code() == StatusCode::Error).then_some(status.message),
                    events: span.events.len(),
                    remote: None,
                };
                ensure!(
                    is_hex(&span.trace, 32) && is_hex(&span.id, 16),
                    "ids of {span:?}"
                );
                all.push(span);
            }
        }
    }
    Ok(all)
}

fn pairs(attributes: &[KeyValue]) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    for KeyValue { key, value, .. } in attributes {
        let Some(AnyValue {
            value: Some(Any::StringValue(text)),
        }) = value
        else {
            anyhow::bail!("{key} is no text: {value:?}");
        };
        ensure!(!text.is_empty(), "{key} is empty");
        let before = pairs.insert(key.clone(), text.clone());
        ensure!(before.is_none(), "{key} is there twice");
    }
    Ok(pairs)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The caller's and the callee's span of the one call of a trace: names, sides, services and links are checked.
pub(crate) fn call<'a>(
    spans: &'a [Span],
    trace: &str,
    names: &str,
    parent: Option<&str>,
) -> Result<(&'a Span, &'a Span)> {
    let of: Vec<&Span> = spans.iter().filter(|span| span.trace == trace).collect();
    let side = |kind: &str| {
        let found: Vec<_> = of
            .iter()
            .copied()
            .filter(|span| span.kind == kind)
            .collect();
        let [one] = *found else {
            anyhow::bail!("{kind} spans of {trace}: {of:#?}");
        };
        ensure!(
            one.name == names,
            "{kind} is called {:?}, not {names:?}",
            one.name
        );
        Ok(one)
    };
    let (client, server) = (side("CLIENT")?, side("SERVER")?);
    ensure!(client.parent.as_deref() == parent, "parent of {client:?}");
    ensure!(
        server.parent.as_deref() == Some(&*client.id),
        "parent of {server:?}"
    );
    ensure!(client.service == "a", "service of {client:?}");
    Ok((client, server))
}
