//! The plain table of the listing commands.
//!
//! Facts: cli-and-clients 1.1 "Tables": upper-case header, columns aligned left and two spaces apart, trailing spaces,
//! no rules, columns without any content left out.

use comfy_table::{ContentArrangement, Table, presets};

/// Lays rows out under their headings; every line ends with a newline.
pub(crate) fn plain(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| collapse(cell)).collect())
        .collect();
    let kept: Vec<usize> = (0..headings.len())
        .filter(|&column| {
            rows.iter()
                .any(|row| row.get(column).is_some_and(|cell| !cell.is_empty()))
        })
        .collect();
    let pick = |cells: &mut dyn Iterator<Item = String>| -> Vec<String> {
        let cells: Vec<String> = cells.collect();
        kept.iter()
            .filter_map(|&column| cells.get(column).cloned())
            .collect()
    };
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(pick(
        &mut headings
            .iter()
            .map(|one| one.to_uppercase().replace('_', " ")),
    ));
    for row in rows {
        table.add_row(pick(&mut row.into_iter()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{line}\n")).collect()
}

fn collapse(cell: &str) -> String {
    cell.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_two_spaces_apart_and_padded() {
        let rows = [
            vec![
                "nodeapp".to_owned(),
                "3500".to_owned(),
                "node  app.js".to_owned(),
            ],
            vec!["b".to_owned(), "50001".to_owned(), String::new()],
        ];
        assert_eq!(
            plain(&["app_id", "http_port", "command"], &rows),
            "APP ID   HTTP PORT  COMMAND      \n\
             nodeapp  3500       node app.js  \n\
             b        50001                   \n"
        );
    }

    #[test]
    fn a_column_without_content_is_left_out() {
        let rows = [vec!["a".to_owned(), " ".to_owned()]];
        assert_eq!(plain(&["id", "path"], &rows), "ID  \na   \n");
    }
}
