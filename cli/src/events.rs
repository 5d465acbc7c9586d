//! `hawser events`: what changes in the cluster, as it happens, across changes of leader and lost controllers.
//!
//! It must never leave a change out: where changes are no longer kept, it says so and ends.

use clap::{Args, ValueEnum};
use hawser_proto::v1::{self, ObjectKind};

use crate::{context::Context, failure::Failure, view::change::Change};

/// Stands for the revision that the cluster has come to when the command is typed.
const NOW: &str = "now";

/// Follow what changes: nodes, pools, groups, resources, attachments, operations and controllers
///
/// Without --after it begins now; with it, it begins after that revision, as long as the controllers still keep
/// what came since. It goes on until it is interrupted, or has come to the revision of --until. With -o json each
/// change is one line, with -o yaml one document.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hawser events
  hawser events --kind resource --kind operation
  hawser events --name data --after 120 --until now -o json")]
pub(crate) struct Events {
    /// Begin after this revision, e.g. that of a list's JSON form
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    after: Option<u64>,
    /// End once everything up to this revision has been said; `now` is the present one
    #[arg(long, value_name = "REVISION|now", value_parser = Until::parse)]
    until: Option<Until>,
    /// Only objects of this kind; may be repeated
    #[arg(long = "kind", value_enum, value_name = "KIND")]
    kinds: Vec<Kind>,
    /// Only the object of this name, and the attachments and operations that are about it
    #[arg(long)]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Revision(u64),
    Now,
}

impl Until {
    fn parse(text: &str) -> Result<Self, String> {
        if text == NOW {
            return Ok(Self::Now);
        }
        text.parse().map(Self::Revision).map_err(|_| format!("write a revision, or `{NOW}`"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Node,
    Pool,
    Group,
    Resource,
    Attachment,
    Operation,
    /// A controller
    Member,
}

impl From<Kind> for ObjectKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Node => Self::Node,
            Kind::Pool => Self::Pool,
            Kind::Group => Self::Group,
            Kind::Resource => Self::Resource,
            Kind::Attachment => Self::Attachment,
            Kind::Operation => Self::Operation,
            Kind::Member => Self::Member,
        }
    }
}

impl Events {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let until = match self.until {
            Some(Until::Now) => Some(present_revision(context).await?),
            Some(Until::Revision(revision)) => Some(revision),
            None => None,
        };
        if let (Some(after), Some(until)) = (self.after, until)
            && until < after
        {
            return Err(Failure::Usage(format!(
                "--until {until} lies before --after {after}: there is nothing in between"
            )));
        }
        let kinds = self.kinds.iter().map(|kind| ObjectKind::from(*kind).into()).collect();
        let mut watch = context.client.watch(v1::WatchRequest {
            after_revision: self.after.unwrap_or_default(),
            kinds,
            name: self.name.clone().unwrap_or_default(),
        });
        loop {
            let heard = watch.next().await?;
            if until.is_none_or(|until| heard.revision <= until) {
                for change in Change::all(&heard) {
                    context.screen.event(&change, &change.line())?;
                }
            }
            if until.is_some_and(|until| heard.revision >= until) {
                return Ok(());
            }
        }
    }
}

/// What every acknowledged change has come to by now.
async fn present_revision(context: &Context) -> Result<u64, Failure> {
    let page = Some(v1::PageRequest { size: 1, token: String::new() });
    let request = v1::ListResourceGroupsRequest { page, ..Default::default() };
    let answer = context
        .read("read the present revision", async |controller| {
            controller.resource_groups().list_resource_groups(request.clone()).await
        })
        .await?;
    Ok(answer.revision)
}

#[cfg(test)]
mod tests {
    use hawser_hostile::{check, texts};

    use super::*;

    #[test]
    fn hostile_ends() {
        check(&texts(&["120", NOW], &["now"]), |text| match Until::parse(&text) {
            Ok(Until::Now) => assert_eq!(text, NOW),
            Ok(Until::Revision(revision)) => assert_eq!(text.parse(), Ok(revision)),
            Err(words) => assert!(words.contains("write a revision"), "{words}"),
        });
    }

    #[test]
    fn an_end_is_a_revision_or_now() {
        assert_eq!(Until::parse("120"), Ok(Until::Revision(120)));
        assert_eq!(Until::parse("now"), Ok(Until::Now));
        for text in ["", "-1", "soon"] {
            assert!(Until::parse(text).is_err(), "{text:?}");
        }
    }
}
