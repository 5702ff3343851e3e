//! Heads of the messages that we send.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message;

use super::PREFIX;

/// Field 2 (`payload`), length-delimited, of both stream messages.
const PAYLOAD: u8 = 0x12;
/// Field 1 (`request` or `response`), length-delimited, of both stream messages.
const HEAD: u8 = 0x0a;
/// Field 1 (`data`), length-delimited, of `StreamPayload`.
const DATA: u8 = 0x0a;
/// Field 2 (`seq`), varint, of `StreamPayload`.
const SEQ: u8 = 0x10;

/// A whole gRPC message.
pub(crate) fn message(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut out = BytesMut::with_capacity(PREFIX + length);
    put_prefix(&mut out, length);
    // A BytesMut grows, so encoding cannot run out of room.
    let _ = message.encode(&mut out);
    out.freeze()
}

/// The leading message up to its first piece of body; `first` bytes of data follow it.
pub(crate) fn leading(head: &impl Message, first: usize) -> Bytes {
    let head_length = head.encoded_len();
    let data = if first == 0 {
        0
    } else {
        1 + varint_len(first) + first
    };
    let payload = if first == 0 {
        0
    } else {
        1 + varint_len(data) + data
    };
    let total = 1 + varint_len(head_length) + head_length + payload;
    let mut out = BytesMut::with_capacity(PREFIX + total - first);
    put_prefix(&mut out, total);
    out.put_u8(HEAD);
    put_varint(&mut out, head_length as u64);
    let _ = head.encode(&mut out);
    if first > 0 {
        out.put_u8(PAYLOAD);
        put_varint(&mut out, data as u64);
        out.put_u8(DATA);
        put_varint(&mut out, first as u64);
    }
    out.freeze()
}

/// What stands before `size` bytes of data in the message with number `seq`.
pub(crate) fn chunk_head(seq: u64, size: usize) -> Bytes {
    let seq_length = if seq == 0 { 0 } else { 1 + varint_len64(seq) };
    let data = if size == 0 {
        0
    } else {
        1 + varint_len(size) + size
    };
    let payload = seq_length + data;
    let total = 1 + varint_len(payload) + payload;
    let mut out = BytesMut::with_capacity(PREFIX + total - size);
    put_prefix(&mut out, total);
    out.put_u8(PAYLOAD);
    put_varint(&mut out, payload as u64);
    // Fields may come in any order; the number goes first so that the data ends the message.
    if seq > 0 {
        out.put_u8(SEQ);
        put_varint(&mut out, seq);
    }
    if size > 0 {
        out.put_u8(DATA);
        put_varint(&mut out, size as u64);
    }
    out.freeze()
}

fn put_prefix(out: &mut BytesMut, length: usize) {
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put_varint(out: &mut BytesMut, value: u64) {
    prost::encoding::encode_varint(value, out);
}

fn varint_len(value: usize) -> usize {
    varint_len64(value as u64)
}

fn varint_len64(value: u64) -> usize {
    prost::encoding::encoded_len_varint(value)
}
