//! The cluster's own commands: its start, its clock, its feature level and checksums.
//!
//! It must never trust a step of time that a leader could not have waited for.

use std::sync::Arc;

use hawser_proto::{
    names, numbers,
    v1::{ClusterRecord, Command, InitializeCluster, Layer, RaiseFeatureLevel, ResourceGroup, Tick, command},
};

use super::{Divergence, idempotency};
use crate::{
    CHECKSUM_INTERVAL, FEATURE_LEVEL, operations,
    state::State,
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// The group that resources are made from where none is named.
pub(crate) const DEFAULT_GROUP: &str = "default";

/// The longest time that one tick may add. Leaders tick far more often; more is a defect, and would
/// expire what must not expire.
const LONGEST_TICK_MS: u64 = 60 * 60 * 1000;

pub(super) fn initialize(transaction: &mut Transaction<'_>, command: &InitializeCluster) -> Verdict {
    if transaction.state().is_initialized() {
        let cluster = transaction.state().cluster();
        return Err(Denial::already_exists(
            "cluster_id",
            format!("the cluster {} is initialized already", cluster.name),
        ));
    }
    let id_is_valid = (1..=64).contains(&command.cluster_id.len())
        && command.cluster_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !id_is_valid {
        return Err(Denial::invalid("cluster_id", "a cluster id has 1 to 64 letters, digits and hyphens"));
    }
    names::cluster_name("name", &command.name)?;
    if command.lineage == 0 {
        return Err(Denial::invalid("lineage", "a lineage is at least 1"));
    }
    let member = command.first_member.clone().unwrap_or_default();
    if member.raft_id == 0 || member.raft_id > transaction.index {
        return Err(Denial::invalid("first_member.raft_id", "the first controller's Raft id is 1"));
    }
    names::member_name("first_member.name", &member.name)?;
    names::endpoint("first_member.address", &member.address)?;

    let (minors, ports, reserved_ports) = numbers::or_default(command.numbers.as_ref());
    numbers::check_minors("numbers.minors", &minors)?;
    numbers::check_ports("numbers.ports", &ports)?;
    numbers::check_reserved_ports("numbers.reserved_ports", &reserved_ports, &ports)?;
    transaction.initialize(ClusterRecord {
        cluster_id: command.cluster_id.clone(),
        name: command.name.clone(),
        lineage: command.lineage,
        feature_level: 1,
        first_minor: minors.first,
        last_minor: minors.last,
        first_port: ports.first,
        last_port: ports.last,
        reserved_ports,
        ..ClusterRecord::default()
    });
    transaction.put_member(member);
    transaction.put_group(ResourceGroup {
        name: DEFAULT_GROUP.to_owned(),
        incarnation: transaction.index,
        replicas: 2,
        layers: vec![Layer::Drbd.into(), Layer::Storage.into()],
        ..ResourceGroup::default()
    });
    Ok(Success::DONE)
}

pub(super) fn tick(transaction: &mut Transaction<'_>, command: &Tick) -> Verdict {
    if command.elapsed_ms > LONGEST_TICK_MS {
        return Err(Denial::invalid("elapsed_ms", format!("one tick adds at most {LONGEST_TICK_MS} ms")));
    }
    let cluster = transaction.state().cluster().clone();
    let elapsed_ms = cluster.elapsed_ms.saturating_add(command.elapsed_ms);
    transaction.put_cluster(ClusterRecord { elapsed_ms, ..cluster });
    idempotency::expire(transaction);
    operations::forget_old(transaction);
    Ok(Success::DONE)
}

pub(super) fn raise_feature_level(transaction: &mut Transaction<'_>, command: &RaiseFeatureLevel) -> Verdict {
    let cluster = transaction.state().cluster().clone();
    if command.level < cluster.feature_level {
        return Err(Denial::invalid(
            "level",
            format!("the feature level is {} and never falls", cluster.feature_level),
        ));
    }
    if command.level > FEATURE_LEVEL {
        return Err(Denial::invalid(
            "level",
            format!("this release knows feature levels up to {FEATURE_LEVEL}"),
        ));
    }
    transaction.put_cluster(ClusterRecord { feature_level: command.level, ..cluster });
    Ok(Success::DONE)
}

/// Keeps the state as it is where the log passes a multiple of the checksum interval: every controller
/// that replays the log keeps the same one.
pub(super) fn take_checkpoint(state: &mut State, index: u64) {
    if state.revision() / CHECKSUM_INTERVAL != index / CHECKSUM_INTERVAL {
        let mut checkpoint = state.clone();
        checkpoint.checkpoint = None;
        state.checkpoint = Some(Arc::new(checkpoint));
    }
}

/// What a committed checksum proves against this controller's state; nothing where it has no
/// checkpoint of that revision.
pub(super) fn divergence(state: &State, command: &Command) -> Option<Divergence> {
    let Some(command::Command::Checksum(checksum)) = &command.command else { return None };
    let checkpoint = state.checkpoint().filter(|checkpoint| checkpoint.revision() == checksum.at_revision)?;
    let own = checkpoint.checksum();
    let hexadecimal = |bytes: &[u8]| bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    (own.as_slice() != checksum.sha256.as_slice()).then(|| Divergence {
        revision: checksum.at_revision,
        own: hexadecimal(&own),
        committed: hexadecimal(&checksum.sha256),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{Checksum, NumberRange, Numbers, RejectionReason, command::Command as Kind};

    use super::*;
    use crate::fixture::{Cluster, create_node, initialize};

    #[test]
    fn nothing_is_applied_before_the_cluster_is_initialized() {
        let mut cluster = Cluster::empty();
        assert_eq!(cluster.reason(create_node("n1", "10.0.0.1")), RejectionReason::Precondition);
        cluster.applied(initialize());
        cluster.applied(create_node("n1", "10.0.0.1"));
        assert_eq!(cluster.reason(initialize()), RejectionReason::AlreadyExists);
    }

    #[test]
    fn a_new_cluster_has_its_controller_and_the_default_group() {
        let cluster = Cluster::initialized();
        let group = cluster.state.group(DEFAULT_GROUP).unwrap();
        assert_eq!((group.replicas, group.layers().collect()), (2, vec![Layer::Drbd, Layer::Storage]));
        assert_eq!(cluster.state.member(1).unwrap().name, "c1");
        assert_eq!(cluster.state.cluster().lineage, 1);
    }

    #[test]
    fn a_cluster_is_not_started_from_nonsense() {
        let valid = || match initialize() {
            Kind::InitializeCluster(command) => command,
            _ => unreachable!("it initializes"),
        };
        type Spoil = fn(&mut InitializeCluster);
        fn numbers(change: impl FnOnce(&mut Numbers)) -> Option<Numbers> {
            let mut numbers = Numbers::default();
            change(&mut numbers);
            Some(numbers)
        }
        let cases: [(&str, Spoil); 9] = [
            ("numbers.minors", |command| {
                command.numbers = numbers(|it| it.minors = Some(NumberRange { first: 0, last: 5 }));
            }),
            ("numbers.ports", |command| {
                command.numbers = numbers(|it| it.ports = Some(NumberRange { first: 7000, last: 70_000 }));
            }),
            ("numbers.reserved_ports", |command| {
                command.numbers =
                    numbers(|it| it.reserved_ports = vec![NumberRange { first: 7000, last: 7999 }]);
            }),
            ("cluster_id", |command| command.cluster_id = "a b".into()),
            ("name", |command| command.name = "Lab".into()),
            ("lineage", |command| command.lineage = 0),
            ("first_member.raft_id", |command| command.first_member = None),
            ("first_member.name", |command| command.first_member.as_mut().unwrap().name.clear()),
            ("first_member.address", |command| command.first_member.as_mut().unwrap().address = "c1".into()),
        ];
        for (field, spoil) in cases {
            let mut command = valid();
            spoil(&mut command);
            let rejected = Cluster::empty().rejected(Kind::InitializeCluster(command));
            assert_eq!((rejected.reason(), rejected.field.as_str()), (RejectionReason::Invalid, field));
        }
    }

    #[test]
    fn a_cluster_hands_out_what_its_first_command_says() {
        let range = |first, last| NumberRange { first, last };
        let Kind::InitializeCluster(first) = initialize() else { unreachable!("it initializes") };
        let mut cluster = Cluster::empty();
        cluster.applied(Kind::InitializeCluster(InitializeCluster {
            numbers: Some(Numbers {
                minors: Some(range(20, 29)),
                ports: Some(range(9000, 9009)),
                reserved_ports: vec![range(9000, 9001), range(9003, 9003)],
            }),
            ..first
        }));
        cluster.add_nodes(2);
        for (name, minor, port) in [("a", 20, 9002), ("b", 21, 9004)] {
            cluster.add_resource(name, &["n1", "n2"]);
            let resource = cluster.state.resource(name).unwrap();
            assert_eq!(resource.volumes[0].minor, minor);
            assert!(resource.replicas.iter().all(|replica| replica.port == port), "{resource:?}");
        }
        let restored = State::from_records(cluster.state.records()).unwrap();
        assert_eq!(restored.cluster().reserved_ports, [range(9000, 9001), range(9003, 9003)]);
        assert_eq!(restored.index.ports["n1"], cluster.state.index.ports["n1"]);
    }

    #[test]
    fn the_clock_adds_up_what_leaders_waited() {
        let mut cluster = Cluster::initialized();
        cluster.applied(Kind::Tick(Tick { elapsed_ms: 400 }));
        cluster.applied(Kind::Tick(Tick { elapsed_ms: 600 }));
        assert_eq!(cluster.state.cluster().elapsed_ms, 1000);
        assert_eq!(cluster.reason(Kind::Tick(Tick { elapsed_ms: u64::MAX })), RejectionReason::Invalid);
    }

    #[test]
    fn the_feature_level_never_falls_nor_leaves_this_release_behind() {
        let mut cluster = Cluster::initialized();
        for (level, valid) in [(0, false), (FEATURE_LEVEL, true), (FEATURE_LEVEL + 1, false)] {
            let effect = cluster.commit(Kind::RaiseFeatureLevel(RaiseFeatureLevel { level }));
            assert_eq!(
                matches!(effect.outcome.outcome, Some(hawser_proto::v1::outcome::Outcome::Applied(_))),
                valid
            );
        }
    }

    #[test]
    fn a_controller_whose_state_differs_learns_it_from_the_committed_checksum() {
        let mut cluster = Cluster::initialized();
        let checked_revision = cluster.index;
        let sha256 = cluster.state.checksum().to_vec();
        cluster.index = CHECKSUM_INTERVAL;
        cluster.applied(create_node("n1", "10.0.0.1"));
        let mut differing = cluster.clone();

        let checksum =
            |at_revision, sha256: &[u8]| Kind::Checksum(Checksum { at_revision, sha256: sha256.to_vec() });
        assert_eq!(cluster.commit(checksum(checked_revision, &sha256)).divergence, None);
        assert_eq!(cluster.state.checkpoint().unwrap().checksum().to_vec(), sha256);
        let divergence = differing.commit(checksum(checked_revision, &[0; 32])).divergence.unwrap();
        assert_eq!(divergence.revision, checked_revision);
        assert_eq!(divergence.committed, "00".repeat(32));
        // Of any other revision nothing is known here.
        assert_eq!(differing.commit(checksum(checked_revision + 1, &[0; 32])).divergence, None);
    }
}
