//! The table of rows of chapter 6 of the fact sheet `security.md`.

use ironside_e2e::table::{Family, Table};

const TABLE: &str = include_str!("rows.txt");

/// The rows of the sheet.
const ROWS: Family = Family {
    prefix: "K",
    digits: 3,
};

/// Their numbers: first and last of each part.
const PARTS: [(u16, u16); 7] = [
    (1, 63),
    (70, 95),
    (100, 125),
    (130, 175),
    (180, 199),
    (200, 213),
    (220, 225),
];

#[test]
fn every_row_is_in_the_table_once() {
    let sheet = PARTS.iter().flat_map(|(first, last)| *first..=*last);
    let sheet: Vec<String> = sheet.map(|number| ROWS.row(number)).collect();
    assert_eq!(sheet.len(), 201);
    Table::read(TABLE).unwrap().has(&sheet).unwrap();
}

#[test]
fn every_test_of_the_table_exists_and_names_its_row() {
    Table::read(TABLE).unwrap().is_true(&[ROWS]).unwrap();
}
