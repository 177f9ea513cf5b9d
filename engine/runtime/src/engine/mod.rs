//! The start and the end of an engine. [`Engine::start`] goes from a configuration to running
//! workers in steps that each either succeed or leave nothing behind; from then on everything
//! belongs to the control thread, which also ends it. What the engine does while it runs is told in
//! `worker` and `control`.

mod arrivals;
mod budget;
mod crew;
mod ending;
mod error;
mod options;
mod site;
mod stack_config;
mod statistics;
mod steering;
mod tapped;

pub use arrivals::Arrivals;
pub use budget::Budget;
pub use ending::Ending;
pub use error::StartError;
pub use options::{AppMaker, EngineOptions};
pub use site::Site;

pub(crate) use crew::{Crew, app_number, endpoint};
pub(crate) use statistics::Statistics;
pub(crate) use steering::Steering;

use crate::control::{Belongings, Control, ControlSocket, Server};
use crate::sys::rlimit;
use crate::xdp::{self, BusyPoll, XdpDevice, XdpOptions};
use barewire_api::Config;
use barewire_api::config::{AppSpec, HugePages, Mode, Poll};
use barewire_api::control::XdpMode;
use std::thread::{self, JoinHandle};
use tracing::info;

/// Frames that one busy poll of the kernel takes, and how long it may spin. The kernel's own
/// examples use these.
const BUSY_POLL: BusyPoll = BusyPoll { budget: 64, timeout_us: 20 };

/// An engine that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Engine {
    control: Control,
    /// Absent once joined.
    thread: Option<JoinHandle<Ending>>,
}

impl Engine {
    /// Starts an engine and returns when it answers: the steering program is attached, the workers
    /// turn, and the control socket listens. What the kernel granted is told as `tracing` events.
    pub fn start(config: Config) -> Result<Engine, StartError> {
        Engine::start_with(config, EngineOptions::default())
    }

    /// The same with applications of the caller, or a capture.
    pub fn start_with(config: Config, options: EngineOptions) -> Result<Engine, StartError> {
        let mut site = Site::survey(&config)?;
        let budget = Budget::new(&site);
        budget.check()?;
        for fact in site.facts().into_iter().chain(budget.lines()) {
            info!("{fact}");
        }
        let socket = ControlSocket::bind(&site.config.control.path)?;
        let mut steering = Steering::attach(&site)?;
        info!("{}", steering.fact);
        let devices = open_devices(&site, &steering)?;
        site.renew_arrivals()?;
        let statistics = Statistics::new(devices.len())?;
        let apps = distinct_apps(&site.config);
        let crew = Crew::start(&site, devices, &apps, &options, &statistics)?;
        steering.open(&site)?;
        for listen in &site.config.listen {
            info!("listening on {listen}");
        }
        info!("control socket {}", site.config.control.path.display());
        let (control, calls) = Control::new().map_err(StartError::os("make an eventfd"))?;
        let server = Server::new(Belongings {
            site,
            apps,
            maker: options.apps,
            crew,
            steering,
            statistics,
            socket,
            calls,
        });
        let thread = thread::Builder::new().name("control".into()).spawn(move || server.run());
        let thread = Some(thread.map_err(StartError::os("start the control thread"))?);
        info!("ready");
        Ok(Engine { control, thread })
    }

    /// The engine's control, for this process; other processes use the control socket.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Tells the engine to end. [`Engine::join`] waits until it has.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// Waits until the engine has ended, by whoever's order.
    pub fn join(mut self) -> Ending {
        let thread = self.thread.take().expect("an engine is joined once");
        thread.join().expect("the control thread returns its errors")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.control.stop();
            // A panic has been printed by the thread itself; here is nobody to tell.
            let _ = thread.join();
        }
    }
}

/// Opens the queues and makes them targets of the steering program.
fn open_devices(site: &Site, steering: &Steering) -> Result<Vec<XdpDevice>, StartError> {
    // Without the right to raise it, opening the umem says what is missing.
    let _ = rlimit::raise_memlock();
    let mut devices = Vec::new();
    for queue in 0..site.n_queues {
        let device = XdpDevice::open(&xdp_options(site, queue))?;
        steering.add_device(&device)?;
        let xdp = if steering.mode == XdpMode::Generic { "generic XDP" } else { "native XDP" };
        info!("queue {queue}: {xdp}, {}", device.outcome());
        devices.push(device);
    }
    Ok(devices)
}

fn xdp_options(site: &Site, queue: u32) -> XdpOptions {
    let interface = &site.config.interface;
    XdpOptions {
        ifname: site.interface.name.clone(),
        queue,
        mode: match interface.mode {
            Mode::Auto => xdp::Mode::Auto,
            Mode::ZeroCopy => xdp::Mode::ZeroCopy,
            Mode::Copy | Mode::Generic => xdp::Mode::Copy,
        },
        rx_ring: interface.rx_max,
        tx_ring: interface.tx_max,
        fill_ring: interface.fill_max,
        completion_ring: interface.completion_max,
        n_frames: interface.frames(),
        frame_bytes: interface.frame_bytes,
        huge_pages: match interface.huge_pages {
            HugePages::Auto => xdp::HugePages::Auto,
            HugePages::Never => xdp::HugePages::Never,
            HugePages::Require => xdp::HugePages::Require,
        },
        busy_poll: (interface.poll == Poll::Busy).then_some(BUSY_POLL),
    }
}

/// Each application once, however many ports it serves.
fn distinct_apps(config: &Config) -> Vec<AppSpec> {
    let mut apps: Vec<AppSpec> = Vec::new();
    for listen in &config.listen {
        if !apps.contains(&listen.app) {
            apps.push(listen.app.clone());
        }
    }
    apps
}
