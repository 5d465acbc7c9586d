//! The cluster itself: members and their health.

use std::time::Duration;

use hawser_proto::{
    names,
    v1::{self, RejectionReason, cluster_service_server::ClusterService, command::Command},
};
use tonic::{Request, Response, Status};

use super::{backup, unknown};
use crate::{
    api::{
        context::{Context, result},
        error::ApiError,
    },
    consensus::{HandOverError, MemberStatus},
};

/// How long an answer waits for Raft to let a removed member go: two changes of the voters, with a hand-over before.
const LEAVING: Duration = Duration::from_secs(10);

/// `ClusterService`.
pub struct Cluster(pub Context);

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let status = self.0.consensus.status();
        let state = self.0.consensus.view().state();
        let members = status.members.into_iter().map(member_view).collect();
        Ok(Response::new(v1::GetStatusResponse {
            cluster_id: status.cluster_id,
            cluster_name: status.cluster_name,
            lineage: status.lineage,
            member: status.member.name,
            term: status.term,
            leader: status.leader.unwrap_or_default(),
            applied_revision: status.applied,
            members,
            feature_level: state.cluster().feature_level,
            has_quorum: status.has_quorum && status.running,
            numbers: state.is_initialized().then(|| numbers(state.cluster())),
            waits_for_nodes: state.waits_for().map(|node| node.name.clone()).collect(),
            unknown_replicas: u32::try_from(state.unknown().count()).unwrap_or(u32::MAX),
        }))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::AddMemberResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::AddMemberRequest { name, address, .. } = request.into_inner();
        names::member_name("name", &name).map_err(ApiError::from)?;
        names::endpoint("address", &address).map_err(ApiError::from)?;
        let announce = v1::AnnounceMember { name: name.clone(), address: address.clone() };
        let applied = write.propose(Command::AnnounceMember(announce)).await?;

        let state = self.0.consensus.view().state();
        let cluster = state.cluster();
        let ticket = v1::JoinTicket {
            cluster_id: cluster.cluster_id.clone(),
            cluster_name: cluster.name.clone(),
            raft_id: applied.number,
            name,
            address,
            members: state.members().filter(|member| member.store_incarnation != 0).cloned().collect(),
            lineage: cluster.lineage,
        };
        Ok(Response::new(v1::AddMemberResponse { result: result(&applied), ticket: Some(ticket) }))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let (write, name, answered) =
            self.0.begin(request, |request| &request.request_key, |request| checked(request.name))?;
        let consensus = &self.0.consensus;
        let decide = async {
            let raft_id = self.known(&name)?.raft_id;
            // Of the last one the state knows it, too, and has the better words.
            if consensus.view().state().members().count() > 1 {
                consensus.check_removal(raft_id).await.map_err(|why| {
                    let message = format!("controller {name} cannot be removed now: {why}");
                    ApiError::rejected(RejectionReason::Precondition, message)
                })?;
            }
            let removal = v1::RemoveMember { raft_id, name: name.clone() };
            write.propose(Command::RemoveMember(removal)).await
        };
        let applied = write.once(answered, decide).await?;
        let left = consensus.wait_until_left(applied.number, LEAVING).await;
        let has_left = left.map_err(|lost| ApiError::Unavailable(lost.to_string()))?;
        let members = consensus.status().members.into_iter().map(member_view).collect();
        let (result, raft_id) = (result(&applied), applied.number);
        Ok(Response::new(v1::RemoveMemberResponse { result, raft_id, has_left, members }))
    }

    async fn transfer_leadership(
        &self,
        request: Request<v1::TransferLeadershipRequest>,
    ) -> Result<Response<v1::TransferLeadershipResponse>, Status> {
        let leader = checked(request.into_inner().name)?;
        let successor = self.known(&leader)?;
        let term = self.0.consensus.transfer_leadership(&successor).await.map_err(|error| {
            let message = error.to_string();
            match error {
                HandOverError::Unfit(_) => ApiError::rejected(RejectionReason::Precondition, message),
                HandOverError::NotLeading | HandOverError::InVain(_) => ApiError::Unavailable(message),
            }
        })?;
        Ok(Response::new(v1::TransferLeadershipResponse { leader, term }))
    }

    type BackupStream = backup::Chunks;

    async fn backup(
        &self,
        _request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Ok(Response::new(backup::take(&self.0).await?))
    }

    async fn list_unknown(
        &self,
        request: Request<v1::ListUnknownRequest>,
    ) -> Result<Response<v1::ListUnknownResponse>, Status> {
        Ok(Response::new(unknown::list(&self.0, request.into_inner()).await?))
    }
}

fn checked(name: String) -> Result<String, ApiError> {
    names::member_name("name", &name)?;
    Ok(name)
}

impl Cluster {
    /// The controller of this name.
    fn known(&self, name: &str) -> Result<v1::Member, ApiError> {
        let state = self.0.consensus.view().state();
        if let Some(member) = state.members().find(|member| member.name == name) {
            return Ok(member.clone());
        }
        let removed = state.cluster().removed_members.iter().rfind(|member| member.name == name);
        let message = match removed {
            Some(member) => format!(
                "controller {name} (member {}) has been removed already; `hawser cluster status` shows the others",
                member.raft_id
            ),
            None => {
                format!("there is no controller {name}; `hawser cluster status` shows the controllers")
            }
        };
        let reason = RejectionReason::NotFound.into();
        Err(ApiError::Rejected(v1::Rejected { reason, field: "name".into(), message }))
    }
}

fn member_view(status: MemberStatus) -> v1::MemberView {
    v1::MemberView {
        role: status.role.into(),
        matched_revision: status.matched.unwrap_or_default(),
        member: Some(status.member),
        reason: status.reason,
    }
}

fn numbers(cluster: &v1::ClusterRecord) -> v1::Numbers {
    v1::Numbers {
        minors: Some(v1::NumberRange { first: cluster.first_minor, last: cluster.last_minor }),
        ports: Some(v1::NumberRange { first: cluster.first_port, last: cluster.last_port }),
        reserved_ports: cluster.reserved_ports.clone(),
    }
}
