//! Where live state comes from: files are read, compiled into a whole [`Live`](crate::live::Live), published. In a
//! cluster the operator's objects are the files.
//!
//! Owns `operator.rs` (what the operator says), `cluster.rs` (what of it counts), `access.rs` (who may call what),
//! `advice.rs` (which of these rules do nothing), `traces.rs` (what is recorded and where it is sent), `components.rs`
//! (which of them are counted), `disk.rs` (files as they are now), `compile.rs` (from what was read to what requests
//! use, pure) and `reload.rs` (when to do it again). A reload replaces the value; listeners, connections and calls
//! stay.

pub(crate) mod access;
pub(crate) mod advice;
pub(crate) mod cluster;
pub(crate) mod compile;
pub(crate) mod components;
pub(crate) mod disk;
pub(crate) mod operator;
pub(crate) mod reload;
pub(crate) mod resiliency;
pub(crate) mod stream;
pub(crate) mod traces;
