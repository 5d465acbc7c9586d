//! Resource groups: the policy that resources are made from.
//!
//! It must never delete one that resources were made from.

use hawser_proto::{
    names,
    v1::{CreateResourceGroup, DeleteResourceGroup, Layer, ResourceGroup},
};

use super::{cluster::DEFAULT_GROUP, options};
use crate::{
    transaction::Transaction,
    verdict::{Denial, Success, Verdict},
};

/// Peers that DRBD 9 can have, and the node itself.
const MOST_REPLICAS: u32 = 32;

pub(super) fn create(transaction: &mut Transaction<'_>, command: &CreateResourceGroup) -> Verdict {
    names::group_name("name", &command.name)?;
    if transaction.state().group(&command.name).is_some() {
        return Err(Denial::already_exists(
            "name",
            format!("resource group {} exists already", command.name),
        ));
    }
    let layers = checked_layers(&command.layers)?;
    let replicated = layers.contains(&Layer::Drbd);
    let replicas = match command.replicas {
        0 if replicated => 2,
        0 => 1,
        replicas => replicas,
    };
    if replicas > MOST_REPLICAS {
        return Err(Denial::invalid("replicas", format!("a resource has at most {MOST_REPLICAS} replicas")));
    }
    if replicas > 1 && !replicated {
        return Err(Denial::invalid("replicas", "without the layer DRBD a resource has exactly 1 replica"));
    }
    if !command.pool.is_empty() {
        names::pool_name("pool", &command.pool)?;
    }
    if let Some(options) = &command.options {
        options::check("options", options)?;
    }
    transaction.put_group(ResourceGroup {
        name: command.name.clone(),
        incarnation: transaction.index,
        replicas,
        pool: command.pool.clone(),
        layers: layers.into_iter().map(Into::into).collect(),
        options: command.options.clone(),
    });
    Ok(Success::DONE)
}

fn checked_layers(layers: &[i32]) -> Verdict<Vec<Layer>> {
    let known: Vec<Layer> = layers.iter().map(|layer| Layer::try_from(*layer).unwrap_or_default()).collect();
    match known.as_slice() {
        [] => Ok(vec![Layer::Drbd, Layer::Storage]),
        [Layer::Drbd, Layer::Storage] | [Layer::Storage] => Ok(known),
        _ => Err(Denial::invalid("layers", "the layers are DRBD over STORAGE, or STORAGE alone")),
    }
}

pub(super) fn delete(transaction: &mut Transaction<'_>, command: &DeleteResourceGroup) -> Verdict {
    let state = transaction.state();
    if state.group(&command.name).is_none() {
        let message = format!(
            "resource group {} does not exist; `hawser group list` shows what there is",
            names::shown(&command.name)
        );
        return Err(Denial::not_found("name", message));
    }
    if command.name == DEFAULT_GROUP {
        return Err(Denial::precondition(format!(
            "resource group {DEFAULT_GROUP} is what resources are made from where no group is named: it stays"
        )));
    }
    if let Some(count) = state.index.resources_by_group.get(&command.name) {
        return Err(Denial::in_use(format!(
            "resource group {} is in use by resources made from it ({count}): delete them first",
            command.name
        )));
    }
    transaction.remove_group(&command.name);
    Ok(Success::DONE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use hawser_proto::v1::{DrbdOptions, RejectionReason, command::Command as Kind};

    use super::*;
    use crate::fixture::Cluster;

    fn options(section: &str, key: &str, value: &str) -> Option<DrbdOptions> {
        let entry = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let mut options = DrbdOptions::default();
        match section {
            "resource" => options.resource = entry,
            "net" => options.net = entry,
            _ => options.disk = entry,
        }
        Some(options)
    }

    fn group(name: &str) -> CreateResourceGroup {
        CreateResourceGroup { name: name.into(), ..CreateResourceGroup::default() }
    }

    #[test]
    fn what_is_not_said_is_chosen_by_the_layers() {
        let storage = i32::from(Layer::Storage);
        for (layers, replicas) in [(vec![], 2), (vec![Layer::Drbd.into(), storage], 2), (vec![storage], 1)] {
            let mut cluster = Cluster::initialized();
            cluster.applied(Kind::CreateResourceGroup(CreateResourceGroup { layers, ..group("fast") }));
            assert_eq!(cluster.state.group("fast").unwrap().replicas, replicas);
        }
    }

    #[test]
    fn bad_groups_are_refused_with_the_field() {
        let (drbd, luks, storage) = (Layer::Drbd.into(), Layer::Luks.into(), Layer::Storage.into());
        let cases = [
            (group("Fast"), "name"),
            (CreateResourceGroup { replicas: MOST_REPLICAS + 1, ..group("g") }, "replicas"),
            (CreateResourceGroup { replicas: 2, layers: vec![storage], ..group("g") }, "replicas"),
            (CreateResourceGroup { pool: "a/b".into(), ..group("g") }, "pool"),
            (CreateResourceGroup { layers: vec![drbd], ..group("g") }, "layers"),
            (CreateResourceGroup { layers: vec![storage, drbd], ..group("g") }, "layers"),
            (CreateResourceGroup { layers: vec![drbd, luks, storage], ..group("g") }, "layers"),
            (CreateResourceGroup { layers: vec![99], ..group("g") }, "layers"),
            (
                CreateResourceGroup { options: options("net", "max-buffers", "8k;}"), ..group("g") },
                "options.net.max-buffers",
            ),
            (CreateResourceGroup { options: options("disk", "Fencing", "x"), ..group("g") }, "options.disk"),
            (
                CreateResourceGroup { options: options("disk", "fencing", "dont-care"), ..group("g") },
                "options.disk.fencing",
            ),
            (
                CreateResourceGroup { options: options("net", "protocol", "A"), ..group("g") },
                "options.net.protocol",
            ),
            (
                CreateResourceGroup { options: options("resource", "quorum", "off"), ..group("g") },
                "options.resource.quorum",
            ),
        ];
        for (command, field) in cases {
            let rejected = Cluster::initialized().rejected(Kind::CreateResourceGroup(command.clone()));
            assert_eq!(
                (rejected.reason(), rejected.field.as_str()),
                (RejectionReason::Invalid, field),
                "{command:?}"
            );
        }
        let again = Cluster::initialized().reason(Kind::CreateResourceGroup(group(DEFAULT_GROUP)));
        assert_eq!(again, RejectionReason::AlreadyExists);
    }

    #[test]
    fn a_group_goes_when_no_resource_was_made_from_it() {
        let delete = |name: &str| Kind::DeleteResourceGroup(DeleteResourceGroup { name: name.into() });
        let mut cluster = Cluster::with_nodes(2);
        assert_eq!(cluster.reason(delete("none")), RejectionReason::NotFound);
        assert_eq!(cluster.reason(delete(DEFAULT_GROUP)), RejectionReason::Precondition);

        cluster.applied(Kind::CreateResourceGroup(CreateResourceGroup {
            options: options("net", "max-buffers", "8000"),
            ..group("fast")
        }));
        let mut create = cluster.create_resource("web", &["n1", "n2"]);
        create.group = "fast".into();
        cluster.applied(Kind::CreateResource(create));
        assert_eq!(cluster.reason(delete("fast")), RejectionReason::InUse);
        let document = cluster.state.document("n1").unwrap();
        assert_eq!(document.replicas[0].options.as_ref().unwrap().net["max-buffers"], "8000");
    }
}
