//! The real program in mode `kubernetes`, before a fake API server that allows it what docs/security.md asks for.
#![cfg(test)]

#[path = "cluster/authority.rs"]
mod authority;
#[path = "cluster/flood.rs"]
mod flood;
#[path = "cluster/jwt.rs"]
mod jwt;
#[path = "cluster/names.rs"]
mod names;
#[path = "cluster/rig.rs"]
mod rig;
#[path = "cluster/start.rs"]
mod start;
#[expect(dead_code, reason = "the other tests of the program use the rest")]
mod support;
#[path = "cluster/trouble.rs"]
mod trouble;
