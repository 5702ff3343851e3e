//! Decisions as JSON: a list for the API, one line each for the access log file.
//!
//! Owns the names and the order of the fields. Texts are exact, so that a tool can ask policy the same again, and
//! safe to look at: what cannot be printed is escaped, in the way of JSON. Allocates nothing but the room of the
//! text that it is given.

use std::fmt::{self, Write as _};

use ironside_telemetry::is_printable;

use super::record::{Record, Said, relative};

/// `{"decisions":[…]}`, with a final newline.
pub(super) fn list(records: &[Record<'_>]) -> String {
    let mut text = String::from("{\"decisions\":[");
    for (at, record) in records.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        object(record, Names::Joined, &mut text);
    }
    text.push_str("]}\n");
    text
}

/// Whether the names of a caller also stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// In the SPIFFE ID only.
    Joined,
    /// `callerNamespace` and `callerAppId` besides.
    Apart,
}

/// Appends one object.
pub(super) fn object(record: &Record<'_>, names: Names, out: &mut String) {
    // Writing to a String cannot fail.
    let _infallible = written(record, names, out);
}

fn written(record: &Record<'_>, names: Names, out: &mut String) -> fmt::Result {
    let Record {
        time,
        said,
        audit,
        caller,
        operation,
        raw,
        is_cut,
        verb,
        overrides,
        protocol,
        snapshot,
        trace,
    } = record;
    let time = jiff::Timestamp::try_from(*time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    write!(out, "{{\"time\":\"{time}\",")?;
    verdict(said, out)?;
    out.push_str(",\"caller\":\"");
    if let Some(caller) = caller {
        // The characters of a SPIFFE ID need no escapes.
        write!(out, "{caller}")?;
    }
    out.push('"');
    if names == Names::Apart {
        let name = caller.as_ref();
        let (namespace, app_id) = name.map_or(("", ""), |name| (name.namespace, name.app_id));
        write!(
            out,
            ",\"callerNamespace\":\"{namespace}\",\"callerAppId\":\"{app_id}\""
        )?;
    }
    out.push_str(",\"operation\":\"/");
    escaped(relative(operation), out)?;
    out.push('"');
    if let Some(raw) = raw {
        out.push_str(",\"rawOperation\":\"");
        escaped(raw, out)?;
        out.push('"');
    }
    if *is_cut {
        out.push_str(",\"truncated\":true");
    }
    write!(out, ",\"verb\":\"{verb}\"")?;
    if !overrides.is_empty() {
        out.push_str(",\"overrides\":[");
        for (at, verb) in overrides.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(out, "{comma}\"{verb}\"")?;
        }
        out.push(']');
    }
    let protocol = protocol.as_str();
    write!(
        out,
        ",\"protocol\":\"{protocol}\",\"snapshot\":{snapshot},\"traceId\":\""
    )?;
    if let Some(trace) = trace {
        write!(out, "{trace}")?;
    }
    out.push('"');
    if let Some(audit) = audit {
        out.push_str(",\"audit\":{");
        verdict(audit, out)?;
        out.push('}');
    }
    out.push('}');
    Ok(())
}

fn verdict(said: &Said<'_>, out: &mut String) -> fmt::Result {
    write!(
        out,
        "\"decision\":\"{}\",\"reason\":\"{}\",\"policy\":\"",
        said.outcome.as_str(),
        said.reason.as_str()
    )?;
    escaped(said.policy, out)?;
    out.push_str("\",\"rule\":\"");
    if let Some(rule) = said.rule {
        write!(out, "{rule}")?;
    }
    out.push('"');
    Ok(())
}

/// The inside of a JSON string.
fn escaped(text: &str, out: &mut String) -> fmt::Result {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.bytes().all(plain) {
        out.push_str(text);
        return Ok(());
    }
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            _ if is_printable(c) => out.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
    }
    Ok(())
}
