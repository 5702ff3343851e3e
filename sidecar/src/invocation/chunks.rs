//! Framing of a body between two sidecars: gRPC messages that carry pieces of it.
//!
//! Owns the encoder and the decoder of `InternalInvoke{Request,Response}Stream` after their leading message.
//! Pieces pass as the slices they came in: the encoder writes a small head before each, the decoder hands out
//! what lies between the heads without waiting for the rest of a message. Pure: bytes in, bytes out.

mod decode;
mod encode;

pub(crate) use decode::{Decoder, Event, FrameError};
pub(crate) use encode::{chunk_head, leading, message};

/// Largest piece of a body that one message of ours carries, in bytes. Peers accept any size up to their message
/// limit, which is at least this (service-invocation 4.2, benchmarks 11).
pub(crate) const MAX_PIECE: usize = 64 * 1024;

/// Bytes before each gRPC message: one for compression, four for the length.
pub(crate) const PREFIX: usize = 5;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
