//! The table of rows, `rows.txt`: it is complete, names no row that does not exist, and every test it names is one.
//!
//! A test is found by its file and function; its name, its comment or a row that it runs must hold the number.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use ironside_e2e::binaries;

const TABLE: &str = include_str!("rows.txt");

/// The rows of the sheet that the table holds: `R-01` to `R-81`, and so on.
const SHEET: [(char, u16); 2] = [('R', 81), ('T', 40)];

/// A row: its letter and its number.
type Row = (char, u16);

fn spelled((letter, number): Row) -> String {
    format!("{letter}-{number:02}")
}

/// Where a row is held.
#[derive(Debug)]
enum Held {
    /// By these tests: file below the workspace root, function.
    By(Vec<(&'static str, &'static str)>),
    /// Outside of this workspace's tests: what it takes.
    Needs(&'static str),
    /// By nothing yet: what is missing.
    Open(&'static str),
}

/// Reads the table in its order.
fn rows() -> Vec<(Row, Held)> {
    let mut rows: Vec<(Row, Held)> = Vec::new();
    let lines = TABLE.lines().map(str::trim_end);
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let test = |text: &'static str| {
            let parts = text.trim().split_once("::");
            parts.unwrap_or_else(|| panic!("no test: {line}"))
        };
        if line.starts_with(' ') {
            match rows.last_mut() {
                Some((_, Held::By(tests))) => tests.push(test(line)),
                _ => panic!("a line that belongs to no row: {line}"),
            }
            continue;
        }
        let (row, held) = line.split_once(' ').unwrap_or((line, ""));
        let parts = row.split_once('-');
        let row =
            parts.and_then(|(letter, number)| Some((letter.parse().ok()?, number.parse().ok()?)));
        let row = row.unwrap_or_else(|| panic!("no row: {line}"));
        let held = match held.split_once(' ') {
            Some(("needs", what)) => Held::Needs(what),
            Some(("open", what)) => Held::Open(what),
            _ => Held::By(vec![test(held)]),
        };
        rows.push((row, held));
    }
    rows
}

#[test]
fn every_row_is_in_the_table_once() {
    let numbers = |(letter, last)| (1..=last).map(move |number| (letter, number));
    let sheet: Vec<Row> = SHEET.into_iter().flat_map(numbers).collect();
    let rows = rows();
    let table: Vec<Row> = rows.iter().map(|(row, _)| *row).collect();
    assert_eq!(table, sheet);
    let mut held = 0;
    for (row, place) in &rows {
        match place {
            Held::By(_) => held += 1,
            Held::Needs(what) => eprintln!("{} needs {what}", spelled(*row)),
            Held::Open(what) => eprintln!("{} is open: {what}", spelled(*row)),
        }
    }
    eprintln!(
        "resiliency and observability: {held} of {} rows are held by tests",
        rows.len()
    );
}

#[test]
fn every_test_of_the_table_exists_and_names_its_row() {
    let mut sources = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for (row, held) in rows() {
        let Held::By(tests) = held else { continue };
        for (file, function) in tests {
            let source = sources.entry(file).or_insert_with(|| {
                let path = binaries::root().join(file);
                fs::read_to_string(path).unwrap_or_default()
            });
            match Test::find(source, function) {
                None => {
                    wrong.insert(format!("{}: {file} has no test {function}", spelled(row)));
                }
                Some(test) if !test.names(row) => {
                    wrong.insert(format!(
                        "{}: {file}::{function} does not name it",
                        spelled(row)
                    ));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
        let above: Vec<&str> = lines[..at]
            .iter()
            .rev()
            .take_while(about)
            .copied()
            .collect();
        let run = ["#[test]", "#[tokio::test"];
        let is_run = |line: &&str| run.iter().any(|mark| line.trim_start().starts_with(mark));
        above.iter().any(is_run).then_some(())?;
        let indent = lines[at].len() - lines[at].trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        let body = lines[at..].iter().take_while(|line| **line != end);
        Some(Self {
            above,
            name,
            body: body.copied().collect(),
        })
    }

    /// Whether the comment, the name or a row that it runs holds the number, or a range around it.
    fn names(&self, row: Row) -> bool {
        let rows = self.body.iter().filter(|line| line.contains('"'));
        let texts = self.above.iter().chain(rows).copied();
        let mut texts = texts.chain([self.name]);
        texts.any(|text| numbers(text).contains(&row))
    }
}

/// The rows that a text names: `R-13`, `r_13_`, `R-13 to R-17`, `R-13–R-17`; other letters alike.
fn numbers(text: &str) -> BTreeSet<Row> {
    let mut found = BTreeSet::new();
    let mut last: Option<(usize, Row)> = None;
    let is_letter = |c: char| {
        SHEET
            .iter()
            .any(|(letter, _)| letter.eq_ignore_ascii_case(&c))
    };
    for (at, letter) in text.match_indices(is_letter) {
        let begins = !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric());
        let is_joined = text[at + 1..].starts_with(['-', '_']);
        let digits = text.get(at + 2..at + 4);
        let ends = !text
            .get(at + 4..)
            .unwrap_or_default()
            .starts_with(|c: char| c.is_ascii_digit());
        let Some(number) = digits.and_then(|digits| digits.parse::<u16>().ok()) else {
            continue;
        };
        let letter = letter
            .chars()
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        if !begins || !ends || !is_joined {
            continue;
        }
        if let Some((end, (same, first))) = last {
            let between = text[end..at].trim_matches(['_', ' ']);
            if same == letter && matches!(between, "to" | "–" | "-") {
                found.extend((first..number).map(|number| (letter, number)));
            }
        }
        found.insert((letter, number));
        last = Some((at + 4, (letter, number)));
    }
    found
}

#[test]
fn rows_are_read_out_of_comments_and_names() {
    for (text, want) in [
        ("/// R-12, R-14.", vec![12, 14]),
        ("r_30_to_r_32_and", vec![30, 31, 32]),
        ("R-09–R-11", vec![9, 10, 11]),
        ("R-14 to R-16, R-19", vec![14, 15, 16, 19]),
        ("a RR-12 R-1 R-123 rank1", vec![]),
    ] {
        let want: BTreeSet<Row> = want.into_iter().map(|number| ('R', number)).collect();
        assert_eq!(numbers(text), want, "{text}");
    }
    let mixed = BTreeSet::from([('R', 3), ('T', 4), ('T', 5), ('T', 6)]);
    assert_eq!(numbers("R-03 to T-04, T-05 to T-06"), mixed);
    let source = "/// R-01\n#[test]\nfn a() {\n    row(\"R-02\")\n}\nfn b() {}\n";
    let test = Test::find(source, "a").unwrap();
    assert!(test.names(('R', 1)) && test.names(('R', 2)) && !test.names(('R', 3)));
    assert!(Test::find(source, "b").is_none() && Test::find(source, "c").is_none());
}
