//! Input as a broken disk, another release of a tool or an enemy makes it, for the tests of everything that reads.
//!
//! A test takes recorded real input, and [`texts`] or [`bytes`] damage it in every way that parsers are known to
//! trip over; [`check`] asks the reader for as long as it was given, and shrinks what it fails on. [`READERS`] lists
//! every reader of the project with its test. It must never know a format: that is the business of the tests, which
//! stand beside the readers.

mod check;
mod damage;
mod readers;

pub use check::{SECONDS_VARIABLE, check};
pub use damage::{bytes, each_cut, each_flip, texts};
pub use readers::{NOT_READERS, READERS, Reader};
