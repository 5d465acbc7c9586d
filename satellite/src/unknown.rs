//! What lies on the node that only documents from before a restore name: looked at regularly and reported.
//!
//! Only looking: nothing of it is ever changed here, and nobody else is told to.

use std::{collections::BTreeMap, time::Duration};

use hawser_proto::{ids::DocumentVersion, v1};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::{Ledger, Unknown},
    observe::Observer,
    report::{self, Board},
};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(10);

/// Reports what is there of it until `cancelled`.
pub(crate) async fn watch(observer: Observer, ledger: Ledger, board: Board, cancelled: CancellationToken) {
    let mut document = ledger.document();
    loop {
        document.mark_unchanged();
        let mut found = BTreeMap::new();
        for unknown in ledger.unknown() {
            let Some(observed) = look(&observer, &ledger, &unknown).await else { return };
            found.insert(unknown.key, observed);
        }
        board.put_unknown(found);
        tokio::select! {
            () = cancelled.cancelled() => return,
            () = sleep(PERIOD) => {}
            changed = document.changed() => if changed.is_err() { return },
        }
    }
}

/// `None` if the satellite is ending.
async fn look(observer: &Observer, ledger: &Ledger, unknown: &Unknown) -> Option<v1::UnknownObserved> {
    let (presence, version) = match &unknown.desired {
        Ok(desired) => {
            let observation = observer.look(desired.subject(false)).await?;
            (report::replica::presence(desired, &observation.found), observation.version)
        }
        // What cannot be read cannot be looked for.
        Err(_) => (v1::Presence::Unknown, ledger.version()),
    };
    Some(observed(unknown, presence, version))
}

fn observed(unknown: &Unknown, presence: v1::Presence, version: DocumentVersion) -> v1::UnknownObserved {
    let (resource, incarnation) = &unknown.key;
    v1::UnknownObserved {
        resource: resource.clone(),
        replica_incarnation: incarnation.get(),
        presence: presence.into(),
        lineage: version.lineage.get(),
        revision: version.revision.get(),
    }
}
