//! Sidecar to sidecar: SI-099 to SI-107, SI-157, SI-158.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use ironside_e2e::{Rows, Spec, wait};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest, InvokeResponse, StreamPayload, http_extension::Verb},
    google::protobuf::Any,
    internals::{
        InternalInvokeRequest, InternalInvokeRequestStream, InternalInvokeResponse,
        InternalInvokeResponseStream, ListStringValue, Status,
    },
};
use ironside_testkit::{
    grpc::{Exchange, GrpcApp, GrpcClient, GrpcReply},
    http::{Answer, End, HttpApp},
};
use prost::Message as _;

use crate::rig::{Rig, contains, error, invoke, not_invoked, register, same};

const STREAM: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocalStream";
const UNARY: &str = "/dapr.proto.internals.v1.ServiceInvocation/CallLocal";

fn request(method: &str) -> InternalInvokeRequest {
    let value = ListStringValue {
        values: vec!["text/plain".to_owned()],
    };
    InternalInvokeRequest {
        ver: 1,
        metadata: HashMap::from([("content-type".to_owned(), value)]),
        message: Some(InvokeRequest {
            method: method.to_owned(),
            content_type: "text/plain".to_owned(),
            http_extension: Some(HttpExtension {
                verb: Verb::Post.into(),
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
        ..InternalInvokeRequest::default()
    }
}

fn payload(seq: u64, data: impl Into<Vec<u8>>) -> Option<StreamPayload> {
    Some(StreamPayload {
        data: Bytes::from(data.into()),
        seq,
    })
}

fn first(request: InternalInvokeRequest, data: impl Into<Vec<u8>>) -> Vec<u8> {
    InternalInvokeRequestStream {
        request: Some(request),
        payload: payload(0, data),
    }
    .encode_to_vec()
}

fn later(seq: u64, data: impl Into<Vec<u8>>) -> Vec<u8> {
    InternalInvokeRequestStream {
        request: None,
        payload: payload(seq, data),
    }
    .encode_to_vec()
}

async fn send(port: u16, path: &str, messages: &[Vec<u8>]) -> Result<GrpcReply> {
    let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    Ok(GrpcClient::connect(port)
        .await?
        .call(path, &[], &messages)
        .await?)
}

/// The first message and all data of an answered stream.
fn joined(reply: &GrpcReply) -> Result<(InternalInvokeResponse, Vec<u8>)> {
    let mut head = None;
    let mut data = Vec::new();
    for bytes in &reply.messages {
        let message = InternalInvokeResponseStream::decode(bytes.as_slice())?;
        head = head.or(message.response);
        data.extend_from_slice(&message.payload.unwrap_or_default().data);
    }
    ensure!(head.is_some(), "no response in {reply:?}");
    Ok((head.unwrap_or_default(), data))
}

#[tokio::test]
async fn what_a_callee_accepts() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    let port = rig.b.internal();
    rows.row("SI-099", "chunks of any size", async {
        drop(rig.app_b.take());
        let messages = [
            first(request("echo"), "a"),
            later(1, ""),
            later(2, vec![b'c'; 5000]),
        ];
        let reply = send(port, STREAM, &messages).await?;
        same(
            "at the app",
            (5001, End::Whole),
            (rig.app_b.take()[0].length, End::Whole),
        )?;
        let (head, data) = joined(&reply)?;
        same(
            "answer",
            (Some(0), 200, 5001),
            (
                reply.code(),
                head.status.unwrap_or_default().code,
                data.len(),
            ),
        )
    })
    .await;
    rows.row("SI-100", "a first message without metadata", async {
        let bare = InternalInvokeRequest {
            metadata: HashMap::new(),
            ..request("foo")
        };
        let reply = send(
            port,
            STREAM,
            &[InternalInvokeRequestStream {
                request: Some(bare),
                payload: None,
            }
            .encode_to_vec()],
        )
        .await?;
        same("code", Some(3), reply.code())?;
        contains(
            "message",
            &reply.message(),
            "request does not contain the required fields in the leading chunk",
        )
    })
    .await;
    rows.row("SI-101 SI-157", "a gap in the sequence", async {
        drop(rig.app_b.take());
        let reply = send(port, STREAM, &[first(request("foo"), "a"), later(2, "c")]).await?;
        same("code", Some(13), reply.code())?;
        let cause = format!(
            "error invoking app channel: Post \"http://127.0.0.1:{}/foo\": invalid sequence number received: 2 (expected: 1)",
            rig.app_b.port()
        );
        contains("message", &reply.message(), &cause)?;
        let whole = rig.app_b.take().iter().filter(|seen| seen.end == End::Whole).count();
        same("whole requests at the app", 0, whole)
    })
    .await;
    rows.row("SI-104", "an unknown version", async {
        let old = InternalInvokeRequest {
            ver: 0,
            ..request("foo")
        };
        for (path, message) in [
            (STREAM, first(old.clone(), "")),
            (UNARY, old.encode_to_vec()),
        ] {
            let reply = send(port, path, &[message]).await?;
            same("code", Some(13), reply.code())?;
            ensure!(
                reply.message().ends_with("Unsupported spec version: 0"),
                "{}",
                reply.message()
            );
        }
        Ok(())
    })
    .await;
    rows.row(
        "SI-105",
        "HTTP codes are 100 and above, gRPC codes below",
        async {
            for (port, method, code) in [
                (port, "status/404", 404),
                (rig.g.internal(), "nf", 5),
                (rig.g.internal(), "ok", 0),
            ] {
                let reply = send(port, UNARY, &[request(method).encode_to_vec()]).await?;
                let unary = InternalInvokeResponse::decode(reply.messages[0].as_slice())?;
                same(
                    "unary",
                    (Some(0), code),
                    (reply.code(), unary.status.unwrap_or_default().code),
                )?;
                let (head, _) = joined(&send(port, STREAM, &[first(request(method), "")]).await?)?;
                same("stream", code, head.status.unwrap_or_default().code)?;
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}

/// How a fake peer answers.
#[derive(Clone, Copy)]
enum Manner {
    Old,
    EmptyResponseLater,
    Gap,
    MetadataLater,
}

async fn answer(mut call: Exchange, manner: Manner) {
    if call.path() == UNARY {
        call.message().await;
        call.begin_reply(&[]);
        call.reply(&response("unary").encode_to_vec());
        return call.end(0, "", &[]);
    }
    while call.message().await.is_some() {}
    let stream = |response: Option<InternalInvokeResponse>, payload: Option<StreamPayload>| {
        InternalInvokeResponseStream { response, payload }.encode_to_vec()
    };
    let second = match manner {
        Manner::Old => return call.end(12, "unknown method CallLocalStream", &[]),
        Manner::EmptyResponseLater => {
            stream(Some(InternalInvokeResponse::default()), payload(1, "two"))
        }
        Manner::Gap => stream(None, payload(2, "two")),
        Manner::MetadataLater => stream(Some(response("")), payload(1, "two")),
    };
    call.begin_reply(&[]);
    call.reply(&stream(Some(response("")), payload(0, "one")));
    call.reply(&second);
    call.end(0, "", &[]);
}

fn response(data: &str) -> InternalInvokeResponse {
    let value = Bytes::copy_from_slice(data.as_bytes());
    InternalInvokeResponse {
        status: Some(Status {
            code: 200,
            ..Status::default()
        }),
        message: Some(InvokeResponse {
            data: Some(Any {
                type_url: String::new(),
                value,
            }),
            content_type: "text/plain".to_owned(),
        }),
        ..InternalInvokeResponse::default()
    }
}

async fn peer(rig: &Rig, id: &str, manner: Manner) -> Result<GrpcApp> {
    let peer = GrpcApp::start(move |call| Box::pin(answer(call, manner))).await?;
    register(&rig.world, id, peer.port())?;
    Ok(peer)
}

#[tokio::test]
async fn what_a_caller_accepts() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-102", "an old peer: replayable calls fall back, others cannot", async {
        let _peer = peer(&rig, "old", Manner::Old).await?;
        let reply = rig.a.send(&invoke("POST", "old", "x").body("abc")).await?;
        same("fixed length", (200, "unary"), (reply.status(), &reply.text()))?;
        let reply = rig.a.send(&invoke("POST", "old", "x").chunked(["a", "bc"])).await?;
        let text = "target app 'old' is running a version of Dapr that does not support streaming-based service invocation";
        not_invoked(&reply, text)
    })
    .await;
    rows.row("SI-103", "an empty response in a later message", async {
        let _peer = peer(&rig, "empty-later", Manner::EmptyResponseLater).await?;
        let reply = rig.a.send(&invoke("GET", "empty-later", "x")).await?;
        same(
            "answer",
            (200, "onetwo", End::Whole),
            (reply.status(), &reply.text(), reply.end),
        )
    })
    .await;
    rows.row(
        "SI-158",
        "a gap or metadata in a later message: never a whole body",
        async {
            for (id, manner) in [
                ("gap", Manner::Gap),
                ("metadata-later", Manner::MetadataLater),
            ] {
                let _peer = peer(&rig, id, manner).await?;
                // The reference closes the body like a whole one; ours may reset instead, before or after the head.
                if let Ok(reply) = rig.a.send(&invoke("GET", id, "x")).await {
                    let visible = reply.status() == 500 || reply.end == End::Cut;
                    ensure!(
                        visible,
                        "{id}: {} {:?} {:?}",
                        reply.status(),
                        reply.text(),
                        reply.end
                    );
                }
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}

/// A peer that so often says that its app closed the connection before a call was begun.
async fn unbegun(times: usize, count: &Arc<AtomicUsize>) -> Result<GrpcApp> {
    let counted = Arc::clone(count);
    let peer = GrpcApp::start(move |mut call| {
        let is_begun = counted.fetch_add(1, Ordering::Relaxed) >= times;
        Box::pin(async move {
            if is_begun {
                return answer(call, Manner::EmptyResponseLater).await;
            }
            call.begin_reply(&[("ironside-undelivered", "closed")]);
            call.end(13, "error invoking app channel: EOF", &[]);
        })
    });
    Ok(peer.await?)
}

/// A peer whose app closed its connection before a call was begun: the call is made again, whatever it is, and the
/// peer is as good as before. The word for it goes to no caller.
#[tokio::test]
async fn a_call_that_was_not_begun_is_made_again() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    for (id, times) in [("once", 1), ("ever", usize::MAX)] {
        rows.row("not begun", id, async {
            let begun = Arc::new(AtomicUsize::new(0));
            let peer = unbegun(times, &begun).await?;
            register(&rig.world, id, peer.port())?;
            let reply = rig.a.send(&invoke("POST", id, "x").body("abc")).await?;
            let attempts = begun.load(Ordering::Relaxed);
            let waits = rig.a.program.log().matches("Retrying in").count();
            if times == 1 {
                same("answer", (200, "onetwo"), (reply.status(), &reply.text()))?;
                // At once: nobody waited for an address to recover.
                return same("attempts and pauses", (2, 0), (attempts, waits));
            }
            same("attempts", 5, attempts)?;
            error(
                &reply,
                500,
                "ERR_DIRECT_INVOKE",
                "error invoking app channel: EOF",
            )
        })
        .await;
    }
    rows.row("not begun", "ever, at two addresses", async {
        let begun = Arc::new(AtomicUsize::new(0));
        let peers = [
            unbegun(usize::MAX, &begun).await?,
            unbegun(usize::MAX, &begun).await?,
        ];
        for peer in &peers {
            register(&rig.world, "both", peer.port())?;
        }
        let reply = rig.a.send(&invoke("POST", "both", "x").body("abc")).await?;
        // At once again, then at the other address; the rest are the built-in retries.
        same("attempts", 6, begun.load(Ordering::Relaxed))?;
        same("status", 500, reply.status())
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn connections_to_peers() {
    let world = ironside_e2e::World::new();
    let idle = [
        ("DAPR_GRPC_MAX_CONN_IDLE", "300ms"),
        ("DAPR_GRPC_CONN_COLLECTOR_INTERVAL", "100ms"),
    ];
    let spec = idle.iter().fold(Spec::new("appA"), |spec, (name, value)| {
        spec.env(name, value)
    });
    // The table of the database is made by the first sidecar.
    let a = spec.start(&world).await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-107",
        "an idle connection is closed, the next call opens one",
        async {
            let peer =
                GrpcApp::start(|call| Box::pin(answer(call, Manner::EmptyResponseLater))).await?;
            register(&world, "idle", peer.port())?;
            same(
                "first",
                200,
                a.send(&invoke("GET", "idle", "x")).await?.status(),
            )?;
            same(
                "second",
                200,
                a.send(&invoke("GET", "idle", "x")).await?.status(),
            )?;
            same("one connection", 1, peer.connections())?;
            a.program.logged("expired gRPC connection(s) to").await?;
            same(
                "third",
                200,
                a.send(&invoke("GET", "idle", "x")).await?.status(),
            )?;
            same("two connections", 2, peer.connections())
        },
    )
    .await;
    rows.row("SI-106", "3000 calls at once to one peer", async {
        let app = HttpApp::start(|_| Answer::text("never used")).await?;
        drop(app);
        let (all, waiting) = (3000, Arc::new(tokio::sync::Barrier::new(3000)));
        let peer = GrpcApp::start(move |call| {
            let waiting = Arc::clone(&waiting);
            Box::pin(async move {
                // No call is answered before all are there.
                waiting.wait().await;
                answer(call, Manner::EmptyResponseLater).await;
            })
        })
        .await?;
        register(&world, "crowded", peer.port())?;
        let mut clients = Vec::new();
        for _ in 0..60 {
            clients.push(GrpcClient::connect(a.http()).await?);
        }
        let mut calls = Vec::new();
        for number in 0..all {
            let mut call = clients[number % clients.len()]
                .open("/v1.0/invoke/crowded/method/x", &[])
                .await?;
            call.half_close();
            calls.push(call);
        }
        for call in calls {
            let mut call = call;
            wait::within("answer", Duration::from_secs(30), call.headers()).await?;
            let reply = call.finish().await;
            same("status", 200, reply.http_status)?;
        }
        // The reference opens a second connection at 2048 calls; ours is one per peer identity, on purpose.
        same("connections", 1, peer.connections())?;
        Ok(())
    })
    .await;
    rows.close();
}
