//! What is wrong with a pod's annotations, told to whoever applies it.
//!
//! Owns the warnings of an admission and the few values that no pod can have: a number that is no port would be
//! refused by the API server with a text about a container that the user has not written. Everything is judged by the
//! readers that the patch uses. The number of warnings is bounded, and each is short: the API server cuts what is
//! longer.

use super::annotations::{Annotations, read_number};
use super::environment::{self, FIXED};
use super::pod::Pod;
use super::{DAPRD, HTTP_PORT, PUBLIC_PORT, volumes};
use ironside_chassis::args::{GoDuration, QuantityError, parse_decimal, parse_quantity};
use ironside_resources::annotations::{
    Annotation, CONTROL_PLANE, Kind, PREFIX, Support, TABLE, find, is_truthy,
};
use ironside_telemetry::quoted;

/// Warnings about one pod.
const MOST: usize = 16;
/// Longest value that is repeated, in bytes.
const LONGEST: usize = 64;
/// How near an unknown name must be to a known one to be taken for it.
const NEAR: f64 = 0.75;

/// A value that no pod can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value for the annotation {PREFIX}{name}: {value} is no port ({least} to 65535)")]
pub(crate) struct NoPort {
    name: &'static str,
    value: String,
    least: i64,
}

/// Finds the first number that is no port.
pub(crate) fn check(annotations: Annotations<'_>) -> Result<(), NoPort> {
    for known in TABLE {
        let Kind::Port(least) = known.kind else {
            continue;
        };
        let Some(text) = annotations.get(known.name) else {
            continue;
        };
        if parse_decimal(text).is_ok() && read_number(known.kind, text).is_none() {
            return Err(NoPort {
                name: known.name,
                value: short(text),
                least,
            });
        }
    }
    Ok(())
}

/// Everything that the user should know.
pub(crate) fn warnings(pod: &Pod) -> Vec<String> {
    let annotations = pod.annotations();
    let ours = annotations
        .all()
        .filter(|(name, _)| name.starts_with(PREFIX));
    let values = ours.filter_map(|(name, value)| match find(name) {
        Some(known) => flaw(known, value).map(|flaw| format!("{name}: {flaw}")),
        None if name == CONTROL_PLANE => None,
        None => Some(unknown(name)),
    });
    let rest = environment_flaws(annotations).chain(mount_flaws(pod));
    // One more than is told, to know that there are more.
    let mut all: Vec<String> = values.chain(rest).take(MOST + 1).collect();
    if all.len() > MOST {
        all.truncate(MOST);
        all.push("there is more to say about the annotations of the pod".to_owned());
    }
    all.extend(port_flaws(annotations));
    all
}

/// Says whether a quantity can be a request or a limit.
pub(super) fn is_amount(text: &str) -> bool {
    match parse_quantity(text) {
        Ok(number) => number >= 0,
        // A fraction of a CPU, and more bytes than there are.
        Err(QuantityError::Fraction | QuantityError::Range) => !text.starts_with('-'),
        Err(QuantityError::Syntax) => false,
    }
}

fn flaw(known: &Annotation, value: &str) -> Option<String> {
    match known.support {
        Support::Full | Support::Passed => {}
        Support::Ignored => return Some("it has no effect here".to_owned()),
    }
    let said = short(value);
    let ignored = |what: &str| Some(format!("{said} is no {what}; the default is used"));
    match known.kind {
        Kind::Bool => bool_flaw(value, &said),
        Kind::Int(..) if parse_decimal(value).is_err() => ignored("number"),
        Kind::Int(least, most) if read_number(known.kind, value).is_none() => Some(format!(
            "{said} is not between {least} and {most}; the default is used"
        )),
        Kind::Port(_) if parse_decimal(value).is_err() => ignored("number"),
        Kind::Word(words) if !value.is_empty() && !is_one_of(known.name, value, words) => {
            Some(format!("{said} is none of {}", words.join(", ")))
        }
        Kind::Duration if value.parse::<GoDuration>().is_err() => {
            Some(format!("{said} is no duration, as 10s or 1m30s"))
        }
        Kind::Quantity if !value.is_empty() && !is_amount(value) => {
            let dropped = known.name.starts_with("sidecar-");
            let then = if dropped { "; it is left out" } else { "" };
            Some(format!("{said} is no quantity, as 100m or 64Mi{then}"))
        }
        Kind::Text if value.is_empty() && known.name == "sidecar-image" => {
            Some("an empty image".to_owned())
        }
        Kind::Int(..)
        | Kind::Port(_)
        | Kind::Word(_)
        | Kind::Duration
        | Kind::Quantity
        | Kind::Text
        | Kind::Pairs
        | Kind::Mounts => None,
    }
}

/// The API server's profile names are exact; the sidecar's words are not.
fn is_one_of(name: &str, value: &str, words: &[&str]) -> bool {
    words.iter().any(|word| match name {
        "sidecar-seccomp-profile-type" => *word == value,
        _ => word.eq_ignore_ascii_case(value),
    })
}

fn bool_flaw(value: &str, said: &str) -> Option<String> {
    if ["true", "false"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
    {
        return None;
    }
    let taken = is_truthy(value);
    Some(format!("{said} counts as {taken}; write true or false"))
}

fn unknown(name: &str) -> String {
    let bare = cut(name.strip_prefix(PREFIX).unwrap_or(name), LONGEST);
    let nearest = TABLE
        .iter()
        .map(|known| (strsim::jaro_winkler(known.name, bare), known.name));
    let nearest = nearest.max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((similarity, near)) if similarity >= NEAR => {
            format!(
                "unknown annotation {}; did you mean {PREFIX}{near}?",
                short(name)
            )
        }
        Some(_) | None => format!("unknown annotation {}; it is ignored", short(name)),
    }
}

fn environment_flaws(annotations: Annotations<'_>) -> impl Iterator<Item = String> {
    environment::wanted(&annotations).filter_map(|wanted| match wanted {
        Err(flaw) => Some(format!(
            "{PREFIX}env: {}; it is left out",
            cut(&flaw, 2 * LONGEST)
        )),
        Ok(wanted) if FIXED.contains(&wanted.name()) => {
            let name = wanted.name();
            Some(format!(
                "{PREFIX}env: {name} takes the place of what the sidecar needs"
            ))
        }
        Ok(_) => None,
    })
}

fn mount_flaws(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.volume_names();
    volumes::wanted(&pod.annotations()).filter_map(move |wanted| match wanted {
        Err(flaw) => Some(format!(
            "{PREFIX}volume-mounts: {}; it is left out",
            cut(&flaw, 2 * LONGEST)
        )),
        Ok(wanted) if !volumes.contains(wanted.volume) => {
            let name = short(wanted.volume);
            Some(format!(
                "{PREFIX}volume-mounts: the pod has no volume {name}"
            ))
        }
        Ok(_) => None,
    })
}

/// Ports that two listeners of one pod cannot share.
fn port_flaws(annotations: Annotations<'_>) -> Vec<String> {
    use super::args::{GRPC_PORT, INTERNAL_PORT, METRICS_PORT};
    let mut taken = vec![
        (i64::from(HTTP_PORT), "HTTP API".to_owned()),
        (i64::from(PUBLIC_PORT), "health".to_owned()),
    ];
    let metrics = annotations.bool("enable-metrics", true);
    let rows = [
        ("grpc-port", GRPC_PORT, true),
        ("internal-grpc-port", INTERNAL_PORT, true),
        ("metrics-port", METRICS_PORT, metrics),
        ("app-port", 0, true),
    ];
    let mut all = Vec::new();
    for (name, default, is_used) in rows {
        let port = annotations.int(name, default);
        if port == 0 || !is_used {
            continue;
        }
        let name = format!("{PREFIX}{name}");
        if let Some((_, other)) = taken.iter().find(|(known, _)| *known == port) {
            all.push(format!(
                "{name}: port {port} of container {DAPRD} is taken: {other}"
            ));
        }
        taken.push((port, name));
    }
    all
}

/// A value in quotes, cut.
fn short(text: &str) -> String {
    let kept = cut(text, LONGEST);
    let more = if kept.len() < text.len() { "…" } else { "" };
    format!("{}{more}", quoted(kept))
}

fn cut(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest))
        .unwrap_or(text)
}
