//! Why desired and observed differ, in words that name object, node and remedy. One place for all views.
//!
//! Pure: it never contacts a node. Where nothing is observed (a member that does not lead) only what Raft knows
//! is said. The order is that of usefulness: the first condition is what an operation waits for.

use hawser_proto::{sizes, v1};
use hawser_state::State;

use super::{
    loops::evidence::{connected, disk, is_diskful, is_replicated, outdated},
    observed::{NodeSeen, Observed, Sight},
};

fn condition(reason: &str, node: &str, message: impl Into<String>) -> v1::Condition {
    v1::Condition { reason: reason.into(), node: node.into(), message: message.into() }
}

/// Of a node.
#[must_use]
pub fn of_node(observed: Option<&Observed>, node: &v1::Node) -> Vec<v1::Condition> {
    let Some(observed) = observed else { return Vec::new() };
    let name = &node.name;
    let Some(seen) = observed.node(name).filter(|seen| seen.online) else {
        return vec![unreachable(name)];
    };
    let mut found = Vec::new();
    if !seen.complete {
        found.push(unreported(name));
    }
    found.extend(of_document(name, node, seen));
    if !seen.node.missing.is_empty() {
        let missing = seen.node.missing.join(", ");
        found.push(condition("ToolsMissing", name, format!("node {name} lacks {missing}; install it there")));
    }
    let facts = seen.node.facts.clone().unwrap_or_default();
    if facts.drbd_generation() == v1::DrbdGeneration::DrbdGeneration84 && !facts.helper_can_run {
        found.push(condition(
            "HelperCannotRun",
            name,
            format!("the kernel of node {name} may not run DRBD's fence-peer helper, so it can have no replica of a \
                     two-node resource; enable usermode_helper there"),
        ));
    }
    if !seen.foreign.is_empty() {
        found.push(condition(
            "ForeignResources",
            name,
            format!(
                "node {name} has DRBD resources that are not Hawser's: {}; they are left alone",
                seen.foreign.join(", ")
            ),
        ));
    }
    found
}

fn unreachable(node: &str) -> v1::Condition {
    condition(
        "NodeUnreachable",
        node,
        format!(
            "node {node} is not connected to the controllers; check the machine, its network and hawser-satellite"
        ),
    )
}

fn unreported(node: &str) -> v1::Condition {
    condition("NotReported", node, format!("node {node} has connected but not yet reported what it has"))
}

fn of_document(name: &str, node: &v1::Node, seen: &NodeSeen) -> Option<v1::Condition> {
    let document = &seen.document;
    if document.differs {
        return Some(condition(
            "DocumentDiffers",
            name,
            format!(
                "ALARM: node {name} holds other orders than the controllers have at revision {}; keep both for analysis",
                node.document_revision
            ),
        ));
    }
    if !document.refused.is_empty() {
        return Some(condition(
            "DocumentRefused",
            name,
            format!(
                "node {name} refused its orders of revision {}: {}",
                node.document_revision, document.refused
            ),
        ));
    }
    (document.accepted.1 < node.document_revision).then(|| {
        condition(
            "DocumentPending",
            name,
            format!("node {name} has not yet stored its orders of revision {}", node.document_revision),
        )
    })
}

/// Of a storage pool.
#[must_use]
pub fn of_pool(observed: Option<&Observed>, pool: &v1::StoragePool) -> Vec<v1::Condition> {
    let Some(observed) = observed else { return Vec::new() };
    let Some(seen) = observed.node(&pool.node).filter(|seen| seen.online) else {
        return vec![unreachable(&pool.node)];
    };
    let report = seen.pools.get(&pool.name).filter(|report| report.incarnation == pool.incarnation);
    match report {
        None => vec![condition(
            "NotReported",
            &pool.node,
            format!("node {} has not yet reported pool {}", pool.node, pool.name),
        )],
        Some(report) if !report.problem.is_empty() => vec![condition(
            "PoolUnusable",
            &pool.node,
            format!("pool {} on node {} cannot be used: {}", pool.name, pool.node, report.problem),
        )],
        Some(_) => Vec::new(),
    }
}

/// Of a resource and all its replicas.
#[must_use]
pub fn of_resource(
    state: &State,
    observed: Option<&Observed>,
    resource: &v1::Resource,
) -> Vec<v1::Condition> {
    resource.replicas.iter().flat_map(|replica| of_replica(state, observed, resource, replica)).collect()
}

/// Of one replica.
#[must_use]
pub fn of_replica(
    state: &State,
    observed: Option<&Observed>,
    resource: &v1::Resource,
    replica: &v1::Replica,
) -> Vec<v1::Condition> {
    let mut found = Vec::new();
    if let Some(mark) = outdated(resource, &replica.node) {
        found.push(condition(
            "Outdated",
            &replica.node,
            format!(
                "the copy of {} on node {} is behind since revision {}; it counts again once it has synced",
                resource.name, replica.node, mark.number
            ),
        ));
    }
    let Some(observed) = observed else { return found };
    let present = if replica.lifecycle() == v1::ReplicaLifecycle::Removed {
        Vec::new()
    } else {
        Look { state, resource, replica, node: &replica.node }.conditions(observed)
    };
    // What the node says comes first: it explains why the copy is behind.
    found.splice(0..0, present);
    found
}

/// One replica, looked at.
struct Look<'a> {
    state: &'a State,
    resource: &'a v1::Resource,
    replica: &'a v1::Replica,
    node: &'a str,
}

impl Look<'_> {
    fn conditions(&self, observed: &Observed) -> Vec<v1::Condition> {
        let Some(seen) = observed.node(self.node).filter(|seen| seen.online) else {
            return vec![unreachable(self.node)];
        };
        if !seen.complete {
            return vec![unreported(self.node)];
        }
        let document = self.state.node(self.node).and_then(|node| of_document(self.node, node, seen));
        let mut found: Vec<_> = document.into_iter().collect();
        let removing = self.replica.lifecycle() == v1::ReplicaLifecycle::Removing;
        match observed.replica(self.node, &self.resource.name, self.replica.incarnation) {
            Sight::Unknown => found.push(self.say(
                "Unknown",
                format!("node {} cannot tell whether it has a replica of {}", self.node, self.resource.name),
            )),
            Sight::Absent if removing => found.push(self.say(
                "Removing",
                format!(
                    "node {} has not yet confirmed that nothing of {} is left",
                    self.node, self.resource.name
                ),
            )),
            Sight::Absent => found.push(self.say(
                "NotCreated",
                format!("the replica of {} on node {} is not there yet", self.resource.name, self.node),
            )),
            Sight::Known(report) => {
                found.extend(self.trouble(report));
                if removing {
                    found.push(self.say(
                        "Removing",
                        format!(
                            "the replica of {} on node {} is being removed",
                            self.resource.name, self.node
                        ),
                    ));
                } else if is_replicated(self.resource) {
                    found.extend(self.replication(report));
                }
            }
        }
        found
    }

    fn say(&self, reason: &str, message: String) -> v1::Condition {
        condition(reason, self.node, message)
    }

    /// What the satellite itself complains about.
    fn trouble(&self, report: &v1::ReplicaObserved) -> Vec<v1::Condition> {
        let mut found = Vec::new();
        let (resource, node) = (&self.resource.name, self.node);
        if let Some(failure) = &report.failure {
            let command =
                if failure.command.is_empty() { String::new() } else { format!(" (`{}`)", failure.command) };
            found.push(self.say(
                "StepFailed",
                format!("{resource} on node {node}: {} failed{command}: {}", failure.step, failure.message),
            ));
        }
        if !report.suspended.is_empty() {
            found.push(self.say(
                "Frozen",
                format!(
                    "all I/O of {resource} on node {node} is frozen ({}); it goes on once the arbiter or the peer answers",
                    report.suspended
                ),
            ));
        }
        if !report.waits_for.is_empty() {
            found.push(self.say("Waiting", format!("{resource} on node {node} waits: {}", report.waits_for)));
        }
        let attachment = self.state.attachment(resource, node);
        let must_let_go = attachment.is_none_or(|attachment| {
            use v1::AttachmentLifecycle::{Detaching, Revoked};
            matches!(attachment.lifecycle(), Detaching | Revoked)
        });
        if must_let_go && !report.openers.is_empty() {
            let openers: Vec<_> =
                report.openers.iter().map(|opener| format!("{} (pid {})", opener.name, opener.pid)).collect();
            found.push(self.say(
                "HeldOpen",
                format!("{resource} on node {node} is held open by {}; end it there", openers.join(", ")),
            ));
        }
        found
    }

    fn replication(&self, report: &v1::ReplicaObserved) -> Vec<v1::Condition> {
        let mut found = Vec::new();
        let (resource, node) = (&self.resource.name, self.node);
        let peers = self.resource.replicas.iter().filter(|peer| {
            use v1::ReplicaLifecycle::{Removed, Removing};
            peer.node != self.node && !matches!(peer.lifecycle(), Removing | Removed)
        });
        for peer in peers {
            let Some(seen) = connected(report, &peer.node) else {
                let word = report.peers.iter().find(|seen| seen.node == peer.node);
                let word = word.map_or("not configured", |seen| seen.connection.as_str());
                found.push(self.say(
                    "NotConnected",
                    format!("{resource} on node {node} is not connected to node {}: {word}", peer.node),
                ));
                continue;
            };
            found.extend(seen.volumes.iter().filter(|volume| volume.out_of_sync_bytes > 0).map(|volume| {
                let left = sizes::format(volume.out_of_sync_bytes);
                match volume.replication.as_str() {
                    "SyncSource" | "SyncTarget" | "PausedSyncS" | "PausedSyncT" | "VerifyS" | "VerifyT" => self.say(
                        "Syncing",
                        format!(
                            "volume {} of {resource} on node {node} syncs with node {}: {} %, {left} left",
                            volume.number,
                            peer.node,
                            volume.done_permyriad / 100
                        ),
                    ),
                    _ => self.say(
                        "OutOfSync",
                        format!(
                            "ALARM: volume {} of {resource} on node {node} differs from node {} by {left} and no resync runs",
                            volume.number, peer.node
                        ),
                    ),
                }
            }));
        }
        if is_diskful(self.replica) {
            found.extend(self.resource.volumes.iter().filter_map(|volume| {
                let disk = disk(report, volume.number);
                (disk != v1::DiskState::UpToDate).then(|| {
                    self.say(
                        "DiskNotUpToDate",
                        format!(
                            "volume {} of {resource} on node {node} is {}",
                            volume.number,
                            disk_word(disk)
                        ),
                    )
                })
            }));
        }
        found
    }
}

/// DRBD's own spelling.
#[must_use]
pub fn disk_word(disk: v1::DiskState) -> &'static str {
    use v1::DiskState as D;
    match disk {
        D::Unspecified => "not there yet",
        D::Diskless => "Diskless",
        D::Attaching => "Attaching",
        D::Detaching => "Detaching",
        D::Failed => "Failed",
        D::Negotiating => "Negotiating",
        D::Inconsistent => "Inconsistent",
        D::Outdated => "Outdated",
        D::Unknown => "DUnknown",
        D::Consistent => "Consistent",
        D::UpToDate => "UpToDate",
    }
}

/// Of an attachment: why its node does not offer, or still holds, the resource.
#[must_use]
pub fn of_attachment(
    state: &State,
    observed: Option<&Observed>,
    attachment: &v1::Attachment,
) -> Vec<v1::Condition> {
    use v1::AttachmentLifecycle::{Attached, Revoked};
    let (name, node) = (&attachment.resource, &attachment.node);
    let Some(resource) = state.resource(name) else { return Vec::new() };
    let Some(replica) = resource.replicas.iter().find(|replica| &replica.node == node) else {
        return Vec::new();
    };
    let mut found = of_replica(state, observed, resource, replica);
    if attachment.lifecycle() == Revoked {
        found.insert(
            0,
            condition(
                "Revoked",
                node,
                format!("another node took {name} over; node {node} lets go once every process that holds it has ended"),
            ),
        );
    }
    let sight = observed.map(|observed| observed.replica(node, name, replica.incarnation));
    if let (Attached, Some(Sight::Known(report))) = (attachment.lifecycle(), sight) {
        if is_replicated(resource) && report.role() != v1::DrbdRole::Primary {
            found.push(condition("NotPrimary", node, format!("{name} is not Primary on node {node}")));
        }
        if !report.gate_open {
            found.push(condition("GateClosed", node, format!("the gate of {name} on node {node} is closed")));
        }
    }
    found
}

/// Of a running operation: what stands between its target and its end.
#[must_use]
pub fn of_operation(
    state: &State,
    observed: Option<&Observed>,
    operation: &v1::Operation,
) -> Vec<v1::Condition> {
    if operation.state() != v1::OperationState::Running {
        return Vec::new();
    }
    let Some(resource) = state.resource(&operation.resource) else { return Vec::new() };
    let all = match state.attachment(&operation.resource, &operation.node) {
        Some(attachment) => of_attachment(state, observed, attachment),
        None => of_resource(state, observed, resource),
    };
    // A mark or a syncing peer keeps nobody from attaching, detaching or deleting.
    let creating = operation.kind() == v1::OperationKind::CreateResource;
    all.into_iter()
        .filter(|condition| creating || !matches!(condition.reason.as_str(), "Outdated" | "Syncing"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    fn words(conditions: &[v1::Condition]) -> Vec<(&str, &str)> {
        conditions.iter().map(|condition| (condition.reason.as_str(), condition.node.as_str())).collect()
    }

    #[test]
    fn a_resource_in_order_has_none() {
        let world = World::attaching();
        let (state, observed) = (world.state(), world.observed());
        assert_eq!(of_resource(&state, Some(&observed), &world.resource), []);
        assert_eq!(of_attachment(&state, Some(&observed), &world.attachments[0]), []);
    }

    #[test]
    fn each_difference_is_named_with_its_node() {
        type Change = fn(&mut World);
        type Case = (&'static str, Change, &'static [(&'static str, &'static str)]);
        let table: [Case; 10] = [
            ("offline", |world| world.go_offline("n2"), &[("NodeUnreachable", "n2")]),
            ("no full report", |world| world.seen("n2").complete = false, &[("NotReported", "n2")]),
            ("no replica", |world| world.forget("n2"), &[("NotCreated", "n2")]),
            (
                "unknown",
                |world| world.report("n2").presence = v1::Presence::Unknown.into(),
                &[("Unknown", "n2")],
            ),
            (
                "cut off",
                |world| world.report("n1").peers[0].connection = "Connecting".into(),
                &[("NotConnected", "n1")],
            ),
            ("frozen", |world| world.report("n1").suspended = "fencing".into(), &[("Frozen", "n1")]),
            (
                "failing",
                |world| {
                    world.report("n2").failure = Some(v1::StepFailure {
                        step: "create-storage".into(),
                        command: "lvcreate -n x".into(),
                        message: "pool is full".into(),
                        attempts: 3,
                    });
                },
                &[("StepFailed", "n2")],
            ),
            (
                "syncing",
                |world| {
                    let volume = &mut world.report("n1").peers[0].volumes[0];
                    volume.replication = "SyncSource".into();
                    volume.out_of_sync_bytes = 4096;
                },
                &[("Syncing", "n1")],
            ),
            (
                "differing",
                |world| world.report("n1").peers[0].volumes[0].out_of_sync_bytes = 4096,
                &[("OutOfSync", "n1")],
            ),
            (
                "disk lost",
                |world| world.report("n2").volumes[0].disk = v1::DiskState::Diskless.into(),
                &[("DiskNotUpToDate", "n2")],
            ),
        ];
        for (what, change, expected) in table {
            let mut world = World::attaching();
            change(&mut world);
            let found = of_resource(&world.state(), Some(&world.observed()), &world.resource);
            assert_eq!(words(&found), expected, "{what}");
            assert!(found[0].message.contains(expected[0].1), "{}", found[0].message);
        }
    }

    #[test]
    fn a_revoked_attachment_names_who_holds_it() {
        let mut world = World::attaching();
        world.attachments[0].lifecycle = v1::AttachmentLifecycle::Revoked.into();
        world.report("n1").openers = vec![v1::Opener { pid: 77, name: "postgres".into() }];
        let found = of_attachment(&world.state(), Some(&world.observed()), &world.attachments[0]);
        assert_eq!(words(&found), [("Revoked", "n1"), ("HeldOpen", "n1")]);
        assert!(found[1].message.contains("postgres (pid 77)"), "{}", found[1].message);
    }

    #[test]
    fn a_member_that_observes_nothing_says_what_raft_knows() {
        let mut world = World::attaching();
        let arbitration = world.resource.arbitration.get_or_insert_default();
        arbitration.outdated = vec![v1::OutdatedReplica { node: "n2".into(), number: 45 }];
        let found = of_resource(&world.state(), None, &world.resource);
        assert_eq!(words(&found), [("Outdated", "n2")]);
    }
}
