//! Two network namespaces joined by a veth pair, with a queue each. They have no names: they exist as
//! long as this process, or one that it started in them, so nothing is left of them however it ends.
//! Nothing in them reaches the machine's own network.
//!
//! ```text
//!   server0 10.99.0.1  -------- veth --------  client0 10.99.0.2, 10.1.0.1 to 10.1.0.6
//! ```
//!
//! An end belongs to an engine (or to raw frames), which brings its own addresses, or to the kernel,
//! which gets them here.

use crate::rig::Failure;
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{process, thread};

/// Where all servers listen.
pub(crate) const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 7000);
/// The client's own address.
pub(crate) const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Where connections come from: six hosts, with ports for 100,000 connections several times over, so
/// that those in TIME-WAIT are in nobody's way.
pub(crate) const SOURCES: &str = "10.1.0.0/29";

/// The hosts of [`SOURCES`].
pub(crate) fn sources() -> impl Iterator<Item = Ipv4Addr> {
    (1..=6).map(|host| Ipv4Addr::new(10, 1, 0, host))
}

const CARRIER_TIME_MAX: Duration = Duration::from_secs(5);

/// Of a kernel that takes many connections at once from few addresses.
const SYSCTLS: &[(&str, &str)] = &[
    ("core/somaxconn", "65535"),
    ("ipv4/tcp_max_syn_backlog", "65535"),
    ("ipv4/ip_local_port_range", "1024 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
];

/// An end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    Server,
    Client,
}

impl Side {
    pub(crate) const BOTH: [Side; 2] = [Side::Server, Side::Client];

    pub(crate) fn interface(self) -> &'static str {
        match self {
            Side::Server => "server0",
            Side::Client => "client0",
        }
    }

    /// The core of everything that this end does.
    pub(crate) fn cpu(self) -> usize {
        match self {
            Side::Server => 1,
            Side::Client => 0,
        }
    }
}

/// Both namespaces. Made and used by the main thread only, for a thread has its own.
#[derive(Debug)]
pub(crate) struct Lab {
    home: File,
    server: File,
    client: File,
    /// The ends that are the kernel's.
    kernel: Vec<Side>,
}

impl Lab {
    /// Lays the wire; the kernel has addresses on the ends of `kernel`.
    pub(crate) fn new(kernel: &[Side]) -> Result<Lab, Failure> {
        let home = current()?;
        let server = fresh()?;
        let client = fresh();
        // Whatever happens, this thread goes home.
        enter(&home)?;
        let lab = Lab { home, server, client: client?, kernel: kernel.to_vec() };
        lab.within(Side::Server, || lab.lay_wire())??;
        for side in Side::BOTH {
            lab.within(side, || lab.set_up(side))??;
        }
        for side in Side::BOTH {
            lab.within(side, || await_carrier(side.interface()))??;
        }
        Ok(lab)
    }

    /// Does something in the namespace of an end. Processes that are started there stay there.
    pub(crate) fn within<R>(&self, side: Side, body: impl FnOnce() -> R) -> Result<R, Failure> {
        enter(match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        })?;
        let done = body();
        enter(&self.home)?;
        Ok(done)
    }

    /// The MTU of both ends, and whether the kernel's ends use segmentation offload.
    pub(crate) fn adjust(&self, mtu: u32, segmentation_offload: bool) -> Result<(), Failure> {
        let switch = if segmentation_offload { "on" } else { "off" };
        for side in Side::BOTH {
            let dev = side.interface();
            self.within(side, || run(&format!("ip link set dev {dev} mtu {mtu}")))??;
            if self.kernel.contains(&side) {
                let line = format!("ethtool -K {dev} tso {switch} gso {switch} gro {switch}");
                self.within(side, || run(&line))??;
            }
        }
        Ok(())
    }

    fn lay_wire(&self) -> Result<(), Failure> {
        let (one, other) = (Side::Server.interface(), Side::Client.interface());
        let far = format!("/proc/{}/fd/{}", process::id(), self.client.as_raw_fd());
        run(&format!("ip link add {one} type veth peer name {other} netns {far}"))
    }

    fn set_up(&self, side: Side) -> Result<(), Failure> {
        // Its discovery would send frames that no test asked for.
        for scope in ["all", "default"] {
            set_sysctl(&format!("ipv6/conf/{scope}/disable_ipv6"), "1")?;
        }
        let dev = side.interface();
        run("ip link set dev lo up")?;
        run(&format!("ip link set dev {dev} up"))?;
        if !self.kernel.contains(&side) {
            return Ok(());
        }
        for (name, value) in SYSCTLS {
            set_sysctl(name, value)?;
        }
        match side {
            Side::Server => {
                run(&format!("ip addr add {}/24 dev {dev}", SERVER.ip()))?;
                run(&format!("ip route add {SOURCES} dev {dev}"))
            }
            Side::Client => {
                run(&format!("ip addr add {CLIENT}/24 dev {dev}"))?;
                sources().try_for_each(|addr| run(&format!("ip addr add {addr}/32 dev {dev}")))
            }
        }
    }
}

/// Namespaces, and programs that configure them, or what is missing.
pub(crate) fn check() -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        let user = nix::unistd::geteuid();
        return Err(Failure::Machine(format!(
            "versus makes network namespaces and attaches XDP programs: expected root, found user \
             {user}; run it with sudo"
        )));
    }
    run("ip -V")?;
    run("ethtool --version")
}

fn current() -> Result<File, Failure> {
    let open = File::open("/proc/thread-self/ns/net");
    open.map_err(|error| Failure::Os("open this network namespace", error))
}

fn fresh() -> Result<File, Failure> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Failure::Os("make a network namespace", errno.into()))?;
    current()
}

fn enter(namespace: &File) -> Result<(), Failure> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Failure::Os("enter a network namespace", errno.into()))
}

fn set_sysctl(name: &str, value: &str) -> Result<(), Failure> {
    fs::write(format!("/proc/sys/net/{name}"), value).map_err(|error| {
        Failure::Machine(format!(
            "could not set net.{} to {value}: {error}",
            name.replace('/', ".")
        ))
    })
}

fn await_carrier(dev: &str) -> Result<(), Failure> {
    let begun = Instant::now();
    while !run_for(&format!("ip link show dev {dev}"))?.contains("LOWER_UP") {
        if begun.elapsed() > CARRIER_TIME_MAX {
            let what = format!("{dev} has no carrier after {CARRIER_TIME_MAX:?}");
            return Err(Failure::Machine(what));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs a command line.
fn run(line: &str) -> Result<(), Failure> {
    run_for(line).map(drop)
}

/// Runs a command line; what it printed.
fn run_for(line: &str) -> Result<String, Failure> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output().map_err(|error| {
        Failure::Machine(format!("could not run `{program}` ({error}): install it"))
    })?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Machine(format!("`{line}` failed: {}", why.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
