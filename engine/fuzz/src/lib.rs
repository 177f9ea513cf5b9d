//! The fuzz targets of barewire, as plain functions from bytes to nothing: what must not happen is a
//! panic, and every target asserts more than that its subject does not panic by itself. They know
//! nothing of libFuzzer, so the house builds without it, and `cargo test -p barewire-fuzz` replays
//! every input of `corpus/TARGET/`.
//!
//! - [`frame`]: one received frame: Ethernet, ARP, IPv4, ICMP, TCP, and the stack's answer to it
//! - [`options`]: the options of a TCP header
//! - [`segments`]: a whole stack under segments, application calls and time
//! - [`control`]: what arrives on the control socket
//! - [`config`]: configuration files, flags and quantities
//! - [`tape`], [`lan`]: an input as a row of draws, and the small network that stacks live in
//!
//! To hunt, in this folder (`cargo install cargo-fuzz` first; `RUSTC_BOOTSTRAP` because coverage
//! instrumentation is not stable):
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir libfuzzer --sanitizer none frame corpus/frame \
//!     -- -max_total_time=600 -max_len=512
//! RUSTC_BOOTSTRAP=1 cargo fuzz cmin --fuzz-dir libfuzzer --sanitizer none frame corpus/frame
//! ```
//!
//! What a hunt finds becomes a plain test beside the code that was wrong; the input that found it
//! goes to the corpus.

pub mod config;
pub mod control;
pub mod frame;
pub mod lan;
pub mod options;
pub mod segments;
pub mod tape;

/// A target: bytes in, a panic or nothing out.
pub type Target = fn(&[u8]);

/// Every target with the name of its folder under `corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("frame", frame::run),
    ("options", options::run),
    ("segments", segments::run),
    ("control", control::run),
    ("config", config::run),
];
