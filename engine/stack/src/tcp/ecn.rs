//! Explicit congestion notification (RFC 3168): its negotiation, the receiver's echo of a marked
//! packet, and what new data carry. How the window reacts is in `recovery`.

use super::config::Ecn;
use super::{Connection, Context, Outgoing, State};
use crate::stats::Counter;
use crate::wire::tcp::Flags;

/// The two bits in the IP header of a packet that may be marked: ECT(0) (RFC 3168 section 5).
const ECN_CAPABLE: u8 = 0b10;

/// And of one that a router has marked: CE.
const CONGESTION_EXPERIENCED: u8 = 0b11;

impl Connection {
    /// The flags that ask for it, or agree (section 6.1.1). A SYN that goes again does without:
    /// something on the path may have dropped it for its flags.
    pub(super) fn handshake_ecn(&self, cx: &Context<'_>) -> Flags {
        match self.state {
            State::SynSent if cx.config.ecn == Ecn::Request && !self.syn_retransmitted => {
                Flags::ECE | Flags::CWR
            }
            State::SynReceived if self.ecn.on => Flags::ECE,
            _ => Flags::NONE,
        }
    }

    /// Reads the flags of the peer's SYN or SYN-ACK.
    pub(super) fn agree_on_ecn(&mut self, cx: &Context<'_>, syn: Flags) {
        let asked = self.handshake_ecn(cx).contains(Flags::ECE | Flags::CWR);
        self.ecn.on = if syn.contains(Flags::ACK) {
            asked && syn.contains(Flags::ECE) && !syn.contains(Flags::CWR)
        } else {
            cx.config.ecn != Ecn::Off && syn.contains(Flags::ECE | Flags::CWR)
        };
    }

    /// A segment arrived whose packet had these ECN bits: a mark is echoed in every ACK until the
    /// peer says that it has reduced its window (section 6.1.3).
    pub(super) fn note_congestion(&mut self, cx: &mut Context<'_>, flags: Flags, ecn: u8) {
        if !self.ecn.on {
            return;
        }
        if flags.contains(Flags::CWR) {
            self.ecn.echo = false;
        }
        if ecn == CONGESTION_EXPERIENCED {
            cx.stats.inc(Counter::TcpEcnMarked);
            self.ecn.echo = true;
            // The sender should hear of it at once.
            self.rcv.ack = true;
        }
    }

    /// The two bits of a packet with new data.
    #[inline]
    pub(super) fn new_data_ecn(&self) -> u8 {
        if self.ecn.on { ECN_CAPABLE } else { 0 }
    }

    /// New data may be marked, and say that the window was reduced; what goes again may not be
    /// (section 6.1.5).
    pub(super) fn mark_new_data(&mut self, out: &mut Outgoing) {
        out.ecn = self.new_data_ecn();
        if self.ecn.on && std::mem::take(&mut self.ecn.reduced) {
            out.tcp.flags = out.tcp.flags | Flags::CWR;
        }
    }
}
