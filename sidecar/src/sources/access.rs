//! Who may call what here: the block of the Configuration, and the AccessControl objects of the folders and of the
//! operator, which are one set: a denial in one source cannot be lifted by the other.
//!
//! Pure. Owns what a person is told about them, and that a rule which cannot be used is never left out: the
//! whole is refused, so that a start fails and a reload keeps what is in force (security F10).

use std::{borrow::Cow, time::SystemTime};

use ironside_identity::TrustDomain;
use ironside_policy::{AppKind, Block, Callee, CompileProblem, Input, Namespaces, PolicySet};
use ironside_resources::{Configuration, loader::Loaded};
use ironside_telemetry::metrics::{Metrics, ObjectState, SourceState};

use super::stream::Streamed;
use crate::{
    config::{AppProtocol, Config},
    live::{Live, PolicySnapshot},
};

/// Why rules cannot be used. The first text is the reference's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    /// The block of the Configuration.
    #[error("{0}")]
    Block(String),
    /// Objects, or files that may hold some.
    #[error("failed to load access control: {0}; correct the file, or remove it")]
    Objects(String),
}

/// Compiles all rules, with what a person should know about them.
///
/// # Errors
/// [`AccessError`] names every file and every problem.
pub(super) fn compile(
    configuration: &Configuration,
    loaded: &Loaded,
    config: &Config,
    domain: &TrustDomain,
    streamed: &Streamed,
) -> Result<(PolicySet, Vec<String>), AccessError> {
    if !loaded.policy_failures.is_empty() {
        return Err(AccessError::Objects(joined(&loaded.policy_failures)));
    }
    let name = name(config);
    let block = configuration.spec.access_control.as_ref();
    let block = block.map(|spec| Block {
        name: &name,
        spec,
        is_strict: config.access_control_strict,
    });
    let held = streamed.held();
    let mut objects = Cow::Borrowed(loaded.access_controls.as_slice());
    if let Some(held) = held {
        objects.to_mut().extend_from_slice(&held.objects);
    }
    let input = Input {
        callee: &callee(config, domain),
        block,
        objects: &objects,
        refused: held.map(|held| held.refused.as_slice()).unwrap_or_default(),
        // The loader, or the stream, has chosen already.
        namespaces: Namespaces::Any,
        deny_by_default: held.is_some_and(|held| held.deny_by_default),
    };
    let set = PolicySet::compile(&input).map_err(refusal)?;
    let set = match streamed {
        Streamed::Absent | Streamed::Unsupported | Streamed::Held(_) => set,
        Streamed::Pending => PolicySet::pending(),
        Streamed::Expired(_) => set.expired(),
    };
    Ok((set, warnings(block, loaded, config)))
}

/// The first state of the rules, in force since `now`; that of a stream is none.
pub(crate) fn first(streamed: &Streamed, now: SystemTime) -> PolicySnapshot {
    PolicySnapshot {
        number: u64::from(matches!(streamed, Streamed::Absent)),
        since: now,
    }
}

/// The state that follows `last` once other rules are in force.
pub(super) fn next(last: PolicySnapshot, now: SystemTime) -> PolicySnapshot {
    PolicySnapshot {
        number: last.number.saturating_add(1),
        since: now,
    }
}

/// How many objects and files cannot be used; the rules in force stay (fact F10).
pub(super) fn invalid(loaded: &Loaded) -> usize {
    let objects = loaded.access_controls.iter();
    let bad = objects.filter(|object| !object.problems().is_empty());
    loaded.policy_failures.len() + bad.count()
}

/// Tells the series which rules are in force, and how many cannot be used.
pub(crate) fn measure(metrics: &Metrics, live: &Live, streamed: &Streamed, invalid: usize) {
    let held = streamed.held();
    let refused = held.map_or(0, |held| held.refused.len());
    let outdated = held
        .map(|held| held.outdated.as_slice())
        .unwrap_or_default();
    let objects = live.policy.objects();
    let (old, current): (Vec<_>, Vec<_>) = objects
        .iter()
        .partition(|object| outdated.contains(&object.name));
    let audited = current.iter().filter(|object| object.is_audit).count();
    metrics.access_control_snapshot(live.snapshot.number);
    // Of what came its task knows more.
    match streamed {
        Streamed::Absent => metrics.access_control_source(SourceState::File),
        Streamed::Pending => metrics.access_control_source(SourceState::Unavailable),
        Streamed::Unsupported | Streamed::Held(_) | Streamed::Expired(_) => {}
    }
    for (state, count) in [
        (ObjectState::Ok, current.len() - audited),
        (ObjectState::Audit, audited),
        (ObjectState::Invalid, invalid + refused + old.len()),
    ] {
        metrics.access_control_objects(state, count);
    }
}

fn refusal(problems: Vec<CompileProblem>) -> AccessError {
    let block = problems.iter().find_map(|problem| match problem {
        CompileProblem::Block(error) => Some(AccessError::Block(error.to_string())),
        CompileProblem::Object { .. } => None,
    });
    block.unwrap_or_else(|| AccessError::Objects(joined(&problems)))
}

fn joined<T: ToString>(list: &[T]) -> String {
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// The last file wins, so the block is known by its name.
fn name(config: &Config) -> String {
    if let Some(kubernetes) = &config.kubernetes {
        return kubernetes
            .configuration
            .as_deref()
            .unwrap_or_default()
            .to_owned();
    }
    let file = config.files.configurations.last();
    let stem = file.and_then(|path| path.file_stem());
    stem.map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn callee(config: &Config, domain: &TrustDomain) -> Callee {
    let protocol = config.app.as_ref().map(|app| app.protocol);
    Callee {
        app_id: config.app_id.clone(),
        namespace: config.namespace.clone(),
        trust_domain: domain.clone(),
        app: match protocol {
            Some(AppProtocol::Grpc | AppProtocol::Grpcs) => AppKind::Grpc,
            Some(AppProtocol::Http | AppProtocol::Https | AppProtocol::H2c) | None => AppKind::Http,
        },
    }
}

fn warnings(block: Option<Block<'_>>, loaded: &Loaded, config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(block) = block.filter(Block::is_open_by_omission) {
        lines.push(format!(
            "Configuration {}: spec.accessControl has policies and no defaultAction: callers without an entry are allowed; set spec.accessControl.defaultAction to deny to refuse them",
            block.name
        ));
    }
    let has_rules = block.is_some_and(|block| block.is_explicit());
    if !config.is_mtls && (has_rules || !loaded.access_controls.is_empty()) {
        lines.push(
            "access control is in force, but mutual TLS is off: callers have no identity, so only defaults apply to them; start with --enable-mtls".to_owned(),
        );
    }
    lines
}
