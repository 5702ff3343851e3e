//! What the tests with real binaries share.
