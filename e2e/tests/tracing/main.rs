//! Traces as collectors receive them: the part "Tracing" of chapter 7 of the fact sheet
//! `resiliency-observability.md` against real sidecars, with a Zipkin and an OTLP receiver that keep what arrives.
//! `zipkin.rs` asks a real Zipkin server.

#![cfg(test)]

mod apps;
mod collectors;
mod exporters;
mod rig;
mod spans;
mod trouble;
mod zipkin;
