//! Parts for tests: a certificate maker, fake apps, raw clients, a fake API server.
//!
//! A dev-dependency only; nothing here is reachable from a release build. It knows bytes and protocols, not the
//! product's rules. Parts panic where a test should fail.

pub mod certs;
pub mod fuzz;
pub mod grpc;
pub mod http;
pub mod kube;
pub mod sentry;
pub mod tls;
