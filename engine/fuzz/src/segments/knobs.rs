//! The configuration of a program's stacks, drawn from a few bytes: every switch of TCP, and limits
//! low enough to be met.

use crate::lan;
use crate::tape::Tape;
use barewire_stack::stack::StackConfig;
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::config::{CongestionControl, Ecn, SynCookies};
use barewire_stack::time::Duration;

/// The configuration of host `number`.
pub(super) fn draw(tape: &mut Tape<'_>, number: u8) -> StackConfig {
    let tcp = draw_tcp(tape);
    let least = tcp.window_bytes_max.max(tcp.send_bytes_max) as usize;
    StackConfig {
        buffer_bytes_max: tape.one_of(&[least, least + 4096, 2 * least, 1 << 20]),
        connections_max: tape.one_of(&[6, 3, 1, 8]),
        syn_backlog_max: tape.one_of(&[3, 1, 8]),
        time_wait_max: tape.one_of(&[2, 0, 1, 8]),
        neighbors_max: tape.one_of(&[4, 1, 2]),
        resets_per_second_max: tape.one_of(&[100, 0, 2]),
        tcp,
        ..lan::config(number)
    }
}

fn draw_tcp(tape: &mut Tape<'_>) -> TcpConfig {
    let (switches, more) = (tape.u8(), tape.u8());
    let is_on = |bit: u8| switches >> bit & 1 == 0;
    let ms = Duration::from_millis;
    let window_scale = is_on(0);
    let window = tape.one_of(&[64 << 10, 2 << 10, 5_000, 30_000, 256 << 10]);
    TcpConfig {
        mss: tape.one_of(&[1460, 88, 536, 1000]),
        window_bytes_max: if window_scale { window } else { window.min(65_535) },
        send_bytes_max: tape.one_of(&[64 << 10, 2 << 10, 10_000]),
        reassembly_segments_max: tape.one_of(&[64, 1, 2, 8]),
        rto_min: tape.one_of(&[ms(200), ms(1), ms(1000)]),
        syn_retries_max: more & 3,
        retries_max: 1 + (more >> 2 & 7),
        delayed_ack: tape.one_of(&[ms(40), Duration::ZERO, ms(500)]),
        time_wait: tape.one_of(&[ms(60_000), Duration::ZERO, ms(1000)]),
        fin_wait2: tape.one_of(&[ms(60_000), ms(1)]),
        keepalive: tape.one_of(&[Duration::ZERO, ms(1), ms(30_000)]),
        keepalive_interval: tape.one_of(&[ms(1000), ms(75_000)]),
        keepalive_probes_max: 1 + (more >> 5),
        nagle: is_on(1),
        timestamps: is_on(2),
        sack: is_on(3),
        window_scale,
        initial_window_segments: tape.one_of(&[10, 1, 100]),
        syn_cookies: tape.one_of(&[SynCookies::Auto, SynCookies::Always, SynCookies::Off]),
        retries_r1: tape.one_of(&[3, 4]),
        user_timeout: tape.one_of(&[Duration::ZERO, ms(1000), ms(1), ms(60_000)]),
        pmtu_min: tape.one_of(&[552, 140, 296]),
        pmtu_raise: tape.one_of(&[ms(600_000), Duration::ZERO, ms(1000)]),
        congestion: if is_on(4) { CongestionControl::Cubic } else { CongestionControl::NewReno },
        ecn: if is_on(5) { Ecn::Accept } else { Ecn::Request },
        ..TcpConfig::default()
    }
}
