//! The API server, as this program asks it.
//!
//! Owns single calls with a deadline ([`calls`]) and watches that tell facts ([`watching`]), about kinds that are
//! named at run time, so that nothing which is stored is lost in a type of ours.

pub(crate) mod calls;
pub(crate) mod watching;

pub(crate) use calls::{CallError, Calls, Place};
pub(crate) use watching::{Told, watch};
