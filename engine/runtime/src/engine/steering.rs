//! The steering program of a running engine: loaded and attached, or found where `barewire xdp load`
//! pinned it; then told which sockets, addresses and ports are the engine's. What it redirects is
//! decided by the configuration; how it does it is the business of `barewire-ebpf`.

use super::{Site, StartError};
use crate::xdp::XdpDevice;
use barewire_api::config::{ListenAddr, Mode, OnMissing, Ownership, Prefix};
use barewire_api::control::XdpMode;
use barewire_ebpf::{AttachMode, AttachedMode, Error, LoadOptions, Steer, Verdict, abi};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Where the steering program of an interface is pinned, if it is.
pub(crate) fn pin_dir(ifname: &str) -> PathBuf {
    Path::new(abi::PIN_ROOT).join(ifname)
}

/// The program, and the rules in it that are this engine's.
#[derive(Debug)]
pub(crate) struct Steering {
    steer: Steer,
    /// How the kernel says that it is attached.
    pub(crate) mode: XdpMode,
    ownership: Ownership,
    addresses: Vec<Ipv4Addr>,
    prefixes: Vec<(Ipv4Addr, u8)>,
    /// Shared ownership: the ports that were taken.
    ports: BTreeSet<ListenAddr>,
    /// Its link is in a bpffs, and outlives us.
    outlives: bool,
    /// What happened, for people.
    pub(crate) fact: String,
}

impl Steering {
    /// Puts the program on the interface. It steers nothing yet, so everything still goes to the
    /// kernel.
    pub(crate) fn attach(site: &Site) -> Result<Steering, StartError> {
        let (steer, fact, mode) = if site.is_pinned { open_pinned(site)? } else { load(site)? };
        let interface = &site.config.interface;
        Ok(Steering {
            steer,
            mode,
            ownership: interface.ownership,
            addresses: interface.addresses.iter().map(Prefix::addr).collect(),
            prefixes: interface.prefixes.iter().map(|p| (p.addr(), p.len())).collect(),
            ports: BTreeSet::new(),
            outlives: site.is_pinned || interface.persist,
            fact,
        })
    }

    /// Makes a device the target of its queue.
    pub(crate) fn add_device(&self, device: &XdpDevice) -> Result<(), Error> {
        self.steer.set_xsk(device.queue(), device.as_fd())
    }

    /// Takes what is the engine's: from here on frames arrive.
    pub(crate) fn open(&mut self, site: &Site) -> Result<(), Error> {
        match self.ownership {
            Ownership::Owned => {
                let hosts = self.addresses.iter().map(|&addr| (addr, 32));
                for (addr, len) in hosts.chain(self.prefixes.iter().copied()) {
                    self.steer.add_prefix(IpAddr::V4(addr), len)?;
                }
            }
            Ownership::Shared => {
                let range = site.config.interface.port_range;
                for &addr in &self.addresses {
                    self.steer.set_port_range(Some(IpAddr::V4(addr)), range.lo()..=range.hi())?;
                }
            }
        }
        site.config.listen.iter().try_for_each(|listen| self.add_listener(listen.at))?;
        // Last of all, so that a start that fails leaves nothing behind.
        if site.config.interface.persist && !site.is_pinned {
            self.steer.pin(&pin_dir(&site.interface.name))?;
        }
        Ok(())
    }

    /// Takes a port until the end, for the connections of a listener may outlive it. With owned
    /// addresses every port is the engine's anyway.
    pub(crate) fn add_listener(&mut self, at: ListenAddr) -> Result<(), Error> {
        if self.ownership == Ownership::Owned {
            return Ok(());
        }
        self.ports.insert(at);
        self.port_addresses(at)
            .try_for_each(|addr| self.steer.add_listener(Some(IpAddr::V4(addr)), at.port))
    }

    /// How many frames had each verdict.
    pub(crate) fn verdicts(&self) -> Result<Vec<(Verdict, u64)>, Error> {
        self.steer.verdicts()
    }

    /// Gives the interface back. A pinned program stays on it, without the rules of this engine.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        if !self.outlives {
            return self.steer.detach().map(drop);
        }
        for &at in &self.ports {
            for addr in self.port_addresses(at) {
                self.steer.remove_listener(Some(IpAddr::V4(addr)), at.port)?;
            }
        }
        for &addr in &self.addresses {
            match self.ownership {
                Ownership::Owned => self.steer.remove_prefix(IpAddr::V4(addr), 32)?,
                Ownership::Shared => self.steer.remove_port_range(Some(IpAddr::V4(addr)))?,
            };
        }
        for &(addr, len) in &self.prefixes {
            self.steer.remove_prefix(IpAddr::V4(addr), len)?;
        }
        Ok(())
    }

    fn port_addresses(&self, at: ListenAddr) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses.iter().copied().filter(move |&addr| at.addr.is_none_or(|only| only == addr))
    }
}

fn load(site: &Site) -> Result<(Steer, String, XdpMode), StartError> {
    let config = &site.config.interface;
    let mut steer = Steer::load(&LoadOptions {
        n_queues: site.interface.n_rx_queues,
        on_missing: match config.on_missing {
            OnMissing::Pass => abi::OnMissing::Pass,
            OnMissing::Drop => abi::OnMissing::Drop,
        },
    })?;
    // Native or an error: generic mode is slower by so much that it must be asked for.
    let mode = match config.mode {
        Mode::Auto | Mode::ZeroCopy | Mode::Copy => AttachMode::Native,
        Mode::Generic => AttachMode::Generic,
    };
    let attached = steer.attach(site.interface.ifindex, &site.interface.name, mode)?;
    let mut fact = attached.to_string();
    if config.persist {
        fact += &format!(", to be pinned at {}", pin_dir(&site.interface.name).display());
    }
    Ok((steer, fact, mode_of(attached.mode)))
}

fn open_pinned(site: &Site) -> Result<(Steer, String, XdpMode), StartError> {
    let dir = pin_dir(&site.interface.name);
    let steer = Steer::open_pinned(&dir)?;
    let stray = || {
        let dev = site.interface.name.clone();
        StartError::StrayPins { path: dir.display().to_string(), dev }
    };
    let attached = Steer::attached(site.interface.ifindex)?.ok_or_else(stray)?;
    let fact = format!("{attached}, found pinned at {}", dir.display());
    Ok((steer, fact, mode_of(attached.mode)))
}

fn mode_of(mode: AttachedMode) -> XdpMode {
    match mode {
        // Offloaded programs cannot redirect to sockets; the kernel would have refused ours.
        AttachedMode::Native | AttachedMode::Offloaded => XdpMode::Native,
        AttachedMode::Generic => XdpMode::Generic,
    }
}
