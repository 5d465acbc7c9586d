//! `hawser` as a whole, run as a program.
#![allow(clippy::unwrap_used, missing_docs)]

mod fake;
mod in_a_shell;
mod making_certificates;
mod talking_to_a_cluster;
