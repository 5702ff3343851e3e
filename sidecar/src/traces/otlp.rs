//! Spans as OTLP messages: the last file that sees their generated types.

use std::time::{SystemTime, UNIX_EPOCH};

use ironside_telemetry::{
    Span,
    span::{Attribute, Event, Kind, Resource, SCOPE, Status},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1 as resource,
    trace::v1::{self as wire, span::SpanKind, status::StatusCode},
};

/// Bit of the flags: it is known whether the parent lies in another process.
const HAS_IS_REMOTE: u32 = 0x100;
/// Bit of the flags: it does.
const IS_REMOTE: u32 = 0x200;

/// The request of one batch.
pub(super) fn request(spans: &[Span], of: &Resource) -> ExportTraceServiceRequest {
    let own = std::iter::once(pair("service.name", &of.service));
    let more = of.attributes.iter().map(|(key, value)| pair(key, value));
    let spans = wire::ScopeSpans {
        scope: Some(InstrumentationScope {
            name: SCOPE.to_owned(),
            ..InstrumentationScope::default()
        }),
        spans: spans.iter().map(span).collect(),
        ..wire::ScopeSpans::default()
    };
    let resource = resource::Resource {
        attributes: own.chain(more).collect(),
        ..resource::Resource::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![wire::ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![spans],
            ..wire::ResourceSpans::default()
        }],
    }
}

fn span(of: &Span) -> wire::Span {
    let Span {
        context,
        parent,
        state,
        name,
        kind,
        start,
        end,
        attributes,
        events,
        status,
    } = of;
    let kind = match kind {
        Kind::Client => SpanKind::Client,
        Kind::Server => SpanKind::Server,
    };
    // A parent of ours always is another process: the app, or the caller's sidecar.
    let remote = parent.map_or(HAS_IS_REMOTE, |_| HAS_IS_REMOTE | IS_REMOTE);
    wire::Span {
        trace_id: context.trace_id.0.to_vec(),
        span_id: context.span_id.0.to_vec(),
        trace_state: state.as_deref().unwrap_or_default().to_owned(),
        parent_span_id: parent.map(|id| id.0.to_vec()).unwrap_or_default(),
        flags: u32::from(context.flags.0) | remote,
        name: name.to_string(),
        kind: kind as i32,
        start_time_unix_nano: nanos(*start),
        end_time_unix_nano: nanos(*end),
        attributes: pairs(attributes),
        events: events.iter().map(event).collect(),
        status: Some(match status {
            Status::Unset => wire::Status::default(),
            Status::Error(why) => wire::Status {
                message: why.to_string(),
                code: StatusCode::Error as i32,
            },
        }),
        ..wire::Span::default()
    }
}

fn event(of: &Event) -> wire::span::Event {
    wire::span::Event {
        time_unix_nano: nanos(of.at),
        name: of.name.to_owned(),
        attributes: pairs(&of.attributes),
        dropped_attributes_count: 0,
    }
}

fn pairs(attributes: &[Attribute]) -> Vec<KeyValue> {
    let all = attributes.iter();
    all.map(|(key, value)| pair(key, value)).collect()
}

fn pair(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

fn nanos(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_carried_whole() {
        let mut of = crate::traces::recording::tests::span();
        of.status = Status::Error("why".into());
        of.state = Some("a=b".into());
        of.event("retry", of.start, &[("cause", "x")]);
        let resource = Resource {
            service: "a".into(),
            attributes: vec![("team".into(), "x".into())],
        };
        let request = request(&[of], &resource);
        let group = &request.resource_spans[0];
        let attributes = &group.resource.as_ref().unwrap().attributes;
        assert_eq!(attributes, &[pair("service.name", "a"), pair("team", "x")]);
        let scope = &group.scope_spans[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "dapr-diagnostics");
        let span = &scope.spans[0];
        assert_eq!(span.trace_id, [0xab; 16]);
        assert_eq!(
            (&*span.span_id, &*span.parent_span_id),
            (&[1; 8][..], &[2; 8][..])
        );
        assert_eq!((span.flags, span.kind()), (0x301, SpanKind::Client));
        assert_eq!(
            span.end_time_unix_nano - span.start_time_unix_nano,
            1_000_000
        );
        assert_eq!(span.attributes, [pair("k", "v")]);
        assert_eq!(span.events[0].attributes, [pair("cause", "x")]);
        let status = span.status.as_ref().unwrap();
        assert_eq!(
            (status.code(), &*status.message),
            (StatusCode::Error, "why")
        );
        assert_eq!(span.trace_state, "a=b");
    }

    #[test]
    fn a_root_has_no_parent() {
        let mut of = crate::traces::recording::tests::span();
        of.parent = None;
        let request = request(&[of], &Resource::default());
        let span = &request.resource_spans[0].scope_spans[0].spans[0];
        assert_eq!((span.parent_span_id.len(), span.flags), (0, 0x101));
        assert_eq!(span.status, Some(wire::Status::default()));
    }
}
