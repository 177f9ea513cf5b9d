//! The single operations that a segment meets on its way, each by itself: for criterion, which times
//! them, and for the baseline, which counts their instructions. Everything is asked of the stack as
//! anybody may ask it; what has no door of its own, such as the timing wheel, is measured by what
//! differs between two operations.

mod peers;

use crate::ends::{self, CLIENT, SERVER};
use barewire_stack::dice::Dice;
use barewire_stack::flow::port::QueuePorts;
use barewire_stack::flow::rss::{Hashed, IndirectionTable, Rss, Toeplitz};
use barewire_stack::flow::{FourTuple, Place, Table};
use barewire_stack::stack::Stack;
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::checksum::Sum;
use barewire_stack::wire::ethernet::Ethernet;
use barewire_stack::wire::ipv4::Ipv4;
use barewire_stack::wire::tcp::{ChecksumPolicy, Tcp};
use peers::Peers;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Does an operation so many times.
pub type Run = Box<dyn FnMut(u64)>;

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Its name.
    pub name: &'static str,
    make: fn() -> Run,
}

/// All of them.
pub const OPERATIONS: [Operation; 15] = [
    operation("checksum_20", || checksum(20)),
    operation("checksum_64", || checksum(64)),
    operation("checksum_1460", || checksum(1460)),
    operation("checksum_8960", || checksum(8960)),
    operation("parse", parse),
    operation("lookup_hit_1k", || lookup(1_000, true)),
    operation("lookup_miss_1k", || lookup(1_000, false)),
    operation("lookup_hit_1m", || lookup(1_000_000, true)),
    operation("lookup_miss_1m", || lookup(1_000_000, false)),
    operation("port_choice", || port_choice(false)),
    operation("port_choice_of_queue", || port_choice(true)),
    operation("timer_none_due", timer_none_due),
    operation("segment_in", segment_in),
    operation("segment_in_with_timer", segment_in_with_timer),
    operation("segment_out", segment_out),
];

const fn operation(name: &'static str, make: fn() -> Run) -> Operation {
    Operation { name, make }
}

impl Operation {
    /// The operation of a name.
    pub fn named(name: &str) -> Option<Operation> {
        OPERATIONS.into_iter().find(|operation| operation.name == name)
    }

    /// Sets the scene for it.
    pub fn make(&self) -> Run {
        (self.make)()
    }
}

/// Does what `run` does. Measured by name under valgrind.
#[inline(never)]
pub fn repeat(run: &mut Run, n: u64) {
    run(n);
}

fn checksum(len: usize) -> Run {
    let bytes: Vec<u8> = (0..len).map(|idx| idx as u8).collect();
    Box::new(move |n| {
        for _ in 0..n {
            black_box(Sum::new().add_bytes(black_box(&bytes)).finish());
        }
    })
}

/// The headers of a frame with a segment of 64 bytes and timestamps, its checksum included, as the
/// parsers of the layers read them.
fn parse() -> Run {
    let frame = Peers::open(1).frame(0).to_vec();
    Box::new(move |n| {
        for _ in 0..n {
            let frame = black_box(&frame[..]);
            let (_, at) = Ethernet::parse(frame).expect("it is a frame");
            let (ip, payload) = Ipv4::parse(&frame[at..]).expect("it is a packet");
            let segment = &frame[at..][payload];
            let parsed = Tcp::parse(segment, ip.src, ip.dst, ChecksumPolicy::Verify);
            black_box(parsed.expect("it is a segment"));
        }
    })
}

/// A tuple in a table of `n_tuples`, in an order that no cache foresees.
fn lookup(n_tuples: u32, hits: bool) -> Run {
    let tuple = |number: u32, port: u16| {
        let remote = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + (number >> 14));
        let local = SocketAddrV4::new(*SERVER.ip(), port);
        FourTuple::new(local, SocketAddrV4::new(remote, 1024 + (number & 0x3fff) as u16))
    };
    let tuples: Vec<FourTuple> = (0..n_tuples).map(|number| tuple(number, 7000)).collect();
    let mut table = Table::new([3, 4]);
    for (tuple, number) in tuples.iter().zip(0..) {
        table.insert(tuple, Place::Record(number));
    }
    let mut dice = Dice::new(1);
    let port = if hits { 7000 } else { 7001 };
    let sought: Vec<FourTuple> =
        (0..1 << 16).map(|_| tuple(dice.below(u64::from(n_tuples)) as u32, port)).collect();
    let mut next = 0;
    Box::new(move |n| {
        for _ in 0..n {
            let tuple = &sought[next];
            next = (next + 1) % sought.len();
            let look = |place: Place| match place {
                Place::Record(number) => (tuples[number as usize] == *tuple).then_some(number),
                Place::Rest(_) => None,
            };
            assert_eq!(table.find(tuple, look).is_some(), hits);
        }
    })
}

/// A free port to a peer to which 1000 are in use; of those whose answers arrive at one queue of four, if
/// so asked.
fn port_choice(of_queue: bool) -> Run {
    let now = Instant::from_nanos(1_000_000_000);
    let mut stack = Stack::new(ends::client(2_000), now);
    if of_queue {
        let table = IndirectionTable::dealt(128, 4);
        let rss = Rss::new(&Toeplitz::KEY, Hashed::AddressesAndPorts, table);
        stack.set_queue_ports(Some(QueuePorts::new(rss, 2)));
    }
    let ports = 1024..=u16::MAX;
    for _ in 0..1_000 {
        let port = stack.free_port(now, CLIENT, SERVER, ports.clone()).expect("one is free");
        let opened = stack.connect(now, SocketAddrV4::new(CLIENT, port), SERVER, 0, 0);
        opened.expect("the port is free");
    }
    Box::new(move |n| {
        for _ in 0..n {
            black_box(stack.free_port(now, CLIENT, SERVER, ports.clone()).expect("one is free"));
        }
    })
}

/// A turn a millisecond after the last, when nothing is due on 1000 connections.
fn timer_none_due() -> Run {
    let mut peers = Peers::open(1_000);
    peers.settle();
    Box::new(move |n| {
        for _ in 0..n {
            peers.pass(Duration::from_millis(1));
        }
    })
}

/// A segment of 64 bytes arrives in order and is read, on one connection; its acknowledgement leaves when
/// two full segments are to be acknowledged.
fn segment_in() -> Run {
    let mut peers = Peers::open(1);
    Box::new(move |n| {
        for _ in 0..n {
            peers.receive(0);
            peers.transmit();
        }
    })
}

/// The same on each of 1000 connections in turn, and then the time passes after which each acknowledges:
/// a timer is set, comes up, and a bare acknowledgement leaves for every segment.
fn segment_in_with_timer() -> Run {
    let mut peers = Peers::open(1_000);
    let mut next = 0;
    Box::new(move |n| {
        for _ in 0..n {
            peers.receive(next);
            next += 1;
            if next == peers.len() {
                next = 0;
                peers.pass(Duration::from_millis(50));
            }
        }
    })
}

/// A segment of 64 bytes is written and leaves; every eighth is followed by the acknowledgement of all.
fn segment_out() -> Run {
    let mut peers = Peers::open(1);
    let mut left = 8;
    Box::new(move |n| {
        for _ in 0..n {
            peers.send(0);
            left -= 1;
            if left == 0 {
                left = 8;
                peers.acknowledge(0);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_does_what_it_says() {
        for operation in OPERATIONS {
            // More than a round of those that go round.
            repeat(&mut operation.make(), 2_500);
            assert_eq!(Operation::named(operation.name).expect("it is there").name, operation.name);
        }
        assert!(Operation::named("nothing").is_none());
    }
}
