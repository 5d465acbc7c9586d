//! One-shot orders: how far each came, for the report.
//!
//! It must never run one: this release has no order that it may carry out. One that a document has is
//! reported as failed, with the reason, unless the ledger knows better.

use std::collections::BTreeMap;

use hawser_proto::v1;
use tokio_util::sync::CancellationToken;

use crate::{
    ledger::{Accepted, Ledger, OrderProgress},
    report::Board,
};

/// Reports the orders of the accepted document until `cancelled`.
pub(crate) async fn watch(ledger: Ledger, board: Board, cancelled: CancellationToken) {
    let mut document = ledger.document();
    loop {
        let accepted = document.borrow_and_update().clone();
        if let Some(accepted) = accepted {
            board.put_orders(observed(&ledger, &accepted));
            if let Err(error) = ledger.forget_ended_orders().await {
                tracing::warn!(%error, "ended orders are still remembered");
            }
        }
        tokio::select! {
            () = cancelled.cancelled() => return,
            changed = document.changed() => if changed.is_err() { return },
        }
    }
}

fn observed(ledger: &Ledger, accepted: &Accepted) -> BTreeMap<u64, v1::OrderObserved> {
    let lineage = accepted.document.lineage;
    let order = |id| {
        let (state, message) = match ledger.order(id) {
            None | Some(OrderProgress::Failed) => {
                (v1::OrderState::Failed, "this release of the satellite carries out no one-shot orders")
            }
            Some(OrderProgress::Done) => (v1::OrderState::Done, ""),
            Some(OrderProgress::Started | OrderProgress::Unknown) => {
                (v1::OrderState::Unknown, "it was found started after a crash and is not run again by itself")
            }
        };
        v1::OrderObserved { id, state: state.into(), message: message.to_owned(), lineage }
    };
    accepted.document.orders.iter().map(|wanted| (wanted.id, order(wanted.id))).collect()
}
