//! Stages 6 and 21, `pipeline`: the handlers of `httpPipeline` and `appHttpPipeline`.
//!
//! Owns [`Pipeline`], an ordered list of [`Handler`]s: a request passes them first to last, an answer last to
//! first. A handler may rewrite path and headers or answer in the app's place; none but `uppercase` touches
//! a body. Refuses to own which handlers there are: `sources/` compiles that from the Configuration and the
//! Component files. Source: service-invocation 5.5.

mod bearer;
mod rate_limit;
mod router_alias;
mod router_checker;
mod settings;
mod uppercase;

use std::sync::Arc;

use http::{Response, StatusCode, request::Parts};

pub(crate) use bearer::KeySource;
pub(crate) use rate_limit::ClientAddress;
pub(crate) use settings::Settings;

use self::{
    bearer::Bearer, rate_limit::RateLimit, router_alias::RouterAlias, router_checker::RouterChecker,
};
use crate::{api::reply, body::Body};

/// Category of all component types that can stand in a pipeline.
pub(crate) const PREFIX: &str = "middleware.http.";

/// The types that are offered, without their prefix.
pub(crate) const OFFERED: [&str; 5] = [
    "bearer",
    "ratelimit",
    "routeralias",
    "routerchecker",
    "uppercase",
];

/// Handlers in list order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipeline {
    handlers: Vec<Arc<Handler>>,
}

/// One handler, ready to work.
#[derive(Debug)]
pub(crate) enum Handler {
    /// `middleware.http.bearer`
    Bearer(Bearer),
    /// `middleware.http.ratelimit`
    RateLimit(RateLimit),
    /// `middleware.http.routeralias`
    RouterAlias(RouterAlias),
    /// `middleware.http.routerchecker`
    RouterChecker(RouterChecker),
    /// `middleware.http.uppercase`
    Uppercase,
    /// Stands in for one that cannot be built yet: nothing passes it.
    Withheld,
}

/// Why a component cannot become a handler.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandlerError {
    /// No handler of this type exists here.
    #[error("middleware type {0} is not offered; offered are {list}", list = OFFERED.join(", "))]
    NotOffered(Box<str>),
    /// A setting that the type cannot do without.
    #[error("metadata '{0}' is required")]
    Missing(&'static str),
    /// A setting that cannot be read.
    #[error("metadata '{name}' is invalid: {reason}")]
    Invalid {
        /// Name of the setting.
        name: &'static str,
        /// What is wrong with it.
        reason: Box<str>,
    },
}

/// What handlers are built with besides their settings.
pub(crate) struct Tools<'a> {
    /// Time.
    pub(crate) clock: &'a ironside_chassis::Clock,
    /// Where signing keys come from.
    pub(crate) keys: &'a KeySource,
}

// === impl Pipeline ===

impl Pipeline {
    /// A pipeline of these handlers, the first one outermost.
    pub(crate) fn new(handlers: Vec<Arc<Handler>>) -> Self {
        Self { handlers }
    }

    /// True if there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.handlers.is_empty()
    }

    /// Shows a request to each handler, first to last.
    ///
    /// # Errors
    /// The answer of the handler that does not let the request pass.
    pub(crate) async fn request(&self, head: &mut Parts) -> Result<(), Response<Body>> {
        for handler in &self.handlers {
            handler.request(head).await?;
        }
        Ok(())
    }

    /// What the handlers make of a request's body.
    pub(crate) fn request_body(&self, body: Body) -> Body {
        self.handlers
            .iter()
            .fold(body, |body, handler| handler.body(body))
    }

    /// Shows an answer to each handler, last to first.
    pub(crate) fn response(&self, answer: Response<Body>) -> Response<Body> {
        self.handlers.iter().rev().fold(answer, |answer, handler| {
            answer.map(|body| handler.body(body))
        })
    }
}

// === impl Handler ===

impl Handler {
    /// Builds the handler of component type `kind` (with its prefix) from its settings.
    ///
    /// # Errors
    /// [`HandlerError`] names the type or the setting.
    pub(crate) fn build(
        kind: &str,
        settings: &Settings,
        tools: &Tools<'_>,
    ) -> Result<Self, HandlerError> {
        match kind.to_ascii_lowercase().strip_prefix(PREFIX) {
            Some("bearer") => Bearer::build(settings, tools).map(Self::Bearer),
            Some("ratelimit") => RateLimit::build(settings, tools.clock).map(Self::RateLimit),
            Some("routeralias") => RouterAlias::build(settings).map(Self::RouterAlias),
            Some("routerchecker") => RouterChecker::build(settings).map(Self::RouterChecker),
            Some("uppercase") => Ok(Self::Uppercase),
            Some(_) | None => Err(HandlerError::NotOffered(kind.into())),
        }
    }

    async fn request(&self, head: &mut Parts) -> Result<(), Response<Body>> {
        let refused = match self {
            Self::Bearer(bearer) if !bearer.admits(head).await => {
                (StatusCode::UNAUTHORIZED, "Unauthorized")
            }
            Self::RateLimit(limit) if !limit.admits(head) => (
                StatusCode::TOO_MANY_REQUESTS,
                "You have reached maximum request limit.",
            ),
            Self::RouterChecker(checker) if !checker.knows(head) => {
                (StatusCode::BAD_REQUEST, "Bad Request")
            }
            Self::Withheld => (
                StatusCode::SERVICE_UNAVAILABLE,
                "a middleware component of this pipeline cannot be used",
            ),
            Self::RouterAlias(alias) => {
                alias.rewrite(head);
                return Ok(());
            }
            Self::Bearer(_) | Self::RateLimit(_) | Self::RouterChecker(_) | Self::Uppercase => {
                return Ok(());
            }
        };
        let (status, text) = refused;
        Err(reply::plain(status, text))
    }

    fn body(&self, body: Body) -> Body {
        match self {
            Self::Uppercase => uppercase::body(body),
            Self::Bearer(_)
            | Self::RateLimit(_)
            | Self::RouterAlias(_)
            | Self::RouterChecker(_)
            | Self::Withheld => body,
        }
    }
}

#[cfg(test)]
mod tests;
