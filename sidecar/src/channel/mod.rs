//! The app channel: how an invocation reaches the app beside this sidecar.
//!
//! Owns the choice between an HTTP and a gRPC app and the reasons for which an app cannot be called. Admission
//! (health, concurrency) comes first, the HTTP pipeline runs around an HTTP app. Stages 20 to 22.

use std::sync::Arc;

use ironside_telemetry::metrics::Metrics;

use crate::{
    body::BodyError,
    config::{AppProtocol, AppTarget, Config},
    invocation::{Invocation, Reply, context::CallContext},
    live::Live,
};

pub(crate) mod admission;
pub(crate) mod busy;
pub(crate) mod deadline;
pub(crate) mod expect;
pub(crate) mod grpc;
pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod stale;
pub(crate) mod tls;
pub(crate) mod url;

use admission::{Admission, Refused};

/// Why the app could not be called; the texts are those that callers of the reference see.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// App health is on and the app failed it.
    #[error("rpc error: code = Internal desc = app is not in a healthy state")]
    Unhealthy,
    /// An HTTP app needs a verb, and CONNECT is none that it can get.
    #[error("rpc error: code = InvalidArgument desc = invalid HTTP verb")]
    Verb,
    /// An HTTP app needs the HTTP extension.
    #[error("rpc error: code = InvalidArgument desc = missing HTTP extension field")]
    MissingExtension,
    /// The version of the internal message.
    #[error("rpc error: code = Unimplemented desc = Unsupported spec version: {0}")]
    Version(i32),
    /// Method and base address make no URL.
    #[error("parse {url:?}: {cause}")]
    Url {
        /// What was put together.
        url: Box<str>,
        /// What is wrong with it.
        cause: Box<str>,
    },
    /// The request failed on its way or found no answer.
    #[error("{verb} {url:?}: {cause}")]
    Send {
        /// `Get`, `Post`, ...
        verb: &'static str,
        /// The URL.
        url: Box<str>,
        /// Why.
        cause: Box<str>,
    },
    /// The connection ended before the request was begun: the app knows nothing of it, and may be there.
    #[error("{verb} {url:?}: {cause}")]
    NotBegun {
        /// `Get`, `Post`, ...
        verb: &'static str,
        /// The URL.
        url: Box<str>,
        /// Why.
        cause: Box<str>,
    },
    /// There is no connection to the app: it knows nothing of the request.
    #[error("{verb} {url:?}: {cause}")]
    Unreached {
        /// `Get`, `Post`, ...
        verb: &'static str,
        /// The URL.
        url: Box<str>,
        /// Why.
        cause: Box<str>,
    },
    /// A gRPC app's connection.
    #[error("rpc error: code = Unavailable desc = {0}")]
    Unavailable(Box<str>),
    /// A gRPC app is not there: it knows nothing of the request. [`grpc::unreached`] says so.
    #[error("{0}")]
    NoConnection(#[source] Box<tonic::Status>),
    /// The app's answer broke off.
    #[error("error reading response body: {0}")]
    NoAnswer(Box<str>),
    /// An event stream was asked for and none came.
    #[error("no response received from stream")]
    NoStream,
    /// The request body broke.
    #[error("{0}")]
    Body(#[from] BodyError),
    /// The pipeline rewrote the method to one that is none, or that policy refuses.
    #[error("rpc error: code = InvalidArgument desc = invalid method: {0}")]
    Method(#[from] ironside_policy::MethodError),
    /// The pipeline rewrote the method to one that policy refuses to the caller.
    #[error("{0}")]
    Denied(#[source] Box<tonic::Status>),
}

/// The app, as this sidecar speaks to it.
pub(crate) struct AppChannel {
    kind: Kind,
    /// The app's gRPC listener: proxied calls go there whatever the protocol says (cli-and-clients 4).
    pub(crate) proxy: grpc::GrpcApp,
    metrics: Arc<Metrics>,
}

enum Kind {
    Http(Box<http::HttpApp>),
    Grpc,
}

impl AppChannel {
    /// Prepares the channel; nothing is dialled yet.
    pub(crate) fn new(
        target: &AppTarget,
        config: &Config,
        tasks: &ironside_chassis::tasks::Group,
        clock: &ironside_chassis::clock::Clock,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let kind = match target.protocol {
            AppProtocol::Http | AppProtocol::Https | AppProtocol::H2c => {
                Kind::Http(Box::new(http::HttpApp::new(
                    target,
                    config.app_token.clone(),
                    tasks,
                    http::Meter::new(clock, metrics),
                )))
            }
            AppProtocol::Grpc | AppProtocol::Grpcs => Kind::Grpc,
        };
        Self {
            kind,
            proxy: grpc::GrpcApp::new(target, config, tasks.clone(), clock.clone()),
            metrics: Arc::clone(metrics),
        }
    }

    /// Calls the app.
    ///
    /// # Errors
    /// [`ChannelError`]; an app that answered, however badly, is a [`Reply`].
    pub(crate) async fn deliver(
        &self,
        call: Invocation,
        context: &CallContext,
        live: &Live,
        admission: &Admission,
    ) -> Result<Reply, ChannelError> {
        let permit = match admission.admit(&live.inbound).await {
            Ok(permit) => permit,
            Err(Refused::Unhealthy) => return Err(ChannelError::Unhealthy),
            Err(Refused::Busy(busy)) => return Ok(busy.reply(self.is_http())),
        };
        let reply = match &self.kind {
            Kind::Http(app) => app.call(call, context, live).await?,
            Kind::Grpc => self.proxy.on_invoke(call, context, &self.metrics).await?,
        };
        Ok(permit.hold(reply))
    }

    /// True for an HTTP app.
    pub(crate) fn is_http(&self) -> bool {
        matches!(self.kind, Kind::Http(_))
    }
}
