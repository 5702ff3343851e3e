//! What the demo shows: a headline, a line a step, two tables, and what to try next.

use std::io::IsTerminal as _;
use std::time::Duration;

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use owo_colors::OwoColorize as _;

use super::measure::Latencies;
use crate::output;

/// Shows the demo's progress and results.
pub(super) struct Show {
    colour: bool,
    rows: Vec<(String, String)>,
}

// === impl Show ===

impl Show {
    /// Shows on the standard output, in colour if it is a terminal that wants it.
    pub(super) fn new(no_colour: bool) -> Self {
        Self {
            colour: !no_colour && std::io::stdout().is_terminal(),
            rows: Vec::new(),
        }
    }

    /// The headline.
    pub(super) fn headline(&self, text: &str) {
        let text = if self.colour {
            text.bold().to_string()
        } else {
            text.to_owned()
        };
        output::line(&format!("{text}\n"));
    }

    /// A step that went well, which is a row of the table as well.
    pub(super) fn done(&mut self, what: &str, result: &str) {
        let mark = if self.colour {
            "✔".green().to_string()
        } else {
            "✔".to_owned()
        };
        output::line(&format!("  {mark} {what}: {result}"));
        self.rows.push((what.to_owned(), result.to_owned()));
    }

    /// The table of all steps.
    pub(super) fn summary(&self) {
        let mut table = self.table(&["What", "What happened"]);
        for (what, result) in &self.rows {
            // One entry a line, so that long lists of ids stay readable.
            table.add_row(vec![
                Cell::new(what),
                Cell::new(result.replace("; ", "\n")).fg(Color::Green),
            ]);
        }
        output::line(&format!("\n{table}"));
    }

    /// The table of latencies.
    pub(super) fn latencies(&self, rows: &[(&str, &Latencies)]) {
        let mut table = self.table(&[
            "Latency, one call at a time",
            "calls",
            "p50",
            "p90",
            "p99",
            "p99.9",
        ]);
        for (what, latencies) in rows {
            let mut cells = vec![Cell::new(what), Cell::new(latencies.count())];
            cells.extend(
                [50.0, 90.0, 99.0, 99.9].map(|share| Cell::new(short(latencies.percentile(share)))),
            );
            table.add_row(cells);
        }
        output::line(&format!("\n{table}"));
    }

    /// Commands to try, each with what it does.
    pub(super) fn commands(&self, title: &str, commands: &[(&str, String)]) {
        output::line(&format!("\n{title}"));
        for (what, command) in commands {
            let command = if self.colour {
                command.cyan().to_string()
            } else {
                command.clone()
            };
            output::line(&format!("  # {what}\n  {command}"));
        }
    }

    fn table(&self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Disabled);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(
            headings
                .iter()
                .map(|text| Cell::new(text).add_attribute(Attribute::Bold)),
        );
        table
    }
}

/// A span of time in three digits or so.
pub(super) fn short(span: Duration) -> String {
    let micros = span.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..100_000 => format!("{}.{:02} ms", micros / 1_000, micros % 1_000 / 10),
        100_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!(
            "{}.{:02} s",
            micros / 1_000_000,
            micros % 1_000_000 / 10_000
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        for (micros, expected) in [
            (7, "7 µs"),
            (999, "999 µs"),
            (1_234, "1.23 ms"),
            (99_990, "99.99 ms"),
            (123_456, "123 ms"),
            (1_050_000, "1.05 s"),
        ] {
            assert_eq!(short(Duration::from_micros(micros)), expected);
        }
    }
}
