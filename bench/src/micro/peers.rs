//! Connections of a stack whose peers are nothing but the frames that they sent last: the next one is
//! the same with other numbers in it. So the cost of one end is measured, and not that of two.

use crate::ends::{self, SERVER};
use barewire_stack::stack::{ConnId, Disposition, Miss, Stack, StackConfig};
use barewire_stack::stats::{Counter, Kind};
use barewire_stack::tcp::TcpConfig;
use barewire_stack::time::{Duration, Instant};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Bytes of every segment.
const BYTES: usize = 64;

/// Segments after which a connection acknowledges no longer at once.
const WARM_SEGMENTS: u32 = 20;

/// Where things are in an untagged frame with a segment over IPv4 without options.
const SEQ_AT: usize = 38;
const ACK_AT: usize = 42;
const CHECKSUM_AT: usize = 50;

/// The stack, and the peers of its connections.
pub(super) struct Peers {
    stack: Stack,
    peers: Vec<Peer>,
    now: Instant,
    /// Where frames are written that nobody reads.
    out: Vec<u8>,
}

struct Peer {
    id: ConnId,
    /// A segment with data, the next one.
    data: Vec<u8>,
    /// A bare acknowledgement, the last one.
    ack: Vec<u8>,
    /// Bytes that were sent to it and not acknowledged.
    unacknowledged: u32,
}

impl Peers {
    /// `n` connections that are open, and acknowledge as they will for good.
    pub(super) fn open(n: usize) -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        // Small segments leave one after the other.
        let tcp = TcpConfig { nagle: false, ..TcpConfig::default() };
        let config = StackConfig { tcp: tcp.clone(), ..ends::server(n as u32) };
        let mut stack = Stack::new(config, now);
        assert!(stack.listen(SERVER, 0), "nobody listens yet");
        let mut client = Stack::new(StackConfig { tcp, ..ends::client(n as u32) }, now);
        let peers = (0..n).map(|number| Peer::open(&mut stack, &mut client, now, number));
        let peers = peers.collect();
        let mut peers = Peers { stack, peers, now, out: vec![0; 2048] };
        for _ in 0..WARM_SEGMENTS {
            (0..n).for_each(|number| peers.receive(number));
            peers.transmit();
        }
        peers
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// The next segment of a peer.
    pub(super) fn frame(&self, number: usize) -> &[u8] {
        &self.peers[number].data
    }

    /// The next segment of a peer arrives, and what is in it is read.
    pub(super) fn receive(&mut self, number: usize) {
        let Peers { stack, peers, now, .. } = self;
        let peer = &mut peers[number];
        assert_eq!(stack.on_frame(*now, &mut peer.data, Miss::Answer), Disposition::Done);
        advance(&mut peer.data, SEQ_AT, BYTES as u32);
        while let Some(event) = stack.poll_event() {
            assert_eq!(stack.discard(*now, event.id, BYTES), BYTES, "the segment was in order");
            stack.event_done(&event);
        }
    }

    /// A segment leaves for a peer.
    pub(super) fn send(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        assert_eq!(self.stack.send(self.now, peer.id, &[0x5a; BYTES]), BYTES, "it has room");
        peer.unacknowledged += BYTES as u32;
        assert_eq!(self.transmit(), 1, "nothing holds it back");
    }

    /// A peer acknowledges all that it was sent.
    pub(super) fn acknowledge(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        advance(&mut peer.ack, ACK_AT, peer.unacknowledged);
        // It comes after all that the peer has sent.
        let behind = number_at(&peer.data, SEQ_AT).wrapping_sub(number_at(&peer.ack, SEQ_AT));
        advance(&mut peer.ack, SEQ_AT, behind);
        peer.unacknowledged = 0;
        self.stack.on_frame(self.now, &mut peer.ack, Miss::Answer);
        while let Some(event) = self.stack.poll_event() {
            self.stack.event_done(&event);
        }
    }

    /// Everything that may leave does; how many frames.
    pub(super) fn transmit(&mut self) -> usize {
        let Peers { stack, now, out, .. } = self;
        std::iter::from_fn(|| stack.poll_transmit(*now, out)).count()
    }

    /// Time passes: what is due happens, and what follows from it leaves.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.stack.on_timeout(self.now);
        // A turn takes up a bounded number of deadlines.
        while self.transmit() > 0 {
            self.stack.on_timeout(self.now);
        }
    }

    /// Time passes until nothing is due any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..100 {
            self.pass(Duration::from_millis(100));
        }
    }
}

impl Peer {
    fn open(stack: &mut Stack, client: &mut Stack, now: Instant, number: usize) -> Peer {
        let local = SocketAddrV4::new(Ipv4Addr::new(10, 1, 0, 1), 1024 + number as u16);
        let ours = client.connect(now, local, SERVER, 0, 0).expect("the port is free");
        let mut theirs = None;
        let mut carried = true;
        while carried {
            carried = carry(client, stack, now) | carry(stack, client, now);
            while let Some(event) = stack.poll_event() {
                theirs = Some(event.id);
                stack.event_done(&event);
            }
            while let Some(event) = client.poll_event() {
                client.event_done(&event);
            }
        }
        let id = theirs.expect("it was opened");
        // What the server sends is acknowledged at once, for it is the first.
        assert_eq!(stack.send(now, id, &[0x5a; BYTES]), BYTES);
        carry(stack, client, now);
        while let Some(event) = client.poll_event() {
            client.event_done(&event);
        }
        assert_eq!(client.discard(now, ours, BYTES), BYTES);
        let mut ack = last_frame(client, now);
        stack.on_frame(now, &mut ack, Miss::Answer);
        assert_eq!(client.send(now, ours, &[0x5a; BYTES]), BYTES);
        let data = last_frame(client, now);
        Peer { id, data, ack, unacknowledged: 0 }
    }
}

impl Drop for Peers {
    /// An operation that lost something has measured something else.
    fn drop(&mut self) {
        let stats = self.stack.stats();
        let troubles = stats.sum(Kind::Drop) + stats.sum(Kind::End);
        let is_quiet = troubles == 0 && stats.get(Counter::TcpRetransmitted) == 0;
        assert!(is_quiet || std::thread::panicking(), "expected a quiet run, found {stats:?}");
    }
}

/// Carries everything that `from` has to send over to `to`; true when there was anything.
fn carry(from: &mut Stack, to: &mut Stack, now: Instant) -> bool {
    let mut buf = [0; 2048];
    let mut carried = false;
    while let Some(len) = from.poll_transmit(now, &mut buf) {
        carried = true;
        if let Disposition::Reply(len) = to.on_frame(now, &mut buf[..len], Miss::Answer) {
            from.on_frame(now, &mut buf[..len], Miss::Answer);
        }
    }
    carried
}

/// The only frame that a stack has to send.
fn last_frame(stack: &mut Stack, now: Instant) -> Vec<u8> {
    let mut buf = [0; 2048];
    let len = stack.poll_transmit(now, &mut buf).expect("it has one");
    assert_eq!(stack.poll_transmit(now, &mut [0; 2048]), None, "it has one");
    buf[..len].to_vec()
}

fn number_at(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
}

/// Adds to a number in a header, and to the checksum what follows from it (RFC 1624, equation 3).
fn advance(frame: &mut [u8], at: usize, by: u32) {
    let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let before = [word(frame, at), word(frame, at + 2)];
    let number = number_at(frame, at).wrapping_add(by);
    frame[at..at + 4].copy_from_slice(&number.to_be_bytes());
    let after = [word(frame, at), word(frame, at + 2)];
    let mut sum = u32::from(!word(frame, CHECKSUM_AT));
    for (before, after) in before.into_iter().zip(after) {
        sum += u32::from(!before) + u32::from(after);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    frame[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
