//! How long a caller waits is known on the whole way: in both sidecars, and to the app.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, wait};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest},
    runtime::InvokeServiceRequest,
};
use ironside_testkit::{
    grpc::GrpcApp,
    http::{Answer, HttpApp, Reply, Request},
};
use prost::Message as _;

use crate::rig::{not_invoked, resiliency, same};

/// An HTTP app that is told, one that is not, and a gRPC app.
struct Rig {
    told: HttpApp,
    untold: HttpApp,
    grpc: GrpcApp,
    a: Sidecar,
    /// A caller with a policy.
    limited: Sidecar,
    _callees: [Sidecar; 3],
    _world: World,
}

/// What an app heard of its caller's patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Nothing,
    /// More than nothing, and no more than this.
    AtMost(Duration),
}

/// resiliency-observability 6.2, row "Deadline propagation"; 1.11.
#[tokio::test]
async fn the_app_hears_how_much_time_is_left() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("resiliency");
    let (whole, limit) = (Duration::from_secs(90), Duration::from_secs(60));
    let told = Heard::AtMost(whole);
    // Client, target, what the client says, what the app hears.
    for (client, app, says, hears) in [
        ("http", "told", true, told),
        ("http", "told", false, Heard::Nothing),
        ("http", "untold", true, Heard::Nothing),
        ("http", "grpc", true, told),
        ("http", "grpc", false, Heard::Nothing),
        ("invoke", "told", true, told),
        ("invoke", "told", false, Heard::Nothing),
        ("invoke", "untold", true, Heard::Nothing),
        ("invoke", "grpc", true, told),
        ("invoke", "grpc", false, Heard::Nothing),
        ("proxied", "grpc", true, told),
        ("proxied", "grpc", false, Heard::Nothing),
        // A timeout of a policy that is shorter; a client that says nothing.
        ("http", "told limited", true, Heard::AtMost(limit)),
        ("http", "told limited", false, Heard::AtMost(limit)),
        ("invoke", "told limited", false, Heard::AtMost(limit)),
    ] {
        let name = format!("{client} to {app}, deadline {says}");
        rows.row(&name, "the rest of the time", async {
            let heard = rig.call(client, app, says.then_some(whole)).await?;
            match (hears, heard) {
                (Heard::Nothing, None) => Ok(()),
                (Heard::AtMost(most), Some(heard)) => {
                    ensure!(!heard.is_zero() && heard <= most, "{heard:?} of {most:?}");
                    Ok(())
                }
                (hears, heard) => anyhow::bail!("{heard:?}, not {hears:?}"),
            }
        })
        .await;
    }
    rows.row("what is no number", "a header like any other", async {
        drop(rig.told.take());
        let request = invoke("untold").header("dapr-timeout", "2s");
        same("status", 200, rig.a.send(&request).await?.status())?;
        let seen = rig.untold.take();
        same("header", Some("2s"), seen[0].header("dapr-timeout"))
    })
    .await;
    rows.row(
        "time is up",
        "the caller hears it, the app is left",
        async {
            // On a machine that is busy the time may be up before the app hears of the call.
            for millis in ["200", "1000", "5000", "20000"] {
                drop(rig.untold.take());
                let request = invoke("hanging").header("dapr-timeout", millis);
                let reply: Reply = rig.a.send(&request).await?;
                not_invoked(&reply, "context deadline exceeded")?;
                if !rig.untold.seen().is_empty() {
                    return wait::within("the app", wait::LONG, rig.untold.cancelled()).await;
                }
            }
            anyhow::bail!("no call gets to the app")
        },
    )
    .await;
    rows.close();
}

fn invoke(app: &str) -> Request {
    let (app, path) = match app {
        "hanging" => ("untold", "hang"),
        app => (app, "x"),
    };
    Request::get(&format!("/v1.0/invoke/{app}/method/{path}"))
}

impl Rig {
    async fn start() -> Result<Self> {
        let world = World::new();
        let app = || {
            HttpApp::start(|seen| match Path::new(seen.path()).file_name() {
                Some(name) if name == "hang" => Answer::status(200)
                    .pause(Duration::from_secs(600))
                    .body("late"),
                _ => Answer::text("ok"),
            })
        };
        let (told, untold) = (app().await?, app().await?);
        let grpc = GrpcApp::start(|mut call| {
            Box::pin(async move {
                drop(call.message().await);
                call.reply(b"");
                call.end(0, "", &[]);
            })
        })
        .await?;
        let spec =
            "{policies: {timeouts: {short: 60s}}, targets: {apps: {told: {timeout: short}}}}";
        let tells = "  inbound:\n    deadlineHeader: true\n";
        let callees = [
            Spec::new("told")
                .app(told.port())
                .configure(tells)
                .ready(&world)
                .await?,
            Spec::new("untold").app(untold.port()).ready(&world).await?,
            Spec::new("grpc")
                .app(grpc.port())
                .protocol("grpc")
                .ready(&world)
                .await?,
        ];
        let limited = Spec::new("limited").resource("r.yaml", &resiliency("r", spec));
        Ok(Self {
            told,
            untold,
            grpc,
            a: Spec::new("a").start(&world).await?,
            limited: limited.start(&world).await?,
            _callees: callees,
            _world: world,
        })
    }

    /// One call; returns what the app heard.
    async fn call(
        &self,
        client: &str,
        app: &str,
        says: Option<Duration>,
    ) -> Result<Option<Duration>> {
        drop((self.told.take(), self.untold.take(), self.grpc.take()));
        let (app, caller) = match app.strip_suffix(" limited") {
            Some(app) => (app, &self.limited),
            None => (app, &self.a),
        };
        if client == "http" {
            let mut request = invoke(app);
            if let Some(says) = says {
                request = request.header("dapr-timeout", &says.as_millis().to_string());
            }
            let reply = caller.send(&request).await?;
            ensure!(reply.status() == 200, "{reply:?}");
        } else {
            let (path, message) = match client {
                "proxied" => ("/p.S/Call", Vec::new()),
                _ => ("/dapr.proto.runtime.v1.Dapr/InvokeService", message(app)),
            };
            let mut metadata = vec![("dapr-app-id", app)];
            let text = says.map(|says| format!("{}S", says.as_secs()));
            metadata.extend(text.as_deref().map(|text| ("grpc-timeout", text)));
            let reply = caller
                .client()
                .await?
                .call(path, &metadata, &[&message])
                .await?;
            ensure!(reply.code() == Some(0), "{reply:?}");
        }
        let heard = match app {
            "grpc" => {
                let seen = self.grpc.take();
                let call = seen.last().context("a call")?;
                call.header("grpc-timeout").map(grpc_timeout).transpose()?
            }
            app => {
                let seen = if app == "told" {
                    self.told.take()
                } else {
                    self.untold.take()
                };
                let call = seen.last().context("a call")?;
                let text = call.header("dapr-timeout");
                text.map(|text| anyhow::Ok(Duration::from_millis(text.parse()?)))
                    .transpose()?
            }
        };
        Ok(heard)
    }
}

fn message(id: &str) -> Vec<u8> {
    InvokeServiceRequest {
        id: id.to_owned(),
        message: Some(InvokeRequest {
            method: "x".to_owned(),
            http_extension: Some(HttpExtension {
                // GET
                verb: 1,
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
    }
    .encode_to_vec()
}

/// A number of up to eight digits and a unit.
fn grpc_timeout(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at_checked(text.len() - 1).context("a unit")?;
    let number: u64 = number.parse().with_context(|| text.to_owned())?;
    Ok(match unit {
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        other => anyhow::bail!("the unit {other}"),
    })
}
