//! The caller's terminal while a command in a node has it.

use std::io::IsTerminal;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// A terminal that passes every key on as it is.
pub(super) struct Terminal {
    before: Termios,
}

impl Terminal {
    /// Takes the terminal, if standard input and output are one.
    pub(super) fn take() -> Option<Self> {
        if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
            return None;
        }
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self { before })
    }

    /// Makes the terminal what it was.
    pub(super) fn give_back(self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.before);
    }
}
