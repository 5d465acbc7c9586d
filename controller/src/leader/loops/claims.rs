//! A claim to take over of which this leader has no request is withdrawn: what the node keeps away may come again. A new
//! leader is asked only once requests had the time to come to it.

use hawser_proto::v1::{self, command::Command};
use hawser_state::State;

use crate::leader::take_over_requests::TakeOverRequests;

/// `WithdrawClaim` for each claim that nobody asks for any more.
pub(super) fn decide(state: &State, requests: &TakeOverRequests) -> Vec<Command> {
    let claims = state.resources().filter_map(|resource| {
        let claim = resource.arbitration.as_ref()?.claim.as_ref()?;
        Some((resource, claim))
    });
    claims
        .filter(|(resource, claim)| !requests.is_asked_for(&resource.name, &claim.node))
        .map(|(resource, claim)| {
            Command::WithdrawClaim(v1::WithdrawClaim {
                resource: resource.name.clone(),
                resource_incarnation: resource.incarnation,
                number: claim.number,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::loops::table::World;

    #[test]
    fn a_claim_stands_as_long_as_somebody_asks() {
        let mut world = World::attaching();
        let requests = TakeOverRequests::default();
        assert_eq!(decide(&world.state(), &requests), [], "there is none");

        let arbitration = world.resource.arbitration.get_or_insert_default();
        arbitration.claim = Some(v1::TakeOverClaim { node: "n2".into(), number: 45 });
        let withdrawn = [Command::WithdrawClaim(v1::WithdrawClaim {
            resource: "data".into(),
            resource_incarnation: 20,
            number: 45,
        })];
        assert_eq!(decide(&world.state(), &requests), withdrawn);
        let for_another_node = requests.begin("data", "n1");
        assert_eq!(decide(&world.state(), &requests), withdrawn);
        let asking = requests.begin("data", "n2");
        assert_eq!(decide(&world.state(), &requests), []);
        drop((asking, for_another_node));
        assert_eq!(decide(&world.state(), &requests), withdrawn);
    }
}
