//! What runs only while this member leads.

pub mod observed;
