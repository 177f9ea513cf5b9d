//! What each worker's stack is made with: the configuration of the whole engine, in the stack's own
//! terms and divided among the workers.

use super::{Site, StartError};
use barewire_api::config::{self, Ownership, Prefix};
use barewire_api::unit::Span;
use barewire_stack::stack::{self, Resolver, StackConfig};
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::config::{CongestionControl, Ecn, SynCookies};
use barewire_stack::tcp::isn::Secret;
use barewire_stack::time::Duration;
use barewire_stack::wire::ethernet::Mac;

/// One secret for all workers, so that the ISNs of a four-tuple advance whichever worker makes them.
pub(super) fn secret() -> Result<Secret, StartError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| StartError::Os {
        what: "get random numbers from the kernel",
        source: std::io::Error::other(error),
    })?;
    Ok(Secret::new(seed))
}

/// The configuration of each worker's stack. Limits of the whole daemon are divided evenly and
/// rounded up.
pub(super) fn stack_config(site: &Site, secret: Secret, n_workers: u64) -> StackConfig {
    let (interface, tcp) = (&site.config.interface, &site.config.tcp);
    let share = |total: u64| u32::try_from(total.div_ceil(n_workers)).unwrap_or(u32::MAX);
    let whole = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let prefixes = |list: &[Prefix]| {
        list.iter().map(|p| stack::Prefix { addr: p.addr(), len: p.len() }).collect()
    };
    StackConfig {
        mac: Mac(site.interface.mac),
        addresses: prefixes(&interface.addresses),
        prefixes: prefixes(&interface.prefixes),
        gateway: interface.gateway,
        resolver: match interface.ownership {
            Ownership::Owned => Resolver::Arp,
            Ownership::Shared => Resolver::Kernel,
        },
        ttl: tcp.ttl,
        dscp: tcp.dscp,
        rx_checksum: site.rx_checksum,
        connections_max: share(tcp.connections_max.0),
        syn_backlog_max: whole(tcp.syn_backlog_max.0),
        time_wait_max: share(tcp.time_wait_max.0),
        neighbors_max: interface.neighbors_max,
        resets_per_second_max: whole(tcp.resets_per_second_max.0),
        buffer_bytes_max: usize::try_from(tcp.buffer_bytes_max.0).unwrap_or(usize::MAX),
        secret,
        tcp: tcp_config(site),
    }
}

fn tcp_config(site: &Site) -> TcpConfig {
    let tcp = &site.config.tcp;
    let span = |span: Span| Duration::from_nanos(span.as_nanos());
    let bytes = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let tries = |n: u32| u8::try_from(n).unwrap_or(u8::MAX);
    TcpConfig {
        mss: tcp.mss.expect("a site knows its MSS"),
        window_bytes_max: bytes(tcp.window_bytes_max.0),
        send_bytes_max: bytes(tcp.send_bytes_max.0),
        reassembly_segments_max: u16::try_from(tcp.reassembly_segments_max).unwrap_or(u16::MAX),
        rto_min: span(tcp.rto_min),
        rto_max: span(tcp.rto_max),
        syn_retries_max: tries(tcp.syn_retries_max),
        retries_r1: tries(tcp.retries_r1),
        retries_max: tries(tcp.retries_max),
        user_timeout: span(tcp.user_timeout),
        pmtu_min: tcp.pmtu_min,
        pmtu_raise: span(tcp.pmtu_raise),
        pmtu_black_hole: tcp.pmtu_black_hole,
        delayed_ack: span(tcp.delayed_ack),
        time_wait: span(tcp.time_wait),
        dormant_after: span(tcp.dormant_after),
        fin_wait2: span(tcp.fin_wait2),
        keepalive: span(tcp.keepalive),
        keepalive_interval: span(tcp.keepalive_interval),
        keepalive_probes_max: tries(tcp.keepalive_probes_max),
        nagle: tcp.nagle,
        timestamps: tcp.timestamps,
        sack: tcp.sack,
        window_scale: tcp.window_scale,
        initial_window_segments: tcp.initial_window_segments,
        congestion: match tcp.congestion {
            config::CongestionControl::Cubic => CongestionControl::Cubic,
            config::CongestionControl::NewReno => CongestionControl::NewReno,
        },
        ecn: match tcp.ecn {
            config::Ecn::Off => Ecn::Off,
            config::Ecn::Accept => Ecn::Accept,
            config::Ecn::Request => Ecn::Request,
        },
        syn_cookies: match tcp.syn_cookies {
            config::SynCookies::Auto => SynCookies::Auto,
            config::SynCookies::Always => SynCookies::Always,
            config::SynCookies::Off => SynCookies::Off,
        },
    }
}
