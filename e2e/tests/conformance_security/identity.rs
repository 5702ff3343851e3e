//! How a sidecar comes by its identity and keeps it, with real programs: Sentry away, wrong, silent; certificates
//! that run out. K071, K072, K075 to K080, K091, K092, K223.
//!
//! Sentry issues nothing that lives shorter than a minute; below an issuer that ends sooner it does.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sentry, Sidecar, Spec, World, ports, program::Program, wait};
use ironside_testkit::{
    certs::{Ca, now},
    grpc::{Exchange, GrpcApp, Running},
    http::{self, Answer, HttpApp, Request},
};
use rustix::process::Signal;

use crate::rig::same;

const SECOND: Duration = Duration::from_secs(1);
/// A set with one key; the one of RFC 8037.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// A CA whose issuer ends so soon.
fn ending(life: Duration) -> Ca {
    Ca::builder()
        .issuer_valid(now() - 900 * SECOND, now() + life)
        .build()
}

fn put(ca: &Ca, credentials: &Path) -> Result<()> {
    fs::create_dir_all(credentials)?;
    for (name, text) in [
        ("ca.crt", ca.root_pem()),
        ("issuer.crt", ca.issuer_pem()),
        ("issuer.key", ca.issuer_key_pem()),
    ] {
        fs::write(credentials.join(name), text)?;
    }
    Ok(())
}

/// A Sentry below an issuer that ends soon, a caller and a callee of its.
struct Pair {
    /// Of a call to the callee.
    path: String,
    ca: Ca,
    port: u16,
    sentry: Sentry,
    caller: Sidecar,
    callee: Sidecar,
    app: HttpApp,
    world: World,
}

impl Pair {
    async fn start(life: Duration) -> Result<Self> {
        let (world, ca, port) = (World::new(), ending(life), ports::free());
        let credentials = world.path().join("credentials");
        put(&ca, &credentials)?;
        // It calls itself unhealthy on the last day of its issuer.
        let sentry = Sentry::start_ending(&world, credentials, port, "").await?;
        let app = HttpApp::start(|_| Answer::text("ok")).await?;
        // A name of its own: sidecars of other tests answer over multicast as well.
        let id = format!("callee-{}", life.as_secs());
        let callee = Spec::new(&id).app(app.port()).mtls(&sentry);
        let caller = Spec::new("caller").mtls(&sentry);
        let (callee, caller) = tokio::try_join!(callee.ready(&world), caller.start(&world))?;
        let pair = Self {
            path: format!("/v1.0/invoke/{id}/method/x"),
            ca,
            port,
            sentry,
            caller,
            callee,
            app,
            world,
        };
        let found = || async { pair.call().await.ok().filter(|(status, _)| *status == 200) };
        wait::until("the callee is found", wait::LONG, found).await?;
        drop(pair.app.take());
        Ok(pair)
    }

    async fn kill(&mut self) -> Result<()> {
        self.sentry.program.signal(Signal::KILL);
        self.sentry.program.exit(wait::LONG).await.map(drop)
    }

    /// Starts Sentry where it was, with an issuer that lasts.
    async fn restart(&mut self) -> Result<()> {
        let credentials = self.world.path().join("credentials");
        put(&self.ca.new_issuer(), &credentials)?;
        self.sentry = Sentry::start_at(&self.world, credentials, self.port, "").await?;
        Ok(())
    }

    async fn call(&self) -> Result<(u16, String)> {
        let reply = self.caller.get(&self.path).await?;
        Ok((reply.status(), reply.text()))
    }

    fn renewed(&self) -> bool {
        let done = "Successfully renewed workload identity";
        [&self.caller, &self.callee]
            .iter()
            .all(|sidecar| sidecar.program.log().contains(done))
    }
}

/// The value of a series of a sidecar, whatever its labels.
async fn series(sidecar: &Sidecar, name: &str) -> Result<Option<f64>> {
    let reply = http::send(sidecar.metrics(), &Request::get("/")).await?;
    let text = reply.text();
    let mut lines = text.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    });
    let value = lines.next().and_then(|line| line.rsplit(' ').next());
    Ok(value.map(str::parse).transpose()?)
}

const INIT: &str = "dapr_runtime_mtls_init_total";
const ROTATED: &str = "dapr_runtime_mtls_workload_cert_rotated_total";
const FAILED: &str = "dapr_runtime_mtls_workload_cert_rotated_fail_total";
const OWN_END: &str = "dapr_runtime_mtls_workload_cert_expiry_timestamp";
const ANCHOR_END: &str = "dapr_runtime_mtls_trust_anchor_expiry_timestamp";

/// M-37: the first certificate and its successor are counted.
#[tokio::test]
async fn an_outage_shorter_than_a_certificate_costs_nothing() {
    let mut pair = Pair::start(30 * SECOND).await.unwrap();
    let mut rows = Rows::of("security");
    rows.row("K077 K223", "Sentry is away at the renewal", async {
        let first = series(&pair.caller, OWN_END).await?.context("own end")?;
        let anchor = series(&pair.caller, ANCHOR_END).await?.context("anchors")?;
        ensure!(anchor > first, "{anchor} {first}");
        same("issued", Some(1.0), series(&pair.caller, INIT).await?)?;
        same("rotated", Some(1.0), series(&pair.caller, ROTATED).await?)?;
        same("failed", None, series(&pair.caller, FAILED).await?)?;
        pair.kill().await?;
        let (mut calls, mut back) = (0, false);
        while !pair.renewed() {
            ensure!(calls < 1000, "no renewal");
            calls += 1;
            same("call", (200, "ok".to_owned()), pair.call().await?)?;
            let failed = series(&pair.caller, FAILED).await?.unwrap_or_default();
            if failed > 0.0 && !back {
                back = true;
                pair.restart().await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ensure!(back, "renewed without a failure");
        same("last call", 200, pair.call().await?.0)?;
        same("rotated", Some(2.0), series(&pair.caller, ROTATED).await?)?;
        let second = series(&pair.caller, OWN_END).await?.context("own end")?;
        ensure!(second > first, "{second} {first}");
        same("hits", calls + 1, pair.app.take().len())
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn an_outage_longer_than_a_certificate_ends_without_a_restart() {
    let mut pair = Pair::start(20 * SECOND).await.unwrap();
    let mut rows = Rows::of("security");
    rows.row("K078", "Sentry is away past the end (O-C5)", async {
        same("call", 200, pair.call().await?.0)?;
        pair.kill().await?;
        for sidecar in [&pair.caller, &pair.callee] {
            let unready = || async {
                let reply = sidecar.get("/v1.0/healthz").await.ok()?;
                (reply.status() == 500).then_some(())
            };
            wait::until("readiness is gone", 40 * SECOND, unready).await?;
        }
        drop(pair.app.take());
        let (status, text) = pair.call().await?;
        same("status", 500, status)?;
        let own = "own certificate expired, and no new one could be obtained from sentry";
        ensure!(text.contains(own), "{text}");
        ensure!(!text.contains("after 3 retries"), "tried again: {text}");
        same("hits", 0, pair.app.take().len())?;
        let told = "Workload identity expired; peers refuse it until sentry can be reached";
        pair.caller.program.logged(told).await?;
        pair.restart().await?;
        pair.caller.healthy("/v1.0/healthz").await?;
        pair.callee.healthy("/v1.0/healthz").await?;
        same("call", (200, "ok".to_owned()), pair.call().await?)
    })
    .await;
    rows.close();
}

fn echo(mut call: Exchange) -> Running {
    Box::pin(async move {
        call.begin_reply(&[]);
        while let Some(message) = call.message().await {
            call.reply(&message);
        }
        call.end(0, "", &[]);
    })
}

/// O-C8 at the calling side, where the callee's own side has no reason to close: the caller's Sentry and its file of
/// roots go over to another root, below which the callee has nothing to show.
#[tokio::test]
async fn a_root_that_is_taken_away_takes_its_connections_along() {
    let (world, ca, port) = (World::new(), ending(16 * SECOND), ports::free());
    let mut rows = Rows::of("security");
    rows.row("O-C8", "anchors by which a peer is nobody", async {
        let [lasting, short] = ["lasting", "short"].map(|name| world.path().join(name));
        put(&ca.new_issuer(), &lasting)?;
        put(&ca, &short)?;
        let of_callee = Sentry::start_at(&world, lasting, ports::free(), "").await?;
        let mut of_caller = Sentry::start_ending(&world, short.clone(), port, "").await?;
        let roots = world.write("roots.pem", &ca.root_pem());
        let app = GrpcApp::start(echo).await?;
        let callee = Spec::new("callee").app(app.port()).protocol("grpc");
        let _callee = callee.mtls(&of_callee).ready(&world).await?;
        let caller = Spec::new("caller")
            .argument("--enable-mtls")
            .flag("--sentry-address", &format!("127.0.0.1:{port}"))
            .env("DAPR_TRUST_ANCHORS_FILE", &roots.display().to_string());
        let caller = caller.start(&world).await?;
        let (client, metadata) = (caller.client().await?, [("dapr-app-id", "callee")]);
        let mut stream = client.open("/x.Y/Z", &metadata).await?;
        stream.send(b"m");
        let echoed = wait::within("echo", wait::LONG, stream.message()).await?;
        same("echo", Some(b"m".to_vec()), echoed)?;

        of_caller.program.signal(Signal::KILL);
        of_caller.program.exit(wait::LONG).await?;
        let next = Ca::new();
        put(&next, &short)?;
        fs::write(&roots, next.root_pem())?;
        let _next = Sentry::start_at(&world, short, port, "").await?;
        let end = wait::within("the end of the stream", 25 * SECOND, stream.finish()).await?;
        ensure!(end.code() != Some(0), "it ended well: {end:?}");
        let renewed = "Successfully renewed workload identity";
        ensure!(caller.program.log().contains(renewed), "it ended too early");
        let reply = client.call("/x.Y/Z", &metadata, &[b"m"]).await?;
        same("a new call", Some(14), reply.code())?;
        let text = reply.message();
        ensure!(text.contains("signed by an unknown authority"), "{text}");
        Ok(())
    })
    .await;
    rows.close();
}

/// The reference renews two hundred times a second where a life is shorter than the skew.
#[tokio::test]
async fn a_short_life_does_not_loop() {
    let mut rows = Rows::of("security");
    rows.row("K080", "lives shorter than the skew", async {
        let watch = wait::Stopwatch::start();
        let pair = Pair::start(12 * SECOND).await?;
        let count = || {
            let log = pair.sentry.program.log();
            let mine = |line: &&str| {
                line.contains("Certificate issued") && line.contains("/ns/default/caller")
            };
            log.lines().filter(mine).count()
        };
        let renewed = || async { (count() > 1).then_some(()) };
        wait::until("a renewal", 20 * SECOND, renewed).await?;
        let most = usize::try_from(watch.elapsed().as_secs() / 5)? + 2;
        ensure!(count() <= most, "{} requests, {most} at most", count());
        Ok(())
    })
    .await;
    rows.close();
}

/// Starts a sidecar with mutual TLS that is not expected to come up.
fn waiting(world: &World, ca: &Ca, sentry: u16, add: impl FnOnce(Spec) -> Spec) -> Sidecar {
    let spec = Spec::new("waiting")
        .argument("--enable-mtls")
        .flag("--sentry-address", &format!("127.0.0.1:{sentry}"))
        .env("DAPR_TRUST_ANCHORS", &ca.root_pem());
    add(spec).launch(world)
}

async fn closed(sidecar: &Sidecar) -> Result<()> {
    for port in [sidecar.http(), sidecar.grpc(), sidecar.internal()] {
        let dialled = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
        ensure!(dialled.is_err(), "port {port} is open");
    }
    Ok(())
}

async fn tries(program: &Program, count: usize) -> Result<()> {
    let text = "Error retrieving the initial identity, trying again in ";
    let tried = || async { (program.log().matches(text).count() >= count).then_some(()) };
    wait::until(&format!("{count} tries"), 25 * SECOND, tried).await
}

#[tokio::test]
async fn a_start_waits_for_the_right_sentry() {
    let (world, ca) = (World::new(), Ca::new());
    let mut rows = Rows::of("security");
    rows.row("K075", "Sentry comes later", async {
        let port = ports::free();
        let mut sidecar = waiting(&world, &ca, port, |spec| spec);
        tries(&sidecar.program, 2).await?;
        sidecar.program.logged("Connection refused").await?;
        closed(&sidecar).await?;
        let credentials = world.path().join("late");
        put(&ca, &credentials)?;
        let _sentry = Sentry::start_at(&world, credentials, port, "").await?;
        let up = sidecar.healthy("/v1.0/healthz/outbound");
        wait::within("the start", wait::LONG, up).await?
    })
    .await;
    rows.row("K072", "another Sentry than the expected", async {
        let credentials = world.path().join("other");
        put(&ca, &credentials)?;
        let sentry = Sentry::start_at(&world, credentials, ports::free(), "").await?;
        let token = world.write("token", "a-token-for-the-right-one");
        for (flag, name, expected) in [
            (
                "--control-plane-namespace",
                "x",
                "spiffe://localhost/ns/x/dapr-sentry",
            ),
            (
                "--control-plane-trust-domain",
                "other",
                "spiffe://other/ns/default/dapr-sentry",
            ),
        ] {
            let sidecar = waiting(&world, &ca, sentry.port(), |spec| {
                spec.flag(flag, name)
                    .env("DAPR_SENTRY_TOKEN_FILE", &token.display().to_string())
            });
            tries(&sidecar.program, 2).await?;
            let log = sidecar.program.log();
            for id in ["spiffe://localhost/ns/default/dapr-sentry", expected] {
                ensure!(log.contains(id), "no {id} in the log");
            }
            closed(&sidecar).await?;
        }
        let log = sentry.program.log();
        ensure!(!log.contains("decision="), "it was asked");
        Ok(())
    })
    .await;
    rows.row("K079", "a Sentry that accepts and says nothing", async {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let sidecar = waiting(&world, &ca, silent.local_addr()?.port(), |spec| spec);
        let (_held, _) = wait::within("a dial", wait::LONG, silent.accept()).await??;
        tries(&sidecar.program, 1).await?;
        closed(&sidecar).await
    })
    .await;
    rows.close();
}

#[tokio::test]
async fn a_start_that_cannot_succeed_ends() {
    let (world, ca) = (World::new(), Ca::new());
    let mut rows = Rows::of("security");
    rows.row("K076", "Sentry says no", async {
        let credentials = world.path().join("strict");
        put(&ca, &credentials)?;
        let keys = world.write("keys.json", KEYS);
        let validator = format!(
            "    tokenValidators:\n    - name: jwks\n      options:\n        source: {}\n",
            keys.display()
        );
        let sentry = Sentry::start_at(&world, credentials, ports::free(), &validator).await?;
        let mut sidecar = waiting(&world, &ca, sentry.port(), |spec| spec);
        let status = sidecar.program.exit(30 * SECOND).await?;
        same("exit code", Some(1), status.code())?;
        let log = sidecar.program.log();
        let text = "failed to retrieve the initial identity: error from sentry SignCertificate: rpc error: code = \
                    InvalidArgument desc = a validator name must be specified in this environment";
        ensure!(log.contains(text), "{log}");
        same("tries before", 4, log.matches("trying again in ").count())?;
        let asked = sentry.program.log().matches("decision=denied").count();
        same("requests", 5, asked)
    })
    .await;
    rows.row("K091 K071", "nothing to believe, no token to send", async {
        let mut without = Spec::new("without")
            .argument("--enable-mtls")
            .launch(&world);
        let status = without.program.exit(wait::LONG).await?;
        same("exit code", Some(1), status.code())?;
        let log = without.program.log();
        ensure!(log.contains("trust anchors are required"), "{log}");
        let mut empty = waiting(&world, &ca, 1, |spec| {
            spec.env("DAPR_SENTRY_TOKEN_FILE", "")
        });
        let status = empty.program.exit(wait::LONG).await?;
        same("exit code", Some(1), status.code())?;
        let log = empty.program.log();
        let text = "environment variable DAPR_SENTRY_TOKEN_FILE is set but empty";
        ensure!(log.contains(text), "{log}");
        Ok(())
    })
    .await;
    rows.row("K092", "mutual TLS off", async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let off = Spec::new("off").flag("--sentry-address", &address);
        let off = off.start(&world).await?;
        let line = "mTLS is disabled. Skipping certificate request and tls validation";
        off.program.logged(line).await?;
        let dialled = tokio::time::timeout(SECOND / 2, listener.accept()).await;
        ensure!(dialled.is_err(), "Sentry was dialled");
        Ok(())
    })
    .await;
    rows.close();
}
