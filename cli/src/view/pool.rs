//! Storage pools.

use hawser_proto::{sizes, v1};
use jiff::Timestamp;
use serde::Serialize;

use super::{condition::Condition, word};
use crate::output::table::Row;

#[derive(Debug, Serialize)]
pub(crate) struct Pool {
    pub(crate) desired: PoolDesired,
    pub(crate) observed: Option<PoolObserved>,
    pub(crate) conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PoolDesired {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) provider: Option<Provider>,
    pub(crate) capacity_bytes: u64,
    pub(crate) promised_bytes: u64,
    /// Null: the provider's default.
    pub(crate) overcommit_percent: Option<u32>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Provider {
    LvmThin { volume_group: String, thin_pool: String },
    Lvm { volume_group: String },
    Zfs { dataset: String },
    Directory { path: String },
}

#[derive(Debug, Serialize)]
pub(crate) struct PoolObserved {
    pub(crate) capacity_bytes: u64,
    pub(crate) free_bytes: u64,
    /// Of a thin pool, in hundredths of a percent.
    pub(crate) metadata_used_permyriad: u32,
    pub(crate) problem: Option<String>,
}

impl From<&v1::PoolView> for Pool {
    fn from(view: &v1::PoolView) -> Self {
        let desired = view.desired.clone().unwrap_or_default();
        Self {
            desired: PoolDesired {
                node: desired.node,
                name: desired.name,
                incarnation: desired.incarnation,
                provider: desired.provider.map(Provider::from),
                capacity_bytes: desired.capacity_bytes,
                promised_bytes: desired.promised_bytes,
                overcommit_percent: (desired.overcommit_percent > 0).then_some(desired.overcommit_percent),
            },
            observed: view.observed.as_ref().map(|observed| PoolObserved {
                capacity_bytes: observed.capacity_bytes,
                free_bytes: observed.free_bytes,
                metadata_used_permyriad: observed.metadata_used_permyriad,
                problem: word::text(&observed.problem),
            }),
            conditions: Condition::all(&view.conditions),
        }
    }
}

impl From<v1::storage_pool::Provider> for Provider {
    fn from(provider: v1::storage_pool::Provider) -> Self {
        use v1::storage_pool::Provider as Of;
        match provider {
            Of::LvmThin(it) => Self::LvmThin { volume_group: it.volume_group, thin_pool: it.thin_pool },
            Of::Lvm(it) => Self::Lvm { volume_group: it.volume_group },
            Of::Zfs(it) => Self::Zfs { dataset: it.dataset },
            Of::Directory(it) => Self::Directory { path: it.path },
        }
    }
}

impl Provider {
    fn line(&self) -> String {
        match self {
            Self::LvmThin { volume_group, thin_pool } => format!("lvm-thin {volume_group}/{thin_pool}"),
            Self::Lvm { volume_group } => format!("lvm {volume_group}"),
            Self::Zfs { dataset } => format!("zfs {dataset}"),
            Self::Directory { path } => format!("directory {path}"),
        }
    }
}

impl Row for Pool {
    const COLUMNS: &'static [&'static str] =
        &["NODE", "NAME", "PROVIDER", "CAPACITY", "FREE", "PROMISED", "OVERCOMMIT", "WHY"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let problem = self.observed.as_ref().and_then(|observed| observed.problem.clone());
        vec![
            self.desired.node.clone(),
            self.desired.name.clone(),
            self.desired.provider.as_ref().map(Provider::line).unwrap_or_default(),
            sizes::format(self.desired.capacity_bytes),
            self.observed.as_ref().map(|observed| sizes::format(observed.free_bytes)).unwrap_or_default(),
            sizes::format(self.desired.promised_bytes),
            self.desired.overcommit_percent.map_or("default".to_owned(), |percent| format!("{percent}%")),
            problem.unwrap_or_else(|| Condition::reasons(&self.conditions)),
        ]
    }

    fn amount(&self, column: &str) -> Option<u64> {
        match column {
            "CAPACITY" => Some(self.desired.capacity_bytes),
            "FREE" => self.observed.as_ref().map(|observed| observed.free_bytes),
            "PROMISED" => Some(self.desired.promised_bytes),
            _ => None,
        }
    }
}
