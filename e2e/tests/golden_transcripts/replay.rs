//! Replays one exchange against the rig and lists what differs.

use anyhow::{Result, bail};
use ironside_testkit::{
    grpc::{GrpcClient, GrpcReply, GrpcSeen},
    http::{self, End, Reply, Request, Seen},
};
use prost_reflect::{DynamicMessage, Value};

use crate::{
    compare::{Bag, Ids, bag, equal, headers},
    messages,
    rig::Rig,
    transcript::{Exchange, GrpcText, HttpText},
};

const INVOKE_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";
const STREAM_REQUEST: &str = "dapr.proto.internals.v1.InternalInvokeRequestStream";
const STREAM_RESPONSE: &str = "dapr.proto.internals.v1.InternalInvokeResponseStream";

/// Sends the request and compares what the app, the peer and the client saw.
pub(crate) async fn replay(rig: &Rig, exchange: &Exchange) -> Result<Vec<String>> {
    for app in [&rig.app_a, &rig.app_b] {
        drop(app.take());
    }
    drop(rig.app_g.take());
    drop(rig.peer.take());
    rig.prescribe(
        exchange
            .app_answer
            .as_deref()
            .map(|text| HttpText::parse(text).bytes()),
    );
    let mut ids = Ids::fixed(&exchange.request);
    let reply = if exchange.request.starts_with(':') {
        Answered::Grpc(call(rig, exchange).await?)
    } else if exchange.request.starts_with("/dapr.") {
        Answered::Grpc(call_peer(rig, exchange).await?)
    } else {
        Answered::Http(send(rig, exchange).await?)
    };
    let mut wrong = at_app(rig, exchange, &mut ids);
    wrong.extend(at_peer(rig, exchange, &mut ids));
    wrong.extend(match reply {
        Answered::Http(reply) => http_reply(
            &HttpText::parse(&exchange.reply),
            |text| rig.here(text),
            &reply,
            &mut ids,
        ),
        Answered::Grpc(reply) => grpc_reply(rig, exchange, &reply, &mut ids),
    });
    Ok(wrong)
}

enum Answered {
    Http(Reply),
    Grpc(GrpcReply),
}

async fn send(rig: &Rig, exchange: &Exchange) -> Result<Reply> {
    let mut request = HttpText::parse(&rig.here(&exchange.request));
    let Some(port) = request
        .header("host")
        .and_then(|host| host.rsplit(':').next()?.parse().ok())
    else {
        bail!("no port in {:?}", request.headers);
    };
    fill(&mut request);
    Ok(http::send(port, &Request::raw(request.bytes())).await?)
}

/// Writes abbreviated bodies and headers out.
fn fill(request: &mut HttpText) {
    match request.body.as_slice() {
        b"(3000 bytes)" => request.body = b"q".repeat(3000),
        b"(3 bytes)" => request.body = b"abc".to_vec(),
        _ => {}
    }
    let all = request
        .headers
        .iter()
        .find_map(|(_, value)| value.split_once("...["));
    if let Some(wanted) = all.and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok()) {
        let (_, value) = request
            .headers
            .iter_mut()
            .find(|(_, value)| value.contains("...["))
            .unwrap();
        value.clear();
        let rest = request.bytes().len();
        let (_, value) = request
            .headers
            .iter_mut()
            .find(|(name, _)| name == "X-Big")
            .unwrap();
        *value = "y".repeat(wanted - rest);
    }
}

async fn call(rig: &Rig, exchange: &Exchange) -> Result<GrpcReply> {
    let request = GrpcText::parse(&rig.here(&exchange.request));
    let authority = request.header(":authority").unwrap_or_default();
    let client =
        GrpcClient::connect(authority.rsplit(':').next().unwrap_or_default().parse()?).await?;
    let path = request.header(":path").unwrap_or_default().to_owned();
    let messages = request.messages.iter().map(|text| match path.as_str() {
        INVOKE_SERVICE => messages::encode("dapr.proto.runtime.v1.InvokeServiceRequest", text),
        // The transcript shows the first bytes of a message one byte above the limit.
        _ if text.starts_with("b'zzzz") => vec![b'z'; 4_194_305],
        _ => messages::quoted(text),
    });
    let messages: Vec<Vec<u8>> = messages.collect();
    let metadata: Vec<(&str, &str)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| !name.starts_with(':') && !["content-type", "te"].contains(name))
        .collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    Ok(client.call(&path, &metadata, &messages).await?)
}

async fn call_peer(rig: &Rig, exchange: &Exchange) -> Result<GrpcReply> {
    let request = GrpcText::parse(&exchange.request);
    let sidecar = if exchange.label.starts_with("gRPC app") {
        &rig.g
    } else {
        &rig.b
    };
    let client = GrpcClient::connect(sidecar.internal()).await?;
    let path = request.header(":path").unwrap_or_default().to_owned();
    let name = if path.ends_with("Stream") {
        STREAM_REQUEST
    } else {
        "dapr.proto.internals.v1.InternalInvokeRequest"
    };
    let messages: Vec<Vec<u8>> = request
        .messages
        .iter()
        .map(|text| messages::encode(name, text))
        .collect();
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    Ok(client.call(&path, &[], &messages).await?)
}

fn at_app(rig: &Rig, exchange: &Exchange, ids: &mut Ids) -> Vec<String> {
    let (mut http, grpc) = (rig.app_a.take(), rig.app_g.take());
    http.extend(rig.app_b.take());
    // An HTTP/1.1 app that is spoken to in HTTP/2 was not called.
    http.retain(|seen| seen.head.line.contains(" HTTP/1."));
    if exchange.aborted {
        let whole = http.iter().filter(|seen| seen.end == End::Whole).count();
        return equal("whole requests at the app", &0, &whole);
    }
    let Some(expected) = &exchange.at_app else {
        // Some transcripts leave the gRPC app's side out; an HTTP app that is not named was not called.
        return equal("calls of an HTTP app", &0, &http.len());
    };
    let expected = rig.here(expected);
    if expected.starts_with(':') {
        let Some(seen) = grpc.first() else {
            return vec!["the gRPC app was not called".to_owned()];
        };
        return at_grpc_app(&GrpcText::parse(&expected), seen, ids);
    }
    let Some(seen) = http.first() else {
        return vec!["the HTTP app was not called".to_owned()];
    };
    at_http_app(&HttpText::parse(&expected), &exchange.request, seen, ids)
}

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
fn grpc_bag(headers: &[(String, String)]) -> Bag {
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

fn at_grpc_app(expected: &GrpcText, seen: &GrpcSeen, ids: &mut Ids) -> Vec<String> {
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

fn at_peer(rig: &Rig, exchange: &Exchange, ids: &mut Ids) -> Vec<String> {
    let seen = rig.peer.take();
    let Some(expected) = &exchange.at_peer else {
        return equal("calls of the peer", &0, &seen.len());
    };
    let expected = GrpcText::parse(&rig.here(expected));
    let path = expected.header(":path").unwrap_or_default();
    let Some(seen) = seen.iter().find(|seen| seen.path() == path) else {
        return vec![format!("the peer got no {path}")];
    };
    let mut wrong = headers(
        "at the peer",
        &grpc_bag(&expected.headers),
        &grpc_bag(&seen.headers),
        ids,
    );
    if path.ends_with("Stream") {
        let expected = expected
            .messages
            .iter()
            .map(|text| messages::from_text(STREAM_REQUEST, text))
            .collect();
        let found = seen
            .messages
            .iter()
            .map(|bytes| messages::from_bytes(STREAM_REQUEST, bytes))
            .collect();
        wrong.extend(streams("at the peer", "request", expected, found));
    } else {
        let name = "dapr.proto.internals.v1.InternalInvokeRequest";
        let found: Vec<_> = seen
            .messages
            .iter()
            .map(|bytes| messages::from_bytes(name, bytes))
            .collect::<Vec<_>>();
        let expected = expected
            .messages
            .iter()
            .map(|text| messages::from_text(name, text))
            .collect::<Vec<_>>();
        wrong.extend(messages::equal("message at the peer", &expected, &found));
    }
    wrong
}

/// Two streams of pieces are equal if their first messages and their joined data are, and the numbers go up by one.
fn streams(
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
    if let Some(features) = value
        .pointer_mut("/enabledFeatures")
        .and_then(|list| list.as_array_mut())
    {
        features.sort_by_key(ToString::to_string);
    }
    value
}

fn grpc_reply(rig: &Rig, exchange: &Exchange, reply: &GrpcReply, ids: &mut Ids) -> Vec<String> {
    let expected = GrpcText::parse(&rig.here(&exchange.reply));
    let mut blocks = reply.headers.clone();
    let mut trailers = reply.trailers.clone();
    for (_, value) in trailers
        .iter_mut()
        .filter(|(name, _)| name == "grpc-message")
    {
        *value = reply.message();
    }
    let first = if reply.trailers_only {
        &mut trailers
    } else {
        &mut blocks
    };
    first.push((":status".to_owned(), reply.http_status.to_string()));
    let mut wrong = if expected.trailers_only == reply.trailers_only {
        let mut wrong = headers(
            "initial metadata",
            &grpc_bag(&expected.headers),
            &grpc_bag(&blocks),
            ids,
        );
        wrong.extend(headers(
            "trailing metadata",
            &grpc_bag(&expected.trailers),
            &grpc_bag(&trailers),
            ids,
        ));
        wrong
    } else {
        // One block or two: without a message gRPC gives both one meaning.
        let one = |headers: &[(String, String)], trailers: &[(String, String)]| {
            grpc_bag(&[headers, trailers].concat())
        };
        headers(
            "metadata",
            &one(&expected.headers, &expected.trailers),
            &one(&blocks, &trailers),
            ids,
        )
    };
    wrong.extend(grpc_messages(&exchange.request, &expected, reply));
    wrong
}

fn grpc_messages(request: &str, expected: &GrpcText, reply: &GrpcReply) -> Vec<String> {
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
