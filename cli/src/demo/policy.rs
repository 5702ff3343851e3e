//! A rule that comes and goes while calls are made: what it names is denied at once, everything else goes on.
//!
//! The rule is a file in the folder that both sidecars of the demo read, as a user's would be.

use std::time::Duration;

use anyhow::{Context as _, bail};
use http::StatusCode;
use ironside_chassis::clock::Clock;

use super::calls::HttpClient;
use super::measure;
use super::show::{Show, short};
use super::stage::Stage;

/// How long a change may take to be seen.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(1);
/// How long calls go on under the rule.
const UNDER_RULE: Duration = Duration::from_millis(300);

/// Shows how long a rule takes to hold, and to be gone.
pub(super) async fn change(stage: &Stage, show: &mut Show, clock: &Clock) -> anyhow::Result<()> {
    let Stage {
        set,
        orders,
        greeter,
    } = stage;
    let to = (greeter.http_port(), orders.id.as_str());
    let rule = rule(&orders.id, &greeter.id);
    let mut times = None;
    let meanwhile = async {
        let mut probe = HttpClient::through(to.0, to.1, set.tasks()).await?;
        expect(&mut probe, clock, StatusCode::OK).await?;
        set.write_policy(&rule)?;
        let denied = expect(&mut probe, clock, StatusCode::FORBIDDEN).await?;
        tokio::time::sleep(UNDER_RULE).await;
        set.remove_policy()?;
        let allowed = expect(&mut probe, clock, StatusCode::OK).await?;
        times = Some((denied, allowed));
        anyhow::Ok(())
    };
    let load = measure::during(clock, set.tasks(), to, meanwhile);
    let outcome = Box::pin(load)
        .await
        .context("changing the policy of orders")?;
    let (denied, allowed) = times.context("the policy was not changed")?;
    let mut text = format!(
        "GET /ticks of {} denied {} after a rule was written, allowed {} after it went; {} of {} other calls failed",
        orders.id,
        short(denied),
        short(allowed),
        outcome.failed,
        outcome.calls
    );
    if let Some(failure) = outcome.first_failure {
        text.push_str(&format!("; first failure {failure}"));
    }
    show.done("Policy under load", &text);
    Ok(())
}

/// The time until the stream of ticks is answered so.
async fn expect(
    probe: &mut HttpClient,
    clock: &Clock,
    want: StatusCode,
) -> anyhow::Result<Duration> {
    let begin = clock.monotonic();
    loop {
        let status = probe.ticks_status().await?;
        let took = clock.monotonic().since(begin);
        if status == want {
            return Ok(took);
        }
        if took > PATIENCE {
            bail!("GET /ticks was answered with {status}, not {want}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Orders may be posted, and nothing else.
fn rule(callee: &str, caller: &str) -> String {
    format!(
        "\
apiVersion: dapr.io/v1alpha1
kind: AccessControl
metadata: {{name: demo}}
scopes: [{callee}]
spec:
  defaultAction: deny
  policies:
    - appId: {caller}
      namespace: default
      operations:
        - {{name: /orders, httpVerb: [POST], action: allow}}
"
    )
}
