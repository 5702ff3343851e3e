//! Quickstarts and tutorials through the CLI: QS-01 to QS-07, GP-01 as the how-to writes it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{World, binaries, ports, program::Program, wait};
use ironside_testkit::http::{Answer, HttpApp, Request, send};

use crate::{cache, folder, verdicts::Verdicts};

#[tokio::test]
#[ignore = "needs the SDKs: cargo xtask e2e sdk"]
async fn quickstarts() -> Result<()> {
    let world = World::new();
    let mut verdicts = Verdicts::of("quickstarts");
    verdicts
        .row(
            "QS-01",
            template(
                &world,
                "python",
                "Order received : {\"orderId\": 10}",
                "Order passed: {\"orderId\": 10}",
            ),
        )
        .await;
    verdicts
        .row(
            "QS-02",
            template(
                &world,
                "javascript",
                "Order received: { orderId: 10 }",
                "Order passed: {\"orderId\":10}",
            ),
        )
        .await;
    verdicts.row("QS-03", mixed(&world)).await;
    verdicts
        .row("QS-05 in memory", hello_world(&world, State::Memory))
        .await;
    verdicts
        .row(
            "QS-05 with a stub of a state store",
            hello_world(&world, State::Stub),
        )
        .await;
    verdicts
        .row(
            "QS-05 without a state store",
            hello_world(&world, State::Absent),
        )
        .await;
    verdicts.row("QS-07", calculator(&world)).await;
    verdicts
        .row(
            "GP-01 how-to with grpcio",
            how_to(&world, "python3", "python/server.py", "python/client.py"),
        )
        .await;
    verdicts
        .row(
            "GP-01 how-to with grpc-js",
            how_to(
                &world,
                "node",
                "javascript/server.js",
                "javascript/client.js",
            ),
        )
        .await;
    verdicts.close()
}

/// A run of the CLI, which has apps and sidecars of its own to end.
fn started(world: &World, name: &str, command: &mut Command) -> Program {
    Program::start(world, name, command).gentle()
}

/// The CLI under the reference's name, with a home of its own, and Python and Node with their packages.
fn ironside(world: &World, words: &[&str]) -> Command {
    let link = world.path().join("dapr");
    if !link.exists() {
        std::os::unix::fs::symlink(binaries::path("ironside"), &link).expect("a link in the world");
    }
    let mut command = Command::new(link);
    let search = binaries::setting("PATH").unwrap_or_default();
    command.env(
        "PATH",
        format!(
            "{}:{}",
            cache().join("python/bin").display(),
            search.display()
        ),
    );
    command.env("NODE_PATH", cache().join("javascript/node_modules"));
    command
        .env("HOME", world.path())
        .env("XDG_RUNTIME_DIR", world.path());
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1");
    command.args(words);
    command
}

async fn ended(world: &World, words: &[&str]) -> Result<(Option<i32>, String)> {
    let mut program = started(world, "cli", &mut ironside(world, words));
    program.hush();
    let status = program.exit(wait::LONG).await?;
    Ok((status.code(), program.log()))
}

/// Copies a folder of apps, so that logs of a run do not land in the sources.
fn copied(world: &World, from: &Path, name: &str) -> Result<PathBuf> {
    let to = world.path().join(name);
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            copied(
                world,
                &entry.path(),
                &format!("{name}/{}", entry.file_name().to_string_lossy()),
            )?;
        } else {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(to)
}

async fn seen(program: &Program, text: &str) -> Result<()> {
    let look = || async { program.log().contains(text).then_some(()) };
    wait::until(&format!("line {text:?}"), wait::LONG, look).await
}

async fn template(world: &World, language: &str, received: &str, passed: &str) -> Result<()> {
    let apps = copied(world, &folder("apps/invocation").join(language), language)?;
    let path = apps.to_str().context("a path of text")?;
    let mut run = started(world, "run-f", &mut ironside(world, &["run", "-f", path]));
    seen(&run, &format!("== APP - order-processor == {received}")).await?;
    seen(&run, &format!("== APP - checkout == {passed}")).await?;
    let (code, text) = ended(world, &["stop", "-f", path]).await?;
    ensure!(
        code == Some(0) && text.contains("stopped successfully"),
        "{code:?} {text}"
    );
    let status = run.exit(wait::LONG).await?;
    ensure!(status.code() == Some(0), "run ended with {status}");
    let log = run.log();
    for id in ["order-processor", "checkout"] {
        ensure!(
            log.contains(&format!("Validating config and starting app \"{id}\"")),
            "{log}"
        );
        ensure!(
            log.contains(&format!("Started Dapr with app id \"{id}\". HTTP Port: ")),
            "{log}"
        );
    }
    ensure!(
        log.matches("Writing log files to directory : ").count() == 2,
        "{log}"
    );
    Ok(())
}

/// A Python checkout, a Node order-processor, and the bytes of the Java checkout.
async fn mixed(world: &World) -> Result<()> {
    let apps = copied(world, &folder("apps/invocation"), "mixed")?;
    let (callee, http) = (ports::free().to_string(), ports::free().to_string());
    let words = [
        "run",
        "--app-id",
        "order-processor",
        "--app-port",
        &callee,
        "--",
        "node",
    ];
    let mut processor = ironside(world, &words);
    processor.arg(apps.join("javascript/order-processor/index.js"));
    let processor = started(world, "processor", &mut processor);
    seen(&processor, "You're up and running!").await?;
    let words = [
        "run",
        "--app-id",
        "checkout",
        "--dapr-http-port",
        &http,
        "--",
        "python3",
    ];
    let mut checkout = ironside(world, &words);
    checkout.arg(apps.join("python/checkout/app.py"));
    let checkout = started(world, "checkout", &mut checkout);
    seen(&checkout, "Order passed: {\"orderId\": 3}").await?;
    let offer = Request::new("POST", "/orders").header("Connection", "Upgrade, HTTP2-Settings");
    let offer = offer
        .header("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
        .header("Upgrade", "h2c");
    let java = offer
        .header("User-Agent", "Java-http-client/17")
        .header("Content-Type", "application/json");
    let java = java
        .header("dapr-app-id", "order-processor")
        .body("{\"orderId\":77}");
    let reply = send(http.parse()?, &java).await?;
    ensure!(reply.status() == 200, "{} {}", reply.status(), reply.text());
    seen(&processor, "Order received: { orderId: 77 }").await?;
    ended(world, &["stop", "--app-id", "checkout"]).await?;
    ended(world, &["stop", "--app-id", "order-processor"]).await?;
    Ok(())
}

/// Where the order app keeps its orders.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Memory,
    Stub,
    Absent,
}

/// A stub of two routes in front of nothing: enough for the tutorial.
async fn state_stub() -> Result<HttpApp> {
    let kept = std::sync::Mutex::new(String::new());
    let stub = HttpApp::start(move |seen| match seen.method() {
        "POST" => {
            let pairs: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
            *kept.lock().unwrap() = pairs[0]["value"].to_string();
            Answer::status(204)
        }
        _ => Answer::status(200)
            .header("Content-Type", "application/json")
            .body(kept.lock().unwrap().as_bytes()),
    });
    Ok(stub.await?)
}

async fn hello_world(world: &World, state: State) -> Result<()> {
    let apps = copied(world, &folder("apps/hello-world"), "hello-world")?;
    let (port, http) = (ports::free().to_string(), ports::free().to_string());
    let stub = state_stub().await?;
    let node = apps.join("node/app.js");
    let node = node.to_str().context("a path of text")?;
    let mut run = ironside(
        world,
        &[
            "run",
            "--app-id",
            "nodeapp",
            "--app-port",
            &port,
            "--dapr-http-port",
            &http,
        ],
    );
    run.args(["node", node]);
    if state != State::Memory {
        run.env("STATE_STORE", "statestore");
    }
    if state == State::Stub {
        // The stub stands where the sidecar's state API would be.
        run = ironside(
            world,
            &[
                "run",
                "--app-id",
                "nodeapp",
                "--app-port",
                &port,
                "--dapr-http-port",
                &http,
            ],
        );
        run.args([
            "--",
            "sh",
            "-c",
            &format!(
                "STATE_STORE=statestore DAPR_HTTP_PORT={} exec node {node}",
                stub.port()
            ),
        ]);
    }
    let run = started(world, "nodeapp", &mut run);
    seen(&run, "You're up and running!").await?;
    let file = apps.join("node/sample.json");
    let file = file.to_str().context("a path of text")?;
    let invoke = [
        "invoke",
        "--app-id",
        "nodeapp",
        "--method",
        "neworder",
        "--data-file",
        file,
    ];
    let ready = || async {
        send(http.parse().ok()?, &Request::get("/v1.0/healthz"))
            .await
            .ok()
            .filter(|reply| reply.status() == 204)
    };
    wait::until("health of nodeapp", wait::LONG, ready).await?;
    let (code, text) = ended(world, &invoke).await?;
    seen(&run, "Got a new order! Order ID: 42").await?;
    if state == State::Absent {
        ensure!(
            code == Some(1)
                && text.contains("error invoking app nodeapp: 500 Internal Server Error"),
            "{code:?} {text}"
        );
    } else {
        ensure!(
            code == Some(0) && text.contains("App invoked successfully"),
            "{code:?} {text}"
        );
        let (code, text) = ended(
            world,
            &[
                "invoke", "--app-id", "nodeapp", "--method", "order", "--verb", "GET",
            ],
        )
        .await?;
        ensure!(
            code == Some(0) && text.contains("{\"orderId\":\"42\"}"),
            "{code:?} {text}"
        );
    }
    let mut python = ironside(world, &["run", "--app-id", "pythonapp", "python3"]);
    python.arg(apps.join("python/app.py"));
    let python = started(world, "pythonapp", &mut python);
    seen(
        &python,
        if state == State::Absent {
            "HTTP 500 => "
        } else {
            "Order 2 sent"
        },
    )
    .await?;
    for id in ["pythonapp", "nodeapp"] {
        let (code, text) = ended(world, &["stop", "--app-id", id]).await?;
        ensure!(
            code == Some(0) && text.contains("app stopped successfully"),
            "{code:?} {text}"
        );
    }
    Ok(())
}

async fn calculator(world: &World) -> Result<()> {
    let apps = copied(world, &folder("apps/calculator"), "calculator")?;
    let http = ports::free().to_string();
    let mut running = Vec::new();
    for (id, program, file, more) in [
        ("divideapp", "node", "divide/app.js", &[][..]),
        ("multiplyapp", "python3", "multiply/app.py", &[][..]),
        (
            "frontendapp",
            "node",
            "front-end/app.js",
            &["--dapr-http-port", http.as_str()][..],
        ),
    ] {
        let mut run = ironside(
            world,
            &[
                "run",
                "--app-id",
                id,
                "--app-port",
                &ports::free().to_string(),
            ],
        );
        run.args(more).args(["--", program]).arg(apps.join(file));
        let run = started(world, id, &mut run);
        seen(&run, "You're up and running!").await?;
        running.push(run);
    }
    let path = |operation: &str| format!("/v1.0/invoke/frontendapp/method/calculate/{operation}");
    let operands = "{\"operandOne\":\"52\",\"operandTwo\":\"34\"}";
    for (operation, result) in [("divide", "1.5294117647058822"), ("multiply", "1768")] {
        let ask = || async {
            let reply = send(
                http.parse().ok()?,
                &Request::post(&path(operation), operands),
            )
            .await
            .ok()?;
            (reply.status() == 200 && reply.text() == result).then_some(())
        };
        wait::until(operation, wait::LONG, ask).await?;
    }
    for id in ["frontendapp", "multiplyapp", "divideapp"] {
        ended(world, &["stop", "--app-id", id]).await?;
    }
    Ok(())
}

/// The proxy how-to, steps 1 to 3: the client's `run` ends with 0.
async fn how_to(world: &World, program: &str, server: &str, client: &str) -> Result<()> {
    let (port, grpc) = (ports::free().to_string(), ports::free().to_string());
    let apps = folder("apps/greeter");
    let mut run = ironside(
        world,
        &[
            "run",
            "--app-id",
            "server",
            "--app-port",
            &port,
            "--",
            program,
        ],
    );
    let run = started(world, "server", run.arg(apps.join(server)));
    seen(&run, "Listening on").await?;
    let mut caller = ironside(
        world,
        &[
            "run",
            "--app-id",
            "client",
            "--dapr-grpc-port",
            &grpc,
            "--",
            program,
        ],
    );
    let mut caller = started(world, "client", caller.arg(apps.join(client)));
    let status = caller.exit(wait::LONG).await?;
    ensure!(status.code() == Some(0), "{status}: {}", caller.log());
    ensure!(
        caller.log().contains("Greeting: Hello Darth Tyrannus"),
        "{}",
        caller.log()
    );
    seen(&run, "Received: Darth Tyrannus").await?;
    ended(world, &["stop", "--app-id", "server"]).await?;
    Ok(())
}
