//! The stable JSON forms of what the cluster answers, and their rows in tables. One file per noun.
//!
//! Fields are only ever added. Enums are lower-case words; sizes are bytes; what is not known is null.

pub(crate) mod attachment;
pub(crate) mod change;
pub(crate) mod condition;
pub(crate) mod group;
pub(crate) mod node;
pub(crate) mod operation;
pub(crate) mod pool;
pub(crate) mod replica;
pub(crate) mod resource;
#[cfg(test)]
mod tests;
pub(crate) mod word;
