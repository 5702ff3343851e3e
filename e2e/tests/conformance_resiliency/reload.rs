//! Resources that change while calls go on.

use anyhow::ensure;
use ironside_e2e::{Rows, Sidecar, wait};
use ironside_testkit::http::{Connection, Request};

use crate::rig::{Rig, get, lines, not_invoked, resiliency, same};

async fn names(a: &Sidecar, want: &str) -> anyhow::Result<()> {
    wait::until(want, wait::LONG, || async {
        let text = a.get("/v1.0/metadata").await.ok()?.text();
        let found = text.split("\"resiliencies\":").nth(1).unwrap_or("[]");
        found.starts_with(want).then_some(())
    })
    .await
}

/// R-73, R-76: files that come, change and go.
#[tokio::test]
async fn edits_take_effect_and_keep_breakers() {
    let rig = Rig::start().await.unwrap();
    let breaker = "circuitBreakers: {c: {trip: consecutiveFailures >= 2}}";
    let spec = |retries: u32| {
        format!(
            "{{policies: {{{breaker}, retries: {{r: {{duration: 1ms, maxRetries: {retries}}}}}}}, \
             targets: {{apps: {{b: {{circuitBreaker: c, retry: r}}}}}}}}"
        )
    };
    let folder = rig.world.path().join("live");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("r.yaml", &resiliency("r", &spec(0)));
    let at = folder.to_str().unwrap();
    let a = ironside_e2e::Spec::new("a")
        .flag("--resources-path", at)
        .start(&rig.world)
        .await
        .unwrap();
    let off = rig.world.write(
        "off.yaml",
        "kind: Configuration\nmetadata: {name: off}\nspec: {features: [{name: HotReload, enabled: false}]}\n",
    );
    let still = ironside_e2e::Spec::new("still")
        .flag("--resources-path", at)
        .flag("--config", off.to_str().unwrap());
    let mut rows = Rows::of("resiliency");
    rows.row(
        "R-73",
        "the list follows, breakers stay, connections stay",
        async {
            let mut connection = Connection::tcp(a.http()).await?;
            for _ in 0..2 {
                same(
                    "status",
                    500,
                    connection.send(&get("status/500/x")).await?.status(),
                )?;
            }
            not_invoked(
                &connection.send(&get("status/500/x")).await?,
                "circuit breaker is open",
            )?;
            write("s.yaml", &resiliency("s", "{policies: {}, targets: {}}"));
            names(&a, r#"[{"name":"r"},{"name":"s"}]"#).await?;
            write("r.yaml", &resiliency("r", &spec(3)));
            wait::until("the change", wait::LONG, || async {
                (lines(&a, "Loading Resiliency configuration: r") == 2).then_some(())
            })
            .await?;
            // The breaker's definition is the same: it is open still, on the same connection.
            not_invoked(
                &connection.send(&get("status/500/x")).await?,
                "circuit breaker is open",
            )?;
            let (_, calls) = rig.calls(&a, &get("fail/1/500/y")).await?;
            same("the new retry", 2, calls)?;
            write(
                "r.yaml",
                &resiliency("r", "{policies: {timeouts: {t: abc}}, targets: {}}"),
            );
            a.program
                .logged("Could not read resiliency policy r")
                .await?;
            names(&a, r#"[{"name":"r"},{"name":"s"}]"#).await?;
            let (_, calls) = rig.calls(&a, &get("fail/1/500/z")).await?;
            same("the last good one stays", 2, calls)?;
            std::fs::remove_file(folder.join("s.yaml"))?;
            names(&a, r#"[{"name":"r"}]"#).await?;
            std::fs::remove_file(folder.join("r.yaml"))?;
            names(&a, "[]").await?;
            same(
                "no policy",
                500,
                connection.send(&get("status/500/x")).await?.status(),
            )
        },
    )
    .await;
    rows.row("R-76", "feature HotReload off", async {
        write("r.yaml", &resiliency("r", &spec(0)));
        let still = still.start(&rig.world).await?;
        names(&still, r#"[{"name":"r"}]"#).await?;
        write("s.yaml", &resiliency("s", "{policies: {}, targets: {}}"));
        // The other sidecar sees the edit; this one has the same files.
        names(&a, r#"[{"name":"r"},{"name":"s"}]"#).await?;
        names(&still, r#"[{"name":"r"}]"#).await?;
        let text = still.send(&Request::get("/v1.0/metadata")).await?.text();
        ensure!(!text.contains("\"s\""), "{text}");
        Ok(())
    })
    .await;
    rows.close();
}
