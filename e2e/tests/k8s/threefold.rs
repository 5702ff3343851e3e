//! Three of each program of the control plane: they agree on one root, and taking turns they are never away. Row KH-02.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::k8s::{self, Helm, Machine, Place, Sample};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;

use crate::breaking::{CONTROL, INJECTOR, OPERATOR, SENTRY, churning, kubectl, reaches};
use crate::roots::roots;

const PROGRAMS: [&str; 3] = [SENTRY, INJECTOR, OPERATOR];
/// Of each program.
const REPLICAS: usize = 3;

/// Waits until every replica of a program is ready, and those of before are gone.
async fn whole(control: &Place, program: &str) -> Result<()> {
    control.rolled_out(program).await?;
    let of = ListParams::default().labels(&format!("app={program}"));
    let pods = control.api::<Pod>();
    let look = async || {
        let all = pods.list(&of).await.ok()?.items;
        (all.len() == REPLICAS).then_some(())
    };
    control
        .until(&format!("{REPLICAS} pods of {program}"), look)
        .await
}

async fn three(_machine: &Machine, place: &Place) -> Result<()> {
    Helm::new(place.cluster()).install(&["global.ha.enabled=true"])?;
    let control = place.beside(CONTROL);
    for program in PROGRAMS {
        whole(&control, program).await?;
    }
    let before = roots(place).await.context("no roots are published")?;
    ensure!(before.len() == 1, "{} roots", before.len());

    let restarted = async {
        for program in PROGRAMS {
            let deployment = format!("deploy/{program}");
            kubectl(&control, &["rollout", "restart", &deployment])?;
            whole(&control, program).await?;
        }
        Ok(())
    };
    let pause = Duration::from_millis(10);
    let ((), churn) = churning(place, pause, Box::pin(restarted)).await?;
    k8s::figure(&format!(
        "rolling restart of three replicas of each program: {} pods admitted, {} refused",
        churn.admitted,
        churn.refused.len()
    ));
    ensure!(churn.refused.is_empty(), "{:?}", churn.refused);
    ensure!(churn.admitted > 50, "only {} pods", churn.admitted);
    let after = roots(place).await;
    ensure!(
        after.as_ref() == Some(&before),
        "the restart changed the roots"
    );

    // Whichever replica answers each of them.
    for app in ["callee", "caller"] {
        place.start(&Sample::with_sidecar(app)).await?;
    }
    reaches(place, &place.pod("app=caller").await?, "callee").await
}

/// KH-02: three of each become ready with one root, and no pod is refused while all of them are replaced.
#[tokio::test]
#[ignore = "needs a cluster of the tool's own: cargo xtask e2e k8s"]
async fn replacing_three_of_each_program_refuses_no_pod() {
    let name = "threefold::replacing_three_of_each_program_refuses_no_pod";
    Box::pin(k8s::test_on_bare(name, three)).await;
}
