//! How an attempt ended, and what that means to retries, breakers and addresses.
//!
//! A code decides by its number, wherever it came from: 0 to 16 is gRPC's, 100 to 599 HTTP's. Failures without
//! a code are always retriable by a policy. Source: resiliency-observability 1.4, 1.5, 1.9, 6.2.

use std::time::Duration;

use ironside_resources::resiliency::Matching;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What happened.
    pub end: End,
    /// What the callee says about another attempt.
    pub pushback: Option<Pushback>,
    /// A usable address is left that this call did not try.
    pub elsewhere: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An answer with this HTTP status.
    Http(u16),
    /// An answer with this gRPC code.
    Grpc(u32),
    /// No answer.
    Failed(Failure),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The peer could not be reached, or its identity or ours was refused; the request never left.
    Unreachable,
    /// The peer was reached and is well, and its app knows nothing of the request: the connection that it was meant
    /// for had ended.
    NotBegun,
    /// The connection broke after the request may have arrived.
    Lost,
    /// Nobody knows where the app listens.
    Unresolved,
    /// The limit of the attempt passed.
    Timeout,
    /// Nothing passed in either direction for too long: nobody has to be at fault.
    Idle,
    /// The callee's policy denied it: it would again.
    Denied,
    /// It was answered, with more than is taken: it would be again.
    Unfit,
    /// The caller's side ended it: it went away, or its body broke.
    Caller,
    /// Anything else on the way.
    Other,
}

/// What the callee says about another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushback {
    /// `Retry-After` of an HTTP answer.
    RetryAfter(Duration),
    /// `grpc-retry-pushback-ms`.
    After(Duration),
    /// The same, negative: do not.
    Never,
}

/// How a call is made; it decides what a success is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The HTTP API: statuses 200 to 399 are successes.
    Http,
    /// `InvokeService`: 200 to 299.
    InvokeService,
    /// A proxied gRPC call: `OK`.
    Proxy,
}

/// What an attempt says about the address it went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Good,
    /// It answers, and badly.
    Bad,
    /// It cannot be reached.
    Unreachable,
    /// Nothing.
    Unknown,
}

/// Highest gRPC code.
const GRPC_MAX: u32 = 16;

// === impl Outcome ===

impl Outcome {
    /// Whether the attempt succeeded.
    #[must_use]
    pub const fn is_success(&self, path: Path) -> bool {
        match (self.end, path) {
            (End::Http(status), Path::Http) => 200 <= status && status < 400,
            (End::Http(status), Path::InvokeService | Path::Proxy) => 200 <= status && status < 300,
            (End::Grpc(code), _) => code == 0,
            (End::Failed(_), _) => false,
        }
    }

    /// Whether no app knows anything of the request.
    #[must_use]
    pub const fn is_unreached(&self) -> bool {
        matches!(
            self.end,
            End::Failed(Failure::Unreachable | Failure::NotBegun)
        )
    }

    /// Whether a retry with this matching takes the failure up.
    #[must_use]
    pub fn is_retriable(&self, matching: &Matching) -> bool {
        match self.end {
            End::Http(status) => covers(matching, status.into()).unwrap_or(false),
            End::Grpc(code) => covers(matching, code).unwrap_or(false),
            End::Failed(failure) => match failure {
                Failure::Unreachable
                | Failure::NotBegun
                | Failure::Lost
                | Failure::Unresolved
                | Failure::Timeout
                | Failure::Other => true,
                Failure::Idle | Failure::Denied | Failure::Unfit | Failure::Caller => false,
            },
        }
    }

    /// Whether a breaker with this matching counts it as a failure.
    #[must_use]
    pub fn is_failure(&self, path: Path, matching: &Matching) -> bool {
        if self.is_success(path) {
            return false;
        }
        match self.end {
            End::Http(status) => {
                covers(matching, status.into()).unwrap_or(matching.http.is_empty())
            }
            End::Grpc(code) => covers(matching, code).unwrap_or(matching.grpc.is_empty()),
            End::Failed(Failure::Idle) => false,
            End::Failed(_) => true,
        }
    }

    /// What it says about the address. Codes that the app's own rules give are no fault of an address.
    #[must_use]
    pub const fn health(&self) -> Health {
        match self.end {
            End::Http(status) if status >= 500 => Health::Bad,
            End::Http(_) => Health::Good,
            // Unknown, DeadlineExceeded, ResourceExhausted, Internal, Unavailable.
            End::Grpc(2 | 4 | 8 | 13 | 14) => Health::Bad,
            End::Grpc(_) => Health::Good,
            End::Failed(Failure::Unreachable) => Health::Unreachable,
            End::Failed(Failure::Lost | Failure::Timeout | Failure::Other) => Health::Bad,
            End::Failed(Failure::Denied | Failure::Unfit) => Health::Good,
            End::Failed(
                Failure::NotBegun | Failure::Unresolved | Failure::Idle | Failure::Caller,
            ) => Health::Unknown,
        }
    }

    /// Whether its speed says anything: a call that was not begun ends at once wherever it goes, a quiet one when its
    /// limit says.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        !matches!(self.end, End::Failed(Failure::NotBegun | Failure::Idle))
    }

    /// Whether its speed says nothing good: a fast refusal must not draw more calls.
    #[must_use]
    pub const fn is_penalised(&self) -> bool {
        match self.end {
            End::Http(status) => status == 429 || status >= 500,
            End::Grpc(code) => matches!(code, 8 | 14),
            End::Failed(Failure::Unreachable | Failure::Lost | Failure::Timeout) => true,
            End::Failed(
                Failure::NotBegun
                | Failure::Unresolved
                | Failure::Idle
                | Failure::Denied
                | Failure::Unfit
                | Failure::Caller
                | Failure::Other,
            ) => false,
        }
    }
}

impl From<End> for Outcome {
    fn from(end: End) -> Self {
        Self {
            end,
            pushback: None,
            elsewhere: false,
        }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        End::Failed(failure).into()
    }
}

/// Whether a list holds the code; `None` if it is no code of either list.
fn covers(matching: &Matching, code: u32) -> Option<bool> {
    let short = u16::try_from(code).ok()?;
    match code {
        0..=GRPC_MAX => Some(matching.grpc.covers(short)),
        100..=599 => Some(matching.http.covers(short)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ironside_resources::resiliency::{GrpcCodes, HttpCodes};

    use super::*;

    fn matching(http: &str, grpc: &str) -> Matching {
        Matching {
            http: HttpCodes::parse(http).unwrap(),
            grpc: GrpcCodes::parse(grpc).unwrap(),
            ..Matching::default()
        }
    }

    /// and resiliency-observability 1.5
    #[test]
    fn what_a_success_is_depends_on_the_path() {
        for (end, http, invoke, proxy) in [
            (End::Http(200), true, true, true),
            (End::Http(299), true, true, true),
            (End::Http(301), true, false, false),
            (End::Http(304), true, false, false),
            (End::Http(399), true, false, false),
            (End::Http(400), false, false, false),
            (End::Http(199), false, false, false),
            (End::Http(999), false, false, false),
            (End::Grpc(0), true, true, true),
            (End::Grpc(1), false, false, false),
            (End::Failed(Failure::Timeout), false, false, false),
        ] {
            let outcome = Outcome::from(end);
            let is = [Path::Http, Path::InvokeService, Path::Proxy].map(|p| outcome.is_success(p));
            assert_eq!(is, [http, invoke, proxy], "{end:?}");
        }
    }

    ///
    #[test]
    fn codes_decide_by_their_number() {
        let all = matching("", "");
        let some = matching("500,502-503", "1,2,5-7");
        for (end, by_all, by_some) in [
            (End::Http(400), true, false),
            (End::Http(500), true, true),
            (End::Http(501), true, false),
            (End::Http(503), true, true),
            (End::Http(600), false, false),
            (End::Http(999), false, false),
            (End::Grpc(1), true, true),
            (End::Grpc(5), true, true),
            (End::Grpc(14), true, false),
            (End::Grpc(16), true, false),
            (End::Grpc(17), false, false),
            (End::Grpc(20), false, false),
            (End::Grpc(99), false, false),
            (End::Grpc(500), true, true),
            (End::Grpc(u32::MAX), false, false),
            (End::Failed(Failure::Unreachable), true, true),
            (End::Failed(Failure::NotBegun), true, true),
            (End::Failed(Failure::Lost), true, true),
            (End::Failed(Failure::Unresolved), true, true),
            (End::Failed(Failure::Timeout), true, true),
            (End::Failed(Failure::Other), true, true),
            (End::Failed(Failure::Unfit), false, false),
            (End::Failed(Failure::Idle), false, false),
            (End::Failed(Failure::Denied), false, false),
            (End::Failed(Failure::Caller), false, false),
        ] {
            let outcome = Outcome::from(end);
            assert_eq!(outcome.is_retriable(&all), by_all, "{end:?}");
            assert_eq!(outcome.is_retriable(&some), by_some, "{end:?}");
        }
    }

    /// R-51; resiliency-observability 6.2, row "Breaker that ignores client errors"
    #[test]
    fn breakers_count_what_they_are_told_to() {
        let all = matching("", "");
        let server = matching("500-599", "13-14");
        for (end, by_all, by_server) in [
            (End::Http(404), true, false),
            (End::Http(500), true, true),
            (End::Http(600), true, false),
            (End::Http(204), false, false),
            (End::Grpc(0), false, false),
            (End::Grpc(1), true, false),
            (End::Grpc(14), true, true),
            (End::Grpc(20), true, false),
            (End::Failed(Failure::Timeout), true, true),
            (End::Failed(Failure::Unfit), true, true),
            (End::Failed(Failure::Idle), false, false),
            (End::Failed(Failure::Caller), true, true),
        ] {
            let outcome = Outcome::from(end);
            assert_eq!(outcome.is_failure(Path::Http, &all), by_all, "{end:?}");
            assert_eq!(
                outcome.is_failure(Path::Http, &server),
                by_server,
                "{end:?}"
            );
        }
    }

    /// resiliency-observability 6.2, rows "Outlier ejection" and "Rate-limit-aware balancing"
    #[test]
    fn addresses_answer_for_their_own_faults() {
        for (end, health, is_penalised) in [
            (End::Http(200), Health::Good, false),
            (End::Http(404), Health::Good, false),
            (End::Http(429), Health::Good, true),
            (End::Http(500), Health::Bad, true),
            (End::Http(503), Health::Bad, true),
            (End::Grpc(0), Health::Good, false),
            (End::Grpc(5), Health::Good, false),
            (End::Grpc(8), Health::Bad, true),
            (End::Grpc(13), Health::Bad, false),
            (End::Grpc(14), Health::Bad, true),
            (End::Failed(Failure::Unreachable), Health::Unreachable, true),
            (End::Failed(Failure::NotBegun), Health::Unknown, false),
            (End::Failed(Failure::Lost), Health::Bad, true),
            (End::Failed(Failure::Idle), Health::Unknown, false),
            (End::Failed(Failure::Denied), Health::Good, false),
            (End::Failed(Failure::Unfit), Health::Good, false),
            (End::Failed(Failure::Caller), Health::Unknown, false),
        ] {
            let outcome = Outcome::from(end);
            assert_eq!(
                (outcome.health(), outcome.is_penalised()),
                (health, is_penalised),
                "{end:?}"
            );
        }
    }
}
