//! Bodies, streams and their limits: SI-044 to SI-049, SI-053 to SI-059, SI-162.

use std::time::Duration;

use anyhow::{Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, wait};
use ironside_testkit::http::{Connection, Cursor, End, Framing, Request, client::encode_chunk};

use crate::rig::{Rig, invoke, not_invoked, same};

const LIMIT: usize = 4 << 20;

/// Growth of a sidecar's memory that is still called flat, for a body of 256 MiB.
const FLAT_KIB: u64 = 32 << 10;

#[tokio::test]
async fn limits() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-044",
        "4 MiB pass, one byte more is refused in both forms",
        async {
            let (reply, seen) = rig
                .through(&Request::post(
                    "/v1.0/invoke/appB/method/up",
                    vec![b'x'; LIMIT],
                ))
                .await?;
            same(
                "exactly the limit",
                (200, LIMIT as u64),
                (reply.status(), seen.length),
            )?;
            let over = vec![b'x'; LIMIT + 1];
            let post = || invoke("POST", "appB", "up");
            for request in [post().body(&over), post().chunked(over.chunks(10_000))] {
                drop(rig.app_b.take());
                not_invoked(&rig.a.send(&request).await?, "stream too large")?;
                let whole = rig
                    .app_b
                    .take()
                    .iter()
                    .filter(|seen| seen.end == End::Whole)
                    .count();
                same("whole requests at the app", 0, whole)?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("SI-045", "a raised limit", async {
        let big = Spec::new("big")
            .flag("--max-body-size", "16Mi")
            .start(&rig.world)
            .await?;
        drop(rig.app_b.take());
        let reply = big
            .send(&invoke("POST", "appB", "up").body(vec![b'x'; 10 << 20]))
            .await?;
        same(
            "answer",
            (200, 10 << 20),
            (reply.status(), rig.app_b.take()[0].length),
        )
    })
    .await;
    rows.row("SI-048", "a head above about 9 KiB", async {
        let reply = rig
            .refused(&invoke("GET", "appB", "foo").header("X-Big", &"y".repeat(9 << 10)))
            .await?;
        same("status", 431, reply.status())?;
        same("reason", "Request Header Fields Too Large", reply.reason())?;
        let (reply, _) = rig
            .through(&invoke("GET", "appB", "foo").header("X-Big", &"y".repeat(7 << 10)))
            .await?;
        same("status below", 200, reply.status())
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn large_bodies_leave_memory_flat() {
    let rig = Rig::start_with(|spec| spec.flag("--max-body-size", "1Gi"))
        .await
        .unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-046", "a response of 256 MiB", async {
        let before = [rig.a.program.resident_kib(), rig.b.program.resident_kib()];
        let mut connection = Connection::tcp(rig.a.http()).await?;
        connection
            .write(invoke("GET", "appB", "large").bytes())
            .await?;
        let head = connection.head().await?;
        let mut cursor = Cursor::new(head.reply_framing("GET"));
        let (mut length, mut peak) = (0, before);
        while let Some(piece) = connection.piece(&mut cursor).await {
            length += piece.len();
            if length % (8 << 20) < piece.len() {
                sample(&mut peak, [&rig.a, &rig.b]);
            }
        }
        same(
            "body",
            (256 << 20, Some(End::Whole)),
            (length, cursor.end()),
        )?;
        flat(before, peak)
    })
    .await;
    rows.row("SI-047", "a chunked request of 256 MiB", async {
        drop(rig.app_b.take());
        let before = [rig.a.program.resident_kib(), rig.b.program.resident_kib()];
        let mut peak = before;
        let mut connection = Connection::tcp(rig.a.http()).await?;
        connection
            .write(
                invoke("POST", "appB", "up")
                    .header("Transfer-Encoding", "chunked")
                    .bytes(),
            )
            .await?;
        let chunk = encode_chunk(&vec![b'u'; 1 << 20]);
        for round in 0..256 {
            connection.write(&chunk).await?;
            if round % 8 == 0 {
                sample(&mut peak, [&rig.a, &rig.b]);
            }
        }
        connection.write(b"0\r\n\r\n").await?;
        same("status", 200, connection.reply("POST").await?.status())?;
        same(
            "body",
            (256 << 20, End::Whole),
            (rig.app_b.take()[0].length, End::Whole),
        )?;
        flat(before, peak)
    })
    .await;
    rows.close();
}

fn sample(peak: &mut [u64; 2], sidecars: [&Sidecar; 2]) {
    for (most, sidecar) in peak.iter_mut().zip(sidecars) {
        *most = (*most).max(sidecar.program.resident_kib());
    }
}

fn flat(before: [u64; 2], peak: [u64; 2]) -> Result<()> {
    for (before, peak) in before.into_iter().zip(peak) {
        ensure!(
            peak.saturating_sub(before) < FLAT_KIB,
            "memory grew from {before} to {peak} KiB"
        );
    }
    Ok(())
}

#[tokio::test]
async fn streams() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-049",
        "a chunked request that fails is sent once, its answer streamed",
        async {
            let (reply, _) = rig
                .through(&invoke("POST", "appB", "status/500").chunked(["a", "b"]))
                .await?;
            same(
                "answer",
                (500, "body of 500"),
                (reply.status(), &reply.text()),
            )
        },
    )
    .await;
    rows.row(
        "SI-053",
        "the first half arrives while the app still waits",
        async {
            let mut connection = Connection::tcp(rig.a.http()).await?;
            connection
                .write(invoke("GET", "appB", "halves").bytes())
                .await?;
            let head = connection.head().await?;
            let mut cursor = Cursor::new(head.reply_framing("GET"));
            let mut got = 0;
            while got < 16 << 10 {
                got += connection
                    .piece(&mut cursor)
                    .await
                    .map_or(1 << 20, |piece| piece.len());
            }
            same("before the signal", 16 << 10, got)?;
            rig.gate.open();
            let mut rest = Vec::new();
            while let Some(piece) = connection.piece(&mut cursor).await {
                rest.extend(piece);
            }
            same(
                "after it",
                (&b"second half"[..], Some(End::Whole)),
                (&rest, cursor.end()),
            )
        },
    )
    .await;
    rows.row(
        "SI-054",
        "an app that sends less than it promised: what came, then a visible end",
        async {
            for path in ["short", "cut"] {
                let (reply, _) = rig.through(&invoke("GET", "appB", path)).await?;
                // The reference ends the body like a whole one; ours must not (1.10, "failure after the first byte").
                same(
                    path,
                    (200, "four", End::Cut),
                    (reply.status(), &reply.text(), reply.end),
                )?;
            }
            Ok(())
        },
    )
    .await;
    rows.row(
        "SI-162",
        "Expect: 100-continue without an answer of the app is delivered after a second",
        async {
            let watch = wait::Stopwatch::start();
            let request = invoke("POST", "appB", "foo")
                .header("Expect", "100-continue")
                .body("hi");
            let (reply, seen) = rig.through(&request).await?;
            same("answer", (200, "hi"), (reply.status(), &seen.text()))?;
            same("header", Some("100-continue"), seen.header("expect"))?;
            let took = watch.elapsed();
            ensure!(
                took > Duration::from_millis(900) && took < Duration::from_secs(3),
                "took {took:?}"
            );
            Ok(())
        },
    )
    .await;
    rows.close();
}

#[tokio::test]
async fn server_sent_events() {
    let rig = Rig::start_with(|spec| {
        spec.env("DAPR_GRPC_MAX_CONN_IDLE", "300ms")
            .env("DAPR_GRPC_CONN_COLLECTOR_INTERVAL", "100ms")
    })
    .await
    .unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-056",
        "ten events, each before the next is made",
        async {
            let mut connection = Connection::tcp(rig.a.http()).await?;
            connection
                .write(
                    invoke("GET", "appB", "events/10")
                        .header("Accept", "text/event-stream")
                        .bytes(),
                )
                .await?;
            rig.gate.open();
            let head = connection.head().await?;
            same(
                "type",
                Some("text/event-stream"),
                head.header("content-type"),
            )?;
            same("caching", Some("no-cache"), head.header("cache-control"))?;
            let mut cursor = Cursor::new(head.reply_framing("GET"));
            for number in 0..10 {
                let event =
                    wait::within("event", wait::LONG, connection.piece(&mut cursor)).await?;
                same(
                    "event",
                    Some(format!("data: {number}\n\n").into_bytes()),
                    event,
                )?;
                if number < 9 {
                    rig.gate.open();
                }
            }
            same("end", None, connection.piece(&mut cursor).await)?;
            same("end", Some(End::Whole), cursor.end())
        },
    )
    .await;
    rows.row("SI-057", "an event stream that the app refuses", async {
        let reply = rig
            .a
            .send(&invoke("GET", "appB", "status/404").header("Accept", "text/event-stream"))
            .await?;
        not_invoked(&reply, "no response received from stream")
    })
    .await;
    rows.row(
        "SI-058",
        "a stream outlives the idle limit of the pool",
        async {
            let mut connection = Connection::tcp(rig.a.http()).await?;
            connection
                .write(
                    invoke("GET", "appB", "events/2")
                        .header("Accept", "text/event-stream")
                        .bytes(),
                )
                .await?;
            rig.gate.open();
            let head = connection.head().await?;
            let mut cursor = Cursor::new(head.reply_framing("GET"));
            same("first", true, connection.piece(&mut cursor).await.is_some())?;
            // Longer than the idle limit: the limit itself is the condition.
            tokio::time::sleep(Duration::from_millis(900)).await;
            rig.gate.open();
            same(
                "second",
                Some(b"data: 1\n\n".to_vec()),
                connection.piece(&mut cursor).await,
            )?;
            same("last", None, connection.piece(&mut cursor).await)?;
            same("end", Some(End::Whole), cursor.end())
        },
    )
    .await;
    rows.row("SI-059", "a list in Accept is no event stream", async {
        let list = "text/event-stream, */*";
        let (reply, seen) = rig
            .through(&invoke("GET", "appB", "status/404").header("Accept", list))
            .await?;
        same(
            "answer",
            (404, "body of 404"),
            (reply.status(), &reply.text()),
        )?;
        same("accept", Some(list), seen.header("accept"))?;
        same("framing", Framing::Length(11), reply.framing)
    })
    .await;
    rows.close();
}
