//! Callers that leave, and callers whose time is up: how long until the app notices.

use std::{pin::pin, time::Duration};

use anyhow::{Result, ensure};
use ironside_e2e::{Sidecar, Spec, World, wait, wait::Stopwatch};
use ironside_proto::{
    common::{HttpExtension, InvokeRequest},
    runtime::InvokeServiceRequest,
};
use ironside_testkit::{
    grpc::{GrpcApp, GrpcClient},
    http::{Answer, Connection, Gate, HttpApp, Request},
};
use prost::Message as _;

/// Done 4: a hundred of each kind; the app notices within a tenth of a second.
#[tokio::test]
#[ignore = "a minute, and it measures: cargo xtask soak cancel"]
async fn cancel() -> Result<()> {
    story(100, Some(Duration::from_millis(100))).await
}

/// The same, once each and without a bound: a loaded machine notices later.
#[tokio::test]
async fn whoever_leaves_is_noticed_by_every_app() -> Result<()> {
    story(1, None).await
}

struct Rig {
    http: HttpApp,
    grpc: GrpcApp,
    a: Sidecar,
    client: GrpcClient,
    _callees: [Sidecar; 2],
    _world: World,
}

async fn story(rounds: usize, bound: Option<Duration>) -> Result<()> {
    let world = World::new();
    let never = Gate::new();
    let http = HttpApp::start(move |_| Answer::status(200).gate(&never).body("never")).await?;
    let grpc = GrpcApp::start(|mut call| Box::pin(async move { call.cancelled().await })).await?;
    let h = Spec::new("h").app(http.port()).ready(&world).await?;
    let g = Spec::new("g").app(grpc.port()).protocol("grpc");
    let g = g.ready(&world).await?;
    let a = Spec::new("a").start(&world).await?;
    let rig = Rig {
        client: a.client().await?,
        http,
        grpc,
        a,
        _callees: [h, g],
        _world: world,
    };
    for kind in [
        Kind::Http,
        Kind::HttpToGrpc,
        Kind::InvokeService,
        Kind::InvokeServiceToGrpc,
        Kind::Proxied,
    ] {
        for is_deadline in [false, true] {
            let mut times = Vec::new();
            let mut tries = 0;
            while times.len() < rounds {
                times.extend(round(&rig, kind, is_deadline).await?);
                tries += 1;
                ensure!(
                    tries < 10 + 2 * rounds,
                    "{kind:?}: calls do not get to the app"
                );
            }
            times.sort_unstable();
            let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
            let what = if is_deadline {
                "deadline of 200 ms"
            } else {
                "leaves"
            };
            eprintln!(
                "cancel: {kind:?}, {what}: {rounds} rounds, the app notices after {median:?}, at worst {worst:?}"
            );
            if let Some(bound) = bound {
                ensure!(worst < bound, "{kind:?}, {what}: {worst:?}");
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Http,
    HttpToGrpc,
    InvokeService,
    InvokeServiceToGrpc,
    Proxied,
}

/// One call that its caller gives up once it is at the app; returns how long the app takes to notice, or nothing if
/// the call never got there.
async fn round(rig: &Rig, kind: Kind, is_deadline: bool) -> Result<Option<Duration>> {
    drop((rig.http.take(), rig.grpc.take()));
    let app = match kind {
        Kind::Http | Kind::InvokeService => "h",
        Kind::HttpToGrpc | Kind::InvokeServiceToGrpc | Kind::Proxied => "g",
    };
    match kind {
        Kind::Http | Kind::HttpToGrpc if is_deadline => {
            let mut connection = Connection::tcp(rig.a.http()).await?;
            let request = Request::get(&format!("/v1.0/invoke/{app}/method/x"));
            let request = request.header("dapr-timeout", "200");
            let watch = Stopwatch::start();
            let mut end = pin!(connection.send(&request));
            // On a machine that is busy the time may be up before the app hears of the call.
            let is_there = tokio::select! {
                there = arrived(rig, app) => there.map(|()| true)?,
                _ = &mut end => false,
            };
            if !is_there {
                return Ok(None);
            }
            noticed(rig, app).await?;
            let took = watch.elapsed();
            let reply = wait::within("the end", wait::LONG, end).await??;
            ensure!(reply.status() == 500, "{reply:?}");
            Ok(Some(took.saturating_sub(Duration::from_millis(200))))
        }
        Kind::Http | Kind::HttpToGrpc => {
            let mut connection = Connection::tcp(rig.a.http()).await?;
            let request = Request::get(&format!("/v1.0/invoke/{app}/method/x"));
            connection.write(request.bytes()).await?;
            arrived(rig, app).await?;
            let watch = Stopwatch::start();
            drop(connection);
            noticed(rig, app).await?;
            Ok(Some(watch.elapsed()))
        }
        Kind::InvokeService | Kind::InvokeServiceToGrpc | Kind::Proxied => {
            let (path, message) = if matches!(kind, Kind::Proxied) {
                ("/p.S/Hang", b"x".to_vec())
            } else {
                ("/dapr.proto.runtime.v1.Dapr/InvokeService", invoke(app))
            };
            let mut metadata = vec![("dapr-app-id", app)];
            if is_deadline {
                metadata.push(("grpc-timeout", "200m"));
            }
            let mut call = rig.client.open(path, &metadata).await?;
            call.send(&message);
            call.half_close();
            if is_deadline {
                let watch = Stopwatch::start();
                let mut end = pin!(call.finish());
                // On a machine that is busy the time may be up before the app hears of the call.
                let is_there = tokio::select! {
                    there = arrived(rig, app) => there.map(|()| true)?,
                    _ = &mut end => false,
                };
                if !is_there {
                    return Ok(None);
                }
                noticed(rig, app).await?;
                let took = watch.elapsed();
                let reply = wait::within("the end", wait::LONG, end).await?;
                ensure!(reply.code() == Some(4), "{reply:?}");
                return Ok(Some(took.saturating_sub(Duration::from_millis(200))));
            }
            arrived(rig, app).await?;
            let watch = Stopwatch::start();
            call.cancel();
            noticed(rig, app).await?;
            Ok(Some(watch.elapsed()))
        }
    }
}

async fn arrived(rig: &Rig, app: &str) -> Result<()> {
    if app == "h" {
        return wait::within("the call", wait::LONG, rig.http.busy(1)).await;
    }
    wait::within(
        "the call",
        wait::LONG,
        rig.grpc.until(|seen| !seen.is_empty()),
    )
    .await
}

async fn noticed(rig: &Rig, app: &str) -> Result<()> {
    if app == "h" {
        return wait::within("the app", wait::LONG, rig.http.cancelled()).await;
    }
    let gone = |seen: &[ironside_testkit::grpc::GrpcSeen]| seen.iter().any(|call| call.cancelled);
    wait::within("the app", wait::LONG, rig.grpc.until(gone)).await
}

fn invoke(app: &str) -> Vec<u8> {
    InvokeServiceRequest {
        id: app.to_owned(),
        message: Some(InvokeRequest {
            method: "x".to_owned(),
            http_extension: Some(HttpExtension {
                // POST
                verb: 3,
                querystring: String::new(),
            }),
            ..InvokeRequest::default()
        }),
    }
    .encode_to_vec()
}
