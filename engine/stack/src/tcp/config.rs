//! The knobs of TCP that one stack applies to all its connections.

use crate::time::Duration;

/// How the congestion window grows and shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CongestionControl {
    /// RFC 9438.
    Cubic,
    /// RFC 5681 and 6582.
    NewReno,
}

impl CongestionControl {
    /// One word, as users see it.
    pub fn name(self) -> &'static str {
        match self {
            CongestionControl::Cubic => "cubic",
            CongestionControl::NewReno => "newreno",
        }
    }
}

/// Explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ecn {
    /// Never.
    Off,
    /// When the peer asks for it.
    Accept,
    /// Our SYNs ask for it too.
    Request,
}

/// When a listener answers SYNs with cookies instead of records (RFC 4987).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynCookies {
    /// Past the backlog.
    Auto,
    /// Every SYN.
    Always,
    /// Never: what exceeds the backlog is dropped.
    Off,
}

/// TCP configuration. The defaults are those of the documented configuration file.
#[derive(Clone, Debug)]
pub struct TcpConfig {
    /// Largest segment payload that fits our link: MTU minus 40 (RFC 6691).
    pub mss: u16,
    /// Receive window of a connection in bytes, at most 2^30.
    pub window_bytes_max: u32,
    /// Bytes an application may have queued for sending per connection.
    pub send_bytes_max: u32,
    /// Out-of-order chunks kept per connection.
    pub reassembly_segments_max: u16,
    /// Lower bound of the retransmission timeout. RFC 6298 says 1 s SHOULD; 200 ms is what Linux
    /// and its peers use.
    pub rto_min: Duration,
    /// Upper bound of the retransmission timeout, at least 60 s (RFC 6298 section 2.5).
    pub rto_max: Duration,
    /// Retransmissions of a SYN or SYN-ACK before the open fails.
    pub syn_retries_max: u8,
    /// Retransmissions of one segment after which the next hop is asked for again (R1).
    pub retries_r1: u8,
    /// Retransmissions or unanswered probes before an established connection fails (R2).
    pub retries_max: u8,
    /// How long data may stay unacknowledged before the connection fails (RFC 5482); zero: only R2
    /// counts.
    pub user_timeout: Duration,
    /// The smallest packet that a router can make us send, in bytes: attackers ask for less (RFC 5927).
    pub pmtu_min: u16,
    /// How long a smaller path MTU holds before the full size is tried again (RFC 1191); zero: as long
    /// as the connection.
    pub pmtu_raise: Duration,
    /// Try smaller segments when large ones time out and no router says why (RFC 2923).
    pub pmtu_black_hole: bool,
    /// The longest an ACK is held back; below 500 ms (RFC 9293 section 3.8.6.3).
    pub delayed_ack: Duration,
    /// How long a connection must have been quiet before it sleeps; at least 500 ms.
    pub dormant_after: Duration,
    /// 2 MSL.
    pub time_wait: Duration,
    /// The longest wait for the peer's FIN after the application closed both directions.
    pub fin_wait2: Duration,
    /// Idle time before keepalive probes; zero turns them off (the RFC's default).
    pub keepalive: Duration,
    /// Time between keepalive probes.
    pub keepalive_interval: Duration,
    /// Unanswered keepalive probes before the connection fails.
    pub keepalive_probes_max: u8,
    /// Hold small segments back while data is in flight (RFC 9293 section 3.7.4).
    pub nagle: bool,
    /// Offer timestamps and PAWS (RFC 7323).
    pub timestamps: bool,
    /// Offer SACK (RFC 2018).
    pub sack: bool,
    /// Offer window scaling (RFC 7323).
    pub window_scale: bool,
    /// Initial congestion window in segments (RFC 6928).
    pub initial_window_segments: u32,
    /// Congestion control.
    pub congestion: CongestionControl,
    /// Explicit congestion notification (RFC 3168).
    pub ecn: Ecn,
    /// SYN cookies (RFC 4987).
    pub syn_cookies: SynCookies,
}

impl TcpConfig {
    /// Segments that one connection may have in flight, and so what one acknowledgement may walk
    /// over: what it may have queued, in half-full segments.
    pub fn flight_segments_max(&self) -> u32 {
        (self.send_bytes_max / (u32::from(self.mss) / 2).max(1)).max(16)
    }

    /// The shift that makes `window_bytes_max` fit 16 bits (RFC 7323 section 2.2), at most 14.
    pub fn window_shift(&self) -> u8 {
        (0..14).find(|&s| self.window_bytes_max >> s <= 0xffff).unwrap_or(14)
    }
}

impl Default for TcpConfig {
    fn default() -> Self {
        TcpConfig {
            mss: 1460,
            window_bytes_max: 256 << 10,
            send_bytes_max: 256 << 10,
            reassembly_segments_max: 256,
            rto_min: Duration::from_millis(200),
            rto_max: Duration::from_secs(60),
            syn_retries_max: 7,
            retries_r1: 3,
            retries_max: 15,
            user_timeout: Duration::ZERO,
            pmtu_min: 552,
            pmtu_raise: Duration::from_secs(600),
            pmtu_black_hole: false,
            delayed_ack: Duration::from_millis(40),
            dormant_after: Duration::from_secs(1),
            time_wait: Duration::from_secs(60),
            fin_wait2: Duration::from_secs(60),
            keepalive: Duration::ZERO,
            keepalive_interval: Duration::from_secs(75),
            keepalive_probes_max: 9,
            nagle: true,
            timestamps: true,
            sack: true,
            window_scale: true,
            initial_window_segments: 10,
            congestion: CongestionControl::Cubic,
            ecn: Ecn::Accept,
            syn_cookies: SynCookies::Auto,
        }
    }
}
