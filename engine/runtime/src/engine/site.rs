//! The machine as the configuration meets it: interface, queues, CPUs and addresses, each asked of
//! the kernel. A survey changes nothing; what it finds to be impossible is refused before anything
//! is opened or attached.

use super::steering::pin_dir;
use super::{Arrivals, StartError};
use crate::load::Spread;
use crate::sys::affinity::{AffinityError, allowed_cpus};
use crate::sys::interface::{self, Interface, InterfaceError, KernelAddress, kernel_addresses};
use barewire_api::config::{
    LISTENERS_MAX, Listen, LoadPlan, Ownership, Prefix, QUEUES_MAX, RxChecksum,
};
use barewire_api::impair::Impairment;
use barewire_api::unit::Ratio;
use barewire_api::{Config, ConfigError};
use barewire_ebpf::Steer;
use barewire_stack::wire::tcp::ChecksumPolicy;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use tracing::warn;

/// What the survey found.
#[derive(Clone, Debug)]
pub struct Site {
    /// The configuration, and what this machine makes of what it leaves open: the kernel's addresses,
    /// the number of queues, the MSS.
    pub config: Config,
    /// The interface.
    pub interface: Interface,
    /// Queues 0 to `n_queues - 1` are served, each by a worker.
    pub n_queues: u32,
    /// The CPU of each worker.
    pub cpus: Vec<usize>,
    /// How checksums of received segments are judged.
    pub rx_checksum: ChecksumPolicy,
    /// At which queue segments arrive.
    pub arrivals: Arrivals,
    /// A steering program is there already, pinned.
    pub is_pinned: bool,
}

impl Site {
    /// Holds a configuration against the machine.
    pub fn survey(config: &Config) -> Result<Site, StartError> {
        config.check()?;
        let interface = usable_interface(&config.interface.dev)?;
        let n_queues = served_queues(config, &interface)?;
        let cpus = worker_cpus(config, n_queues)?;
        let mut config = config.clone();
        settle_addresses(&mut config, interface.ifindex)?;
        // With the addresses known, the load plan can be held against them.
        config.check()?;
        // MTU less the IP and TCP headers without options (RFC 9293 section 3.7.1).
        let mss_max = u16::try_from(interface.mtu).unwrap_or(u16::MAX).saturating_sub(40);
        config.tcp.mss = Some(config.tcp.mss.unwrap_or(mss_max).min(mss_max));
        config.interface.queues = Some(n_queues);
        let arrivals = Arrivals::survey(&interface, config.interface.rss)?;
        arrivals.check(&interface.name, n_queues)?;
        let site = Site {
            n_queues,
            arrivals,
            cpus,
            rx_checksum: checksum_policy(config.interface.rx_checksum, &interface.driver),
            is_pinned: find_pins(&interface)?,
            interface,
            config,
        };
        if let Some(rx) = &site.config.impair.rx {
            site.check_impaired_reception(rx)?;
        }
        if let Some(plan) = &site.config.load {
            site.spread(plan).map_err(StartError::Spread)?;
        }
        Ok(site)
    }

    /// Once the program is attached and the queues are open: gives the device its table and key again,
    /// as they were before, and asks the driver what it has now.
    pub(crate) fn renew_arrivals(&mut self) -> Result<(), StartError> {
        self.arrivals.write_back(&self.interface.name);
        let interface = usable_interface(&self.interface.name)?;
        let arrivals = Arrivals::survey(&interface, self.config.interface.rss)?;
        let changes = arrivals.changes_since(&self.arrivals);
        if !changes.is_empty() {
            let (changes, reason) = (changes.join(", "), arrivals.reason());
            warn!("rss: once the program was attached: {changes}: {reason}");
        }
        self.arrivals = arrivals;
        if let Some(stray) = self.arrivals.stray_text(&self.interface.name, self.n_queues) {
            warn!("rss: {stray}");
        }
        self.arrivals.check(&self.interface.name, self.n_queues)?;
        match &self.config.load {
            Some(plan) => self.spread(plan).map(drop).map_err(StartError::Spread),
            None => Ok(()),
        }
    }

    /// How the connections of a load test are divided among the workers; refuses a plan whose
    /// tuples do not reach their queues.
    pub(crate) fn spread(&self, plan: &LoadPlan) -> Result<Spread, ConfigError> {
        let tuples = plan.tuples(&self.config.interface);
        // Without records, who is at the wrong queue is passed on: none could be at the right one.
        let Some(rss) = self.arrivals.rss().filter(|_| !plan.stateless) else {
            return Ok(Spread::by_number(tuples, plan.connections.0, self.n_queues));
        };
        let spread = Spread::by_queue(tuples, plan.connections.0, rss, self.n_queues);
        spread.check(&self.interface.name)?;
        if let Some(needed) = plan.tuples_in_time_wait(&self.config.tcp) {
            spread.check_time_wait(&self.interface.name, needed)?;
        }
        Ok(spread)
    }

    /// Refuses a listener that cannot be added to those that are there.
    pub(crate) fn check_listener(&self, listen: &Listen) -> Result<(), ConfigError> {
        let listeners = &self.config.listen;
        if listeners.len() >= LISTENERS_MAX {
            return Err(ConfigError::new(
                "listen",
                format!("expected at most {LISTENERS_MAX} listeners, found one more"),
                "remove one",
            ));
        }
        self.config.check_listener(listen, listeners)?;
        check_listen_addr(&self.config, listen)
    }

    /// Refuses damage to received frames that this engine would not notice: it would reach
    /// applications as if the peer had sent it.
    pub(crate) fn check_impaired_reception(&self, rx: &Impairment) -> Result<(), ConfigError> {
        if rx.corrupt == Ratio::NONE || self.rx_checksum == ChecksumPolicy::Verify {
            return Ok(());
        }
        Err(ConfigError::new(
            "impair.rx.corrupt",
            format!("expected received checksums to be verified, found {}", self.checksum_text()),
            "start with --rx-checksum verify, or corrupt only what is sent",
        ))
    }

    /// What was found, one fact to a line.
    pub fn facts(&self) -> Vec<String> {
        let Site { config, interface, n_queues, .. } = self;
        let driver = if interface.driver.is_empty() { "unknown" } else { &interface.driver };
        let mut facts = vec![format!(
            "interface {}: driver {driver}, MAC {}, MTU {}, {} queues, {n_queues} served",
            interface.name,
            mac_text(interface.mac),
            interface.mtu,
            interface.n_queues(),
        )];
        if *n_queues < interface.n_rx_queues {
            facts.push(format!(
                "queues {n_queues} to {} are not served: frames of ours that arrive there meet \
                 on_missing = {}; spread flows over the served ones with `ethtool -X {} equal {n_queues}`",
                interface.n_rx_queues - 1,
                config.interface.on_missing,
                interface.name,
            ));
        }
        facts.push(format!("workers on CPUs {:?}{}", self.cpus, shared_cpu_remark(&self.cpus)));
        facts.push(format!("rss: {}", self.arrivals.reason()));
        facts.push(format!("received checksums: {}", self.checksum_text()));
        facts.push(self.address_text());
        facts
    }

    fn checksum_text(&self) -> String {
        match self.rx_checksum {
            ChecksumPolicy::Verify => "verified".to_owned(),
            ChecksumPolicy::Trust => "not verified, as configured".to_owned(),
            ChecksumPolicy::AcceptPartial => format!(
                "verified, or left unfinished by a peer on this machine (driver {}); `ethtool -K \
                 PEER tx off` and rx_checksum = \"verify\" make them whole",
                self.interface.driver
            ),
        }
    }

    fn address_text(&self) -> String {
        let interface = &self.config.interface;
        let mut text =
            format!("{} addresses: {}", interface.ownership, list_of(&interface.addresses));
        if !interface.prefixes.is_empty() {
            text += &format!("; prefixes: {}", list_of(&interface.prefixes));
        }
        if let Some(gateway) = interface.gateway {
            text += &format!("; gateway {gateway}");
        }
        if interface.ownership == Ownership::Shared {
            text += &format!("; ports of active opens: {}", interface.port_range);
        }
        text
    }
}

fn usable_interface(dev: &str) -> Result<Interface, StartError> {
    let interface = Interface::named(dev).map_err(|error| match error {
        InterfaceError::Missing { name } => match interface::names() {
            Ok(found) => StartError::NoInterface {
                found: found.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", "),
                dev: name,
            },
            Err(_) => StartError::Interface(InterfaceError::Missing { name }),
        },
        error => StartError::Interface(error),
    })?;
    if interface.up { Ok(interface) } else { Err(StartError::Down(interface.name)) }
}

fn served_queues(config: &Config, interface: &Interface) -> Result<u32, StartError> {
    let found = interface.n_queues().min(QUEUES_MAX);
    let wanted = config.interface.queues.unwrap_or(found);
    if wanted <= found {
        return Ok(wanted);
    }
    Err(StartError::Queues { dev: interface.name.clone(), wanted, found })
}

/// The configured CPUs, or the allowed ones in turn.
fn worker_cpus(config: &Config, n_queues: u32) -> Result<Vec<usize>, StartError> {
    let allowed = allowed_cpus();
    let named = &config.interface.cpus;
    if named.is_empty() {
        return Ok(allowed.iter().copied().cycle().take(n_queues as usize).collect());
    }
    if named.len() < n_queues as usize {
        return Err(StartError::Config(ConfigError::new(
            "interface.cpus",
            format!("expected a CPU for each of {n_queues} queues, found {}", named.len()),
            format!("name {n_queues} CPUs, give --queues {}, or name none", named.len()),
        )));
    }
    let cpus: Vec<usize> = named.iter().take(n_queues as usize).map(|&cpu| cpu as usize).collect();
    match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(&cpu) => Err(AffinityError::NotAllowed { cpu, allowed }.into()),
        None => Ok(cpus),
    }
}

fn shared_cpu_remark(cpus: &[usize]) -> &'static str {
    let mut sorted = cpus.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        true => "; there are more workers than CPUs, so some share one",
        false => "",
    }
}

/// Holds the engine's addresses against the kernel's, and takes those for shared ownership.
fn settle_addresses(config: &mut Config, ifindex: u32) -> Result<(), StartError> {
    let kernel = kernel_addresses().map_err(StartError::os("ask the kernel for its addresses"))?;
    match config.interface.ownership {
        Ownership::Owned => refuse_clash(config, &kernel),
        Ownership::Shared => {
            share_addresses(config, ifindex, &kernel)?;
            config.listen.iter().try_for_each(|listen| check_listen_addr(config, listen))?;
            check_port_range(config)
        }
    }
}

fn refuse_clash(config: &Config, kernel: &[KernelAddress]) -> Result<(), StartError> {
    let clash = kernel.iter().find_map(|found| match found.address {
        IpAddr::V4(addr) if config.interface.owns(addr) => Some((addr, found.ifindex)),
        _ => None,
    });
    let Some((addr, ifindex)) = clash else { return Ok(()) };
    let names = interface::names().map_err(StartError::os("ask the kernel for its interfaces"))?;
    let ifname = names.into_iter().find(|&(idx, _)| idx == ifindex).map(|(_, name)| name);
    Err(StartError::Clash { addr, ifname: ifname.unwrap_or_else(|| format!("number {ifindex}")) })
}

fn share_addresses(
    config: &mut Config,
    ifindex: u32,
    kernel: &[KernelAddress],
) -> Result<(), StartError> {
    let dev = config.interface.dev.clone();
    let held: Vec<Prefix> = kernel
        .iter()
        .filter(|found| found.ifindex == ifindex)
        .filter_map(|found| match found.address {
            IpAddr::V4(addr) => Prefix::new(addr, found.prefix_bits),
            IpAddr::V6(_) => None,
        })
        .collect();
    if held.is_empty() {
        return Err(StartError::NothingToShare(dev));
    }
    let addresses = &mut config.interface.addresses;
    if addresses.is_empty() {
        *addresses = held;
        return Ok(());
    }
    let is_held = |addr: Ipv4Addr| held.iter().any(|prefix| prefix.addr() == addr);
    match addresses.iter().find(|prefix| !is_held(prefix.addr())) {
        Some(missing) => {
            Err(StartError::NotShared { addr: missing.addr(), dev, found: list_of(&held) })
        }
        None => Ok(()),
    }
}

/// With shared ownership only the addresses of the configuration are looked at on arrival.
fn check_listen_addr(config: &Config, listen: &Listen) -> Result<(), ConfigError> {
    let addresses = &config.interface.addresses;
    let is_ours = |addr| addresses.iter().any(|prefix| prefix.addr() == addr);
    match listen.at.addr {
        Some(addr) if config.interface.ownership == Ownership::Shared && !is_ours(addr) => {
            Err(ConfigError::new(
                "listen",
                format!("expected an address of {}, found {addr}", list_of(addresses)),
                "add it to interface.addresses, or give only the port",
            ))
        }
        _ => Ok(()),
    }
}

fn list_of(prefixes: &[Prefix]) -> String {
    prefixes.iter().map(Prefix::to_string).collect::<Vec<_>>().join(", ")
}

/// The kernel chooses the ports of its own connections from a range of its own; an answer that
/// arrives there must not come to the engine.
fn check_port_range(config: &Config) -> Result<(), StartError> {
    const KERNEL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    let text = fs::read_to_string(KERNEL_RANGE)
        .map_err(StartError::os("read net.ipv4.ip_local_port_range"))?;
    let mut ports = text.split_whitespace().filter_map(|port| port.parse::<u16>().ok());
    let (Some(lo), Some(hi)) = (ports.next(), ports.next()) else { return Ok(()) };
    let range = config.interface.port_range;
    if range.hi() < lo || hi < range.lo() {
        return Ok(());
    }
    Err(StartError::PortRange { range: range.to_string(), kernel: format!("{lo}-{hi}") })
}

/// A veth hands over what its peer sends as it is, and a peer with transmit offload leaves the
/// checksum to a device that is not there.
fn checksum_policy(configured: RxChecksum, driver: &str) -> ChecksumPolicy {
    match configured {
        RxChecksum::Trust => ChecksumPolicy::Trust,
        RxChecksum::Auto if driver == "veth" => ChecksumPolicy::AcceptPartial,
        RxChecksum::Auto | RxChecksum::Verify => ChecksumPolicy::Verify,
    }
}

/// Whether the interface carries a steering program that was loaded ahead. Any other program is
/// refused, with its name.
fn find_pins(interface: &Interface) -> Result<bool, StartError> {
    let (attached, dir) = (Steer::attached(interface.ifindex)?, pin_dir(&interface.name));
    match (attached, dir.exists()) {
        (None, false) => Ok(false),
        (Some(_), true) => Ok(true),
        (Some(attached), false) => {
            let ifname = interface.name.clone();
            Err(barewire_ebpf::Error::Occupied { ifname, attached }.into())
        }
        (None, true) => {
            let dev = interface.name.clone();
            Err(StartError::StrayPins { path: dir.display().to_string(), dev })
        }
    }
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
