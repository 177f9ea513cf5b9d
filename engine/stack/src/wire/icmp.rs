//! ICMP (RFC 792) as far as a TCP end host needs it: echo, and the errors that quote a segment of
//! ours. It does not judge whether an error is credible (RFC 5927): the sequence number in the
//! quote is returned so that the connection can.

use std::net::Ipv4Addr;

use super::checksum::Sum;
use super::ipv4::{self, PROTOCOL_TCP};
use super::{WireError, ipv4_at, u16_at, u32_at};

const HEADER_BYTES: usize = 8;
const KIND_ECHO_REPLY: u8 = 0;
const KIND_UNREACHABLE: u8 = 3;
const KIND_ECHO_REQUEST: u8 = 8;
const KIND_TIME_EXCEEDED: u8 = 11;
const KIND_PARAMETER_PROBLEM: u8 = 12;

/// Code of "destination unreachable" that means: fragmentation needed and DF set.
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;

/// An ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmp {
    /// Somebody pings us.
    EchoRequest,
    /// The answer to a ping.
    EchoReply,
    /// A packet did not reach its destination.
    Unreachable {
        /// Why: net, host, protocol, port, [`CODE_FRAGMENTATION_NEEDED`] and so on.
        code: u8,
        /// The next hop's MTU in bytes with [`CODE_FRAGMENTATION_NEEDED`], else 0. Routers older
        /// than RFC 1191 leave it 0 there too.
        mtu: u16,
        /// The segment in question; `None` when what is quoted is not the beginning of one.
        quote: Option<Quote>,
    },
    /// A packet ran out of its time to live (code 0), or its fragments came too late (code 1).
    TimeExceeded {
        /// 0 in transit, 1 in reassembly.
        code: u8,
        /// The segment in question; `None` when what is quoted is not the beginning of one.
        quote: Option<Quote>,
    },
    /// A router or host could not make sense of a header.
    ParameterProblem {
        /// 0 when `pointer` says where the problem is.
        code: u8,
        /// Offset of the offending byte in the packet quoted.
        pointer: u8,
        /// The segment in question; `None` when what is quoted is not the beginning of one.
        quote: Option<Quote>,
    },
    /// Everything else; source quench among it, which must have no effect on TCP (RFC 6633).
    Other {
        /// The ICMP type.
        kind: u8,
        /// The ICMP code.
        code: u8,
    },
}

/// What an error tells of the segment that caused it: the addresses of its IPv4 header and the
/// first 8 bytes of its TCP header, which is all that a router has to quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Sender of the segment: our own address, when the error is meant for us.
    pub src: Ipv4Addr,
    /// Whom the segment was for.
    pub dst: Ipv4Addr,
    /// Port it was sent from.
    pub src_port: u16,
    /// Port it was sent to.
    pub dst_port: u16,
    /// Its sequence number.
    pub seq: u32,
}

impl Icmp {
    /// Reads and verifies a message, which is the whole payload of its packet.
    pub fn parse(message: &[u8]) -> Result<Icmp, WireError> {
        let (header, quoted) =
            message.split_first_chunk::<HEADER_BYTES>().ok_or(WireError::Truncated)?;
        if Sum::new().add_bytes(message).fold() != 0xffff {
            return Err(WireError::BadChecksum);
        }
        let [kind, code, _, _, pointer, ..] = *header;
        Ok(match kind {
            KIND_ECHO_REQUEST => Icmp::EchoRequest,
            KIND_ECHO_REPLY => Icmp::EchoReply,
            KIND_UNREACHABLE => {
                let mtu = if code == CODE_FRAGMENTATION_NEEDED { u16_at(header, 6) } else { 0 };
                Icmp::Unreachable { code, mtu, quote: Quote::parse(quoted) }
            }
            KIND_TIME_EXCEEDED => Icmp::TimeExceeded { code, quote: Quote::parse(quoted) },
            KIND_PARAMETER_PROBLEM => {
                Icmp::ParameterProblem { code, pointer, quote: Quote::parse(quoted) }
            }
            _ => Icmp::Other { kind, code },
        })
    }
}

impl Quote {
    /// The quoted header's own checksum and total length are not verified: what is quoted was
    /// changed on its way and is cut short.
    fn parse(quoted: &[u8]) -> Option<Quote> {
        let header = quoted.first_chunk::<{ ipv4::HEADER_BYTES }>()?;
        let header_len = usize::from(header[0] & 0x0f) * 4;
        let is_tcp = header[0] >> 4 == 4 && header[9] == PROTOCOL_TCP;
        // Only the first fragment of a packet begins with the TCP header.
        let is_first = u16_at(header, 6) & ipv4::FRAGMENT_OFFSET_MASK == 0;
        if !is_tcp || !is_first || header_len < ipv4::HEADER_BYTES {
            return None;
        }
        let tcp = quoted.get(header_len..)?.first_chunk::<8>()?;
        Some(Quote {
            src: ipv4_at(header, 12),
            dst: ipv4_at(header, 16),
            src_port: u16_at(tcp, 0),
            dst_port: u16_at(tcp, 2),
            seq: u32_at(tcp, 4),
        })
    }
}

/// Makes the reply of an echo request in its own bytes: another type, and the checksum corrected by
/// the difference (RFC 1624), so that the cost does not grow with the ping.
///
/// # Panics
/// When `message` is not one that [`Icmp::parse`] took for an echo request.
pub fn turn_echo_into_reply(message: &mut [u8]) {
    assert_eq!(message[0], KIND_ECHO_REQUEST, "only an echo request is turned into a reply");
    let code = message[1];
    let old = u16::from_be_bytes([KIND_ECHO_REQUEST, code]);
    let new = u16::from_be_bytes([KIND_ECHO_REPLY, code]);
    let checksum = u16::from_be_bytes([message[2], message[3]]);
    let updated = Sum::new().add_u16(!checksum).add_u16(!old).add_u16(new).finish();
    // Zero and 0xffff are the same number in one's complement, but over a message of zeros only the
    // latter verifies.
    let updated = if updated == 0 { 0xffff } else { updated };
    message[0] = KIND_ECHO_REPLY;
    message[2..4].copy_from_slice(&updated.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_checksum(mut message: Vec<u8>) -> Vec<u8> {
        message[2..4].fill(0);
        let checksum = Sum::new().add_bytes(&message).finish();
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        message
    }

    /// An IPv4 header of ours and the first 8 bytes of a segment.
    fn quoted() -> Vec<u8> {
        let ipv4 = ipv4::Ipv4 {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 51, 100, 2),
            protocol: PROTOCOL_TCP,
            ttl: 1,
            dscp: 0,
            ecn: 0,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        };
        let mut quoted = vec![0; 28];
        ipv4.emit(&mut quoted, 1480);
        quoted[20..28].copy_from_slice(&[0x1f, 0x90, 0xc0, 0x00, 0x01, 0x02, 0x03, 0x04]);
        quoted
    }

    fn quote() -> Option<Quote> {
        Some(Quote {
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 51, 100, 2),
            src_port: 8080,
            dst_port: 0xc000,
            seq: 0x0102_0304,
        })
    }

    fn parse(header: [u8; 8], quoted: &[u8]) -> Icmp {
        Icmp::parse(&with_checksum([&header, quoted].concat())).expect("valid")
    }

    #[test]
    fn errors_name_the_segment_they_quote() {
        assert_eq!(
            parse([3, 4, 0, 0, 0, 0, 0x05, 0xdc], &quoted()),
            Icmp::Unreachable { code: CODE_FRAGMENTATION_NEEDED, mtu: 1500, quote: quote() }
        );
        assert_eq!(
            parse([3, 3, 0, 0, 0, 0, 0x05, 0xdc], &quoted()),
            Icmp::Unreachable { code: 3, mtu: 0, quote: quote() }
        );
        assert_eq!(
            parse([11, 1, 0, 0, 0, 0, 0, 0], &quoted()),
            Icmp::TimeExceeded { code: 1, quote: quote() }
        );
        assert_eq!(
            parse([12, 0, 0, 0, 20, 0, 0, 0], &quoted()),
            Icmp::ParameterProblem { code: 0, pointer: 20, quote: quote() }
        );
        assert_eq!(parse([4, 0, 0, 0, 0, 0, 0, 0], &quoted()), Icmp::Other { kind: 4, code: 0 });
    }

    #[test]
    fn what_is_not_the_beginning_of_a_segment_is_no_quote() {
        let not_a_quote = |change: fn(&mut Vec<u8>)| {
            let mut quoted = quoted();
            change(&mut quoted);
            let unreachable = parse([3, 1, 0, 0, 0, 0, 0, 0], &quoted);
            assert_eq!(unreachable, Icmp::Unreachable { code: 1, mtu: 0, quote: None });
        };
        not_a_quote(|q| q.truncate(0));
        not_a_quote(|q| q.truncate(27));
        not_a_quote(|q| q[0] = 0x65);
        not_a_quote(|q| q[0] = 0x44);
        not_a_quote(|q| q[0] = 0x46);
        not_a_quote(|q| q[7] = 1);
        not_a_quote(|q| q[9] = 17);
    }

    #[test]
    fn a_short_or_damaged_message_is_refused() {
        let message = with_checksum(vec![8, 0, 0, 0, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g']);
        assert_eq!(Icmp::parse(&message), Ok(Icmp::EchoRequest));
        assert_eq!(Icmp::parse(&message[..7]), Err(WireError::Truncated));
        for bit in 0..message.len() * 8 {
            let mut bent = message.clone();
            bent[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(Icmp::parse(&bent), Err(WireError::BadChecksum), "bit {bit}");
        }
    }

    #[test]
    fn every_echo_becomes_a_reply_with_a_valid_checksum() {
        // All identifiers: among them the one whose reply is nothing but zeros.
        for id in 0..=u16::MAX {
            let [high, low] = id.to_be_bytes();
            let mut message = with_checksum(vec![8, 0, 0, 0, high, low, 0, 0]);
            turn_echo_into_reply(&mut message);
            assert_eq!(Icmp::parse(&message), Ok(Icmp::EchoReply), "id {id}");
            assert_eq!(message[4..], [high, low, 0, 0]);
        }
    }
}
