//! The answer to a call that the app is not asked for: too many wait already, or its caller sends too many.
//!
//! It looks as an app's answer would (503 or 429 with `Retry-After`, and the codes of gRPC), so that callers, the
//! retries of their policies and sidecars of the reference take it for what it is. Source:
//! resiliency-observability 6.2, rows "Concurrency limits" and "Rate limiting".

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use tonic::{Code, Status};

use crate::{
    api::{error::ErrorCode, reply},
    body,
    invocation::{AppStatus, Reply},
};

/// When a caller whose call found no place may come again: places are given back all the time.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the app is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// As many calls wait for a place as may.
    Queue {
        /// How many.
        size: u32,
    },
    /// No place was free in time.
    Wait {
        /// How long it waited.
        limit: Duration,
    },
    /// The caller has used up its rate for this long.
    Rate(Duration),
}

impl Busy {
    /// As an app would say it.
    pub(crate) fn reply(self, is_http: bool) -> Reply {
        let (http, code) = match self {
            Self::Queue { .. } | Self::Wait { .. } => (503, Code::Unavailable),
            Self::Rate(_) => (429, Code::ResourceExhausted),
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(self.seconds()));
        let text = self.text();
        let (status, content_type, body) = if is_http {
            let json = reply::error_text(ErrorCode::DirectInvoke.as_str(), &text);
            (AppStatus::Http(http), "application/json", body::full(json))
        } else {
            let status = AppStatus::Grpc {
                code,
                message: text.into(),
                details: Vec::new(),
            };
            (status, "", body::empty())
        };
        Reply {
            status,
            headers,
            trailers: HeaderMap::new(),
            content_type: content_type.into(),
            type_url: "".into(),
            body,
        }
    }

    /// As a call that is passed on ends.
    pub(crate) fn status(self) -> Status {
        let mut status = match self {
            Self::Queue { .. } | Self::Wait { .. } => Status::unavailable(self.text()),
            Self::Rate(_) => Status::resource_exhausted(self.text()),
        };
        let millis = u64::try_from(self.again().as_millis()).unwrap_or(u64::MAX);
        status
            .metadata_mut()
            .insert("grpc-retry-pushback-ms", millis.into());
        status
    }

    fn text(self) -> String {
        match self {
            Self::Queue { size } => {
                format!("app is busy: {size} requests wait for a place already")
            }
            Self::Wait { limit } => format!("app is busy: no place was free within {limit:?}"),
            Self::Rate(_) => "too many requests of this caller".to_owned(),
        }
    }

    fn again(self) -> Duration {
        match self {
            Self::Queue { .. } | Self::Wait { .. } => AGAIN,
            Self::Rate(wait) => wait,
        }
    }

    /// Whole seconds, not too few.
    fn seconds(self) -> u64 {
        let again = self.again();
        again.as_secs() + u64::from(again.subsec_nanos() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_when_to_come_again() {
        let rate = Busy::Rate(Duration::from_millis(1500));
        for (busy, http, code, again) in [
            (Busy::Queue { size: 10 }, 503, Code::Unavailable, "1"),
            (Busy::Wait { limit: AGAIN }, 503, Code::Unavailable, "1"),
            (rate, 429, Code::ResourceExhausted, "2"),
        ] {
            let reply = busy.reply(true);
            assert_eq!(reply.status, AppStatus::Http(http));
            assert_eq!(reply.headers[header::RETRY_AFTER], again);
            assert!(
                matches!(busy.reply(false).status, AppStatus::Grpc { code: got, .. } if got == code)
            );
            assert_eq!(busy.status().code(), code);
        }
        let pushback = rate
            .status()
            .metadata()
            .get("grpc-retry-pushback-ms")
            .cloned();
        assert_eq!(pushback.unwrap(), "1500");
    }
}
