//! What shall run on each node: told to its agent when it is decided and after every boot.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::error::{LabError, Tried};
use crate::machine::node::Node;
use crate::network::addresses::AGENT_PORT;
use crate::wire::agent::{AgentRequest, Service, ServiceAnswer, ServiceStatus};
use crate::wire::lines;

/// The services of all nodes.
#[derive(Default)]
pub struct ServiceTable(RefCell<BTreeMap<String, Vec<Service>>>);

impl ServiceTable {
    /// Decides a node's services. A node that is off gets them when it boots.
    ///
    /// # Errors
    /// As [`Self::tell`].
    pub async fn set(&self, node: &Node, services: Vec<Service>) -> Result<Vec<ServiceStatus>, LabError> {
        self.0.borrow_mut().insert(node.name.clone(), services);
        self.tell(node).await
    }

    /// Tells a node's agent what was decided; a node that is off has no services.
    ///
    /// # Errors
    /// That the agent cannot be reached or refuses.
    pub async fn tell(&self, node: &Node) -> Result<Vec<ServiceStatus>, LabError> {
        let services = self.0.borrow().get(&node.name).cloned();
        let link = node.link().borrow().clone();
        let (Some(services), Some(link)) = (services, link) else { return Ok(Vec::new()) };
        let action = || format!("cannot tell node {} its services", node.name);
        let mut agent = link.connect(AGENT_PORT).await.tried(action)?;
        lines::write(&mut agent, &AgentRequest::SetServices(services)).await.tried(action)?;
        match lines::read(&mut agent).await.tried(action)? {
            ServiceAnswer::Services(services) => Ok(services),
            ServiceAnswer::Refused(reason) => Err(LabError::Refused(format!("node {}: {reason}", node.name))),
        }
    }
}
