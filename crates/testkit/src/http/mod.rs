//! HTTP/1.1 for tests: a client and an app that keep every byte.
//!
//! [`client`] sends what it is given, [`app`] records what it gets; both read through [`wire`]. Nothing here
//! follows redirects, adds headers or repairs a message.

pub mod answer;
pub mod app;
pub mod client;
pub mod wire;

pub use answer::{Answer, Gate};
pub use app::{HttpApp, Seen, Setup};
pub use client::{Connection, Reply, Request, send};
pub use wire::{Cursor, Digest, End, Framing, Head};
