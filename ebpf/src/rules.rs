//! What a loaded program steers: its switch, sockets, owned prefixes, listeners and port ranges,
//! set and listed through the maps; and its counters. All of it works on a program that somebody
//! else has loaded and pinned.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, BorrowedFd};

use barewire_steer::abi::{
    Address, Config, Listener, ListenerKey, LocalPorts, OnMissing, PRESENT, PortRange, Prefix,
    PrefixKey, Verdict,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Error;
use crate::program::Steer;

/// The only key of the config map.
const CONFIG_KEY: u32 = 0;

impl Steer {
    /// Puts an AF_XDP socket that is bound to `queue` into its slot. The kernel takes it out by
    /// itself when the socket is closed.
    pub fn set_xsk(&self, queue: u32, xsk: BorrowedFd<'_>) -> Result<(), Error> {
        self.check_queue(queue)?;
        self.maps.xsks.set(queue.as_bytes(), &xsk.as_raw_fd())
    }

    /// Empties the slot of `queue`. The kernel does not say whether there was a socket in it.
    pub fn clear_xsk(&self, queue: u32) -> Result<(), Error> {
        self.check_queue(queue)?;
        self.maps.xsks.remove(queue.as_bytes()).map(drop)
    }

    /// How many queues the program was loaded for.
    pub fn n_queues(&self) -> u32 {
        self.maps.xsks.max_entries()
    }

    /// Makes the engine the owner of all addresses in `address/len`.
    pub fn add_prefix(&self, address: IpAddr, len: u8) -> Result<(), Error> {
        let key = Prefix::new(address, len)?.key();
        self.maps.prefixes.set(key.as_bytes(), &PRESENT)
    }

    /// Gives a prefix back; returns whether it was owned.
    pub fn remove_prefix(&self, address: IpAddr, len: u8) -> Result<bool, Error> {
        self.maps.prefixes.remove(Prefix::new(address, len)?.key().as_bytes())
    }

    /// The owned prefixes.
    pub fn prefixes(&self) -> Vec<Prefix> {
        self.maps.prefixes.keys().filter_map(|key: PrefixKey| key.prefix()).collect()
    }

    /// Takes TCP to `port` of `address`, or of any address when it is `None` or unspecified.
    pub fn add_listener(&self, address: Option<IpAddr>, port: u16) -> Result<(), Error> {
        check_port(port)?;
        self.maps.listeners.set(ListenerKey::new(address, port).as_bytes(), &PRESENT)
    }

    /// Gives a port back; returns whether it was taken.
    pub fn remove_listener(&self, address: Option<IpAddr>, port: u16) -> Result<bool, Error> {
        self.maps.listeners.remove(ListenerKey::new(address, port).as_bytes())
    }

    /// The listeners.
    pub fn listeners(&self) -> Vec<Listener> {
        let keys = self.maps.listeners.keys();
        keys.map(|key: ListenerKey| key.listener()).collect()
    }

    /// Takes TCP to the ports `range` of `address`, or of any: the local ports of active opens.
    /// An address has one range; a new one replaces it.
    pub fn set_port_range(
        &self,
        address: Option<IpAddr>,
        range: RangeInclusive<u16>,
    ) -> Result<(), Error> {
        let (low, high) = range.into_inner();
        check_port(low)?;
        if low > high {
            return Err(Error::EmptyPortRange { low, high });
        }
        self.maps.port_ranges.set(Address::new(address).as_bytes(), &PortRange { low, high })
    }

    /// Gives the port range of `address` back; returns whether it had one.
    pub fn remove_port_range(&self, address: Option<IpAddr>) -> Result<bool, Error> {
        self.maps.port_ranges.remove(Address::new(address).as_bytes())
    }

    /// The port ranges.
    pub fn port_ranges(&self) -> Result<Vec<LocalPorts>, Error> {
        let mut ranges = Vec::new();
        for address in self.maps.port_ranges.keys::<Address>() {
            let value = self.maps.port_ranges.get(address.as_bytes())?;
            if let Some(range) = value.and_then(|value| PortRange::read_from_bytes(&value).ok()) {
                ranges.push(LocalPorts { address: address.ip(), ports: range.low..=range.high });
            }
        }
        Ok(ranges)
    }

    /// Switches steering on or off; off, every frame goes to the kernel.
    pub fn set_enabled(&self, enabled: bool) -> Result<(), Error> {
        self.set_config(Config::new(enabled, self.on_missing()?))
    }

    /// Whether steering is on.
    pub fn enabled(&self) -> Result<bool, Error> {
        Ok(self.config()?.enabled())
    }

    /// Decides about frames of ours on queues without a socket.
    pub fn set_on_missing(&self, on_missing: OnMissing) -> Result<(), Error> {
        self.set_config(Config::new(self.enabled()?, on_missing))
    }

    /// What happens to frames of ours on queues without a socket.
    pub fn on_missing(&self) -> Result<OnMissing, Error> {
        Ok(self.config()?.on_missing())
    }

    /// How many frames had each verdict since the program was loaded, over all CPUs; the sum is
    /// the number of frames that it saw.
    pub fn verdicts(&self) -> Result<Vec<(Verdict, u64)>, Error> {
        let counted = |&verdict| Ok((verdict, self.maps.verdicts.sum(verdict as u32)?));
        Verdict::ALL.iter().map(counted).collect()
    }

    pub(crate) fn set_config(&self, config: Config) -> Result<(), Error> {
        self.maps.config.set(CONFIG_KEY.as_bytes(), &config)
    }

    /// The config, which says first whether the maps are of this ABI.
    pub(crate) fn config(&self) -> Result<Config, Error> {
        let value = self.maps.config.get(CONFIG_KEY.as_bytes())?;
        Ok(Config::parse(&value.unwrap_or_default())?)
    }

    fn check_queue(&self, queue: u32) -> Result<(), Error> {
        let n_queues = self.n_queues();
        if queue >= n_queues {
            return Err(Error::NoSuchQueue { queue, n_queues });
        }
        Ok(())
    }
}

fn check_port(port: u16) -> Result<(), Error> {
    if port == 0 { Err(Error::PortZero) } else { Ok(()) }
}
