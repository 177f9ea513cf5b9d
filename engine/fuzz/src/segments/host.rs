//! One stack with its applications and everything that must hold of it, whatever the network does.

use super::talk::Talk;
use crate::lan;
use crate::tape::Tape;
use barewire_stack::flow::FourTuple;
use barewire_stack::stack::{ConnId, ConnInfo, Disposition, Event, Miss, Stack, StackConfig};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::buffer::CHUNK_BYTES;
use barewire_stack::tcp::{Events, Seq, State};
use barewire_stack::time::{Duration, Instant};
use barewire_stack::wire::arp::{Arp, ArpOperation};
use barewire_stack::wire::ethernet::{self, Ethernet};
use barewire_stack::wire::icmp::Icmp;
use barewire_stack::wire::ipv4::{self, Ipv4};
use barewire_stack::wire::tcp::{ChecksumPolicy, Flags, HEADER_BYTES, Tcp};
use std::net::SocketAddrV4;

/// Turns in a row that may each want another one at the same time: all windows in small segments.
const TURNS_AT_ONCE_MAX: u32 = 200;

/// Frames of one turn, as a worker is bounded by what its device has free.
pub(super) const FRAMES_MAX: usize = 256;

/// A connection that ended, as its application saw it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) talk: Talk,
    /// Everything was read.
    pub(super) n_received: u32,
}

/// A SYN-ACK that the stack does not remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cookie {
    pub(super) from: SocketAddrV4,
    pub(super) to: SocketAddrV4,
    pub(super) tcp: Tcp,
}

/// A stack and its applications.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) number: u8,
    peer: u8,
    pub(super) stack: Stack,
    pub(super) talks: Vec<Talk>,
    pub(super) ended: Vec<Ended>,
    /// Frames that left and that nobody took yet.
    pub(super) out: Vec<Vec<u8>>,
    /// The last SYN that was answered without a record.
    pub(super) cookie: Option<Cookie>,
    /// Applications read whenever there is something to read.
    pub(super) reads: bool,
    stalls: u32,
}

impl Host {
    pub(super) fn new(number: u8, peer: u8, config: StackConfig, now: Instant) -> Self {
        let mut stack = Stack::new(config, now);
        for (app, port) in (0..).zip([lan::PORT, super::talk::ECHO_PORT]) {
            assert!(stack.listen(SocketAddrV4::new([0; 4].into(), port), app));
        }
        Host {
            number,
            peer,
            stack,
            talks: Vec::new(),
            ended: Vec::new(),
            out: Vec::new(),
            cookie: None,
            reads: false,
            stalls: 0,
        }
    }

    /// A frame arrives.
    pub(super) fn receive(&mut self, now: Instant, frame: &[u8], miss: Miss) {
        let mut bytes = frame.to_vec();
        match self.stack.on_frame(now, &mut bytes, miss) {
            Disposition::Done => {}
            Disposition::HandOff => assert_eq!(bytes, frame, "it goes on as it came"),
            Disposition::Reply(len) => {
                assert!(len <= frame.len(), "an answer is not longer than its frame");
                bytes.truncate(len);
                self.judge(&bytes, true);
                self.out.push(bytes);
            }
        }
        self.observe();
    }

    /// What a worker does each turn, with room for so many frames.
    pub(super) fn turn(&mut self, now: Instant, frames_max: usize) {
        self.stack.on_timeout(now);
        self.observe();
        while let Some(event) = self.stack.poll_event() {
            self.observe();
            self.heed(now, &event);
            self.stack.event_done(&event);
            self.observe();
        }
        let mut buf = [0; 2048];
        let mut n = 0;
        while n < frames_max
            && let Some(len) = self.stack.poll_transmit(now, &mut buf)
        {
            self.judge(&buf[..len], false);
            self.out.push(buf[..len].to_vec());
            self.observe();
            n += 1;
        }
        self.observe();
        self.check(now);
    }

    /// The next time the stack wants a turn, which it may not want at once for ever.
    pub(super) fn next(&mut self, now: Instant) -> Option<Instant> {
        let next = self.stack.poll_timeout(now);
        let again = next.is_some_and(|next| next <= now);
        self.stalls = if again { self.stalls + 1 } else { 0 };
        assert!(self.stalls < TURNS_AT_ONCE_MAX, "turns without end: {:?}", self.infos());
        next
    }

    pub(super) fn info(&self, id: ConnId) -> Option<ConnInfo> {
        self.stack.conn_info(id.slot).filter(|info| info.id == id)
    }

    fn infos(&self) -> Vec<ConnInfo> {
        (0..self.stack.n_slots()).filter_map(|slot| self.stack.conn_info(slot)).collect()
    }

    /// Takes notice of new connections and of those that are gone.
    pub(super) fn observe(&mut self) {
        let infos = self.infos();
        self.talks.retain(|talk| infos.iter().any(|info| info.id == talk.id));
        // What rests in TIME-WAIT is nobody's any more.
        for info in infos.iter().filter(|info| info.app.is_some()) {
            match self.talks.iter_mut().find(|talk| talk.id == info.id) {
                Some(talk) => talk.observe(info),
                None => self.talks.push(Talk::new(info, self.number, self.peer)),
            }
        }
    }

    /// An application is told something.
    fn heed(&mut self, now: Instant, event: &Event) {
        let happened = |events: Events| event.events.contains(events);
        let talk = self.talks.iter_mut().find(|talk| talk.id == event.id).expect("a live one");
        assert_eq!(talk.end, None, "nothing is told after the end: {event:?}");
        if happened(Events::OPENED) {
            assert!(!talk.opened, "it opens once");
            talk.opened = true;
        }
        if happened(Events::FINISHED) {
            assert!(!talk.finished, "the peer closes once");
            talk.finished = true;
        }
        assert_eq!(event.end.is_some(), happened(Events::ENDED));
        talk.end = event.end;
        if event.end.is_some() {
            let talk = talk.clone();
            let n_received = talk.recv.map_or(0, |(base, pos)| pos.wrapping_sub(base));
            self.ended.push(Ended { talk, n_received });
        } else if self.reads {
            self.read(now, event.id);
        } else {
            self.echo(now, event.id);
        }
    }

    /// Sends back what the connection received, if that is what its application does.
    fn echo(&mut self, now: Instant, id: ConnId) {
        let Some(talk) = self.talks.iter_mut().find(|talk| talk.id == id) else { return };
        if !talk.is_echo() {
            return;
        }
        let n = self.stack.echo(now, id) as u32;
        talk.send_pos = talk.send_pos.wrapping_add(n);
        if let Some((_, pos)) = &mut talk.recv {
            *pos = pos.wrapping_add(n);
        }
        self.observe();
    }

    /// An application calls.
    pub(super) fn call(&mut self, now: Instant, tape: &mut Tape<'_>) {
        let which = tape.below(self.talks.len().max(1));
        let what = tape.u8();
        let n = match tape.u8() {
            n @ 0..128 => usize::from(n),
            n => usize::from(n - 127) * 500,
        };
        let Some(talk) = self.talks.get(which) else { return };
        let (id, is_echo) = (talk.id, talk.is_echo());
        match what % 16 {
            0..5 if is_echo => self.echo(now, id),
            0..5 => self.send(now, id, n, what & 0x40 != 0),
            5..9 if is_echo => self.echo(now, id),
            5..9 => self.recv(now, id, n, what & 0x30),
            9..12 => self.shutdown(now, id),
            12..14 => self.close(now, id),
            14 => self.abort(now, id),
            _ => {
                let urgent = self.stack.urgent_bytes(id);
                let info = self.info(id).expect("a live one");
                // The mark may be told of before what lies before it has arrived.
                let ahead = info.buffered.0 + info.rcv_wnd + u32::from(u16::MAX);
                assert!(urgent <= ahead as usize, "{urgent} urgent of {info:?}");
            }
        }
        self.observe();
    }

    fn send(&mut self, now: Instant, id: ConnId, n: usize, urgent: bool) {
        let Some(talk) = self.talks.iter_mut().find(|talk| talk.id == id) else { return };
        let mut bytes = vec![0; n];
        talk.says.say(talk.send_pos, &mut bytes);
        let done = match urgent {
            true => self.stack.send_urgent(now, id, &bytes),
            false => self.stack.send(now, id, &bytes),
        };
        assert!(done <= n && (done == 0 || !talk.is_shut));
        talk.send_pos = talk.send_pos.wrapping_add(done as u32);
        self.observe();
    }

    /// Reads in one of the four ways.
    pub(super) fn recv(&mut self, now: Instant, id: ConnId, n: usize, how: u8) {
        let Some(talk) = self.talks.iter_mut().find(|talk| talk.id == id) else { return };
        let Some((_, pos)) = &mut talk.recv else { return };
        let mut buf = vec![0; n];
        let front = self.stack.peek(id).to_vec();
        talk.hears.must_say(*pos, &front, "peek");
        let ahead = self.stack.peek_into(id, &mut buf);
        talk.hears.must_say(*pos, &buf[..ahead], "peek_into");
        let done = match how {
            0x10 => self.stack.discard(now, id, n),
            0x20 => self.stack.discard(now, id, front.len()),
            _ => {
                let done = self.stack.recv(now, id, &mut buf);
                talk.hears.must_say(*pos, &buf[..done], "recv");
                assert_eq!(done, ahead);
                done
            }
        };
        *pos = pos.wrapping_add(done as u32);
        self.observe();
    }

    fn shutdown(&mut self, now: Instant, id: ConnId) {
        self.stack.shutdown(now, id);
        if let Some(talk) = self.talks.iter_mut().find(|talk| talk.id == id) {
            talk.is_shut = true;
        }
        self.observe();
    }

    /// The application goes: nothing more is read.
    pub(super) fn close(&mut self, now: Instant, id: ConnId) {
        self.stack.close(now, id);
        self.leave(id);
    }

    pub(super) fn abort(&mut self, now: Instant, id: ConnId) {
        self.stack.abort(now, id);
        self.leave(id);
    }

    fn leave(&mut self, id: ConnId) {
        let info = self.info(id);
        let Some(talk) = self.talks.iter_mut().find(|talk| talk.id == id) else { return };
        talk.is_shut = true;
        talk.has_left = true;
        if let Some(info) = info.filter(|info| info.state == State::TimeWait) {
            // What it has not read of a connection that ended is gone.
            talk.skip_unread(&info);
        }
        self.observe();
    }

    /// Reads all that is there, and closes our direction once the peer has closed its own.
    pub(super) fn read_all(&mut self, now: Instant) {
        let ids: Vec<ConnId> = self.talks.iter().map(|talk| talk.id).collect();
        for id in ids {
            self.read(now, id);
        }
    }

    fn read(&mut self, now: Instant, id: ConnId) {
        let Some(info) = self.info(id) else { return };
        // An echo that may say nothing more only reads.
        let echoes = |talk: &Talk| talk.id == id && talk.is_echo() && !talk.is_shut;
        match self.talks.iter().any(echoes) {
            true => self.echo(now, id),
            false => self.recv(now, id, info.buffered.0 as usize, 0),
        }
    }

    /// Checks a frame that leaves. `is_reply`: written in place of the frame it answers.
    fn judge(&mut self, frame: &[u8], is_reply: bool) {
        let (ether, at) = Ethernet::parse(frame).expect("Ethernet");
        assert_eq!(ether.src, lan::mac(self.number));
        let packet = &frame[at..];
        if ether.ethertype == ethernet::TYPE_ARP {
            Arp::parse(packet).expect("ARP");
            return;
        }
        assert!(ether.dst.is_unicast() || is_reply);
        let (ip, range) = Ipv4::parse(packet).expect("IPv4");
        assert_eq!(range.end, packet.len(), "nothing behind the packet");
        let message = &packet[range];
        if ip.protocol == ipv4::PROTOCOL_ICMP {
            assert_eq!(Icmp::parse(message), Ok(Icmp::EchoReply));
            return;
        }
        let parsed = Tcp::parse(message, ip.src, ip.dst, ChecksumPolicy::Verify).expect("TCP");
        let (tcp, payload) = (&parsed.tcp, &message[parsed.payload_offset..]);
        assert!(!tcp.options.malformed);
        for (left, right) in tcp.options.sack.iter() {
            assert!((1..=1 << 30).contains(&right.wrapping_sub(left)), "{:?}", tcp.options.sack);
        }
        if is_reply {
            assert!(payload.is_empty());
            if tcp.flags == Flags::SYN | Flags::ACK || tcp.flags.contains(Flags::SYN | Flags::ECE) {
                let from = SocketAddrV4::new(ip.src, tcp.src_port);
                let to = SocketAddrV4::new(ip.dst, tcp.dst_port);
                self.cookie = Some(Cookie { from, to, tcp: *tcp });
            } else if tcp.flags == Flags::ACK {
                let local = SocketAddrV4::new(ip.src, tcp.src_port);
                let tuple = FourTuple::new(local, SocketAddrV4::new(ip.dst, tcp.dst_port));
                let info = self.stack.conn_between(&tuple).expect("an ACK is some connection's");
                assert_eq!(info.state, State::TimeWait, "others acknowledge in their turn");
            } else {
                assert!(tcp.flags.contains(Flags::RST), "{tcp:?}");
            }
            return;
        }
        let options = parsed.payload_offset - HEADER_BYTES;
        let mss = usize::from(self.stack.config().tcp.mss);
        assert!(payload.is_empty() || options + payload.len() <= mss, "RFC 6691");
        let local = SocketAddrV4::new(ip.src, tcp.src_port);
        let remote = SocketAddrV4::new(ip.dst, tcp.dst_port);
        self.judge_segment(local, remote, tcp, payload);
    }

    fn judge_segment(
        &mut self,
        local: SocketAddrV4,
        remote: SocketAddrV4,
        tcp: &Tcp,
        payload: &[u8],
    ) {
        if tcp.flags.contains(Flags::RST) {
            assert!(payload.is_empty());
            return;
        }
        // Of those that had these ends, the one that lives, or the one that closed last.
        let has_ends = |talk: &&Talk| {
            talk.local == local && talk.remote == remote && self.info(talk.id).is_some()
        };
        let is_closed = |talk: &&Talk| {
            self.stack.conn_info(talk.id.slot).is_some_and(|i| i.state == State::Closed)
        };
        let talk = self.talks.iter().filter(has_ends).min_by_key(is_closed);
        let id = talk.expect("a connection sends it").id;
        let info = self.info(id).expect("it has a record");
        let talk = self.talks.iter_mut().find(|talk| talk.id == id).expect("as before");
        if tcp.flags.contains(Flags::SYN) {
            assert!(payload.is_empty());
            assert_eq!(tcp.seq.wrapping_add(1), talk.send_base);
            assert!(matches!(info.state, State::SynSent | State::SynReceived), "{info:?}");
        } else {
            assert!(tcp.flags.contains(Flags::ACK), "every segment but a SYN acknowledges");
            assert_eq!(tcp.ack, info.rcv_nxt, "{info:?}");
        }
        talk.acked = tcp.ack;
        if let Some(stamps) = tcp.options.timestamps {
            talk.stamp = stamps.value;
        }
        let end = tcp.seq.wrapping_add(payload.len() as u32);
        if !payload.is_empty() {
            assert!(Seq(tcp.seq).ge(Seq(talk.send_base)) && Seq(end).le(Seq(talk.send_pos)));
            talk.says.must_say(tcp.seq, payload, "sent");
        }
        if tcp.flags.contains(Flags::FIN) {
            assert!(talk.is_shut && end == talk.send_pos, "the FIN follows all data: {info:?}");
        }
        if !payload.is_empty() && Seq(end).gt(Seq(talk.sent_end)) {
            talk.sent_end = end;
            // Fresh data respects the window; only a probe may carry one byte into a closed one.
            let beyond = end.wrapping_sub(info.snd_una);
            assert!(beyond <= info.snd_wnd.max(1), "{beyond} beyond una: {info:?}");
        }
    }

    /// What holds between turns.
    fn check(&self, now: Instant) {
        self.stack.audit().expect("the sums hold");
        let (config, stats) = (self.stack.config(), self.stack.stats());
        let infos = self.infos();
        let count =
            |is: fn(State) -> bool| infos.iter().filter(|info| is(info.state)).count() as u64;
        assert_eq!(infos.len(), self.stack.n_records() as usize);
        assert!(infos.len() <= config.connections_max as usize, "connections_max");
        let open = count(|state| !matches!(state, State::Closed | State::TimeWait));
        assert_eq!(stats.get(Counter::ConnsOpen), open);
        assert_eq!(stats.get(Counter::ConnsHalfOpen), count(|s| s == State::SynReceived));
        assert_eq!(stats.get(Counter::ConnsTimeWait), count(|s| s == State::TimeWait));
        let half_open = infos.iter().filter(|i| i.passive && i.state == State::SynReceived);
        assert!(half_open.count() <= config.syn_backlog_max as usize, "syn_backlog_max");
        assert!(
            count(|s| s == State::TimeWait) <= u64::from(config.time_wait_max),
            "time_wait_max"
        );
        let pool = config.buffer_bytes_max.next_multiple_of(CHUNK_BYTES);
        assert!(stats.get(Counter::BufferChunks) as usize * CHUNK_BYTES <= pool);
        for info in &infos {
            self.check_one(info);
        }
        // While anything is left to deliver, something must happen by itself.
        let owes = infos.iter().any(|info| {
            info.state != State::Closed && (info.buffered.1 > 0 || info.snd_una != info.snd_nxt)
        });
        let is_watched = self.stack.poll_timeout(now).is_some();
        assert!(is_watched || !owes, "nothing watches over {infos:?}");
    }

    fn check_one(&self, info: &ConnInfo) {
        if info.app.is_none() {
            // What rests in TIME-WAIT has no windows any more.
            assert_eq!(info.state, State::TimeWait, "{info:?}");
            return;
        }
        let tcp = &self.stack.config().tcp;
        // The edge is rounded up to what the scale can express.
        let window = tcp.window_bytes_max + (1 << tcp.window_shift()) - 1;
        assert!(info.rcv_wnd <= window, "{info:?}");
        assert!(info.buffered.0 <= window, "{info:?}");
        assert!(info.buffered.1 <= tcp.send_bytes_max, "{info:?}");
        assert!(info.snd_wnd <= 1 << 30, "{info:?}");
        let is_set_up = !matches!(info.state, State::SynSent | State::SynReceived | State::Closed);
        if is_set_up {
            assert!(info.mss > 0 && info.mss <= tcp.mss, "{info:?}");
            let is_calm = info.phase == "open";
            assert!(!is_calm || info.cwnd >= u32::from(info.mss), "{info:?}");
            assert!(info.ssthresh >= u32::from(info.mss), "{info:?}");
            let in_flight = info.snd_nxt.wrapping_sub(info.snd_una);
            assert!(info.pipe <= in_flight, "{info:?}");
        }
        assert!(info.rto_us <= tcp.rto_max.as_micros(), "{info:?}");
        assert!(info.retries <= tcp.retries_max.max(tcp.syn_retries_max), "{info:?}");
    }

    /// Closes our direction of every connection.
    pub(super) fn shut_all(&mut self, now: Instant) {
        let ids: Vec<ConnId> = self.talks.iter().map(|talk| talk.id).collect();
        for id in ids {
            self.shutdown(now, id);
        }
    }

    /// What there still is.
    pub(super) fn left(&self) -> Vec<ConnInfo> {
        self.infos()
    }

    /// Time has passed: no ACK was held back for longer than it may (RFC 9293 section 3.8.6.3). Not
    /// so where a next hop was missing.
    pub(super) fn has_acknowledged(&self) {
        let stats = self.stack.stats();
        if stats.get(Counter::NeighborFull) + stats.get(Counter::NeighborFailed) > 0 {
            return;
        }
        for talk in &self.talks {
            let Some(info) = self.info(talk.id) else { continue };
            let is_up = !matches!(info.state, State::SynSent | State::SynReceived | State::Closed);
            assert!(!is_up || talk.acked == info.rcv_nxt, "told {}: {info:?}", talk.acked);
        }
    }

    /// Whether its connections must survive whatever is over by now.
    pub(super) fn is_patient(&self) -> bool {
        let tcp = &self.stack.config().tcp;
        let is_slow = tcp.rto_min >= Duration::from_millis(200) && tcp.retries_max >= 3;
        is_slow && tcp.user_timeout.is_zero() && tcp.keepalive.is_zero()
    }

    /// Everything has ended.
    pub(super) fn is_empty(&self) -> bool {
        let is_empty = self.stack.n_records() == 0;
        assert!(!is_empty || self.stack.memory().buffers == 0, "nobody's buffers");
        is_empty
    }
}

/// Whose MAC address a frame asks for, if it is a question.
pub(super) fn question(frame: &[u8]) -> Option<std::net::Ipv4Addr> {
    let (ether, at) = Ethernet::parse(frame).ok()?;
    let arp = (ether.ethertype == ethernet::TYPE_ARP).then(|| Arp::parse(&frame[at..]).ok())??;
    (arp.operation == ArpOperation::Request).then_some(arp.target_ip)
}

/// How long a program may ask time to pass.
pub(super) fn span(tape: &mut Tape<'_>) -> Duration {
    let ms = Duration::from_millis;
    let spans = [
        ms(1),
        Duration::from_micros(10),
        ms(40),
        ms(200),
        ms(500),
        ms(1_000),
        ms(5_000),
        ms(61_000),
    ];
    let byte = tape.u8();
    let span = spans[usize::from(byte & 7)];
    Duration::from_nanos(span.as_nanos() * u64::from(1 + (byte >> 3)))
}
