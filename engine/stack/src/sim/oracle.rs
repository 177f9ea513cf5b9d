//! Knows what every application sent and judges what every other one reads: the bytes of a stream
//! follow from its key and their offset, so that they are checked as they are read and nothing is
//! stored. An end of a connection is known by its four-tuple and its initial sequence number, which
//! also tell apart the lives of a four-tuple that is used again.

use crate::flow::FourTuple;
use crate::stack::ConnInfo;
use crate::tcp::{End, State};
use std::collections::{BTreeMap, BTreeSet};

/// The ends of all connections of one run, and what is known of the segments between them.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    ends: Vec<Ledger>,
    /// By four-tuple and initial sequence number.
    by_number: BTreeMap<([u8; 12], u32), usize>,
    /// Flows to whose end, as it sees itself, a host has sent RST.
    resets: BTreeSet<[u8; 12]>,
    /// Exact RST of somebody off the path, which RFC 5961 lets pass: flow and number.
    forged: BTreeSet<([u8; 12], u32)>,
    /// Queues at which the SYN of a flow arrived, as a set of bits.
    syn_queues: BTreeMap<[u8; 12], u64>,
    /// Flows of the plan whose handshake met what may rightly end it.
    tainted: BTreeSet<usize>,
    /// Memory for what is compared.
    expected: Vec<u8>,
    /// Corrupts one byte before it is judged, to test the oracle itself.
    pub(super) flips: bool,
}

/// One end of one connection.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    /// Number of the flow in the plan.
    pub(super) flow: usize,
    pub(super) tuple: FourTuple,
    pub(super) iss: u32,
    /// The peer's initial sequence number, once the handshake is complete.
    irs: Option<u32>,
    peer: Option<usize>,
    /// This end sends back what it receives.
    is_echo: bool,
    /// A cookie was used twice: the peer knows of nothing, and what arrives is a copy.
    is_ghost: bool,
    /// Bytes that the stack took from the application.
    pub(super) sent: u64,
    /// Bytes that the application read.
    pub(super) received: u64,
    /// The application has closed its direction.
    pub(super) shut: bool,
    /// The application gave up reading, or the whole connection.
    pub(super) left: bool,
    /// How it ended.
    pub(super) outcome: Option<End>,
}

impl Oracle {
    /// A connection of flow `flow` whose application was just told of it; returns its number. Where
    /// `has_cookies`, a late copy of the ACK that opened a connection opens it again, after its end.
    pub(super) fn enroll(
        &mut self,
        flow: usize,
        tuple: FourTuple,
        iss: u32,
        is_echo: bool,
        has_cookies: bool,
    ) -> Result<usize, String> {
        let number = self.ends.len();
        let before = self.by_number.insert((tuple.to_bytes(), iss), number);
        if let Some(before) = before {
            if !(has_cookies && self.ends[before].outcome.is_some()) {
                return Err(format!("two connections of {tuple:?} have the initial number {iss}"));
            }
            // The peer may not have noticed: then it is the new one that it talks to.
            for end in self.ends.iter_mut().filter(|end| end.peer == Some(before)) {
                end.peer = Some(number);
            }
        }
        let is_ghost = before.is_some();
        self.ends.push(Ledger {
            flow,
            tuple,
            iss,
            irs: None,
            peer: None,
            is_echo,
            is_ghost,
            sent: 0,
            received: 0,
            shut: false,
            left: false,
            outcome: None,
        });
        Ok(number)
    }

    pub(super) fn ends(&self) -> &[Ledger] {
        &self.ends
    }

    pub(super) fn end(&mut self, number: usize) -> &mut Ledger {
        &mut self.ends[number]
    }

    /// The handshake of an end is complete, and nothing was read yet.
    pub(super) fn open(&mut self, number: usize, info: &ConnInfo) {
        if info.state == State::Closed {
            return;
        }
        let fin = u32::from(info.state.has_peer_fin());
        let irs = info.rcv_nxt.wrapping_sub(1 + info.buffered.0 + fin);
        self.ends[number].irs = Some(irs);
        self.find_peer(number);
    }

    /// The other end, if its application knows of it yet.
    fn find_peer(&mut self, number: usize) -> Option<usize> {
        let end = &self.ends[number];
        if end.peer.is_none() {
            let tuple = turned(&end.tuple).to_bytes();
            let peer = self.by_number.get(&(tuple, end.irs?)).copied();
            self.ends[number].peer = peer;
        }
        self.ends[number].peer
    }

    /// Both ends live and know each other.
    pub(super) fn is_paired(&mut self, number: usize) -> bool {
        let Some(peer) = self.find_peer(number) else { return false };
        self.ends[peer].outcome.is_none() && self.find_peer(peer) == Some(number)
    }

    /// Writes the next bytes that an end has to send.
    pub(super) fn fill(&self, number: usize, buf: &mut [u8]) {
        let end = &self.ends[number];
        write_stream(key(&end.tuple, end.iss), end.sent, buf);
    }

    /// The application of an end read these bytes.
    pub(super) fn read(&mut self, number: usize, bytes: &[u8]) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let flipped = std::mem::take(&mut self.flips);
        let Some(peer) = self.find_peer(number) else {
            return Err(format!("bytes from nobody: {:?}", self.ends[number]));
        };
        let Oracle { ends, expected, .. } = self;
        let (end, from) = (&ends[number], &ends[peer]);
        // What an echo sends is what this very end has sent.
        let source = if from.is_echo { end } else { from };
        let key = key(&source.tuple, source.iss);
        expected.resize(bytes.len(), 0);
        write_stream(key, end.received, expected);
        expected[0] ^= u8::from(flipped);
        let wrong =
            (bytes != expected).then(|| bytes.iter().zip(&*expected).position(|(a, b)| a != b));
        if let Some(at) = wrong.flatten() {
            let offset = end.received + at as u64;
            return Err(format!("the stream differs at offset {offset}: {end:?} from {from:?}"));
        }
        self.note_received(number, bytes.len())
    }

    /// An echo moved `n` bytes from its peer back to it.
    pub(super) fn echoed(&mut self, number: usize, n: usize) -> Result<(), String> {
        if n > 0 && self.find_peer(number).is_none() {
            return Err(format!("bytes from nobody: {:?}", self.ends[number]));
        }
        self.ends[number].sent += n as u64;
        self.note_received(number, n)
    }

    fn note_received(&mut self, number: usize, n: usize) -> Result<(), String> {
        self.ends[number].received += n as u64;
        let end = &self.ends[number];
        match end.peer.map(|peer| &self.ends[peer]) {
            // What a cookie opened again begins the same stream anew, and its first life may have sent
            // more of it.
            Some(from) if !from.is_ghost && end.received > from.sent => {
                Err(format!("more than was sent arrived: {end:?} from {from:?}"))
            }
            _ => Ok(()),
        }
    }

    /// The stream of the peer is over, with `unread` bytes still to be read.
    pub(super) fn finished(&mut self, number: usize, unread: u32) -> Result<(), String> {
        let Some(peer) = self.find_peer(number) else { return Ok(()) };
        if self.ends[number].is_ghost {
            return Ok(());
        }
        let (end, from) = (&self.ends[number], &self.ends[peer]);
        if !from.shut || end.received + u64::from(unread) != from.sent {
            return Err(format!(
                "the stream ended too early, with {unread} bytes unread: {end:?} from {from:?}"
            ));
        }
        Ok(())
    }

    /// An end is over; `rcv_nxt` is what it expected last.
    pub(super) fn ended(
        &mut self,
        number: usize,
        outcome: End,
        rcv_nxt: u32,
    ) -> Result<(), String> {
        let peer = self.find_peer(number);
        let end = &mut self.ends[number];
        if let Some(before) = end.outcome.replace(outcome) {
            return Err(format!("ended twice, first {before}: {end:?}"));
        }
        let end = &self.ends[number];
        let from = peer.map(|peer| &self.ends[peer]);
        let flow = end.tuple.to_bytes();
        match (outcome, from) {
            _ if end.is_ghost => Ok(()),
            (End::Closed, Some(from)) if !end.left && end.received != from.sent => {
                Err(format!("closed without all bytes: {end:?} from {from:?}"))
            }
            (End::Closed, None) if end.received > 0 || end.irs.is_some() => {
                Err(format!("closed by a peer that nobody knows: {end:?}"))
            }
            (End::Reset | End::Refused, _)
                if !self.resets.contains(&flow) && !self.forged.contains(&(flow, rcv_nxt)) =>
            {
                Err(format!("reset by nobody: {end:?} from {from:?}"))
            }
            (End::Aborted, _) if !end.left => {
                Err(format!("aborted, but not by its application: {end:?} from {from:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A host sent RST on the flow that it sees as `tuple`.
    pub(super) fn note_reset(&mut self, tuple: &FourTuple) {
        self.resets.insert(turned(tuple).to_bytes());
    }

    /// Somebody off the path sent a RST with this number to the end that sees its flow as `tuple`.
    pub(super) fn note_forged(&mut self, tuple: &FourTuple, seq: u32) {
        self.forged.insert((tuple.to_bytes(), seq));
    }

    /// A SYN arrived at a queue of a host, which sees the flow as `tuple`. One that arrives at two
    /// leaves a half-open record on both, and either may refuse what is meant for the other.
    pub(super) fn note_syn(&mut self, tuple: &FourTuple, queue: usize, flow: Option<usize>) {
        let queues = self.syn_queues.entry(tuple.to_bytes()).or_default();
        *queues |= 1 << queue;
        if queues.count_ones() > 1
            && let Some(flow) = flow
        {
            self.tainted.insert(flow);
        }
    }

    /// Judges, once all is over, the ends of flows that nothing can have kept from completing:
    /// both ends got everything, and at most one of them did not hear of the other's last ACK.
    pub(super) fn judge_complete(
        &self,
        is_benign: impl Fn(usize) -> bool,
        is_reused: impl Fn(usize) -> bool,
    ) -> Result<(), String> {
        for end in &self.ends {
            // A four-tuple that rests in TIME-WAIT opens anew only with a higher number.
            let is_refused = end.irs.is_none() && is_reused(end.flow);
            if is_refused
                || end.outcome == Some(End::Closed)
                || end.is_ghost
                || self.tainted.contains(&end.flow)
                || !is_benign(end.flow)
            {
                continue;
            }
            let peer = end.peer.map(|peer| &self.ends[peer]);
            let complete = peer.is_some_and(|peer| {
                peer.outcome == Some(End::Closed)
                    && peer.received == end.sent
                    && end.received == peer.sent
            });
            if !complete {
                return Err(format!("nothing kept this from completing: {end:?}, peer {peer:?}"));
            }
        }
        Ok(())
    }
}

/// The same flow from the other side.
pub(super) fn turned(tuple: &FourTuple) -> FourTuple {
    FourTuple::new(tuple.remote(), tuple.local())
}

/// What the bytes follow from that the end with this flow and initial number sends.
fn key(tuple: &FourTuple, iss: u32) -> u64 {
    let bytes = tuple.to_bytes();
    bytes.iter().fold(u64::from(iss), |key, &byte| mixed(key ^ u64::from(byte)))
}

/// Writes the bytes of a stream from `offset` on; eight of them come from one word.
fn write_stream(key: u64, offset: u64, buf: &mut [u8]) {
    let word = |number: u64| mixed(key ^ number).to_le_bytes();
    let skip = (offset % 8) as usize;
    let head = buf.len().min((8 - skip) % 8);
    let (first, rest) = buf.split_at_mut(head);
    first.copy_from_slice(&word(offset / 8)[skip..skip + head]);
    for (number, bytes) in (offset.div_ceil(8)..).zip(rest.chunks_mut(8)) {
        bytes.copy_from_slice(&word(number)[..bytes.len()]);
    }
}

/// One round of multiply and shift, which is enough to tell any two offsets apart.
fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 29)).wrapping_mul(0x9fb2_1c65_1e98_df25);
    word ^ (word >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Oracle, usize, usize) {
        let (a, b) = ("10.0.0.1:1000".parse(), "10.0.0.2:7000".parse());
        let tuple = FourTuple::new(a.expect("an endpoint"), b.expect("an endpoint"));
        let mut oracle = Oracle::default();
        let one = oracle.enroll(0, tuple, 5, false, false).expect("the first of its kind");
        let two = oracle.enroll(0, turned(&tuple), 9, false, false).expect("the first of its kind");
        oracle.end(one).irs = Some(9);
        oracle.end(two).irs = Some(5);
        (oracle, one, two)
    }

    fn send(oracle: &mut Oracle, number: usize, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        oracle.fill(number, &mut bytes);
        oracle.end(number).sent += n as u64;
        bytes
    }

    #[test]
    fn a_stream_is_judged_byte_by_byte() {
        let (mut oracle, one, two) = pair();
        let bytes = send(&mut oracle, one, 100);
        oracle.read(two, &bytes[..60]).expect("what was sent");
        assert!(oracle.read(two, &bytes[..10]).is_err(), "not again");
        let mut wrong = bytes[60..].to_vec();
        wrong[7] ^= 1;
        assert!(oracle.read(two, &wrong).is_err());
        oracle.read(two, &bytes[60..]).expect("the rest");
        let mut more = [0];
        write_stream(key(&oracle.ends[one].tuple, 5), 100, &mut more);
        assert!(oracle.read(two, &more).is_err(), "nobody sent it yet");
    }

    #[test]
    fn a_stream_is_the_same_in_whatever_portions() {
        let mut whole = [0; 100];
        write_stream(7, 3, &mut whole);
        for split in 0..100 {
            let mut parts = [0; 100];
            write_stream(7, 3, &mut parts[..split]);
            write_stream(7, 3 + split as u64, &mut parts[split..]);
            assert_eq!(parts, whole, "{split}");
        }
    }

    #[test]
    fn ends_need_a_cause_and_all_bytes() {
        let (mut oracle, one, two) = pair();
        let bytes = send(&mut oracle, one, 10);
        assert!(oracle.finished(two, 0).is_err(), "nobody closed");
        oracle.end(one).shut = true;
        assert!(oracle.finished(two, 9).is_err(), "one byte is missing");
        oracle.finished(two, 10).expect("all unread");
        assert!(oracle.ended(two, End::Closed, 0).is_err(), "not read");
        oracle.end(two).outcome = None;
        oracle.read(two, &bytes).expect("what was sent");
        oracle.ended(two, End::Closed, 0).expect("complete");
        assert!(oracle.ended(one, End::Reset, 7).is_err(), "nobody sent RST");
        oracle.end(one).outcome = None;
        let tuple = oracle.ends[one].tuple;
        oracle.note_forged(&tuple, 7);
        oracle.ended(one, End::Reset, 7).expect("an exact RST passes");
        oracle.judge_complete(|_| true, |_| false).expect("the other end closed and all arrived");
        oracle.end(one).received = 1;
        assert!(oracle.judge_complete(|_| true, |_| false).is_err());
    }
}
