//! Names of log fields, so that one thing has one name.
//!
//! `tracing` wants literals at the call, so these constants are the list to
//! copy from and to search by; nothing else may name a field.

/// App ID of the workload behind this sidecar.
pub const APP_ID: &str = "app.id";
/// SPIFFE ID of the peer.
pub const PEER_ID: &str = "peer.id";
/// App a caller wants to reach.
pub const TARGET_APP: &str = "target.app";
/// Cleaned method a caller wants to reach.
pub const TARGET_METHOD: &str = "target.method";
/// Rule that decided.
pub const POLICY_RULE: &str = "policy.rule";
/// What was decided.
pub const DECISION: &str = "decision";
/// Number of the attempt, from 1.
pub const ATTEMPT: &str = "attempt";
/// Stage of a request's way.
pub const STAGE: &str = "stage";
/// The error, with its sources.
pub const ERR: &str = "err";
