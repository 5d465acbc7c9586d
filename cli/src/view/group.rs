//! Resource groups, and DRBD options.

use std::collections::BTreeMap;

use hawser_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use super::word;
use crate::output::table::Row;

#[derive(Debug, Serialize)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) replicas: u32,
    /// Null: any pool.
    pub(crate) pool: Option<String>,
    pub(crate) layers: Vec<String>,
    pub(crate) options: Options,
}

/// By the section of DRBD's configuration.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Options {
    pub(crate) resource: BTreeMap<String, String>,
    pub(crate) net: BTreeMap<String, String>,
    pub(crate) disk: BTreeMap<String, String>,
}

impl From<&v1::ResourceGroup> for Group {
    fn from(group: &v1::ResourceGroup) -> Self {
        Self {
            name: group.name.clone(),
            incarnation: group.incarnation,
            replicas: group.replicas,
            pool: word::text(&group.pool),
            layers: group.layers.iter().map(|layer| word::layer(*layer)).collect(),
            options: Options::from(group.options.as_ref()),
        }
    }
}

impl From<Option<&v1::DrbdOptions>> for Options {
    fn from(options: Option<&v1::DrbdOptions>) -> Self {
        options.cloned().map_or_else(Self::default, |options| Self {
            resource: options.resource,
            net: options.net,
            disk: options.disk,
        })
    }
}

impl Options {
    /// All of them in one line, each with its section.
    pub(crate) fn line(&self) -> String {
        [("resource", &self.resource), ("net", &self.net), ("disk", &self.disk)]
            .into_iter()
            .flat_map(|(section, options)| {
                options.iter().map(move |(key, value)| format!("{section}.{key}={value}"))
            })
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Row for Group {
    const COLUMNS: &'static [&'static str] = &["NAME", "REPLICAS", "POOL", "LAYERS", "OPTIONS"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.replicas.to_string(),
            self.pool.clone().unwrap_or_else(|| "any".to_owned()),
            self.layers.join(","),
            self.options.line(),
        ]
    }
}
