//! How access control reaches sidecars: both ends of the stream `accesscontrol.v1.AccessControlDiscovery/Watch`.
//!
//! The server's end, [`Discovery`], sends each sidecar the objects that are for it and keeps book of who runs
//! what; the client's end, [`Watch`], opens the stream over a connection that its owner has secured. What is
//! decided about sessions ([`session`]), contents ([`world`]) and status ([`book`]) is pure, time being an
//! argument. Refused: handshakes, listeners and where objects come from; what a sidecar makes of a snapshot.
//! Source: security 4.8.

pub mod book;
pub mod client;
pub mod relay;
pub mod report;
pub mod server;
pub mod session;
pub mod world;

use std::time::Duration;

pub use book::{Counts, ObjectStatus, Rejection, Totals};
pub use client::{OpenError, Watch};
pub use report::{Cursor, News};
pub use server::{Discovery, Settings, Time};
pub use world::{StoredError, StoredObject, World};

/// The version of the protocol, in `Hello.protocol`.
pub const PROTOCOL: u32 = 1;
/// Time between two heartbeats.
pub const HEARTBEAT: Duration = Duration::from_secs(10);
/// A sidecar answers a snapshot within this time, or counts as outdated.
pub const ACK_LIMIT: Duration = Duration::from_secs(5);
/// Changes within so long are sent as one.
pub const COALESCE: Duration = Duration::from_millis(100);
/// Most bytes of objects that a sidecar takes for one app (fact F7).
pub const MAX_OBJECTS: usize = 2 * 1024 * 1024;
/// Most bytes of one response on the wire: a snapshot above [`MAX_OBJECTS`] is received and refused by name.
pub const MAX_RESPONSE: usize = 8 * 1024 * 1024;
/// Most bytes of one request. A Hello has some 45 bytes for each object that a sidecar knows; what does not fit is
/// not named ([`Watch::open`]).
pub const MAX_REQUEST: usize = 1024 * 1024;
/// Most bytes of `Hello.instance`.
pub const MAX_INSTANCE: usize = 128;
/// Code of a snapshot that is refused because a generation in it is older than one that is known (fact F8).
pub const STALE: &str = "stale";
/// Code of a snapshot that is refused for its size (fact F7).
pub const TOO_LARGE: &str = "TooLarge";
