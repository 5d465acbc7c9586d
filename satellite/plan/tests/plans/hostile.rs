//! Documents that are damaged or that a controller got wrong: they are refused by field or planned, never tripped over.

use hawser_hostile::{bytes, check};
use hawser_plan::desired::Desired;
use hawser_proto::v1;
use prost::Message;

use crate::scene::Scene;

#[test]
fn hostile_documents() {
    let samples: Vec<Vec<u8>> = [Scene::attached(), Scene::frozen(), Scene::removing()]
        .into_iter()
        .map(|scene| {
            let removed = scene.removed.clone().into_iter().collect();
            v1::DesiredDocument { replicas: vec![scene.wanted.clone()], removed, ..scene.document() }
                .encode_to_vec()
        })
        .collect();
    let samples: Vec<&[u8]> = samples.iter().map(Vec::as_slice).collect();
    check(&bytes(&samples, &["n1", "n2", "db", "10.77.0.1", "fast"]), |bytes| {
        let Ok(document) = v1::DesiredDocument::decode(bytes.as_slice()) else { return };
        for (removed, entry) in
            document.removed.iter().map(|entry| (entry, Desired::of_removal(&document, entry)))
        {
            if let Err(refused) = entry {
                assert!(refused.to_string().contains(&removed.resource), "{refused}");
            }
        }
        for wanted in &document.replicas {
            match Desired::of_replica(&document, wanted) {
                Ok(desired) => {
                    assert!(!desired.volumes().is_empty());
                    if let Desired::Replica(replica) = &desired {
                        let _ = replica.drbd.as_ref().map(|drbd| drbd.fingerprint());
                    }
                    let mut scene = Scene::running();
                    scene.wanted = wanted.clone();
                    if Desired::of_replica(&scene.document(), wanted).is_ok() {
                        scene.plan();
                    }
                }
                Err(refused) => assert!(refused.to_string().contains(&wanted.resource), "{refused}"),
            }
        }
    });
}
