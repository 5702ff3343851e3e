//! Spans as lines of the log, in the words of the reference (resiliency-observability 2.6).

use std::{fmt, time::SystemTime};

use ironside_telemetry::{Span, SpanId};

/// Scope of the lines.
const LOG: &str = "dapr.runtime.trace";

/// Writes one line for each span.
pub(super) fn write(spans: &[Span]) {
    for span in spans {
        tracing::info!(target: LOG, "{}", Line(span));
    }
}

struct Line<'a>(&'a Span);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(span) = self;
        let parent = span.parent.unwrap_or(SpanId::default());
        let (trace, own) = (span.context.trace_id, span.context.span_id);
        let (start, end) = (time(span.start), time(span.end));
        write!(
            f,
            "[{}] Trace: {trace} Span: {parent}/{own} Time: [{start} ->  {end}] Annotations: [",
            span.name
        )?;
        for (number, event) in span.events.iter().enumerate() {
            let joint = if number > 0 { " " } else { "" };
            write!(f, "{joint}{{Name:{} Attributes:[", event.name)?;
            for (number, (key, value)) in event.attributes.iter().enumerate() {
                let joint = if number > 0 { " " } else { "" };
                write!(f, "{joint}{key}={value}")?;
            }
            write!(f, "] Time:{}}}", time(event.at))?;
        }
        f.write_str("]")
    }
}

/// A time as Go prints it.
fn time(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(
        |_out_of_range| String::new(),
        |at| at.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Fact: resiliency-observability T-35.
    #[test]
    fn a_line_is_the_reference_s() {
        let mut span = crate::traces::recording::tests::span();
        span.start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_763_733_581_250);
        span.end = span.start + Duration::from_millis(2);
        assert_eq!(
            Line(&span).to_string(),
            "[CallLocal/b/m] Trace: abababababababababababababababab Span: 0202020202020202/0101010101010101 \
             Time: [2025-11-21 13:59:41.25 +0000 UTC ->  2025-11-21 13:59:41.252 +0000 UTC] Annotations: []"
        );
        span.parent = None;
        span.event("retry", span.start, &[("cause", "x"), ("attempt", "2")]);
        let line = Line(&span).to_string();
        assert!(
            line.contains("Span: 0000000000000000/0101010101010101 "),
            "{line}"
        );
        assert!(line.ends_with(
            "Annotations: [{Name:retry Attributes:[cause=x attempt=2] Time:2025-11-21 13:59:41.25 +0000 UTC}]"
        ), "{line}");
    }
}
