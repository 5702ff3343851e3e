//! The boards and rules in `dashboards/`: what they ask for is there.
//!
//! `files.rs` reads them and judges their form: JSON and YAML parse, every query parses, every alert has a run book.
//! `data_plane.rs` and `control_plane.rs` start real programs, let things go wrong and scrape them as Prometheus does;
//! `answers.rs` asks every query of what they got, `families.rs` holds it against the fact sheet's tables, and
//! `query.rs` says which labels come out, whatever the values.

#![cfg(test)]

mod answers;
mod control_plane;
mod data_plane;
mod families;
mod files;
mod query;
mod series;
