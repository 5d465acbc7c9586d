//! What the lab's programs say to each other: the tools to the lab's process, and the host to a node's agent.

pub mod agent;
pub mod control;
pub mod frames;
pub mod lines;
