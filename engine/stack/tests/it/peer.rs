//! Plays the peer of one stack in virtual time: builds segments by hand, gives them to the stack and
//! looks at what comes out. Nothing sleeps, and every run of a test is the same.

use barewire_stack::stack::{
    ConnId, Disposition, Event, Miss, Prefix, Resolver, Stack, StackConfig,
};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::tcp::{State, TcpConfig};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::arp::{Arp, ArpOperation};
use barewire_stack::wire::ethernet::{self, Ethernet, Mac};
use barewire_stack::wire::ipv4::{self, Ipv4};
use barewire_stack::wire::tcp::{self, ChecksumPolicy, Flags, Options, Tcp, Timestamps};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const STACK_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
pub(crate) const STACK_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub(crate) const PORT: u16 = 7000;

pub(crate) const SYN: Flags = Flags::SYN;
pub(crate) const ACK: Flags = Flags::ACK;
pub(crate) const FIN: Flags = Flags::FIN;
pub(crate) const RST: Flags = Flags::RST;
pub(crate) const PSH: Flags = Flags::PSH;

/// A configuration without timestamps, so that segments are short to write; tests of timestamps
/// turn them on.
pub(crate) fn config() -> StackConfig {
    StackConfig {
        mac: STACK_MAC,
        addresses: vec![Prefix { addr: STACK_IP, len: 24 }],
        prefixes: vec![Prefix { addr: Ipv4Addr::new(10, 7, 0, 0), len: 16 }],
        gateway: None,
        resolver: Resolver::Arp,
        ttl: 64,
        dscp: 0,
        rx_checksum: ChecksumPolicy::Verify,
        connections_max: 100_000,
        syn_backlog_max: 1000,
        time_wait_max: 1000,
        neighbors_max: 16,
        resets_per_second_max: 1000,
        buffer_bytes_max: 4 << 20,
        secret: Secret::new([42; 32]),
        tcp: TcpConfig { timestamps: false, ..TcpConfig::default() },
    }
}

/// A segment that the stack sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) tcp: Tcp,
    pub(crate) payload: Vec<u8>,
    pub(crate) at: Instant,
}

/// One stack and a peer played by hand.
pub(crate) struct Lab {
    pub(crate) stack: Stack,
    pub(crate) now: Instant,
    pub(crate) sent: VecDeque<Sent>,
    pub(crate) events: VecDeque<Event>,
    /// Frames other than TCP that the stack sent.
    pub(crate) others: Vec<Vec<u8>>,
    /// The peer answers ARP for itself.
    pub(crate) answers_arp: bool,
}

/// The peer's side of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) port: u16,
    pub(crate) stack_port: u16,
    /// Next number the peer sends.
    pub(crate) seq: u32,
    /// Next number the peer expects.
    pub(crate) ack: u32,
    pub(crate) window: u16,
    pub(crate) stamps: Option<Timestamps>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Lab::with(config())
    }

    pub(crate) fn with(config: StackConfig) -> Self {
        let now = Instant::ZERO + Duration::from_secs(1000);
        let mut stack = Stack::new(config, now);
        assert!(stack.listen(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT), 5));
        Lab {
            stack,
            now,
            sent: VecDeque::new(),
            events: VecDeque::new(),
            others: Vec::new(),
            answers_arp: true,
        }
    }

    /// Gives a raw frame to the stack and lets it work.
    pub(crate) fn frame(&mut self, mut frame: Vec<u8>) {
        if let Disposition::Reply(len) = self.stack.on_frame(self.now, &mut frame, Miss::Answer) {
            frame.truncate(len);
            self.take(&frame);
        }
        self.turn();
    }

    /// One segment from `from` to `to`.
    pub(crate) fn segment_between(
        &mut self,
        from: SocketAddrV4,
        to: SocketAddrV4,
        mut tcp: Tcp,
        payload: &[u8],
    ) {
        (tcp.src_port, tcp.dst_port) = (from.port(), to.port());
        self.frame(frame_of(*from.ip(), *to.ip(), &tcp, payload));
    }

    /// One segment of a flow; the flow's numbers do not move.
    pub(crate) fn segment(
        &mut self,
        flow: &Flow,
        flags: Flags,
        seq: u32,
        ack: u32,
        payload: &[u8],
    ) {
        let options = Options { timestamps: flow.stamps, ..Options::default() };
        self.segment_with(flow, flags, seq, ack, options, payload);
    }

    pub(crate) fn segment_with(
        &mut self,
        flow: &Flow,
        flags: Flags,
        seq: u32,
        ack: u32,
        options: Options,
        payload: &[u8],
    ) {
        let tcp = Tcp { seq, ack, flags, window: flow.window, options, ..Tcp::default() };
        let from = SocketAddrV4::new(PEER_IP, flow.port);
        self.segment_between(from, SocketAddrV4::new(STACK_IP, flow.stack_port), tcp, payload);
    }

    /// In-order data from the peer.
    pub(crate) fn data(&mut self, flow: &mut Flow, payload: &[u8]) {
        self.segment(flow, ACK | PSH, flow.seq, flow.ack, payload);
        flow.seq = flow.seq.wrapping_add(payload.len() as u32);
    }

    /// A bare ACK of everything the flow has seen.
    pub(crate) fn ack(&mut self, flow: &Flow) {
        self.segment(flow, ACK, flow.seq, flow.ack, b"");
    }

    /// Everything the stack does by itself at this moment.
    pub(crate) fn turn(&mut self) {
        self.stack.on_timeout(self.now);
        while let Some(event) = self.stack.poll_event() {
            self.events.push_back(event);
            if event.end.is_some() {
                self.stack.event_done(&event);
            }
        }
        let mut buf = [0; 2048];
        while let Some(len) = self.stack.poll_transmit(self.now, &mut buf) {
            let frame = buf[..len].to_vec();
            self.take(&frame);
        }
    }

    fn take(&mut self, frame: &[u8]) {
        let (ether, at) = Ethernet::parse(frame).expect("the stack sends Ethernet");
        assert_eq!(ether.src, STACK_MAC);
        if ether.ethertype == ethernet::TYPE_ARP {
            self.others.push(frame.to_vec());
            let arp = Arp::parse(&frame[at..]).expect("the stack sends sound ARP");
            if arp.operation == ArpOperation::Request
                && arp.target_ip == PEER_IP
                && self.answers_arp
            {
                self.frame(arp_reply(PEER_IP, PEER_MAC));
            }
            return;
        }
        let (ip, range) = Ipv4::parse(&frame[at..]).expect("the stack sends sound IPv4");
        assert_eq!(at + range.end, frame.len(), "no bytes behind the packet");
        let bytes = &frame[at..][range];
        if ip.protocol != ipv4::PROTOCOL_TCP {
            self.others.push(frame.to_vec());
            return;
        }
        let parsed = Tcp::parse(bytes, ip.src, ip.dst, ChecksumPolicy::Verify)
            .expect("the stack sends sound TCP");
        let payload = bytes[parsed.payload_offset..].to_vec();
        self.sent.push_back(Sent { tcp: parsed.tcp, payload, at: self.now });
    }

    /// Lets virtual time pass, stopping at every deadline of the stack.
    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.turn();
            match self.stack.poll_timeout(self.now) {
                Some(at) if at <= end => {
                    self.now = at.max(self.now + Duration::from_millis(1));
                }
                _ => break,
            }
        }
        self.now = end;
        self.turn();
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// The next segment that the stack sent.
    pub(crate) fn expect(&mut self) -> Sent {
        self.sent.pop_front().expect("the stack sends a segment")
    }

    /// The next segment, which has exactly these flags (PSH is not looked at).
    pub(crate) fn expect_flags(&mut self, flags: Flags) -> Sent {
        let sent = self.expect();
        let bits = sent.tcp.flags.bits() & !PSH.bits();
        assert_eq!(Flags::from_bits(bits), flags, "{sent:?}");
        sent
    }

    pub(crate) fn expect_silence(&mut self) {
        assert!(self.sent.is_empty(), "{:?}", self.sent);
    }

    /// The event of the one connection, which has all of `events`.
    pub(crate) fn event(&mut self) -> Event {
        self.events.pop_front().expect("an event")
    }

    pub(crate) fn stat(&self, counter: Counter) -> u64 {
        self.stack.stats().get(counter)
    }

    /// A SYN and its answer; the handshake is not complete. What came before is forgotten.
    pub(crate) fn syn(&mut self, port: u16, options: Options) -> (Flow, Sent) {
        self.sent.clear();
        self.events.clear();
        let mut flow =
            Flow { port, stack_port: PORT, seq: 1000, ack: 0, window: 65535, stamps: None };
        self.segment_with(&flow, SYN, flow.seq, 0, options, b"");
        let syn_ack = self.expect_flags(SYN | ACK);
        flow.seq = 1001;
        flow.ack = syn_ack.tcp.seq.wrapping_add(1);
        (flow, syn_ack)
    }

    /// An established connection that the peer opened, with an MSS of 1000 bytes.
    pub(crate) fn open(&mut self, port: u16) -> (Flow, ConnId) {
        let options = Options { mss: Some(1000), ..Options::default() };
        self.open_with(port, options)
    }

    pub(crate) fn open_with(&mut self, port: u16, options: Options) -> (Flow, ConnId) {
        let (mut flow, syn_ack) = self.syn(port, options);
        if let Some(stamps) = syn_ack.tcp.options.timestamps {
            flow.stamps = Some(Timestamps { value: stamps.echo + 1, echo: stamps.value });
        }
        self.ack(&flow);
        let event = self.event();
        assert_eq!(self.stack.state(event.id), Some(State::Established));
        (flow, event.id)
    }

    /// A connection that the stack opened and the peer accepted.
    pub(crate) fn connect(&mut self) -> (Flow, ConnId) {
        let local = SocketAddrV4::new(STACK_IP, 40_000);
        let remote = SocketAddrV4::new(PEER_IP, 80);
        let id = self.stack.connect(self.now, local, remote, 9, 0).expect("a connection");
        self.turn();
        let syn = self.expect_flags(SYN);
        let flow = Flow {
            port: 80,
            stack_port: 40_000,
            seq: 5000,
            ack: syn.tcp.seq.wrapping_add(1),
            window: 65535,
            stamps: None,
        };
        (flow, id)
    }

    /// The end of a test: everything the stack counts adds up.
    pub(crate) fn audit(&self) {
        self.stack.audit().expect("the sums hold");
    }
}

pub(crate) fn frame_of(src: Ipv4Addr, dst: Ipv4Addr, tcp: &Tcp, payload: &[u8]) -> Vec<u8> {
    let len = tcp.header_len() + payload.len();
    let mut frame = vec![0; 34 + len];
    let ether =
        Ethernet { dst: STACK_MAC, src: PEER_MAC, vlan_id: None, ethertype: ethernet::TYPE_IPV4 };
    ether.emit(&mut frame);
    ip_of(src, dst, ipv4::PROTOCOL_TCP).emit(&mut frame[14..], len as u16);
    let n = tcp.emit(&mut frame[34..]);
    frame[34 + n..].copy_from_slice(payload);
    tcp::fill_checksum(&mut frame[34..], src, dst);
    frame
}

pub(crate) fn ip_of(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Ipv4 {
    Ipv4 {
        src,
        dst,
        protocol,
        ttl: 64,
        dscp: 0,
        ecn: 0,
        id: 7,
        dont_fragment: false,
        more_fragments: false,
        fragment_offset: 0,
    }
}

pub(crate) fn arp_reply(ip: Ipv4Addr, mac: Mac) -> Vec<u8> {
    arp_frame(ArpOperation::Reply, ip, mac, STACK_IP)
}

pub(crate) fn arp_frame(
    operation: ArpOperation,
    ip: Ipv4Addr,
    mac: Mac,
    target_ip: Ipv4Addr,
) -> Vec<u8> {
    let mut frame = vec![0; 42];
    Ethernet { dst: STACK_MAC, src: mac, vlan_id: None, ethertype: ethernet::TYPE_ARP }
        .emit(&mut frame);
    Arp { operation, sender_mac: mac, sender_ip: ip, target_mac: STACK_MAC, target_ip }
        .emit(&mut frame[14..]);
    frame
}
