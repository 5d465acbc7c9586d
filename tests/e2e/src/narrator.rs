//! Tells a story on standard output in short lines, each with the seconds since it began.

use std::time::{Duration, Instant};

/// Prints what happens. Silent in tests, where the harness shows the output of what failed.
pub struct Narrator {
    began: Instant,
}

impl Narrator {
    /// Starts the clock.
    #[must_use]
    pub fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// One line.
    #[allow(clippy::print_stdout)]
    pub fn say(&self, line: impl AsRef<str>) {
        println!("[{:6.1} s] {}", self.began.elapsed().as_secs_f32(), line.as_ref());
    }

    /// Time since the story began.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Default for Narrator {
    fn default() -> Self {
        Self::new()
    }
}

/// A duration as people read it in a story.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f32())
}
