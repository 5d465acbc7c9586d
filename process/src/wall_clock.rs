//! The time of day, for display only: nothing expires by it and nothing is decided by it.
//!
//! It is asked for here and nowhere else, so that a simulation can let it jump by years and see that nothing follows.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

thread_local! {
    static SHOWN: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Milliseconds since 1970; 0 before.
#[must_use]
pub fn unix_ms() -> u64 {
    SHOWN.get().unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    })
}

/// Lets this thread's clock stand at a time; with `None` it shows the machine's again. For simulations.
pub fn show(unix_ms: Option<u64>) {
    SHOWN.set(unix_ms);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_clock_that_is_set_stands_still_for_its_own_thread() {
        let real = unix_ms();

        show(Some(7));

        assert_eq!(unix_ms(), 7);
        assert!(thread::spawn(unix_ms).join().is_ok_and(|elsewhere| elsewhere >= real));
        show(None);
        assert!(unix_ms() >= real);
    }
}
