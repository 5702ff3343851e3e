//! The programs as processes: chapter 10 of the fact sheet `process-interface.md`.

#![cfg(test)]

use std::{fmt::Debug, fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sentry, Sidecar, Spec, World, binaries, ports, program::Program, wait};
use ironside_testkit::http::{self, Answer, Connection, HttpApp, Request};
use rustix::process::Signal;

fn same<T: PartialEq + Debug>(what: &str, expected: T, found: T) -> Result<()> {
    ensure!(
        expected == found,
        "{what}: expected {expected:?}, found {found:?}"
    );
    Ok(())
}

async fn ends(mut sidecar: Sidecar, code: i32) -> Result<String> {
    let status = sidecar.program.exit(wait::LONG).await?;
    ensure!(
        status.code() == Some(code),
        "{status}: {}",
        sidecar.program.log()
    );
    Ok(sidecar.program.log())
}

/// Runs `daprd` with bare arguments and an empty environment to its end.
async fn daprd(world: &World, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(binaries::path("daprd"));
    let mut program = Program::start(world, "daprd", command.env_clear().args(arguments));
    let status = program.exit(wait::LONG).await?;
    Ok((status.code(), program.log()))
}

#[tokio::test]
async fn flags() {
    let world = World::new();
    let mut rows = Rows::of("process-interface");
    rows.row("1", "single dashes", async {
        let spec = Spec::new("dashes")
            .argument("-mode")
            .argument("standalone")
            .argument("-log-level")
            .argument("debug");
        spec.start(&world).await.map(drop)
    })
    .await;
    rows.row("2", "an unknown flag, a value of the wrong type", async {
        same(
            "unknown",
            Some(2),
            daprd(&world, &["--no-such-flag"]).await?.0,
        )?;
        ends(Spec::new("x").flag("--app-port", "x").launch(&world), 1)
            .await
            .map(drop)
    })
    .await;
    rows.row("3", "a dot in the id", async {
        let log = ends(Spec::new("a.b").launch(&world), 1).await?;
        ensure!(
            log.contains("parameter app-id cannot contain dots"),
            "{log}"
        );
        let (code, log) = daprd(&world, &[]).await?;
        same("without id", Some(1), code)?;
        ensure!(log.contains("parameter app-id cannot be empty"), "{log}");
        Ok(())
    })
    .await;
    rows.row("4", "protocols in capitals, and unknown ones", async {
        drop(Spec::new("capitals").protocol("HTTP").start(&world).await?);
        let log = ends(Spec::new("ftp").protocol("ftp").launch(&world), 1).await?;
        ensure!(
            log.contains("invalid value for 'app-protocol': ftp"),
            "{log}"
        );
        Ok(())
    })
    .await;
    rows.row(
        "17",
        "HTTP port 0 equals the app port that is not set",
        async {
            let arguments = [
                "--app-id",
                "zero",
                "--dapr-http-port",
                "0",
                "--metrics-port",
                &ports::free().to_string(),
            ];
            same("exit", Some(1), daprd(&world, &arguments).await?.0)
        },
    )
    .await;
    rows.row("22", "an empty environment", async {
        let (code, log) = daprd(&world, &["--version"]).await?;
        ensure!(
            code == Some(0) && log.lines().count() == 1,
            "{code:?} {log}"
        );
        let (code, log) = daprd(&world, &["--build-info"]).await?;
        let starts = ["Version: ", "Git Commit: ", "Git Version: "];
        let fits = log
            .lines()
            .zip(starts)
            .all(|(line, start)| line.starts_with(start));
        ensure!(
            code == Some(0) && fits && log.lines().count() == 3,
            "{code:?} {log}"
        );
        Ok(())
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn signals() {
    let world = World::new();
    let mut rows = Rows::of("process-interface");
    rows.row("5", "SIGTERM while waiting for the app", async {
        let mut waiting = Spec::new("waiting")
            .app(ports::free())
            .start(&world)
            .await?;
        waiting.program.logged("waiting on port").await?;
        same("exit", Some(0), waiting.program.stop().await?.code())
    })
    .await;
    rows.row(
        "8",
        "mTLS without Sentry: ports refuse, SIGTERM is a clean end",
        async {
            let anchors = ironside_testkit::certs::Ca::new().root_pem();
            let spec = Spec::new("lonely")
                .argument("--enable-mtls")
                .env("DAPR_TRUST_ANCHORS", &anchors);
            let mut lonely = spec
                .flag("--sentry-address", &format!("127.0.0.1:{}", ports::free()))
                .launch(&world);
            lonely.program.logged("Fetching initial identity").await?;
            ensure!(
                Connection::tcp(lonely.http()).await.is_err(),
                "a port is open"
            );
            same("exit", Some(0), lonely.program.stop().await?.code())
        },
    )
    .await;
    rows.row(
        "10",
        "SIGHUP after an edit: same process, new behaviour",
        async {
            let app = HttpApp::start(|_| Answer::text("ok")).await?;
            let spec = Spec::new("reloading").app(app.port());
            let sidecar = spec.ready(&world).await?;
            let asked = || async { sidecar.get("/v1.0/invoke/reloading/method/x").await };
            ensure!(
                asked().await?.header("traceparent").is_some(),
                "no traceparent before"
            );
            let config = fs::read_dir(world.path())?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| {
                    path.file_name().is_some_and(|name| {
                        name.to_string_lossy().starts_with("reloading-")
                            && path
                                .extension()
                                .is_some_and(|extension| extension == "yaml")
                    })
                })
                .context("the configuration of the sidecar")?;
            let text = fs::read_to_string(&config)?;
            fs::write(
                &config,
                format!("{text}  tracing:\n    samplingRate: \"0\"\n"),
            )?;
            let mut kept = Connection::tcp(sidecar.http()).await?;
            let before = kept.send(&Request::get("/v1.0/healthz")).await?;
            same("kept connection", 204, before.status())?;
            sidecar.program.signal(Signal::HUP);
            let changed = || async {
                asked()
                    .await
                    .ok()
                    .filter(|reply| reply.header("traceparent").is_none())
            };
            wait::until("new behaviour", wait::LONG, changed).await?;
            // The reference closes and opens its ports again; ours keeps what is connected.
            let after = kept.send(&Request::get("/v1.0/healthz")).await?;
            same("kept connection afterwards", 204, after.status())
        },
    )
    .await;
    rows.close();
}

#[tokio::test]
async fn health_without_token() {
    let world = World::new();
    let mut rows = Rows::of("process-interface");
    rows.row("9", "health on both ports needs no token", async {
        let public = ports::free();
        let spec = Spec::new("public")
            .env("DAPR_API_TOKEN", "t")
            .flag("--dapr-public-port", &public.to_string());
        let sidecar = spec
            .flag("--dapr-public-listen-address", "127.0.0.1")
            .start(&world)
            .await?;
        for port in [sidecar.http(), public] {
            same(
                "status",
                204,
                http::send(port, &Request::get("/v1.0/healthz"))
                    .await?
                    .status(),
            )?;
        }
        Ok(())
    })
    .await;
    rows.row("15", "metrics at every path", async {
        let sidecar = Spec::new("metrics").start(&world).await?;
        let mut texts = Vec::new();
        for path in ["/", "/metrics", "/x"] {
            let reply = http::send(sidecar.metrics(), &Request::get(path)).await?;
            same(path, 200, reply.status())?;
            // Values move from one scrape to the next; names do not.
            texts.push(
                reply
                    .text()
                    .lines()
                    .filter(|line| line.starts_with("# TYPE"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            );
        }
        ensure!(
            texts[0] == texts[1] && texts[1] == texts[2],
            "different families: {texts:?}"
        );
        Ok(())
    })
    .await;
    rows.row("16", "an upgrade to h2c is ignored", async {
        let sidecar = Spec::new("upgrade").start(&world).await?;
        let request = Request::get("/v1.0/healthz").header("Connection", "Upgrade, HTTP2-Settings");
        let request = request
            .header("Upgrade", "h2c")
            .header("HTTP2-Settings", "AAMAAABkAAQAoAAA");
        // The reference answers 101; ours stays with HTTP/1.1 on purpose.
        same("status", 204, sidecar.send(&request).await?.status())
    })
    .await;
    rows.close();
}

const ENDPOINT: &str = "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata:\n  name: later\nspec:\n  baseUrl: http://127.0.0.1:1\n";

fn component(name: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: middleware.http.uppercase\n  version: v1\n"
    )
}

async fn endpoints(sidecar: &Sidecar) -> Option<usize> {
    let body: serde_json::Value =
        serde_json::from_str(&sidecar.get("/v1.0/metadata").await.ok()?.text()).ok()?;
    Some(body["httpEndpoints"].as_array().map_or(0, Vec::len))
}

#[tokio::test]
async fn resources() {
    let world = World::new();
    let mut rows = Rows::of("process-interface");
    rows.row(
        "11 12",
        "a file that is added is seen, one that is rewritten unchanged is not news",
        async {
            let sidecar = Spec::new("watching")
                .resource("up.yaml", &component("up"))
                .start(&world)
                .await?;
            let folder = fs::read_dir(world.path())?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| {
                    path.is_dir()
                        && path.file_name().is_some_and(|name| {
                            name.to_string_lossy().starts_with("watching-resources")
                        })
                })
                .context("the resource folder")?;
            same("before", Some(0), endpoints(&sidecar).await)?;
            fs::write(folder.join("later.yaml"), ENDPOINT)?;
            let seen = || async { endpoints(&sidecar).await.filter(|count| *count == 1) };
            wait::until("the endpoint in the metadata", wait::LONG, seen).await?;
            let news = |log: String| log.matches("Received HTTPEndpoint").count();
            let before = news(sidecar.program.log());
            fs::write(folder.join("later.yaml"), ENDPOINT)?;
            // Another file behind it shows that the watcher is past the first.
            fs::write(folder.join("more.yaml"), ENDPOINT.replace("later", "more"))?;
            let both = || async { endpoints(&sidecar).await.filter(|count| *count == 2) };
            wait::until("the second endpoint", wait::LONG, both).await?;
            let about_first = sidecar
                .program
                .log()
                .matches("UPDATED event: later")
                .count();
            ensure!(
                before <= 1 && about_first == 0,
                "the rewritten file was news"
            );
            Ok(())
        },
    )
    .await;
    rows.row("13", "two components of one name end the start", async {
        let spec = Spec::new("twice").resource("a.yaml", &component("up")).resource("b.yaml", &component("up"));
        let log = ends(spec.launch(&world), 1).await?;
        let line = "duplicate definition of Component name up (middleware.http.uppercase/v1) with existing up (middleware.http.uppercase/v1)";
        ensure!(log.lines().any(|text| text.contains(line)), "{log}");
        Ok(())
    })
    .await;
    rows.row("14", "an invalid resiliency policy does not end the start", async {
        let invalid = "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nmetadata:\n  name: bad\nspec:\n  policies:\n    timeouts:\n      general: nonsense\n";
        Spec::new("resilient").resource("bad.yaml", invalid).start(&world).await.map(drop)
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn sentry() {
    let world = World::new();
    let mut rows = Rows::of("process-interface");
    rows.row("18", "an empty file as configuration", async {
        let credentials = world.path().join("empty.d");
        fs::create_dir_all(&credentials)?;
        let config = world.write("empty.yaml", "");
        let health = ports::free();
        let mut command = Command::new(binaries::path("sentry"));
        command
            .env_clear()
            .arg("-config")
            .arg(config)
            .arg("--issuer-credentials")
            .arg(credentials);
        for (flag, port) in [
            ("--port", ports::free()),
            ("--healthz-port", health),
            ("--metrics-port", ports::free()),
        ] {
            command.args([flag, &port.to_string()]);
        }
        let mut sentry = Program::start(&world, "sentry", &mut command);
        let healthy = || async {
            http::send(health, &Request::get("/healthz"))
                .await
                .ok()
                .filter(|reply| reply.status() == 200)
        };
        wait::until("health", wait::LONG, healthy).await?;
        same("exit", Some(0), sentry.stop().await?.code())
    })
    .await;
    rows.row(
        "19",
        "an empty credential folder is filled and kept",
        async {
            let mut sentry = Sentry::start(&world).await?;
            let first = sentry.anchors();
            let (port, credentials) = (sentry.port(), sentry.credentials().to_path_buf());
            same("exit", Some(0), sentry.program.stop().await?.code())?;
            let again = Sentry::start_at(&world, credentials, port, "").await?;
            same("roots", first, again.anchors())
        },
    )
    .await;
    rows.row(
        "20",
        "a touched certificate is loaded again, the service goes on",
        async {
            let sentry = Sentry::start(&world).await?;
            let path = sentry.credentials().join("issuer.crt");
            let text = fs::read(&path)?;
            fs::write(&path, text)?;
            sentry
                .program
                .logged("Issuer credentials changed; reloading")
                .await?;
            let spec = Spec::new("afterwards").mtls(&sentry);
            let sidecar = wait::within(
                "certificate after the reload",
                Duration::from_secs(20),
                spec.start(&world),
            )
            .await??;
            same(
                "health",
                204,
                sidecar.get("/v1.0/healthz/outbound").await?.status(),
            )
        },
    )
    .await;
    rows.close();
}
