//! Targets outside: URLs and HTTPEndpoint resources, SI-060 to SI-065.

use std::fmt::Write as _;

use anyhow::Result;
use ironside_e2e::{Rows, Sidecar, Spec, World};
use ironside_testkit::{
    http::{Answer, HttpApp, Request, Setup},
    tls::SelfSigned,
};

use crate::rig::{not_invoked, same};

fn endpoint(name: &str, base: &str, more: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata:\n  name: {name}\nspec:\n  baseUrl: {base}\n{more}"
    )
}

async fn server() -> Result<HttpApp> {
    let server = HttpApp::start(|seen| match seen.path() {
        "/moved" => Answer::status(301)
            .header("Location", "/landed")
            .body("moved"),
        "/found" => Answer::status(302)
            .header("Location", "/landed")
            .body("found"),
        _ => Answer::text("outside"),
    });
    Ok(server.await?)
}

#[tokio::test]
async fn targets_outside() {
    let world = World::new();
    let server = server().await.unwrap();
    let base = format!("http://127.0.0.1:{}", server.port());
    let headers = "  headers:\n  - name: X-Ep\n    value: v1\n";
    let spec = Spec::new("appA").resource("ep.yaml", &endpoint("ep", &base, headers));
    let a = spec.start(&world).await.unwrap();
    let mut rows = Rows::of("service-invocation");
    rows.row("SI-060", "a URL is a target, plain or escaped", async {
        for target in [
            base.clone(),
            base.replace(':', "%3A").replace('/', "%2F"),
            base.replace("://", "%3A/%2F"),
        ] {
            drop(server.take());
            let reply = a.get(&format!("/v1.0/invoke/{target}/method/x")).await?;
            same(&target, (200, "outside"), (reply.status(), &reply.text()))?;
            same("path", "/x", server.take()[0].path())?;
        }
        Ok(())
    })
    .await;
    rows.row(
        "SI-061",
        "an HTTPEndpoint is a target with headers of its own",
        async {
            drop(server.take());
            let reply = a
                .send(&Request::get("/v1.0/invoke/ep/method/x").header("X-Ep", "client"))
                .await?;
            same("status", 200, reply.status())?;
            let seen = server.take().remove(0);
            same(
                "request",
                ("/x", vec!["v1"]),
                (seen.path(), seen.head.all("x-ep")),
            )
        },
    )
    .await;
    rows.row("SI-063", "a redirect of a URL target is passed on", async {
        let reply = a.get(&format!("/v1.0/invoke/{base}/method/moved")).await?;
        same(
            "answer",
            (301, Some("/landed")),
            (reply.status(), reply.header("location")),
        )
    })
    .await;
    rows.row(
        "SI-064",
        "a redirect of an HTTPEndpoint is followed",
        async {
            drop(server.take());
            let reply = a.get("/v1.0/invoke/ep/method/found").await?;
            same("answer", (200, "outside"), (reply.status(), &reply.text()))?;
            let seen = server.take();
            same(
                "requests",
                vec!["/found", "/landed"],
                seen.iter().map(|seen| seen.path()).collect(),
            )
        },
    )
    .await;
    rows.row("SI-065", "nothing of the caller goes outside", async {
        for target in [base.as_str(), "ep"] {
            drop(server.take());
            a.get(&format!("/v1.0/invoke/{target}/method/x")).await?;
            let seen = server.take().remove(0);
            let names = seen
                .head
                .headers
                .iter()
                .map(|(name, _)| name.to_ascii_lowercase());
            let ours = |name: &String| {
                name.starts_with("dapr-") || name.starts_with("x-forwarded") || name == "forwarded"
            };
            same(target, Vec::<String>::new(), names.filter(ours).collect())?;
        }
        Ok(())
    })
    .await;
    client_certificates(&world, &mut rows).await;
    rows.close();
}

async fn client_certificates(world: &World, rows: &mut Rows) {
    rows.row(
        "SI-062",
        "an HTTPEndpoint with a client certificate: the right one passes, a wrong one fails",
        async {
            let (server, client, stranger) =
                (SelfSigned::new(), SelfSigned::new(), SelfSigned::new());
            let wrap = server.wrap(&["http/1.1"], Some(&client));
            let outside = Setup::new(|_| Answer::text("inside"))
                .wrap(wrap)
                .start()
                .await?;
            let base = format!("https://localhost:{}", outside.port());
            let right = with_client_certificate(world, "right", &base, &server, &client).await?;
            let reply = right.get("/v1.0/invoke/ep/method/x").await?;
            same(
                "right",
                (200, "inside".to_owned()),
                (reply.status(), reply.text()),
            )?;
            let wrong = with_client_certificate(world, "wrong", &base, &server, &stranger).await?;
            not_invoked(
                &wrong.get("/v1.0/invoke/ep/method/x").await?,
                "failed to invoke, id: ep, err: ",
            )
        },
    )
    .await;
}

async fn with_client_certificate(
    world: &World,
    id: &str,
    base: &str,
    root: &SelfSigned,
    client: &SelfSigned,
) -> Result<Sidecar> {
    let mut tls = String::from("  clientTLS:\n");
    for (key, pem) in [
        ("rootCA", root.certificate_pem()),
        ("certificate", client.certificate_pem()),
        ("privateKey", client.key_pem()),
    ] {
        write!(tls, "    {key}:\n      value: |\n")?;
        for line in pem.lines() {
            writeln!(tls, "        {line}")?;
        }
    }
    Spec::new(id)
        .resource("ep.yaml", &endpoint("ep", base, &tls))
        .start(world)
        .await
}
