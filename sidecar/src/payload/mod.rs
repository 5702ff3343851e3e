//! Payloads in the log: what was asked and what was answered, as far as somebody asked to see it.
//!
//! The one exception to the rule that bodies are never logged: off unless `--log-payloads` is given, said once at the
//! start while it is on. A body is copied as it passes, up to the maximum and no further, and written when it has
//! ended; it is neither held back nor read ahead. Names decide what is left out ([`redact`]). Proxied gRPC calls and
//! bodies that are neither JSON nor a form are told by their size alone. Source: resiliency-observability 4.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tracing::{info, warn};

mod redact;

pub(crate) use redact::Names;

use crate::{
    body::{Body, BodyError},
    invocation::{Invocation, Reply},
};

/// Scope of these lines.
const LOG: &str = "dapr.payload";

/// How payloads are logged.
#[derive(Clone, Debug)]
pub(crate) struct Payloads {
    /// Bytes of a body that are shown.
    max: usize,
    names: Arc<Names>,
}

/// One body under way, and what is said of it when it ends.
struct Watched {
    inner: Body,
    payloads: Payloads,
    head: Head,
    kept: Vec<u8>,
    size: u64,
    is_whole: bool,
    is_written: bool,
}

/// What is said beside the body.
struct Head {
    kind: &'static str,
    way: Way,
    method: Box<str>,
    what: Box<str>,
    headers: String,
    content_type: Box<str>,
}

/// Whose call it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// Of the own app.
    Outbound,
    /// Of a peer, to the own app.
    Inbound,
}

// === impl Payloads ===

impl Payloads {
    /// Shows at most `max` bytes of a body, and no values of these names.
    pub(crate) fn new(max: usize, names: Names) -> Self {
        Self {
            max,
            names: Arc::new(names),
        }
    }

    /// Says that it is on.
    pub(crate) fn warn(&self) {
        warn!(
            target: LOG,
            max_bytes = self.max,
            "payloads are logged: requests and answers with the beginning of their bodies, which may hold personal data; \
             remove --log-payloads (annotation dapr.io/log-payloads) to end this"
        );
    }

    /// Follows a request.
    pub(crate) fn request(&self, way: Way, call: &mut Invocation) {
        let head = Head {
            kind: "request",
            way,
            method: call.method.as_str().into(),
            what: format!("{:?}", call.verb).into(),
            headers: self.names.headers(&call.headers),
            content_type: call.content_type.clone(),
        };
        let body = std::mem::replace(call.body.get_mut(), crate::body::empty());
        *call.body.get_mut() = self.watch(head, body);
    }

    /// Follows the answer to a request of this method.
    pub(crate) fn reply(&self, way: Way, method: &str, mut reply: Reply) -> Reply {
        let head = Head {
            kind: "response",
            way,
            method: method.into(),
            what: reply.status.number().to_string().into(),
            headers: self.names.headers(&reply.headers),
            content_type: reply.content_type.clone(),
        };
        reply.body = self.watch(head, reply.body);
        reply
    }

    fn watch(&self, head: Head, inner: Body) -> Body {
        Watched {
            is_whole: inner.is_end_stream(),
            inner,
            payloads: self.clone(),
            head,
            kept: Vec::new(),
            size: 0,
            is_written: false,
        }
        .boxed_unsync()
    }

    /// What of a body is shown.
    fn shown(&self, content_type: &str, kept: &[u8]) -> String {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        let media = media.to_ascii_lowercase();
        let text = String::from_utf8_lossy(kept);
        // Names are known by the syntax around them: of other text nobody can say what in it is secret.
        let is_json = text.trim_start().starts_with(['{', '[']);
        match media.as_str() {
            "application/x-www-form-urlencoded" => self.names.form(&text),
            json if is_json && json.ends_with("json") => self.names.json(&text),
            plain if is_json && (plain.is_empty() || plain.starts_with("text/")) => {
                self.names.json(&text)
            }
            _ => String::new(),
        }
    }
}

// === impl Way ===

impl Way {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

// === impl Watched ===

impl Watched {
    fn pass(&mut self, data: &Bytes) {
        self.size += data.len() as u64;
        let room = self.payloads.max.saturating_sub(self.kept.len());
        let part = data.get(..room.min(data.len())).unwrap_or_default();
        self.kept.extend_from_slice(part);
    }

    fn write(&mut self) {
        if std::mem::replace(&mut self.is_written, true) {
            return;
        }
        let Head {
            kind,
            way,
            method,
            what,
            headers,
            content_type,
        } = &self.head;
        let body = self.payloads.shown(content_type, &self.kept);
        let is_cut = !self.is_whole || self.size > self.kept.len() as u64;
        info!(
            target: LOG,
            way = way.as_str(),
            method = &**method,
            what = &**what,
            headers = headers.as_str(),
            size = self.size,
            cut = is_cut,
            body = body.as_str(),
            "{kind}"
        );
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.pass(data);
                }
                self.is_whole = self.inner.is_end_stream();
            }
            Some(Err(_)) => self.write(),
            None => {
                self.is_whole = true;
                self.write();
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Watched {
    /// A body that nobody reads to its end is told as far as it went.
    fn drop(&mut self) {
        self.write();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(max: usize) -> Payloads {
        Payloads::new(max, Names::new(std::iter::empty()))
    }

    #[test]
    fn only_text_is_shown() {
        for (content_type, want) in [
            ("application/json", r#"{"token":"<redacted>"}"#),
            (
                "application/problem+json; charset=utf-8",
                r#"{"token":"<redacted>"}"#,
            ),
            ("", r#"{"token":"<redacted>"}"#),
            ("text/plain", r#"{"token":"<redacted>"}"#),
            ("application/octet-stream", ""),
            ("image/png", ""),
        ] {
            let shown = payloads(99).shown(content_type, br#"{"token":"x"}"#);
            assert_eq!(shown, want, "{content_type}");
        }
    }

    /// What does not begin as JSON has no names by which its secrets could be known.
    #[test]
    fn text_that_is_no_json_is_not_shown() {
        for content_type in ["text/plain", "", "application/json", "text/html"] {
            for text in [
                "password=hunter2",
                "Authorization: Bearer x",
                r#"5" {"token":"x"}"#,
                r#""hunter2""#,
            ] {
                let shown = payloads(99).shown(content_type, text.as_bytes());
                assert_eq!(shown, "", "{content_type}: {text}");
            }
            let shown = payloads(99).shown(content_type, br#" [{"token":"x"}]"#);
            assert_eq!(shown, r#" [{"token":"<redacted>"}]"#, "{content_type}");
        }
    }

    /// Bodies pass unchanged, and never more than the maximum is kept of them.
    #[tokio::test]
    async fn a_body_passes_and_little_of_it_is_kept() {
        let payloads = payloads(8);
        let head = Head {
            kind: "request",
            way: Way::Outbound,
            method: "m".into(),
            what: "Post".into(),
            headers: String::new(),
            content_type: "text/plain".into(),
        };
        let mut watched = Watched {
            inner: crate::body::full("0123456789"),
            payloads,
            head,
            kept: Vec::new(),
            size: 0,
            is_whole: false,
            is_written: false,
        };
        let frame = watched.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "0123456789");
        assert_eq!(
            (watched.kept.as_slice(), watched.size),
            (&b"01234567"[..], 10)
        );
        assert!(watched.frame().await.is_none() && watched.is_written);
    }
}
