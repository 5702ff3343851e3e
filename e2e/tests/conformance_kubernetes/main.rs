//! Where each row of chapter 9 of the fact sheet `kubernetes.md` is held: `rows.txt`.
//!
//! The tests are the injector's, the operator's, the chart's, and those on a cluster; none is here.

#![cfg(test)]

use ironside_e2e::table::{Family, Table};

const TABLE: &str = include_str!("rows.txt");

const fn rows(prefix: &'static str) -> Family {
    Family { prefix, digits: 2 }
}

/// The rows of the sheet, and how many there are of each kind.
const SHEET: [(Family, u16); 7] = [
    (rows("KI-"), 39),
    (rows("KP-"), 40),
    (rows("KO-"), 29),
    (rows("KG-"), 25),
    (rows("KL-"), 8),
    (rows("KC-"), 15),
    (rows("KH-"), 23),
];

#[test]
fn every_row_is_in_the_table_once() {
    let sheet = SHEET.iter().flat_map(|(family, last)| family.up_to(*last));
    let sheet: Vec<String> = sheet.collect();
    assert_eq!(sheet.len(), 179);
    Table::read(TABLE).unwrap().has(&sheet).unwrap();
}

#[test]
fn every_test_of_the_table_exists_and_names_its_row() {
    let families = SHEET.map(|(family, _)| family);
    Table::read(TABLE).unwrap().is_true(&families).unwrap();
}
