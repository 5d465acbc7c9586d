//! What a command prints: tables for people, JSON or YAML for programs. The answer goes to standard output, hints to
//! standard error.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use crate::failure::Failure;

pub(crate) mod age;
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

/// Where answers go.
pub(crate) struct Screen {
    format: Format,
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
        let width = if stdout.is_terminal() { terminal_size::terminal_size_of(&stdout) } else { None };
        Self { format, width: width.map(|(width, _)| width.0), now: Timestamp::now() }
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

#[cfg(test)]
mod tests {
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
