//! Decides one kind of request a thousand times, to be counted by an instrument (benchmarks 7, P1).
//!
//! Usage: `instructions <spread|one-caller> <rules> <kind of request>`. See `cargo xtask instructions`.

#![expect(
    clippy::expect_used,
    reason = "an instrument that cannot be set up has nothing to measure"
)]

#[expect(dead_code, reason = "shared with the benches, which use more of it")]
#[path = "../benches/workload/mod.rs"]
mod workload;

use ironside_policy::AppKind;
use workload::{Request, Shape, work};

/// Decisions that are counted.
const COUNTED: usize = 1000;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [shape, rules, kind] = words.as_slice() else {
        eprintln!("usage: instructions <spread|one-caller> <rules> <kind of request>");
        std::process::exit(2);
    };
    let shape = match shape.as_str() {
        "spread" => Shape::Spread,
        _ => Shape::OneCaller,
    };
    let work = work(
        shape,
        rules.parse().expect("a number of rules"),
        AppKind::Http,
    );
    let mut requests = work.requests.iter();
    let request = requests
        .find(|one| one.name == kind)
        .expect("a kind of request");
    counted(&work.set, request);
}

/// What the instrument counts, and nothing else.
#[inline(never)]
fn counted(set: &ironside_policy::PolicySet, request: &Request) {
    for _ in 0..COUNTED {
        std::hint::black_box(request.decide(std::hint::black_box(set)));
    }
}
