//! Stories on real kernels: what the demo tells and the end-to-end tests check.
//!
//! Uses the lab and the installed programs only, as an administrator would; it must never reach into
//! a program's insides.

// The stories speak to people: a lab that cannot be taken down is said where the story is told.
#![allow(clippy::print_stderr)]

pub mod bench;
pub mod cluster;
pub mod kill_matrix;
pub mod narrator;
pub mod records;
pub mod stories;
pub mod story;
pub mod writer;
