//! HTTP clients with habits of their own: SD-40 to SD-42.

use ironside_e2e::{Rows, Spec, World};
use ironside_testkit::http::{Answer, Connection, HttpApp, Request};

use crate::same;

#[tokio::test]
async fn plain_http_clients() {
    let world = World::new();
    let app = HttpApp::start(|_| Answer::text("ok")).await.unwrap();
    let _b = Spec::new("app")
        .app(app.port())
        .ready(&world)
        .await
        .unwrap();
    // Both families: a client that says localhost may take either.
    let a = Spec::new("caller")
        .flag("--dapr-listen-addresses", "127.0.0.1,[::1]")
        .start(&world)
        .await
        .unwrap();
    let mut rows = Rows::of("clients");
    rows.row(
        "SD-40",
        "a JDK client offers an upgrade with its POST",
        async {
            drop(app.take());
            let request = Request::new("POST", "/orders")
                .header("Connection", "Upgrade, HTTP2-Settings")
                .header("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
                .header("Upgrade", "h2c")
                .header("User-Agent", "Java-http-client/17.0.9")
                .header("dapr-app-id", "app")
                .header("X-DaprRequestId", "one-id")
                .body("{\"orderId\":1}");
            same("status", 200, a.send(&request).await?.status())?;
            let seen = app.take().remove(0);
            for name in ["upgrade", "http2-settings", "connection"] {
                same(name, None, seen.header(name))?;
            }
            same(
                "agent",
                Some("Java-http-client/17.0.9"),
                seen.header("user-agent"),
            )?;
            same(
                "id and body",
                (Some("one-id"), "{\"orderId\":1}"),
                (seen.header("x-daprrequestid"), &seen.text()),
            )
        },
    )
    .await;
    rows.row(
        "SD-41",
        "curl's bytes: upgrade, Expect with 2 MiB, both families",
        async {
            let upgrade = Request::get("/v1.0/invoke/app/method/x")
                .header("Connection", "Upgrade, HTTP2-Settings");
            let upgrade = upgrade
                .header("Upgrade", "h2c")
                .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA");
            same("upgrade", 200, a.send(&upgrade).await?.status())?;
            let expect =
                Request::new("POST", "/v1.0/invoke/app/method/x").header("Expect", "100-continue");
            let expect = expect.body(vec![b'x'; 2 << 20]);
            same("Expect", 200, a.send(&expect).await?.status())?;
            for host in ["127.0.0.1", "[::1]"] {
                let mut connection = Connection::to(&format!("{host}:{}", a.http())).await?;
                same(
                    host,
                    200,
                    connection
                        .send(&Request::get("/v1.0/invoke/app/method/x"))
                        .await?
                        .status(),
                )?;
            }
            Ok(())
        },
    )
    .await;
    rows.row("SD-42", "a target in the user-info of a URL", async {
        // dapr-app-id:app
        let request = Request::get("/m").header("Authorization", "Basic ZGFwci1hcHAtaWQ6YXBw");
        drop(app.take());
        same("status", 200, a.send(&request).await?.status())?;
        same("path", "/m", app.take()[0].path())
    })
    .await;
    rows.close();
}
