//! Access control and peers, row by row: chapter 6 of the fact sheet `security.md` against real programs.
//!
//! Sentry, sidecars and mutual TLS are the product's; apps are probes that count what reaches them. Each file
//! holds the rows of one theme, which share their programs; a row names its fact by id.

#![cfg(test)]

mod legacy;
mod paths;
mod peers;
mod rig;
mod roads;
mod tokens;
mod verbs;
