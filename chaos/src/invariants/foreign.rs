//! 11: nothing without Hawser's mark is ever changed or removed.

use super::seen::Seen;

/// What lay on each node before Hawser came.
pub(crate) const NOT_OURS: &str = "somebody-elses";

pub(super) fn check(seen: &Seen) -> Vec<String> {
    seen.nodes
        .iter()
        .filter(|node| !node.volumes.iter().any(|volume| volume.name == NOT_OURS && !volume.marked))
        .map(|node| format!("invariant 11: {} has lost a volume that is not Hawser's", node.name))
        .collect()
}

#[cfg(test)]
mod tests {
    use hawser_satellite::host::sim::VolumeSeen;

    use super::*;
    use crate::invariants::fixture::in_order;

    #[test]
    fn a_foreign_volume_must_stay_and_stay_foreign() {
        let mut seen = in_order();
        for node in &mut seen.nodes {
            node.volumes.push(VolumeSeen {
                group: "vg0".into(),
                name: NOT_OURS.into(),
                marked: false,
                consistent: false,
                blocks: Default::default(),
            });
        }
        assert_eq!(check(&seen), Vec::<String>::new());

        seen.nodes[0].volumes.retain(|volume| volume.marked);
        seen.nodes[1].volumes.iter_mut().for_each(|volume| volume.marked = true);

        assert_eq!(check(&seen).len(), 2);
    }
}
