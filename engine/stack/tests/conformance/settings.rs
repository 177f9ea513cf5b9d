//! The `set` lines of a script: the keys of the configuration file that a stack knows by itself.

use barewire_stack::stack::StackConfig;
use barewire_stack::tcp::config::{Ecn, SynCookies};
use barewire_stack::time::Duration;
use std::fmt::Debug;
use std::str::FromStr;

pub(crate) fn apply(config: &mut StackConfig, key: &str, value: &str) {
    let tcp = &mut config.tcp;
    match key {
        "tcp.ttl" => config.ttl = number(value),
        "tcp.dscp" => config.dscp = number(value),
        "tcp.connections_max" => config.connections_max = number(value),
        "tcp.syn_backlog_max" => config.syn_backlog_max = number(value),
        "tcp.resets_per_second_max" => config.resets_per_second_max = number(value),
        "tcp.mss" => tcp.mss = number(value),
        "tcp.window_bytes_max" => tcp.window_bytes_max = number(value),
        "tcp.send_bytes_max" => tcp.send_bytes_max = number(value),
        "tcp.reassembly_segments_max" => tcp.reassembly_segments_max = number(value),
        "tcp.syn_retries_max" => tcp.syn_retries_max = number(value),
        "tcp.retries_r1" => tcp.retries_r1 = number(value),
        "tcp.retries_max" => tcp.retries_max = number(value),
        "tcp.pmtu_min" => tcp.pmtu_min = number(value),
        "tcp.pmtu_black_hole" => tcp.pmtu_black_hole = number(value),
        "tcp.pmtu_raise" => tcp.pmtu_raise = duration(value),
        "tcp.user_timeout" => tcp.user_timeout = duration(value),
        "tcp.keepalive_probes_max" => tcp.keepalive_probes_max = number(value),
        "tcp.initial_window_segments" => tcp.initial_window_segments = number(value),
        "tcp.rto_min" => tcp.rto_min = duration(value),
        "tcp.rto_max" => tcp.rto_max = duration(value),
        "tcp.delayed_ack" => tcp.delayed_ack = duration(value),
        "tcp.time_wait" => tcp.time_wait = duration(value),
        "tcp.fin_wait2" => tcp.fin_wait2 = duration(value),
        "tcp.keepalive" => tcp.keepalive = duration(value),
        "tcp.keepalive_interval" => tcp.keepalive_interval = duration(value),
        "tcp.nagle" => tcp.nagle = number(value),
        "tcp.ecn" => {
            tcp.ecn = match value {
                "off" => Ecn::Off,
                "accept" => Ecn::Accept,
                "request" => Ecn::Request,
                _ => panic!("no way of ECN: {value}"),
            }
        }
        "tcp.syn_cookies" => {
            tcp.syn_cookies = match value {
                "auto" => SynCookies::Auto,
                "always" => SynCookies::Always,
                "off" => SynCookies::Off,
                _ => panic!("no way of cookies: {value}"),
            }
        }
        "tcp.timestamps" => tcp.timestamps = number(value),
        "tcp.sack" => tcp.sack = number(value),
        "tcp.window_scale" => tcp.window_scale = number(value),
        _ => panic!("no such setting: {key}"),
    }
}

fn number<T: FromStr<Err: Debug>>(value: &str) -> T {
    value.parse().unwrap_or_else(|error| panic!("{value}: {error:?}"))
}

fn duration(value: &str) -> Duration {
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let n = number(&value[..end]);
    match &value[end..] {
        "ms" => Duration::from_millis(n),
        "s" => Duration::from_secs(n),
        unit => panic!("no unit of time: {unit}"),
    }
}
