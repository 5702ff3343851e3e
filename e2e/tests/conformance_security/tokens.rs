//! Tokens: of the API, K169, and of apps, K170 and K171.

use anyhow::{Result, ensure};
use ironside_e2e::Rows;
use ironside_proto::{common::http_extension::Verb, runtime::InvokeServiceRequest};
use ironside_testkit::http::{Connection, Request};
use prost::Message as _;

use crate::{
    rig::{App, Callee, Mesh, only, same},
    roads::{INVOKE_SERVICE, message},
};

const TOKEN: &str = "the-api-token";
/// What the sidecar of the caller tells the caller's own app.
const APP_TOKEN: &str = "the-callers-app-token";

#[tokio::test]
async fn tokens_stay_where_they_belong() {
    let mesh = Mesh::start_with(|spec| {
        spec.env("DAPR_API_TOKEN", TOKEN)
            .env("APP_API_TOKEN", APP_TOKEN)
    })
    .await
    .unwrap();
    let open = mesh.open_callees().await.unwrap();
    let named = mesh
        .callee("named", App::Http, |spec| {
            spec.env("APP_API_TOKEN", "the-callees-own")
        })
        .await
        .unwrap();
    let mut rows = Rows::of("security");
    rows.row(
        "K169",
        "ways around the token of the API",
        around(&mesh, &open[0]),
    )
    .await;
    rows.row("K170", "a client's own token", async {
        for callee in &open {
            let line = format!("/v1.0/invoke/{}/method/x", callee.id());
            let request = Request::get(&line)
                .header("dapr-api-token", TOKEN)
                .header("x-other", "1");
            same("HTTP", 200, mesh.web.send(&request).await?.status())?;
            tokenless(callee)?;
            let call = InvokeServiceRequest {
                id: callee.id().to_owned(),
                message: Some(message("x", Verb::Get)),
            };
            let client = mesh.web.client().await?;
            let metadata = [("dapr-api-token", TOKEN)];
            let reply = client
                .call(INVOKE_SERVICE, &metadata, &[&call.encode_to_vec()])
                .await?;
            same("InvokeService", Some(0), reply.code())?;
            tokenless(callee)?;
        }
        let line = format!("/v1.0/invoke/{}/method/x", named.id());
        let request = Request::get(&line).header("dapr-api-token", TOKEN);
        same("HTTP", 200, mesh.web.send(&request).await?.status())?;
        let hit = only(named.probe.hits())?;
        same("token", vec!["the-callees-own"], hit.all("dapr-api-token"))
    })
    .await;
    rows.row("K171", "the caller's app token", async {
        let callee = &open[1];
        let client = mesh.web.client().await?;
        let metadata = [("dapr-app-id", callee.id()), ("dapr-api-token", TOKEN)];
        let reply = client.call("/x.Y/Z", &metadata, &[b"message"]).await?;
        same("code", Some(0), reply.code())?;
        tokenless(callee)
    })
    .await;
    rows.close();
}

/// The only request at the app holds no token of the caller's side.
fn tokenless(callee: &Callee) -> Result<()> {
    let hit = only(callee.probe.hits())?;
    let leak = hit.headers.iter().find(|(name, value)| {
        name.eq_ignore_ascii_case("dapr-api-token")
            || value.contains(TOKEN)
            || value.contains(APP_TOKEN)
    });
    ensure!(leak.is_none(), "{leak:?}");
    Ok(())
}

async fn around(mesh: &Mesh, callee: &Callee) -> Result<()> {
    let id = callee.id();
    let get = |path: String| Request::get(&path);
    for request in [
        get(format!("/v1.0/healthz/../invoke/{id}/method/y")),
        get(format!("/v1.0/healthz/%2e%2e/invoke/{id}/method/y")),
        get(format!("/v1.0/healthz%2f..%2finvoke/{id}/method/y")),
        get(format!("/v1.0/healthz/outbound/../../invoke/{id}/method/y")),
        get(format!("/v1.0/invoke/{id}/method/y?/healthz")),
        get(format!("/v1.0/invoke/{id}/method/y?x=/v1.0/healthz")),
        get(format!("/v1.0/invoke/{id}/method/y#/v1.0/healthz")),
        get(format!("/v1.0/invoke/{id}/method/v1.0/healthz")),
        get(format!("/v1.0/invoke/{id}/method/v1.0/healthz/outbound")),
        get(format!("//v1.0/healthz/../invoke/{id}/method/y")),
        Request::post("/v1.0/healthz", ""),
        Request::new("DELETE", "/v1.0/healthz/outbound"),
        Request::get("/v1.0/healthz").header("dapr-app-id", id),
        Request::get("/v1.0/metadata"),
        get(format!("/v1.0/invoke/{id}/method/y")).header("dapr-api-token", ""),
        get(format!("/v1.0/invoke/{id}/method/y")).header("dapr-api-token", "the-api-toke"),
        get(format!("/v1.0/invoke/{id}/method/y")).header("dapr-api-token", "the-api-token2"),
        get(format!("/v1.0/invoke/{id}/method/y?dapr-api-token={TOKEN}")),
        get(format!("/v1.0/invoke/{id}/method/y")).header("x-dapr-api-token", TOKEN),
    ] {
        let reply = mesh.web.send(&request).await?;
        let line = String::from_utf8_lossy(request.bytes()).into_owned();
        let line = line.lines().next().unwrap_or_default().to_owned();
        // A health path stays one, with whatever header: it tells nothing and calls nobody.
        let is_health = line.starts_with("GET /v1.0/healthz HTTP");
        ensure!(
            reply.status() == 401 || is_health && reply.status() == 204,
            "{line}: {} {}",
            reply.status(),
            reply.text()
        );
        let hits = callee.probe.hits();
        ensure!(hits.is_empty(), "{line}: {hits:?}");
    }
    for path in ["/x.Y/Z", INVOKE_SERVICE] {
        let client = mesh.web.client().await?;
        let reply = client.call(path, &[("dapr-app-id", id)], &[b""]).await?;
        same(path, Some(16), reply.code())?;
    }
    // Control: with the token the call is made; health needs none.
    let mut connection = Connection::tcp(mesh.web.http()).await?;
    let request = get(format!("/v1.0/invoke/{id}/method/y")).header("dapr-api-token", TOKEN);
    same("with it", 200, connection.send(&request).await?.status())?;
    same("hits", 1, callee.probe.hits().len())?;
    for path in ["/v1.0/healthz/outbound", "/v1.0/healthz/outbound?x"] {
        same(path, 204, mesh.web.get(path).await?.status())?;
    }
    Ok(())
}
