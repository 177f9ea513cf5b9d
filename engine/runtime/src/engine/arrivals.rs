//! At which queue the segments of a connection arrive: what the driver tells of its hash, and whether
//! that is enough to foretell the queue. Where it is, connections are opened from ports whose answers
//! come back to the worker that opens; where not, arrivals are observed and foreign frames handed over.
//! Nothing here makes a frame belong to anybody: correctness never depends on the hash.

use super::StartError;
use crate::sys::interface::Interface;
use crate::sys::rss::{HashFunction, RssFacts};
use barewire_api::config::RssUse;
use barewire_api::control::{self, HashedFields, RssStatus};
use barewire_stack::flow::port::QueuePorts;
use barewire_stack::flow::rss::{Hashed, IndirectionTable, Rss};
use tracing::{info, warn};

/// Bytes of a key that the hash of TCP over IPv4 takes: 12 bytes of input and the width of the hash.
const KEY_BYTES_MIN: usize = 16;

/// What is known of an interface at one moment.
#[derive(Clone, Debug)]
pub struct Arrivals {
    /// As configured.
    wanted: RssUse,
    /// What the driver tells; absent when it tells nothing.
    facts: Option<RssFacts>,
    /// Queues that can receive and transmit.
    n_queues: u32,
    /// How segments find their queue, or why that cannot be foretold; nothing where there is one
    /// queue only.
    rss: Result<Option<Rss>, String>,
}

impl Arrivals {
    /// Asks the driver.
    pub(crate) fn survey(interface: &Interface, wanted: RssUse) -> Result<Self, StartError> {
        let facts = RssFacts::of(&interface.name)
            .map_err(StartError::os("ask the driver how it spreads flows (ETHTOOL_GRSSH)"))?;
        Ok(Arrivals::new(interface, facts, wanted))
    }

    fn new(interface: &Interface, facts: Option<RssFacts>, wanted: RssUse) -> Self {
        let rss = match (wanted, interface.n_rx_queues) {
            (_, 1) => Ok(None),
            (RssUse::Observe, _) => Err("interface.rss = \"observe\"".to_owned()),
            _ => model(interface, facts.as_ref()).map(Some),
        };
        Arrivals { wanted, facts, n_queues: interface.n_queues(), rss }
    }

    /// Gives the device the table and key that the driver told, again: some drivers change or forget
    /// them when a program is attached or queues are added, and go on telling the old ones. Whether
    /// it helped, the arrivals show.
    pub(crate) fn write_back(&self, dev: &str) {
        let Some(facts) = &self.facts else { return };
        if self.wanted == RssUse::Observe || self.n_queues == 1 {
            return;
        }
        match facts.write(dev) {
            Ok(true) => {
                info!("rss: key and table of {} written back to `{dev}`", facts.table.len())
            }
            Ok(false) => {}
            Err(error) => warn!("rss: key and table could not be written back to `{dev}`: {error}"),
        }
    }

    /// Refuses what the configuration does not want, when queues 0 to `n_served - 1` are served.
    pub(crate) fn check(&self, dev: &str, n_served: u32) -> Result<(), StartError> {
        let refused = |why| Err(StartError::Rss { dev: dev.to_owned(), why });
        match (self.wanted, &self.rss, self.stray_text(dev, n_served)) {
            (RssUse::Required, Err(why), _) => refused(why.clone()),
            (RssUse::Required, Ok(_), Some(stray)) => refused(stray),
            _ => Ok(()),
        }
    }

    /// What is to be said of places of the table that lead to queues which nobody serves.
    pub(crate) fn stray_text(&self, dev: &str, n_served: u32) -> Option<String> {
        let table = &self.facts.as_ref()?.table;
        let n_stray = table.iter().filter(|&&queue| queue >= n_served).count();
        let n_places = table.len();
        (n_stray > 0).then(|| {
            format!(
                "{n_stray} of {n_places} places of the indirection table lead to queues that nobody \
                 serves: `ethtool -X {dev} equal {n_served}`"
            )
        })
    }

    /// How segments find their queue, where that can be foretold.
    pub fn rss(&self) -> Option<&Rss> {
        self.rss.as_ref().ok()?.as_ref()
    }

    /// The ports of one queue, where they are known.
    pub(crate) fn queue_ports(&self, queue: u32) -> Option<QueuePorts> {
        Some(QueuePorts::new(self.rss()?.clone(), u16::try_from(queue).ok()?))
    }

    /// Arrivals are observed from now on, whatever the driver tells.
    pub(crate) fn give_up(&mut self, why: String) {
        self.rss = Err(why);
    }

    /// What differs from an earlier survey, for people; nothing when nothing does.
    pub(crate) fn changes_since(&self, before: &Arrivals) -> Vec<String> {
        let mut changes = Vec::new();
        if self.n_queues != before.n_queues {
            changes.push(format!("{} queues became {}", before.n_queues, self.n_queues));
        }
        let (new, old) = match (&self.facts, &before.facts) {
            (Some(new), Some(old)) => (new, old),
            (new, old) => {
                if new.is_some() != old.is_some() {
                    changes.push("the driver's answer came or went".to_owned());
                }
                return changes;
            }
        };
        for (differs, what) in [
            (new.key != old.key, "another key"),
            (new.table != old.table, "another indirection table"),
            (
                (new.function, new.is_symmetric) != (old.function, old.is_symmetric),
                "another hash function",
            ),
            (new.tcp_v4_fields != old.tcp_v4_fields, "other fields are hashed"),
        ] {
            changes.extend(differs.then(|| what.to_owned()));
        }
        changes
    }

    /// Queues that can receive and transmit now.
    pub(crate) fn n_queues(&self) -> u32 {
        self.n_queues
    }

    /// As the control protocol shows it; what was counted is the caller's to add.
    pub(crate) fn status(&self) -> RssStatus {
        let facts = self.facts.as_ref();
        RssStatus {
            wanted: self.wanted,
            ports_by_class: self.rss().is_some(),
            reason: self.reason(),
            hash_function: facts.map_or(control::HashFunction::Unknown, |f| match f.function {
                HashFunction::Toeplitz => control::HashFunction::Toeplitz,
                HashFunction::Xor => control::HashFunction::Xor,
                HashFunction::Crc32 => control::HashFunction::Crc32,
                HashFunction::Unknown => control::HashFunction::Unknown,
            }),
            hashed: match facts.and_then(|facts| facts.tcp_v4_fields) {
                None => HashedFields::Unknown,
                Some(RssFacts::ADDRESSES_AND_PORTS) => HashedFields::AddressesAndPorts,
                Some(RssFacts::ADDRESSES) => HashedFields::Addresses,
                Some(_) => HashedFields::Other,
            },
            key_known: facts.is_some_and(|facts| !facts.key.is_empty()),
            table_len: facts.map_or(0, |facts| facts.table.len() as u32),
            ..RssStatus::default()
        }
    }

    /// In one sentence what becomes of ports.
    pub(crate) fn reason(&self) -> String {
        match &self.rss {
            Ok(None) => "one queue, where everything arrives".to_owned(),
            Ok(Some(_)) => {
                "ports are chosen by class, answers arrive at the worker that opens".to_owned()
            }
            Err(why) => {
                format!("arrival queue is observed, foreign frames are handed over: {why}")
            }
        }
    }
}

/// What the driver tells as something that can be computed, or why it cannot, with the fix.
fn model(interface: &Interface, facts: Option<&RssFacts>) -> Result<Rss, String> {
    let (dev, driver) = (&interface.name, &interface.driver);
    let Some(facts) = facts else {
        let driver = if driver.is_empty() { "" } else { driver };
        return Err(format!(
            "the driver {driver} of `{dev}` tells nothing of how it spreads flows"
        ));
    };
    if facts.function != HashFunction::Toeplitz {
        let found = format!("{:?}", facts.function).to_lowercase();
        return Err(format!(
            "expected the hash function toeplitz, found {found}: `ethtool -X {dev} hfunc toeplitz`"
        ));
    }
    if facts.is_symmetric {
        return Err(format!("the hash is made symmetric: `ethtool -X {dev} xfrm none`"));
    }
    if facts.key.len() < KEY_BYTES_MIN {
        return Err(format!("the driver {driver} of `{dev}` does not tell its key"));
    }
    let n_places = facts.table.len();
    if !n_places.is_power_of_two() {
        return Err(format!(
            "expected an indirection table with a power of two of places, found {n_places}"
        ));
    }
    let queues = facts.table.iter().map(|&queue| u16::try_from(queue));
    let Ok(queues) = queues.collect::<Result<Vec<_>, _>>() else {
        return Err("the indirection table names a queue beyond 65,535".to_owned());
    };
    let hashed = match facts.tcp_v4_fields {
        Some(RssFacts::ADDRESSES_AND_PORTS) => Hashed::AddressesAndPorts,
        Some(RssFacts::ADDRESSES) => Hashed::Addresses,
        found => {
            let found = found.map_or("nothing".to_owned(), |bits| format!("RXH bits {bits:#x}"));
            return Err(format!(
                "expected addresses and ports of TCP over IPv4 to be hashed, and the driver tells \
                 {found}: `ethtool -N {dev} rx-flow-hash tcp4 sdfn`"
            ));
        }
    };
    Ok(Rss::new(&facts.key, hashed, IndirectionTable::from_queues(queues)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use barewire_stack::flow::FourTuple;
    use barewire_stack::flow::rss::Toeplitz;
    use std::net::SocketAddrV4;

    fn interface(n_queues: u32) -> Interface {
        Interface {
            name: "eth1".into(),
            ifindex: 2,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            driver: "virtio_net".into(),
            n_rx_queues: n_queues,
            n_tx_queues: n_queues,
        }
    }

    fn facts() -> RssFacts {
        RssFacts {
            function: HashFunction::Toeplitz,
            is_symmetric: false,
            key: Toeplitz::KEY.to_vec(),
            table: (0..128).map(|place| place % 4).collect(),
            tcp_v4_fields: Some(RssFacts::ADDRESSES_AND_PORTS),
            n_rx_queues: Some(4),
        }
    }

    fn of(facts: Option<RssFacts>) -> Arrivals {
        Arrivals::new(&interface(4), facts, RssUse::Auto)
    }

    #[test]
    fn what_a_driver_tells_in_full_is_computed() {
        let arrivals = of(Some(facts()));
        let at = |text: &str| text.parse::<SocketAddrV4>().expect("an endpoint");
        // The first of the published vectors: its hash ends in 0x78, place 120 of 128.
        let tuple = FourTuple::new(at("161.142.100.80:1766"), at("66.9.149.187:2794"));
        assert_eq!(arrivals.rss().expect("computed").queue(&tuple), 120 % 4);
        assert_eq!(arrivals.queue_ports(3).expect("known").queue(), 3);
        let status = arrivals.status();
        assert!(status.ports_by_class && status.key_known);
        assert_eq!((status.table_len, status.hashed), (128, HashedFields::AddressesAndPorts));
    }

    #[test]
    fn what_cannot_be_foretold_says_why_and_what_to_do() {
        let full = facts();
        let cases = [
            (None, "tells nothing"),
            (Some(RssFacts { function: HashFunction::Xor, ..full.clone() }), "hfunc toeplitz"),
            (Some(RssFacts { is_symmetric: true, ..full.clone() }), "xfrm none"),
            (Some(RssFacts { key: Vec::new(), ..full.clone() }), "does not tell its key"),
            (Some(RssFacts { table: vec![0; 96], ..full.clone() }), "found 96"),
            (Some(RssFacts { table: Vec::new(), ..full.clone() }), "found 0"),
            (Some(RssFacts { tcp_v4_fields: None, ..full.clone() }), "tells nothing: `ethtool -N"),
            (Some(RssFacts { tcp_v4_fields: Some(0x10), ..full }), "0x10: `ethtool -N eth1"),
        ];
        for (facts, expected) in cases {
            let arrivals = of(facts.clone());
            assert!(arrivals.reason().contains(expected), "{}", arrivals.reason());
            assert!(arrivals.reason().starts_with("arrival queue is observed"));
            assert!(arrivals.check("eth1", 4).is_ok() && arrivals.queue_ports(0).is_none());
            let demanded = Arrivals::new(&interface(4), facts, RssUse::Required);
            let error = demanded.check("eth1", 4).expect_err("it was demanded").to_string();
            assert!(error.contains("rss = \"required\"") && error.contains(expected), "{error}");
        }
        let observed = Arrivals::new(&interface(4), Some(facts()), RssUse::Observe);
        assert!(observed.rss().is_none() && observed.reason().contains("rss = \"observe\""));
    }

    #[test]
    fn one_queue_needs_no_hash() {
        let arrivals = Arrivals::new(&interface(1), None, RssUse::Required);
        arrivals.check("eth1", 1).expect("everything arrives at queue 0");
        assert!(arrivals.queue_ports(0).is_none(), "any port will do");
        assert_eq!(arrivals.reason(), "one queue, where everything arrives");
    }

    #[test]
    fn places_that_lead_to_nobody_are_told_and_refused_on_demand() {
        let arrivals = of(Some(facts()));
        assert_eq!(arrivals.stray_text("eth1", 4), None);
        let text = arrivals.stray_text("eth1", 3).expect("queue 3 is not served");
        assert!(text.starts_with("32 of 128 places") && text.contains("equal 3"), "{text}");
        arrivals.check("eth1", 3).expect("nobody demanded more");
        let demanded = Arrivals::new(&interface(4), Some(facts()), RssUse::Required);
        demanded.check("eth1", 4).expect("all are served");
        let error = demanded.check("eth1", 3).expect_err("it was demanded").to_string();
        assert!(error.contains(&text), "{error}");
    }

    #[test]
    fn changes_are_told_one_by_one() {
        let before = of(Some(facts()));
        assert_eq!(before.changes_since(&before), [""; 0]);
        let mut key = facts();
        key.key[3] ^= 1;
        key.table[0] = 3;
        let after = of(Some(key));
        assert_eq!(after.changes_since(&before), ["another key", "another indirection table"]);
        let fewer = Arrivals::new(&interface(2), Some(facts()), RssUse::Auto);
        assert_eq!(fewer.changes_since(&before), ["4 queues became 2"]);
        assert_eq!(of(None).changes_since(&before).len(), 1);
    }
}
