//! Which images the tests' pods are made of: those of `cargo xtask images`, which no registry knows and nodes hold;
//! on a cluster that somebody brought, from wherever that somebody put them.

use crate::binaries::setting;

/// The registry in the names of the images: `IRONSIDE_E2E_REGISTRY`.
#[must_use]
pub fn registry() -> String {
    text("IRONSIDE_E2E_REGISTRY", "ironside.test")
}

/// When nodes pull them: `IRONSIDE_E2E_PULL_POLICY`.
#[must_use]
pub fn pull_policy() -> String {
    text("IRONSIDE_E2E_PULL_POLICY", "Never")
}

/// The image of a program, or of the sample app.
#[must_use]
pub fn image(name: &str) -> String {
    format!("{}/{name}:e2e", registry())
}

fn text(variable: &str, usual: &str) -> String {
    let given = setting(variable).and_then(|text| text.into_os_string().into_string().ok());
    given.unwrap_or_else(|| usual.to_owned())
}
