//! Which groups of the API answer: `spec.api.allowed` and `spec.api.denied`.
//!
//! Owns the evaluation of both lists for HTTP routes and gRPC methods (service-invocation 1.15). Health
//! always answers; proxied user services are never blocked here. Refuses to own the answers: a closed HTTP
//! route falls through to the invocation fallback, a closed gRPC method is Unimplemented.

use std::collections::HashSet;

/// One item of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Group name, such as `invoke`.
    pub(crate) name: Box<str>,
    /// `v1` or the route prefix `v1.0`.
    pub(crate) version: Box<str>,
    /// `http` in any case, or exactly `grpc`.
    pub(crate) protocol: Box<str>,
}

/// Both lists, compiled.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ApiAccess {
    http_allowed: Vec<Box<str>>,
    http_denied: Vec<Box<str>>,
    grpc_allowed: HashSet<&'static str>,
    grpc_denied: HashSet<&'static str>,
}

/// An HTTP route as the lists see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    /// `<version>/<name>` of its group, such as `v1/invoke`.
    pub(crate) key: &'a str,
    /// Its path without the leading slash, such as `v1.0/invoke`.
    pub(crate) route: &'a str,
}

/// Prefix of the services that the gRPC lists are about.
const RUNTIME_PREFIX: &str = "/dapr.proto.runtime.";
/// The public service, with the slash before its methods.
pub(crate) const SERVICE: &str = "/dapr.proto.runtime.v1.Dapr/";

/// Methods of the public service by `<name>.<version>` of their group.
const GRPC_GROUPS: &[(&str, &[&str])] = &[
    ("invoke.v1", &["InvokeService"]),
    ("metadata.v1", &["GetMetadata", "SetMetadata"]),
    ("shutdown.v1", &["Shutdown"]),
    (
        "state.v1",
        &[
            "GetState",
            "GetBulkState",
            "SaveState",
            "DeleteState",
            "DeleteBulkState",
            "ExecuteStateTransaction",
        ],
    ),
    ("state.v1alpha1", &["QueryStateAlpha1"]),
    ("publish.v1", &["PublishEvent"]),
    ("publish.v1alpha1", &["BulkPublishEventAlpha1"]),
    ("subscribe.v1alpha1", &["SubscribeTopicEventsAlpha1"]),
    ("bindings.v1", &["InvokeBinding"]),
    ("secrets.v1", &["GetSecret", "GetBulkSecret"]),
    (
        "actors.v1",
        &[
            "RegisterActorTimer",
            "UnregisterActorTimer",
            "RegisterActorReminder",
            "UnregisterActorReminder",
            "GetActorState",
            "ExecuteActorStateTransaction",
            "InvokeActor",
        ],
    ),
    (
        "configuration.v1",
        &[
            "GetConfiguration",
            "SubscribeConfiguration",
            "UnsubscribeConfiguration",
        ],
    ),
    (
        "configuration.v1alpha1",
        &[
            "GetConfigurationAlpha1",
            "SubscribeConfigurationAlpha1",
            "UnsubscribeConfigurationAlpha1",
        ],
    ),
    ("lock.v1alpha1", &["TryLockAlpha1"]),
    ("unlock.v1alpha1", &["UnlockAlpha1"]),
    ("crypto.v1alpha1", &["EncryptAlpha1", "DecryptAlpha1"]),
    (
        "workflows.v1alpha1",
        &[
            "StartWorkflowAlpha1",
            "GetWorkflowAlpha1",
            "TerminateWorkflowAlpha1",
            "RaiseEventWorkflowAlpha1",
            "PauseWorkflowAlpha1",
            "ResumeWorkflowAlpha1",
            "PurgeWorkflowAlpha1",
        ],
    ),
    (
        "workflows.v1beta1",
        &[
            "StartWorkflowBeta1",
            "GetWorkflowBeta1",
            "TerminateWorkflowBeta1",
            "RaiseEventWorkflowBeta1",
            "PauseWorkflowBeta1",
            "ResumeWorkflowBeta1",
            "PurgeWorkflowBeta1",
        ],
    ),
    (
        "jobs.v1alpha1",
        &["ScheduleJobAlpha1", "GetJobAlpha1", "DeleteJobAlpha1"],
    ),
    ("conversation.v1alpha1", &["ConverseAlpha1"]),
    ("conversation.v1alpha2", &["ConverseAlpha2"]),
];

// === impl ApiAccess ===

impl ApiAccess {
    /// Compiles the two lists.
    pub(crate) fn compile(allowed: &[Rule], denied: &[Rule]) -> Self {
        Self {
            http_allowed: http_keys(allowed),
            http_denied: http_keys(denied),
            grpc_allowed: grpc_methods(allowed),
            grpc_denied: grpc_methods(denied),
        }
    }

    /// True if this HTTP route answers.
    pub(crate) fn allows_http(&self, group: Group<'_>) -> bool {
        let on = |keys: &[Box<str>]| {
            keys.iter()
                .any(|key| **key == *group.key || group.route.starts_with(&**key))
        };
        !on(&self.http_denied) && (self.http_allowed.is_empty() || on(&self.http_allowed))
    }

    /// True if this gRPC method (with its service) answers.
    pub(crate) fn allows_grpc(&self, path: &str) -> bool {
        if !path.starts_with(RUNTIME_PREFIX) {
            return true;
        }
        let method = path.strip_prefix(SERVICE).unwrap_or(path);
        !self.grpc_denied.contains(method)
            && (self.grpc_allowed.is_empty() || self.grpc_allowed.contains(method))
    }
}

fn http_keys(rules: &[Rule]) -> Vec<Box<str>> {
    let http = rules
        .iter()
        .filter(|rule| rule.protocol.eq_ignore_ascii_case("http"));
    http.map(|rule| format!("{}/{}", rule.version, rule.name).into())
        .collect()
}

fn grpc_methods(rules: &[Rule]) -> HashSet<&'static str> {
    let grpc = rules.iter().filter(|rule| &*rule.protocol == "grpc");
    let methods = |rule: &Rule| {
        let key = format!("{}.{}", rule.name, rule.version);
        GRPC_GROUPS
            .iter()
            .find(|(group, _)| *group == key)
            .map_or(&[][..], |(_, methods)| methods)
    };
    grpc.flat_map(methods).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVOKE: Group<'_> = Group {
        key: "v1/invoke",
        route: "v1.0/invoke",
    };
    const METADATA: Group<'_> = Group {
        key: "v1/metadata",
        route: "v1.0/metadata",
    };

    fn rules(items: &[(&str, &str, &str)]) -> Vec<Rule> {
        let rule = |&(name, version, protocol): &(&str, &str, &str)| Rule {
            name: name.into(),
            version: version.into(),
            protocol: protocol.into(),
        };
        items.iter().map(rule).collect()
    }

    fn http(
        allowed: &[(&str, &str, &str)],
        denied: &[(&str, &str, &str)],
        group: Group<'_>,
    ) -> bool {
        ApiAccess::compile(&rules(allowed), &rules(denied)).allows_http(group)
    }

    fn grpc(allowed: &[(&str, &str, &str)], denied: &[(&str, &str, &str)], path: &str) -> bool {
        ApiAccess::compile(&rules(allowed), &rules(denied)).allows_grpc(path)
    }

    #[test]
    fn empty_lists_allow_everything() {
        assert!(http(&[], &[], INVOKE) && http(&[], &[], METADATA));
        assert!(grpc(&[], &[], "/dapr.proto.runtime.v1.Dapr/InvokeService"));
    }

    /// Fact: service-invocation 1.15, SI-124, SI-125.
    #[test]
    fn http_matches_the_group_or_a_prefix_of_the_route() {
        assert!(!http(&[], &[("metadata", "v1.0", "http")], METADATA));
        assert!(!http(&[], &[("metadata", "v1", "HTTP")], METADATA));
        assert!(http(&[], &[("metadata", "v1.0", "http")], INVOKE));
        assert!(!http(&[("state", "v1.0", "http")], &[], INVOKE));
        assert!(http(&[("invoke", "v1", "http")], &[], INVOKE));
        assert!(!http(
            &[("invoke", "v1", "http")],
            &[("invoke", "v1", "http")],
            INVOKE
        ));
        assert!(
            http(&[("state", "v1", "grpc")], &[], INVOKE),
            "rules of gRPC do not count"
        );
    }

    /// Fact: service-invocation 1.15, SI-126.
    #[test]
    fn grpc_matches_exactly_and_only_the_runtime_services() {
        let invoke = "/dapr.proto.runtime.v1.Dapr/InvokeService";
        assert!(!grpc(&[("state", "v1", "grpc")], &[], invoke));
        assert!(grpc(&[("state", "v1", "grpc")], &[], "/greet.G/Hi"));
        assert!(grpc(&[("invoke", "v1", "grpc")], &[], invoke));
        assert!(!grpc(&[], &[("invoke", "v1", "grpc")], invoke));
        assert!(
            grpc(&[], &[("invoke", "v1", "GRPC")], invoke),
            "the word is exact"
        );
        assert!(
            grpc(&[("nosuch", "v9", "grpc")], &[], invoke),
            "unknown pairs are ignored"
        );
    }
}
