//! Asks before something that cannot be taken back.
//!
//! It must never take silence for a yes.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// Goes on if `yes` was given, or if a person at a terminal types `word` after having read what they assert.
pub(crate) fn of(asserted: &str, word: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{asserted} Give --yes to assert this where nobody can be asked"
        )));
    }
    let mut answer = String::new();
    write!(io::stderr(), "{asserted}\nType {word} to assert this: ")?;
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == word {
        Ok(())
    } else {
        Err(Failure::Usage(format!("{:?} is not {word}; nothing was changed", answer.trim())))
    }
}
