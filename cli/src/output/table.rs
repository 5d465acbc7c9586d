//! Tables: aligned columns, fitted to a terminal's width; where there is no terminal, one line per row,
//! however long, so that programs of the text world can read it.

use comfy_table::{ColumnConstraint, ContentArrangement, ContentLineStyle, Table, TableStyle, Width};
use jiff::Timestamp;
use serde::Serialize;

const STYLE: TableStyle =
    TableStyle::new().header_lines(ContentLineStyle::none()).content_lines(ContentLineStyle::none());
/// Narrower than this, words are torn apart.
const NARROWEST_COLUMN: u16 = 6;

/// What can be a row of a table and an item of a JSON list.
pub(crate) trait Row: Serialize {
    /// Headers of the columns.
    const COLUMNS: &'static [&'static str];
    /// As many cells as there are columns.
    fn cells(&self, now: Timestamp) -> Vec<String>;
}

/// The rows below their headers.
pub(crate) fn table<R: Row>(rows: &[R], width: Option<u16>, now: Timestamp) -> String {
    let rows = rows.iter().map(|row| row.cells(now)).collect();
    columns(R::COLUMNS, rows, width)
}

/// Any cells below their headers; an empty cell is shown as `-`.
pub(crate) fn columns(headers: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(headers);
    for row in rows {
        table.add_row(row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        for column in table.column_iter_mut() {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(NARROWEST_COLUMN)));
        }
    }
    table.trim_fmt()
}

/// Names and values, one pair a line, the values aligned; pairs without a value are left out.
pub(crate) fn pairs(pairs: &[(&str, String)]) -> String {
    let widest = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name:widest$}  {value}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Vec<Vec<String>> {
        vec![
            vec!["data".into(), String::new()],
            vec!["web".into(), "node n2 is not connected since the cut of its power".into()],
        ]
    }

    #[test]
    fn without_a_terminal_each_row_is_one_line() {
        let text = columns(&["NAME", "WHY"], example(), None);
        assert_eq!(text, "NAME  WHY\ndata  -\nweb   node n2 is not connected since the cut of its power");
    }

    #[test]
    fn on_a_terminal_no_line_is_wider_than_it() {
        let text = columns(&["NAME", "WHY"], example(), Some(30));
        assert!(text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert!(text.lines().count() > 3, "{text}");
        for word in ["data", "connected", "power"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn pairs_without_a_value_are_left_out() {
        let text = pairs(&[("group", "default".into()), ("pool", String::new()), ("revision", "7".into())]);
        assert_eq!(text, "group     default\nrevision  7\n");
    }
}
