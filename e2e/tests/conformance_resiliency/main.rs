//! Resiliency, row by row: the part "Resiliency" of chapter 7 of the fact sheet `resiliency-observability.md`
//! against real programs. `rows.txt` says where each row of that chapter is held, here or in a unit test.

#![cfg(test)]

mod bodies;
mod breakers;
mod deadlines;
mod inbound;
mod logs;
mod metrics;
mod proxied;
mod reload;
mod replicas;
mod retries;
mod rig;
mod table;
mod timeouts;
