//! What may a pod be called? Purely, by its annotations.
//!
//! Owns the second table of security 1.7: a part of the control plane has the name that its annotation says, and only
//! in the control plane's namespace; any other pod has the app ID that it asks for, or its own name.

use super::super::Refused;
use super::review::Owner;
use crate::cluster::views::PodView;

/// The values of `dapr.io/control-plane`.
const SERVICES: [&str; 5] = ["operator", "placement", "injector", "sentry", "scheduler"];

/// The one name that a pod may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) id: String,
    pub(super) role: Role,
}

/// Whose part a pod plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    App,
    ControlPlane,
}

/// Decides on the name of a pod.
pub(super) fn expected(
    owner: &Owner,
    pod: &PodView,
    control_plane_namespace: &str,
) -> Result<Expected, Refused> {
    let (namespace, name) = (&owner.namespace, &owner.pod_name);
    let Some(service) = pod.control_plane.as_deref() else {
        return Ok(Expected {
            id: pod.app_id.as_deref().unwrap_or(name).to_owned(),
            role: Role::App,
        });
    };
    let refused = |text: String| Err(Refused::with_text(&text));
    if namespace != control_plane_namespace {
        return refused(format!(
            "control plane service in namespace '{namespace}' is not allowed"
        ));
    }
    if !SERVICES.contains(&service) {
        return refused(format!("unknown control plane service '{name}'"));
    }
    if pod.app_id.is_some() {
        return refused(format!(
            "control plane service '{name}' cannot have annotation 'dapr.io/app-id'"
        ));
    }
    Ok(Expected {
        id: format!("dapr-{service}"),
        role: Role::ControlPlane,
    })
}

/// Says whether a comma list names an app ID.
pub(super) fn is_listed(list: &str, app_id: &str) -> bool {
    list.split(',').any(|allowed| allowed.trim() == app_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(control_plane: Option<&str>, app_id: Option<&str>) -> PodView {
        PodView {
            uid: "u".into(),
            service_account: "sa".into(),
            control_plane: control_plane.map(Box::from),
            app_id: app_id.map(Box::from),
            config: None,
            images: None,
        }
    }

    fn name_of(namespace: &str, pod: &PodView) -> Result<(String, Role), String> {
        let owner = Owner {
            namespace: namespace.into(),
            account: "sa".into(),
            pod_name: "p-0".into(),
            pod_uid: "u".into(),
        };
        expected(&owner, pod, "dapr-system")
            .map(|expected| (expected.id, expected.role))
            .map_err(|why| why.to_string())
    }

    /// Fact: security.md 1.7, K025, K029.
    #[test]
    fn the_annotations_say_the_name() {
        let app = |id: &str| Ok((id.to_owned(), Role::App));
        assert_eq!(name_of("ns", &pod(None, Some("orders"))), app("orders"));
        assert_eq!(name_of("ns", &pod(None, None)), app("p-0"));
        for service in SERVICES {
            let id = format!("dapr-{service}");
            let named = name_of("dapr-system", &pod(Some(service), None));
            assert_eq!(named, Ok((id, Role::ControlPlane)));
        }
    }

    /// Fact: security.md K038.
    #[test]
    fn a_false_part_of_the_control_plane_is_refused() {
        let refused = |namespace, pod: &PodView, text: &str| {
            assert_eq!(name_of(namespace, pod), Err(text.to_owned()));
        };
        refused(
            "ns",
            &pod(Some("operator"), None),
            "control plane service in namespace 'ns' is not allowed",
        );
        refused(
            "dapr-system",
            &pod(Some("other"), None),
            "unknown control plane service 'p-0'",
        );
        refused(
            "dapr-system",
            &pod(Some("operator"), Some("x")),
            "control plane service 'p-0' cannot have annotation 'dapr.io/app-id'",
        );
    }

    /// Fact: security.md O-S6.
    #[test]
    fn a_list_names_whole_ids() {
        assert!(is_listed("a", "a") && is_listed("b, a ,c", "a"));
        assert!(!is_listed("", "a") && !is_listed("ab", "a") && !is_listed("a;b", "a"));
    }
}
