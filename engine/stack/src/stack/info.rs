//! What operators see of a stack: its connections one by one, those that sleep and those that rest
//! included, and its memory.

use super::{ConnId, Stack};
use crate::flow::{FourTuple, Place, RECORDS_MAX};
use crate::tcp::buffer::CHUNK_BYTES;
use crate::tcp::{Connection, State};
use std::net::SocketAddrV4;

/// What a connection looks like from outside, as `barewire conns` shows it. Sizes are in bytes,
/// times in microseconds.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The connection.
    pub id: ConnId,
    /// Which application it belongs to; none in TIME-WAIT.
    pub app: Option<u8>,
    /// It sleeps.
    pub dormant: bool,
    /// Our end.
    pub local: SocketAddrV4,
    /// The peer's end.
    pub remote: SocketAddrV4,
    /// State.
    pub state: State,
    /// Opened by the peer.
    pub passive: bool,
    /// Send sequence variables.
    pub snd_una: u32,
    /// Next to send.
    pub snd_nxt: u32,
    /// The peer's window.
    pub snd_wnd: u32,
    /// Next expected.
    pub rcv_nxt: u32,
    /// Our window, as told.
    pub rcv_wnd: u32,
    /// Received and not read; queued and not acknowledged.
    pub buffered: (u32, u32),
    /// Congestion window.
    pub cwnd: u32,
    /// Slow start threshold.
    pub ssthresh: u32,
    /// Smoothed round-trip time, 0 before the first sample.
    pub srtt_us: u32,
    /// Its deviation.
    pub rttvar_us: u32,
    /// Retransmission timeout, backed off.
    pub rto_us: u64,
    /// Effective send MSS.
    pub mss: u16,
    /// The largest packet that the path takes, where the full size is too much for it.
    pub path_mtu: Option<u16>,
    /// Consecutive retransmissions.
    pub retries: u8,
    /// Timestamps are in use.
    pub timestamps: bool,
    /// SACK is permitted.
    pub sack: bool,
    /// Windows are scaled.
    pub window_scale: bool,
    /// Explicit congestion notification is in use.
    pub ecn: bool,
    /// Congestion control, in one word.
    pub congestion: &'static str,
    /// What the sender does about loss, in one word: open, reduced, recovery or loss.
    pub phase: &'static str,
    /// Bytes that are taken to be in the network.
    pub pipe: u32,
}

/// Memory of a stack, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// What every connection has: one cache line.
    pub records: usize,
    /// What those with work to do borrow, and the queues in which they wait.
    pub active: usize,
    /// What rests in TIME-WAIT.
    pub time_wait: usize,
    /// The connection table.
    pub table: usize,
    /// Buffer chunks in use, and the records of segments in flight beyond one per connection.
    pub buffers: usize,
}

impl Memory {
    /// All but buffers: what grows with the number of connections.
    pub fn connections(&self) -> usize {
        self.records + self.active + self.time_wait + self.table
    }
}

impl Stack {
    /// Live records: connections and TIME-WAIT.
    pub fn n_records(&self) -> u32 {
        self.records.len() + self.time_wait.len()
    }

    /// Connections that are awake.
    pub fn n_active(&self) -> u32 {
        self.records.n_active()
    }

    /// Memory in use.
    pub fn memory(&self) -> Memory {
        let (records, active) = self.records.bytes();
        Memory {
            records,
            active: active + self.queues.bytes(),
            time_wait: self.time_wait.bytes(),
            table: self.table.bytes(),
            buffers: self.pool.n_used() as usize * CHUNK_BYTES + self.segments.bytes(),
        }
    }

    /// Connections are numbered below this, for [`Stack::conn_info`] and [`Stack::abort_slot`]; those
    /// in TIME-WAIT come last.
    pub fn n_slots(&self) -> u32 {
        self.records.n_slots() + self.time_wait.n_positions()
    }

    /// The connection with this number, if there is one.
    pub fn conn_info(&self, slot: u32) -> Option<ConnInfo> {
        let place = match slot.checked_sub(self.records.n_slots()) {
            None => Place::Record(slot),
            Some(position) => Place::Rest(self.time_wait.nth(position)?.0),
        };
        self.info_at(place)
    }

    /// The connection between two endpoints, if there is one.
    pub fn conn_between(&self, tuple: &FourTuple) -> Option<ConnInfo> {
        self.info_at(self.find(tuple)?)
    }

    /// The id of the connection between two endpoints, if it is one that calls find.
    pub fn id_between(&self, tuple: &FourTuple) -> Option<ConnId> {
        match self.find(tuple)? {
            Place::Record(slot) => Some(self.records.id(slot)),
            Place::Rest(_) => None,
        }
    }

    fn info_at(&self, place: Place) -> Option<ConnInfo> {
        match place {
            Place::Rest(number) => {
                let rest = self.time_wait.at(number);
                // What rests has no id that a call would find.
                let id = ConnId { slot: RECORDS_MAX + number, generation: 0 };
                let offset = self.config.secret.timestamp_offset(&rest.tuple);
                let conn = Connection::of_resting(&self.config.tcp, &rest.resting, offset);
                Some(self.info(&conn, &rest.tuple, id, None, false))
            }
            Place::Record(slot) if !self.records.is_live(slot) => None,
            Place::Record(slot) => {
                let (tuple, id) = (self.records.tuple(slot), self.records.id(slot));
                let app = Some(self.records.app(slot));
                if let Some(conn) = self.asleep(slot) {
                    return Some(self.info(&conn, &tuple, id, app, true));
                }
                Some(self.info(&self.records[slot].conn, &tuple, id, app, false))
            }
        }
    }

    fn info(
        &self,
        conn: &Connection,
        tuple: &FourTuple,
        id: ConnId,
        app: Option<u8>,
        dormant: bool,
    ) -> ConnInfo {
        let tcp = &self.config.tcp;
        ConnInfo {
            id,
            app,
            dormant,
            local: tuple.local(),
            remote: tuple.remote(),
            state: conn.state(),
            passive: conn.is_passive(),
            snd_una: conn.snd.una.0,
            snd_nxt: conn.snd.nxt.0,
            snd_wnd: conn.snd.wnd,
            rcv_nxt: conn.rcv.nxt.0,
            rcv_wnd: conn.rcv_wnd(),
            buffered: conn.buffered(),
            cwnd: conn.congestion.cwnd,
            ssthresh: conn.congestion.ssthresh,
            srtt_us: conn.rtt.srtt_us,
            rttvar_us: conn.rtt.rttvar_us,
            rto_us: conn.rtt.rto_us(tcp.rto_min, tcp.rto_max),
            mss: conn.snd.mss,
            path_mtu: conn.path_mtu(),
            retries: conn.snd.retries,
            timestamps: conn.has_timestamps(),
            sack: conn.has_sack(),
            window_scale: conn.has_window_scale(),
            ecn: conn.has_ecn(),
            congestion: tcp.congestion.name(),
            phase: conn.congestion.phase().name(),
            pipe: conn.pipe(),
        }
    }
}
