//! gRPC calls that pass through: policies by their codes, streams, limits.

use std::time::Duration;

use anyhow::{Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, ports, wait};
use ironside_testkit::grpc::{Exchange, GrpcApp, GrpcReply, Running};

use crate::rig::{contains, invoke_service, register, resiliency, said, same, timed};

/// `/p.S/Code<n>` ends with that code; the others are named below.
fn app(mut call: Exchange) -> Running {
    Box::pin(async move {
        let method = call
            .path()
            .rsplit('/')
            .next()
            .unwrap_or_default()
            .to_owned();
        if let Some(code) = method.strip_prefix("Code") {
            drop(call.message().await);
            return call.end(code.parse().unwrap_or(2), "as asked", &[("x-trail", "1")]);
        }
        match method.as_str() {
            // Headers first, then the status: no message.
            "Late" => {
                drop(call.message().await);
                call.begin_reply(&[("x-init", "1")]);
                call.end(14, "late", &[]);
            }
            "Echo" => {
                call.begin_reply(&[("x-init", "1")]);
                while let Some(message) = call.message().await {
                    call.reply(&message);
                }
                call.end(0, "", &[]);
            }
            // One message, then nothing for ever.
            "Drip" => {
                drop(call.message().await);
                call.begin_reply(&[]);
                call.reply(b"one");
                call.cancelled().await;
            }
            // A head, then nothing for ever.
            "Head" => {
                call.begin_reply(&[]);
                call.cancelled().await;
            }
            // Takes messages without a word until the caller has no more.
            "Swallow" => {
                while call.message().await.is_some() {}
                call.end(0, "", &[]);
            }
            "Hang" => call.cancelled().await,
            "OnInvoke" => call.end(14, "gone fishing", &[]),
            _ => call.end(12, "unknown", &[]),
        }
    })
}

struct Rig {
    world: World,
    app: GrpcApp,
    _g: Sidecar,
}

impl Rig {
    async fn start() -> Result<Self> {
        let world = World::new();
        let app = GrpcApp::start(app).await?;
        let g = Spec::new("g").app(app.port()).protocol("grpc");
        let g = g.ready(&world).await?;
        Ok(Self { world, app, _g: g })
    }

    async fn caller(&self, id: &str, spec: &str) -> Result<Sidecar> {
        let spec = Spec::new(id).resource("r.yaml", &resiliency("r", spec));
        spec.start(&self.world).await
    }

    /// Calls a method; returns the answer and how often it reached the app.
    async fn calls(&self, a: &Sidecar, method: &str) -> Result<(GrpcReply, usize)> {
        drop(self.app.take());
        let client = a.client().await?;
        let path = format!("/p.S/{method}");
        let reply = client.call(&path, &[("dapr-app-id", "g")], &[b"x"]).await?;
        Ok((reply, self.app.take().len()))
    }
}

/// R-04, R-28 to R-30, R-55, R-78: codes decide.
#[tokio::test]
async fn codes_decide() {
    let rig = Rig::start().await.unwrap();
    let plain = Spec::new("plain").start(&rig.world).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-04", "nobody listens: no built-in retry", async {
        register(&rig.world, "gone", ports::free())?;
        let client = plain.client().await?;
        let call = client.call("/p.S/Echo", &[("dapr-app-id", "gone")], &[b"x"]);
        let (reply, took) = timed(call).await;
        let reply = reply?;
        same("code", Some(14), reply.code())?;
        contains("message", &reply.message(), "connection refused")?;
        ensure!(took < Duration::from_secs(2), "took {took:?}");
        Ok(())
    })
    .await;
    rows.row("R-28 R-29", "codes choose what is retried", async {
        let spec = "{policies: {retries: {r: {duration: 1ms, maxRetries: 2, matching: {gRPCStatusCodes: \"1,2,5-7\"}}}}, \
                    targets: {apps: {g: {retry: r}}}}";
        let a = rig.caller("codes", spec).await?;
        for (code, want) in [(1, 3), (6, 3), (14, 1), (20, 1)] {
            let (reply, calls) = rig.calls(&a, &format!("Code{code}")).await?;
            same("calls", (want, Some(code)), (calls, reply.code()))?;
            let trailers = reply.trailers.iter().filter(|(name, _)| name == "x-trail");
            ensure!(trailers.count() <= 1, "trailers of failed attempts");
        }
        Ok(())
    })
    .await;
    rows.row("R-30", "without matching every code is retried", async {
        let spec = "{policies: {retries: {r: {duration: 1ms, maxRetries: 2}}}, targets: {apps: {g: {retry: r}}}}";
        let a = rig.caller("all", spec).await?;
        for (method, code) in [("Code5", 5), ("Late", 14)] {
            let (reply, calls) = rig.calls(&a, method).await?;
            same(method, (3, Some(code)), (calls, reply.code()))?;
        }
        drop(rig.app.take());
        let (reply, calls) = rig.calls(&a, "Echo").await?;
        same("a success", (1, Some(0)), (calls, reply.code()))
    })
    .await;
    rows.row("R-55", "an open breaker", async {
        let spec = "{policies: {circuitBreakers: {c: {trip: consecutiveFailures >= 2}}}, targets: {apps: {g: {circuitBreaker: c}}}}";
        let a = rig.caller("breaker", spec).await?;
        for method in ["Code5", "Code5"] {
            let (reply, calls) = rig.calls(&a, method).await?;
            same(method, (1, Some(5)), (calls, reply.code()))?;
        }
        let (reply, calls) = rig.calls(&a, "Code5").await?;
        same("refused", (0, Some(2)), (calls, reply.code()))?;
        same("message", "circuit breaker is open", reply.message().as_str())?;
        said(&a, "Circuit breaker \"g:/p.S/Code5\" changed state from closed to open").await?;
        // A status that comes after a head counts too.
        for _ in 0..2 {
            rig.calls(&a, "Late").await?;
        }
        let (reply, calls) = rig.calls(&a, "Late").await?;
        same("refused", (0, Some(2)), (calls, reply.code()))
    })
    .await;
    rows.row("R-78", "a gRPC app's error is an answer", async {
        drop(rig.app.take());
        let reply = invoke_service(&plain, "g", "x").await?;
        same(
            "InvokeService",
            (Some(14), 1),
            (reply.code(), rig.app.take().len()),
        )?;
        let request = ironside_testkit::http::Request::get("/v1.0/invoke/g/method/x");
        let reply = plain.send(&request).await?;
        same("HTTP", (503, 1), (reply.status(), rig.app.take().len()))
    })
    .await;
    rows.close();
}

/// R-34, R-62 to R-65: streams and limits.
#[tokio::test]
async fn streams_and_limits() {
    let rig = Rig::start().await.unwrap();
    let timed_out = "{policies: {timeouts: {t: 300ms}}, targets: {apps: {g: {timeout: t}}}}";
    let limited = rig.caller("limited", timed_out).await.unwrap();
    let retries = "{policies: {retries: {r: {duration: 1ms, maxRetries: 2}}}, targets: {apps: {g: {retry: r}}}}";
    let retrying = rig.caller("retrying", retries).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-34", "a call that is too slow", async {
        let (reply, calls) = rig.calls(&limited, "Hang").await?;
        same("code", (Some(4), 1), (reply.code(), calls))?;
        same(
            "message",
            "context deadline exceeded",
            reply.message().as_str(),
        )
    })
    .await;
    rows.row("R-65", "a server stream is cut", async {
        let (reply, _) = rig.calls(&limited, "Drip").await?;
        same("code", Some(4), reply.code())?;
        same("messages", 1, reply.messages.len())
    })
    .await;
    rows.row(
        "R-62",
        "a second message where one may be repeated",
        async {
            let client = retrying.client().await?;
            let mut call = client.open("/p.S/Echo", &[("dapr-app-id", "g")]).await?;
            call.send(b"one");
            call.send(b"two");
            call.half_close();
            let reply = wait::within("an end", wait::LONG, call.finish()).await?;
            same("code", Some(9), reply.code())?;
            let text = "cannot use resiliency policies with retries on streaming RPCs";
            same("message", text, reply.message().as_str())
        },
    )
    .await;
    for (id, a) in [("R-63", &retrying), ("R-64", &limited)] {
        rows.row(id, "the same, said to be a stream", async {
            let client = a.client().await?;
            let metadata = [("dapr-app-id", "g"), ("dapr-stream", " TRUE ")];
            let mut call = client.open("/p.S/Echo", &metadata).await?;
            for round in 0..6_u8 {
                call.send(&[round]);
                let message = wait::within("an echo", wait::LONG, call.message()).await?;
                same("echo", Some(vec![round]), message)?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            call.half_close();
            let reply = wait::within("an end", wait::LONG, call.finish()).await?;
            same("code", Some(0), reply.code())
        })
        .await;
    }
    rows.close();
}

/// Row "Deadline propagation" of 6.2: a stream without any part in either direction ends, others go on.
#[tokio::test]
async fn quiet_streams_end() {
    let rig = Rig::start().await.unwrap();
    let trip = "circuitBreakers: {c: {trip: consecutiveFailures >= 1}}";
    let spec = format!(
        "{{policies: {{{trip}}}, targets: {{apps: {{g: {{circuitBreaker: c, idleTimeout: 1s}}}}}}}}"
    );
    let plain = rig.caller("idle", &spec).await.unwrap();
    let spec = format!(
        "{{policies: {{{trip}, retries: {{r: {{duration: 1ms, maxRetries: 2}}}}}}, \
         targets: {{apps: {{g: {{retry: r, circuitBreaker: c, idleTimeout: 1s}}}}}}}}"
    );
    let retrying = rig.caller("idle-retrying", &spec).await.unwrap();
    let mut rows = Rows::of("resiliency");
    for (name, a, method, stream) in [
        ("plain", &plain, "Drip", "true"),
        ("plain", &plain, "Drip", "false"),
        // No fault of the app: its breaker lets the next one through.
        ("again", &plain, "Drip", "false"),
        ("plain", &plain, "Hang", "true"),
        ("retrying", &retrying, "Head", "false"),
        ("again", &retrying, "Head", "false"),
        ("retrying", &retrying, "Drip", "false"),
    ] {
        rows.row(
            "idle",
            &format!("{name}: {method}, stream: {stream}"),
            async {
                drop(rig.app.take());
                let client = a.client().await?;
                let metadata = [("dapr-app-id", "g"), ("dapr-stream", stream)];
                let mut call = client.open(&format!("/p.S/{method}"), &metadata).await?;
                call.send(b"x");
                let (reply, took) = timed(wait::within("an end", wait::LONG, call.finish())).await;
                let reply = reply?;
                same("code", Some(4), reply.code())?;
                same(
                    "text",
                    "nothing came or went for 1s (idleTimeout)",
                    &*reply.message(),
                )?;
                ensure!(took >= Duration::from_secs(1), "took {took:?}");
                // Its app is told, and not asked again.
                let told = rig.app.until(|seen| seen.iter().all(|seen| seen.cancelled));
                wait::within("the end at the app", wait::LONG, told).await?;
                same("calls", 1, rig.app.seen().len())
            },
        )
        .await;
    }
    rows.row("idle", "messages of the caller count as well", async {
        // Longer than a busy machine stalls, shorter than the call.
        let spec = "{targets: {apps: {g: {idleTimeout: 5s}}}}";
        let a = rig.caller("talking", spec).await?;
        let client = a.client().await?;
        let metadata = [("dapr-app-id", "g"), ("dapr-stream", "true")];
        let mut call = client.open("/p.S/Swallow", &metadata).await?;
        for round in 0..4_u8 {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            call.send(&[round]);
        }
        call.half_close();
        let reply = wait::within("an end", wait::LONG, call.finish()).await?;
        same("code", Some(0), reply.code())
    })
    .await;
    rows.close();
}
