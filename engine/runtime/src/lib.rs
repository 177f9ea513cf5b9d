//! The barewire engine: a TCP stack that serves and loads real networks from user space, beside the
//! kernel's own. This is the library that programs embed; `barewired` is a program around it.
//!
//! ```no_run
//! use barewire_engine::{Config, Engine};
//!
//! let config = Config::parse(
//!     r#"
//!     listen = [{ port = 7000, app = "echo" }]
//!     [interface]
//!     dev = "eth1"
//!     addresses = ["10.0.0.2/24"]
//!     "#,
//! )?;
//! let engine = Engine::start(config)?;
//! // ... until somebody orders it to stop: a client of the control socket, or `engine.stop()`.
//! let ending = engine.join();
//! println!("{ending}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Engine::start_with`] runs applications of the caller in place of those in [`app`]: an [`App`] gets
//! the events of its connections, one instance in each worker.
//!
//! # How it is built
//!
//! The steering program (`barewire-ebpf`) sits at the interface and redirects what is the engine's
//! into AF_XDP sockets, one for each NIC queue; everything else goes on to the kernel. Each queue
//! belongs to one worker, and a worker does all there is to do for its connections in one loop on
//! one CPU:
//!
//! ```text
//!            NIC queue 0                          NIC queue 1
//!                 | frames                             | frames
//!   +-------------v-------------+        +-------------v-------------+
//!   | worker 0                  |        | worker 1                  |
//!   |   clock                   |        |   the same turn, on its   |
//!   |   device.rx_batch, stack  |hand-off|   own device, stack and   |
//!   |   stack.on_timeout        <-------->   applications            |
//!   |   app events, app turns   |  ring  |                           |
//!   |   stack, device.tx_batch  |        |                           |
//!   |   mailbox                 |        |                           |
//!   +-----^--------------+------+        +-----^--------------+------+
//!         | jobs         | counters            | jobs         | counters
//!   +-----+--------------v---------------------+--------------v------+
//!   | control thread: requests, load tests, statistics page, the end |
//!   +-----------^--------------------------------------^-------------+
//!               | Unix socket                          | Control::ask
//!          barewire CLI                           this process
//! ```
//!
//! # Who may talk to whom
//!
//! * [`worker`] owns a device, a stack and the applications, and calls them; none of them calls it.
//! * [`xdp`] moves frames and knows no protocol; the stack speaks TCP and knows no device.
//! * [`app`] and [`load`] see connections through [`app::Io`] and nothing else. Stateless clients of a
//!   load test have no connections in the stack: the worker shows them frames before it.
//! * [`control`] reaches a worker by a job in its mailbox and by no other way.
//! * [`engine`] puts all of it together and takes it apart again.
//!
//! # What always holds
//!
//! * Workers share nothing that changes but the mailbox, the hand-off ring and the statistics page;
//!   there is no lock on the way of a frame.
//! * A connection belongs to the worker that has its record, wherever its frames arrive. Where the driver
//!   tells how the NIC spreads flows, ports are chosen so that answers arrive at that worker; elsewhere,
//!   and after a change, frames are handed over. Nothing but speed depends on it.
//! * A turn is bounded, and so is everything that waits: every queue, table and list has its limit in
//!   the configuration or in a constant beside it.
//! * A frame is a token with one owner. At the end of a run every frame is found in its place, every
//!   received frame was used or dropped under one name, and every connection ended under one.
//! * The interface is the kernel's again when the engine ends, however it ends: the kernel itself
//!   takes the program off with the last descriptor of its link.
//! * Unsafe code is in [`xdp`] and [`sys`] only.

pub mod app;
pub mod control;
pub mod engine;
pub mod load;
pub mod sys;
pub mod tap;
pub mod worker;
pub mod xdp;

pub use app::App;
pub use barewire_api::Config;
pub use control::Control;
pub use engine::{Ending, Engine, EngineOptions, StartError};
