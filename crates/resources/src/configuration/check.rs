//! What a configuration must not say.
//!
//! All problems are found, not the first. Rules that need a parser of their
//! own (access control, metric rules) are checked where they are compiled.

use std::collections::HashSet;

use super::{ConfigProblem, Secrets, Spec, Tracing, inbound};

pub(super) fn problems(spec: &Spec) -> Vec<ConfigProblem> {
    let mut problems = Vec::new();
    if let Some(tracing) = &spec.tracing {
        otel(tracing, &mut problems);
    }
    if let Some(secrets) = &spec.secrets {
        scopes(secrets, &mut problems);
    }
    if let Some(section) = &spec.inbound {
        inbound::read(section, &mut problems);
    }
    problems
}

/// The exporter needs both an address and a protocol; only then is the protocol judged.
fn otel(tracing: &Tracing, problems: &mut Vec<ConfigProblem>) {
    let Some(otel) = &tracing.otel else { return };
    let address = otel.endpoint_address.as_deref().unwrap_or_default();
    let protocol = otel.protocol.as_deref().unwrap_or_default();
    if !address.is_empty() && !["", "http", "grpc"].contains(&protocol) {
        problems.push(ConfigProblem::OtelProtocol(protocol.into()));
    }
}

fn scopes(secrets: &Secrets, problems: &mut Vec<ConfigProblem>) {
    let mut stores = HashSet::new();
    for scope in secrets.scopes.iter().flatten() {
        if !stores.insert(&scope.store_name) {
            let store = scope.store_name.as_str().into();
            problems.push(ConfigProblem::SecretStoreTwice(store));
        }
        let access = &scope.default_access;
        let known = ["", "allow", "deny"];
        if !known.iter().any(|word| access.eq_ignore_ascii_case(word)) {
            problems.push(ConfigProblem::SecretAccess(access.as_str().into()));
        }
    }
}
