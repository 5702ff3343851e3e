//! Where does this app listen? Every decision of name resolution, none of its sockets.
//!
//! [`form`] finds the target and the method in a request, [`target`] reads the target, [`name`]
//! spells the names that multicast DNS carries, [`cluster`] those of a cluster's DNS, [`browse`] says
//! when to ask for which, [`registry`] judges what neighbours wrote about themselves, [`cache`] says
//! which addresses are still believed, [`pick`] says whose turn it is, [`host`] ranks the addresses a
//! machine could announce. Nothing here opens a socket, reads a clock or the environment: time comes
//! in as an argument, counted from any fixed start. The shells that feed these decisions live in the
//! sidecar.

pub mod authority;
pub mod browse;
pub mod cache;
pub mod cluster;
pub mod form;
pub mod host;
pub mod name;
pub mod pick;
pub mod registry;
pub mod target;

pub use authority::{Authority, AuthorityError};
pub use browse::Browse;
pub use cache::Cache;
pub use form::{Form, Found, PathError, Request};
pub use pick::Rotation;
pub use target::{ExternalUrl, Target, TargetError};
