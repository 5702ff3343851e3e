//! Parts for tests: a certificate maker, fake apps, a fake Sentry.
//!
//! A dev-dependency only; nothing here is reachable from a release build. Parts panic where a test should fail.

pub mod certs;
