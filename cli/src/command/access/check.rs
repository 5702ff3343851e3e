//! `accesscontrol check`: what files of rules say of one request, and why.

use std::borrow::Cow;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ironside_identity::SpiffeId;
use ironside_policy::{
    Callee, Caller, Explanation, Method, Operation, PolicySet, Reason, Verb, VerbSet, Verdict,
};
use serde_json::{Value, json};

use super::{NO, Session, app_kind, callee, caller, rules::Sources, show, wants_json};
use crate::output;

/// One request, as it is asked.
pub(super) struct Asked {
    pub(super) caller: Option<SpiffeId>,
    pub(super) callee: Callee,
    pub(super) verb: Verb,
    /// The cleaned path.
    pub(super) method: String,
    pub(super) is_proxied: bool,
    pub(super) overrides: VerbSet,
}

/// Runs the command.
pub(super) fn run(session: &Session) -> anyhow::Result<ExitCode> {
    let values = &session.values;
    let is_json = wants_json(session)?;
    let callee = callee(
        values.text("callee").unwrap_or_default(),
        app_kind(session)?,
    )?;
    let sources = match values.switch("kubernetes") {
        true => super::cluster::sources(session, Some(&callee))?,
        false => Sources::read(
            &values.texts("file"),
            &values.texts("resources-path"),
            &values.texts("config"),
        )?,
    };
    let caller = caller(values.text("caller").unwrap_or_default())?;
    let raw = values.text("path").unwrap_or_default();
    let form = values.text("api").unwrap_or("http");
    let verb = match form {
        "proxy" => Verb::None,
        _ => Verb::from_http(values.text("verb").unwrap_or("GET")),
    };
    let asked = Asked {
        caller,
        callee,
        verb,
        method: method(raw, form)?,
        is_proxied: form == "proxy",
        overrides: VerbSet::NONE,
    };
    let rules = sources.rules(&asked.callee, session)?;
    for warning in &rules.warnings {
        session.status.warning(warning);
    }
    let explained = asked.explain(&rules.set);
    if is_json {
        let value = as_json(&asked, &explained, &rules.set, &sources);
        output::line(&serde_json::to_string_pretty(&value).context("writing JSON")?);
    } else {
        output::out(as_text(&asked, &explained, &rules.set, &sources).as_bytes());
    }
    Ok(if explained.decision.is_allowed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO)
    })
}

/// What a client writes becomes what policy sees, as in a sidecar; or the call ends before policy is asked.
pub(super) fn method(raw: &str, form: &str) -> anyhow::Result<String> {
    let decoded = match form {
        // The API decodes once.
        "http" => ironside_resolution::form::decode_path(raw)
            .with_context(|| format!("refused before policy is asked: --path {raw}"))?,
        "grpc" | "proxy" => Cow::Borrowed(raw),
        other => bail!("--api {other}: write http, grpc or proxy"),
    };
    let method = Method::parse(&decoded)
        .with_context(|| format!("refused before policy is asked: --path {raw}"))?;
    Ok(method.as_str().to_owned())
}

// === impl Asked ===

impl Asked {
    /// Asks policy for everything about it.
    pub(super) fn explain(&self, set: &PolicySet) -> Explanation {
        set.explain(self.peer(), &self.operation())
    }

    /// Asks policy.
    pub(super) fn decide(&self, set: &PolicySet) -> Verdict {
        set.decide(self.peer(), &self.operation()).verdict
    }

    fn peer(&self) -> Caller<'_> {
        self.caller.as_ref().map_or(Caller::Anonymous, Caller::Peer)
    }

    fn operation(&self) -> Operation<'_> {
        let operation = if self.is_proxied {
            Operation::proxied(&self.method)
        } else {
            Operation::invoke(&self.method, self.verb)
        };
        Operation {
            overrides: self.overrides,
            ..operation
        }
    }

    fn caller_text(&self) -> String {
        let caller = self.caller.as_ref().map(ToString::to_string);
        caller.unwrap_or_else(|| "without identity".to_owned())
    }
}

/// The explanation, a line a fact.
pub(super) fn as_text(
    asked: &Asked,
    explained: &Explanation,
    set: &PolicySet,
    sources: &Sources,
) -> String {
    let verdict = &explained.decision.verdict;
    let reason = verdict.matched().reason.as_str();
    let mut lines = vec![format!(
        "{}: {reason}: {}",
        show::word(verdict.is_allowed()),
        show::meaning(reason)
    )];
    let mut fact = |name: &str, text: String| lines.push(format!("{name:<10} {text}"));
    fact("caller", asked.caller_text());
    fact(
        "callee",
        format!("{}/{}", asked.callee.namespace, asked.callee.app_id),
    );
    fact("verb", asked.verb.as_str().to_owned());
    fact("canonical", explained.canonical.clone());
    if explained.readings.is_empty() && reason == Reason::AmbiguousPath.as_str() {
        fact(
            "reading",
            "it decodes for ever, into no text, or in too many ways: denied as a whole".to_owned(),
        );
    }
    for (text, verdict) in &explained.readings {
        let word = show::word(verdict.is_allowed());
        let because = show::because(set, sources, verdict);
        let text = rooted(text);
        fact("reading", format!("{} {word} {because}", escaped(&text)));
    }
    for object in &explained.objects {
        let audit = if object.is_audit { " (audit)" } else { "" };
        let says = match &object.verdict {
            Some(verdict) => {
                let word = show::word(verdict.is_allowed());
                format!("{word} {}", show::because(set, sources, verdict))
            }
            None => "not asked: the app calls itself".to_owned(),
        };
        fact("object", format!("{}{audit}: {says}", object.name));
    }
    if let Some(audit) = &explained.decision.audit {
        let word = show::word(audit.is_allowed());
        let because = show::because(set, sources, audit);
        fact("audit", format!("with audited objects: {word} {because}"));
    }
    let rule = verdict.matched().rule;
    if let Some(rule) = rule.and_then(|rule| show::rule_text(set, sources, rule)) {
        fact("rule", rule);
    }
    if let Some(nearest) = &explained.nearest
        && let Some(rule) = show::rule_text(set, sources, nearest.rule)
    {
        fact("nearest", format!("{rule} allows {}", nearest.sample));
    }
    lines.join("\n") + "\n"
}

fn rooted(method: &str) -> String {
    format!("/{}", method.strip_prefix('/').unwrap_or(method))
}

/// A reading may hold what no path may.
fn escaped(text: &str) -> String {
    let one = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(one).collect()
}

/// The explanation as one object.
pub(super) fn as_json(
    asked: &Asked,
    explained: &Explanation,
    set: &PolicySet,
    sources: &Sources,
) -> Value {
    let readings = explained.readings.iter().map(|(text, verdict)| {
        let mut value = show::verdict_json(set, sources, verdict);
        if let Some(members) = value.as_object_mut() {
            members.insert("path".to_owned(), json!(rooted(text)));
        }
        value
    });
    let objects = explained.objects.iter().map(|object| {
        json!({
            "name": object.name,
            "audit": object.is_audit,
            "says": object.verdict.as_ref().map(|verdict| show::verdict_json(set, sources, verdict)),
        })
    });
    let nearest = explained.nearest.as_ref().map(|nearest| {
        json!({
            "rule": show::rule_json(set, sources, Some(nearest.rule)),
            "allows": show::sample_json(&nearest.sample),
        })
    });
    let mut value = show::verdict_json(set, sources, &explained.decision.verdict);
    if let Some(members) = value.as_object_mut() {
        let callee = format!("{}/{}", asked.callee.namespace, asked.callee.app_id);
        let more = [
            (
                "caller",
                json!(asked.caller.as_ref().map(ToString::to_string)),
            ),
            ("callee", json!(callee)),
            ("verb", json!(asked.verb.as_str())),
            ("canonical", json!(explained.canonical)),
            ("readings", readings.collect()),
            ("objects", objects.collect()),
            ("nearest", json!(nearest)),
        ];
        members.extend(more.map(|(name, value)| (name.to_owned(), value)));
    }
    value
}
