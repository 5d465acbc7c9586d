//! Tables: aligned columns, fitted to a terminal's width; where there is no terminal, one line per row,
//! however long, so that programs of the text world can read it.

use comfy_table::{ColumnConstraint, ContentArrangement, ContentLineStyle, Table, TableStyle, Width};
use jiff::Timestamp;
use serde::Serialize;

const STYLE: TableStyle =
    TableStyle::new().header_lines(ContentLineStyle::none()).content_lines(ContentLineStyle::none());
/// Spaces between two columns.
const GAP: u16 = 2;
/// Where a terminal is too narrow for all words, longer ones are torn before columns get narrower than this.
const NARROWEST_COLUMN: u16 = 4;

/// What can be a row of a table and an item of a JSON list.
pub(crate) trait Row: Serialize {
    /// Headers of the columns.
    const COLUMNS: &'static [&'static str];
    /// As many cells as there are columns.
    fn cells(&self, now: Timestamp) -> Vec<String>;
    /// What a column is sorted by where its text would sort otherwise, as sizes do.
    fn amount(&self, _column: &str) -> Option<u64> {
        None
    }
}

/// The rows below their headers.
pub(crate) fn table<R: Row>(rows: &[R], width: Option<u16>, now: Timestamp) -> String {
    let rows = rows.iter().map(|row| row.cells(now)).collect();
    columns(R::COLUMNS, rows, width)
}

/// Any cells below their headers; an empty cell is shown as `-`.
pub(crate) fn columns(headers: &[&str], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let least = width.map(|width| least_widths(headers, &rows, width));
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_header(headers);
    for row in rows {
        table.add_row(row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    if let (Some(width), Some(least)) = (width, least) {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        for (column, least) in table.column_iter_mut().zip(least) {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least + GAP)));
        }
    }
    table.trim_fmt()
}

/// How narrow each column may get without tearing a word; where that does not fit into `width`, the columns
/// with the longest words give way first.
fn least_widths(headers: &[&str], rows: &[Vec<String>], width: u16) -> Vec<u16> {
    let longest_word = |text: &str| {
        let word = text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default();
        u16::try_from(word).unwrap_or(u16::MAX)
    };
    let mut least: Vec<u16> = headers.iter().map(|header| longest_word(header)).collect();
    for row in rows {
        for (least, cell) in least.iter_mut().zip(row) {
            *least = longest_word(cell).max(*least);
        }
    }
    let sum =
        |least: &[u16]| least.iter().fold(0_u16, |sum, one| sum.saturating_add(*one).saturating_add(GAP));
    while sum(&least) > width {
        let widest = least.iter().copied().max().unwrap_or_default();
        if widest <= NARROWEST_COLUMN {
            break;
        }
        least.iter_mut().filter(|one| **one == widest).for_each(|one| *one -= 1);
    }
    least
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
    fn words_are_torn_only_where_they_do_not_fit() {
        let cells =
            || vec![vec!["create storage".to_owned(), "hawser-data.21-0".to_owned(), "n1 n2 n3".to_owned()]];
        let headers = ["PHASE", "BACKING", "NODES"];

        let fits = columns(&headers, cells(), Some(34));
        let torn = columns(&headers, cells(), Some(26));

        for word in ["create", "storage", "hawser-data.21-0", "NODES"] {
            assert!(fits.contains(word), "{fits}");
        }
        assert!(!torn.contains("hawser-data.21-0") && torn.contains("storage"), "{torn}");
        for (text, width) in [(fits, 34), (torn, 26)] {
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        }
    }

    #[test]
    fn pairs_without_a_value_are_left_out() {
        let text = pairs(&[("group", "default".into()), ("pool", String::new()), ("revision", "7".into())]);
        assert_eq!(text, "group     default\nrevision  7\n");
    }
}
