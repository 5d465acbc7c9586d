//! How many connections a port has at once, in all and from one address: whoever opens too many starves itself alone.
//!
//! It must never make anybody wait: who finds no room is turned away at once, and others are served meanwhile.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What a port admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub in_all: usize,
    /// Of these, from one address; for IPv6 from one network of 64 bits, which is what one host may have.
    pub per_address: usize,
    /// The same while less than a quarter is free: what is left then is for those who have few.
    pub when_scarce: usize,
}

/// Counts the connections of one port. Clones share the count.
#[derive(Clone, Debug)]
pub struct Admission {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    in_all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// Room for one connection, until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    address: IpAddr,
    admission: Admission,
}

impl Admission {
    /// A port without connections.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// Room for a connection from `address`, or `None` where there is none.
    #[must_use]
    pub fn admit(&self, address: IpAddr) -> Option<Admitted> {
        let address = network_of(address);
        let mut open = self.lock();
        let Limits { in_all, per_address, when_scarce } = self.limits;
        let is_scarce = open.in_all >= in_all - in_all / 4;
        let own = open.by_address.get(&address).copied().unwrap_or_default();
        if open.in_all >= in_all || own >= if is_scarce { when_scarce } else { per_address } {
            return None;
        }
        open.in_all += 1;
        open.by_address.insert(address, own + 1);
        drop(open);
        Some(Admitted { address, admission: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.admission.lock();
        open.in_all = open.in_all.saturating_sub(1);
        if let Some(own) = open.by_address.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn whoever_opens_too_many_is_turned_away_alone() {
        let admission = Admission::new(Limits { in_all: 16, per_address: 10, when_scarce: 2 });
        let greedy: Vec<_> = (0..20).filter_map(|_| admission.admit(address("10.0.0.1"))).collect();
        assert_eq!(greedy.len(), 10);

        let others: Vec<_> =
            (2..20).filter_map(|host| admission.admit(address(&format!("10.0.0.{host}")))).collect();
        assert_eq!(others.len(), 6, "the rest is for others, up to the limit for all");
        assert!(admission.admit(address("10.0.0.99")).is_none());

        drop(others);
        drop(greedy);
        assert_eq!(admission.lock().in_all, 0);
        assert!(admission.lock().by_address.is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn the_last_quarter_is_for_those_who_have_few() {
        let admission = Admission::new(Limits { in_all: 16, per_address: 12, when_scarce: 2 });
        let greedy: Vec<_> = (0..20).filter_map(|_| admission.admit(address("10.0.0.1"))).collect();
        assert_eq!(greedy.len(), 12);
        let second: Vec<_> = (0..20).filter_map(|_| admission.admit(address("10.0.0.2"))).collect();
        assert_eq!(second.len(), 2);
    }

    #[test]
    fn a_host_is_one_however_it_writes_its_address() {
        let admission = Admission::new(Limits { in_all: 100, per_address: 1, when_scarce: 1 });
        let _held = ["10.0.0.1", "fd00::1"].map(|text| admission.admit(address(text)).unwrap());
        for same in ["::ffff:10.0.0.1", "fd00::2", "fd00::ffff:1:2:3"] {
            assert!(admission.admit(address(same)).is_none(), "{same}");
        }
        assert!(admission.admit(address("fd00:0:0:1::1")).is_some(), "another network");
    }
}
