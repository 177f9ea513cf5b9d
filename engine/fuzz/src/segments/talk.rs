//! What the checks know of one connection: what its two streams must say, byte for byte, and how far
//! they have come. Bytes follow from their sequence numbers, so nobody has to remember them.

use barewire_stack::stack::{ConnId, ConnInfo};
use barewire_stack::tcp::{End, Seq, State};
use std::net::SocketAddrV4;

/// Connections at this port are echoed by whoever accepted them.
pub(super) const ECHO_PORT: u16 = crate::lan::PORT + 1;

/// Who says what at which sequence number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    speaker: u8,
    /// Added to the sequence number: an echo says the same elsewhere.
    shift: u32,
}

impl Voice {
    /// Host `number` speaks for itself.
    pub(super) fn of(number: u8) -> Self {
        Voice { speaker: number, shift: 0 }
    }

    /// The bytes from `seq` on.
    pub(super) fn say(self, seq: u32, bytes: &mut [u8]) {
        for (byte, at) in bytes.iter_mut().zip(0u32..) {
            let place = seq.wrapping_add(self.shift).wrapping_add(at);
            *byte = (place.wrapping_mul(0x9e37_79b1) >> 24) as u8 ^ self.speaker;
        }
    }

    /// Panics unless `bytes` are what is said from `seq` on.
    pub(super) fn must_say(self, seq: u32, bytes: &[u8], whose: &str) {
        let mut right = vec![0; bytes.len()];
        self.say(seq, &mut right);
        let wrong = bytes.iter().zip(&right).position(|(said, right)| said != right);
        assert_eq!(wrong, None, "{whose}: a wrong byte among the {} from {seq} on", bytes.len());
    }
}

/// One connection of a host.
#[derive(Clone, Debug)]
pub(super) struct Talk {
    pub(super) id: ConnId,
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
    pub(super) passive: bool,
    /// What we say, from `send_base` on, and how far it was given to the stack.
    pub(super) says: Voice,
    pub(super) send_base: u32,
    pub(super) send_pos: u32,
    /// What we hear, from `recv_base` on, and how far it was read; nothing before a SYN came.
    pub(super) hears: Voice,
    pub(super) recv: Option<(u32, u32)>,
    /// The application has closed its direction.
    pub(super) is_shut: bool,
    /// It has closed both, and reads no more.
    pub(super) has_left: bool,
    /// End of the data that ever left, and the last timestamp that did.
    pub(super) sent_end: u32,
    pub(super) stamp: u32,
    /// What we last acknowledged.
    pub(super) acked: u32,
    /// Right edge of the window that the peer was told.
    edge: Option<u32>,
    pub(super) opened: bool,
    pub(super) finished: bool,
    pub(super) end: Option<End>,
}

impl Talk {
    /// A connection at first sight: nothing was given to it and nothing read.
    pub(super) fn new(info: &ConnInfo, us: u8, peer: u8) -> Self {
        let syn = matches!(info.state, State::SynSent | State::SynReceived);
        let base = info.snd_una.wrapping_add(u32::from(syn));
        let mut talk = Talk {
            id: info.id,
            local: info.local,
            remote: info.remote,
            passive: info.passive,
            says: Voice::of(us),
            send_base: base,
            send_pos: base,
            hears: Voice::of(peer),
            recv: None,
            is_shut: false,
            has_left: false,
            sent_end: base,
            stamp: 0,
            acked: 0,
            edge: None,
            opened: false,
            finished: false,
            end: None,
        };
        talk.observe(info);
        talk
    }

    /// The one who accepted it says back what it hears.
    pub(super) fn is_echo(&self) -> bool {
        self.passive && self.local.port() == ECHO_PORT
    }

    /// Takes notice of how it stands, and checks that.
    pub(super) fn observe(&mut self, info: &ConnInfo) {
        let fin = u32::from(info.state.has_peer_fin());
        let read = info.rcv_nxt.wrapping_sub(info.buffered.0).wrapping_sub(fin);
        let is_live = !matches!(info.state, State::SynSent | State::Closed);
        if is_live && self.recv.is_none() {
            self.recv = Some((read, read));
            if self.passive && info.state != State::SynReceived {
                // A cookie has acknowledged the SYN before there was a record.
                self.acked = read;
            }
            self.begin_echo(read);
        }
        if let (true, Some((_, pos))) = (is_live, self.recv) {
            assert_eq!(pos, read, "bytes read or buffered twice: {info:?}");
        }
        if is_live {
            self.window_only_opens(info);
            self.queue_adds_up(info);
        }
        assert!(Seq(info.snd_una).le(Seq(info.snd_nxt)), "{info:?}");
    }

    /// Nobody reads what is left.
    pub(super) fn skip_unread(&mut self, info: &ConnInfo) {
        if let Some((_, pos)) = &mut self.recv {
            let fin = u32::from(info.state.has_peer_fin());
            *pos = info.rcv_nxt.wrapping_sub(info.buffered.0).wrapping_sub(fin);
        }
    }

    fn begin_echo(&mut self, recv_base: u32) {
        let there = recv_base.wrapping_sub(self.send_base);
        if self.is_echo() {
            self.says = Voice { shift: there, ..self.hears };
        } else if !self.passive && self.remote.port() == ECHO_PORT {
            self.hears = Voice { shift: there.wrapping_neg(), ..self.says };
        }
    }

    /// RFC 9293 SHLD-14: what was offered is not taken back.
    fn window_only_opens(&mut self, info: &ConnInfo) {
        let edge = info.rcv_nxt.wrapping_add(info.rcv_wnd);
        let before = self.edge.replace(edge);
        assert!(before.is_none_or(|before| Seq(edge).ge(Seq(before))), "{before:?} -> {info:?}");
    }

    /// What is queued is what was given less what was acknowledged.
    fn queue_adds_up(&self, info: &ConnInfo) {
        let syn = u32::from(info.state == State::SynReceived);
        let acked = info.snd_una.wrapping_add(syn);
        let end = acked.wrapping_add(info.buffered.1);
        // Our FIN, once acknowledged, counts as one.
        let fin_acked =
            info.buffered.1 == 0 && self.is_shut && end == self.send_pos.wrapping_add(1);
        assert!(
            end == self.send_pos || fin_acked || info.state == State::TimeWait,
            "given up to {}: {info:?}",
            self.send_pos
        );
    }
}
