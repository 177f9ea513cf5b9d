//! Which connection a segment belongs to: the four-tuple, and the keyed table that finds its record.
//! It knows neither TCP nor frames.

mod table;
mod tuple;

pub use table::Table;
pub use tuple::FourTuple;
