//! The cluster itself: members and their health.

use hawser_proto::{
    names,
    v1::{self, cluster_service_server::ClusterService, command::Command},
};
use tonic::{Request, Response, Status};

use crate::api::{
    context::{Context, result},
    error::ApiError,
};

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
        let members = status
            .members
            .into_iter()
            .map(|member| v1::MemberView {
                role: member.role.into(),
                matched_revision: member.matched.unwrap_or_default(),
                member: Some(member.member),
            })
            .collect();
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
}

fn numbers(cluster: &v1::ClusterRecord) -> v1::Numbers {
    v1::Numbers {
        minors: Some(v1::NumberRange { first: cluster.first_minor, last: cluster.last_minor }),
        ports: Some(v1::NumberRange { first: cluster.first_port, last: cluster.last_port }),
        reserved_ports: cluster.reserved_ports.clone(),
    }
}
