//! Access control and peers, row by row: chapter 6 of the fact sheet `security.md` against real programs.
//!
//! Sentry, sidecars and mutual TLS are the product's; apps are probes that count what reaches them. Each file
//! holds the rows of one theme, which share their programs; a row names its fact by id. `rows.txt` says for every
//! row of the chapter where it is held, here or elsewhere.

#![cfg(test)]

mod handshakes;
mod identity;
mod legacy;
mod objects;
mod paths;
mod peers;
mod rig;
mod roads;
mod table;
mod tokens;
mod verbs;
