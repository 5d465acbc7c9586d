//! Placement by tables.
