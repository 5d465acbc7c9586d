//! What a command prints: tables for people, JSON or YAML for programs. The answer goes to standard output, hints to
//! standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

pub(crate) mod age;
pub(crate) mod order;
pub(crate) mod table;

use table::{Row, table};

/// Form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns and lines for people
    #[default]
    Table,
    /// One JSON document; fields are only ever added
    Json,
    /// The same document in YAML
    Yaml,
}

/// Takes the cursor of a terminal to its upper left corner.
const HOME: &str = "\x1b[H";
/// Clears a line from the cursor on.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears a screen from the cursor on.
const CLEAR_BELOW: &str = "\x1b[J";

/// Of a terminal that does not say how high it is.
const USUAL_HEIGHT: u16 = 24;
/// Of a terminal that does not say how wide it is.
const USUAL_WIDTH: u16 = 80;

/// Where answers go.
pub(crate) struct Screen {
    format: Format,
    is_terminal: bool,
    /// Columns of the terminal; none where the answer goes into a file or a pipe.
    width: Option<u16>,
    now: Timestamp,
}

/// A list as programs get it.
#[derive(Serialize)]
struct List<'a, R> {
    items: &'a [R],
    revision: u64,
}

/// A single object as programs get it.
#[derive(Serialize)]
struct Single<'a, V> {
    #[serde(flatten)]
    object: &'a V,
    /// At which the answer was given.
    revision: u64,
}

impl Screen {
    /// Standard output of this process.
    pub(crate) fn of_process(format: Format) -> Self {
        let stdout = io::stdout();
        let is_terminal = stdout.is_terminal();
        let width = if is_terminal { terminal_size::terminal_size_of(&stdout) } else { None };
        Self { format, is_terminal, width: width.map(|(width, _)| width.0), now: Timestamp::now() }
    }

    /// Prints a list. Where it is empty, `hint` tells people what to do.
    pub(crate) fn list<R: Row>(&self, rows: &[R], revision: u64, hint: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::Yaml => self.document(&List { items: rows, revision }),
            Format::Table if rows.is_empty() => {
                // A hint that nobody can read is no failure.
                let _unread = writeln!(io::stderr(), "{hint}");
                Ok(())
            }
            Format::Table => self.text(&table(rows, self.width, self.now)),
        }
    }

    /// Whether [`Screen::paint`] has somebody who sees it.
    pub(crate) fn can_be_painted(&self) -> bool {
        self.format == Format::Table && self.is_terminal
    }

    /// Moves what is on the terminal out of the way of what will be painted.
    pub(crate) fn make_room(&self) -> Result<(), Failure> {
        let (_, height) = size();
        self.raw("\n".repeat(height.into()).as_bytes())
    }

    /// Paints a list over what was painted before, as much of it as there is room for.
    pub(crate) fn paint<R: Row>(&self, rows: &[R], hint: &str, now: Timestamp) -> Result<(), Failure> {
        let (width, height) = size();
        let text = if rows.is_empty() { hint.to_owned() } else { table(rows, Some(width), now) };
        self.raw(painted(&text, width.into(), height.into()).as_bytes())
    }

    /// Prints one object; `describe` makes the text for people.
    pub(crate) fn single<V: Serialize>(
        &self,
        view: &V,
        revision: u64,
        describe: impl FnOnce(&V, Option<u16>, Timestamp) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::Yaml => self.document(&Single { object: view, revision }),
            Format::Table => self.text(&describe(view, self.width, self.now)),
        }
    }

    /// Prints a sentence for people or `value` for programs.
    pub(crate) fn answer<V: Serialize>(&self, sentence: &str, value: &V) -> Result<(), Failure> {
        match self.format {
            Format::Json | Format::Yaml => self.document(value),
            Format::Table => self.text(sentence),
        }
    }

    /// Prints one of many that come one by one: a line for people, a line of JSON or a document of YAML for programs.
    pub(crate) fn event<V: Serialize>(&self, event: &V, line: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.text(&serde_json::to_string(event)?),
            // With its end, for whoever reads a stream knows a document's end only by that.
            Format::Yaml => self.raw(format!("---\n{}...\n", serde_saphyr::to_string(event)?).as_bytes()),
            Format::Table => self.text(line),
        }
    }

    /// Prints what is made for another program, byte by byte, in whatever form answers were asked for.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()?;
        Ok(())
    }

    fn document<V: Serialize>(&self, value: &V) -> Result<(), Failure> {
        match self.format {
            // Untrimmed: a text at its end may end with empty lines.
            Format::Yaml => self.raw(serde_saphyr::to_string(value)?.as_bytes()),
            Format::Json | Format::Table => self.text(&serde_json::to_string_pretty(value)?),
        }
    }

    fn text(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.trim_end_matches('\n'))?;
        stdout.flush()?;
        Ok(())
    }
}

/// Columns and lines of the terminal as it is now.
fn size() -> (u16, u16) {
    terminal_size::terminal_size_of(io::stdout())
        .map_or((USUAL_WIDTH, USUAL_HEIGHT), |(width, height)| (width.0, height.0))
}

/// What paints `text` over a screen of so many columns and lines. The last line is left to the cursor. Each line is cleared
/// before it is written: after it, the cursor may still be on its last character.
fn painted(text: &str, width: usize, height: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    let room = height.saturating_sub(1).max(1);
    let kept = if lines.len() > room { room - 1 } else { lines.len() };
    let (shown, hidden) = lines.split_at(kept);
    let rest = match hidden.len() {
        0 => None,
        more => Some(format!("and {more} more lines; make the terminal higher, or ask for fewer")),
    };
    let line = |line: &str| format!("{CLEAR_LINE}{}\n", line.chars().take(width).collect::<String>());
    let painted: String = shown.iter().copied().chain(rest.as_deref()).map(line).collect();
    format!("{HOME}{painted}{CLEAR_BELOW}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_painted_over_line_by_line() {
        let whole = "\x1b[H\x1b[KNAME\n\x1b[Kn1\n\x1b[Kn2\n\x1b[J";
        assert_eq!(painted("NAME\nn1\nn2", 80, 4), whole);
        assert_eq!(painted("NAME of a node\nn1\nn2", 4, 4), whole, "no line is wider than the terminal");
    }

    #[test]
    fn what_has_no_room_on_a_screen_is_counted() {
        for (height, shown, more) in [(4, 2, 2), (3, 1, 3), (2, 0, 4), (1, 0, 4), (0, 0, 4)] {
            let painted = painted("NAME\nn1\nn2\nn3", 80, height);

            assert!(painted.contains(&format!("and {more} more lines")), "{height}: {painted:?}");
            assert_eq!(painted.matches('\n').count(), shown + 1, "{height}: {painted:?}");
        }
    }

    #[test]
    fn in_yaml_a_text_stays_a_text_and_a_number_a_number() {
        let mut answer = serde_json::Map::new();
        for text in ["no", "null", "12", "1e3", "0x10", "2026-11-27", "a: b", "- a", "", " a", "a\n\n"] {
            answer.insert(format!("{text:?}"), text.into());
        }
        answer.insert("revision".to_owned(), u64::MAX.into());

        let yaml = serde_saphyr::to_string(&answer).unwrap_or_default();

        insta::assert_snapshot!(yaml);
    }
}
