//! The table of rows of chapter 7 of the fact sheet `resiliency-observability.md`.

use ironside_e2e::table::{Family, Table};

const TABLE: &str = include_str!("rows.txt");

const fn rows(prefix: &'static str) -> Family {
    Family { prefix, digits: 2 }
}

/// The rows of the sheet, and how many there are of each kind: resiliency, tracing, metrics, logs, dashboards.
const SHEET: [(Family, u16); 5] = [
    (rows("R-"), 81),
    (rows("T-"), 40),
    (rows("M-"), 40),
    (rows("L-"), 19),
    (rows("D-"), 2),
];

#[test]
fn every_row_is_in_the_table_once() {
    let sheet = SHEET.iter().flat_map(|(family, last)| family.up_to(*last));
    let sheet: Vec<String> = sheet.collect();
    assert_eq!(sheet.len(), 182);
    Table::read(TABLE).unwrap().has(&sheet).unwrap();
}

#[test]
fn every_test_of_the_table_exists_and_names_its_row() {
    let families = SHEET.map(|(family, _)| family);
    Table::read(TABLE).unwrap().is_true(&families).unwrap();
}
