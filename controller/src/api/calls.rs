//! How many calls one caller has under way at this member: nobody's crowd keeps others from being answered.
//!
//! Controllers are not counted: Raft must not wait for anybody, and what they relay counts for whoever asked them.
//! A stream counts until it begins, for then its connection limits it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hawser_process::tls::Role;

use super::{caller::Caller, error::ApiError};

/// More than the largest batch that anybody has reason to ask for at once.
pub const LIMIT: usize = 1024;
/// A satellite asks for its session, and the arbiter for each of its frozen resources.
const LIMIT_OF_SATELLITES: usize = 512;

/// The calls under way. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    by_caller: Arc<Mutex<BTreeMap<Caller, usize>>>,
}

/// A call under way, until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    calls: Calls,
    caller: Option<Caller>,
}

impl Calls {
    /// Begins a call.
    ///
    /// # Errors
    /// [`ApiError::TooManyCalls`] where the caller has as many under way as it may.
    pub fn begin(&self, caller: &Caller) -> Result<UnderWay, ApiError> {
        let limit = match caller.role {
            Role::Controller => return Ok(UnderWay { calls: self.clone(), caller: None }),
            Role::Satellite => LIMIT_OF_SATELLITES,
            Role::Administrator => LIMIT,
        };
        let mut calls = self.lock();
        let own = calls.entry(caller.clone()).or_default();
        if *own >= limit {
            return Err(ApiError::TooManyCalls { caller: caller.id(), limit });
        }
        *own += 1;
        drop(calls);
        Ok(UnderWay { calls: self.clone(), caller: Some(caller.clone()) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Caller, usize>> {
        self.by_caller.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Some(caller) = self.caller.take() else { return };
        let mut calls = self.calls.lock();
        if let Some(own) = calls.get_mut(&caller) {
            *own -= 1;
            if *own == 0 {
                calls.remove(&caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn caller(role: Role, name: &str) -> Caller {
        Caller { role, name: name.into() }
    }

    #[test]
    fn a_crowd_of_one_caller_keeps_no_other_out() {
        let calls = Calls::default();
        for (role, limit) in [(Role::Administrator, LIMIT), (Role::Satellite, LIMIT_OF_SATELLITES)] {
            let crowd: Vec<_> = (0..limit).map(|_| calls.begin(&caller(role, "x")).unwrap()).collect();

            let refused = calls.begin(&caller(role, "x")).unwrap_err().to_string();

            assert!(refused.contains(&format!("{role}/x has {limit} calls under way")), "{refused}");
            assert!(calls.begin(&caller(role, "y")).is_ok());
            assert!(calls.begin(&caller(Role::Controller, "x")).is_ok());
            drop(crowd);
            assert!(calls.begin(&caller(role, "x")).is_ok());
        }
        assert!(calls.lock().is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn members_are_not_counted() {
        let calls = Calls::default();
        let member = caller(Role::Controller, "c2");
        let under_way: Vec<_> = (0..LIMIT * 2).filter_map(|_| calls.begin(&member).ok()).collect();
        assert_eq!(under_way.len(), LIMIT * 2);
    }
}
