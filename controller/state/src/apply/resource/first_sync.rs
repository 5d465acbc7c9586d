//! Which of a resource's first replicas have to sync before they count.
//!
//! New storage that reads zero on every node is equal without a sync. Where one replica's is not, the first one's data
//! is the resource's by definition, whatever lies there, and each other one is behind it from the beginning. It must
//! never let two replicas count of which nobody has seen that they are equal.

use hawser_proto::{
    ids::OutdateNumber,
    v1::{Arbitration, StoragePool, storage_pool::Provider},
};

use super::Place;
use crate::apply::arbitration::with_outdated;

/// The marks of those that are behind from the beginning; `None` if all are equal.
pub(super) fn marks(places: &[Place], number: OutdateNumber) -> Option<Arbitration> {
    if places.iter().all(|place| new_volumes_read_zero(&place.pool)) {
        return None;
    }
    let behind = places.iter().skip(1).map(|place| place.node.name.as_str());
    behind.fold(None, |marks, node| Some(with_outdated(marks.unwrap_or_default(), node, number)))
}

/// Whether a volume that was just made in the pool is all zeroes. The node looks again before it relies on it.
fn new_volumes_read_zero(pool: &StoragePool) -> bool {
    match &pool.provider {
        Some(Provider::LvmThin(_) | Provider::Zfs(_) | Provider::Directory(_)) => true,
        Some(Provider::Lvm(_)) | None => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use hawser_proto::v1::{
        ConfirmResourceReady, CreatePool, LvmProvider, PlacedReplica, RecordPoolCapacity, RejectionReason,
        Synced, command::Command as Kind, create_pool,
    };

    use crate::fixture::{Cluster, POOL, RESOURCE, create_attachment};

    const THICK: &str = "thick";

    /// Three nodes with a thin pool each; `n2` and `n3` have a volume group as well.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::with_nodes(3);
        for node in ["n2", "n3"] {
            cluster.applied(Kind::CreatePool(CreatePool {
                node: node.into(),
                name: THICK.into(),
                provider: Some(create_pool::Provider::Lvm(LvmProvider { volume_group: "vg1".into() })),
                overcommit_percent: 0,
            }));
            cluster.applied(Kind::RecordPoolCapacity(RecordPoolCapacity {
                node: node.into(),
                name: THICK.into(),
                incarnation: cluster.index,
                capacity_bytes: 1 << 40,
            }));
        }
        cluster
    }

    fn create(cluster: &mut Cluster, places: [(&str, &str); 2]) -> u64 {
        let mut create = cluster.create_resource(RESOURCE, &[]);
        create.placed = places
            .into_iter()
            .map(|(node, pool)| PlacedReplica {
                pool: pool.into(),
                pool_incarnation: cluster.state.pool(node, pool).unwrap().incarnation,
                ..cluster.placed(node)
            })
            .collect();
        cluster.applied(Kind::CreateResource(create));
        cluster.index
    }

    #[test]
    fn all_start_equal_on_storage_that_reads_zero_and_all_but_the_first_sync_elsewhere() {
        for (places, day0) in [
            ([("n1", POOL), ("n2", POOL)], [true, true]),
            ([("n2", THICK), ("n3", THICK)], [true, false]),
            ([("n1", POOL), ("n2", THICK)], [true, false]),
            ([("n2", THICK), ("n1", POOL)], [true, false]),
        ] {
            let mut cluster = cluster();
            create(&mut cluster, places);

            for ((node, _), starts) in places.into_iter().zip(day0) {
                let document = cluster.state.document(node).unwrap();
                let replica = &document.replicas[0];
                assert_eq!(replica.day0_generation_id != 0, starts, "{places:?}: {node}");
                assert_eq!(replica.outdated_number == 0, starts, "{places:?}: {node}");
            }
        }
    }

    #[test]
    fn what_has_to_sync_takes_nothing_over_until_it_has() {
        let mut cluster = cluster();
        let incarnation = create(&mut cluster, [("n2", THICK), ("n3", THICK)]);
        let synced = Kind::Synced(Synced {
            resource: RESOURCE.into(),
            resource_incarnation: incarnation,
            node: "n3".into(),
            number: incarnation,
        });
        assert_eq!(
            cluster.reason(synced.clone()),
            RejectionReason::Precondition,
            "it keeps its mark until all are ready"
        );
        cluster.applied(Kind::ConfirmResourceReady(ConfirmResourceReady {
            resource: RESOURCE.into(),
            incarnation,
        }));

        assert_eq!(cluster.reason(create_attachment("n3")), RejectionReason::Outdated);

        cluster.applied(synced);
        cluster.applied(create_attachment("n3"));
    }
}
