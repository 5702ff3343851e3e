//! The channel to the app: protocols, concurrency, health, pipelines; SI-128 to SI-138, SI-152.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, wait};
use ironside_testkit::{
    grpc::GrpcApp,
    http::{Answer, Connection, Gate, HttpApp, Reply, Setup},
    tls::SelfSigned,
};

use crate::rig::{Rig, invoke, not_invoked, same};

#[tokio::test]
async fn protocols() {
    let world = World::new();
    let a = Spec::new("appA").start(&world).await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-128", "an app that speaks HTTP/2 in clear", async {
        let app = GrpcApp::start(|mut call| {
            Box::pin(async move {
                let body = call.data().await;
                call.headers(200, &[("content-type", "x/y")]);
                call.bytes(body.into());
                call.end_bare();
            })
        })
        .await?;
        let _b = Spec::new("h2c")
            .app(app.port())
            .protocol("h2c")
            .ready(&world)
            .await?;
        drop(app.take());
        let reply = a.send(&invoke("PUT", "h2c", "foo?q").body("echo")).await?;
        same(
            "answer",
            (200, Some("x/y"), "echo"),
            (reply.status(), reply.header("content-type"), &reply.text()),
        )?;
        let seen = app.take().remove(0);
        same(
            "request",
            (Some("PUT"), "/foo?q"),
            (seen.header(":method"), seen.path()),
        )
    })
    .await;
    rows.row("SI-129", "an app with a self-signed certificate", async {
        let wrap = SelfSigned::new().wrap(&["http/1.1"], None);
        let app = Setup::new(|_| Answer::text("over TLS"))
            .wrap(wrap)
            .start()
            .await?;
        let _b = Spec::new("tls")
            .app(app.port())
            .protocol("https")
            .ready(&world)
            .await?;
        let reply = a.send(&invoke("GET", "tls", "foo")).await?;
        same("answer", (200, "over TLS"), (reply.status(), &reply.text()))
    })
    .await;
    rows.row("SI-130", "an unknown protocol ends the start", async {
        let mut bogus = Spec::new("bogus").protocol("bogus").launch(&world);
        same(
            "exit",
            Some(1),
            bogus.program.exit(wait::LONG).await?.code(),
        )?;
        bogus
            .program
            .logged("invalid value for 'app-protocol': bogus")
            .await
    })
    .await;
    rows.close();
}

async fn get(sidecar: &Sidecar, app: &str, path: &str) -> Result<Reply> {
    Ok(sidecar.send(&invoke("GET", app, path)).await?)
}

#[tokio::test]
async fn concurrency() {
    let world = World::new();
    let a = Spec::new("appA").start(&world).await.unwrap();
    let gate = Gate::new();
    let app = crate::rig::http_app(&gate).await.unwrap();
    let spec = Spec::new("narrow")
        .app(app.port())
        .flag("--app-max-concurrency", "1");
    let _b = spec.ready(&world).await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-131", "one at a time, all served", async {
        (0..3).for_each(|_| gate.open());
        let all = tokio::join!(
            get(&a, "narrow", "gate"),
            get(&a, "narrow", "gate"),
            get(&a, "narrow", "gate")
        );
        for reply in [all.0?, all.1?, all.2?] {
            same("status", 200, reply.status())?;
        }
        same("at once", 1, app.peak())
    })
    .await;
    rows.row("SI-132", "a waiter that leaves frees its place", async {
        drop(app.take());
        let mut first = Connection::tcp(a.http()).await?;
        first.write(invoke("GET", "narrow", "gate").bytes()).await?;
        app.busy(1).await;
        let mut waiter = Connection::tcp(a.http()).await?;
        waiter
            .write(invoke("GET", "narrow", "gate").bytes())
            .await?;
        drop(waiter);
        gate.open();
        same("first", 200, first.reply("GET").await?.status())?;
        // Two: the waiter may have got as far as the app before it was missed.
        gate.open();
        gate.open();
        let third = wait::within("third call", wait::LONG, get(&a, "narrow", "gate")).await??;
        same("third", 200, third.status())
    })
    .await;
    rows.close();
}

/// An app whose probe answers as a switch says.
async fn probed(healthy: &tokio::sync::watch::Receiver<bool>) -> Result<HttpApp> {
    let healthy = healthy.clone();
    let app = HttpApp::start(move |seen| match (seen.path(), *healthy.borrow()) {
        ("/healthz", false) => Answer::status(503),
        _ => Answer::text("ok"),
    });
    Ok(app.await?)
}

#[tokio::test]
async fn app_health() {
    let world = World::new();
    let a = Spec::new("appA").start(&world).await.unwrap();
    let mut rows = Rows::of("service-invocation");
    let unhealthy = "error invoking app channel: rpc error: code = Internal desc = app is not in a healthy state";
    let checked = |id: &str, app: &HttpApp| {
        let spec = Spec::new(id)
            .app(app.port())
            .argument("--enable-app-health-check");
        spec.flag("--app-health-probe-interval", "1")
            .flag("--app-health-threshold", "2")
    };
    rows.row(
        "SI-134",
        "before the first good probe the app is unhealthy",
        async {
            let (_switch, healthy) = tokio::sync::watch::channel(false);
            let app = probed(&healthy).await?;
            let _b = checked("sick", &app).start(&world).await?;
            app.arrived(1).await;
            not_invoked(&get(&a, "sick", "foo").await?, unhealthy)
        },
    )
    .await;
    rows.row(
        "SI-133",
        "bad probes close the way, the first good one opens it",
        async {
            let (switch, healthy) = tokio::sync::watch::channel(true);
            let app = probed(&healthy).await?;
            let _b = checked("moody", &app).start(&world).await?;
            let calls = |status: u16| {
                let a = &a;
                let look = move || async move {
                    get(a, "moody", "foo")
                        .await
                        .ok()
                        .filter(|reply| reply.status() == status)
                };
                wait::until("change of health", wait::LONG, look)
            };
            calls(200).await?;
            switch.send_replace(false);
            not_invoked(&calls(500).await?, unhealthy)?;
            switch.send_replace(true);
            calls(200).await?;
            Ok(())
        },
    )
    .await;
    rows.row(
        "SI-135",
        "a probe timeout above the interval ends the start",
        async {
            let spec = Spec::new("late")
                .flag("--app-health-probe-interval", "1")
                .flag("--app-health-probe-timeout", "2000");
            let mut late = spec.launch(&world);
            same("exit", Some(1), late.program.exit(wait::LONG).await?.code())
        },
    )
    .await;
    rows.close();
}

fn component(name: &str, kind: &str, metadata: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: middleware.http.{kind}\n  version: v1\n{metadata}"
    )
}

fn pipeline(key: &str, handlers: &[(&str, &str)]) -> String {
    let list = handlers
        .iter()
        .map(|(name, kind)| format!("    - name: {name}\n      type: middleware.http.{kind}\n"));
    format!("  {key}:\n    handlers:\n{}", list.collect::<String>())
}

fn alias(from: &str, to: &str) -> String {
    format!("  metadata:\n  - name: routes\n    value: '{{\"{from}\": \"{to}\"}}'\n")
}

#[tokio::test]
async fn pipelines() {
    let rig = Rig::start().await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-136",
        "a handler whose component is not loaded is skipped",
        async {
            let missing = pipeline("httpPipeline", &[("absent", "uppercase")]);
            let caller = Spec::new("missing")
                .configure(&missing)
                .start(&rig.world)
                .await?;
            same("status", 200, get(&caller, "appB", "foo").await?.status())
        },
    )
    .await;
    rows.row("SI-137", "handlers run in the order of the list", async {
        let first = component("first", "routeralias", &alias("/one", "/two"));
        let second = component(
            "second",
            "routeralias",
            &alias("/two", "/v1.0/invoke/appB/method/landed"),
        );
        for (order, status) in [(["first", "second"], 200), (["second", "first"], 404)] {
            let handlers = order.map(|name| (name, "routeralias"));
            let spec = Spec::new(order[0]).configure(&pipeline("httpPipeline", &handlers));
            let spec = spec
                .resource("first.yaml", &first)
                .resource("second.yaml", &second);
            let caller = spec.start(&rig.world).await?;
            drop(rig.app_b.take());
            same(order[0], status, caller.get("/one").await?.status())?;
            let landed = rig
                .app_b
                .take()
                .iter()
                .filter(|seen| seen.path() == "/landed")
                .count();
            same("landed", usize::from(status == 200), landed)?;
        }
        Ok(())
    })
    .await;
    rows.row("SI-138", "a pipeline in front of the app", async {
        let spec = Spec::new("loud").app(rig.app_b.port());
        let spec = spec.resource("up.yaml", &component("up", "uppercase", ""));
        let _loud = spec
            .configure(&pipeline("appHttpPipeline", &[("up", "uppercase")]))
            .ready(&rig.world)
            .await?;
        let reply = rig
            .a
            .send(&invoke("POST", "loud", "echo").body("quiet"))
            .await?;
        same("answer", (200, "QUIET"), (reply.status(), &reply.text()))
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn init_endpoints() {
    let world = World::new();
    let mut rows = Rows::of("service-invocation");
    rows.row(
        "SI-152",
        "the app is asked for its configuration once, unless that is disabled",
        async {
            let app = HttpApp::start(|_| Answer::text("{}")).await?;
            let _asked = Spec::new("asked")
                .init_endpoints()
                .app(app.port())
                .ready(&world)
                .await?;
            wait::within("question", Duration::from_secs(5), app.arrived(1)).await?;
            let seen = app.take();
            let first = seen.first().context("nothing came")?;
            same(
                "request",
                ("GET", "/dapr/config", Some("asked")),
                (first.method(), first.path(), first.header("dapr-app-id")),
            )?;
            let spec = Spec::new("unasked").app(app.port());
            let unasked = spec.ready(&world).await?;
            unasked
                .program
                .logged("Skipping programmatic dapr configuration loading")
                .await?;
            ensure!(app.take().is_empty(), "the app was asked all the same");
            Ok(())
        },
    )
    .await;
    rows.close();
}
