//! The families of chapter 3 of the fact sheet, and our own: what real programs expose is in these tables, and what
//! is in them real programs expose, with this type, these labels, and values of this unit.
//!
//! A family that takes hours or a broken disk to appear is registered in the source instead, as `answers.rs` says.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::binaries;

use crate::{
    answers::RARE,
    series::{NAME, Page},
};

/// What a number counts.
#[derive(Clone, Copy, Debug)]
enum Unit {
    /// Events, or things that there are.
    Number,
    /// 1 or 0.
    Flag,
    /// Seconds since 1970.
    Unix,
    /// Whole numbers and parts of them.
    Amount,
    /// Buckets of milliseconds, those of the sheet.
    Milliseconds,
    /// Buckets of bytes, those of the sheet.
    Bytes,
    /// Buckets of seconds.
    Seconds,
    /// Buckets of attempts (6.3).
    Attempts,
}

use Unit::{Amount, Attempts, Bytes, Flag, Milliseconds, Number, Seconds, Unix};

/// Upper bounds of 3.1 and 6.3.
const LATENCY: [f64; 34] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0,
    100.0, 130.0, 160.0, 200.0, 250.0, 300.0, 400.0, 500.0, 650.0, 800.0, 1000.0, 2000.0, 5000.0,
    10000.0, 20000.0, 50000.0, 100_000.0,
];
const SIZES: [f64; 13] = [
    1024.0,
    2048.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
];
const ATTEMPTS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 13.0];

/// The tables.
const TABLE: &str = include_str!("families.txt");
/// The head of the table of families that no sheet explains.
const OURS: &str = "[ours";

/// A family as the table has it.
#[derive(Debug)]
struct Row {
    name: &'static str,
    kind: &'static str,
    labels: Vec<String>,
    unit: Unit,
    section: &'static str,
}

/// A family as programs expose it.
#[derive(Debug, Default)]
struct Shown {
    kinds: BTreeSet<String>,
    labels: BTreeSet<Vec<String>>,
    values: Vec<f64>,
    bounds: BTreeSet<String>,
}

fn rows() -> impl Iterator<Item = Row> {
    let mut section = "";
    TABLE.lines().filter_map(move |line| {
        if line.starts_with('[') {
            section = line;
        }
        (!line.is_empty() && !line.starts_with(['#', '['])).then(|| Row::read(section, line))
    })
}

/// Says what of the pages is not as the tables have it.
pub(crate) fn judge(pages: &[Page]) -> Vec<String> {
    let shown = match shown(pages) {
        Ok(shown) => shown,
        Err(error) => return vec![format!("{error:#}")],
    };
    let rows: BTreeMap<&str, Row> = rows().map(|row| (row.name, row)).collect();
    let unknown = shown
        .keys()
        .filter(|name| !rows.contains_key(name.as_str()));
    let mut wrong: Vec<String> = unknown
        .map(|name| format!("{name} is in no table"))
        .collect();
    for (name, row) in rows {
        let rare = RARE.iter().find(|rare| rare.name == name);
        let problem = match (shown.get(name), rare) {
            (Some(shown), None) => shown.differs(&row),
            (None, None) => Some("nobody exposes it".to_owned()),
            (Some(_), Some(_)) => Some("it is there: it is not rare".to_owned()),
            (None, Some(rare)) => {
                (rare.labels != row.labels).then(|| format!("labels {:?}", rare.labels))
            }
        };
        wrong.extend(problem.map(|problem| format!("{name}: {problem}")));
    }
    wrong
}

fn shown(pages: &[Page]) -> Result<BTreeMap<String, Shown>> {
    let mut all: BTreeMap<String, Shown> = BTreeMap::new();
    for page in pages {
        let kinds: BTreeMap<&str, &str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .collect();
        for line in page
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let mut labels = Page::written(line)?;
            let name = labels.remove(NAME).context("a name")?;
            let part = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
                let family = name.strip_suffix(end)?;
                (kinds.get(family) == Some(&"histogram")).then_some((family, *end))
            });
            let (family, end) = part.unwrap_or((name.as_str(), ""));
            let kind = kinds
                .get(family)
                .with_context(|| format!("{family} has no type"))?;
            let shown = all.entry(family.to_owned()).or_default();
            shown.kinds.insert((*kind).to_owned());
            shown.bounds.extend(labels.remove("le"));
            let value = line.rsplit(' ').next().and_then(|text| text.parse().ok());
            let value: f64 = value.with_context(|| line.to_owned())?;
            // Sums of histograms are of any kind.
            if end != "_sum" {
                shown.values.push(value);
            }
            shown.labels.insert(labels.into_keys().collect());
        }
    }
    ensure!(!all.is_empty(), "nothing is exposed");
    Ok(all)
}

// === impl Row ===

impl Row {
    fn read(section: &'static str, line: &'static str) -> Self {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, family, unit] = words[..] else {
            panic!("not three words: {line}");
        };
        let (name, labels) = family.split_once('{').unwrap_or((family, "}"));
        let labels = labels
            .strip_suffix('}')
            .unwrap_or_else(|| panic!("no brace: {line}"));
        let labels: Vec<String> = labels.split_terminator(',').map(str::to_owned).collect();
        assert!(labels.is_sorted(), "{line}");
        let unit = match unit {
            "number" => Number,
            "flag" => Flag,
            "unix" => Unix,
            "amount" => Amount,
            "milliseconds" => Milliseconds,
            "bytes" => Bytes,
            "seconds" => Seconds,
            "attempts" => Attempts,
            other => panic!("no unit {other}: {line}"),
        };
        Self {
            name,
            kind,
            labels,
            unit,
            section,
        }
    }
}

// === impl Shown ===

impl Shown {
    /// What is not as the row says.
    fn differs(&self, row: &Row) -> Option<String> {
        let Row {
            kind, labels, unit, ..
        } = row;
        if self.kinds != BTreeSet::from([(*kind).to_owned()]) {
            return Some(format!("types {:?}, not {kind}", self.kinds));
        }
        if self.labels != BTreeSet::from([labels.clone()]) {
            return Some(format!("labels {:?}, not {labels:?}", self.labels));
        }
        let is_whole = |value: &&f64| value.fract() == 0.0 && **value >= 0.0;
        let is_flag = |value: &&f64| **value == 0.0 || **value == 1.0;
        // From 2017 to 2100.
        let is_instant = |value: &&f64| (1.5e9..4.1e9).contains(*value);
        let bad: Option<&f64> = match unit {
            Number | Milliseconds | Bytes | Seconds | Attempts => {
                self.values.iter().find(|value| !is_whole(value))
            }
            Flag => self.values.iter().find(|value| !is_flag(value)),
            Unix => self.values.iter().find(|value| !is_instant(value)),
            Amount => self.values.iter().find(|value| **value < 0.0),
        };
        if let Some(bad) = bad {
            return Some(format!("{bad} is no {unit:?}"));
        }
        let bounds: &[f64] = match unit {
            Milliseconds => &LATENCY,
            Bytes => &SIZES,
            Attempts => &ATTEMPTS,
            Number | Flag | Unix | Amount | Seconds => return None,
        };
        let mut have: Vec<f64> = self
            .bounds
            .iter()
            .filter_map(|bound| bound.parse().ok())
            .collect();
        have.sort_by(f64::total_cmp);
        let want: Vec<f64> = bounds.iter().copied().chain([f64::INFINITY]).collect();
        (have != want).then(|| format!("buckets {have:?}"))
    }
}

/// Our own families, which no sheet explains, are explained to those who run sidecars.
#[test]
fn families_of_our_own_are_documented() {
    let mut text = String::new();
    for entry in std::fs::read_dir(binaries::root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "md") {
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
    let ours = rows().filter(|row| row.section.starts_with(OURS));
    // Tables there say once how all of their names begin.
    let is_told = |name: &str| {
        let mut starts = ["", "dapr_", "dapr_injector_"].iter();
        starts.any(|start| {
            let rest = name.strip_prefix(start);
            rest.is_some_and(|rest| {
                text.contains(&format!("`{rest}`")) || text.contains(&format!("`{rest}{{"))
            })
        })
    };
    let missing: Vec<&str> = ours
        .map(|row| row.name)
        .filter(|name| !is_told(name))
        .collect();
    assert!(missing.is_empty(), "not in docs/*.md: {missing:#?}");
}

#[test]
fn a_family_that_differs_is_found() {
    let row = Row::read("", "counter dapr_x_total{app_id} number");
    let page = |text: &str| Page::of(text, "j", &[]);
    let judged = |text: &str| {
        let shown = shown(&[page(text)]).unwrap();
        shown["dapr_x_total"].differs(&row)
    };
    assert_eq!(
        judged("# TYPE dapr_x_total counter\ndapr_x_total{app_id=\"a\"} 1\n"),
        None
    );
    for (text, problem) in [
        (
            "# TYPE dapr_x_total gauge\ndapr_x_total{app_id=\"a\"} 1\n",
            "types",
        ),
        (
            "# TYPE dapr_x_total counter\ndapr_x_total{path=\"a\"} 1\n",
            "labels",
        ),
        (
            "# TYPE dapr_x_total counter\ndapr_x_total{app_id=\"a\"} 0.5\n",
            "0.5 is no Number",
        ),
    ] {
        assert!(
            judged(text).is_some_and(|found| found.starts_with(problem)),
            "{text}"
        );
    }
    assert!(shown(&[page("dapr_x_total 1\n")]).is_err(), "no type");
    let unknown = judge(&[page("# TYPE dapr_y gauge\ndapr_y 1\n")]);
    assert!(unknown.contains(&"dapr_y is in no table".to_owned()));
    assert!(unknown.contains(&"dapr_resiliency_loaded: nobody exposes it".to_owned()));
}
