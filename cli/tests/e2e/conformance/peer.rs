//! The wire between the player of a script and a stack in the other namespace: a packet socket on
//! the client's interface, in real time. The tester's addresses lie in a network that is routed to
//! it, so that the kernel of its namespace, which has none of them, says nothing.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration as Span, Instant as Clock};

use barewire_stack::script::{Call, Ends, Told, Wire};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::ethernet::{self, Ethernet, Mac};
use barewire_stack::wire::ipv4::Ipv4;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::lab::{End, Lab};

/// Bytes of the socket's queue: a flood and what it brings must fit.
const QUEUE_BYTES: usize = 8 << 20;

/// How late something may come on a machine that does other things too.
const SLACK: Duration = Duration::from_millis(150);

/// The stack under test as far as it is asked, and not spoken to by segments.
pub trait Subject {
    fn call(&mut self, call: &Call) -> Result<(), String>;

    /// Tells whether the application has been told this.
    fn is_told(&mut self, told: Told) -> bool;
}

/// The wire of one script.
pub struct PacketWire<'a> {
    socket: OwnedFd,
    begun: Clock,
    stack_mac: Mac,
    tester: Ipv4Addr,
    subject: Box<dyn Subject + 'a>,
}

/// The interface of an end, with its address.
pub fn link(lab: &Lab, end: End) -> (LinkAddr, Mac) {
    let addresses = lab.within(end, || getifaddrs().expect("lists interfaces").collect::<Vec<_>>());
    let own = addresses.iter().filter(|interface| interface.interface_name == end.dev());
    let link = own
        .filter_map(|interface| interface.address.as_ref()?.as_link_addr().copied())
        .next()
        .expect("the interface has a link address");
    (link, Mac(link.addr().expect("six bytes")))
}

impl<'a> PacketWire<'a> {
    pub fn new(lab: &Lab, ends: &Ends, subject: Box<dyn Subject + 'a>) -> Self {
        let (link, _) = link(lab, End::Client);
        let socket = lab.within(End::Client, || {
            let flags = SockFlag::SOCK_CLOEXEC;
            let protocol = SockProtocol::EthAll;
            socket(AddressFamily::Packet, SockType::Raw, flags, protocol).expect("a packet socket")
        });
        setsockopt(&socket, RcvBufForce, &QUEUE_BYTES).expect("sets the queue's size");
        bind(socket.as_raw_fd(), &link).expect("binds to the interface");
        PacketWire {
            socket,
            begun: Clock::now(),
            stack_mac: ends.stack_mac,
            tester: *ends.tester.ip(),
            subject,
        }
    }

    /// A frame that the stack under test sent to this tester, within so much time.
    fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        let mut buf = vec![0; 4096];
        let micros = patience.as_micros().max(1) as i64;
        let timeout = TimeVal::new(micros / 1_000_000, micros % 1_000_000);
        setsockopt(&self.socket, ReceiveTimeout, &timeout).expect("sets its patience");
        match recv(self.socket.as_raw_fd(), &mut buf, MsgFlags::empty()) {
            Ok(len) => {
                buf.truncate(len);
                Some(buf)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => None,
            Err(error) => panic!("receives: {error}"),
        }
    }

    fn is_ours(&self, frame: &[u8]) -> bool {
        let Ok((ether, at)) = Ethernet::parse(frame) else { return false };
        let is_from_stack = ether.src == self.stack_mac && ether.ethertype == ethernet::TYPE_IPV4;
        is_from_stack && Ipv4::parse(&frame[at..]).is_ok_and(|(ip, _)| ip.dst == self.tester)
    }
}

impl Wire for PacketWire<'_> {
    fn now(&self) -> Instant {
        Instant::from_nanos(self.begun.elapsed().as_nanos() as u64)
    }

    fn send(&mut self, frame: Vec<u8>) {
        // The queue of the interface may be full for a moment.
        while let Err(error) = send(self.socket.as_raw_fd(), &frame, MsgFlags::empty()) {
            assert_eq!(error, Errno::ENOBUFS, "sends {} bytes", frame.len());
            std::thread::sleep(Span::from_micros(100));
        }
    }

    fn receive(&mut self, deadline: Instant) -> Option<(Instant, Vec<u8>)> {
        loop {
            let left = deadline.since(self.now());
            let frame = self.next(left);
            match frame {
                Some(frame) if self.is_ours(&frame) => return Some((self.now(), frame)),
                Some(_) => {}
                None if self.now() >= deadline => return None,
                None => {}
            }
        }
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        self.subject.call(call)
    }

    fn is_told(&mut self, told: Told, deadline: Instant) -> bool {
        loop {
            if self.subject.is_told(told) {
                return true;
            }
            if self.now() >= deadline {
                return false;
            }
            std::thread::sleep(Span::from_millis(10));
        }
    }

    fn slack(&self) -> Duration {
        SLACK
    }
}

/// The ends of the script with this number. Testers live in the network for benchmarks (RFC 2544).
pub fn ends(stack: SocketAddrV4, macs: (Mac, Mac), idx: usize, attempt: u8) -> Ends {
    const NUMBERS: [u32; 4] = [7, i32::MAX as u32, 1 << 31, u32::MAX - 1];
    let host = u8::try_from(idx + 1).expect("a host for each script");
    // What an earlier attempt left behind must not be heard.
    let tester = Ipv4Addr::new(198, 18, attempt, host);
    Ends {
        stack_mac: macs.0,
        stack,
        tester_mac: macs.1,
        tester: SocketAddrV4::new(tester, 40_000),
        iss: NUMBERS[idx % NUMBERS.len()],
    }
}

/// How an attempt of the kernel to connect ended, in the words of a script.
pub fn told_of(error: ErrorKind) -> Option<Told> {
    match error {
        ErrorKind::ConnectionRefused => Some(Told::Refused),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some(Told::Unreachable),
        ErrorKind::TimedOut => Some(Told::TimedOut),
        ErrorKind::ConnectionReset => Some(Told::Reset),
        _ => None,
    }
}
