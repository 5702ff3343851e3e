//! Replays one exchange against the rig and lists what differs.

use anyhow::{Result, bail};
use ironside_testkit::{
    grpc::{GrpcClient, GrpcReply},
    http::{self, End, Reply, Request},
};

use crate::{
    compare::{Ids, equal, headers},
    judge::{at_grpc_app, at_http_app, grpc_bag, grpc_messages, http_reply, streams},
    messages,
    rig::Rig,
    transcript::{Exchange, GrpcText, HttpText},
};

pub(crate) const INVOKE_SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/InvokeService";
const STREAM_REQUEST: &str = "dapr.proto.internals.v1.InternalInvokeRequestStream";
pub(crate) const STREAM_RESPONSE: &str = "dapr.proto.internals.v1.InternalInvokeResponseStream";

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
