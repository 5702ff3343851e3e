//! The listeners of a sidecar, and what happens to a request before its route is looked up.
//!
//! Owns the stages 1 to 7 and 16, one file each: `accept`, `limit`, `observe`, `cors`, `api_token`,
//! `access_log`; `http.rs` and `grpc.rs` read as the lists of those stages. Connections belong to `conn.rs`.
//! Refuses to own what a request means: `api/`, `outbound/` and `inbound/` do.

pub(crate) mod accept;
pub(crate) mod access_log;
pub(crate) mod api_token;
pub(crate) mod conn;
pub(crate) mod cors;
pub(crate) mod data;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod internal;
pub(crate) mod lease;
mod leftover;
pub(crate) mod limit;
pub(crate) mod observe;
pub(crate) mod opening;
pub(crate) mod public;
mod strangers;
