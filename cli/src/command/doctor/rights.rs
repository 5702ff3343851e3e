//! The rights that the programs of the control plane cannot do without.
//!
//! A table, in the words of the API; the chart grants them.

use serde_json::{Value, json};

/// Where a right must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the whole cluster.
    Cluster,
    /// In the namespace that the operator looks at, or in all.
    Watched,
    /// In the control plane's namespace.
    Own,
}

/// One right of one program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Right {
    /// Its ServiceAccount.
    pub account: &'static str,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: &'static str,
    place: Place,
}

const fn right(
    account: &'static str,
    verb: &'static str,
    group: &'static str,
    resource: &'static str,
    name: &'static str,
    place: Place,
) -> Right {
    Right {
        account,
        verb,
        group,
        resource,
        name,
        place,
    }
}

const BUNDLE: &str = "dapr-trust-bundle";

/// What is asked, in this order.
pub(super) const RIGHTS: [Right; 14] = [
    right(
        "dapr-sentry",
        "create",
        "authentication.k8s.io",
        "tokenreviews",
        "",
        Place::Cluster,
    ),
    right("dapr-sentry", "list", "", "pods", "", Place::Cluster),
    right(
        "dapr-sentry",
        "list",
        "",
        "serviceaccounts",
        "",
        Place::Cluster,
    ),
    right("dapr-sentry", "update", "", "secrets", BUNDLE, Place::Own),
    right(
        "dapr-sentry",
        "update",
        "",
        "configmaps",
        BUNDLE,
        Place::Own,
    ),
    right(
        "dapr-injector",
        "patch",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "dapr-sidecar-injector",
        Place::Cluster,
    ),
    right("dapr-injector", "get", "", "configmaps", BUNDLE, Place::Own),
    right("dapr-operator", "get", "", "configmaps", BUNDLE, Place::Own),
    right(
        "dapr-operator",
        "update",
        "coordination.k8s.io",
        "leases",
        "operator.dapr.io",
        Place::Own,
    ),
    right("dapr-operator", "list", "", "pods", "", Place::Watched),
    right(
        "dapr-operator",
        "create",
        "",
        "services",
        "",
        Place::Watched,
    ),
    right(
        "dapr-operator",
        "list",
        "dapr.io",
        "accesscontrols",
        "",
        Place::Watched,
    ),
    right(
        "dapr-operator",
        "patch",
        "dapr.io",
        "accesscontrols/status",
        "",
        Place::Watched,
    ),
    right(
        "dapr-operator",
        "list",
        "dapr.io",
        "configurations",
        "",
        Place::Watched,
    ),
];

// === impl Right ===

impl Right {
    /// The `spec` of the review that asks for it.
    pub(super) fn question(self, own: &str, watched: Option<&str>) -> Value {
        let (resource, part) = match self.resource.split_once('/') {
            Some((resource, part)) => (resource, part),
            None => (self.resource, ""),
        };
        let namespace = match self.place {
            Place::Cluster => "",
            Place::Watched => watched.unwrap_or_default(),
            Place::Own => own,
        };
        json!({
            "user": format!("system:serviceaccount:{own}:{}", self.account),
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{own}"), "system:authenticated"],
            "resourceAttributes": {
                "verb": self.verb, "group": self.group, "resource": resource, "subresource": part,
                "name": self.name, "namespace": namespace,
            },
        })
    }

    /// The right in words.
    pub(super) fn words(self) -> String {
        let name = match self.name {
            "" => String::new(),
            name => format!(" {name}"),
        };
        format!("{} {}{name}", self.verb, self.resource)
    }
}
