//! Tables of rows: where each row of a fact sheet is held, by tests of this workspace or not at all.
//!
//! A line is `ROW file::function` below the workspace root, further tests of a row follow on indented lines; `ROW needs
//! ...` is held outside of this workspace's tests, `ROW open ...` by nothing yet. A table is complete, names no row
//! that does not exist, and every test that it names is one and says of which rows: in its name, its comment, or a row
//! that it runs. What a test asserts is its own business.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::binaries;

/// How rows of a sheet are spelt: `KI-07` is of family `KI-`, and has two digits.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// What stands before the number.
    pub prefix: &'static str,
    /// How many digits the number has.
    pub digits: usize,
}

/// Where a row is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// By these tests: file below the workspace root, function.
    By(Vec<(&'static str, &'static str)>),
    /// Outside of this workspace's tests: what it takes.
    Needs(&'static str),
    /// By nothing yet: what is missing.
    Open(&'static str),
}

/// The rows of a sheet, in its order.
#[derive(Debug)]
pub struct Table {
    rows: Vec<(String, Held)>,
}

// === impl Table ===

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// Names the line that is none.
    pub fn read(text: &'static str) -> Result<Self> {
        let mut rows: Vec<(String, Held)> = Vec::new();
        let lines = text.lines().map(str::trim_end);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let test = |text: &'static str| {
                let parts = text.trim().split_once("::");
                parts.with_context(|| format!("no test: {line}"))
            };
            if line.starts_with(' ') {
                let Some((_, Held::By(tests))) = rows.last_mut() else {
                    anyhow::bail!("a line that belongs to no row: {line}");
                };
                tests.push(test(line)?);
                continue;
            }
            let (row, held) = line.split_once(' ').unwrap_or((line, ""));
            let held = match held.split_once(' ') {
                Some(("needs", what)) => Held::Needs(what),
                Some(("open", what)) => Held::Open(what),
                _ => Held::By(vec![test(held)?]),
            };
            rows.push((row.to_owned(), held));
        }
        Ok(Self { rows })
    }

    /// Fails unless the table has these rows, each once, in this order; prints those that no test holds.
    ///
    /// # Errors
    /// Names the first row that differs.
    pub fn has(&self, sheet: &[String]) -> Result<()> {
        let rows: Vec<&String> = self.rows.iter().map(|(row, _)| row).collect();
        for (at, row) in sheet.iter().enumerate() {
            let found = rows.get(at);
            ensure!(found == Some(&row), "{row} is not there, but {found:?}");
        }
        ensure!(
            rows.len() == sheet.len(),
            "{} rows, not {}",
            rows.len(),
            sheet.len()
        );
        let mut held = 0_usize;
        for (row, place) in &self.rows {
            match place {
                Held::By(_) => held = held.saturating_add(1),
                Held::Needs(what) => eprintln!("{row} needs {what}"),
                Held::Open(what) => eprintln!("{row} is open: {what}"),
            }
        }
        eprintln!("{held} of {} rows are held by tests", rows.len());
        Ok(())
    }

    /// Fails unless every test is there and names its row.
    ///
    /// # Errors
    /// Names all that are wrong.
    pub fn is_true(&self, families: &[Family]) -> Result<()> {
        let mut sources = BTreeMap::new();
        let mut wrong = BTreeSet::new();
        for (row, held) in &self.rows {
            let Held::By(tests) = held else { continue };
            for (file, function) in tests {
                let source = sources.entry(file).or_insert_with(|| {
                    let path = binaries::root().join(file);
                    fs::read_to_string(path).unwrap_or_default()
                });
                match Test::find(source, function) {
                    None => wrong.insert(format!("{row}: {file} has no test {function}")),
                    Some(test) if !test.rows(families).contains(row) => {
                        wrong.insert(format!("{row}: {file}::{function} does not name it"))
                    }
                    Some(_) => false,
                };
            }
        }
        ensure!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    }
}

/// A test function with what is written about it.
struct Test<'a> {
    above: Vec<&'a str>,
    name: &'a str,
    body: Vec<&'a str>,
}

impl<'a> Test<'a> {
    /// Finds a function of this name that the test harness runs.
    fn find(source: &'a str, name: &'a str) -> Option<Self> {
        let lines: Vec<&str> = source.lines().collect();
        let is_it = |line: &&str| {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            let rest = line
                .strip_prefix("fn ")
                .and_then(|rest| rest.strip_prefix(name));
            rest.is_some_and(|rest| rest.starts_with('('))
        };
        let at = lines.iter().position(is_it)?;
        let about = |line: &&&str| {
            let line = line.trim_start();
            line.starts_with("///") || line.starts_with("#[") || line.starts_with(')')
        };
        let before = lines.get(..at)?.iter().rev();
        let above: Vec<&str> = before.take_while(about).copied().collect();
        let run = ["#[test]", "#[tokio::test"];
        let is_run = |line: &&str| run.iter().any(|mark| line.trim_start().starts_with(mark));
        above.iter().any(is_run).then_some(())?;
        let first = lines.get(at)?;
        let indent = first.len().checked_sub(first.trim_start().len())?;
        let end = format!("{}}}", " ".repeat(indent));
        let body = lines.get(at..)?.iter().take_while(|line| **line != end);
        Some(Self {
            above,
            name,
            body: body.copied().collect(),
        })
    }

    /// The rows that its comment, its name or the rows that it runs name.
    fn rows(&self, families: &[Family]) -> BTreeSet<String> {
        let quoted = self.body.iter().filter(|line| line.contains('"'));
        let texts = self.above.iter().chain(quoted).copied().chain([self.name]);
        texts
            .flat_map(|text| families.iter().flat_map(|family| family.named(text)))
            .collect()
    }
}

// === impl Family ===

impl Family {
    /// The row of a number.
    #[must_use]
    pub fn row(&self, number: u16) -> String {
        let Self { prefix, digits } = *self;
        format!("{prefix}{number:0digits$}")
    }

    /// The rows from the first to this number.
    #[must_use]
    pub fn up_to(&self, last: u16) -> Vec<String> {
        (1..=last).map(|number| self.row(number)).collect()
    }

    /// The rows that a text names: `K133`, `k133_`, `KI-02 to KI-13`, `R-13–R-17`.
    fn named(&self, text: &str) -> BTreeSet<String> {
        let plain = |text: &str| text.to_ascii_lowercase().replace('_', "-");
        let prefix = plain(self.prefix);
        let mut found = BTreeSet::new();
        let mut last: Option<(usize, u16)> = None;
        for (at, _) in text.char_indices() {
            let end = at.saturating_add(prefix.len());
            let begins = text
                .get(at..end)
                .is_some_and(|begin| plain(begin) == prefix);
            let before = text.get(..at).and_then(|before| before.chars().next_back());
            if !begins || before.is_some_and(|c| c.is_ascii_alphanumeric()) {
                continue;
            }
            let over = end.saturating_add(self.digits);
            let digits = text.get(end..over);
            let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let Some(number) = digits.and_then(|digits| digits.parse::<u16>().ok()) else {
                continue;
            };
            let after = text.get(over..).and_then(|after| after.chars().next());
            if after.is_some_and(|c| c.is_ascii_digit()) {
                continue;
            }
            if let Some((until, first)) = last {
                let between = text.get(until..at).unwrap_or_default();
                if matches!(between.trim_matches(['_', ' ']), "to" | "–" | "-") {
                    found.extend((first..number).map(|between| self.row(between)));
                }
            }
            found.insert(self.row(number));
            last = Some((over, number));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: Family = Family {
        prefix: "K",
        digits: 3,
    };
    const KI: Family = Family {
        prefix: "KI-",
        digits: 2,
    };

    #[test]
    fn rows_are_read_out_of_comments_and_names() {
        for (family, text, want) in [
            (K, "/// Fact: K012, K014.", vec![12, 14]),
            (K, "k130_to_k132_and", vec![130, 131, 132]),
            (K, "K009–K011", vec![9, 10, 11]),
            (K, "K114 to K116, K119", vec![114, 115, 116, 119]),
            (K, "a TK012 K12 K0123 rank1 KI-012", vec![]),
            (KI, "/// KI-12, KI-14 and KP-09.", vec![12, 14]),
            (KI, "ki_30_to_ki_32_and", vec![30, 31, 32]),
            (KI, "KI-09–KI-11 é", vec![9, 10, 11]),
            (KI, "a RKI-12 KI-1 KI-123 KI 12", vec![]),
        ] {
            let want: BTreeSet<String> =
                want.into_iter().map(|number| family.row(number)).collect();
            assert_eq!(family.named(text), want, "{text}");
        }
        let source = "/// K001\n#[test]\nfn a() {\n    row(\"K002\")\n}\nfn b() {}\n";
        let test = Test::find(source, "a").unwrap();
        assert_eq!(test.rows(&[K]), ["K001", "K002"].map(str::to_owned).into());
        assert!(Test::find(source, "b").is_none() && Test::find(source, "c").is_none());
    }

    #[test]
    fn tables_are_held_to_their_sheet() {
        let text = "# a comment\nKI-01 e2e/src/table.rs::a\n      b.rs::c\nKI-02 needs much\nKI-03 open so\n";
        let table = Table::read(text).unwrap();
        assert_eq!(
            table.rows,
            [
                (
                    "KI-01".to_owned(),
                    Held::By(vec![("e2e/src/table.rs", "a"), ("b.rs", "c")])
                ),
                ("KI-02".to_owned(), Held::Needs("much")),
                ("KI-03".to_owned(), Held::Open("so")),
            ]
        );
        table.has(&KI.up_to(3)).unwrap();
        assert!(table.has(&KI.up_to(2)).is_err() && table.has(&KI.up_to(4)).is_err());
        assert!(table.is_true(&[KI]).is_err(), "there are no such tests");
        for bad in ["  a::b", "KI-01 nothing", "KI-01"] {
            assert!(Table::read(bad).is_err(), "{bad}");
        }
        let other = "KI-01 e2e/src/table.rs::tables_are_held_to_their_sheet";
        Table::read(other).unwrap().is_true(&[KI]).unwrap();
        let other = "KI-09 e2e/src/table.rs::rows_are_read_out_of_comments_and_names";
        Table::read(other).unwrap().is_true(&[KI]).unwrap();
        assert!(Table::read(other).unwrap().is_true(&[K]).is_err());
    }
}
