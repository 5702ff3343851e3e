//! Why a call has no answer, in the words that series use.
//!
//! A status that this sidecar made of a connection's failure carries that failure as its source, so that nobody
//! reads texts. Source: resiliency-observability 6.3.

use std::{error::Error, sync::Arc};

use ironside_resiliency::attempts::Refused;
use ironside_telemetry::metrics::Failure as Why;
use tonic::{Code, Status};

use super::Failure;
use crate::{
    outbound::InvokeError,
    peers::{DialError, PeerError},
};

/// What a caller hears of a peer that could not be asked.
pub(crate) fn unavailable(error: impl Error + Send + Sync + 'static) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(error));
    status
}

// === impl Failure ===

impl Failure {
    /// The reason as series have it; `None` if the caller itself is the reason.
    pub(super) fn reason(&self) -> Option<Why> {
        Some(match self {
            Self::Caller(_) => return None,
            Self::Unreachable(status)
            | Self::NotBegun(status)
            | Self::Lost(status)
            | Self::Idle(status) => of_status(status),
            Self::Unfit(_) => Why::Other,
            Self::Exhausted { last, .. } => of_status(last),
            Self::Unresolved(_) => Why::Resolve,
            Self::Timeout | Self::Refused(Refused::Deadline) => Why::Timeout,
            Self::Refused(Refused::Breaker(_)) => Why::BreakerOpen,
            Self::Refused(Refused::Rate(_)) => Why::Shed,
            Self::Final(InvokeError::Hop(status)) => of_status(status),
            Self::Final(InvokeError::Deadline) => Why::Timeout,
            Self::Final(_) => Why::Other,
        })
    }

    /// The gRPC code that a caller of a proxied call gets.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Unreachable(status)
            | Self::NotBegun(status)
            | Self::Lost(status)
            | Self::Idle(status)
            | Self::Unfit(status) => status.code(),
            Self::Exhausted { last, .. } => last.code(),
            Self::Caller(InvokeError::Hop(status)) | Self::Final(InvokeError::Hop(status)) => {
                status.code()
            }
            Self::Timeout | Self::Refused(Refused::Deadline) => Code::DeadlineExceeded,
            Self::Refused(Refused::Rate(_)) => Code::ResourceExhausted,
            Self::Unresolved(_)
            | Self::Caller(_)
            | Self::Final(_)
            | Self::Refused(Refused::Breaker(_)) => Code::Unknown,
        }
    }
}

fn of_status(status: &Status) -> Why {
    match status.code() {
        Code::PermissionDenied => return Why::Acl,
        Code::DeadlineExceeded => return Why::Timeout,
        Code::ResourceExhausted => return Why::Shed,
        Code::Unauthenticated => return Why::Tls,
        Code::Unavailable => {}
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss => return Why::Other,
    }
    let source = status.source();
    let dial = source.and_then(|source| match source.downcast_ref::<PeerError>() {
        Some(PeerError::Dial(dial)) => Some(dial),
        Some(
            PeerError::Unsent(_) | PeerError::Silent | PeerError::Lost(_) | PeerError::Unfit(_),
        ) => None,
        None => source.downcast_ref::<DialError>(),
    });
    match dial {
        Some(DialError::Tls { .. } | DialError::OwnExpired { .. }) => Why::Tls,
        Some(DialError::Tcp { .. } | DialError::Preface { .. }) | None => Why::Connect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> PeerError {
        let cause = "unknown authority".to_owned();
        PeerError::Dial(DialError::Tls { cause })
    }

    /// resiliency-observability 6.3: the words of `errors_total`.
    #[test]
    fn each_failure_has_one_reason() {
        let lost = || PeerError::Lost("EOF".to_owned());
        let hop = |status| Failure::Final(InvokeError::Hop(Box::new(status)));
        for (failure, want) in [
            (Failure::Unreachable(unavailable(tls())), Why::Tls),
            (Failure::Lost(unavailable(lost())), Why::Connect),
            (Failure::Lost(Status::unavailable("x")), Why::Connect),
            (hop(Status::permission_denied("x")), Why::Acl),
            (hop(Status::deadline_exceeded("x")), Why::Timeout),
            (hop(Status::resource_exhausted("x")), Why::Shed),
            (hop(Status::internal("x")), Why::Other),
            (Failure::Timeout, Why::Timeout),
        ] {
            assert_eq!(failure.reason(), Some(want), "{failure:?}");
        }
        let gone = Failure::Caller(InvokeError::Deadline);
        assert_eq!(gone.reason(), None);
        let last = Failure::Exhausted {
            retries: 3,
            last: unavailable(tls()),
        };
        assert_eq!(
            (last.reason(), last.code()),
            (Some(Why::Tls), Code::Unavailable)
        );
    }
}
