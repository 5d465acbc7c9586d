//! A controller whose disk is lost: with an empty one it is refused, under its old identity it is removed, and it joins
//! anew under another.
//!
//! It must never be more than one at a time: a majority keeps what was acknowledged, not each disk.

use std::{fs, time::Duration};

use hawser_controller::consensus::Consensus;
use hawser_proto::v1::{self, cluster_service_client::ClusterServiceClient};
use tokio::time::sleep;
use tonic::{Code, transport::Channel};

use super::{Cluster, address, host::Running, processes::join_order};
use crate::{
    api::{Administrator, Outcome},
    faults::FaultKind,
};

/// How long each call may go unanswered before it is made again.
const CALL: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(500);

/// A controller that is being replaced.
pub(super) struct Replacement {
    host: String,
    ticket: Running<v1::JoinTicket>,
}

impl Cluster {
    /// Takes the disk from the controller of a host, puts an empty one in its place, and lets an administrator replace
    /// the member. Nothing happens where that cannot be, or where another one is being replaced or does not vote yet.
    pub(crate) fn lose_controller_disk(&mut self, name: &str) {
        let may = self.size.controllers > 1 && self.replacement.is_none() && self.everybody_sees_all_vote();
        let Some(host) = self.hosts.get_mut(name).filter(|host| may && host.has_controller && host.powered)
        else {
            return;
        };
        host.disk.replace();
        host.has_empty_disk = true;
        let directory = host.directory.join("controller");
        self.kill_controller(name);
        if let Err(error) = fs::remove_dir_all(&directory).and_then(|()| fs::create_dir_all(&directory)) {
            self.violations.note(format!("the directory of {name} cannot be emptied: {error}"));
        }
        self.fired.note(FaultKind::ControllerDiskLost);
        self.start_controller(name);
        let ticket = Running::new();
        let names = self.names();
        let administrator = self.administrator("operator", &names);
        self.outside.spawn(replace(administrator, name.to_owned(), ticket.clone()));
        self.replacement = Some(Replacement { host: name.to_owned(), ticket });
    }

    /// Starts the controller that is being replaced, once it has been announced.
    pub(crate) fn go_on_replacing(&mut self) -> Result<(), String> {
        let announced = self
            .replacement
            .as_ref()
            .and_then(|replacement| Some((replacement.host.clone(), replacement.ticket.shown()?)));
        let Some((name, ticket)) = announced else { return Ok(()) };
        self.replacement = None;
        self.kill_controller(&name);
        self.order_store(&name, &join_order(ticket)).map_err(|error| error.to_string())?;
        if let Some(host) = self.hosts.get_mut(&name) {
            host.has_empty_disk = false;
        }
        self.restart(&name);
        Ok(())
    }

    /// What keeps all controllers from voting.
    pub(crate) fn missing_voters(&self) -> Vec<String> {
        let replaced =
            self.replacement.iter().map(|one| format!("the controller of {} is not replaced", one.host));
        let all_vote = self.consensus().values().any(|consensus| self.sees_all_vote(consensus));
        replaced.chain((!all_vote).then(|| "not all controllers vote".to_owned())).collect()
    }

    /// One that has just joined does not vote yet: of two that do, none may be lost. Who is behind may not know of it.
    fn everybody_sees_all_vote(&self) -> bool {
        self.consensus().values().all(|consensus| self.sees_all_vote(consensus))
    }

    fn sees_all_vote(&self, consensus: &Consensus) -> bool {
        let status = consensus.status();
        let voting = status.members.iter().filter(|member| member.role == v1::MemberRole::Voter);
        !status.changing_voters && voting.count() == self.size.controllers
    }
}

/// Removes the member and announces it anew, however often that has to be asked for: under the same key where nobody
/// answered, under another where it was refused.
async fn replace(administrator: Administrator, name: String, ticket: Running<v1::JoinTicket>) {
    let mut request_key = administrator.key();
    loop {
        let request = v1::RemoveMemberRequest { request_key: request_key.clone(), name: name.clone() };
        let ask = |channel: Channel| {
            let request = request.clone();
            async move { ClusterServiceClient::new(channel).remove_member(request).await }
        };
        match administrator.call(&format!("remove member {name}"), CALL, ask).await {
            Outcome::Done(_) => break,
            Outcome::Refused(status) if status.code() == Code::NotFound => break,
            Outcome::Refused(_) => request_key = administrator.key(),
            Outcome::Unknown => {}
        }
        sleep(PAUSE).await;
    }
    request_key = administrator.key();
    loop {
        let request = v1::AddMemberRequest {
            request_key: request_key.clone(),
            name: name.clone(),
            address: address(&name),
        };
        let ask = |channel: Channel| {
            let request = request.clone();
            async move { ClusterServiceClient::new(channel).add_member(request).await }
        };
        match administrator.call(&format!("add member {name}"), CALL, ask).await {
            Outcome::Done(answer) => {
                if let Some(given) = answer.ticket {
                    return ticket.show(given);
                }
            }
            Outcome::Refused(_) => request_key = administrator.key(),
            Outcome::Unknown => {}
        }
        sleep(PAUSE).await;
    }
}
