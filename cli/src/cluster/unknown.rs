//! `hawser cluster unknown`: what nodes hold that a restored cluster does not know.

use clap::Args;
use hawser_proto::v1;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    context::{Context, every_page},
    failure::Failure,
    listing::Listing,
    output::table::Row,
    view::word,
};

/// Show what nodes hold that the cluster, restored from a backup, does not know
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hawser cluster unknown
  hawser cluster unknown -o json

Volumes that were made after the backup go on as they are, and nothing of them is touched. Their names, minors and ports
are not handed out. To give one up, end who uses it and remove it by hand on each of its nodes, with drbdadm and lvremove:
a moment later the cluster forgets it.")]
pub(crate) struct Unknown {
    #[command(flatten)]
    listing: Listing,
}

/// One replica.
#[derive(Debug, Serialize)]
struct Replica {
    resource: String,
    node: String,
    resource_incarnation: u64,
    replica_incarnation: u64,
    drbd_name: Option<String>,
    minors: Vec<u32>,
    port: Option<u32>,
    pool: Option<String>,
    backing: Vec<String>,
    /// Whether its node sees anything of it right now: `present`, `absent`, or `unknown`.
    presence: String,
    /// Its resource is known, and so nothing of that is touched either.
    of_known_resource: bool,
}

impl Unknown {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let read = async || -> Result<(Vec<Replica>, u64), Failure> {
            let request = v1::ListUnknownRequest::default();
            let (replicas, revision) =
                every_page!(context, "list what is unknown", cluster.list_unknown, request, replicas);
            Ok((replicas.into_iter().map(Replica::from).collect(), revision))
        };
        self.listing.show(context, "nodes hold nothing that the cluster does not know", read).await
    }
}

impl From<v1::UnknownReplica> for Replica {
    fn from(unknown: v1::UnknownReplica) -> Self {
        let presence = word::presence(unknown.presence);
        let held = unknown.held.unwrap_or_default();
        let minors = held.volumes.iter().map(|volume| volume.minor);
        Self {
            minors: minors.filter(|minor| *minor != 0).collect(),
            backing: held.volumes.iter().map(|volume| volume.backing_name.clone()).collect(),
            resource: held.resource,
            node: held.node,
            resource_incarnation: held.resource_incarnation,
            replica_incarnation: held.replica_incarnation,
            drbd_name: word::text(&held.drbd_name),
            port: (held.port != 0).then_some(held.port),
            pool: word::text(&held.pool),
            presence,
            of_known_resource: unknown.of_known_resource,
        }
    }
}

impl Row for Replica {
    const COLUMNS: &'static [&'static str] =
        &["RESOURCE", "NODE", "MINORS", "PORT", "POOL", "BACKING", "THERE", "WHY"];

    fn cells(&self, _now: Timestamp) -> Vec<String> {
        let minors: Vec<_> = self.minors.iter().map(ToString::to_string).collect();
        let why = if self.of_known_resource {
            "made after the backup; the resource is known"
        } else {
            "made after the backup"
        };
        vec![
            self.resource.clone(),
            self.node.clone(),
            minors.join(","),
            self.port.map(|port| port.to_string()).unwrap_or_default(),
            self.pool.clone().unwrap_or_default(),
            self.backing.join(","),
            self.presence.clone(),
            why.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_shown_with_the_numbers_that_it_holds() {
        let volume = v1::DesiredVolume { minor: 1003, backing_name: "web.41-0".into(), ..Default::default() };
        let held = v1::HeldReplica {
            resource: "web".into(),
            node: "n1".into(),
            resource_incarnation: 41,
            replica_incarnation: 41,
            drbd_name: "web.41".into(),
            pool: "thin".into(),
            volumes: vec![volume],
            port: 7003,
            ..Default::default()
        };
        let replica = Replica::from(v1::UnknownReplica {
            held: Some(held),
            presence: v1::Presence::Present.into(),
            of_known_resource: false,
        });
        let cells = replica.cells(Timestamp::UNIX_EPOCH);
        assert_eq!(
            cells,
            ["web", "n1", "1003", "7003", "thin", "web.41-0", "present", "made after the backup"]
        );
    }
}
