//! JWT SVIDs: the same names, proved by a signed token instead of a certificate.
//!
//! Owns security 1.10: which algorithm goes with which key (`algorithm`, `key`), the public set that others verify by
//! (`set`), the claims (`issuer`), and the one key in effect, which follows its store (`guard`). Who may have a token
//! is the validators' decision; how the set is served is `oidc`'s matter.

mod algorithm;
pub(crate) mod guard;
mod issuer;
mod key;
mod set;

pub(crate) use algorithm::{Algorithm, AlgorithmError};
pub(crate) use guard::{JwtGuard, JwtGuardError};
pub(crate) use issuer::{Issued, JwtError, JwtIssuer, Terms};
