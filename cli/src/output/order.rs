//! The order of a list: by one of its columns.
//!
//! Numbers in names count as numbers, so that `r2` comes before `r10`. Rows that have nothing in the column come last,
//! in whatever direction.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::table::Row;
use crate::failure::Failure;

/// A column to sort by, and the direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    column: usize,
    from_the_last: bool,
}

enum Key {
    Amount(u64),
    Text(String),
    Nothing,
}

impl Order {
    /// Reads the header of a column of `R` in any case, with hyphens for its spaces; after a hyphen it is sorted from
    /// the last to the first.
    pub(crate) fn read<R: Row>(text: &str) -> Result<Self, Failure> {
        let (name, from_the_last) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
        let column = R::COLUMNS.iter().position(|header| word(header) == word(name));
        let columns = || R::COLUMNS.iter().map(|header| word(header)).collect::<Vec<_>>().join(", ");
        let column = column.ok_or_else(|| {
            Failure::Usage(format!("--sort: there is no column {name:?} here; there are {}", columns()))
        })?;
        Ok(Self { column, from_the_last })
    }

    /// The rows in this order; what is equal stays as it was.
    pub(crate) fn sorted<R: Row>(self, rows: Vec<R>, now: Timestamp) -> Vec<R> {
        let mut rows: Vec<(Key, R)> = rows.into_iter().map(|row| (self.key(&row, now), row)).collect();
        rows.sort_by(|(one, _), (other, _)| self.compare(one, other));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn key<R: Row>(self, row: &R, now: Timestamp) -> Key {
        if let Some(amount) = R::COLUMNS.get(self.column).and_then(|header| row.amount(header)) {
            return Key::Amount(amount);
        }
        match row.cells(now).into_iter().nth(self.column) {
            Some(text) if !text.is_empty() => Key::Text(text),
            _ => Key::Nothing,
        }
    }

    fn compare(self, one: &Key, other: &Key) -> Ordering {
        let order = match (one, other) {
            (Key::Nothing, Key::Nothing) => return Ordering::Equal,
            (Key::Nothing, _) => return Ordering::Greater,
            (_, Key::Nothing) => return Ordering::Less,
            // In a column of amounts a word says that there is none.
            (Key::Amount(_), Key::Text(_)) => return Ordering::Less,
            (Key::Text(_), Key::Amount(_)) => return Ordering::Greater,
            (Key::Amount(one), Key::Amount(other)) => one.cmp(other),
            (Key::Text(one), Key::Text(other)) => alphanumeric_sort::compare_str(one, other),
        };
        if self.from_the_last { order.reverse() } else { order }
    }
}

/// A header as it is typed.
fn word(header: &str) -> String {
    header.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, texts};
    use serde::Serialize;

    use super::*;

    #[derive(Debug, Serialize)]
    struct Volume(&'static str, Option<u64>);

    impl Row for Volume {
        const COLUMNS: &'static [&'static str] = &["NAME", "FREE ROOM"];

        fn cells(&self, _now: Timestamp) -> Vec<String> {
            vec![self.0.to_owned(), self.1.map_or("unknown".to_owned(), |room| format!("{room} MiB"))]
        }

        fn amount(&self, column: &str) -> Option<u64> {
            self.1.filter(|_| column == "FREE ROOM")
        }
    }

    fn sorted(by: &str) -> Vec<&'static str> {
        let rows = vec![Volume("r10", Some(900)), Volume("r2", None), Volume("data", Some(1000))];
        let order = Order::read::<Volume>(by).unwrap();
        order.sorted(rows, Timestamp::UNIX_EPOCH).into_iter().map(|row| row.0).collect()
    }

    #[test]
    fn rows_are_sorted_by_what_a_column_means() {
        for (by, expected) in [
            ("name", ["data", "r2", "r10"]),
            ("-name", ["r10", "r2", "data"]),
            ("free-room", ["r10", "data", "r2"]),
            ("-Free-Room", ["data", "r10", "r2"]),
            ("FREE ROOM", ["r10", "data", "r2"]),
        ] {
            assert_eq!(sorted(by), expected, "{by}");
        }
    }

    #[test]
    fn a_column_that_is_not_there_is_named_with_those_that_are() {
        let failure = Order::read::<Volume>("size").unwrap_err().to_string();

        assert_eq!(failure, "--sort: there is no column \"size\" here; there are name, free-room");
    }

    #[test]
    fn hostile_columns() {
        check(&texts(&["name", "-free-room"], &["-", "free"]), |text| match Order::read::<Volume>(&text) {
            Ok(order) => assert!(order.column < Volume::COLUMNS.len()),
            Err(failure) => assert!(failure.to_string().contains("there is no column")),
        });
    }
}
