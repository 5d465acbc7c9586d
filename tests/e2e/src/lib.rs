//! Stories on real kernels: what the demo tells and the end-to-end tests check.
//!
//! Uses the lab and the installed programs only, as an administrator would; it must never reach into
//! a program's insides.

pub mod records;
