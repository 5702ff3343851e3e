//! The validator that believes a token: signed by a key of a set, for Sentry, about the workload that asks.
//!
//! Owns the order of its checks (security 1.7) and the refusal of control-plane names, which no token of an app's
//! platform may give away (fact O-S5). The token itself is judged by `judge`, the key set is `keys`' matter.

mod judge;
mod keys;
pub(crate) mod options;

pub(crate) use keys::{KeyError, KeySet};
pub(crate) use options::{JwksError, JwksOptions};

use super::{Claim, Refused, common};
use ironside_chassis::Clock;
use ironside_identity::SpiffeId;
use judge::{Expected, TokenError};
use std::sync::Arc;

/// The text for a request that brings no token.
const NO_TOKEN: &str = "the request does not contain a token";
/// The text for a request that comes before the first key set.
const NOT_READY: &str = "jwks validator not ready";

/// Believes tokens.
#[derive(Debug)]
pub(crate) struct Jwks {
    pub(crate) keys: Arc<KeySet>,
    /// Sentry's own SPIFFE ID, whom tokens must be for.
    pub(crate) audience: SpiffeId,
    pub(crate) clock: Clock,
}

// === impl Jwks ===

impl Jwks {
    /// Judges a claim by its token.
    pub(crate) async fn validate(&self, claim: &Claim<'_>) -> Result<SpiffeId, Refused> {
        if claim.token.is_empty() {
            return Err(Refused::with_text(NO_TOKEN));
        }
        let id = common::check(claim)?;
        if id.app_id().is_control_plane() {
            return Err(common::reserved(&id));
        }
        if !self.keys.is_ready() {
            return Err(Refused::with_text(NOT_READY));
        }
        match self.judge(claim.token, &id).await {
            Ok(()) => Ok(id),
            Err(why) => Err(Refused::with_text(&format!(
                "token validation failed: {why}"
            ))),
        }
    }

    async fn judge(&self, token: &str, id: &SpiffeId) -> Result<(), TokenError> {
        let (audience, subject) = (self.audience.to_string(), id.to_string());
        let expected = Expected {
            audience: &audience,
            subject: &subject,
        };
        let header = judge::read_header(token)?;
        let key = self.keys.find(&header.key_id).await;
        let key = key.ok_or(TokenError::UnknownKey)?;
        judge::judge(token, &header, &key, expected, self.clock.now())
    }
}

#[cfg(test)]
mod tests;
