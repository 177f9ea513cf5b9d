//! All headers of a TCP segment in one go, with constant offsets. Read is what nearly all have, the plain
//! form: an untagged frame, IPv4 without options and not a fragment, and a TCP header with the
//! timestamps in their usual place, or no option at all. Whatever has any other form is left to the
//! parsers of the layers; they accept the plain form too, and read the same from it. Written is every
//! segment of a connection.

use super::checksum::{Sum, pseudo_header_v4};
use super::ethernet::{self, Mac, TYPE_IPV4};
use super::ipv4::{self, PROTOCOL_TCP};
use super::tcp::{self, ChecksumPolicy, Flags, Options, Tcp, Timestamps, verify};
use super::{WireError, ipv4_at, u16_at, u32_at};
use std::net::{Ipv4Addr, SocketAddrV4};

/// Where the IPv4 header begins, and where the segment does.
const IP_AT: usize = ethernet::HEADER_BYTES;
const TCP_AT: usize = IP_AT + ipv4::HEADER_BYTES;

/// Length of all headers without an option, and with timestamps.
const HEADERS: usize = TCP_AT + tcp::HEADER_BYTES;
const HEADERS_STAMPED: usize = HEADERS + STAMPS;

/// Length of the timestamps option with the two NOPs that align it (RFC 7323 appendix A), and its first
/// word.
const STAMPS: usize = 12;
const STAMPS_PREFIX: u32 = 0x0101_080a;

/// First word of an IPv4 header without options: all but the length.
const VERSION: u8 = 0x45;

const MORE_FRAGMENTS_OR_OFFSET: u16 = 0x3fff;
const DONT_FRAGMENT: u16 = 0x4000;

/// A segment in its plain form, in its frame. Fields are read where they are needed: they lie in one
/// cache line, and there are more of them than registers.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'f> {
    head: &'f [u8; HEADERS],
    stamps: Option<&'f [u8; STAMPS]>,
    /// The TCP header and the data.
    segment: &'f [u8],
    data: &'f [u8],
}

impl<'f> Plain<'f> {
    /// Reads the segment in a frame for `mac`, or nothing if the frame has another form. All lengths
    /// and the header's checksum have been verified then; that of the segment has not.
    #[inline]
    pub fn read(frame: &'f [u8], mac: Mac) -> Option<Plain<'f>> {
        let head = frame.first_chunk::<HEADERS>()?;
        let is_plain = Mac::at(head, 0) == mac
            && u16_at(head, 12) == TYPE_IPV4
            && head[IP_AT] == VERSION
            && u16_at(head, 20) & MORE_FRAGMENTS_OR_OFFSET == 0
            && head[23] == PROTOCOL_TCP;
        let flags = Flags::from_bits(head[47]);
        if !is_plain || !(flags == Flags::ACK || flags == Flags::ACK | Flags::PSH) {
            return None;
        }
        let end = IP_AT + usize::from(u16_at(head, 16));
        let segment = frame.get(TCP_AT..end)?;
        let rest = segment.get(tcp::HEADER_BYTES..)?;
        let (stamps, data) = match head[46] >> 4 {
            5 => (None, rest),
            8 => {
                let (option, data) = rest.split_first_chunk::<STAMPS>()?;
                if u32_at(option, 0) != STAMPS_PREFIX {
                    return None;
                }
                (Some(option), data)
            }
            _ => return None,
        };
        let is_intact = Sum::new().add_bytes(&head[IP_AT..TCP_AT]).fold() == 0xffff;
        is_intact.then_some(Plain { head, stamps, segment, data })
    }

    /// Who sent it.
    #[inline]
    pub fn src(&self) -> SocketAddrV4 {
        SocketAddrV4::new(ipv4_at(self.head, 26), u16_at(self.head, 34))
    }

    /// Whom it is for.
    #[inline]
    pub fn dst(&self) -> SocketAddrV4 {
        SocketAddrV4::new(ipv4_at(self.head, 30), u16_at(self.head, 36))
    }

    /// Sequence number of the first byte of data.
    #[inline]
    pub fn seq(&self) -> u32 {
        u32_at(self.head, 38)
    }

    /// The next sequence number that the sender expects.
    #[inline]
    pub fn ack(&self) -> u32 {
        u32_at(self.head, 42)
    }

    /// ACK, or ACK and PSH.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags::from_bits(self.head[47])
    }

    /// The receive window, not yet scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        u16_at(self.head, 48)
    }

    /// The two ECN bits of the packet.
    #[inline]
    pub fn ecn(&self) -> u8 {
        self.head[15] & 0b11
    }

    /// The timestamps, if it has them.
    #[inline]
    pub fn timestamps(&self) -> Option<Timestamps> {
        let stamps = self.stamps?;
        Some(Timestamps { value: u32_at(stamps, 4), echo: u32_at(stamps, 8) })
    }

    /// Its data.
    #[inline]
    pub fn data(&self) -> &'f [u8] {
        self.data
    }

    /// Verifies the checksum of the segment; tells whether it is a partial one.
    #[inline]
    pub fn verify(&self, policy: ChecksumPolicy) -> Result<bool, WireError> {
        let (src, dst) = (ipv4_at(self.head, 26), ipv4_at(self.head, 30));
        verify(self.segment, u16_at(self.head, 50), src, dst, policy)
    }
}

/// Source and destination of a frame, if it is a segment in its plain form. Nothing is verified.
#[inline]
pub fn ends(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let head = frame.first_chunk::<HEADERS>()?;
    let src = SocketAddrV4::new(ipv4_at(head, 26), u16_at(head, 34));
    let dst = SocketAddrV4::new(ipv4_at(head, 30), u16_at(head, 36));
    (head[IP_AT] == VERSION).then_some((src, dst))
}

/// What is written of a segment in its plain form, beside its ends and its data; as in [`Plain`].
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Sequence number of the first byte of data.
    pub seq: u32,
    /// The next sequence number that is expected.
    pub ack: u32,
    /// All flags.
    pub flags: Flags,
    /// The receive window, scaled.
    pub window: u16,
    /// The timestamps, on a connection that has them.
    pub timestamps: Option<Timestamps>,
}

/// The headers of a segment as a stack sends it, as far as all have them in common.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Ethernet and IPv4, with zeros in what differs.
    bytes: [u8; TCP_AT],
    /// The sum of the IPv4 header.
    ip: Sum,
    /// The protocol's part of the pseudo-header's sum.
    pseudo: Sum,
}

impl Headers {
    /// What a stack with this address sends. The identification is 0, for nothing that it sends may be
    /// fragmented (RFC 6864).
    pub fn new(src: Mac, ttl: u8, dscp: u8) -> Self {
        let mut bytes = [0; TCP_AT];
        bytes[6..12].copy_from_slice(&src.0);
        bytes[12..14].copy_from_slice(&TYPE_IPV4.to_be_bytes());
        (bytes[14], bytes[15]) = (VERSION, dscp << 2);
        bytes[20..22].copy_from_slice(&DONT_FRAGMENT.to_be_bytes());
        (bytes[22], bytes[23]) = (ttl, PROTOCOL_TCP);
        let pseudo =
            pseudo_header_v4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, PROTOCOL_TCP, 0);
        Headers { ip: Sum::new().add_bytes(&bytes[IP_AT..]), bytes, pseudo }
    }

    /// Length of all headers of a segment.
    pub fn len(tcp: &Tcp) -> usize {
        match tcp.options.sole_timestamps() {
            Some(_) => HEADERS_STAMPED,
            None => TCP_AT + tcp.header_len(),
        }
    }

    /// Writes all headers into a frame that holds the data already, and nothing behind them. `tcp` has
    /// its ports.
    ///
    /// # Panics
    /// When the frame is shorter than its headers, or the packet longer than 65,535 bytes.
    pub fn emit(
        &self,
        frame: &mut [u8],
        to: Mac,
        (src, dst): (Ipv4Addr, Ipv4Addr),
        ecn: u8,
        tcp: &Tcp,
    ) {
        let len = frame.len();
        let (head, rest) = frame.split_first_chunk_mut::<HEADERS>().expect("headers fit");
        let mut sum = self.begin(head, to, (src, dst), ecn, len);
        let (n_option_bytes, data) = put_options(&tcp.options, rest, &mut sum);
        let ports = u32::from(tcp.src_port) << 16 | u32::from(tcp.dst_port);
        let control = control(n_option_bytes, tcp.flags, tcp.window);
        put_tcp(head, [ports, tcp.seq, tcp.ack, control, u32::from(tcp.urgent)], &mut sum);
        head[50..52].copy_from_slice(&sum.add_bytes(data).finish().to_be_bytes());
    }

    /// Writes a segment in its plain form, the data with it, to the front of a frame; its length.
    ///
    /// # Panics
    /// When the frame is too short, or the packet longer than 65,535 bytes.
    #[inline]
    pub fn emit_plain(
        &self,
        frame: &mut [u8],
        to: Mac,
        (src, dst): (SocketAddrV4, SocketAddrV4),
        ecn: u8,
        fields: &Fields,
        data: &[u8],
    ) -> usize {
        let (head, rest) = frame.split_first_chunk_mut::<HEADERS>().expect("headers fit");
        let n_option_bytes = if fields.timestamps.is_some() { STAMPS } else { 0 };
        let len = HEADERS + n_option_bytes + data.len();
        let mut sum = self.begin(head, to, (*src.ip(), *dst.ip()), ecn, len);
        let rest = match fields.timestamps {
            Some(Timestamps { value, echo }) => {
                let (option, rest) = rest.split_first_chunk_mut().expect("headers fit");
                put_stamps(option, value, echo, &mut sum);
                rest
            }
            None => rest,
        };
        let ports = u32::from(src.port()) << 16 | u32::from(dst.port());
        let control = control(n_option_bytes, fields.flags, fields.window);
        put_tcp(head, [ports, fields.seq, fields.ack, control, 0], &mut sum);
        let sum = sum.copy_bytes(&mut rest[..data.len()], data);
        head[50..52].copy_from_slice(&sum.finish().to_be_bytes());
        len
    }

    /// Writes the headers of Ethernet and IPv4 of a frame of `len` bytes; the sum that the segment's
    /// checksum starts from.
    #[inline(always)]
    fn begin(
        &self,
        head: &mut [u8; HEADERS],
        to: Mac,
        (src, dst): (Ipv4Addr, Ipv4Addr),
        ecn: u8,
        len: usize,
    ) -> Sum {
        let packet = u16::try_from(len - IP_AT).expect("the MTU is below 65,536 bytes");
        let ends = Sum::new().add_u32(src.to_bits()).add_u32(dst.to_bits());
        head[..TCP_AT].copy_from_slice(&self.bytes);
        head[0..6].copy_from_slice(&to.0);
        head[15] |= ecn;
        head[16..18].copy_from_slice(&packet.to_be_bytes());
        let ip = self.ip.add_sum(ends).add_u16(packet).add_u16(u16::from(ecn));
        head[24..26].copy_from_slice(&ip.finish().to_be_bytes());
        head[26..30].copy_from_slice(&src.octets());
        head[30..34].copy_from_slice(&dst.octets());
        self.pseudo.add_sum(ends).add_u16(packet - ipv4::HEADER_BYTES as u16)
    }
}

/// Length of the header, flags and window.
#[inline]
fn control(n_option_bytes: usize, flags: Flags, window: u16) -> u32 {
    let words = (tcp::HEADER_BYTES + n_option_bytes) as u32 / 4;
    words << 28 | u32::from(flags.bits()) << 16 | u32::from(window)
}

/// Writes the words of a TCP header without its options.
#[inline]
fn put_tcp(head: &mut [u8; HEADERS], words: [u32; 5], sum: &mut Sum) {
    for (n, word) in words.into_iter().enumerate() {
        put(head, TCP_AT + 4 * n, word, sum);
    }
}

#[inline]
fn put_stamps(option: &mut [u8; STAMPS], value: u32, echo: u32, sum: &mut Sum) {
    put(option, 0, STAMPS_PREFIX, sum);
    put(option, 4, value, sum);
    put(option, 8, echo, sum);
}

/// Writes options before the data and adds them to the sum; how long they are, and the data.
fn put_options<'a>(options: &Options, rest: &'a mut [u8], sum: &mut Sum) -> (usize, &'a mut [u8]) {
    if let Some(Timestamps { value, echo }) = options.sole_timestamps() {
        let (option, data) = rest.split_first_chunk_mut().expect("headers fit");
        put_stamps(option, value, echo, sum);
        return (STAMPS, data);
    }
    let len = options.emit(rest);
    let (written, data) = rest.split_at_mut(len);
    *sum = sum.add_bytes(written);
    (len, data)
}

/// Writes a word of a header and adds it to the sum.
fn put<const N: usize>(header: &mut [u8; N], at: usize, word: u32, sum: &mut Sum) {
    header[at..at + 4].copy_from_slice(&word.to_be_bytes());
    *sum = sum.add_u32(word);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::Ethernet;
    use crate::wire::ipv4::Ipv4;
    use proptest::prelude::*;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    /// A frame as the emitters of the layers write it.
    fn by_layers(src: SocketAddrV4, dst: SocketAddrV4, ecn: u8, tcp: &Tcp, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 128 + data.len()];
        let ether = Ethernet { dst: OURS, src: PEER, vlan_id: None, ethertype: TYPE_IPV4 };
        let at = ether.emit(&mut frame);
        let ip = Ipv4 {
            src: *src.ip(),
            dst: *dst.ip(),
            protocol: PROTOCOL_TCP,
            ttl: 61,
            dscp: 9,
            ecn,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
        };
        let len = tcp.header_len() + data.len();
        let at = at + ip.emit(&mut frame[at..], len as u16);
        tcp.emit(&mut frame[at..]);
        frame.truncate(at + len);
        frame[at + tcp.header_len()..].copy_from_slice(data);
        tcp::fill_checksum(&mut frame[at..], *src.ip(), *dst.ip());
        frame
    }

    proptest! {
        /// Both ways write the same bytes, and the plain one reads what was written.
        #[test]
        fn the_plain_way_is_that_of_the_layers(
            ends in any::<(u32, u16, u32, u16)>(),
            numbers in any::<(u32, u32, u16)>(),
            psh in any::<bool>(),
            ecn in 0u8..4,
            stamps in prop::option::of(any::<(u32, u32)>()),
            data in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let src = SocketAddrV4::new(ends.0.into(), ends.1);
            let dst = SocketAddrV4::new(ends.2.into(), ends.3);
            let timestamps = stamps.map(|(value, echo)| Timestamps { value, echo });
            let tcp = Tcp {
                src_port: src.port(),
                dst_port: dst.port(),
                seq: numbers.0,
                ack: numbers.1,
                flags: if psh { Flags::ACK | Flags::PSH } else { Flags::ACK },
                window: numbers.2,
                urgent: 0,
                options: Options { timestamps, ..Options::default() },
            };
            let expected = by_layers(src, dst, ecn, &tcp, &data);
            let at = Headers::len(&tcp);
            let mut frame = vec![0xaa; at];
            frame.extend(&data);
            let headers = Headers::new(PEER, 61, 9);
            headers.emit(&mut frame, OURS, (*src.ip(), *dst.ip()), ecn, &tcp);
            prop_assert_eq!(&frame, &expected);
            let fields = Fields { seq: tcp.seq, ack: tcp.ack, flags: tcp.flags, window: tcp.window, timestamps };
            let mut plain = vec![0x55; frame.len() + 3];
            let len = headers.emit_plain(&mut plain, OURS, (src, dst), ecn, &fields, &data);
            prop_assert_eq!(&plain[..len], &expected);

            frame.extend([0; 7]);
            let plain = Plain::read(&frame, OURS).expect("padding does not matter");
            prop_assert_eq!((plain.src(), plain.dst()), (src, dst));
            prop_assert_eq!((plain.seq(), plain.ack(), plain.window()), numbers);
            prop_assert_eq!((plain.flags(), plain.ecn(), plain.timestamps()), (tcp.flags, ecn, timestamps));
            prop_assert_eq!(plain.data(), &data[..]);
            prop_assert_eq!(plain.verify(ChecksumPolicy::Verify), Ok(false));
            frame[TCP_AT] ^= 1;
            let plain = Plain::read(&frame, OURS).expect("only the segment is damaged");
            prop_assert_eq!(plain.verify(ChecksumPolicy::Verify), Err(WireError::BadChecksum));
        }

        /// With any options the headers are those of the layers.
        #[test]
        fn any_options_are_written_as_by_the_layers(
            mss in prop::option::of(any::<u16>()),
            window_scale in prop::option::of(0u8..15),
            sack_permitted in any::<bool>(),
            stamps in prop::option::of(any::<(u32, u32)>()),
            blocks in prop::collection::vec(any::<(u32, u32)>(), 0..4),
            data in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let timestamps = stamps.map(|(value, echo)| Timestamps { value, echo });
            let mut options =
                Options { mss, window_scale, sack_permitted, timestamps, ..Options::default() };
            for (left, right) in blocks {
                options.sack.push(left, right);
            }
            let tcp = Tcp { src_port: 9, dst_port: 7, flags: Flags::ACK, options, ..Tcp::default() };
            let (src, dst) = (SocketAddrV4::new([10, 0, 0, 2].into(), 9), SocketAddrV4::new([10, 0, 0, 1].into(), 7));
            let mut frame = vec![0xaa; Headers::len(&tcp)];
            frame.extend(&data);
            Headers::new(PEER, 61, 9).emit(&mut frame, OURS, (*src.ip(), *dst.ip()), 0, &tcp);
            prop_assert_eq!(frame, by_layers(src, dst, 0, &tcp, &data));
        }

        /// Bytes of any kind are read without a panic, and only if the layers read the same from them.
        #[test]
        fn what_is_read_the_layers_read_too(
            at in 0usize..70,
            byte in any::<u8>(),
            cut in 0usize..90,
        ) {
            let (src, dst) = (SocketAddrV4::new([10, 0, 0, 2].into(), 9), SocketAddrV4::new([10, 0, 0, 1].into(), 7));
            let timestamps = Some(Timestamps { value: 5, echo: 6 });
            let options = Options { timestamps, ..Options::default() };
            let tcp = Tcp { src_port: 9, dst_port: 7, flags: Flags::ACK, options, ..Tcp::default() };
            let mut frame = by_layers(src, dst, 0, &tcp, b"sixteen bytes....");
            if at < frame.len() {
                frame[at] = byte;
            }
            frame.truncate(cut);
            let Some(plain) = Plain::read(&frame, OURS) else { return Ok(()) };
            let (ether, at) = Ethernet::parse(&frame).expect("it was read");
            prop_assert!(ether.dst == OURS && ether.vlan_id.is_none());
            let (ip, packet) = Ipv4::parse(&frame[at..]).expect("it was read");
            prop_assert!(!ip.is_fragment());
            let segment = &frame[at + packet.start..at + packet.end];
            let parsed = Tcp::parse(segment, ip.src, ip.dst, ChecksumPolicy::Trust).expect("so was this");
            prop_assert_eq!(parsed.tcp.options.timestamps, plain.timestamps());
            prop_assert_eq!((parsed.tcp.seq, parsed.tcp.ack), (plain.seq(), plain.ack()));
            prop_assert_eq!(&segment[parsed.payload_offset..], plain.data());
        }
    }
}
