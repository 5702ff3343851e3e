//! Discovery for those who verify JWTs: the OpenID Connect document and the public key set.
//!
//! Owns the second half of security 1.10. What is answered is `documents`' decision, by values alone; the certificate
//! that is shown is `tls`'s matter, connections are `serve`'s. Nothing here signs or knows a private key of tokens.

mod documents;
pub(crate) mod serve;
pub(crate) mod tls;

pub(crate) use documents::Documents;
