//! How a list is shown: in which order, and once or again and again.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    context::Context,
    failure::Failure,
    output::{order::Order, table::Row},
};

/// Between two looks of a list that is watched.
const PERIOD: Duration = Duration::from_secs(1);

/// Options of every list.
#[derive(Debug, clap::Args)]
pub(crate) struct Listing {
    /// Sort by this column, e.g. name; with `-` before it from the last to the first
    #[arg(long, value_name = "[-]COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Show it anew every second until interrupted; on a terminal only
    #[arg(long)]
    watch: bool,
}

impl Listing {
    /// Shows what `read` answers with its revision; `hint` is for people where there is nothing.
    pub(crate) async fn show<R: Row>(
        &self,
        context: &Context,
        hint: &str,
        read: impl AsyncFn() -> Result<(Vec<R>, u64), Failure>,
    ) -> Result<(), Failure> {
        let order = self.sort.as_deref().map(Order::read::<R>).transpose()?;
        if self.watch && !context.screen.can_be_painted() {
            return Err(Failure::Usage(
                "--watch paints a table on a terminal; follow changes with `hawser events` elsewhere"
                    .to_owned(),
            ));
        }
        if self.watch {
            context.screen.make_room()?;
        }
        loop {
            let (rows, revision) = read().await?;
            let now = Timestamp::now();
            let rows = match order {
                Some(order) => order.sorted(rows, now),
                None => rows,
            };
            if !self.watch {
                return context.screen.list(&rows, revision, hint);
            }
            context.screen.paint(&rows, hint, now)?;
            tokio::time::sleep(PERIOD).await;
        }
    }
}
