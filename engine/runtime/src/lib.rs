//! Placeholder.

pub mod sys;
pub mod tap;
pub mod xdp;
