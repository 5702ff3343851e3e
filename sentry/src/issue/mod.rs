//! Certificates, purely: what goes in is checked elsewhere, the instant is an argument, bytes come out.
//!
//! `csr` reads what a workload sends, `leaf` writes what it gets, `root` makes a CA of its own. Names, validators,
//! files and connections are not known here.

pub(crate) mod csr;
pub(crate) mod leaf;
pub(crate) mod root;

/// A serial number below 2^128, as the reference draws them.
pub(crate) type Serial = [u8; 16];
