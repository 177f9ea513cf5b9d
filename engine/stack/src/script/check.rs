//! What holds for every segment of D, whatever the script is about: it is well formed, says nothing
//! that T did not send, and keeps to the windows and sizes that were agreed.

use super::flow::Flow;
use super::options;
use super::segment::{Segment, pattern_byte};
use super::statement::App;
use crate::wire::tcp::{Flags, HEADER_BYTES};

/// The smallest segment that every sender must be content with; a stack may refuse to go below a
/// floor of its own.
const MSS_FLOOR: u16 = 88;

/// What is wrong with `segment`, whose bytes from the TCP header on are `bytes`.
pub(super) fn complaint(flow: &Flow, app: &App, segment: &Segment, bytes: &[u8]) -> Option<String> {
    header(segment, bytes)
        .or_else(|| numbers(flow, segment))
        .or_else(|| sizes(flow, segment, bytes))
        .or_else(|| payload(app, segment))
}

fn header(segment: &Segment, bytes: &[u8]) -> Option<String> {
    let flags = segment.tcp.flags;
    let has = |flag| flags.contains(flag);
    let reserved = bytes[12] & 0x0f;
    if reserved != 0 {
        return Some(format!("the reserved bits are {reserved:#06b}"));
    }
    if !has(Flags::ACK) && !has(Flags::SYN) && !has(Flags::RST) {
        return Some("it has no ACK".to_owned());
    }
    if has(Flags::SYN) && (has(Flags::RST) || has(Flags::FIN)) {
        return Some("SYN stands beside RST or FIN".to_owned());
    }
    let header_len = bytes.len() - segment.payload.len();
    options::complaint(&bytes[HEADER_BYTES..header_len], has(Flags::SYN))
}

fn numbers(flow: &Flow, segment: &Segment) -> Option<String> {
    let flags = segment.tcp.flags;
    if flags.contains(Flags::RST) {
        // It takes its numbers from the segment it answers.
        return None;
    }
    if flags.contains(Flags::ACK) {
        if segment.ack > flow.snd_max {
            return Some(format!("it acknowledges {}, T sent {}", segment.ack, flow.snd_max));
        }
        let shift = if flags.contains(Flags::SYN) { 0 } else { flow.stack_shift() };
        let edge = segment.ack + (i64::from(segment.tcp.window) << shift);
        if let Some(before) = flow.stack_edge
            && edge < before
            && !flags.contains(Flags::SYN)
        {
            return Some(format!("its window ends at {edge}, it had ended at {before} (SHLD-14)"));
        }
    }
    if flow.is_stamped() != segment.tcp.options.timestamps.is_some() && !flags.contains(Flags::SYN)
    {
        return Some("timestamps were agreed and are missing, or the reverse".to_owned());
    }
    None
}

fn sizes(flow: &Flow, segment: &Segment, bytes: &[u8]) -> Option<String> {
    let len = segment.payload.len();
    if len == 0 {
        return None;
    }
    let options_len = bytes.len() - HEADER_BYTES - len;
    if len + options_len > usize::from(flow.mss.max(MSS_FLOOR)) {
        return Some(format!("{len} bytes and {options_len} of options exceed MSS {}", flow.mss));
    }
    // One byte may go beyond a window to probe it (RFC 9293 section 3.8.6.1).
    let end = segment.seq + len as i64;
    if end > flow.edge && !(len == 1 && end == flow.edge + 1) {
        return Some(format!("its data end at {end}, T's window at {}", flow.edge));
    }
    None
}

fn payload(app: &App, segment: &Segment) -> Option<String> {
    let first = (segment.seq - 1).cast_unsigned();
    let byte = |at: u64| if app.sends_zeros() { 0 } else { pattern_byte(first.wrapping_add(at)) };
    let wrong = segment.payload.iter().zip(0..).find(|&(&found, at)| found != byte(at));
    wrong.map(|(_, at)| format!("byte {} of the stream is wrong", first.wrapping_add(at)))
}

#[cfg(test)]
mod tests {
    use super::super::frame::{self, Plain};
    use super::super::segment::counted_from;
    use super::super::statement::Damage;
    use super::*;
    use crate::time::Instant;
    use crate::wire::ipv4::Ipv4;
    use crate::wire::tcp::{ChecksumPolicy, Tcp};
    use std::net::SocketAddrV4;

    fn end(host: u8) -> SocketAddrV4 {
        SocketAddrV4::new([10, 0, 0, host].into(), 7)
    }

    /// What is said of a segment of D that carries `len` bytes at 1, after `change` and with
    /// `reserved` bits. T sent one byte, takes segments of 100, and its window ends at 2000.
    fn judged(len: u64, reserved: u8, change: impl FnOnce(&mut Plain)) -> Option<String> {
        let mut flow = Flow::new(end(2), end(1), 0);
        (flow.snd_max, flow.mss, flow.edge, flow.stack_edge) = (2, 100, 2000, Some(500));
        let mut plain = Plain {
            from: end(1),
            to: end(2),
            seq: 1,
            ack: 2,
            flags: Flags::ACK,
            window: 1000,
            urgent: 0,
            options: Vec::new(),
            payload: (0..len).map(pattern_byte).collect(),
            ecn: 0,
        };
        change(&mut plain);
        let mut bytes = frame::segment(&plain, &Damage::default());
        bytes[12] |= reserved;
        let (src, dst) = (*plain.from.ip(), *plain.to.ip());
        let tcp = Tcp::parse(&bytes, src, dst, ChecksumPolicy::Trust).expect("a segment").tcp;
        let segment = Segment {
            at: Instant::ZERO,
            ip: Ipv4 {
                src,
                dst,
                protocol: 6,
                ttl: 64,
                dscp: 0,
                ecn: 0,
                id: 0,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
            },
            tcp,
            seq: counted_from(0, tcp.seq),
            ack: counted_from(0, tcp.ack),
            payload: plain.payload,
            sack: Vec::new(),
        };
        complaint(&flow, &App::default(), &segment, &bytes)
    }

    #[test]
    fn sound_segments_pass() {
        assert_eq!(judged(0, 0, |_| {}), None);
        assert_eq!(judged(100, 0, |_| {}), None);
        assert_eq!(judged(0, 0, |plain| plain.flags = Flags::RST), None);
    }

    #[test]
    fn what_no_segment_may_be_is_found() {
        let found = |words: &str, complaint: Option<String>| {
            assert!(
                complaint.as_ref().is_some_and(|c| c.contains(words)),
                "{words}: {complaint:?}"
            );
        };
        found("reserved", judged(0, 1, |_| {}));
        found("no ACK", judged(1, 0, |plain| plain.flags = Flags::PSH));
        found("beside RST", judged(0, 0, |plain| plain.flags = Flags::SYN | Flags::RST));
        found("option 2", judged(0, 0, |plain| plain.options = vec![2, 4, 5, 180]));
        found("T sent 2", judged(0, 0, |plain| plain.ack = 3));
        found("SHLD-14", judged(0, 0, |plain| plain.window = 400));
        found(
            "timestamps",
            judged(0, 0, |p| p.options = vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1]),
        );
        found("MSS", judged(101, 0, |_| {}));
        found("window", judged(100, 0, |plain| plain.seq = 1950));
        found("byte 3", judged(9, 0, |plain| plain.payload[3] ^= 1));
    }
}
