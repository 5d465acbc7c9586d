//! Minors and ports that something else holds on the node: looked at regularly and reported, so that no resource
//! is given them.
//!
//! Only looking: what is not Hawser's is left alone.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hawser_proto::v1;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    host::{Host, Numbers},
    ledger::Ledger,
    report::Board,
};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(10);

/// Reports what is held beside the accepted document until `cancelled`.
pub(crate) async fn watch(host: Arc<dyn Host>, ledger: Ledger, board: Board, cancelled: CancellationToken) {
    loop {
        let held = host.numbers().await;
        // Read after the kernel was asked: whatever the kernel has of Hawser's is in it by then.
        let accepted = ledger.document().borrow().clone();
        let document = accepted.map(|accepted| accepted.document.clone()).unwrap_or_default();
        board.put_numbers(beside(&document, held));
        tokio::select! {
            () = cancelled.cancelled() => return,
            () = sleep(PERIOD) => {}
        }
    }
}

/// What is held but not by what the document has.
fn beside(document: &v1::DesiredDocument, mut held: Numbers) -> v1::NumbersObserved {
    let wanted = document.replicas.iter().flat_map(|replica| &replica.volumes);
    let removed = document.removed.iter().flat_map(|removed| &removed.volumes);
    for volume in wanted.chain(removed) {
        held.minors.remove(&volume.minor);
    }
    let peers = document.replicas.iter().flat_map(|replica| &replica.peers);
    for own in peers.filter(|peer| peer.node == document.node) {
        held.listening_ports.remove(&own.port);
    }
    v1::NumbersObserved {
        foreign_minors: ranges(&held.minors),
        listening_ports: ranges(&held.listening_ports),
        kernel_reserved_ports: ranges(&held.reserved_ports),
    }
}

fn ranges(numbers: &BTreeSet<u32>) -> Vec<v1::NumberRange> {
    let mut ranges: Vec<v1::NumberRange> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if range.last.checked_add(1) == Some(*number) => range.last = *number,
            _ => ranges.push(v1::NumberRange { first: *number, last: *number }),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_document_is_told_in_ranges() {
        let volume = |minor| v1::DesiredVolume { minor, ..Default::default() };
        let peer = |node: &str, port| v1::DesiredPeer { node: node.into(), port, ..Default::default() };
        let document = v1::DesiredDocument {
            node: "n1".into(),
            replicas: vec![v1::DesiredReplica {
                volumes: vec![volume(1000)],
                peers: vec![peer("n1", 7000), peer("n2", 7001)],
                ..Default::default()
            }],
            removed: vec![v1::RemovedReplica { volumes: vec![volume(1003)], ..Default::default() }],
            ..Default::default()
        };
        let held = Numbers {
            minors: [1000, 1001, 1002, 1003, 1005].into(),
            listening_ports: [22, 7000, 7001, 7002].into(),
            reserved_ports: [8080].into(),
        };
        let range = |first, last| v1::NumberRange { first, last };

        let told = beside(&document, held);

        assert_eq!(told.foreign_minors, [range(1001, 1002), range(1005, 1005)]);
        assert_eq!(told.listening_ports, [range(22, 22), range(7001, 7002)], "n2's port is free here");
        assert_eq!(told.kernel_reserved_ports, [range(8080, 8080)]);
    }
}
