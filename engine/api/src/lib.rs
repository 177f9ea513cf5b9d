//! What the daemon, the command line and the files of barewire agree on: the configuration, the
//! control protocol, the layout of the statistics page, the arithmetic of a load plan and the report
//! of a load test. Types and their text forms only: nothing in here opens a socket, maps memory,
//! reads a clock or knows a protocol.
//!
//! * [`config`]: the typed TOML file, every bound a field named `*_max`, and its checks
//! * [`flags`]: the same configuration from command-line flags
//! * [`mod@unit`]: `1m`, `64KiB`, `5s`, `200k/s`; [`mod@text`]: how any such value meets serde
//! * [`plan`]: which connection of a load test uses which tuple
//! * [`control`]: the requests and responses on the control socket
//! * [`failure`]: why a connection failed
//! * [`impair`]: the faults that the engine may do to its own frames
//! * [`page`]: the statistics page
//! * [`report`]: what a load test measured

pub mod config;
pub mod control;
pub mod failure;
pub mod flags;
pub mod impair;
pub mod page;
pub mod plan;
pub mod report;
pub mod text;
pub mod unit;

pub use config::{Config, ConfigError};
