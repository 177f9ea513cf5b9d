//! The one list of counters and drop reasons of the stack: name, unit, kind and help. Every frame
//! that the stack is given ends under exactly one `Use` or `Drop` entry, so the sum of those equals
//! `rx_frames`; every connection that is opened ends under exactly one `End` entry. What a counter
//! costs is an array index: nothing in here is shared, locked or published.

use std::fmt;

/// What a counter means for the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Rises with normal work.
    Count,
    /// A level: goes up and down.
    Gauge,
    /// One received frame that was put to use.
    Use,
    /// One received frame that was dropped, for this reason.
    Drop,
    /// One opened connection that ended, in this way.
    End,
    /// Rises when something happened that an operator should look at.
    Warn,
}

macro_rules! counters {
    ($($variant:ident $name:literal $kind:ident $unit:literal $help:literal;)*) => {
        /// One counter of the stack.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Counter {
            $(#[doc = $help] $variant,)*
        }

        impl Counter {
            /// All counters, in the order in which they are published.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)*];

            /// The name users see, in snake case.
            pub const fn name(self) -> &'static str {
                match self { $(Counter::$variant => $name,)* }
            }

            /// What one count is.
            pub const fn unit(self) -> &'static str {
                match self { $(Counter::$variant => $unit,)* }
            }

            /// How it enters the sums.
            pub const fn kind(self) -> Kind {
                match self { $(Counter::$variant => Kind::$kind,)* }
            }

            /// One sentence: what happened, and where it helps what to do about it.
            pub const fn help(self) -> &'static str {
                match self { $(Counter::$variant => $help,)* }
            }
        }
    };
}

counters! {
    RxFrames "rx_frames" Count "frames" "Frames received from the device or handed over by another worker.";
    RxBytes "rx_bytes" Count "bytes" "Bytes of all received frames.";
    TxFrames "tx_frames" Count "frames" "Frames made for transmission.";
    TxBytes "tx_bytes" Count "bytes" "Bytes of all frames made for transmission.";

    UseTcp "use_tcp" Use "frames" "Segments that a connection or listener accepted.";
    UseArp "use_arp" Use "frames" "ARP packets for an owned address, answered or learned from.";
    UseIcmp "use_icmp" Use "frames" "ICMP messages for an owned address, answered or acted on.";
    UseHandoff "use_handoff" Use "frames" "Segments without a connection here, and ARP replies, passed on to the next worker.";

    DropEthernet "drop_ethernet" Drop "frames" "Too short for its Ethernet header or tags.";
    DropForeignMac "drop_foreign_mac" Drop "frames" "Addressed to another station's MAC address.";
    DropVlan "drop_vlan" Drop "frames" "Tagged with a VLAN ID other than 0; VLANs are not supported.";
    DropEthertype "drop_ethertype" Drop "frames" "Neither IPv4 nor ARP.";
    DropArp "drop_arp" Drop "frames" "ARP that is malformed, unsolicited, or about an address that is not owned.";
    DropIpv4Header "drop_ipv4_header" Drop "frames" "IPv4 version, header length, total length or header checksum is wrong.";
    DropFragment "drop_fragment" Drop "frames" "IPv4 fragment: the stack does not reassemble packets; lower the sender's MTU.";
    DropForeignAddress "drop_foreign_address" Drop "frames" "IPv4 destination is not an owned unicast address.";
    DropMartian "drop_martian" Drop "frames" "Source address or port that no peer can have (broadcast, multicast, loopback, our own, port 0).";
    DropProtocol "drop_protocol" Drop "frames" "IPv4 protocol is neither TCP nor ICMP.";
    DropIcmp "drop_icmp" Drop "frames" "ICMP that is malformed, of a type without use here, or quotes no live connection.";
    DropTcpHeader "drop_tcp_header" Drop "frames" "TCP header is truncated or its data offset is wrong.";
    DropTcpChecksum "drop_tcp_checksum" Drop "frames" "TCP checksum is wrong; on veth turn off the peer's transmit offload (ethtool -K PEER tx off).";
    DropNoConnection "drop_no_connection" Drop "frames" "Segment for no connection and no listener; answered with RST where the RFC asks for it.";
    DropListenFlags "drop_listen_flags" Drop "frames" "Segment to a listener that is no SYN and needs no answer, or a SYN with FIN.";
    DropBacklog "drop_backlog" Drop "frames" "SYN dropped: tcp.syn_backlog_max connections are half-open and tcp.syn_cookies is off.";
    DropTableFull "drop_table_full" Drop "frames" "SYN dropped, or a cookie refused with RST: tcp.connections_max connections exist.";
    DropSequence "drop_sequence" Drop "frames" "Segment outside the receive window or wholly old; answered with an ACK.";
    DropPaws "drop_paws" Drop "frames" "Timestamp older than the last one, or missing after negotiation (RFC 7323 PAWS).";
    DropRst "drop_rst" Drop "frames" "RST that does not hit RCV.NXT exactly, or in TIME-WAIT (RFC 5961, RFC 1337).";
    DropSyn "drop_syn" Drop "frames" "SYN on a synchronized connection; answered with a challenge ACK (RFC 5961).";
    DropAck "drop_ack" Drop "frames" "Acknowledgement of what was never sent, or far too old (RFC 5961).";
    DropNoAck "drop_no_ack" Drop "frames" "Segment without the ACK flag on a synchronized connection.";
    DropReassembly "drop_reassembly" Drop "frames" "Out-of-order data beyond tcp.reassembly_segments_max of its connection.";
    DropBuffer "drop_buffer" Drop "frames" "Data dropped because tcp.buffer_bytes_max is in use; the peer sends it again.";
    DropAfterClose "drop_after_close" Drop "frames" "Data after the application closed; answered with RST.";

    TcpIn "tcp_in" Count "segments" "TCP segments that passed the parser.";
    TcpOut "tcp_out" Count "segments" "TCP segments sent, retransmissions included.";
    TcpRetransmitted "tcp_retransmitted" Warn "segments" "Segments sent again: SYN, data or FIN.";
    TcpFastRetransmits "tcp_fast_retransmits" Warn "events" "Recoveries begun by RACK or by three duplicate ACKs.";
    TcpTailProbes "tcp_tail_probes" Warn "segments" "Tail loss probes sent (RFC 8985): the end of a flight was not acknowledged in time.";
    TcpDsackIn "tcp_dsack_in" Count "segments" "Acknowledgements that report data received twice (RFC 2883): something was sent again too early.";
    TcpRecoveriesUndone "tcp_recoveries_undone" Count "events" "Recoveries that turned out to be needless, because segments had only changed places; the window was given back.";
    TcpEcnMarked "tcp_ecn_marked" Count "segments" "Segments that a router marked instead of dropping them (RFC 3168).";
    TcpEcnReductions "tcp_ecn_reductions" Warn "events" "Windows reduced because the peer saw marked segments (RFC 3168).";
    TcpTimeouts "tcp_timeouts" Warn "events" "Retransmission timeouts.";
    TcpProbes "tcp_probes" Count "segments" "Zero-window and keepalive probes sent.";
    TcpOutOfOrder "tcp_out_of_order" Count "segments" "Segments kept for reassembly because an earlier one is missing.";
    TcpDuplicate "tcp_duplicate" Count "segments" "Segments that began with data already received.";
    TcpRstIn "tcp_rst_in" Count "segments" "RST segments that ended a connection.";
    TcpRstOut "tcp_rst_out" Count "segments" "RST segments sent.";
    TcpRstLimited "tcp_rst_limited" Warn "segments" "RST answers to unknown segments withheld by tcp.resets_per_second_max.";
    TcpChallengeAcks "tcp_challenge_acks" Count "segments" "ACKs sent in answer to suspicious segments (RFC 5961).";
    TcpChallengeLimited "tcp_challenge_limited" Count "segments" "Challenge ACKs withheld by the limit of one per 500 ms and connection.";
    TcpOptionsMalformed "tcp_options_malformed" Warn "segments" "Segments whose options have an illegal length; the rest of the options was ignored.";
    TcpChecksumPartial "tcp_checksum_partial" Count "segments" "Segments accepted with only the pseudo-header checksum, as a veth peer with transmit offload sends them.";
    PathMtuReduced "path_mtu_reduced" Count "events" "Times a connection went on with smaller segments because a router said that they do not fit (RFC 1191).";
    PathMtuBlackHoles "path_mtu_black_holes" Warn "events" "Times a connection went on with segments of 536 bytes because large ones timed out twice and no router said why (tcp.pmtu_black_hole).";
    SynCookiesSent "syn_cookies_sent" Warn "segments" "SYNs answered with a cookie and no record: tcp.syn_backlog_max connections are half-open, or tcp.syn_cookies is always.";
    SynCookiesAccepted "syn_cookies_accepted" Count "connections" "Connections that a returning SYN cookie opened.";
    SynCookiesFailed "syn_cookies_failed" Warn "segments" "ACKs to a listener without a connection and without a valid cookie, while cookies were in use; answered with RST.";
    TcpBytesIn "tcp_bytes_in" Count "bytes" "Payload bytes received in order.";
    TcpBytesOut "tcp_bytes_out" Count "bytes" "Payload bytes sent for the first time.";
    TcpBytesAcked "tcp_bytes_acked" Count "bytes" "Payload bytes that the peer acknowledged.";

    ConnsActive "conns_active" Count "connections" "Connections opened from here (SYN sent).";
    ConnsPassive "conns_passive" Count "connections" "Connections opened by a peer (SYN received by a listener).";
    ConnsEstablished "conns_established" Count "connections" "Connections that completed the handshake.";
    ConnsClosed "conns_closed" End "connections" "Connections that ended with both FINs acknowledged.";
    ConnsRefused "conns_refused" End "connections" "Opens that the peer answered with RST.";
    ConnsUnreachable "conns_unreachable" End "connections" "Opens that an ICMP error or a silent neighbour ended.";
    ConnsReset "conns_reset" End "connections" "Connections that the peer reset.";
    ConnsTimedOut "conns_timed_out" End "connections" "Connections given up after the last retransmission, probe or wait.";
    ConnsAborted "conns_aborted" End "connections" "Connections that this side reset.";
    ConnsOpen "conns_open" Gauge "connections" "Connections that have not ended: half-open, established and closing.";
    ConnsHalfOpen "conns_half_open" Gauge "connections" "Connections in SYN-RECEIVED.";
    ConnsTimeWait "conns_time_wait" Gauge "connections" "Ended connections that still guard their four-tuple in TIME-WAIT.";
    TimeWaitRecycled "time_wait_recycled" Count "connections" "TIME-WAIT records given up early: a newer SYN took the tuple, or the table was full.";

    RssChecked "rss_checked" Count "frames" "Frames whose queue was foretold from the NIC's hash and compared with the one they arrived at.";
    RssMismatched "rss_mismatched" Warn "frames" "Frames that arrived at another queue than was foretold; `barewire status` says what became of it.";
    ArpRequests "arp_requests" Count "packets" "ARP requests sent.";
    NeighborDoubted "neighbor_doubted" Count "events" "Next hops asked for again because tcp.retries_r1 retransmissions got no answer.";
    NeighborFailed "neighbor_failed" Warn "events" "Next hops that never answered ARP.";
    NeighborFull "neighbor_full" Warn "events" "Neighbours not kept because interface.neighbors_max are known.";
    BufferChunks "buffer_chunks" Gauge "chunks" "Buffer chunks in use by all connections.";
    BufferRefused "buffer_refused" Warn "events" "Sends cut short because tcp.buffer_bytes_max is in use.";
}

/// The values of all counters of one stack.
#[derive(Clone)]
pub struct Counters {
    values: [u64; Counter::ALL.len()],
}

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Counters { values: [0; Counter::ALL.len()] }
    }

    /// One more. A count of 64 bits does not come to its end.
    #[inline]
    pub fn inc(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// `n` more.
    #[inline]
    pub fn add(&mut self, counter: Counter, n: u64) {
        let value = &mut self.values[counter as usize];
        *value = value.wrapping_add(n);
    }

    /// One less of a gauge.
    pub fn dec(&mut self, counter: Counter) {
        debug_assert_eq!(counter.kind(), Kind::Gauge);
        self.values[counter as usize] -= 1;
    }

    /// Sets a gauge.
    pub fn set(&mut self, counter: Counter, value: u64) {
        debug_assert_eq!(counter.kind(), Kind::Gauge);
        self.values[counter as usize] = value;
    }

    /// The value of one counter.
    pub fn get(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// All values, in the order of [`Counter::ALL`].
    pub fn values(&self) -> &[u64] {
        &self.values
    }

    /// The sum over all counters of a kind.
    pub fn sum(&self, kind: Kind) -> u64 {
        Counter::ALL.iter().filter(|c| c.kind() == kind).map(|&c| self.get(c)).sum()
    }

    /// The identities that hold between turns, as an error that says which one is broken.
    pub fn audit(&self) -> Result<(), String> {
        let frames = self.sum(Kind::Use) + self.sum(Kind::Drop);
        if frames != self.get(Counter::RxFrames) {
            return Err(format!(
                "frames are not conserved: rx_frames is {}, but {frames} frames were used or dropped",
                self.get(Counter::RxFrames)
            ));
        }
        let opened = self.get(Counter::ConnsActive) + self.get(Counter::ConnsPassive);
        let ended = self.sum(Kind::End);
        let open = self.get(Counter::ConnsOpen);
        if opened != ended + open {
            return Err(format!(
                "connections do not add up: {opened} opened, but {ended} ended and {open} are open"
            ));
        }
        Ok(())
    }
}

impl Default for Counters {
    fn default() -> Self {
        Counters::new()
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nonzero = Counter::ALL.iter().filter(|&&c| self.get(c) != 0);
        f.debug_map().entries(nonzero.map(|&c| (c.name(), self.get(c)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_counter_is_explained() {
        let mut names: Vec<_> = Counter::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Counter::ALL.len());
        for counter in Counter::ALL {
            assert!(counter.help().ends_with('.'), "{}", counter.name());
        }
    }

    #[test]
    fn the_audit_finds_a_lost_frame_and_a_lost_connection() {
        let mut counters = Counters::new();
        counters.inc(Counter::RxFrames);
        assert!(counters.audit().is_err());
        counters.inc(Counter::DropPaws);
        assert_eq!(counters.audit(), Ok(()));
        counters.inc(Counter::ConnsActive);
        assert!(counters.audit().is_err());
        counters.inc(Counter::ConnsOpen);
        assert_eq!(counters.audit(), Ok(()));
    }
}
