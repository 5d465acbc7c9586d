//! Where a frame of the cluster network goes: hardware addresses learnt, links cut, frames counted.
//! Pure: it must never touch a socket, a clock or a thread, so that every decision can be tested and repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A port of the switch; it carries its node's number.
pub type Port = u8;

const HEADER: usize = 14;
const GROUP_BIT: u8 = 1;

/// Frames seen in one direction between two ports.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LinkCount {
    /// Frames passed on.
    pub frames: u64,
    /// Bytes passed on.
    pub bytes: u64,
    /// Frames that a rule took away.
    pub cut: u64,
}

/// What the lab does to frames in one direction between two ports.
///
/// One direction at a time and with room for more: a loss or a doubling are further fields.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LinkRule {
    /// No frame passes.
    pub cut: bool,
    /// How long a frame that passes is on its way.
    pub delay: Duration,
}

/// The decisions of the switch.
#[derive(Debug, Default)]
pub struct Fabric {
    ports: BTreeSet<Port>,
    learnt: BTreeMap<[u8; 6], Port>,
    rules: BTreeMap<(Port, Port), LinkRule>,
    counts: BTreeMap<(Port, Port), LinkCount>,
}

impl Fabric {
    /// Adds a port; adding it twice changes nothing.
    pub fn attach(&mut self, port: Port) {
        self.ports.insert(port);
    }

    /// Removes a port and what was learnt behind it. Rules and counts stay: a node that is powered off and on
    /// again comes back into the same partition.
    pub fn detach(&mut self, port: Port) {
        self.ports.remove(&port);
        self.learnt.retain(|_, learnt| *learnt != port);
    }

    /// Cuts the link from `from` to `to`; the other direction stays as it is.
    pub fn cut(&mut self, from: Port, to: Port) {
        self.rules.entry((from, to)).or_default().cut = true;
    }

    /// Delays each frame from `from` to `to`; the other direction stays as it is.
    pub fn delay(&mut self, from: Port, to: Port, delay: Duration) {
        self.rules.entry((from, to)).or_default().delay = delay;
    }

    /// Removes every rule.
    pub fn heal(&mut self) {
        self.rules.clear();
    }

    /// Pairs (from, to) that are cut, in order.
    pub fn cuts(&self) -> Vec<(Port, Port)> {
        self.rules.iter().filter(|(_, rule)| rule.cut).map(|(pair, _)| *pair).collect()
    }

    /// Pairs (from, to) that are slow, in order, with their delays.
    pub fn delays(&self) -> Vec<(Port, Port, Duration)> {
        let slow = self.rules.iter().filter(|(_, rule)| !rule.delay.is_zero());
        slow.map(|((from, to), rule)| (*from, *to, rule.delay)).collect()
    }

    /// Counts of every direction that has seen a frame.
    pub fn counts(&self) -> &BTreeMap<(Port, Port), LinkCount> {
        &self.counts
    }

    /// Appends to `out` the ports that get `frame`, which came in at `from`, each with how long it is on its way
    /// there, and learns its sender.
    ///
    /// A frame to an unknown or a group address goes to every other port; one that is too short to have
    /// addresses goes nowhere.
    pub fn route(&mut self, from: Port, frame: &[u8], out: &mut Vec<(Port, Duration)>) {
        let Some((destination, source)) = addresses(frame) else { return };
        if source[0] & GROUP_BIT == 0 {
            self.learnt.insert(source, from);
        }
        let known =
            if destination[0] & GROUP_BIT == 0 { self.learnt.get(&destination).copied() } else { None };
        let everybody = if known.is_none() { Some(self.ports.iter().copied()) } else { None };
        for to in known.into_iter().chain(everybody.into_iter().flatten()).filter(|to| *to != from) {
            let rule = self.rules.get(&(from, to)).copied().unwrap_or_default();
            let count = self.counts.entry((from, to)).or_default();
            if rule.cut {
                count.cut += 1;
            } else {
                count.frames += 1;
                count.bytes += frame.len() as u64;
                out.push((to, rule.delay));
            }
        }
    }
}

fn addresses(frame: &[u8]) -> Option<([u8; 6], [u8; 6])> {
    if frame.len() < HEADER {
        return None;
    }
    let destination = frame[0..6].try_into().ok()?;
    let source = frame[6..12].try_into().ok()?;
    Some((destination, source))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{bytes, check};

    use super::*;

    const BROADCAST: u8 = 0xff;

    fn frame(to: u8, from: u8) -> Vec<u8> {
        let destination = if to == BROADCAST { [BROADCAST; 6] } else { [2, 0, 0, 0, 0, to] };
        [&destination[..], &[2, 0, 0, 0, 0, from], &[8, 0, 1, 2, 3]].concat()
    }

    fn route(fabric: &mut Fabric, to: u8, from: u8) -> Vec<Port> {
        let mut out = Vec::new();
        fabric.route(from, &frame(to, from), &mut out);
        out.into_iter().map(|(port, _)| port).collect()
    }

    fn three() -> Fabric {
        let mut fabric = Fabric::default();
        for port in 1..=3 {
            fabric.attach(port);
            route(&mut fabric, BROADCAST, port);
        }
        fabric
    }

    #[test]
    fn an_unknown_destination_is_flooded_and_a_learnt_one_is_not() {
        let mut fabric = Fabric::default();
        for port in 1..=3 {
            fabric.attach(port);
        }
        assert_eq!(route(&mut fabric, 2, 1), [2, 3], "nobody has spoken from 2 yet");
        assert_eq!(route(&mut fabric, 1, 2), [1]);
        assert_eq!(route(&mut fabric, 2, 1), [2], "2 was learnt");
    }

    #[test]
    fn a_cut_takes_one_direction_and_heal_gives_it_back() {
        let mut fabric = three();
        fabric.cut(1, 2);
        assert_eq!(route(&mut fabric, 2, 1), Vec::<Port>::new());
        assert_eq!(route(&mut fabric, 1, 2), [1], "the other direction is not cut");
        assert_eq!(route(&mut fabric, BROADCAST, 1), [3], "a flood leaves the cut one out");
        assert_eq!(fabric.cuts(), [(1, 2)]);
        fabric.heal();
        assert_eq!(route(&mut fabric, 2, 1), [2]);
        assert_eq!(fabric.counts()[&(1, 2)].cut, 2);
    }

    #[test]
    fn a_delay_is_of_one_direction_stands_beside_a_cut_and_ends_with_it() {
        let mut fabric = three();
        let second = Duration::from_secs(1);
        fabric.delay(1, 2, second);
        let mut out = Vec::new();
        fabric.route(1, &frame(BROADCAST, 1), &mut out);
        assert_eq!(out, [(2, second), (3, Duration::ZERO)]);
        fabric.cut(1, 2);
        assert_eq!(route(&mut fabric, 2, 1), Vec::<Port>::new());
        assert_eq!((fabric.cuts(), fabric.delays()), (vec![(1, 2)], vec![(1, 2, second)]));
        fabric.heal();
        assert_eq!((fabric.cuts(), fabric.delays()), (vec![], vec![]));
        fabric.delay(1, 2, second);
        fabric.delay(1, 2, Duration::ZERO);
        assert_eq!(fabric.delays(), []);
    }

    #[test]
    fn a_port_that_left_is_forgotten_but_its_cut_is_not() {
        let mut fabric = three();
        fabric.cut(1, 3);
        fabric.detach(3);
        assert_eq!(route(&mut fabric, 3, 1), [2], "3 is unknown again, so the frame is flooded");
        fabric.attach(3);
        assert_eq!(route(&mut fabric, 3, 1), [2]);
    }

    #[test]
    fn a_frame_without_addresses_goes_nowhere() {
        let mut fabric = three();
        let mut out = Vec::new();
        fabric.route(1, &[0xff; HEADER - 1], &mut out);
        assert!(out.is_empty());
    }

    #[test]
    fn hostile_frames_go_to_ports_that_are_there_and_never_back() {
        check(&bytes(&[&frame(2, 1), &frame(BROADCAST, 3)], &[]), |frame| {
            let mut fabric = three();
            let mut out = Vec::new();
            fabric.route(1, &frame, &mut out);
            assert!(out.iter().all(|(port, _)| [2, 3].contains(port)), "{out:?}");
        });
    }
}
