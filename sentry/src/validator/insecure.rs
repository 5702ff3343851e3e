//! The validator that believes everyone, for one person's machine.
//!
//! Owns the one thing it doesn't believe: that a caller is a part of the control plane, unless that was allowed
//! explicitly (fact O-S5, K042). Enabled only in self-hosted mode.

use super::{Refused, common};
use ironside_identity::SpiffeId;

/// Believes every claim that is well-formed.
#[derive(Debug)]
pub(crate) struct Insecure {
    control_plane_allowed: bool,
}

impl Insecure {
    /// Makes the validator; `control_plane_allowed` lets anyone be Sentry or the operator.
    pub(crate) fn new(control_plane_allowed: bool) -> Self {
        Self {
            control_plane_allowed,
        }
    }

    pub(super) fn check_reserved(&self, id: SpiffeId) -> Result<SpiffeId, Refused> {
        if id.app_id().is_control_plane() && !self.control_plane_allowed {
            return Err(common::reserved(&id));
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Claim;
    use super::*;

    fn claim<'a>(id: &'a str, namespace: &'a str, trust_domain: &'a str) -> Claim<'a> {
        Claim {
            id,
            namespace,
            trust_domain,
            token: "",
            has_csr: true,
            source: None,
        }
    }

    /// Fact: security.md O-S5, K042.
    #[test]
    fn control_plane_names_need_a_permission() {
        let reserved = claim("dapr-sentry", "default", "localhost");
        let refused = Insecure::new(false)
            .validate(&reserved)
            .unwrap_err()
            .to_string();
        assert_eq!(
            refused,
            "invalid request: app ID \"dapr-sentry\" is reserved for the control plane"
        );
        for id in [
            "dapr-operator",
            "dapr-injector",
            "dapr-placement",
            "dapr-scheduler",
        ] {
            assert!(
                Insecure::new(false)
                    .validate(&claim(id, "elsewhere", ""))
                    .is_err(),
                "{id}"
            );
            assert!(
                Insecure::new(true)
                    .validate(&claim(id, "elsewhere", ""))
                    .is_ok(),
                "{id}"
            );
        }
        assert!(
            Insecure::new(false)
                .validate(&claim("dapr-app", "default", ""))
                .is_ok()
        );
        assert!(
            Insecure::new(true)
                .validate(&claim("a.b", "default", ""))
                .is_err()
        );
    }
}
