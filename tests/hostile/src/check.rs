//! Asks a reader again and again, for a bounded time.

use std::{
    cell::{Cell, RefCell},
    env, panic,
    sync::Once,
    time::{Duration, Instant},
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestError, TestRunner},
};

/// Environment variable: how many seconds each reader is asked for, in place of one.
pub const SECONDS_VARIABLE: &str = "HAWSER_HOSTILE_SECONDS";

/// No reader has reason to take so long for one input, also where the machine is busy.
const LONGEST: Duration = Duration::from_secs(20);

/// Asks `property` about values of `input` for one second, or as long as [`SECONDS_VARIABLE`] says.
///
/// # Panics
/// With the smallest value for which `property` panics, or takes for ever. That value belongs into a test of its own.
pub fn check<S: Strategy>(input: &S, property: impl Fn(S::Value)) {
    let seconds = env::var(SECONDS_VARIABLE).ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let mut asked = 0_u64;
    while asked == 0 || Instant::now() < end {
        let value = input.new_tree(&mut runner).expect("a strategy without a filter always has a value");
        let ask = |value| {
            let began = Instant::now();
            property(value);
            let taken = began.elapsed();
            assert!(taken < LONGEST, "it took {} s", taken.as_secs());
            Ok(())
        };
        match quietly(|| runner.run_one(value, ask)) {
            Ok(_) => asked += 1,
            Err(TestError::Fail(why, smallest)) => {
                let place = PLACE.with(RefCell::take);
                panic!("{why}\nat {place}, after {asked} others, by {smallest:?}")
            }
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where this thread panicked last while it was quiet.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Does `work` without a word about its panics: while a failure is shrunk there are hundreds.
fn quietly<R>(work: impl FnOnce() -> R) -> R {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if IS_QUIET.get() {
                let place = panic.location().map(ToString::to_string).unwrap_or_default();
                PLACE.with(|last| last.replace(place));
            } else {
                before(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let done = work();
    IS_QUIET.set(false);
    done
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn what_a_reader_trips_over_is_found_and_shown_at_its_smallest() {
        let reader = |text: String| assert!(!text.contains("42949672"), "it overflows");

        let found = catch_unwind(|| check(&crate::texts(&["done:12.30 size:7"], &["42949672"]), reader));

        let words = found.expect_err("the reader trips over one of the words");
        let words = words.downcast_ref::<String>().map(String::as_str).unwrap_or_default();
        assert!(
            words.contains("it overflows") && words.contains("check.rs") && words.contains("by \""),
            "{words}"
        );
        assert!(words.len() < 250, "not shrunk: {words}");
    }
}
