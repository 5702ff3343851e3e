//! Spans as Zipkin's JSON, version 2.
//!
//! Owns which field holds what, as the reference's library writes it: all attributes are tags, the resource and
//! the scope too, and a caller's span names the callee as its remote endpoint. Source: resiliency-observability
//! 2.6.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::span::{Attribute, Kind, Resource, SCOPE, Span, Status, keys};

/// Content type of what is sent.
pub const CONTENT_TYPE: &str = "application/json";
/// What may name the other end of a caller's span, the best first.
const REMOTE: [&str; 3] = ["peer.service", keys::SERVER_ADDRESS, keys::PEER_NAME];

/// Writes spans as a JSON array.
#[must_use]
pub fn encode(spans: &[Span], resource: &Resource) -> Vec<u8> {
    let spans: Value = spans.iter().map(|span| object(span, resource)).collect();
    spans.to_string().into_bytes()
}

fn object(span: &Span, resource: &Resource) -> Value {
    let mut out = json!({
        "traceId": span.context.trace_id.to_string(),
        "id": span.context.span_id.to_string(),
        "name": span.name,
        "kind": match span.kind {
            Kind::Client => "CLIENT",
            Kind::Server => "SERVER",
        },
        "timestamp": micros(span.start),
        // Zipkin takes no duration of zero.
        "duration": micros(span.end).saturating_sub(micros(span.start)).max(1),
        "localEndpoint": { "serviceName": resource.service },
        "tags": tags(span, resource),
        "shared": false,
    });
    let Some(fields) = out.as_object_mut() else {
        return out;
    };
    if let Some(parent) = span.parent {
        fields.insert("parentId".to_owned(), parent.to_string().into());
    }
    let remote = REMOTE.iter().find_map(|key| span.get(key));
    if let Some(remote) = remote.filter(|_| span.kind == Kind::Client) {
        fields.insert(
            "remoteEndpoint".to_owned(),
            json!({ "serviceName": remote }),
        );
    }
    if !span.events.is_empty() {
        let events = span.events.iter().map(|event| {
            let mut value = event.name.to_owned();
            if !event.attributes.is_empty() {
                let attributes: Map<String, Value> = pairs(&event.attributes).collect();
                value = format!("{value}: {}", Value::Object(attributes));
            }
            json!({ "timestamp": micros(event.at), "value": value })
        });
        fields.insert("annotations".to_owned(), events.collect());
    }
    out
}

fn tags(span: &Span, resource: &Resource) -> Map<String, Value> {
    let resource = resource
        .attributes
        .iter()
        .map(|(key, value)| (key.to_string(), Value::from(&**value)));
    let mut tags: Map<String, Value> = resource.chain(pairs(&span.attributes)).collect();
    tags.insert("otel.scope.name".to_owned(), SCOPE.into());
    tags.insert("otel.library.name".to_owned(), SCOPE.into());
    if let Status::Error(why) = &span.status {
        tags.insert("otel.status_code".to_owned(), "ERROR".into());
        tags.insert("error".to_owned(), Value::from(&**why));
    }
    tags
}

fn pairs(attributes: &[Attribute]) -> impl Iterator<Item = (String, Value)> {
    attributes
        .iter()
        .map(|(key, value)| (key.to_string(), Value::from(&**value)))
}

/// Microseconds since 1970; a clock before that is at its start.
fn micros(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::span::tests::span;

    fn resource() -> Resource {
        Resource {
            service: "a".into(),
            attributes: vec![("team".into(), "x".into())],
        }
    }

    fn decoded(span: Span) -> Value {
        let bytes = encode(&[span], &resource());
        let all: Value = serde_json::from_slice(&bytes).unwrap();
        all[0].clone()
    }

    /// Fact: resiliency-observability 2.6, the fields of a span.
    #[test]
    fn a_span_has_the_fields_of_version_2() {
        let mut span = span();
        span.set(keys::PEER_NAME, "b");
        span.set("k", "quote \" and \n line");
        let found = decoded(span);
        let want = json!({
            "traceId": "abababababababababababababababab",
            "id": "0101010101010101",
            "parentId": "0202020202020202",
            "name": "CallLocal/b/m",
            "kind": "CLIENT",
            "timestamp": 1_700_000_000_000_123_u64,
            "duration": 42,
            "localEndpoint": { "serviceName": "a" },
            "remoteEndpoint": { "serviceName": "b" },
            "tags": {
                "team": "x",
                "net.peer.name": "b",
                "k": "quote \" and \n line",
                "otel.scope.name": "dapr-diagnostics",
                "otel.library.name": "dapr-diagnostics",
            },
            "shared": false,
        });
        assert_eq!(found, want);
    }

    /// Fact: resiliency-observability 2.6, failures.
    #[test]
    fn a_failure_is_two_tags() {
        let mut span = span();
        span.status = Status::Error("Code(404): Not Found".into());
        let found = decoded(span);
        assert_eq!(found["tags"]["otel.status_code"], "ERROR");
        assert_eq!(found["tags"]["error"], "Code(404): Not Found");
    }

    #[test]
    fn a_root_of_a_callee_names_nobody_else() {
        let mut span = span();
        (span.parent, span.kind, span.end) = (None, Kind::Server, span.start);
        span.set(keys::SERVER_ADDRESS, "b");
        let found = decoded(span);
        assert_eq!(found["kind"], "SERVER");
        assert_eq!(found["duration"], 1);
        assert!(found.get("parentId").is_none());
        assert!(found.get("remoteEndpoint").is_none());
    }

    #[test]
    fn events_are_annotations() {
        let mut span = span();
        span.event("retry", span.start, &[("cause", "x")]);
        span.event("bare", span.start, &[]);
        let found = decoded(span);
        assert_eq!(found["annotations"][0]["value"], "retry: {\"cause\":\"x\"}");
        assert_eq!(found["annotations"][1]["value"], "bare");
    }

    #[test]
    fn no_spans_are_an_empty_list() {
        assert_eq!(encode(&[], &resource()), b"[]");
    }
}
