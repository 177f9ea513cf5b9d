//! The choice of a local port: free, in its range, and where the NIC says how it spreads flows, one
//! whose segments arrive at the worker that opens.

use crate::peer::{Lab, PEER_IP, PORT, STACK_IP, SYN, frame_of};
use barewire_stack::flow::FourTuple;
use barewire_stack::flow::port::QueuePorts;
use barewire_stack::flow::rss::{Hashed, IndirectionTable, Rss, Toeplitz};
use barewire_stack::stack::ConnectError;
use barewire_stack::stats::Counter;
use barewire_stack::wire::tcp::Tcp;
use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::ops::RangeInclusive;

const RANGE: RangeInclusive<u16> = 40_000..=40_999;
const REMOTE: SocketAddrV4 = SocketAddrV4::new(PEER_IP, 80);

fn rss(hashed: Hashed) -> Rss {
    Rss::new(&Toeplitz::KEY, hashed, IndirectionTable::dealt(128, 4))
}

/// Opens connections until no port is left; the ports they got.
fn open_all(lab: &mut Lab) -> Vec<u16> {
    let mut ports = Vec::new();
    loop {
        match lab.stack.free_port(lab.now, STACK_IP, REMOTE, RANGE) {
            Ok(port) => {
                let local = SocketAddrV4::new(STACK_IP, port);
                lab.stack.connect(lab.now, local, REMOTE, 1, 0).expect("it is free");
                ports.push(port);
            }
            Err(error) => {
                assert_eq!(error, ConnectError::NoPort);
                return ports;
            }
        }
    }
}

#[test]
fn every_port_of_the_range_is_found_in_an_order_that_is_not_its_own() {
    let mut lab = Lab::new();
    let ports = open_all(&mut lab);
    let different: BTreeSet<_> = ports.iter().copied().collect();
    assert_eq!(different, RANGE.collect());
    assert_eq!(different.len(), ports.len());
    lab.audit();
}

#[test]
fn ports_lead_to_the_queue_of_the_worker_and_all_of_those_are_found() {
    let rss = rss(Hashed::AddressesAndPorts);
    let mut lab = Lab::new();
    lab.stack.set_queue_ports(Some(QueuePorts::new(rss.clone(), 3)));
    let ports: BTreeSet<_> = open_all(&mut lab).into_iter().collect();
    let arrives = |port| rss.queue(&FourTuple::new(SocketAddrV4::new(STACK_IP, port), REMOTE));
    assert_eq!(ports, RANGE.filter(|&port| arrives(port) == 3).collect());
    // Given up: the rest is free still.
    lab.stack.set_queue_ports(None);
    assert_eq!(open_all(&mut lab).len(), 1000 - ports.len());
    lab.audit();
}

#[test]
fn a_nic_that_hashes_addresses_alone_leaves_a_worker_all_ports_or_none() {
    let rss = rss(Hashed::Addresses);
    let n_ports = |queue| {
        let mut lab = Lab::new();
        lab.stack.set_queue_ports(Some(QueuePorts::new(rss.clone(), queue)));
        open_all(&mut lab).len()
    };
    let arrival = rss.queue(&FourTuple::new(SocketAddrV4::new(STACK_IP, 1), REMOTE));
    assert_eq!((0..4).filter(|&queue| n_ports(queue) == 1000).collect::<Vec<_>>(), [arrival]);
}

#[test]
fn arrivals_are_compared_with_what_was_foretold() {
    let rss = rss(Hashed::AddressesAndPorts);
    let arrival = |port| {
        let local = SocketAddrV4::new(STACK_IP, PORT);
        rss.queue(&FourTuple::new(local, SocketAddrV4::new(PEER_IP, port)))
    };
    let frame = |src_port| {
        let tcp = Tcp { src_port, dst_port: PORT, flags: SYN, ..Tcp::default() };
        frame_of(PEER_IP, STACK_IP, &tcp, b"")
    };
    let mut lab = Lab::new();
    lab.stack.set_queue_ports(Some(QueuePorts::new(rss.clone(), 1)));
    let mut n_foreign = 0;
    for port in 40_000..40_100 {
        lab.stack.check_arrival(&frame(port));
        n_foreign += u64::from(arrival(port) != 1);
    }
    assert_eq!(lab.stat(Counter::RssChecked), 100);
    assert_eq!(lab.stat(Counter::RssMismatched), n_foreign);
    // After the first thousand only a few of many are looked at.
    (0..924 + 256 * 10).for_each(|_| lab.stack.check_arrival(&frame(1)));
    assert_eq!(lab.stat(Counter::RssChecked), 1024 + 10);
    lab.stack.check_arrival(b"no frame at all");
    lab.stack.set_queue_ports(None);
    lab.stack.check_arrival(&frame(1));
    assert_eq!(lab.stat(Counter::RssChecked), 1024 + 10);
}
