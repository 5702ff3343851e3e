//! gRPC for tests, on bare HTTP/2: a client and an app that keep header blocks, messages and trailers apart.
//!
//! Messages are bytes: which protobuf type they hold is the test's business.

pub mod app;
pub mod bare;
pub mod client;
pub mod frame;

pub use app::{Exchange, GrpcApp, GrpcSeen, Running};
pub use bare::BareClient;
pub use client::{Call, GrpcClient, GrpcReply};
pub use frame::{Headers, encode, value, values};
pub use h2::Reason;
