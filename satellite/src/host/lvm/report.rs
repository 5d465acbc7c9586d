//! Reads what `lvs` and `vgs` say with `--reportformat json --units b --nosuffix`.
//!
//! Pure. It must never take a missing field for zero.

use hawser_plan::step::Mark;
use hawser_proto::ids::Incarnation;
use serde::Deserialize;

use super::super::percentage;

/// The columns that [`parse_volumes`] needs, for `-o`.
pub const VOLUME_COLUMNS: &str = "vg_name,lv_name,lv_size,lv_attr,lv_tags,pool_lv,lv_active,data_percent,metadata_percent,zero,\
     lv_when_full,vg_free,vg_extent_size";

/// The columns that [`parse_groups`] needs, for `-o`.
pub const GROUP_COLUMNS: &str = "vg_name,vg_free,vg_extent_size";

/// One logical volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct LogicalVolume {
    /// Volume group.
    pub vg_name: String,
    /// Name.
    pub lv_name: String,
    /// Bytes.
    #[serde(deserialize_with = "number")]
    pub lv_size: u64,
    /// Attribute letters; the first is the type ("t" thin pool, "V" thin volume).
    pub lv_attr: String,
    /// Tags, by commas.
    pub lv_tags: String,
    /// Thin pool that it lies in; empty if in none.
    pub pool_lv: String,
    /// "active", or empty.
    pub lv_active: String,
    /// How full it is, in hundredths of a percent. `None` where LVM does not say, e.g. inactive.
    #[serde(deserialize_with = "permyriad")]
    pub data_percent: Option<u32>,
    /// Thin pools: how full the metadata is, in hundredths of a percent.
    #[serde(deserialize_with = "permyriad")]
    pub metadata_percent: Option<u32>,
    /// "zero" where new blocks are zeroed before use.
    pub zero: String,
    /// Thin pools: "queue" where a full one keeps writes waiting, "error" where it fails them. `None` in a report
    /// without that column.
    #[serde(default)]
    pub lv_when_full: Option<String>,
    /// Bytes that are free in the volume group. `None` in a report without that column.
    #[serde(default, deserialize_with = "optional_number")]
    pub vg_free: Option<u64>,
    /// Bytes that the volume group hands out at once. `None` in a report without that column.
    #[serde(default, deserialize_with = "optional_number")]
    pub vg_extent_size: Option<u64>,
}

/// One volume group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VolumeGroup {
    /// Name.
    pub vg_name: String,
    /// Bytes that are free in it.
    #[serde(deserialize_with = "number")]
    pub vg_free: u64,
    /// Bytes that it hands out at once.
    #[serde(deserialize_with = "number")]
    pub vg_extent_size: u64,
}

impl LogicalVolume {
    /// Whether it is a thin pool.
    pub fn is_thin_pool(&self) -> bool {
        self.lv_attr.starts_with('t')
    }

    /// Whether a full pool keeps writes waiting instead of failing them.
    pub fn queues_when_full(&self) -> bool {
        self.lv_when_full.as_deref() == Some("queue")
    }

    /// Whether its device is there.
    pub fn is_active(&self) -> bool {
        self.lv_active == "active"
    }

    /// Hawser's mark, if all its parts are among the tags.
    pub fn mark(&self) -> Option<Mark> {
        let find = |prefix: &str| self.lv_tags.split(',').find_map(|tag| tag.strip_prefix(prefix));
        let mark = Mark {
            cluster_id: find("hawser:")?.to_owned(),
            resource: find("hawser-resource:")?.to_owned(),
            replica_incarnation: find("hawser-replica:")?.parse().ok().map(Incarnation::new)?,
            volume: find("hawser-volume:")?.parse().ok()?,
        };
        // A number that is written in another way is not Hawser's writing.
        let is_tag = |tag: &String| self.lv_tags.split(',').any(|found| found == tag);
        tags(&mark).iter().all(is_tag).then_some(mark)
    }
}

/// The tags that carry a mark.
pub fn tags(mark: &Mark) -> [String; 4] {
    [
        format!("hawser:{}", mark.cluster_id),
        format!("hawser-resource:{}", mark.resource),
        format!("hawser-replica:{}", mark.replica_incarnation),
        format!("hawser-volume:{}", mark.volume),
    ]
}

/// Whether LVM takes a word as a name or tag, without any meaning for its selection language.
pub fn is_plain(word: &str) -> bool {
    !word.is_empty()
        && word.len() <= 127
        && !word.starts_with('-')
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.+-:".contains(&byte))
}

/// Reads the volumes of an `lvs` report.
///
/// # Errors
/// The text is not such a report; the words say where.
pub fn parse_volumes(text: &str) -> Result<Vec<LogicalVolume>, String> {
    let report: Report = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(report.report.into_iter().flat_map(|part| part.lv).collect())
}

/// Reads the groups of a `vgs` report.
///
/// # Errors
/// The text is not such a report; the words say where.
pub fn parse_groups(text: &str) -> Result<Vec<VolumeGroup>, String> {
    let report: Report = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(report.report.into_iter().flat_map(|part| part.vg).collect())
}

#[derive(Deserialize)]
struct Report {
    report: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    lv: Vec<LogicalVolume>,
    #[serde(default)]
    vg: Vec<VolumeGroup>,
}

fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| serde::de::Error::custom(format!("not a number of bytes: {text:?}")))
}

fn optional_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    number(deserializer).map(Some)
}

fn permyriad<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    percentage::permyriad(&text)
        .map(Some)
        .ok_or_else(|| serde::de::Error::custom(format!("not a percentage: {text:?}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use hawser_hostile::{check, each_cut, texts};

    use super::*;

    const POOL_AND_VOLUMES: &str = include_str!("../../../tests/recorded/lvs_pool_and_volumes.json");
    const NOTHING: &str = include_str!("../../../tests/recorded/lvs_nothing_found.json");
    const VOLUME_GROUP: &str = include_str!("../../../tests/recorded/lvs_volume_group.json");
    const GROUP: &str = include_str!("../../../tests/recorded/vgs_one_group.json");

    #[test]
    fn a_pool_and_its_volumes_are_read() {
        let volumes = parse_volumes(POOL_AND_VOLUMES).unwrap();
        let pool = &volumes[0];
        assert!(pool.is_thin_pool() && pool.is_active());
        assert_eq!(
            (pool.lv_size, pool.data_percent, pool.metadata_percent),
            (734_003_200, Some(0), Some(1094))
        );
        assert_eq!(pool.zero, "zero");
        assert!(!pool.queues_when_full(), "it was recorded without that column");
        let volume = &volumes[1];
        assert!(!volume.is_thin_pool());
        assert_eq!((volume.lv_name.as_str(), volume.pool_lv.as_str()), ("vol1.9-0", "thin"));
        assert_eq!(
            volume.mark(),
            Some(Mark {
                cluster_id: "c1".into(),
                resource: "vol1".into(),
                replica_incarnation: Incarnation::new(9),
                volume: 0
            })
        );
    }

    #[test]
    fn volumes_that_are_cut_from_a_group_are_read_with_what_is_free_in_it() {
        let volumes = parse_volumes(VOLUME_GROUP).unwrap();
        let [first, second, pool] = &volumes[..] else { panic!("{volumes:?}") };
        assert!(volumes.iter().all(|volume| volume.vg_free == Some(58_720_256) && volume.is_active()));
        assert_eq!(first.mark().map(|mark| mark.resource), Some("big".into()));
        assert_eq!((second.lv_size, second.pool_lv.as_str(), second.data_percent), (159_383_552, "", None));
        assert!(pool.is_thin_pool() && pool.mark().is_none());
        let group = VolumeGroup { vg_name: "vg0".into(), vg_free: 58_720_256, vg_extent_size: 4_194_304 };
        assert_eq!(parse_groups(GROUP).unwrap(), [group]);
        assert!(parse_groups(&GROUP.replace("58720256", "")).is_err());
    }

    #[test]
    fn a_mark_with_a_part_missing_is_none() {
        let mut volume = parse_volumes(POOL_AND_VOLUMES).unwrap().remove(1);
        let mark = volume.mark().unwrap();
        for missing in tags(&mark) {
            volume.lv_tags =
                tags(&mark).into_iter().filter(|tag| *tag != missing).collect::<Vec<_>>().join(",");
            assert_eq!(volume.mark(), None, "without {missing}");
        }
        volume.lv_tags = tags(&mark).join(",").replace("hawser-replica:9", "hawser-replica:09");
        assert_eq!(volume.mark(), None, "Hawser writes no such number");
        volume.lv_tags = tags(&mark).join(",") + ",someone-elses";
        assert_eq!(volume.mark(), Some(mark));
    }

    #[test]
    fn nothing_found_is_an_empty_list_and_nonsense_an_error() {
        assert_eq!(parse_volumes(NOTHING).unwrap(), []);
        assert!(parse_volumes("").is_err());
        assert!(parse_volumes(r#"{"report":[{"lv":[{"vg_name":"v"}]}]}"#).unwrap_err().contains("lv_name"));
        assert!(parse_volumes(&POOL_AND_VOLUMES.replace("734003200", "many")).is_err());
    }

    #[test]
    fn hostile_reports_of_volumes() {
        const QUEUES: &str = include_str!("../../../tests/recorded/lvs_pool_that_queues.json");
        let words =
            ["lv", "report", "lv_size", "data_percent", "hawser-volume:00", "hawser-replica:09", "100.00"];
        let recorded = [POOL_AND_VOLUMES, NOTHING, QUEUES, VOLUME_GROUP];
        check(&texts(&recorded, &words), |text| match parse_volumes(&text) {
            Ok(volumes) => {
                for (volume, mark) in volumes.iter().filter_map(|volume| Some((volume, volume.mark()?))) {
                    let has = |tag: &String| volume.lv_tags.split(',').any(|word| word == tag);
                    assert!(
                        tags(&mark).iter().all(has),
                        "{mark:?} is not what the tags say: {}",
                        volume.lv_tags
                    );
                }
            }
            Err(words) => assert!(words.contains("line"), "{words} does not say where"),
        });
    }

    #[test]
    fn hostile_reports_of_groups() {
        check(&texts(&[GROUP], &["vg", "vg_free", "-1"]), |text| {
            if let Err(words) = parse_groups(&text) {
                assert!(words.contains("line"), "{words} does not say where");
            }
        });
    }

    #[test]
    fn a_report_that_was_cut_short_is_never_a_shorter_list() {
        let whole = parse_volumes(POOL_AND_VOLUMES);
        each_cut(POOL_AND_VOLUMES.as_bytes(), |length, cut| {
            let read = parse_volumes(&String::from_utf8_lossy(cut));
            assert!(read.is_err() || read == whole, "after {length} bytes: {read:?}");
        });
    }

    #[test]
    fn names_cannot_carry_a_selection() {
        assert!(is_plain("vol1.9-0") && is_plain("hawser:2f0c-11"));
        for word in ["", "-x", "a b", "a\"", "a&&b", "a,b", "a{b}", "ä"] {
            assert!(!is_plain(word), "{word:?}");
        }
    }
}
