//! `[tcp]`: the limits and timers of the TCP stack. Defaults are those of the RFCs named at each
//! field, or of common kernels where the RFCs leave the choice.

use serde::{Deserialize, Serialize};

use super::{ConfigError, in_range};
use crate::text::word_enum;
use crate::unit::{Bytes, Count, Span};

/// The most connections of one daemon.
pub const CONNECTIONS_MAX: u64 = 100_000_000;

/// The largest window that RFC 7323 section 2.3 can express.
const WINDOW_BYTES_MAX: u64 = 1 << 30;

word_enum! {
    /// How the congestion window grows and shrinks.
    pub enum CongestionControl: "cubic or newreno" {
        /// CUBIC, RFC 9438.
        Cubic = "cubic",
        /// NewReno, RFC 5681 and 6582.
        NewReno = "newreno",
    }
}

word_enum! {
    /// Explicit congestion notification, RFC 3168.
    pub enum Ecn: "off, accept or request" {
        /// Never.
        Off = "off",
        /// When the peer asks for it.
        Accept = "accept",
        /// Our SYNs ask for it too.
        Request = "request",
    }
}

word_enum! {
    /// When SYNs are answered with cookies, RFC 4987.
    pub enum SynCookies: "auto, always or off" {
        /// Past the backlog.
        Auto = "auto",
        /// Always.
        Always = "always",
        /// Never.
        Off = "off",
    }
}

/// Limits and timers of every connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tcp {
    /// Connections of the daemon, in any state but TIME_WAIT. Each worker may hold an even share, so
    /// leave room for an uneven spread over the queues.
    pub connections_max: Count,
    /// Half-open connections per worker.
    pub syn_backlog_max: Count,
    /// SYN cookies, RFC 4987: auto answers SYNs past the backlog with one, always every SYN, off drops
    /// what exceeds the backlog. A connection from a cookie keeps its MSS rounded down, and window
    /// scale, SACK and ECN if the peer uses timestamps. When the third segment of its handshake is
    /// lost, it opens with the peer's first data; where the server speaks first nobody notices.
    pub syn_cookies: SynCookies,
    /// Our maximum segment size in bytes; the MTU less 40 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mss: Option<u16>,
    /// Receive window per connection.
    pub window_bytes_max: Bytes,
    /// Bytes that one connection may hold for sending.
    pub send_bytes_max: Bytes,
    /// Bytes that all connections of one worker may buffer together.
    pub buffer_bytes_max: Bytes,
    /// Out-of-order segments that one connection may hold.
    pub reassembly_segments_max: u32,
    /// Lower bound of the retransmission timeout. RFC 6298 (2.4) says 1 s; kernels use 200 ms.
    pub rto_min: Span,
    /// Upper bound of the retransmission timeout, RFC 6298 (2.5).
    pub rto_max: Span,
    /// Retransmissions of a SYN or SYN-ACK before the open fails. RFC 9293 MUST-23 wants three minutes
    /// at least; with the default bounds of the timeout 7 are 183 s.
    pub syn_retries_max: u32,
    /// Retransmissions of one segment after which the MAC address of the next hop is asked for again:
    /// R1 of RFC 9293 section 3.8.3, 3 at least.
    pub retries_r1: u32,
    /// Retransmissions of one segment before the connection fails: R2 of RFC 9293 section 3.8.3.
    pub retries_max: u32,
    /// How long an acknowledgement may wait; at most 500 ms, RFC 9293 section 3.8.6.3. 0: never.
    pub delayed_ack: Span,
    /// How long a connection must have been quiet before it sleeps and gives back all but one cache
    /// line; from 500 ms on.
    pub dormant_after: Span,
    /// How long TIME_WAIT lasts: twice the maximum segment lifetime.
    pub time_wait: Span,
    /// Connections in TIME_WAIT, over all workers; the oldest makes room.
    pub time_wait_max: Count,
    /// How long a half-closed connection may wait for the peer's FIN after the app has gone.
    pub fin_wait2: Span,
    /// Idle time before the first keepalive probe; 0: off, as RFC 9293 section 3.8.4 wants it.
    pub keepalive: Span,
    /// Time between keepalive probes.
    pub keepalive_interval: Span,
    /// Unanswered keepalive probes before the connection fails.
    pub keepalive_probes_max: u32,
    /// How long a peer may acknowledge nothing of what it was sent before the connection fails, be
    /// `retries_max` reached or not: the user timeout of RFC 9293 section 3.9.1 and RFC 5482; 0: off. A
    /// closed window that the peer confirms may stay closed (MUST-37).
    pub user_timeout: Span,
    /// Path MTU discovery, RFC 1191: the smallest packet that a router's "fragmentation needed" can
    /// make a connection send. The default is what other stacks take; attackers ask for less (RFC
    /// 5927). With shared ownership ICMP goes to the kernel, and the engine hears of nothing: set mss.
    pub pmtu_min: u16,
    /// How long a smaller path MTU holds before the full size is tried again, RFC 1191 section 6.3; 0:
    /// as long as the connection.
    pub pmtu_raise: Span,
    /// Go on with segments of 536 bytes when large ones time out twice and no router says why: for paths
    /// that lose ICMP, RFC 2923 section 2.1. A path that is down for a moment looks the same.
    pub pmtu_black_hole: bool,
    /// RST segments in answer to unknown segments, per second and worker; a flood gets no flood back.
    pub resets_per_second_max: Count,
    /// Nagle's algorithm, RFC 9293 section 3.7.4.
    pub nagle: bool,
    /// Offer timestamps, RFC 7323 section 3.
    pub timestamps: bool,
    /// Offer selective acknowledgement, RFC 2018.
    pub sack: bool,
    /// Offer window scaling, RFC 7323 section 2.
    pub window_scale: bool,
    /// Initial congestion window in segments, RFC 6928.
    pub initial_window_segments: u32,
    /// Congestion control: cubic (RFC 9438) or newreno (RFC 5681).
    pub congestion: CongestionControl,
    /// Explicit congestion notification, RFC 3168: off, accept or request.
    pub ecn: Ecn,
    /// Time to live of sent packets.
    pub ttl: u8,
    /// Differentiated services code point of sent packets, 0 to 63.
    pub dscp: u8,
}

impl Default for Tcp {
    fn default() -> Self {
        Tcp {
            connections_max: Count(2_000_000),
            syn_backlog_max: Count(65_536),
            syn_cookies: SynCookies::Auto,
            mss: None,
            window_bytes_max: Bytes(256 << 10),
            send_bytes_max: Bytes(256 << 10),
            buffer_bytes_max: Bytes(64 << 20),
            reassembly_segments_max: 256,
            rto_min: Span::from_millis(200),
            rto_max: Span::from_secs(60),
            syn_retries_max: 7,
            retries_r1: 3,
            retries_max: 15,
            delayed_ack: Span::from_millis(40),
            dormant_after: Span::from_secs(1),
            time_wait: Span::from_secs(60),
            time_wait_max: Count(2_000_000),
            fin_wait2: Span::from_secs(60),
            keepalive: Span::ZERO,
            keepalive_interval: Span::from_secs(75),
            keepalive_probes_max: 9,
            user_timeout: Span::ZERO,
            pmtu_min: 552,
            pmtu_raise: Span::from_secs(600),
            pmtu_black_hole: false,
            resets_per_second_max: Count(10_000),
            nagle: true,
            timestamps: true,
            sack: true,
            window_scale: true,
            initial_window_segments: 10,
            congestion: CongestionControl::Cubic,
            ecn: Ecn::Accept,
            ttl: 64,
            dscp: 0,
        }
    }
}

impl Tcp {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.check_limits()?;
        self.check_timers()
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        in_range("tcp.connections_max", self.connections_max.0, 1, CONNECTIONS_MAX)?;
        in_range("tcp.time_wait_max", self.time_wait_max.0, 0, CONNECTIONS_MAX)?;
        in_range("tcp.syn_backlog_max", self.syn_backlog_max.0, 1, CONNECTIONS_MAX)?;
        in_range("tcp.resets_per_second_max", self.resets_per_second_max.0, 0, CONNECTIONS_MAX)?;
        if let Some(mss) = self.mss {
            // 88 is the smallest that leaves room for data beside 40 bytes of options.
            in_range("tcp.mss", u64::from(mss), 88, 9_176)?;
        }
        in_range("tcp.window_bytes_max", self.window_bytes_max.0, 1 << 11, WINDOW_BYTES_MAX)?;
        in_range("tcp.send_bytes_max", self.send_bytes_max.0, 1 << 11, WINDOW_BYTES_MAX)?;
        let largest = self.window_bytes_max.max(self.send_bytes_max).0;
        in_range("tcp.buffer_bytes_max", self.buffer_bytes_max.0, largest, 1 << 40)?;
        for (place, n, min, max) in [
            ("tcp.reassembly_segments_max", self.reassembly_segments_max, 1, 4_096),
            ("tcp.syn_retries_max", self.syn_retries_max, 0, 32),
            ("tcp.retries_r1", self.retries_r1, 3, 64),
            ("tcp.retries_max", self.retries_max, 1, 64),
            // 88 bytes of data, 40 of headers and 12 of timestamps.
            ("tcp.pmtu_min", u32::from(self.pmtu_min), 140, 9_216),
            ("tcp.keepalive_probes_max", self.keepalive_probes_max, 1, 64),
            ("tcp.initial_window_segments", self.initial_window_segments, 1, 100),
            ("tcp.ttl", u32::from(self.ttl), 1, 255),
            ("tcp.dscp", u32::from(self.dscp), 0, 63),
        ] {
            in_range(place, u64::from(n), min, max)?;
        }
        if !self.window_scale && self.window_bytes_max.0 > 65_535 {
            return Err(ConfigError::new(
                "tcp.window_bytes_max",
                format!("expected at most 65535 without scaling, found {}", self.window_bytes_max),
                "set tcp.window_bytes_max = 65535 or leave window_scale on",
            ));
        }
        Ok(())
    }

    fn check_timers(&self) -> Result<(), ConfigError> {
        let off = Span::ZERO;
        let (ms, s, day) = (Span::from_millis(1), Span::from_secs(1), Span::from_secs(86_400));
        for (place, span, min, max) in [
            ("tcp.rto_min", self.rto_min, ms, self.rto_max),
            ("tcp.rto_max", self.rto_max, s, Span::from_secs(600)),
            ("tcp.delayed_ack", self.delayed_ack, off, Span::from_millis(500)),
            ("tcp.dormant_after", self.dormant_after, Span::from_millis(500), day),
            ("tcp.time_wait", self.time_wait, off, Span::from_secs(600)),
            ("tcp.fin_wait2", self.fin_wait2, ms, day),
            ("tcp.keepalive", self.keepalive, off, day),
            ("tcp.keepalive_interval", self.keepalive_interval, s, day),
            ("tcp.user_timeout", self.user_timeout, off, day),
            ("tcp.pmtu_raise", self.pmtu_raise, off, day),
        ] {
            if !(min..=max).contains(&span) {
                return Err(ConfigError::new(
                    place,
                    format!("expected from {min} to {max}, found {span}"),
                    "choose a duration in that range",
                ));
            }
        }
        Ok(())
    }
}
