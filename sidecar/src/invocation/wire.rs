//! Invocations and replies as the internal messages spell them, and back.
//!
//! Owns the two maps of `InternalInvokeRequest` and `InternalInvokeResponse` (service-invocation 4.1, 4.3). With
//! `inbound/call.rs` and `outbound/send.rs` it is all that sees the generated types of this hop.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use ironside_policy::Verb;
use ironside_proto::{
    common::{HttpExtension, InvokeRequest, InvokeResponse, http_extension},
    google::protobuf::Any,
    internals::{
        ApiVersion, InternalInvokeRequest, InternalInvokeResponse, ListStringValue,
        Status as WireStatus,
    },
};

use super::headers::MAX_NAMES;
use super::{AppStatus, Invocation, Origin, STREAM_STATUS, headers::canonical};

/// The map type of all internal messages.
pub(crate) type Map = HashMap<String, ListStringValue>;

/// Names that keep their canonical spelling even when a gRPC client's metadata travels beside them.
const ALWAYS_CANONICAL: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "forwarded"];
/// Names that a sidecar stamps: lower-case on the wire, whatever the origin.
const ALWAYS_LOWER: [&str; 4] = [
    "dapr-callee-app-id",
    "dapr-caller-app-id",
    "dapr-caller-namespace",
    "destination-app-id",
];

/// Pseudo headers and the names under which an HTTP app gets them.
const PSEUDO: [(&str, &str); 4] = [
    (":method", "dapr-method"),
    (":scheme", "dapr-scheme"),
    (":path", "dapr-path"),
    (":authority", "dapr-authority"),
];

/// Why a request that arrived cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MapError {
    /// More names than any legitimate call has.
    #[error("more than {MAX_NAMES} metadata names")]
    TooMany,
    /// A name that no header may have.
    #[error("invalid header field name {0:?}")]
    Name(Box<str>),
    /// A value that no header may have.
    #[error("invalid header field value for {0:?}")]
    Value(Box<str>),
}

/// The request message of this invocation; `data` is its body where it travels whole.
pub(crate) fn request(call: &Invocation, data: Bytes) -> InternalInvokeRequest {
    let data = (!data.is_empty() || !call.type_url.is_empty()).then(|| Any {
        type_url: call.type_url.to_string(),
        value: data,
    });
    InternalInvokeRequest {
        ver: ApiVersion::V1 as i32,
        metadata: request_map(call),
        message: Some(InvokeRequest {
            method: call.method.as_str().to_owned(),
            data,
            content_type: call.content_type.to_string(),
            http_extension: call.has_http.then(|| HttpExtension {
                verb: verb_to_wire(call.verb) as i32,
                querystring: call.query.to_string(),
            }),
        }),
        actor: None,
    }
}

fn request_map(call: &Invocation) -> Map {
    let mut map = header_map(&call.headers, call.origin);
    for (name, value) in &call.pseudo {
        if let Some((wire, _)) = PSEUDO.iter().find(|(_, seen)| seen == name) {
            map.insert(
                (*wire).to_owned(),
                ListStringValue {
                    values: vec![text(value)],
                },
            );
        }
    }
    map
}

/// Headers as a map; names as their origin spells them.
pub(crate) fn header_map(headers: &HeaderMap, origin: Origin) -> Map {
    let mut map = Map::with_capacity(headers.keys_len());
    for name in headers.keys() {
        let values = headers.get_all(name).iter().map(text).collect();
        map.insert(spell(name.as_str(), origin), ListStringValue { values });
    }
    map
}

fn spell(name: &str, origin: Origin) -> String {
    if ALWAYS_LOWER.contains(&name) {
        return name.to_owned();
    }
    if origin == Origin::Http || ALWAYS_CANONICAL.contains(&name) {
        canonical(name)
    } else {
        name.to_owned()
    }
}

/// Header bytes as text; bytes that are no UTF-8 are replaced, for the wire holds text only.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// What a map says.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Pseudo headers under the names that an HTTP app sees.
    pub(crate) pseudo: Vec<(&'static str, HeaderValue)>,
    /// True if a name was spelled as HTTP clients' names are.
    pub(crate) canonical: bool,
}

/// Reads a map.
///
/// # Errors
/// [`MapError`] names the first entry that no header may be.
pub(crate) fn from_map(map: Map) -> Result<Mapped, MapError> {
    if map.len() > MAX_NAMES {
        return Err(MapError::TooMany);
    }
    let mut mapped = Mapped {
        headers: HeaderMap::with_capacity(map.len()),
        ..Mapped::default()
    };
    for (key, list) in map {
        if let Some((_, seen)) = PSEUDO.iter().find(|(wire, _)| *wire == key) {
            for value in list.values {
                mapped.pseudo.push((seen, header_value(&key, &value)?));
            }
            continue;
        }
        let lower = key.to_ascii_lowercase();
        mapped.canonical |= lower != key && !ALWAYS_CANONICAL.contains(&lower.as_str());
        let name =
            HeaderName::try_from(lower).map_err(|_invalid| MapError::Name(key.as_str().into()))?;
        for value in list.values {
            let value = header_value(&key, &value)?;
            let appended = mapped.headers.try_append(name.clone(), value);
            appended.map_err(|_full| MapError::TooMany)?;
        }
    }
    Ok(mapped)
}

fn header_value(key: &str, value: &str) -> Result<HeaderValue, MapError> {
    HeaderValue::from_bytes(value.as_bytes()).map_err(|_invalid| MapError::Value(key.into()))
}

/// The response message of a reply; `data` is its body where it travels whole.
pub(crate) fn response(
    status: &AppStatus,
    headers: &HeaderMap,
    trailers: &HeaderMap,
    content_type: &str,
    type_url: &str,
    data: Bytes,
) -> InternalInvokeResponse {
    let (origin, status, data) = match status {
        AppStatus::Http(code) => {
            let data = (!data.is_empty() || !type_url.is_empty()).then(|| Any {
                type_url: type_url.to_owned(),
                value: data,
            });
            (
                Origin::Http,
                WireStatus {
                    code: i32::from(*code),
                    ..WireStatus::default()
                },
                data,
            )
        }
        AppStatus::Grpc {
            code,
            message,
            details,
        } => {
            let data = (*code == tonic::Code::Ok).then(|| Any {
                type_url: type_url.to_owned(),
                value: data,
            });
            let status = WireStatus {
                code: *code as i32,
                message: message.to_string(),
                details: details.clone(),
            };
            (Origin::Grpc, status, data)
        }
    };
    let message = (data.is_some() || !content_type.is_empty()).then(|| InvokeResponse {
        data,
        content_type: content_type.to_owned(),
    });
    InternalInvokeResponse {
        status: Some(status),
        headers: header_map(headers, origin),
        trailers: header_map(trailers, origin),
        message,
    }
}

/// An app's status as a response message holds it.
pub(crate) fn app_status(status: WireStatus) -> AppStatus {
    match u16::try_from(status.code) {
        Ok(code) if code >= 100 => AppStatus::Http(code),
        _ => AppStatus::Grpc {
            code: tonic::Code::from_i32(status.code),
            message: status.message.into(),
            details: status.details,
        },
    }
}

/// True for the leading status of an event stream: present and all zero.
pub(crate) fn is_stream_status(status: &AppStatus) -> bool {
    matches!(status, AppStatus::Http(STREAM_STATUS))
        || matches!(
            status,
            AppStatus::Grpc {
                code: tonic::Code::Ok,
                ..
            }
        )
}

/// A verb's number.
pub(crate) fn verb_to_wire(verb: Verb) -> http_extension::Verb {
    match verb {
        Verb::None => http_extension::Verb::None,
        Verb::Get => http_extension::Verb::Get,
        Verb::Head => http_extension::Verb::Head,
        Verb::Post => http_extension::Verb::Post,
        Verb::Put => http_extension::Verb::Put,
        Verb::Delete => http_extension::Verb::Delete,
        Verb::Connect => http_extension::Verb::Connect,
        Verb::Options => http_extension::Verb::Options,
        Verb::Trace => http_extension::Verb::Trace,
        Verb::Patch => http_extension::Verb::Patch,
    }
}

/// A number's verb; unknown numbers are none.
pub(crate) fn verb_from_wire(number: i32) -> Verb {
    match http_extension::Verb::try_from(number).unwrap_or(http_extension::Verb::None) {
        http_extension::Verb::None => Verb::None,
        http_extension::Verb::Get => Verb::Get,
        http_extension::Verb::Head => Verb::Head,
        http_extension::Verb::Post => Verb::Post,
        http_extension::Verb::Put => Verb::Put,
        http_extension::Verb::Delete => Verb::Delete,
        http_extension::Verb::Connect => Verb::Connect,
        http_extension::Verb::Options => Verb::Options,
        http_extension::Verb::Trace => Verb::Trace,
        http_extension::Verb::Patch => Verb::Patch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fact: golden 24, the spellings of the metadata map.
    #[test]
    fn names_travel_as_their_origin_spells_them() {
        for (name, origin, expected) in [
            ("content-type", Origin::Http, "Content-Type"),
            ("x-a", Origin::Http, "X-A"),
            ("x-a", Origin::Grpc, "x-a"),
            ("x-forwarded-for", Origin::Grpc, "X-Forwarded-For"),
            ("dapr-caller-app-id", Origin::Http, "dapr-caller-app-id"),
            ("destination-app-id", Origin::Http, "destination-app-id"),
        ] {
            assert_eq!(spell(name, origin), expected);
        }
    }

    #[test]
    fn an_entry_that_is_no_header_is_refused_by_name() {
        let map = |key: &str, value: &str| {
            Map::from([(
                key.to_owned(),
                ListStringValue {
                    values: vec![value.to_owned()],
                },
            )])
        };
        assert_eq!(
            from_map(map("a b", "1")).unwrap_err(),
            MapError::Name("a b".into())
        );
        assert_eq!(
            from_map(map("x-a", "1\r\nx: y")).unwrap_err(),
            MapError::Value("x-a".into())
        );
        assert_eq!(
            from_map(map(":authority", "h:1")).unwrap().pseudo,
            [("dapr-authority", "h:1".parse().unwrap())]
        );
    }

    proptest! {
        #[test]
        fn headers_survive_the_map(pairs in prop::collection::vec(("[a-z][a-z0-9-]{0,10}", "[ -~]{0,20}"), 0..8)) {
            let mut headers = HeaderMap::new();
            for (name, value) in &pairs {
                headers.append(HeaderName::try_from(name.as_str()).unwrap(), value.trim().parse().unwrap());
            }
            for origin in [Origin::Http, Origin::Grpc] {
                let back = from_map(header_map(&headers, origin)).unwrap().headers;
                prop_assert_eq!(&back, &headers);
            }
        }
    }
}
