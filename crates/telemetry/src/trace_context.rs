//! W3C trace context: who started this, and which span is the parent.
//!
//! Owns the text form (`traceparent`), the binary form (`grpc-trace-bin`) and
//! the making of child contexts. Reading is as lenient as the reference's: a
//! header that is refused counts as absent. Whether to sample is
//! [`crate::sampling`]'s question. Source: resiliency-observability 2.2.

use std::fmt;

use rand::Rng;

/// Length of the text form.
pub const TEXT_LEN: usize = 55;
/// Length of the binary form.
pub const BINARY_LEN: usize = 29;
/// Bit of [`Flags`] that says the trace is recorded.
const SAMPLED: u8 = 1;

/// Names a trace; all zero when there is none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// Names a span; all zero when there is none.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

/// Flags of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

/// A span of a trace, as the next hop's parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// Whether it is recorded.
    pub flags: Flags,
}

// === impl Flags ===

impl Flags {
    /// Flags of a trace that is recorded, or not.
    #[must_use]
    pub const fn sampled(sampled: bool) -> Self {
        Self(if sampled { SAMPLED } else { 0 })
    }

    /// Returns whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.0 & SAMPLED != 0
    }
}

// === impl TraceParent ===

impl TraceParent {
    /// The context without trace and span, which the reference sends where it has none.
    #[must_use]
    pub const fn zero() -> Self {
        Self {
            trace_id: TraceId([0; 16]),
            span_id: SpanId([0; 8]),
            flags: Flags(0),
        }
    }

    /// Starts a trace.
    pub fn root(sampled: bool, rng: &mut impl Rng) -> Self {
        Self::root_of(TraceId(nonzero(rng)), sampled, rng)
    }

    /// Starts a trace whose name is known.
    pub(crate) fn root_of(trace_id: TraceId, sampled: bool, rng: &mut impl Rng) -> Self {
        Self {
            trace_id,
            span_id: SpanId(nonzero(rng)),
            flags: Flags::sampled(sampled),
        }
    }

    /// Returns a span below this one: same trace, new span, recorded if this is.
    #[must_use]
    pub fn child(&self, rng: &mut impl Rng) -> Self {
        Self::root_of(self.trace_id, self.is_sampled(), rng)
    }

    /// Returns whether both ids are given.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.trace_id != TraceId::default() && self.span_id != SpanId::default()
    }

    /// Returns whether the trace is recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags.is_sampled()
    }

    /// Reads the text form; `None` for a header that counts as absent.
    ///
    /// Version `00` has exactly four parts, later ones may have more, `ff` is refused; ids are
    /// lower-case hex of exact length and not all zero.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let version = parts.next()?;
        let (trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let [version] = hex(version, Digits::AnyCase)?;
        if version == u8::MAX || (version == 0 && parts.next().is_some()) {
            return None;
        }
        let parsed = Self {
            trace_id: TraceId(hex(trace_id, Digits::LowerCase)?),
            span_id: SpanId(hex(span_id, Digits::LowerCase)?),
            flags: Flags(first_flag_byte(flags)?),
        };
        parsed.is_valid().then_some(parsed)
    }

    /// Reads the text form from header bytes.
    #[must_use]
    pub fn parse_bytes(header: &[u8]) -> Option<Self> {
        Self::parse(std::str::from_utf8(header).ok()?)
    }

    /// Returns the text form, version `00`, without allocating.
    #[must_use]
    pub fn to_text(&self) -> [u8; TEXT_LEN] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (_, rest) = text.split_at_mut(3);
        let (trace, rest) = rest.split_at_mut(33);
        let (span, flags) = rest.split_at_mut(17);
        put_hex(trace, &self.trace_id.0);
        put_hex(span, &self.span_id.0);
        put_hex(flags, &[self.flags.0]);
        text
    }

    /// Returns the binary form.
    #[must_use]
    pub fn to_binary(&self) -> [u8; BINARY_LEN] {
        let mut binary = [0; BINARY_LEN];
        let fields = [0, 0].iter().chain(&self.trace_id.0);
        let fields = fields.chain(&[1]).chain(&self.span_id.0);
        let fields = fields
            .chain(&[2])
            .chain(std::slice::from_ref(&self.flags.0));
        for (byte, value) in binary.iter_mut().zip(fields) {
            *byte = *value;
        }
        binary
    }

    /// Reads the binary form; span and flags may be missing. `None` when it counts as absent.
    #[must_use]
    pub fn from_binary(binary: &[u8]) -> Option<Self> {
        let rest = binary.strip_prefix(&[0, 0])?;
        let (trace_id, mut rest) = rest.split_first_chunk::<16>()?;
        let mut parsed = Self {
            trace_id: TraceId(*trace_id),
            ..Self::zero()
        };
        if let Some((span_id, after)) = field::<8>(rest, 1) {
            (parsed.span_id, rest) = (SpanId(*span_id), after);
        }
        if let Some(([flags], _)) = field::<1>(rest, 2) {
            parsed.flags = Flags(*flags);
        }
        (parsed.trace_id != TraceId::default()).then_some(parsed)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
        } = self;
        write!(f, "00-{trace_id}-{span_id}-{:02x}", flags.0)
    }
}

/// Takes a field of the binary form: its number, then `N` bytes.
fn field<const N: usize>(binary: &[u8], number: u8) -> Option<(&[u8; N], &[u8])> {
    binary.strip_prefix(&[number])?.split_first_chunk::<N>()
}

fn nonzero<const N: usize>(rng: &mut impl Rng) -> [u8; N] {
    loop {
        let mut id = [0; N];
        rng.fill_bytes(&mut id);
        if id != [0; N] {
            return id;
        }
    }
}

// === hexadecimal ===

#[derive(Clone, Copy, PartialEq)]
enum Digits {
    LowerCase,
    AnyCase,
}

/// Reads exactly `N` bytes.
fn hex<const N: usize>(text: &str, digits: Digits) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let &[high, low] = pair else { return None };
        *byte = digit(high, digits)? << 4 | digit(low, digits)?;
    }
    Some(bytes)
}

/// The flags part may be longer than a byte in later versions; the first counts.
fn first_flag_byte(flags: &str) -> Option<u8> {
    let all_hex = flags.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !all_hex || !flags.len().is_multiple_of(2) {
        return None;
    }
    let [first] = hex(flags.get(..2)?, Digits::AnyCase)?;
    Some(first)
}

const fn digit(byte: u8, digits: Digits) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' if matches!(digits, Digits::AnyCase) => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn put_hex(text: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (hex_digit(byte >> 4), hex_digit(byte & 0xf));
        }
    }
}

const fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 {
        b'0' + nibble
    } else {
        b'a' + nibble - 10
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

#[cfg(test)]
mod tests;
