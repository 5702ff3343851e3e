//! The error that the invocation API answers: status, code, text.
//!
//! Owns the codes of service-invocation 1.13 that belong to invocation. What is public is here; causes are in
//! the text because the reference puts them there and users search for them.

use http::{Response, StatusCode};

use super::reply;
use crate::body::Body;

/// `errorCode` of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// Every failure of an invocation.
    DirectInvoke,
}

impl ErrorCode {
    /// Its text.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::DirectInvoke => "ERR_DIRECT_INVOKE",
        }
    }
}

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: ErrorCode,
    message: Box<str>,
}

impl ApiError {
    /// An error with this text.
    pub(crate) fn new(status: StatusCode, code: ErrorCode, message: impl Into<Box<str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    /// E1: the request names no target, or no route.
    pub(crate) fn no_target() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            ErrorCode::DirectInvoke,
            "failed getting app id either from the URL path or the header dapr-app-id",
        )
    }

    /// As a response.
    pub(crate) fn response(&self) -> Response<Body> {
        reply::error(self.status, self.code.as_str(), &self.message)
    }
}
