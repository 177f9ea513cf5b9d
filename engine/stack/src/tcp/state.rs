//! The states of a connection (RFC 9293 section 3.3.2). LISTEN has no connection: listeners belong
//! to the stack.

use std::fmt;

/// State of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Ended; the record goes as soon as nothing refers to it.
    Closed,
    /// We sent a SYN.
    SynSent,
    /// We received a SYN and sent SYN-ACK.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// We sent a FIN that is not acknowledged.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer sent a FIN; we may still send.
    CloseWait,
    /// Both sent a FIN, ours first or at the same time; ours is not acknowledged.
    Closing,
    /// The peer's FIN came first; ours is not acknowledged.
    LastAck,
    /// Both FINs are acknowledged; the four-tuple rests for 2 MSL.
    TimeWait,
}

impl State {
    /// The handshake is over (RFC 9293 calls these synchronized states; SYN-RECEIVED counts).
    pub fn is_synchronized(self) -> bool {
        !matches!(self, State::Closed | State::SynSent)
    }

    /// The peer's FIN has been received.
    pub fn has_peer_fin(self) -> bool {
        matches!(self, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
    }

    /// The application may still queue data.
    pub fn may_send(self) -> bool {
        matches!(self, State::SynSent | State::SynReceived | State::Established | State::CloseWait)
    }

    /// The application has closed its direction.
    pub fn has_our_fin(self) -> bool {
        matches!(
            self,
            State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Closed => "CLOSED",
            State::SynSent => "SYN-SENT",
            State::SynReceived => "SYN-RECEIVED",
            State::Established => "ESTABLISHED",
            State::FinWait1 => "FIN-WAIT-1",
            State::FinWait2 => "FIN-WAIT-2",
            State::CloseWait => "CLOSE-WAIT",
            State::Closing => "CLOSING",
            State::LastAck => "LAST-ACK",
            State::TimeWait => "TIME-WAIT",
        })
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions were closed and acknowledged.
    Closed,
    /// The peer answered the open with RST.
    Refused,
    /// An ICMP error ended the open.
    Unreachable,
    /// The next hop did not answer, and that ended the open.
    NoNeighbor,
    /// The peer reset the connection.
    Reset,
    /// The peer stopped answering.
    TimedOut,
    /// This side reset the connection.
    Aborted,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Closed => "closed",
            End::Refused => "refused",
            End::Unreachable => "unreachable",
            End::NoNeighbor => "no neighbor",
            End::Reset => "reset",
            End::TimedOut => "timed out",
            End::Aborted => "aborted",
        })
    }
}
