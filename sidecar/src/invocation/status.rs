//! Status codes between two worlds: gRPC code names, gRPC to HTTP and back, and rich errors.
//!
//! Owns the two tables of service-invocation 1.13 and the few `google.rpc` messages that an error carries. The
//! texts that name a status (`rpc error: code = X desc = Y`) are what users of the reference search for.

use std::collections::BTreeMap;

use bytes::Bytes;
use ironside_proto::google::protobuf::Any;
use prost::Message as _;
use tonic::{Code, Status};

/// Name of a code as error texts spell it.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// A status in one line, as error texts embed it.
pub(crate) fn one_line(status: &Status) -> String {
    format!(
        "rpc error: code = {} desc = {}",
        code_name(status.code()),
        status.message()
    )
}

/// HTTP status that stands for a gRPC code of an app.
pub(crate) fn http_from_code(code: Code) -> u16 {
    match code {
        Code::Ok => 200,
        Code::Cancelled => 408,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => 400,
        Code::DeadlineExceeded => 504,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted => 409,
        Code::PermissionDenied => 403,
        Code::ResourceExhausted => 429,
        Code::Unimplemented => 501,
        Code::Unavailable => 503,
        Code::Unauthenticated => 401,
        Code::Unknown | Code::Internal | Code::DataLoss => 500,
    }
}

/// gRPC code that stands for an HTTP status of an app (`InvokeService`).
pub(crate) fn code_from_http(status: u16) -> Code {
    match status {
        200..=299 => Code::Ok,
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 => Code::Cancelled,
        409 => Code::AlreadyExists,
        429 => Code::ResourceExhausted,
        501 => Code::Unimplemented,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Unknown,
    }
}

/// Bytes of an app's error body that a gRPC caller sees.
///
/// Source: service-invocation 2.3.
pub(crate) const ERROR_INFO_BODY: usize = 63;

/// The status that a gRPC caller gets for an HTTP app's answer outside 200-299.
pub(crate) fn status_from_http(http: u16, body: &[u8]) -> Status {
    let code = code_from_http(http);
    let phrase = reason_phrase(http);
    let shown = String::from_utf8_lossy(body.get(..ERROR_INFO_BODY).unwrap_or(body)).into_owned();
    with_error_info(
        code,
        phrase,
        phrase,
        [
            ("http.code", http.to_string()),
            ("http.error_message", shown),
        ],
    )
}

/// A status with one `google.rpc.ErrorInfo` of domain `dapr.io`.
pub(crate) fn with_error_info<const N: usize>(
    code: Code,
    message: &str,
    reason: &str,
    metadata: [(&str, String); N],
) -> Status {
    let info = ErrorInfo {
        reason: reason.to_owned(),
        domain: "dapr.io".to_owned(),
        metadata: metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    };
    let details = vec![Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info.encode_to_vec().into(),
    }];
    with_details(code, message, details)
}

/// A status whose details travel in `grpc-status-details-bin`.
pub(crate) fn with_details(code: Code, message: &str, details: Vec<Any>) -> Status {
    if details.is_empty() {
        return Status::new(code, message);
    }
    let rpc = RpcStatus {
        code: code as i32,
        message: message.to_owned(),
        details,
    };
    Status::with_details(code, message, rpc.encode_to_vec().into())
}

/// The details inside an encoded `google.rpc.Status`; none if the bytes are not one.
pub(crate) fn details_of(encoded: &[u8]) -> Vec<Any> {
    RpcStatus::decode(encoded)
        .map(|status| status.details)
        .unwrap_or_default()
}

/// Reason phrase of an HTTP status; registered ones by name, others as the reference writes them.
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason())
        .unwrap_or("")
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// JSON of a gRPC app's error for an HTTP caller: zero fields omitted, `details` as JSON of their packed form.
pub(crate) fn error_json(code: Code, message: &str, details: &[Any]) -> Bytes {
    let mut object = serde_json::Map::new();
    object.insert("code".to_owned(), (code as i32).into());
    if !message.is_empty() {
        object.insert("message".to_owned(), message.into());
    }
    if !details.is_empty() {
        let rendered = details.iter().map(detail_json).collect::<Vec<_>>();
        object.insert("details".to_owned(), rendered.into());
    }
    serde_json::Value::Object(object).to_string().into()
}

/// One detail: known messages in their JSON form, others by type and base64 of their bytes.
fn detail_json(detail: &Any) -> serde_json::Value {
    use base64::Engine as _;
    if detail.type_url.ends_with("/google.rpc.ErrorInfo")
        && let Ok(info) = ErrorInfo::decode(detail.value.as_ref())
    {
        return serde_json::json!({
            "@type": detail.type_url, "reason": info.reason, "domain": info.domain, "metadata": info.metadata,
        });
    }
    serde_json::json!({
        "@type": detail.type_url,
        "value": base64::engine::general_purpose::STANDARD.encode(&detail.value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_error_carries_the_first_bytes_of_the_body() {
        let status = status_from_http(404, "abc".repeat(40).as_bytes());
        assert_eq!(
            (status.code(), status.message()),
            (Code::NotFound, "Not Found")
        );
        let details = details_of(status.details());
        let info = ErrorInfo::decode(details.first().unwrap().value.as_ref()).unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("Not Found", "dapr.io")
        );
        assert_eq!(info.metadata["http.code"], "404");
        assert_eq!(info.metadata["http.error_message"], "abc".repeat(21));
    }

    /// Fact: golden 19, the bytes of `grpc-status-details-bin` for a 400.
    #[test]
    fn details_are_encoded_as_the_reference_does() {
        use base64::Engine as _;
        let wire = "CA0SC0JhZCBSZXF1ZXN0Gm0KKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5FcnJvckluZm8SQQoLQmFkIFJlcXVlc3QSB2RhcHIuaW8aEAoJaHR0cC5jb2RlEgM0MDAaFwoSaHR0cC5lcnJvcl9tZXNzYWdlEgFl";
        let expected = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(wire)
            .unwrap();
        assert_eq!(status_from_http(400, b"e").details(), expected);
    }

    #[test]
    fn error_json_omits_zero_fields() {
        assert_eq!(error_json(Code::Unimplemented, "", &[]), r#"{"code":12}"#);
        assert_eq!(
            error_json(Code::NotFound, "not here", &[]),
            r#"{"code":5,"message":"not here"}"#
        );
    }
}
