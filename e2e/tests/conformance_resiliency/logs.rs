//! The rows `L-nn`: the form of lines, their level, also while the process runs, and the log of the API.

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sidecar, Spec, World, binaries, wait};
use ironside_testkit::http::{HttpApp, Request};
use rustix::process::Signal;

use crate::rig::{get, http_app, invoke_service, same};

struct Set {
    world: World,
    _app: HttpApp,
    b: Sidecar,
}

impl Set {
    async fn start() -> Result<Self> {
        let world = World::new();
        let app = http_app().await?;
        let b = Spec::new("b").app(app.port()).ready(&world).await?;
        Ok(Self {
            world,
            _app: app,
            b,
        })
    }

    async fn caller(&self, spec: Spec) -> Result<Sidecar> {
        spec.start(&self.world).await
    }
}

fn a() -> Spec {
    Spec::new("a")
}

const API: &str = "HTTP API Called";

/// The lines of the API log.
fn api_lines(sidecar: &Sidecar) -> Vec<String> {
    let log = sidecar.program.log();
    let lines = log.lines().filter(|line| line.contains(API));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn the_form_of_lines() {
    let set = Set::start().await.unwrap();
    let mut rows = Rows::of("logs");
    rows.row("L-01, L-02", "each line is an object", async {
        // An app that nobody hears of gives a warning.
        let spec = a()
            .argument("--log-as-json")
            .flag("--app-max-concurrency", "-1");
        let mut sidecar = set.caller(spec).await?;
        sidecar.program.stop().await?;
        let log = sidecar.program.log();
        ensure!(log.lines().count() > 5, "{log}");
        for line in log.lines() {
            let object: serde_json::Value =
                serde_json::from_str(line).with_context(|| line.to_owned())?;
            for key in [
                "app_id", "instance", "level", "msg", "scope", "time", "type", "ver",
            ] {
                ensure!(
                    object.get(key).is_some_and(serde_json::Value::is_string),
                    "{key}: {line}"
                );
            }
            ensure!(
                object.get("level").is_none_or(|level| level != "warn"),
                "{line}"
            );
        }
        ensure!(log.contains("\"level\":\"warning\""), "no warning: {log}");
        Ok(())
    })
    .await;
    rows.row("L-03, L-07", "only warnings, but for the API log", async {
        let spec = a()
            .flag("--log-level", "WARN")
            .argument("--enable-api-logging");
        let sidecar = set.caller(spec).await?;
        sidecar.send(&get("status/200")).await?;
        sidecar.program.logged(API).await?;
        let log = sidecar.program.log();
        let infos = log.lines().filter(|line| line.contains("level=info"));
        let others: Vec<_> = infos.filter(|line| !line.contains(API)).collect();
        ensure!(others.is_empty(), "{others:?}");
        Ok(())
    })
    .await;
    rows.row("L-04", "a word that is no level", async {
        let mut sidecar = a().flag("--log-level", "loud").launch(&set.world);
        let status = sidecar.program.exit(wait::LONG).await?;
        ensure!(!status.success(), "{status}");
        sidecar
            .program
            .logged("invalid value for --log-level: loud")
            .await
    })
    .await;
    rows.row("L-05", "lines in a file", async {
        let file = set.world.path().join("a.txt");
        let spec = a().flag("--log-file", file.to_str().context("a path")?);
        let sidecar = set.caller(spec).await?;
        let text = std::fs::read_to_string(&file)?;
        ensure!(text.contains("level=info"), "{text}");
        let out = sidecar.program.log();
        ensure!(!out.contains("level=info"), "{out}");
        Ok(())
    })
    .await;
    rows.close();
}

/// L-19: neither queries nor tokens are logged.
#[tokio::test]
async fn the_log_of_the_api() {
    let set = Set::start().await.unwrap();
    let mut rows = Rows::of("logs");
    rows.row("L-06", "one line a call", async {
        let sidecar = set.caller(a().argument("--enable-api-logging")).await?;
        sidecar
            .send(&get("status/201?secret=1").header("User-Agent", "u/1"))
            .await?;
        let call = "method=\"GET /v1.0/invoke/b/method/status/201\"";
        sidecar.program.logged(call).await?;
        let lines = api_lines(&sidecar);
        let line = lines
            .iter()
            .find(|line| line.contains(call))
            .context("a line")?;
        for part in [
            "code=201",
            " size=",
            " duration=",
            "useragent=u/1",
            "scope=dapr.runtime.http-info",
        ] {
            ensure!(line.contains(part), "{part}: {line}");
        }
        // L-19: no query.
        ensure!(!line.contains("secret"), "{line}");
        Ok(())
    })
    .await;
    let logging = |keys: &str| format!("  logging:\n    apiLogging:\n      enabled: true\n{keys}");
    rows.row("L-08", "paths are not shown", async {
        let spec = a().configure(&logging("      obfuscateURLs: true\n"));
        let sidecar = set.caller(spec).await?;
        sidecar.send(&get("status/201")).await?;
        sidecar.program.logged("method=InvokeService/b").await?;
        ensure!(
            !sidecar.program.log().contains("status/201"),
            "the path is shown"
        );
        Ok(())
    })
    .await;
    rows.row("L-09", "health checks are left out", async {
        let spec = a().configure(&logging("      omitHealthChecks: true\n"));
        let sidecar = set.caller(spec).await?;
        sidecar.get("/v1.0/healthz").await?;
        sidecar.send(&get("status/201")).await?;
        sidecar.program.logged("status/201").await?;
        let health = |line: &String| line.contains("healthz");
        ensure!(
            !api_lines(&sidecar).iter().any(health),
            "{:?}",
            api_lines(&sidecar)
        );
        Ok(())
    })
    .await;
    rows.row("L-10", "the flag wins", async {
        let spec = a()
            .configure(&logging(""))
            .argument("--enable-api-logging=false");
        let mut sidecar = set.caller(spec).await?;
        sidecar.send(&get("status/201")).await?;
        sidecar.program.stop().await?;
        same("lines", 0, api_lines(&sidecar).len())
    })
    .await;
    rows.row("L-12", "calls of the gRPC API", async {
        let sidecar = set.caller(a().argument("--enable-api-logging")).await?;
        invoke_service(&sidecar, "b", "status/200").await?;
        sidecar.program.logged("gRPC API Called").await?;
        let log = sidecar.program.log();
        let line = log
            .lines()
            .find(|line| line.contains("gRPC API Called"))
            .unwrap_or_default();
        for part in [
            "code=0",
            "method=/dapr.proto.runtime.v1.Dapr/InvokeService",
            "scope=dapr.runtime.grpc.api-info",
        ] {
            ensure!(line.contains(part), "{part}: {line}");
        }
        Ok(())
    })
    .await;
    rows.row("L-13", "a refused token is no call", async {
        let spec = a()
            .argument("--enable-api-logging")
            .env("DAPR_API_TOKEN", "t0ken");
        let mut sidecar = set.caller(spec).await?;
        let refused = sidecar.send(&get("status/201")).await?;
        same("status", 401, refused.status())?;
        sidecar
            .send(&get("status/202").header("dapr-api-token", "t0ken"))
            .await?;
        sidecar.program.logged("status/202").await?;
        sidecar.program.stop().await?;
        let log = sidecar.program.log();
        ensure!(!log.contains("status/201"), "{log}");
        // L-19: the token is in no line.
        ensure!(!log.contains("t0ken"), "{log}");
        Ok(())
    })
    .await;
    rows.close();
    drop(set.b);
}

/// What each probe of the app's health says, at `debug` alone.
const PROBED: &str = "msg=probed";

/// SIGUSR1 sets `debug`, SIGUSR2 restores the level of the start.
#[tokio::test]
async fn the_level_of_a_running_sidecar() {
    let world = World::new();
    let app = http_app().await.unwrap();
    let spec = a()
        .app(app.port())
        .argument("--enable-app-health-check")
        .flag("--app-health-probe-interval", "1");
    let mut sidecar = spec.ready(&world).await.unwrap();
    let program = &sidecar.program;
    assert!(!program.log().contains(PROBED));
    program.signal(Signal::USR1);
    program.logged("Log level set to: debug").await.unwrap();
    program.logged(PROBED).await.unwrap();
    program.signal(Signal::USR2);
    let is_reset = || async {
        let log = sidecar.program.log();
        (log.matches("Log level set to: info").count() == 2).then_some(())
    };
    let reset = wait::until("the level of the start", wait::LONG, is_reset);
    reset.await.unwrap();
    let probes = |sidecar: &Sidecar| sidecar.program.log().matches(PROBED).count();
    let before = probes(&sidecar);
    // As the injected container does it: here it cannot know which of several sidecars is meant.
    let other = Spec::new("c").start(&world).await.unwrap();
    let command = std::process::Command::new(binaries::path("daprd"))
        .args(["log-level", "debug"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&command.stderr).into_owned();
    assert!(
        !command.status.success() && said.contains("sidecars run here"),
        "{said}"
    );
    drop(other);
    sidecar.program.stop().await.unwrap();
    assert_eq!(probes(&sidecar), before);
}

/// Payloads are logged by the sidecar that was asked to, once it has said so, and without what is secret.
#[tokio::test]
async fn payloads_when_somebody_asks() {
    let set = Set::start().await.unwrap();
    let spec = a()
        .argument("--log-payloads")
        .flag("--log-payload-max-bytes", "64")
        .flag("--log-payload-redact", "iban,x-tenant");
    let sidecar = set.caller(spec).await.unwrap();
    let body = r#"{"password":"hunter2","iban":"DE99","item":"book"}"#;
    let post = || Request::new("POST", "/v1.0/invoke/b/method/fail/0/200");
    let request = post()
        .header("Content-Type", "application/json")
        .header("X-Tenant", "acme")
        .body(body);
    let reply = sidecar.send(&request).await.unwrap();
    assert_eq!(reply.text(), body, "the body goes through as it is");
    let program = &sidecar.program;
    for text in [
        "payloads are logged",
        "msg=request",
        "msg=response",
        "scope=dapr.payload",
        "book",
        "<redacted>",
    ] {
        program.logged(text).await.unwrap();
    }
    let long = post()
        .header("Content-Type", "text/plain")
        .body("x".repeat(5000));
    sidecar.send(&long).await.unwrap();
    program.logged("size=5000").await.unwrap();
    let log = program.log();
    assert_eq!(log.matches("payloads are logged").count(), 1);
    for secret in ["hunter2", "DE99", "acme", &"x".repeat(65)] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    assert!(
        !set.b.program.log().contains("book"),
        "nobody asked this one"
    );
}
