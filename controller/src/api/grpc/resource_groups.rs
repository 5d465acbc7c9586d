//! Resource groups: placement and DRBD policy that resources are made from.

use hawser_proto::{
    names,
    v1::{self, command::Command, resource_group_service_server::ResourceGroupService},
};
use tonic::{Request, Response, Status};

use super::options;
use crate::api::{
    context::{Context, result},
    error::ApiError,
};

/// `ResourceGroupService`.
pub struct ResourceGroups(pub Context);

#[tonic::async_trait]
impl ResourceGroupService for ResourceGroups {
    async fn create_resource_group(
        &self,
        request: Request<v1::CreateResourceGroupRequest>,
    ) -> Result<Response<v1::CreateResourceGroupResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::CreateResourceGroupRequest { name, replicas, pool, layers, options, .. } =
            request.into_inner();
        names::group_name("name", &name).map_err(ApiError::from)?;
        if !pool.is_empty() {
            names::pool_name("pool", &pool).map_err(ApiError::from)?;
        }
        if let Some(options) = &options {
            options::check(options)?;
        }
        let command = v1::CreateResourceGroup { name, replicas, pool, layers, options };
        let applied = write.propose(Command::CreateResourceGroup(command)).await?;
        Ok(Response::new(v1::CreateResourceGroupResponse { result: result(&applied) }))
    }

    async fn delete_resource_group(
        &self,
        request: Request<v1::DeleteResourceGroupRequest>,
    ) -> Result<Response<v1::DeleteResourceGroupResponse>, Status> {
        let write = self.0.write(&request, &request.get_ref().request_key)?;
        let v1::DeleteResourceGroupRequest { name, .. } = request.into_inner();
        names::group_name("name", &name).map_err(ApiError::from)?;
        let applied = write.propose(Command::DeleteResourceGroup(v1::DeleteResourceGroup { name })).await?;
        Ok(Response::new(v1::DeleteResourceGroupResponse { result: result(&applied) }))
    }

    async fn list_resource_groups(
        &self,
        request: Request<v1::ListResourceGroupsRequest>,
    ) -> Result<Response<v1::ListResourceGroupsResponse>, Status> {
        let request = request.into_inner();
        let page = self.0.page(request.consistency(), request.page.clone()).await?;
        let all =
            page.reading.state.groups().filter(|group| request.name.is_empty() || group.name == request.name);
        let (groups, next_page_token) = self.0.take(&page, all.map(|group| (group.name.clone(), group)));
        let groups = groups.into_iter().cloned().collect();
        Ok(Response::new(v1::ListResourceGroupsResponse {
            groups,
            revision: page.reading.revision,
            next_page_token,
        }))
    }
}
