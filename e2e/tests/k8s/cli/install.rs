//! The control plane installed, upgraded and removed by the command line alone.

use anyhow::{Result, ensure};
use ironside_e2e::k8s::{self, Machine, Place, Sample};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::{command, said};
use crate::{
    breaking::{CONTROL, invocation, reaches},
    shop::start,
};

async fn installed(_machine: &Machine, place: &Place) -> Result<()> {
    // A machine without Helm, and without a network beyond the cluster's.
    let empty = tempfile::tempdir()?;
    let alone = async |words: &[&str], code: i32| {
        let mut command = command(place, words);
        command.env("PATH", empty.path());
        let said = tokio::task::spawn_blocking(move || said(&mut command)).await??;
        ensure!(said.code == Some(code), "{words:?}: not {code}: {said:?}");
        anyhow::Ok(said)
    };
    let none = alone(&["status", "-k"], 1).await?;
    ensure!(none.stderr.contains("No status returned"), "{none:?}");
    let from = [
        "--image-registry",
        "ironside.test",
        "--runtime-version",
        "e2e",
    ];
    let init = [&["init", "-k", "--wait"][..], &from].concat();
    let done = alone(&init, 0).await?;
    ensure!(
        done.stdout
            .contains("Success! Dapr has been installed to namespace dapr-system"),
        "{done:?}"
    );
    start(
        place,
        &[
            ("callee", Sample::with_sidecar("callee")),
            ("caller", Sample::with_sidecar("caller")),
        ],
    )
    .await?;
    let caller = place.pod("app=caller").await?;
    reaches(place, &caller, "callee").await?;
    place
        .start_load(
            &caller,
            &json!({"call": invocation("callee"), "workers": 2, "pause_ms": 20}),
        )
        .await?;
    alone(&init, 0).await?;
    alone(&[&["upgrade", "-k"][..], &from].concat(), 0).await?;
    let account = place.end_load(&caller).await?;
    ensure!(account["failed"] == 0 && account["ok"] != 0, "{account}");
    k8s::figure(&format!(
        "init -k again and upgrade -k under load: {} calls, 0 failed",
        account["ok"]
    ));
    for _ in 0..2 {
        alone(&["uninstall", "-k"], 0).await?;
    }
    let left = place
        .beside(CONTROL)
        .api::<Deployment>()
        .list(&Default::default())
        .await?;
    ensure!(left.items.is_empty(), "{:?}", left.items);
    Ok(())
}

/// CL-93: `init -k`, `upgrade -k` and `uninstall -k` without Helm; each may be repeated, and no call fails.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn the_control_plane_comes_and_goes_without_helm() {
    let name = "cli::install::the_control_plane_comes_and_goes_without_helm";
    k8s::test_on_bare(name, installed).await;
}
