//! `Expect: 100-continue` towards the app.
//!
//! The reference hands the header on and then holds the body back until the app says `100`, or for one second
//! (service-invocation 1.7, SI-162). So do we: an app that wants to refuse early can.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

use crate::body::{self, Body, BodyError};

/// How long the body waits for an app that is silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// A body that starts when the app says so.
pub(crate) struct AwaitContinue {
    body: Body,
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl AwaitContinue {
    /// Holds the body of a request back if it carries the header.
    pub(crate) fn apply(request: &mut Request<Body>) {
        let expects = request
            .headers()
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if !expects || request.body().is_end_stream() {
            return;
        }
        let told = Arc::new(Notify::new());
        let teller = Arc::clone(&told);
        hyper::ext::on_informational(request, move |response| {
            if response.status() == StatusCode::CONTINUE {
                teller.notify_one();
            }
        });
        let gate = Box::pin(async move {
            // Either way the body goes: the time only bounds the wait.
            drop(tokio::time::timeout(PATIENCE, told.notified()).await);
        });
        let body = std::mem::replace(request.body_mut(), body::empty());
        *request.body_mut() = Self {
            body,
            gate: Some(gate),
        }
        .boxed_unsync();
    }
}

impl HttpBody for AwaitContinue {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.as_mut().poll(cx));
            self.gate = None;
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
