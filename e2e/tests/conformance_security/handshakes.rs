//! Who gets in at the internal port, and whom a sidecar calls: certificates of every wrong kind, plaintext, old TLS,
//! certificates that run out, addresses that change hands; and what logs never hold. K081 to K089, K224.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::{Rows, Sentry, Spec, World, wait};
use ironside_testkit::{
    certs::{Ca, Issued, now},
    grpc::GrpcClient,
    http::{Answer, HttpApp, Request},
    tls::{self, Version},
};

use crate::rig::{App, Callee, Mesh, WEB, same};

const SECOND: Duration = Duration::from_secs(1);

/// Calls the app behind an internal port over a connection of one's own; the status, if there is any answer.
async fn answer(callee: &Callee, issued: Option<Issued>, version: Version) -> Option<u32> {
    let io = tls::dial_as(callee.sidecar.internal(), issued, version)
        .await
        .ok()?;
    let client = GrpcClient::over(io, "localhost").await.ok()?;
    let metadata = [("dapr-app-id", callee.id())];
    let reply = client.call("/x.Y/Z", &metadata, &[b"m"]).await;
    reply.ok()?.code()
}

async fn refused(callee: &Callee, what: &str, issued: Option<Issued>) -> Result<()> {
    let answered = answer(callee, issued, Version::Any).await;
    ensure!(answered.is_none(), "{what} got {answered:?}");
    same(what, 0, callee.probe.hits().len())
}

#[tokio::test]
async fn only_valid_certificates_of_workloads_get_in() {
    let mesh = Mesh::start().await.unwrap();
    let callee = mesh.callee("callee", App::Grpc, |spec| spec).await.unwrap();
    let (ca, port) = (&mesh.ca, callee.sidecar.internal());
    let mut rows = Rows::of("security");
    rows.row("K081", "plaintext", async {
        let good = answer(&callee, Some(ca.svid(WEB).issue()), Version::Any).await;
        ensure!(good == Some(0), "a good one got {good:?}");
        same("hits", 1, callee.probe.hits().len())?;
        if let Ok(client) = GrpcClient::connect(port).await {
            let metadata = [("dapr-app-id", callee.id())];
            let reply = client.call("/x.Y/Z", &metadata, &[b"m"]).await;
            let code = reply.ok().and_then(|reply| reply.code());
            ensure!(code.is_none(), "plaintext got {code:?}");
        }
        same("hits", 0, callee.probe.hits().len())
    })
    .await;
    rows.row("K082", "certificates that name no single workload", async {
        let stranger = Ca::new();
        refused(&callee, "no certificate", None).await?;
        let wrong = [
            ("self-signed", ca.svid(WEB).self_signed()),
            ("a stranger's", stranger.svid(WEB)),
            (
                "two URI names",
                ca.svid(WEB).and_uri("spiffe://public/ns/default/b"),
            ),
            ("an authority", ca.svid(WEB).authority()),
            ("a DNS name only", ca.svid(WEB).without_uri().and_dns("web")),
            ("without its issuer", ca.svid(WEB).without_issuer()),
            (
                "expired",
                ca.svid(WEB).valid(now() - 60 * SECOND, now() - SECOND),
            ),
            (
                "not yet valid",
                ca.svid(WEB).valid(now() + 60 * SECOND, now() + 90 * SECOND),
            ),
        ];
        let wrong: Vec<(&str, Issued)> = wrong
            .into_iter()
            .map(|(what, leaf)| (what, leaf.issue()))
            .collect();
        for (what, issued) in wrong {
            refused(&callee, what, Some(issued)).await?;
        }
        Ok(())
    })
    .await;
    rows.row("K083", "names that are no workload's", async {
        for id in [
            "spiffe://public/foo",
            "spiffe://public",
            "spiffe://public/",
            "spiffe://public/ns/default",
            "spiffe://public/ns//web",
            "spiffe://public/ns/default/web/more",
            "https://public/ns/default/web",
        ] {
            refused(&callee, id, Some(ca.svid(id).issue())).await?;
        }
        Ok(())
    })
    .await;
    rows.row("K085", "TLS 1.2", async {
        let old = answer(&callee, Some(ca.svid(WEB).issue()), Version::Only12).await;
        ensure!(old.is_none(), "TLS 1.2 got {old:?}");
        let lenient = mesh.callee("lenient", App::Grpc, |spec| {
            spec.flag("--tls-min-version", "1.2")
        });
        let lenient = lenient.await?;
        let old = answer(&lenient, Some(ca.svid(WEB).issue()), Version::Only12).await;
        same("TLS 1.2 where it is allowed", Some(0), old)
    })
    .await;
    rows.row(
        "K086",
        "a certificate that runs out under a stream",
        async {
            let leaf = ca.svid(WEB).valid(now() - 60 * SECOND, now() + 4 * SECOND);
            let client =
                GrpcClient::over(tls::dial(port, leaf.issue()).await?, "localhost").await?;
            let metadata = [("dapr-app-id", callee.id())];
            let mut stream = client.open("/x.Y/Z", &metadata).await?;
            stream.send(b"m");
            ensure!(client.is_open(), "it is open at first");
            // Four seconds of life, and five more.
            wait::within("its end", 12 * SECOND, client.closed()).await
        },
    )
    .await;
    rows.row("K087", "a root that has ended", async {
        let ended = Ca::builder()
            .root_valid(now() - 900 * SECOND, now() - SECOND)
            .build();
        let anchors = format!("{}{}", mesh.sentry.anchors(), ended.root_pem());
        let believing = mesh.callee("believing", App::Grpc, |spec| {
            spec.env("DAPR_TRUST_ANCHORS", &anchors)
        });
        let believing = believing.await?;
        refused(
            &believing,
            "below an ended root",
            Some(ended.svid(WEB).issue()),
        )
        .await?;
        let good = answer(&believing, Some(ca.svid(WEB).issue()), Version::Any).await;
        same("below the other", Some(0), good)
    })
    .await;
    rows.close();
}

/// Puts another app's name to an address.
fn register(world: &World, app_id: &str, port: u16) -> Result<()> {
    let database = rusqlite::Connection::open(world.path().join("names.db"))?;
    database.busy_timeout(5 * SECOND)?;
    let statement = "INSERT INTO hosts (registration_id, address, app_id, namespace, last_update) \
                     VALUES (?1, ?2, ?3, '', unixepoch() + 3600)";
    let address = format!("localhost:{port}");
    let values = (format!("fake-{app_id}"), address, app_id);
    database
        .execute(statement, values)
        .context("the table of names")?;
    Ok(())
}

#[tokio::test]
async fn a_call_reaches_the_app_that_was_meant_or_none() {
    let mesh = Mesh::start().await.unwrap();
    let mallory = mesh
        .callee("mallory", App::Http, |spec| spec)
        .await
        .unwrap();
    let mut rows = Rows::of("security");
    rows.row(
        "K088 K089",
        "an address of another app, connected or not",
        async {
            register(&mesh.world, "bob", mallory.sidecar.internal())?;
            for round in 0..2 {
                let reply = mesh.web.get("/v1.0/invoke/bob/method/x").await?;
                let text = reply.text();
                same("status", 500, reply.status())?;
                for part in [
                    "unexpected SPIFFE ID: ",
                    "spiffe://public/ns/default/mallory",
                ] {
                    ensure!(text.contains(part), "round {round}: {text}");
                }
                same("hits", 0, mallory.probe.hits().len())?;
                // From now on there is a connection to that address.
                let reply = mesh.web.get("/v1.0/invoke/mallory/method/x").await?;
                same("its own name", 200, reply.status())?;
                same("hits", 1, mallory.probe.hits().len())?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("K084", "a callee without mutual TLS", async {
        let app = HttpApp::start(|_| Answer::text("ok")).await?;
        let plain = Spec::new("plain").app(app.port());
        let plain = plain.ready(&mesh.world).await?;
        let reply = mesh.web.get("/v1.0/invoke/plain/method/x").await?;
        same("status", 500, reply.status())?;
        let text = reply.text();
        ensure!(text.contains("authentication handshake failed"), "{text}");
        let client = mesh.web.client().await?;
        let reply = client
            .call("/x.Y/Z", &[("dapr-app-id", "plain")], &[b"m"])
            .await?;
        same("proxied", Some(14), reply.code())?;
        same("hits", 0, app.take().len())?;
        ensure!(
            !plain.program.log().contains("HTTP API Called"),
            "it was called"
        );
        Ok(())
    })
    .await;
    rows.close();
}

/// Everything that must never be written down, sent through everything that writes.
#[tokio::test]
async fn secrets_are_in_no_log() {
    const API: &str = "the-token-of-the-api";
    const OF_APP: &str = "the-token-of-the-app";
    const BEARER: &str = "a-bearer-of-a-client";
    const FOR_SENTRY: &str = "eyJhbGciOiJFUzI1NiJ9.bm90IGEgY2xhaW0.bm8tc2lnbmF0dXJl";
    let mut rows = Rows::of("security");
    rows.row(
        "K224",
        "tokens, keys and requests in logs at debug",
        async {
            let world = World::new();
            let credentials = world.path().join("credentials");
            std::fs::create_dir_all(&credentials)?;
            let flags = ["--log-level=debug", "--keep-root-key"];
            let port = ironside_e2e::ports::free();
            let sentry = Sentry::start_over(&world, credentials, port, "", &flags).await?;
            let app = HttpApp::start(|_| Answer::text("ok")).await?;
            let debug = |spec: Spec| {
                spec.flag("--log-level", "debug")
                    .argument("--enable-api-logging")
                    .env("DAPR_API_TOKEN", API)
                    .env("APP_API_TOKEN", OF_APP)
            };
            let callee = debug(Spec::new("callee").app(app.port()).mtls(&sentry));
            let mut callee = callee.launch(&world);
            let web = debug(Spec::new("web").mtls(&sentry)).start(&world).await?;
            callee.healthy("/v1.0/healthz").await?;
            for token in [API, "the-token-of-nobody"] {
                let request = Request::get("/v1.0/invoke/callee/method/x")
                    .header("dapr-api-token", token)
                    .header("authorization", &format!("Bearer {BEARER}"));
                let status = web.send(&request).await?.status();
                same("status", if token == API { 200 } else { 401 }, status)?;
                let client = web.client().await?;
                let metadata = [("dapr-app-id", "callee"), ("dapr-api-token", token)];
                client.call("/x.Y/Z", &metadata, &[b"m"]).await?;
            }
            // A token that Sentry has to refuse, too.
            let token = world.write("token", FOR_SENTRY);
            let refused = debug(Spec::new("refused").mtls(&sentry));
            let refused = refused.env("DAPR_SENTRY_TOKEN_FILE", &token.display().to_string());
            let mut refused = refused.launch(&world);
            let status = refused.program.exit(30 * SECOND).await?;
            same("exit code", Some(1), status.code())?;

            let folder = sentry.credentials();
            let key = std::fs::read_to_string(folder.join("issuer.key"))?;
            let key: String = key.lines().filter(|line| !line.starts_with('-')).collect();
            let key = key.get(key.len() - 24..).context("a key")?;
            let secrets = [
                API,
                OF_APP,
                BEARER,
                FOR_SENTRY,
                "the-token-of-nobody",
                key,
                "PRIVATE KEY",
                "CERTIFICATE REQUEST",
                "BEGIN CERTIFICATE",
            ];
            for program in [
                &sentry.program,
                &callee.program,
                &web.program,
                &refused.program,
            ] {
                let log = program.log();
                ensure!(
                    log.contains("Log level set to: debug"),
                    "not at debug: {log}"
                );
                for secret in secrets {
                    ensure!(!log.contains(secret), "{secret} in {log}");
                }
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}
