//! Which connection a segment belongs to: the four-tuple, and the keyed table that finds its record;
//! and which queue it arrives at, by the rules of the NIC. It knows neither TCP nor frames.

pub mod rss;
mod table;
mod tuple;

pub use table::Table;
pub use tuple::FourTuple;
