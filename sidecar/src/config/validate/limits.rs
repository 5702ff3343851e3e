//! Sizes: quantity, then the old flag, then the default (process-interface 2.1).

use ironside_chassis::args::parse_quantity;

use super::{ConfigError, flags};
use crate::config::flags::Given;

/// Default limit of bodies and messages.
const DEFAULT_BODY: i64 = 4 << 20;
/// Default limit of a request head.
const DEFAULT_BUFFER: i64 = 4 << 10;

/// The three limits, in bytes.
pub(super) struct Limits {
    /// HTTP bodies; `None` is no limit.
    pub(super) body: Option<u64>,
    /// One gRPC message.
    pub(super) message: usize,
    /// The head of an HTTP request.
    pub(super) head: usize,
}

impl Limits {
    pub(super) fn read(given: &Given) -> Result<Self, ConfigError> {
        let body = size(
            given,
            "max-body-size",
            "dapr-http-max-request-size",
            1 << 20,
            DEFAULT_BODY,
        )?;
        let head = size(
            given,
            "read-buffer-size",
            "dapr-http-read-buffer-size",
            1 << 10,
            DEFAULT_BUFFER,
        )?;
        let body = u64::try_from(body).ok().filter(|bytes| *bytes > 0);
        Ok(Self {
            body,
            // The reference gives gRPC a limit of 0 bytes where HTTP has none, which nobody can use.
            message: body
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(usize::MAX),
            head: usize::try_from(head)
                .ok()
                .filter(|bytes| *bytes > 0)
                .unwrap_or(usize::try_from(DEFAULT_BUFFER).unwrap_or(usize::MAX)),
        })
    }
}

/// A size in bytes: the quantity, else the old flag in its unit, else the default, which is also what -1 means.
fn size(given: &Given, name: &str, old: &str, unit: i64, default: i64) -> Result<i64, ConfigError> {
    let bytes = if given.given(name) || !given.given(old) {
        let text = given.text(name);
        let refuse = |cause| {
            flags(format!(
                "invalid value for '{name}' option: {text:?}: {cause}"
            ))
        };
        parse_quantity(text).map_err(refuse)?
    } else {
        match given.int(old) {
            -1 => -1,
            count => count.saturating_mul(unit),
        }
    };
    Ok(if bytes == -1 { default } else { bytes })
}
