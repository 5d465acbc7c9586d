//! Since when a replica differs from a peer without a resync at work on it.
//!
//! Right after a connection the kernels exchange bitmaps: for a moment there is a difference and no resync yet. So
//! only one that lasts tells of something wrong. It must never count what a resync is working on.

use std::collections::BTreeMap;

use hawser_proto::v1;
use tokio::time::Instant;

use crate::leader::loops::evidence::connected;

/// By peer and volume number: since when each report has shown the difference.
pub type Differing = BTreeMap<(String, u32), Instant>;

/// Whether DRBD's word for a replication says that it works on a difference.
#[must_use]
pub fn is_worked_on(replication: &str) -> bool {
    matches!(replication, "SyncSource" | "SyncTarget" | "PausedSyncS" | "PausedSyncT" | "VerifyS" | "VerifyT")
}

/// What the report shows, dated by the reports before it.
#[must_use]
pub fn since(before: &Differing, report: &v1::ReplicaObserved, now: Instant) -> Differing {
    let mut differing = Differing::new();
    for peer in report.peers.iter().filter_map(|peer| connected(report, &peer.node)) {
        for volume in &peer.volumes {
            if volume.out_of_sync_bytes > 0 && !is_worked_on(&volume.replication) {
                let key = (peer.node.clone(), volume.number);
                let first = before.get(&key).copied().unwrap_or(now);
                differing.insert(key, first);
            }
        }
    }
    differing
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(connection: &str, replication: &str, out_of_sync_bytes: u64) -> v1::ReplicaObserved {
        let volume = v1::PeerVolumeObserved {
            number: 0,
            replication: replication.into(),
            out_of_sync_bytes,
            ..Default::default()
        };
        let peer = v1::PeerObserved {
            node: "n2".into(),
            connection: connection.into(),
            volumes: vec![volume],
            ..Default::default()
        };
        v1::ReplicaObserved { peers: vec![peer], ..Default::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_difference_is_dated_from_the_first_report_of_an_unbroken_row() {
        let began = Instant::now();
        let key = ("n2".to_owned(), 0);
        let mut differing = Differing::new();
        let rows = [
            ("Connected", "Established", 0, None),
            ("Connected", "WFBitMapS", 8192, Some(1)),
            ("Connected", "Established", 4096, Some(1)),
            ("Connected", "SyncSource", 4096, None),
            ("Connected", "Established", 4096, Some(4)),
            ("Connecting", "Off", 4096, None),
            ("Connected", "Established", 4096, Some(6)),
        ];
        for (second, (connection, replication, bytes, expected)) in (0..).zip(rows) {
            let now = began + Duration::from_secs(second);
            differing = since(&differing, &report(connection, replication, bytes), now);
            let expected = expected.map(|second| began + Duration::from_secs(second));
            assert_eq!(differing.get(&key).copied(), expected, "second {second}");
        }
    }
}
