//! How much a volume takes below DRBD: its data, DRBD's internal metadata, and the rounding of LVM.
//!
//! The result is never too small: what is asked for is usable. It must never be lowered, or volumes
//! of a running cluster would not fit their replicas any more.

use hawser_proto::{
    sizes::{KIB, MIB},
    v1::{DrbdGeneration, Layer},
};

/// LVM's default extent: the granularity of a logical volume.
const EXTENT: u64 = 4 * MIB;

/// Superblock (4 KiB) and activity log (32 KiB) of internal metadata, 8.4's v08 and 9's v09 alike.
const SUPERBLOCK_AND_ACTIVITY_LOG: u64 = 36 * KIB;

/// 128 MiB of device, at one bit for 4 KiB, need 4 KiB of bitmap; bitmaps come in units of that.
const BITMAP_UNIT_COVERS: u64 = 128 * MIB;
const BITMAP_UNIT: u64 = 4 * KIB;

/// Bytes of internal metadata on a backing device (DRBD User's Guide, "Estimating metadata size":
/// `ceil(sectors / 2^18) * 8 * peers + 72` sectors). 8.4 keeps one bitmap whatever its peers.
fn metadata_size(backing_bytes: u64, generation: DrbdGeneration, maximum_peers: u32) -> u64 {
    let bitmaps = match generation {
        DrbdGeneration::DrbdGeneration9 => u64::from(maximum_peers.max(1)),
        DrbdGeneration::DrbdGeneration84 | DrbdGeneration::Unspecified => 1,
    };
    backing_bytes.div_ceil(BITMAP_UNIT_COVERS) * BITMAP_UNIT * bitmaps + SUPERBLOCK_AND_ACTIVITY_LOG
}

/// Bytes that a pool has to provide for a volume of `usable_bytes`: whole extents that hold it and, with
/// DRBD among the layers, the metadata.
pub fn backing_size(
    usable_bytes: u64,
    layers: &[Layer],
    generation: DrbdGeneration,
    maximum_peers: u32,
) -> u64 {
    let mut backing = usable_bytes.next_multiple_of(EXTENT);
    if layers.contains(&Layer::Drbd) {
        // The metadata grows by less than a thousandth of what is added, so this ends after a few rounds.
        while backing - usable_bytes < metadata_size(backing, generation, maximum_peers) {
            backing += EXTENT;
        }
    }
    backing
}

#[cfg(test)]
mod tests {
    use hawser_proto::sizes::{GIB, TIB};
    use proptest::prelude::*;

    use super::*;

    const DRBD: [Layer; 2] = [Layer::Drbd, Layer::Storage];

    #[test]
    fn metadata_has_the_size_that_the_users_guide_gives() {
        // 1 GiB: ceil(2097152 / 262144) * 8 + 72 = 136 sectors.
        assert_eq!(metadata_size(GIB, DrbdGeneration::DrbdGeneration84, 7), 136 * 512);
        assert_eq!(metadata_size(GIB, DrbdGeneration::DrbdGeneration9, 1), 136 * 512);
        assert_eq!(metadata_size(GIB, DrbdGeneration::DrbdGeneration9, 7), (8 * 8 * 7 + 72) * 512);
        // 1 TiB: 8192 * 8 + 72 sectors.
        assert_eq!(metadata_size(TIB, DrbdGeneration::DrbdGeneration84, 1), 65_608 * 512);
    }

    #[test]
    fn a_volume_without_drbd_takes_whole_extents() {
        for (usable, backing) in [(4 * MIB, 4 * MIB), (4 * MIB + 1, 8 * MIB), (GIB, GIB)] {
            assert_eq!(backing_size(usable, &[Layer::Storage], DrbdGeneration::Unspecified, 0), backing);
        }
    }

    #[test]
    fn a_volume_with_drbd_takes_an_extent_more_for_the_metadata() {
        assert_eq!(backing_size(GIB, &DRBD, DrbdGeneration::DrbdGeneration84, 1), GIB + 4 * MIB);
        assert_eq!(backing_size(4 * MIB, &DRBD, DrbdGeneration::DrbdGeneration84, 1), 8 * MIB);
        assert_eq!(backing_size(GIB - 4 * MIB + 4096, &DRBD, DrbdGeneration::DrbdGeneration84, 1), GIB);
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_usable_and_no_extent_is_wasted(
            usable in 4 * MIB..=16 * TIB,
            peers in 1_u32..=31,
            nine in any::<bool>(),
        ) {
            let generation = if nine { DrbdGeneration::DrbdGeneration9 } else { DrbdGeneration::DrbdGeneration84 };
            let fits = |backing: u64| backing >= usable + metadata_size(backing, generation, peers);
            let backing = backing_size(usable, &DRBD, generation, peers);
            prop_assert!(backing.is_multiple_of(EXTENT));
            prop_assert!(fits(backing));
            prop_assert!(!fits(backing - EXTENT));
        }
    }
}
