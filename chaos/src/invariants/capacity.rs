//! 14: promised capacity never exceeds what the pool's policy allows, whatever is asked for at once; and what is noted
//! as promised is what the replicas were promised.

use hawser_proto::v1;
use hawser_state::promisable_bytes;

use super::seen::Seen;

pub(super) fn check(seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    for pool in seen.state.pools() {
        let promised = promised(seen, pool);
        if promised > promisable_bytes(pool) {
            found.push(format!(
                "invariant 14: pool {} on {} has promised {promised} bytes and may promise {}",
                pool.name,
                pool.node,
                promisable_bytes(pool)
            ));
        }
        if promised != pool.promised_bytes {
            found.push(format!(
                "invariant 14: pool {} on {} has promised {promised} bytes, but its ledger says {}",
                pool.name, pool.node, pool.promised_bytes
            ));
        }
    }
    found
}

fn promised(seen: &Seen, pool: &v1::StoragePool) -> u64 {
    let replicas = seen.state.resources().flat_map(|resource| &resource.replicas);
    replicas
        .filter(|replica| replica.node == pool.node && replica.pool == pool.name)
        .filter(|replica| replica.lifecycle() != v1::ReplicaLifecycle::Removed)
        .flat_map(|replica| &replica.backing_volumes)
        .map(|volume| volume.size_bytes)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::fixture::{in_order, with};

    #[test]
    fn promises_are_added_up_anew() {
        assert_eq!(check(&in_order()), Vec::<String>::new());

        let too_much = with(|objects| objects.pools[0].capacity_bytes = 99);
        assert_eq!(check(&too_much).len(), 1, "{:?}", check(&too_much));

        let forgotten = with(|objects| objects.pools[1].promised_bytes = 0);
        assert_eq!(check(&forgotten).len(), 1, "{:?}", check(&forgotten));
    }
}
