//! Bodies of unknown length, and bodies that are cut.

use anyhow::ensure;
use ironside_e2e::{Rows, Spec, ports};
use ironside_testkit::http::{Connection, End, Request};

use crate::rig::{Rig, get, not_invoked, register, same, series};

const SENT: &str = "dapr_runtime_service_invocation_req_sent_total";

/// such a request is sent once.
#[tokio::test]
async fn bodies_of_unknown_length() {
    let rig = Rig::start().await.unwrap();
    let spec = "{policies: {retries: {r: {duration: 1ms, maxRetries: 3}}}, targets: {apps: {b: {retry: r}}}}";
    let a = rig.caller("a", spec).await.unwrap();
    let mut rows = Rows::of("resiliency");
    rows.row("R-57", "an error is streamed, once", async {
        let request =
            Request::new("POST", "/v1.0/invoke/b/method/status/500/x").chunked(["abc", "def"]);
        let (reply, calls) = rig.calls(&a, &request).await?;
        same("calls", (1, 500), (calls, reply.status()))?;
        same("body", "body of /status/500/x", reply.text().as_str())
    })
    .await;
    rows.row("R-58", "nobody listens: told at once", async {
        register(&rig.world, "gone", ports::free())?;
        let plain = Spec::new("plain").start(&rig.world).await?;
        let request = Request::new("POST", "/v1.0/invoke/gone/method/x").chunked(["abc"]);
        not_invoked(&plain.send(&request).await?, "code = Unavailable")?;
        same(
            "sent",
            1,
            series(&plain, SENT, &["dst_app_id=\"gone\""]).await?,
        )
    })
    .await;
    rows.row(
        "1.9",
        "an answer that is cut looks cut, and is not asked for again",
        async {
            for caller in [&a, &Spec::new("bare").start(&rig.world).await?] {
                drop(rig.app.take());
                let mut connection = Connection::tcp(caller.http()).await?;
                let reply = connection.send(&get("cut")).await;
                let is_cut = match &reply {
                    Err(_) => true,
                    Ok(reply) => reply.status() == 500 || reply.end == End::Cut,
                };
                ensure!(is_cut, "a well-formed answer: {reply:?}");
                same("calls", 1, rig.app.take().len())?;
            }
            Ok(())
        },
    )
    .await;
    rows.close();
}
