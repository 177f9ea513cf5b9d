//! One connection as the control protocol shows it: its handle, its state and its row. The rows are
//! snapshots; nothing in here refers to a live connection.

use std::fmt;
use std::net::SocketAddrV4;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::{SyntaxError, serde_as_text, word_enum};

/// The handle of a connection, printed as `worker:slot:generation`. A slot is used again with
/// another generation, so an old handle never names a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The worker that owns it.
    pub worker: u16,
    /// Its place in the worker's table.
    pub slot: u32,
    /// Which use of that place it is.
    pub generation: u32,
}

const CONN_ID_EXPECTED: &str = "a connection such as 0:12:1 (worker:slot:generation)";

impl FromStr for ConnId {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let refused = || SyntaxError::new(CONN_ID_EXPECTED, text);
        let mut parts = text.split(':');
        let (Some(worker), Some(slot), Some(generation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused());
        };
        Ok(ConnId {
            worker: worker.parse().map_err(|_| refused())?,
            slot: slot.parse().map_err(|_| refused())?,
            generation: generation.parse().map_err(|_| refused())?,
        })
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}:{}:{}", self.worker, self.slot, self.generation))
    }
}

serde_as_text! {
    ConnId: CONN_ID_EXPECTED;
}

word_enum! {
    /// The states of RFC 9293 section 3.3.2 that a connection can be seen in.
    pub enum ConnState: "a TCP state such as ESTABLISHED or FIN-WAIT-1" {
        /// A SYN was sent.
        SynSent = "SYN-SENT",
        /// A SYN was received and answered.
        SynReceived = "SYN-RECEIVED",
        /// Data flows.
        Established = "ESTABLISHED",
        /// We closed first; our FIN is not acknowledged.
        FinWait1 = "FIN-WAIT-1",
        /// We closed first; the peer's FIN is awaited.
        FinWait2 = "FIN-WAIT-2",
        /// The peer closed first.
        CloseWait = "CLOSE-WAIT",
        /// Both closed at once.
        Closing = "CLOSING",
        /// The peer closed first, then we; our FIN is not acknowledged.
        LastAck = "LAST-ACK",
        /// Both closed; waits for stray segments to die.
        TimeWait = "TIME-WAIT",
    }
}

word_enum! {
    /// Which side opened.
    pub enum Role: "active or passive" {
        /// We did.
        Active = "active",
        /// The peer did.
        Passive = "passive",
    }
}

/// One connection at one moment. Sequence numbers are as on the wire; times in microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnRow {
    /// Its handle.
    pub id: ConnId,
    /// Our end.
    pub local: SocketAddrV4,
    /// The peer's end.
    pub remote: SocketAddrV4,
    /// Its state.
    pub state: ConnState,
    /// Which side opened.
    pub role: Role,
    /// What runs on it: an application of `[[listen]]`, `load` or `hand`.
    pub app: String,
    /// Nothing in flight and nothing buffered: only the compact record exists.
    pub dormant: bool,
    /// Oldest unacknowledged sequence number.
    pub snd_una: u32,
    /// Next sequence number to send.
    pub snd_nxt: u32,
    /// The peer's window in bytes, scaled.
    pub snd_wnd: u32,
    /// Next sequence number to receive.
    pub rcv_nxt: u32,
    /// Our window in bytes, scaled.
    pub rcv_wnd: u32,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// Slow start threshold in bytes.
    pub ssthresh: u32,
    /// Smoothed round-trip time; 0 before the first sample.
    pub srtt_us: u64,
    /// Its variation.
    pub rttvar_us: u64,
    /// Retransmission timeout.
    pub rto_us: u64,
    /// Maximum segment size to the peer.
    pub mss: u16,
    /// The largest packet that the path takes in bytes; absent unless the full size is too much for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u16>,
    /// Retransmissions since the peer last acknowledged anything new.
    pub retransmits: u64,
    /// Bytes waiting to be sent or acknowledged.
    pub send_bytes: u64,
    /// Bytes received and not read by the application.
    pub recv_bytes: u64,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// Selective acknowledgement is in use.
    pub sack: bool,
    /// Window scaling is in use.
    pub window_scale: bool,
    /// Explicit congestion notification is in use.
    pub ecn: bool,
    /// Congestion control: cubic or newreno.
    pub congestion: String,
    /// What the sender does about loss: open, reduced, recovery or loss.
    pub phase: String,
    /// Bytes that are taken to be in the network.
    pub pipe_bytes: u64,
}

/// Which connections; absent conditions hold for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnFilter {
    /// In this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ConnState>,
    /// With this port at either end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl ConnFilter {
    /// True when the connection between these ends is one of those meant.
    pub fn admits(&self, state: ConnState, local: SocketAddrV4, remote: SocketAddrV4) -> bool {
        self.state.is_none_or(|wanted| wanted == state)
            && self.port.is_none_or(|port| port == local.port() || port == remote.port())
    }
}

/// Some connections, and where to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnPage {
    /// At most as many as were asked for.
    pub rows: Vec<ConnRow>,
    /// Where the next page starts; absent at the end. A page may be empty and not the last: the
    /// daemon looks at a bounded number of slots per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}
