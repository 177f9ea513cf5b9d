//! What a frame on the wire says, and whether a stack may send it: every frame that leaves a host is
//! read back and judged by rules that need no knowledge of the connection. What the peer's window
//! allows is judged by [`super::world`], which sees both ends.

use crate::flow::FourTuple;
use crate::wire::arp::Arp;
use crate::wire::ethernet::{self, Ethernet, Mac};
use crate::wire::icmp::Icmp;
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::tcp::{self, ChecksumPolicy, Flags, Tcp};
use std::net::SocketAddrV4;
use std::ops::Range;

/// Where the TCP header begins in a frame without VLAN tags and IP options.
const TCP_AT: usize = ethernet::HEADER_BYTES + ipv4::HEADER_BYTES;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;
const OPTION_WINDOW_SCALE: u8 = 3;
const OPTION_SACK_PERMITTED: u8 = 4;
const OPTION_SACK: u8 = 5;
const OPTION_TIMESTAMPS: u8 = 8;

/// A TCP segment as it was sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) tcp: Tcp,
    pub(super) src: SocketAddrV4,
    pub(super) dst: SocketAddrV4,
    /// Bytes of options.
    pub(super) options_len: usize,
    /// Where the data are in the frame.
    pub(super) payload: Range<usize>,
}

impl Sent {
    /// The flow, as the sender sees it.
    pub(super) fn tuple(&self) -> FourTuple {
        FourTuple::new(self.src, self.dst)
    }

    pub(super) fn payload_len(&self) -> u32 {
        self.payload.len() as u32
    }

    /// The segment as a line of a trace.
    pub(super) fn line(&self) -> String {
        let Sent { tcp, src, dst, .. } = self;
        format!(
            "{src} > {dst} {:?} seq {} ack {} win {} len {} {:?}",
            tcp.flags,
            tcp.seq,
            tcp.ack,
            tcp.window,
            self.payload_len(),
            tcp.options
        )
    }
}

/// The flow of a TCP frame as its receiver sees it, read without any check; nothing for a frame
/// that is no plain TCP over IPv4.
pub(super) fn receiver_tuple(frame: &[u8]) -> Option<FourTuple> {
    let header: &[u8; TCP_AT + 4] = frame.first_chunk()?;
    let is_tcp = header[12..14] == ethernet::TYPE_IPV4.to_be_bytes()
        && header[14] == 0x45
        && header[23] == ipv4::PROTOCOL_TCP;
    if !is_tcp {
        return None;
    }
    let endpoint = |ip: usize, port: usize| {
        let addr: [u8; 4] = [header[ip], header[ip + 1], header[ip + 2], header[ip + 3]];
        SocketAddrV4::new(addr.into(), u16::from_be_bytes([header[port], header[port + 1]]))
    };
    Some(FourTuple::new(endpoint(30, TCP_AT + 2), endpoint(26, TCP_AT)))
}

/// True for the SYN of an open, read without any check.
pub(super) fn is_syn(frame: &[u8]) -> bool {
    receiver_tuple(frame).is_some()
        && frame.get(TCP_AT + 13).is_some_and(|&bits| {
            let flags = Flags::from_bits(bits);
            flags.contains(Flags::SYN) && !flags.contains(Flags::ACK)
        })
}

/// Judges a frame that the host with `mac` sends; returns the segment when it is one.
pub(super) fn judge(mac: Mac, frame: &[u8]) -> Result<Option<Sent>, String> {
    let (ether, at) = Ethernet::parse(frame).map_err(|e| format!("bad Ethernet: {e:?}"))?;
    if ether.src != mac || ether.vlan_id.is_some() {
        return Err(format!("a frame with a foreign source or a tag: {ether:?}"));
    }
    if ether.ethertype == ethernet::TYPE_ARP {
        Arp::parse(&frame[at..]).map_err(|e| format!("bad ARP: {e:?}"))?;
        return Ok(None);
    }
    let (ip, range) = Ipv4::parse(&frame[at..]).map_err(|e| format!("bad IPv4: {e:?}"))?;
    if at + range.end != frame.len() {
        return Err(format!("{} bytes behind the packet", frame.len() - at - range.end));
    }
    if !ip.dont_fragment || ip.is_fragment() || ip.ttl == 0 || range.start != ipv4::HEADER_BYTES {
        return Err(format!("an IPv4 header that is never sent: {ip:?}"));
    }
    let bytes = &frame[at + range.start..];
    if ip.protocol == ipv4::PROTOCOL_ICMP {
        Icmp::parse(bytes).map_err(|e| format!("bad ICMP: {e:?}"))?;
        return Ok(None);
    }
    let parsed = Tcp::parse(bytes, ip.src, ip.dst, ChecksumPolicy::Verify)
        .map_err(|e| format!("bad TCP: {e:?}"))?;
    let tcp = parsed.tcp;
    judge_flags(&tcp, bytes)?;
    let options = &bytes[tcp::HEADER_BYTES..parsed.payload_offset];
    judge_options(tcp.flags, options)?;
    Ok(Some(Sent {
        tcp,
        src: SocketAddrV4::new(ip.src, tcp.src_port),
        dst: SocketAddrV4::new(ip.dst, tcp.dst_port),
        options_len: options.len(),
        payload: TCP_AT + parsed.payload_offset..frame.len(),
    }))
}

/// Flags in a combination that RFC 9293 sends; reserved bits are zero.
fn judge_flags(tcp: &Tcp, bytes: &[u8]) -> Result<(), String> {
    let flags = tcp.flags;
    let has = |flag| flags.contains(flag);
    let legal = match (has(Flags::SYN), has(Flags::RST)) {
        (true, true) => false,
        (true, false) => !has(Flags::FIN) && !has(Flags::PSH),
        (false, true) => !has(Flags::FIN),
        // MUST-13 of segments: everything after the SYN carries an ACK.
        (false, false) => has(Flags::ACK),
    };
    if !legal || bytes[12] & 0x0f != 0 {
        return Err(format!("flags that are never sent: {flags:?}"));
    }
    if !has(Flags::ACK) && tcp.ack != 0 {
        return Err(format!("an acknowledgement number without its flag: {}", tcp.ack));
    }
    if !has(Flags::URG) && tcp.urgent != 0 {
        return Err(format!("an urgent pointer without its flag: {}", tcp.urgent));
    }
    Ok(())
}

/// Options of known kinds and right lengths, each at most once, those of the handshake only in it,
/// and nothing but zero behind the end (MUST-65, MUST-68, MUST-69).
fn judge_options(flags: Flags, mut options: &[u8]) -> Result<(), String> {
    let syn = flags.contains(Flags::SYN);
    let whole = options;
    let mut seen = [false; 256];
    while let Some((&kind, rest)) = options.split_first() {
        match kind {
            OPTION_END if rest.iter().all(|&byte| byte == 0) => return Ok(()),
            OPTION_NOP => {
                options = rest;
                continue;
            }
            _ => {}
        }
        let len = usize::from(rest.first().copied().unwrap_or(0));
        let legal = match kind {
            OPTION_MSS => syn && len == 4,
            OPTION_WINDOW_SCALE => syn && len == 3,
            OPTION_SACK_PERMITTED => syn && len == 2,
            OPTION_SACK => !syn && matches!(len, 10 | 18 | 26 | 34),
            OPTION_TIMESTAMPS => len == 10,
            _ => false,
        };
        if !legal || len > options.len() || std::mem::replace(&mut seen[usize::from(kind)], true) {
            return Err(format!("options that are never sent with {flags:?}: {whole:02x?}"));
        }
        options = &options[len..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_judged_where_they_stand() {
        let mss = [2, 4, 5, 0xb4];
        assert!(judge_options(Flags::SYN, &mss).is_ok());
        assert!(judge_options(Flags::ACK, &mss).is_err(), "only in a SYN");
        assert!(judge_options(Flags::ACK, &[1, 1, 1, 0]).is_ok());
        assert!(judge_options(Flags::ACK, &[1, 0, 0, 1]).is_err(), "zero behind the end");
        assert!(judge_options(Flags::SYN, &[2, 4, 5, 0xb4, 2, 4, 5, 0xb4]).is_err(), "once");
        assert!(judge_options(Flags::ACK, &[8, 10, 0, 0]).is_err(), "cut short");
        assert!(judge_options(Flags::ACK, &[5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn flags_are_judged_together() {
        let judge = |flags| judge_flags(&Tcp { flags, ..Tcp::default() }, &[0; 20]);
        for flags in [Flags::SYN, Flags::ACK, Flags::RST, Flags::FIN | Flags::ACK] {
            assert!(judge(flags).is_ok(), "{flags:?}");
        }
        for flags in [Flags::NONE, Flags::FIN, Flags::SYN | Flags::FIN, Flags::SYN | Flags::RST] {
            assert!(judge(flags).is_err(), "{flags:?}");
        }
        assert!(judge_flags(&Tcp { flags: Flags::ACK, ..Tcp::default() }, &[1; 20]).is_err());
    }
}
