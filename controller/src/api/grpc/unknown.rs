//! What nodes hold and a restored state does not know, page by page.

use hawser_proto::{ids::Incarnation, v1};

use crate::api::{
    context::{Context, Reading},
    error::ApiError,
    pages::pair_key,
};

/// One page of it.
///
/// # Errors
/// A wrong page, or no read point.
pub(super) async fn list(
    context: &Context,
    request: v1::ListUnknownRequest,
) -> Result<v1::ListUnknownResponse, ApiError> {
    let page = context.page(request.consistency(), request.page.clone()).await?;
    let reading = &page.reading;
    let all = reading.state.unknown().map(|held| {
        let key = format!("{} {:020}", pair_key(&held.resource, &held.node), held.replica_incarnation);
        (key, held)
    });
    let (replicas, next_page_token) = context.take(&page, all);
    let replicas = replicas.into_iter().map(|held| view(reading, held)).collect();
    Ok(v1::ListUnknownResponse { replicas, revision: reading.revision, next_page_token })
}

fn view(reading: &Reading, held: &v1::HeldReplica) -> v1::UnknownReplica {
    let key = (held.resource.clone(), Incarnation::new(held.replica_incarnation));
    let seen = reading.observed.as_ref().and_then(|observed| observed.node(&held.node));
    let presence = seen.filter(|seen| seen.online).and_then(|seen| seen.unknown.get(&key).copied());
    let known = reading.state.resource(&held.resource);
    v1::UnknownReplica {
        held: Some(held.clone()),
        presence: presence.unwrap_or_default().into(),
        of_known_resource: known.is_some_and(|known| known.incarnation == held.resource_incarnation),
    }
}
