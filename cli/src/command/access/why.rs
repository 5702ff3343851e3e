//! `accesscontrol why`: why a real call was decided as it was, by what the sidecars of this machine remember.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;

use super::{NO, Session, nearest, show, wants_json};
use crate::api::status_line;
use crate::instances::{self, Instance};
use crate::output;

/// Where a sidecar tells its last decisions.
const DECISIONS: &str = "/v1.0-alpha1/accesscontrol/decisions";
/// How long one sidecar may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// A decision, and whose it is.
struct Found {
    app_id: String,
    decision: Value,
    instance: usize,
}

/// Runs the command.
pub(super) async fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let is_json = wants_json(session)?;
    let [wanted] = session.words.as_slice() else {
        bail!("write the trace id of a call, or last: why <trace-id|last>");
    };
    let wanted = wanted.to_string_lossy();
    let app_id = session.values.text("app-id");
    let instances: Vec<Instance> = instances::found()
        .into_iter()
        .filter(|one| app_id.is_none_or(|app_id| one.vector.app_id == app_id))
        .collect();
    if instances.is_empty() {
        match app_id {
            Some(app_id) => bail!("app ID {app_id} not found"),
            None => bail!("no sidecar runs on this machine"),
        }
    }
    let mut found = Vec::new();
    for (at, instance) in instances.iter().enumerate() {
        let app_id = &instance.vector.app_id;
        match decisions(session, instance).await {
            Ok(decisions) => found.extend(decisions.into_iter().map(|decision| Found {
                app_id: app_id.clone(),
                decision,
                instance: at,
            })),
            // The others may still know.
            Err(error) if instances.len() > 1 => {
                session.status.warning(&format!("{app_id}: {error:#}"));
            }
            Err(error) => return Err(error.context(app_id.clone())),
        }
    }
    let Some(mut found) = pick(found, &wanted) else {
        bail!(
            "no sidecar remembers such a decision: the callee's keeps its last 256, so ask on its machine, or look in its --access-log-file"
        );
    };
    let instance = instances.get(found.instance);
    let nearest = instance.and_then(|one| nearest::of(session, one, &found.decision));
    if is_json {
        if let (Some(nearest), Some(members)) = (nearest, found.decision.as_object_mut()) {
            members.insert("nearest".to_owned(), nearest.json);
        }
        output::line(&serde_json::to_string_pretty(&found.decision).context("writing JSON")?);
    } else {
        let mut text = as_text(&found);
        if let Some(nearest) = nearest {
            text.push_str(&format!("nearest    {}\n", nearest.text));
        }
        output::out(text.as_bytes());
    }
    Ok(if found.text("decision") == "allow" {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO)
    })
}

async fn decisions(session: &Session, instance: &Instance) -> anyhow::Result<Vec<Value>> {
    let api = instance.api(session.token());
    let call = api.call(
        Method::GET,
        DECISIONS,
        HeaderMap::new(),
        Default::default(),
        Some(ANSWER),
    );
    let answer = call.await?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => {
            bail!("the sidecar asks for a token: set DAPR_API_TOKEN to the one it was started with")
        }
        StatusCode::NOT_FOUND => {
            bail!("the sidecar does not keep decisions: it is another program")
        }
        status => bail!("the sidecar answered {}", status_line(status)),
    }
    let mut body: Value = serde_json::from_slice(answer.body()).context("reading its answer")?;
    let list = body.get_mut("decisions").map(Value::take);
    match list {
        Some(Value::Array(list)) => Ok(list),
        _ => bail!("its answer has no list of decisions"),
    }
}

/// The decision of that trace id, or the newest of all.
fn pick(found: Vec<Found>, wanted: &str) -> Option<Found> {
    if wanted == "last" {
        // Times are RFC 3339 in UTC; their digits sort, fractions of different lengths apart.
        return found.into_iter().max_by_key(|one| {
            let time = one.text("time");
            time.parse::<jiff::Timestamp>().ok()
        });
    }
    let wanted = wanted.to_ascii_lowercase();
    let mut found = found.into_iter();
    // The newest comes first.
    found.find(|one| one.text("traceId") == wanted)
}

// === impl Found ===

impl Found {
    fn text(&self, name: &str) -> &str {
        self.decision
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

fn as_text(found: &Found) -> String {
    let reason = found.text("reason");
    let mut lines = vec![format!(
        "{}: {reason}: {}",
        found.text("decision"),
        show::meaning(reason)
    )];
    let mut fact = |name: &str, text: &str| {
        if !text.is_empty() {
            lines.push(format!("{name:<10} {text}"));
        }
    };
    fact("time", found.text("time"));
    let caller = match found.text("caller") {
        "" => "without identity",
        caller => caller,
    };
    fact("caller", caller);
    fact("callee", &found.app_id);
    fact("verb", found.text("verb"));
    fact("canonical", found.text("operation"));
    fact("raw", found.text("rawOperation"));
    fact("protocol", found.text("protocol"));
    fact("object", found.text("policy"));
    fact("rule", found.text("rule"));
    let snapshot = found.decision.get("snapshot").map(ToString::to_string);
    fact("snapshot", &snapshot.unwrap_or_default());
    fact("trace", found.text("traceId"));
    if let Some(audit) = found.decision.get("audit") {
        let part = |name: &str| audit.get(name).and_then(Value::as_str).unwrap_or_default();
        let text = format!(
            "with audited objects: {} {} {} {}",
            part("decision"),
            part("reason"),
            part("policy"),
            part("rule")
        );
        fact("audit", text.trim_end());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found() -> Vec<Found> {
        let one = |app: &str, time: &str, trace: &str| Found {
            app_id: app.to_owned(),
            instance: 0,
            decision: json!({
                "time": time, "decision": "deny", "reason": "ambiguous-path",
                "policy": "shop/orders", "rule": "/spec/policies/0",
                "caller": "spiffe://public/ns/shop/web", "operation": "/a/%2e%2e/b",
                "rawOperation": "a/%252e%252e/b", "verb": "GET", "protocol": "http",
                "snapshot": 3, "traceId": trace,
            }),
        };
        vec![
            one("a", "2026-01-01T00:00:02.5Z", "11"),
            one("b", "2026-01-01T00:00:02.25Z", "22"),
            one("b", "2026-01-01T00:00:01Z", "22"),
        ]
    }

    #[test]
    fn the_newest_or_the_one_of_a_trace_is_picked() {
        assert_eq!(pick(found(), "last").unwrap().app_id, "a");
        assert_eq!(
            pick(found(), "22").unwrap().text("time"),
            "2026-01-01T00:00:02.25Z"
        );
        assert!(pick(found(), "33").is_none());
    }

    #[test]
    fn a_record_is_told_line_by_line() {
        let text = as_text(&found()[0]);
        let want = "deny: ambiguous-path: an app may read the path in several ways, and one of them is denied
time       2026-01-01T00:00:02.5Z
caller     spiffe://public/ns/shop/web
callee     a
verb       GET
canonical  /a/%2e%2e/b
raw        a/%252e%252e/b
protocol   http
object     shop/orders
rule       /spec/policies/0
snapshot   3
trace      11
";
        assert_eq!(text, want);
    }
}
