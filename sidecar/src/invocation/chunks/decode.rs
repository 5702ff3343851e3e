//! An incremental decoder of the internal stream: whatever the splits, data comes out as it comes in.

use bytes::{Buf as _, Bytes, BytesMut};

use super::PREFIX;

/// What the decoder found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The whole leading message, still encoded.
    Leading(Bytes),
    /// A slice of the body.
    Data(Bytes),
    /// Nothing more without more input.
    NeedMore,
}

/// Why a stream is no internal stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// A message is longer than allowed, in bytes.
    #[error("grpc: received message larger than max ({size} vs. {limit})")]
    TooLarge {
        /// Declared size.
        size: usize,
        /// Limit.
        limit: usize,
    },
    /// Compressed messages are not negotiated on this hop.
    #[error("compressed message without a negotiated encoding")]
    Compressed,
    /// A number came out of order.
    #[error("invalid sequence number received: {got} (expected: {expected})")]
    Sequence {
        /// What the peer wrote.
        got: u64,
        /// What had to follow.
        expected: u64,
    },
    /// A later message carries a non-empty head.
    #[error("metadata found in non-leading chunk")]
    LateHead,
    /// The bytes are no protobuf message of this shape.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The stream ended inside a message.
    #[error("unexpected EOF")]
    Cut,
}

/// Decoder of one direction of one call.
#[derive(Debug)]
pub(crate) struct Decoder {
    input: Input,
    state: State,
    /// Bytes of the present message that are not consumed.
    message: usize,
    /// Bytes of the present payload that are not consumed.
    payload: usize,
    /// Whether the present message has had its payload, and the payload its data: a second one would be another
    /// body to a reader that takes the last.
    had_payload: bool,
    had_data: bool,
    /// Number that the payload under way declared.
    seq: u64,
    /// Number that the next payload must have.
    expected: u64,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    LeadingPrefix,
    LeadingBody,
    Prefix,
    MessageField,
    PayloadField,
    Data(usize),
    Skip { left: usize, inside_payload: bool },
}

impl Decoder {
    /// A decoder that refuses messages above `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            input: Input::default(),
            state: State::LeadingPrefix,
            message: 0,
            payload: 0,
            had_payload: false,
            had_data: false,
            seq: 0,
            expected: 0,
            limit,
        }
    }

    /// Says that the leading message carried a first piece with number `seq`.
    ///
    /// # Errors
    /// [`FrameError::Sequence`] unless it is 0.
    pub(crate) fn leading_payload(&mut self, seq: u64) -> Result<(), FrameError> {
        if seq != self.expected {
            return Err(FrameError::Sequence {
                got: seq,
                expected: self.expected,
            });
        }
        self.expected += 1;
        Ok(())
    }

    /// Gives more input.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.input.push(bytes);
    }

    /// Checks that the input ended between two messages.
    ///
    /// # Errors
    /// [`FrameError::Cut`] if it did not.
    pub(crate) fn finish(&self) -> Result<(), FrameError> {
        let between =
            matches!(self.state, State::Prefix | State::LeadingPrefix) && self.input.len() == 0;
        if between {
            Ok(())
        } else {
            Err(FrameError::Cut)
        }
    }

    /// Goes on until something comes out or input is wanting.
    ///
    /// # Errors
    /// [`FrameError`]; the stream is of no use after one.
    pub(crate) fn next(&mut self) -> Result<Event, FrameError> {
        loop {
            match self.state {
                State::LeadingPrefix | State::Prefix => {
                    let Some(size) = self.prefix()? else {
                        return Ok(Event::NeedMore);
                    };
                    self.message = size;
                    self.had_payload = false;
                    self.state = if self.state == State::LeadingPrefix {
                        State::LeadingBody
                    } else {
                        State::MessageField
                    };
                }
                State::LeadingBody => {
                    let Some(bytes) = self.input.take(self.message) else {
                        return Ok(Event::NeedMore);
                    };
                    self.state = State::Prefix;
                    return Ok(Event::Leading(bytes));
                }
                State::MessageField => {
                    if self.message == 0 {
                        self.state = State::Prefix;
                        continue;
                    }
                    if !self.message_field()? {
                        return Ok(Event::NeedMore);
                    }
                }
                State::PayloadField => {
                    if self.payload == 0 {
                        self.end_of_payload()?;
                        continue;
                    }
                    if !self.payload_field()? {
                        return Ok(Event::NeedMore);
                    }
                }
                State::Data(left) => {
                    if left == 0 {
                        self.state = State::PayloadField;
                        continue;
                    }
                    let Some(slice) = self.input.take_some(left) else {
                        return Ok(Event::NeedMore);
                    };
                    self.state = State::Data(left - slice.len());
                    self.consumed(slice.len(), true)?;
                    return Ok(Event::Data(slice));
                }
                State::Skip {
                    left,
                    inside_payload,
                } => {
                    if left == 0 {
                        self.state = if inside_payload {
                            State::PayloadField
                        } else {
                            State::MessageField
                        };
                        continue;
                    }
                    let Some(slice) = self.input.take_some(left) else {
                        return Ok(Event::NeedMore);
                    };
                    self.state = State::Skip {
                        left: left - slice.len(),
                        inside_payload,
                    };
                    self.consumed(slice.len(), inside_payload)?;
                }
            }
        }
    }

    /// Reads the five bytes before a message.
    fn prefix(&mut self) -> Result<Option<usize>, FrameError> {
        let Some(mut prefix) = self.input.take(PREFIX) else {
            return Ok(None);
        };
        if prefix.get_u8() != 0 {
            return Err(FrameError::Compressed);
        }
        let size = prefix.get_u32() as usize;
        if size > self.limit {
            return Err(FrameError::TooLarge {
                size,
                limit: self.limit,
            });
        }
        Ok(Some(size))
    }

    /// Reads one field head of the message itself; false if input is wanting.
    fn message_field(&mut self) -> Result<bool, FrameError> {
        let Some((field, wire, length, used)) = self.field(self.message)? else {
            return Ok(false);
        };
        self.consumed(used, false)?;
        match (field, wire) {
            (1, Wire::Bytes) if length == 0 => {}
            (1, Wire::Bytes) => return Err(FrameError::LateHead),
            (2, Wire::Bytes) => {
                if length > self.message {
                    return Err(FrameError::Malformed("payload longer than its message"));
                }
                if self.had_payload {
                    return Err(FrameError::Malformed("two payloads in one message"));
                }
                self.payload = length;
                (self.had_payload, self.had_data) = (true, false);
                self.seq = 0;
                self.state = State::PayloadField;
            }
            (1 | 2, Wire::Fixed | Wire::Varint(_)) => return Err(WRONG_WIRE),
            (_, Wire::Bytes | Wire::Fixed) => {
                self.state = State::Skip {
                    left: length,
                    inside_payload: false,
                }
            }
            (_, Wire::Varint(_)) => {}
        }
        Ok(true)
    }

    /// Reads one field head of the payload; false if input is wanting.
    fn payload_field(&mut self) -> Result<bool, FrameError> {
        let Some((field, wire, length, used)) = self.field(self.payload)? else {
            return Ok(false);
        };
        self.consumed(used, true)?;
        match (field, wire) {
            (1, Wire::Bytes) => {
                if length > self.payload {
                    return Err(FrameError::Malformed("data longer than its payload"));
                }
                if self.had_data {
                    return Err(FrameError::Malformed("data twice in one payload"));
                }
                self.had_data = true;
                self.state = State::Data(length);
            }
            (2, Wire::Varint(value)) => self.seq = value,
            (1, Wire::Fixed | Wire::Varint(_)) | (2, Wire::Fixed | Wire::Bytes) => {
                return Err(WRONG_WIRE);
            }
            (_, Wire::Bytes | Wire::Fixed) => {
                self.state = State::Skip {
                    left: length,
                    inside_payload: true,
                }
            }
            (_, Wire::Varint(_)) => {}
        }
        Ok(true)
    }

    fn end_of_payload(&mut self) -> Result<(), FrameError> {
        if self.seq != self.expected {
            return Err(FrameError::Sequence {
                got: self.seq,
                expected: self.expected,
            });
        }
        self.expected += 1;
        self.state = State::MessageField;
        Ok(())
    }

    fn consumed(&mut self, bytes: usize, inside_payload: bool) -> Result<(), FrameError> {
        const OVERRUN: FrameError = FrameError::Malformed("field longer than its message");
        self.message = self.message.checked_sub(bytes).ok_or(OVERRUN)?;
        if inside_payload {
            self.payload = self.payload.checked_sub(bytes).ok_or(OVERRUN)?;
        }
        Ok(())
    }

    /// One field head: number, wire type, length of what follows, bytes used. `None` if input is wanting.
    fn field(&mut self, available: usize) -> Result<Option<(u64, Wire, usize, usize)>, FrameError> {
        let mut peek = self.input.peek();
        let Some(tag) = peek.varint()? else {
            return self.wanting(available);
        };
        if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
            return Err(FrameError::Malformed("field number"));
        }
        let (wire, length) = match tag & 7 {
            0 => {
                let Some(value) = peek.varint()? else {
                    return self.wanting(available);
                };
                (Wire::Varint(value), 0)
            }
            1 => (Wire::Fixed, 8),
            2 => {
                let Some(length) = peek.varint()? else {
                    return self.wanting(available);
                };
                let length =
                    usize::try_from(length).map_err(|_too_wide| FrameError::Malformed("length"))?;
                (Wire::Bytes, length)
            }
            5 => (Wire::Fixed, 4),
            _ => return Err(FrameError::Malformed("unknown wire type")),
        };
        let used = peek.used;
        if used > available {
            return Err(FrameError::Malformed("field longer than its message"));
        }
        self.input.advance(used);
        Ok(Some((tag >> 3, wire, length, used)))
    }

    /// A head that is not complete although its message is.
    fn wanting<T>(&self, available: usize) -> Result<Option<T>, FrameError> {
        if self.input.len() >= available {
            return Err(FrameError::Malformed("truncated field"));
        }
        Ok(None)
    }
}

/// A field that is known, in an encoding that its type does not have.
const WRONG_WIRE: FrameError = FrameError::Malformed("wire type of a field");

#[derive(Debug, Clone, Copy)]
enum Wire {
    Varint(u64),
    Fixed,
    Bytes,
}

/// Slices that wait, oldest first.
#[derive(Debug, Default)]
struct Input {
    slices: std::collections::VecDeque<Bytes>,
    length: usize,
}

impl Input {
    fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        if !bytes.is_empty() {
            self.slices.push_back(bytes);
        }
    }

    fn len(&self) -> usize {
        self.length
    }

    /// Up to `wanted` bytes of the oldest slice.
    fn take_some(&mut self, wanted: usize) -> Option<Bytes> {
        let front = self.slices.front_mut()?;
        let taken = front.split_to(wanted.min(front.len()));
        self.length -= taken.len();
        if front.is_empty() {
            self.slices.pop_front();
        }
        Some(taken)
    }

    /// Exactly `wanted` bytes, joined only if they lie in several slices.
    fn take(&mut self, wanted: usize) -> Option<Bytes> {
        if wanted > self.length {
            return None;
        }
        if wanted == 0 {
            return Some(Bytes::new());
        }
        let first = self.take_some(wanted)?;
        if first.len() == wanted {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(wanted);
        joined.extend_from_slice(&first);
        while joined.len() < wanted {
            joined.extend_from_slice(&self.take_some(wanted - joined.len())?);
        }
        Some(joined.freeze())
    }

    fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let Some(taken) = self.take_some(bytes) else {
                return;
            };
            bytes -= taken.len();
        }
    }

    fn peek(&self) -> Peek<'_> {
        Peek {
            slices: self.slices.iter(),
            current: [].iter(),
            used: 0,
        }
    }
}

/// Reads ahead without taking.
struct Peek<'a> {
    slices: std::collections::vec_deque::Iter<'a, Bytes>,
    current: std::slice::Iter<'a, u8>,
    used: usize,
}

impl Peek<'_> {
    fn byte(&mut self) -> Option<u8> {
        loop {
            if let Some(byte) = self.current.next() {
                self.used += 1;
                return Some(*byte);
            }
            self.current = self.slices.next()?.iter();
        }
    }

    fn varint(&mut self) -> Result<Option<u64>, FrameError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let Some(byte) = self.byte() else {
                return Ok(None);
            };
            if shift == 63 && byte > 1 {
                return Err(FrameError::Malformed("varint of more than 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(value));
            }
        }
        Err(FrameError::Malformed("varint longer than ten bytes"))
    }
}
