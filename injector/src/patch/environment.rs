//! The environment of the sidecar, in order.
//!
//! Owns the table of kubernetes 2.10 and the grammar of the annotations `env` and `env-from-secret`. What is ours
//! alone comes behind the fixed names of the reference and before those of the user.

use super::Input;
use super::annotations::Annotations;
use super::volumes::ANCHORS_PATH;
use ironside_telemetry::quoted;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, SecretKeySelector};

/// The key of the Secrets that hold tokens.
const TOKEN: &str = "token";

/// A variable that a user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    Literal {
        name: &'a str,
        value: &'a str,
    },
    Secret {
        name: &'a str,
        secret: &'a str,
        key: &'a str,
    },
}

/// A pair that is none, with what is wrong.
pub(super) type Flaw = String;

/// Makes the list.
pub(super) fn daprd(input: &Input<'_>, annotations: &Annotations<'_>) -> Vec<EnvVar> {
    let mut all = fixed(input);
    let wanted = wanted(annotations).filter_map(Result::ok);
    let wanted: Vec<EnvVar> = wanted.map(EnvVar::from).collect();
    let keys: Vec<&str> = wanted.iter().map(|one| one.name.as_str()).collect();
    let keys = keys.join(" ");
    let has_keys = !wanted.is_empty();
    all.extend(wanted);
    if has_keys {
        all.push(literal("DAPR_ENV_KEYS", &keys));
    }
    for (name, annotation) in [
        ("DAPR_API_TOKEN", "api-token-secret"),
        ("APP_API_TOKEN", "app-token-secret"),
    ] {
        if let Some(secret) = annotations.some(annotation) {
            all.push(from_secret(name, secret, TOKEN));
        }
    }
    all
}

/// What every sidecar is told.
fn fixed(input: &Input<'_>) -> Vec<EnvVar> {
    let settings = input.settings;
    let mut all = vec![
        literal("NAMESPACE", input.namespace),
        literal("DAPR_TRUST_ANCHORS", input.trust_anchors),
        from_field("POD_NAME", "metadata.name"),
        literal("DAPR_CONTROLPLANE_NAMESPACE", &settings.namespace),
        literal("DAPR_CONTROLPLANE_TRUST_DOMAIN", &settings.trust_domain),
    ];
    if settings.host_ip {
        all.push(from_field("DAPR_HOST_IP", "status.podIP"));
    }
    // A sidecar of the reference knows neither, and starts.
    all.push(literal("DAPR_ACCESS_CONTROL", "required"));
    let cache = format!("{ANCHORS_PATH}/anchors.pem");
    all.push(literal("DAPR_TRUST_ANCHORS_CACHE", &cache));
    all
}

/// The names that a user's variable would hide.
pub(super) const FIXED: [&str; 9] = [
    "NAMESPACE",
    "DAPR_TRUST_ANCHORS",
    "POD_NAME",
    "DAPR_CONTROLPLANE_NAMESPACE",
    "DAPR_CONTROLPLANE_TRUST_DOMAIN",
    "DAPR_HOST_IP",
    "DAPR_ACCESS_CONTROL",
    "DAPR_TRUST_ANCHORS_CACHE",
    "DAPR_ENV_KEYS",
];

/// Everything that the two annotations ask for, in order, and what cannot be had.
pub(super) fn wanted<'a>(
    annotations: &Annotations<'a>,
) -> impl Iterator<Item = Result<Wanted<'a>, Flaw>> + use<'a> {
    let literals = pairs(annotations.text("env")).map(|pair| {
        let (name, value) = pair?;
        Ok(Wanted::Literal { name, value })
    });
    let secrets = pairs(annotations.text("env-from-secret")).map(|pair| {
        let (name, value) = pair?;
        match value.split(':').collect::<Vec<_>>().as_slice() {
            [""] | ["", _] | [_, ""] => Err(format!("{name} names no Secret and key")),
            [secret] => Ok(Wanted::Secret {
                name,
                secret,
                key: secret,
            }),
            [secret, key] => Ok(Wanted::Secret { name, secret, key }),
            _ => Err(format!("{name} has more than one colon")),
        }
    });
    literals.chain(secrets)
}

/// Pairs `K=V`: a comma begins another pair only before a name and `=`, so that values may hold commas.
fn pairs(text: &str) -> impl Iterator<Item = Result<(&str, &str), Flaw>> {
    let mut rest = Some(text).filter(|text| !text.trim().is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        let mut commas = text.match_indices(',').map(|(at, _comma)| at);
        let end = commas.find(|at| text.get(at + 1..).is_some_and(begins_pair));
        let cut = end.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
        let part = cut.map_or(text, |(part, _after)| part).trim();
        rest = cut.map(|(_part, after)| after);
        let pair = part.split_once('=');
        let pair = pair.map(|(name, value)| (name.trim(), value));
        let named = pair.filter(|(name, _)| !name.is_empty());
        Some(named.ok_or_else(|| format!("{} is no pair NAME=value", quoted(part))))
    })
}

/// Says whether a name and `=` come next; looks no further than that.
fn begins_pair(text: &str) -> bool {
    let text = text.trim_start();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = text.trim_start_matches(is_name);
    let begins = text.starts_with(|c: char| is_name(c) && !c.is_ascii_digit());
    begins && rest.starts_with('=')
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    pub(super) fn name(self) -> &'a str {
        match self {
            Self::Literal { name, .. } | Self::Secret { name, .. } => name,
        }
    }
}

impl From<Wanted<'_>> for EnvVar {
    fn from(wanted: Wanted<'_>) -> Self {
        match wanted {
            Wanted::Literal { name, value } => literal(name, value),
            Wanted::Secret { name, secret, key } => from_secret(name, secret, key),
        }
    }
}

pub(super) fn literal(name: &str, value: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    sourced(
        name,
        EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        },
    )
}

fn from_secret(name: &str, secret: &str, key: &str) -> EnvVar {
    sourced(
        name,
        EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: secret.to_owned(),
                key: key.to_owned(),
                ..SecretKeySelector::default()
            }),
            ..EnvVarSource::default()
        },
    )
}

fn sourced(name: &str, source: EnvVarSource) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(source),
        ..EnvVar::default()
    }
}
