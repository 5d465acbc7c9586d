//! The client of Hawser's API: finds a controller that answers, retries with the same request key, honours
//! deadlines, and turns refusals into one error type.
//!
//! It must never retry what the cluster has refused, and never decide what a refusal means.

mod client;
mod controller;
mod endpoint;
mod error;
mod operation;
mod search;
mod verdict;
mod watch;

pub use client::Client;
pub use controller::{Carrier, Controller, GiveUpAt};
pub use error::{ClientError, Rejection, Tried, Unanswered};
pub use operation::WaitError;
pub use watch::Watch;

/// A new key that makes one mutating request recognizable: every retry of it carries the same key, and the
/// cluster carries it out once.
#[must_use]
pub fn request_key() -> String {
    uuid::Uuid::new_v4().to_string()
}
