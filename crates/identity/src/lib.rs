//! Who a workload is.
//!
//! Owns names ([`TrustDomain`], [`Namespace`], [`AppId`], [`SpiffeId`]), the proof of a name ([`Svid`]), what a
//! proof is checked against ([`TrustBundle`]), the check itself ([`verify()`]) and the arithmetic of renewal
//! ([`renewal`]). Refuses sockets, TLS configurations, files, clocks and the call to Sentry: the instant is
//! always an argument, bytes come in and values go out.

pub mod bundle;
pub mod id;
pub mod pem;
pub mod renewal;
pub mod svid;
pub mod verify;
mod x509;

pub use bundle::{BundleError, TrustAnchor, TrustBundle};
pub use id::{
    AppId, AppIdError, Namespace, NamespaceError, SpiffeId, SpiffeIdError, TrustDomain,
    TrustDomainError,
};
pub use svid::{Svid, SvidError};
pub use verify::{VerifiedPeer, VerifyError, verify};
