//! What the program and the benches of criterion share: the two ends of a wire in memory, and the single
//! operations of a stack.

pub mod ends;
pub mod micro;
