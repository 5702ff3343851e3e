//! Time of decisions and of compilation (benchmarks 7, P2, P3, P5 to P7).
//!
//! `cargo bench -p ironside-policy --bench decide`. Instructions are counted by the example `instructions` (P1),
//! allocations by the test `allocations` (P4).

#![expect(
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

mod workload;

use divan::{AllocProfiler, Bencher, black_box};
use ironside_policy::AppKind;
use workload::{Shape, Work, adversarial, work};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const RULES: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];
const KINDS: [&str; 9] = [
    "exact-3",
    "exact-12",
    "path-200",
    "miss",
    "unknown-caller",
    "glob",
    "double-star",
    "verb-mismatch",
    "grpc-method",
];

fn main() {
    divan::main();
}

fn warm(bencher: Bencher<'_, '_>, shape: Shape, kind: &str, rules: usize) {
    let Work { set, requests } = work(shape, rules, AppKind::Http);
    let mut requests = requests.iter();
    let request = requests
        .find(|request| request.name == kind)
        .expect("a kind of request");
    bencher.bench_local(|| black_box(request.decide(black_box(&set))));
}

/// P2: rules spread over callers.
#[divan::bench(args = KINDS, consts = RULES)]
fn spread<const N: usize>(bencher: Bencher<'_, '_>, kind: &str) {
    warm(bencher, Shape::Spread, kind, N);
}

/// P2: all rules for one caller, as the block has them.
#[divan::bench(args = KINDS, consts = RULES)]
fn one_caller<const N: usize>(bencher: Bencher<'_, '_>, kind: &str) {
    warm(bencher, Shape::OneCaller, kind, N);
}

/// P3: another caller and path each time, over 100,000 rules.
#[divan::bench]
fn cold(bencher: Bencher<'_, '_>) {
    let set = work(Shape::Spread, 100_000, AppKind::Http).set;
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let requests: Vec<_> = (0..100_000)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = usize::try_from(state >> 33).unwrap_or_default();
            workload::random(number)
        })
        .collect();
    let mut next = requests.iter().cycle();
    bencher.bench_local(|| {
        next.next()
            .map(|request| black_box(request.decide(black_box(&set))))
    });
}

/// P5: a thousand patterns beside each other.
#[divan::bench]
fn thousand_siblings(bencher: Bencher<'_, '_>) {
    let names = (0..1000).map(|n| format!("/dir/a{n}*z{n}"));
    let (set, request) = adversarial(names, "dir/nothing-of-these".to_owned());
    bencher.bench_local(|| black_box(request.decide(black_box(&set))));
}

/// P6: a pattern of many stars against a long segment that nearly matches.
#[divan::bench]
fn many_stars(bencher: Bencher<'_, '_>) {
    let pattern = format!("/{}b", "*a".repeat(31));
    let (set, request) = adversarial(std::iter::once(pattern), "a".repeat(2048));
    bencher.bench_local(|| black_box(request.decide(black_box(&set))));
}

/// A path of 64 levels.
#[divan::bench]
fn deep_path(bencher: Bencher<'_, '_>) {
    let deep = vec!["s"; 64].join("/");
    let (set, request) = adversarial(std::iter::once(format!("/{deep}/x")), deep.clone());
    bencher.bench_local(|| black_box(request.decide(black_box(&set))));
}

/// P7: compilation.
#[divan::bench(sample_count = 10)]
fn compile_100k(bencher: Bencher<'_, '_>) {
    let objects = workload::objects(100_000);
    bencher.bench_local(|| workload::compile(black_box(&objects), None, AppKind::Http));
}
