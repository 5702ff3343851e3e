//! Compares one message of a transcript with one that a sidecar, an app or a client saw.

use ironside_testkit::{
    grpc::{GrpcReply, GrpcSeen},
    http::{End, Reply, Seen},
};
use prost_reflect::{DynamicMessage, Value};

use crate::{
    compare::{Bag, Ids, bag, equal, headers},
    messages,
    replay::{INVOKE_SERVICE, STREAM_RESPONSE},
    transcript::{GrpcText, HttpText},
};

/// Compares a request that arrived at an HTTP app.
pub(crate) fn at_http_app(
    expected: &HttpText,
    request: &str,
    seen: &Seen,
    ids: &mut Ids,
) -> Vec<String> {
    let mut expected = expected.clone();
    let asked = request.to_ascii_lowercase();
    if !asked.contains("accept-encoding:") {
        expected.remove("accept-encoding");
    }
    if expected.header("user-agent") == Some("Go-http-client/1.1") {
        expected.remove("user-agent");
    }
    let mut wrong = equal("request line at the app", &expected.line, &seen.head.line);
    wrong.extend(headers(
        "at the app",
        &bag(&expected.headers),
        &bag(&seen.head.headers),
        ids,
    ));
    let counted = String::from_utf8_lossy(&expected.body).into_owned();
    match counted
        .strip_prefix('(')
        .and_then(|rest| rest.split_once(" body bytes)"))
    {
        Some((count, _)) if seen.end == End::Whole => {
            wrong.extend(equal(
                "body length at the app",
                &count,
                &seen.length.to_string().as_str(),
            ));
        }
        Some((count, _)) => {
            // An aborted request: no more than the reference had passed on.
            if seen.length > count.parse().unwrap() {
                wrong.push(format!(
                    "the app got {} bytes of an aborted body",
                    seen.length
                ));
            }
        }
        None => wrong.extend(equal("body at the app", &counted, &seen.text())),
    }
    wrong
}

/// Headers of a gRPC call without those that the library owns.
pub(crate) fn grpc_bag(headers: &[(String, String)]) -> Bag {
    let mut bag = bag(headers);
    for name in ["user-agent", "grpc-accept-encoding", "content-length"] {
        bag.remove(name);
    }
    if bag
        .get("grpc-message")
        .is_some_and(|values| values.iter().all(String::is_empty))
    {
        bag.remove("grpc-message");
    }
    for (_, values) in bag.iter_mut().filter(|(name, _)| name.ends_with("-bin")) {
        values
            .iter_mut()
            .for_each(|value| value.truncate(value.trim_end_matches('=').len()));
    }
    bag
}

pub(crate) fn at_grpc_app(expected: &GrpcText, seen: &GrpcSeen, ids: &mut Ids) -> Vec<String> {
    let mut wrong = headers(
        "at the gRPC app",
        &grpc_bag(&expected.headers),
        &grpc_bag(&seen.headers),
        ids,
    );
    if seen.path().ends_with("/OnInvoke") {
        let read =
            |bytes: &Vec<u8>| messages::from_bytes("dapr.proto.common.v1.InvokeRequest", bytes);
        let expected = expected
            .messages
            .iter()
            .map(|text| messages::from_text("dapr.proto.common.v1.InvokeRequest", text));
        let found: Vec<_> = seen.messages.iter().map(read).collect();
        wrong.extend(equal(
            "message at the gRPC app",
            &expected.collect(),
            &found,
        ));
    } else {
        // `(no message)` stands for an app that did not look.
        let expected: Vec<_> = expected
            .messages
            .iter()
            .map(|text| messages::quoted(text))
            .collect();
        if !expected.is_empty() {
            wrong.extend(equal("messages at the gRPC app", &expected, &seen.messages));
        }
    }
    wrong
}

/// Two streams of pieces are equal if their first messages and their joined data are, and the numbers go up by one.
pub(crate) fn streams(
    what: &str,
    field: &str,
    expected: Vec<DynamicMessage>,
    found: Vec<DynamicMessage>,
) -> Vec<String> {
    let (expected_head, expected_data, _) = joined(field, &expected);
    let (head, data, numbers) = joined(field, &found);
    let mut wrong = equal(&format!("{what}: first message"), &expected_head, &head);
    if expected_data != data {
        wrong.push(format!(
            "{what}: {} bytes of data, expected {}",
            data.len(),
            expected_data.len()
        ));
    }
    let rising: Vec<u64> = (0..numbers.len() as u64).collect();
    wrong.extend(equal(
        &format!("{what}: sequence numbers"),
        &rising,
        &numbers,
    ));
    wrong
}

fn joined(field: &str, messages: &[DynamicMessage]) -> (Option<Value>, Vec<u8>, Vec<u64>) {
    let head = messages
        .first()
        .filter(|first| first.has_field_by_name(field));
    let head = head.and_then(|first| {
        first
            .get_field_by_name(field)
            .map(|value| value.into_owned())
    });
    let (mut data, mut numbers) = (Vec::new(), Vec::new());
    for message in messages
        .iter()
        .filter(|message| message.has_field_by_name("payload"))
    {
        let payload = message.get_field_by_name("payload").unwrap();
        let payload = payload.as_message().unwrap();
        data.extend_from_slice(
            payload
                .get_field_by_name("data")
                .unwrap()
                .as_bytes()
                .unwrap(),
        );
        numbers.push(payload.get_field_by_name("seq").unwrap().as_u64().unwrap());
    }
    (head, data, numbers)
}

/// Compares an HTTP answer; ports inside the expected text are replaced first.
pub(crate) fn http_reply(
    expected: &HttpText,
    here: impl Fn(&str) -> String,
    reply: &Reply,
    ids: &mut Ids,
) -> Vec<String> {
    let body = here(&String::from_utf8_lossy(&expected.body));
    let mut expected_headers = expected.headers.clone();
    for (name, value) in &mut expected_headers {
        if name.eq_ignore_ascii_case("content-length") && *value == expected.body.len().to_string()
        {
            *value = body.len().to_string();
        }
    }
    let mut wrong = equal("status line", &expected.line, &reply.head.line);
    wrong.extend(headers(
        "to the client",
        &bag(&expected_headers),
        &bag(&reply.head.headers),
        ids,
    ));
    let metadata = body.starts_with("{\"id\":");
    if metadata {
        wrong.retain(|text| !text.contains("content-length"));
        wrong.extend(equal(
            "metadata",
            &metadata_without_version(&body),
            &metadata_without_version(&reply.text()),
        ));
    } else {
        wrong.extend(equal("body", &body, &reply.text()));
    }
    wrong.extend(equal("end of the body", &End::Whole, &reply.end));
    wrong
}

fn metadata_without_version(text: &str) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    for path in ["/runtimeVersion", "/extended/daprRuntimeVersion"] {
        if let Some(version) = value.pointer_mut(path) {
            *version = "any".into();
        }
    }
    // Ours alone: which rules of access control are in force.
    if let Some(extended) = value
        .pointer_mut("/extended")
        .and_then(|values| values.as_object_mut())
    {
        extended.retain(|key, _| !key.starts_with("accessControl."));
    }
    if let Some(features) = value
        .pointer_mut("/enabledFeatures")
        .and_then(|list| list.as_array_mut())
    {
        features.sort_by_key(ToString::to_string);
    }
    value
}

pub(crate) fn grpc_messages(request: &str, expected: &GrpcText, reply: &GrpcReply) -> Vec<String> {
    let read = |name: &str| -> Vec<_> {
        reply
            .messages
            .iter()
            .map(|bytes| messages::from_bytes(name, bytes))
            .collect()
    };
    let text = |name: &str| -> Vec<_> {
        expected
            .messages
            .iter()
            .map(|text| messages::from_text(name, text))
            .collect()
    };
    if request.contains("/CallLocalStream") {
        return streams(
            "to the client",
            "response",
            text(STREAM_RESPONSE),
            read(STREAM_RESPONSE),
        );
    }
    for (path, name) in [
        (INVOKE_SERVICE, "dapr.proto.common.v1.InvokeResponse"),
        (
            "/CallLocal",
            "dapr.proto.internals.v1.InternalInvokeResponse",
        ),
    ] {
        if request.contains(path) {
            return messages::equal("message to the client", &text(name), &read(name));
        }
    }
    let expected: Vec<_> = expected
        .messages
        .iter()
        .map(|text| messages::quoted(text))
        .collect();
    equal("messages to the client", &expected, &reply.messages)
}
