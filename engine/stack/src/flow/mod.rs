//! Which connection a segment belongs to: the four-tuple, and the keyed table that finds its record;
//! which queue it arrives at, by the rules of the NIC, and which ports lead to a queue. It knows neither
//! TCP nor frames.

mod keyed;
pub mod port;
pub mod rss;
mod table;
mod tuple;

pub use keyed::Keyed;
pub use table::{ENTRY_BYTES_MAX, Place, RECORDS_MAX, Table};
pub use tuple::FourTuple;
