//! `middleware.http.routerchecker`: only paths that a rule knows.
//!
//! Setting `rule`: a regular expression that must match somewhere in the path; otherwise 400. The path is judged
//! as it arrives at the app: decoded and cleaned, so that `public/../admin` is no `public`.

use http::request::Parts;
use ironside_policy::operation;
use regex::Regex;

use super::{HandlerError, Settings};

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct RouterChecker {
    rule: Regex,
}

// === impl RouterChecker ===

impl RouterChecker {
    pub(super) fn build(settings: &Settings) -> Result<Self, HandlerError> {
        let text = settings
            .text(&["rule"])
            .ok_or(HandlerError::Missing("rule"))?;
        match Regex::new(text) {
            Ok(rule) => Ok(Self { rule }),
            Err(err) => Err(HandlerError::Invalid {
                name: "rule",
                reason: err.to_string().into(),
            }),
        }
    }

    /// True if the rule matches somewhere in the path of this request.
    pub(super) fn knows(&self, head: &Parts) -> bool {
        let path = percent_encoding::percent_decode_str(head.uri.path()).decode_utf8_lossy();
        self.rule.is_match(&operation::clean(&path))
    }
}
