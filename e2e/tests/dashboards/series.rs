//! Series as a Prometheus has them after a scrape.
//!
//! A target's own labels win over those of the page, which become `exported_…`, as with `honor_labels: false`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use ironside_e2e::binaries;
use ironside_testkit::http::{self, Request};

/// Labels of one series, its name among them.
pub(crate) type Labels = BTreeMap<String, String>;

/// Where the name stands.
pub(crate) const NAME: &str = "__name__";

/// What was scraped from all targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) all: BTreeSet<Labels>,
}

/// A family whose first series takes what no test can bring about in a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rare {
    pub(crate) name: &'static str,
    pub(crate) labels: &'static [&'static str],
    /// The file that registers it, and how.
    pub(crate) source: &'static str,
    pub(crate) registered: &'static str,
}

/// A page with the labels of the target that it comes from.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    text: String,
    target: Labels,
}

// === impl Page ===

impl Page {
    /// Reads the page of a metrics port; `target` are its labels besides `job` and `instance`.
    pub(crate) async fn fetch(port: u16, job: &str, target: &[(&str, &str)]) -> Result<Self> {
        let reply = http::send(port, &Request::get("/metrics")).await?;
        ensure!(reply.status() == 200, "{job}: {}", reply.status());
        let instance = format!("127.0.0.1:{port}");
        let own = [("job", job), ("instance", instance.as_str())];
        let all = own.iter().chain(target);
        let target = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Self {
            text: reply.text(),
            target: target.collect(),
        })
    }

    /// A page of this text, for tests of what reads them.
    pub(crate) fn of(text: &str, job: &str, target: &[(&str, &str)]) -> Self {
        let all = [("job", job)].into_iter().chain(target.iter().copied());
        Self {
            text: text.to_owned(),
            target: all
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// The labels of a line as the program wrote them, empty ones included, and its name.
    pub(crate) fn written(line: &str) -> Result<Labels> {
        written(line)
    }

    /// Whether a line holds all of these.
    pub(crate) fn says(&self, parts: &[&str]) -> bool {
        let is_it = |line: &str| parts.iter().all(|part| line.contains(part));
        self.text.lines().any(is_it)
    }

    /// The same page from a target that is known by `job` and `instance` only.
    pub(crate) fn bare(&self) -> Self {
        let mut target = self.target.clone();
        target.retain(|name, _| matches!(name.as_str(), "job" | "instance"));
        Self {
            text: self.text.clone(),
            target,
        }
    }
}

// === impl Series ===

impl Series {
    pub(crate) fn of(pages: &[Page]) -> Result<Self> {
        let mut series = Self::default();
        for page in pages {
            let is_sample = |line: &&str| !line.is_empty() && !line.starts_with('#');
            for line in page.text.lines().filter(is_sample) {
                series.all.insert(sample(line, &page.target)?);
            }
        }
        Ok(series)
    }

    /// Adds what a recording rule gives.
    pub(crate) fn record(&mut self, name: &str, vector: BTreeSet<Labels>) {
        for mut labels in vector {
            labels.insert(NAME.to_owned(), name.to_owned());
            self.all.insert(labels);
        }
    }

    /// Adds a series of a family that the source registers and nothing happened to.
    pub(crate) fn imagine(&mut self, rare: &Rare) -> Result<()> {
        let Rare {
            name,
            labels,
            source,
            registered,
        } = rare;
        let is_shown = self.all.iter().any(|series| series[NAME] == *name);
        ensure!(!is_shown, "{name} is there: it need not be imagined");
        let text = std::fs::read_to_string(binaries::root().join(source))?;
        ensure!(text.contains(registered), "{source} has no {registered}");
        let labels = ["job", "instance"].iter().chain(*labels);
        let mut series: Labels = labels
            .map(|name| ((*name).to_owned(), "x".to_owned()))
            .collect();
        series.insert(NAME.to_owned(), (*name).to_owned());
        self.all.insert(series);
        Ok(())
    }
}

/// The labels of a line `name{label="value",…} number`, as scraped from `target`.
fn sample(line: &str, target: &Labels) -> Result<Labels> {
    let mut labels = target.clone();
    for (label, value) in written(line)? {
        let label = match target.contains_key(&label) {
            true => format!("exported_{label}"),
            false => label,
        };
        // An empty label is none.
        if !value.is_empty() {
            labels.insert(label, value);
        }
    }
    Ok(labels)
}

/// The labels of a line as they are written, and its name.
fn written(line: &str) -> Result<Labels> {
    let wrong = || format!("no sample: {line}");
    let end = line.find(['{', ' ']).with_context(wrong)?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::from([(NAME.to_owned(), name.to_owned())]);
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").with_context(wrong)?;
            let (value, after) = quoted(after).with_context(wrong)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = rest.strip_prefix('}').with_context(wrong)?;
    }
    let number = rest.trim().split(' ').next().unwrap_or_default();
    ensure!(number.parse::<f64>().is_ok(), "{}", wrong());
    Ok(labels)
}

/// A value up to its closing quotation mark, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[test]
fn lines_are_read_as_prometheus_reads_them() {
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        let pairs = pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
        pairs.collect()
    };
    let target = labels(&[("job", "j"), ("namespace", "shop")]);
    let line = r#"a_total{namespace="x",path="/a\"b\\c}",empty="",le="+Inf"} 1.5e+06"#;
    let want = labels(&[
        (NAME, "a_total"),
        ("job", "j"),
        ("namespace", "shop"),
        ("exported_namespace", "x"),
        ("path", "/a\"b\\c}"),
        ("le", "+Inf"),
    ]);
    assert_eq!(sample(line, &target).unwrap(), want);
    assert!(sample("up 1", &target).is_ok());
    for bad in ["up", "up x", "up{a=\"b} 1", "up{a} 1"] {
        assert!(sample(bad, &target).is_err(), "{bad}");
    }
}
