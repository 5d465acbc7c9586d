//! One operation with one death in it: begun as a person would, killed into at a moment that the leader shows, and
//! followed until it has ended, with the node's power given back where the operation waits for that.
//!
//! It must never help an operation but by giving a node its power back, nor count a kill that came too late.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use hawser_proto::v1;

use super::api::{self, Api, Controller};
use super::grid::{Cell, Moment, Victim};
use super::hand::{Hands, Program, Sign};
use crate::cluster::{Cluster, Progress};
use crate::story::leader;

/// How long an operation may run without a word on what it waits for: a leader has to be elected, and satellites come
/// back to it.
const LONGEST_SILENCE: Duration = Duration::from_secs(10);
/// Until a node gets its power back although the operation does not say that it needs it: longer than DRBD and the
/// arbiter take to go on without it.
const WITHOUT_POWER: Duration = Duration::from_secs(8);
/// Until an operation has ended, from the kill on, a node's boot included.
const LONGEST: Duration = Duration::from_secs(90);
/// Between two looks for a phase.
const PAUSE: Duration = Duration::from_millis(2);

/// The nodes of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// The one that it is about; of a creation and a deletion, the first.
    pub(super) own: &'static str,
    /// The one with the other replica.
    pub(super) peer: &'static str,
    /// All nodes of the lab.
    pub(super) all: [&'static str; 3],
}

/// What became of an operation that was interrupted.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Where the kill fell.
    pub fell: Fell,
    /// The node where something was killed.
    pub node: String,
    /// What the operation waited for until the node got its power back; none: it ended without that.
    pub waited_for: Option<String>,
    /// From the kill to the operation's end.
    pub took: Duration,
    /// From the answer that showed the moment to the end of the kill.
    pub delay: Duration,
}

/// Where a kill fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fell {
    /// Into the moment that it was meant for.
    In,
    /// The operation had ended meanwhile.
    Late,
    /// The moment was over before anybody saw it, and nobody was killed.
    Nowhere,
}

/// Whose process or which node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    node: String,
    program: Option<Program>,
}

/// Carries out `operation`, words for `hawser` of which the third is the volume, with the death of a cell in it.
pub(super) fn interrupted(
    cluster: &Cluster,
    api: &Api,
    hands: &mut Hands,
    (operation, places): (&[&str], Places),
    cell: Cell,
) -> Result<Outcome> {
    let leading = leader(cluster)?;
    let target = target(cell.victim, places, &leading);
    // Orders are on a satellite's disk sooner than anybody can look: whoever would store them is stopped until then.
    let held: &[&str] = match cell.moment {
        Moment::Phase("store-orders") => &[places.own, places.peer],
        _ => &[],
    };
    if let Some(program) = target.program {
        hands.aim(cluster, &target.node, program)?;
    }
    for node in held {
        hands.aim(cluster, node, Program::Satellite)?;
    }
    let controller = api.controller(cluster, &leading)?;
    for node in held {
        hands.signal(node, "STOP", Program::Satellite)?;
    }
    let sign = match cell.moment {
        Moment::Phase("open-gate") => Some(Sign::Primary),
        Moment::Phase("demote") => Some(Sign::NoGate),
        _ => None,
    };
    if let Some(sign) = sign {
        hands.look_for(cluster, places.own, sign)?;
    }

    let begun = begin(cluster, operation);
    let seen = match (&begun, sign) {
        (Ok(_), Some(_)) => hands.seen(places.own).map(Some),
        (Ok(id), None) => until(&controller, *id, cell.moment),
        (Err(_), _) => Ok(None),
    };
    let seen_at = Instant::now();
    let is_there = matches!(seen, Ok(Some(())));
    let killed = if is_there { kill(cluster, hands, &target) } else { Ok(()) };
    let (killed_at, delay, killed_at_unix_ms) = (Instant::now(), seen_at.elapsed(), unix_ms());
    for node in held {
        let is_dead = is_there && target.node == *node && target.program != Some(Program::Controller);
        if !is_dead {
            hands.signal(node, "CONT", Program::Satellite)?;
        }
    }
    let id = begun?;
    seen?;
    killed?;

    let mut power = Power { cluster, node: (target.program.is_none() && is_there).then_some(&target.node) };
    let (view, waited_for) = ended(api, id, killed_at, &mut power)?;
    let waited_for = waited_for.map(|words| in_roles(&words, operation[2], places));
    let took = killed_at.elapsed();
    power.give_back()?;
    if let (true, Some(program)) = (is_there, target.program) {
        hands.aim(cluster, &target.node, program)?;
    }
    let ended_at = view.operation.as_ref().map_or(0, |operation| operation.ended_at_unix_ms);
    let fell = match cell.moment {
        _ if !is_there => Fell::Nowhere,
        // What is left to do was proposed before it could be seen, and was not yet done when it was.
        Moment::Ended | Moment::Phase("confirm") => Fell::In,
        Moment::Phase(_) if killed_at_unix_ms < ended_at => Fell::In,
        Moment::Phase(_) => Fell::Late,
    };
    Ok(Outcome { fell, node: target.node, waited_for, took, delay })
}

fn target(victim: Victim, places: Places, leading: &str) -> Target {
    let follower = || places.all.into_iter().find(|node| *node != leading).unwrap_or(leading);
    let (node, program) = match victim {
        Victim::LeadingController => (leading, Some(Program::Controller)),
        Victim::FollowingController => (follower(), Some(Program::Controller)),
        Victim::OwnSatellite => (places.own, Some(Program::Satellite)),
        Victim::PeerSatellite => (places.peer, Some(Program::Satellite)),
        Victim::LeadersPower => (leading, None),
        Victim::OwnPower => (places.own, None),
        Victim::PeerPower => (places.peer, None),
    };
    Target { node: node.to_owned(), program }
}

fn begin(cluster: &Cluster, operation: &[&str]) -> Result<u64> {
    let answer = cluster.json(&[&["--no-wait"], operation].concat())?;
    answer["operation"].as_u64().with_context(|| format!("no operation in {answer}"))
}

/// Waits until the operation is there; `None` if it has ended before.
fn until(controller: &Controller<'_>, id: u64, moment: Moment) -> Result<Option<()>> {
    let began = Instant::now();
    loop {
        // A leader that has just changed shows no phase; an operation that it does not know yet is about to come.
        if let Some(view) = controller.look(id)? {
            let running = state(&view) == v1::OperationState::Running;
            match moment {
                Moment::Phase(phase) if running && view.phase == phase => return Ok(Some(())),
                Moment::Phase(_) if !running => return Ok(None),
                Moment::Ended if !running => return Ok(Some(())),
                Moment::Phase(_) | Moment::Ended => {}
            }
        }
        ensure!(
            began.elapsed() < LONGEST,
            "operation {id} has not come to \"{moment}\" within {LONGEST:?}, and nobody was killed yet"
        );
        std::thread::sleep(PAUSE);
    }
}

fn kill(cluster: &Cluster, hands: &mut Hands, target: &Target) -> Result<()> {
    match target.program {
        Some(program) => hands.signal(&target.node, "KILL", program),
        None => {
            cluster.kill(&target.node)?;
            hands.forget(&target.node);
            Ok(())
        }
    }
}

/// A node that is without power, until it gets it back.
struct Power<'a> {
    cluster: &'a Cluster,
    node: Option<&'a String>,
}

impl Power<'_> {
    fn give_back(&mut self) -> Result<()> {
        match self.node.take() {
            Some(node) => self.cluster.start_node(node),
            None => Ok(()),
        }
    }
}

/// Waits until the operation has succeeded; says what it waited for where it needed the node's power. It may wait, but
/// not long without saying what for.
fn ended(
    api: &Api,
    id: u64,
    killed_at: Instant,
    power: &mut Power<'_>,
) -> Result<(v1::OperationView, Option<String>)> {
    let cluster = power.cluster;
    let mut waited_for = None;
    let mut spoke = Instant::now();
    let view = cluster.wait(&format!("operation {id} to end"), LONGEST, || {
        let view = match api.operation(id) {
            Ok(view) => view,
            Err(error) => {
                ensure!(spoke.elapsed() < LONGEST_SILENCE, "nobody tells how operation {id} is: {error:#}");
                return Ok(Progress::NotYet(format!("{error:#}")));
            }
        };
        let words = api::reason(&view);
        match state(&view) {
            v1::OperationState::Succeeded => return Ok(Progress::Reached(view)),
            v1::OperationState::Failed | v1::OperationState::Cancelled => {
                bail!("operation {id} ended otherwise: {words:?}")
            }
            v1::OperationState::Running | v1::OperationState::Unspecified => {}
        }
        if words.is_some() {
            spoke = Instant::now();
        }
        ensure!(
            spoke.elapsed() < LONGEST_SILENCE,
            "operation {id} does not say what it waits for; its phase is {:?}",
            view.phase
        );
        let needs_power = words.is_some() && view.phase == "reach-nodes";
        if power.node.is_some() && (needs_power || killed_at.elapsed() > WITHOUT_POWER) {
            waited_for = Some(words.clone().unwrap_or_default());
            power.give_back()?;
            spoke = Instant::now();
        }
        Ok(Progress::NotYet(format!("{:?} in phase {:?}", words, view.phase)))
    })?;
    Ok((view, waited_for))
}

/// The same words for whichever volume and nodes, so that the table shows a reason once.
fn in_roles(words: &str, volume: &str, places: Places) -> String {
    let pieces = words.split_inclusive(|letter: char| !letter.is_alphanumeric());
    let told = pieces.flat_map(|piece| {
        let word = piece.trim_end_matches(|letter: char| !letter.is_alphanumeric());
        let role = match word {
            _ if word == volume => "the volume",
            _ if word == places.own => "here",
            _ if word == places.peer => "there",
            _ if places.all.contains(&word) => "elsewhere",
            other => other,
        };
        [role, &piece[word.len()..]]
    });
    told.collect()
}

fn state(view: &v1::OperationView) -> v1::OperationState {
    view.operation.as_ref().map_or(v1::OperationState::Unspecified, |operation| operation.state())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_the_parts_that_nodes_play() {
        let places = Places { own: "n2", peer: "n3", all: ["n1", "n2", "n3"] };
        for (words, expected) in [
            ("n2: node n2 is not connected", "here: node here is not connected"),
            ("life1 on node n3 waits for n1.", "the volume on node there waits for elsewhere."),
            ("life12 has n33 and an1", "life12 has n33 and an1"),
        ] {
            assert_eq!(in_roles(words, "life1", places), expected);
        }
    }
}
