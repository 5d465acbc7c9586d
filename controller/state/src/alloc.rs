//! Numbers that are handed out: DRBD minors and ports.
//!
//! The smallest free number is given, so that every controller gives the same. It must never give a
//! number twice: whoever frees one has to know that nobody uses it any more.

use hawser_proto::{numbers::first_outside, v1::NumberRange};
use imbl::OrdMap;

/// DRBD 9 numbers the nodes of a resource from 0 to 31.
pub const NODE_IDS: u32 = 32;

/// The free numbers of a range, as disjoint intervals: first number → last number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberPool {
    free: OrdMap<u32, u32>,
    range: (u32, u32),
}

impl NumberPool {
    /// All numbers from `first` to `last` are free.
    pub fn new((first, last): (u32, u32)) -> Self {
        let free = if first <= last { OrdMap::unit(first, last) } else { OrdMap::new() };
        Self { free, range: (first, last) }
    }

    /// As [`NumberPool::new`], without what is reserved.
    pub fn without(range: (u32, u32), reserved: &[NumberRange]) -> Self {
        let mut pool = Self::new(range);
        for reserved in reserved {
            for number in reserved.first.max(range.0)..=reserved.last.min(range.1) {
                pool.take(number);
            }
        }
        pool
    }

    /// Gives the smallest free number that is in none of the ranges; `None` if there is none.
    pub fn take_smallest(&mut self, avoided: &[NumberRange]) -> Option<u32> {
        let mut free = self.free.iter().map(|(first, last)| NumberRange { first: *first, last: *last });
        let number = free.find_map(|interval| first_outside(&interval, avoided))?;
        self.take(number);
        Some(number)
    }

    /// Marks `number` as taken. False if it was taken already; a number outside of the range, which an
    /// older setting gave, is nobody else's and passes.
    pub fn take(&mut self, number: u32) -> bool {
        if !self.covers(number) {
            return true;
        }
        let Some((first, last)) = self.interval_at_or_before(number).filter(|(_, last)| number <= *last)
        else {
            return false;
        };
        self.free.remove(&first);
        if first < number {
            self.free.insert(first, number - 1);
        }
        if number < last {
            self.free.insert(number + 1, last);
        }
        true
    }

    /// Frees `number`. Freeing a free number changes nothing.
    pub fn release(&mut self, number: u32) {
        let before = self.interval_at_or_before(number);
        if !self.covers(number) || before.is_some_and(|(_, last)| number <= last) {
            return;
        }
        let mut joined = (number, number);
        if let Some((first, last)) = before
            && last.checked_add(1) == Some(number)
        {
            self.free.remove(&first);
            joined.0 = first;
        }
        if let Some(next) = number.checked_add(1)
            && let Some(last) = self.free.remove(&next)
        {
            joined.1 = last;
        }
        self.free.insert(joined.0, joined.1);
    }

    fn covers(&self, number: u32) -> bool {
        (self.range.0..=self.range.1).contains(&number)
    }

    fn interval_at_or_before(&self, number: u32) -> Option<(u32, u32)> {
        self.free.get_prev(&number).map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_free_number_is_given_until_none_is_left() {
        let mut pool = NumberPool::new((1000, 1002));
        assert!(pool.take(1001));
        assert!(!pool.take(1001));
        assert_eq!(pool.take_smallest(&[]), Some(1000));
        assert_eq!(pool.take_smallest(&[]), Some(1002));
        assert_eq!(pool.take_smallest(&[]), None);
        pool.release(1002);
        pool.release(1001);
        assert_eq!(pool.take_smallest(&[]), Some(1001));
    }

    #[test]
    fn an_empty_range_gives_nothing() {
        assert_eq!(NumberPool::new((2, 1)).take_smallest(&[]), None);
    }

    #[test]
    fn what_is_reserved_is_never_given() {
        let reserved = [(5, 1), (0, 3), (7, 7), (9, 20)].map(|(first, last)| NumberRange { first, last });
        let mut pool = NumberPool::without((2, 9), &reserved);
        let given: Vec<u32> = std::iter::from_fn(|| pool.take_smallest(&[])).collect();
        assert_eq!(given, [4, 5, 6, 8]);
    }

    proptest! {
        /// Whatever the order, it behaves as a set of free numbers does.
        #[test]
        fn it_behaves_as_a_set(steps in prop::collection::vec((0_u8..4, 0_u32..12), 0..60)) {
            let mut pool = NumberPool::new((1, 9));
            let mut free: BTreeSet<u32> = (1..=9).collect();
            for (step, number) in steps {
                match step {
                    0 => prop_assert_eq!(pool.take_smallest(&[]), free.pop_first()),
                    3 => {
                        let avoided = [NumberRange { first: 1, last: number }];
                        let expected = free.range(number.max(1) + u32::from(number > 0)..).next().copied();
                        prop_assert_eq!(pool.take_smallest(&avoided), expected);
                        if let Some(number) = expected {
                            free.remove(&number);
                        }
                    }
                    1 => prop_assert_eq!(pool.take(number), free.remove(&number) || !(1..=9).contains(&number)),
                    _ => {
                        pool.release(number);
                        if (1..=9).contains(&number) {
                            free.insert(number);
                        }
                    }
                }
            }
        }

        /// Equal sets are equal pools, whatever way led there: snapshots rebuild the pools.
        #[test]
        fn equal_sets_are_equal_pools(taken in prop::collection::btree_set(1_u32..=9, 0..9)) {
            let mut by_taking = NumberPool::new((1, 9));
            let mut by_releasing = NumberPool::new((1, 9));
            while by_releasing.take_smallest(&[]).is_some() {}
            for number in 1..=9 {
                if taken.contains(&number) {
                    prop_assert!(by_taking.take(number));
                } else {
                    by_releasing.release(number);
                }
            }
            prop_assert_eq!(by_taking, by_releasing);
        }
    }
}
