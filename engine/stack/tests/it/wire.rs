//! The wire formats against everything that is not themselves: arbitrary bytes, damaged headers, a
//! naive checksum, a model of the option rules, and `etherparse` as an independent reader and
//! writer.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without ends it")]

use std::net::Ipv4Addr;

use barewire_stack::wire::WireError;
use barewire_stack::wire::arp::{self, Arp, ArpOperation};
use barewire_stack::wire::checksum::Sum;
use barewire_stack::wire::ethernet::{self, Ethernet, Mac};
use barewire_stack::wire::icmp::{self, Icmp, Quote};
use barewire_stack::wire::ipv4::{self, Ipv4};
use barewire_stack::wire::tcp::{
    self, ChecksumPolicy, Flags, Options, SackBlocks, Tcp, Timestamps, WINDOW_SCALE_MAX,
};
use etherparse::{
    ArpEthIpv4Packet, ArpPacket, Ethernet2Header, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, IpDscp,
    IpEcn, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder, TcpHeader, TcpOptionElement, VlanId,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const POLICIES: [ChecksumPolicy; 3] =
    [ChecksumPolicy::Verify, ChecksumPolicy::AcceptPartial, ChecksumPolicy::Trust];

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from_bits)
}

fn any_ipv4() -> impl Strategy<Value = Ipv4> {
    let addresses = (address(), address());
    let bytes = (any::<u8>(), any::<u8>(), 0_u8..64, 0_u8..4);
    let fragment = (any::<u16>(), any::<bool>(), any::<bool>(), 0_u16..8192);
    (addresses, bytes, fragment).prop_map(
        |((src, dst), (protocol, ttl, dscp, ecn), (id, dont_fragment, more_fragments, offset))| {
            let fragment_offset = offset * 8;
            Ipv4 {
                src,
                dst,
                protocol,
                ttl,
                dscp,
                ecn,
                id,
                dont_fragment,
                more_fragments,
                fragment_offset,
            }
        },
    )
}

fn any_options() -> impl Strategy<Value = Options> {
    let fields = (
        option::of(any::<u16>()),
        option::of(0..=WINDOW_SCALE_MAX),
        any::<bool>(),
        option::of(any::<(u32, u32)>()),
        vec(any::<(u32, u32)>(), 0..=SackBlocks::N_MAX),
    );
    fields.prop_map(|(mss, window_scale, sack_permitted, timestamps, blocks)| {
        let timestamps = timestamps.map(|(value, echo)| Timestamps { value, echo });
        let mut sack = SackBlocks::default();
        for (left, right) in blocks {
            assert!(sack.push(left, right));
        }
        Options { mss, window_scale, sack_permitted, timestamps, sack, malformed: false }
    })
}

fn any_tcp() -> impl Strategy<Value = Tcp> {
    let header = any::<(u16, u16, u32, u32, u8, u16, u16)>();
    (header, any_options()).prop_map(|(header, options)| {
        let (src_port, dst_port, seq, ack, flags, window, urgent) = header;
        let flags = Flags::from_bits(flags);
        Tcp { src_port, dst_port, seq, ack, flags, window, urgent, options }
    })
}

/// A whole segment from [`SRC`] to [`DST`] with a valid checksum.
fn emit_segment(tcp: &Tcp, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0xa5; tcp.header_len()];
    let header_len = tcp.emit(&mut segment);
    assert_eq!(header_len, segment.len());
    segment.extend_from_slice(payload);
    tcp::fill_checksum(&mut segment, SRC, DST);
    segment
}

/// A whole frame with a TCP segment in it.
fn emit_frame(ethernet: &Ethernet, ipv4: &Ipv4, segment: &[u8]) -> Vec<u8> {
    let payload_len = u16::try_from(segment.len()).unwrap();
    let mut frame = vec![0xa5; ethernet::HEADER_BYTES + ipv4::HEADER_BYTES];
    let packet_offset = ethernet.emit(&mut frame);
    ipv4.emit(&mut frame[packet_offset..], payload_len);
    frame.extend_from_slice(segment);
    frame
}

/// The options that the emitted header can hold: those given, less the SACK blocks that do not fit.
fn as_emitted(tcp: &Tcp) -> Tcp {
    let mut emitted = *tcp;
    while naive_header_len(&emitted.options) > tcp::HEADER_BYTES_MAX {
        let kept = emitted.options.sack.len() - 1;
        let mut sack = SackBlocks::default();
        for (left, right) in emitted.options.sack.iter().take(kept) {
            sack.push(left, right);
        }
        emitted.options.sack = sack;
    }
    emitted
}

/// The sizes of the options by the letter of their RFCs, each brought to a word by itself, with
/// SACK permitted in the two bytes that align the timestamps.
fn naive_header_len(options: &Options) -> usize {
    let mut len = 20;
    if options.mss.is_some() {
        len += 4;
    }
    if options.timestamps.is_some() {
        len += 2 + 10;
    } else if options.sack_permitted {
        len += 2 + 2;
    }
    if options.window_scale.is_some() {
        len += 1 + 3;
    }
    if !options.sack.is_empty() {
        len += 2 + 2 + 8 * options.sack.len();
    }
    len
}

/// Hands `bytes` to every parser, and checks the offsets that come back.
fn parse_with_everything(bytes: &[u8]) {
    if let Ok((_, payload_offset)) = Ethernet::parse(bytes) {
        assert!(payload_offset <= bytes.len());
    }
    if let Ok((_, payload)) = Ipv4::parse(bytes) {
        assert!(payload.start <= payload.end && payload.end <= bytes.len());
    }
    for policy in POLICIES {
        if let Ok(parsed) = Tcp::parse(bytes, SRC, DST, policy) {
            assert!(parsed.payload_offset <= bytes.len());
            let mut again = [0; tcp::HEADER_BYTES_MAX];
            assert_eq!(parsed.tcp.emit(&mut again), parsed.tcp.header_len());
        }
    }
    if Icmp::parse(bytes) == Ok(Icmp::EchoRequest) {
        icmp::turn_echo_into_reply(&mut bytes.to_vec());
    }
    if let Ok(arp) = Arp::parse(bytes) {
        let mut again = [0; arp::BYTES];
        arp.emit(&mut again);
        assert_eq!(again, bytes[..arp::BYTES]);
    }
}

fn options_of(header: &TcpHeader) -> Vec<TcpOptionElement> {
    let elements = header.options_iterator().map(|element| element.unwrap());
    elements.filter(|element| *element != TcpOptionElement::Noop).collect()
}

/// Our options as `etherparse` calls them, in the order in which we emit.
fn elements_of(options: &Options) -> Vec<TcpOptionElement> {
    let mut elements = Vec::new();
    elements.extend(options.mss.map(TcpOptionElement::MaximumSegmentSize));
    if options.sack_permitted {
        elements.push(TcpOptionElement::SelectiveAcknowledgementPermitted);
    }
    elements.extend(options.timestamps.map(|t| TcpOptionElement::Timestamp(t.value, t.echo)));
    elements.extend(options.window_scale.map(TcpOptionElement::WindowScale));
    let mut blocks = options.sack.iter();
    if let Some(first) = blocks.next() {
        let others = [blocks.next(), blocks.next(), blocks.next()];
        elements.push(TcpOptionElement::SelectiveAcknowledgement(first, others));
    }
    elements
}

fn flags_of(header: &TcpHeader) -> Flags {
    let bits = [
        (header.fin, Flags::FIN),
        (header.syn, Flags::SYN),
        (header.rst, Flags::RST),
        (header.psh, Flags::PSH),
        (header.ack, Flags::ACK),
        (header.urg, Flags::URG),
        (header.ece, Flags::ECE),
        (header.cwr, Flags::CWR),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(Flags::NONE, |flags, (_, bit)| flags | bit)
}

fn assert_same_tcp(theirs: &TcpHeader, ours: &Tcp) {
    assert_eq!(theirs.source_port, ours.src_port);
    assert_eq!(theirs.destination_port, ours.dst_port);
    assert_eq!(theirs.sequence_number, ours.seq);
    assert_eq!(theirs.acknowledgment_number, ours.ack);
    assert_eq!(flags_of(theirs), ours.flags);
    assert_eq!(theirs.window_size, ours.window);
    assert_eq!(theirs.urgent_pointer, ours.urgent);
    assert_eq!(options_of(theirs), elements_of(&ours.options));
    assert!(!theirs.ns);
}

/// What `etherparse` makes of the same values.
fn their_tcp(tcp: &Tcp, payload: &[u8]) -> TcpHeader {
    let mut header = TcpHeader::new(tcp.src_port, tcp.dst_port, tcp.seq, tcp.window);
    header.acknowledgment_number = tcp.ack;
    header.fin = tcp.flags.contains(Flags::FIN);
    header.syn = tcp.flags.contains(Flags::SYN);
    header.rst = tcp.flags.contains(Flags::RST);
    header.psh = tcp.flags.contains(Flags::PSH);
    header.ack = tcp.flags.contains(Flags::ACK);
    header.urg = tcp.flags.contains(Flags::URG);
    header.ece = tcp.flags.contains(Flags::ECE);
    header.cwr = tcp.flags.contains(Flags::CWR);
    header.urgent_pointer = tcp.urgent;
    header.set_options(&elements_of(&tcp.options)).unwrap();
    header.checksum = header.calc_checksum_ipv4_raw(SRC.octets(), DST.octets(), payload).unwrap();
    header
}

fn their_ipv4(ipv4: &Ipv4, payload_len: u16) -> Ipv4Header {
    let mut header = Ipv4Header::new(
        payload_len,
        ipv4.ttl,
        IpNumber(ipv4.protocol),
        ipv4.src.octets(),
        ipv4.dst.octets(),
    )
    .unwrap();
    header.dscp = IpDscp::try_new(ipv4.dscp).unwrap();
    header.ecn = IpEcn::try_new(ipv4.ecn).unwrap();
    header.identification = ipv4.id;
    header.dont_fragment = ipv4.dont_fragment;
    header.more_fragments = ipv4.more_fragments;
    header.fragment_offset = IpFragOffset::try_new(ipv4.fragment_offset / 8).unwrap();
    header
}

fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(pair[0]) << 8 | u32::from(low);
        if sum > 0xffff {
            sum = (sum & 0xffff) + 1;
        }
    }
    sum as u16
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_parser_panics_on_arbitrary_bytes(bytes in vec(any::<u8>(), 0..200)) {
        parse_with_everything(&bytes);
    }

    #[test]
    fn no_parser_panics_on_a_damaged_or_truncated_frame(
        tcp in any_tcp(),
        ipv4 in any_ipv4(),
        payload in vec(any::<u8>(), 0..40),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let ethernet = Ethernet { dst: Mac::ZERO, src: Mac::ZERO, vlan_id: None, ethertype: 0 };
        let mut frame = emit_frame(&ethernet, &ipv4, &emit_segment(&tcp, &payload));
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(cut.index(frame.len() + 1));
        // Each parser sees the damage in its own header and in those before and after it.
        for layer_offset in [0, 14, 34] {
            parse_with_everything(frame.get(layer_offset..).unwrap_or_default());
        }
    }

    #[test]
    fn the_checksum_is_that_of_a_naive_loop(
        bytes in vec(any::<u8>(), 0..400),
        start in 0_usize..16,
        split in any::<prop::sample::Index>(),
    ) {
        let bytes = bytes.get(start..).unwrap_or_default();
        prop_assert_eq!(Sum::new().add_bytes(bytes).fold(), naive_sum(bytes));
        prop_assert_eq!(Sum::new().add_bytes(bytes).finish(), !naive_sum(bytes));
        let (head, tail) = bytes.split_at(split.index(bytes.len() + 1) & !1);
        prop_assert_eq!(Sum::new().add_bytes(head).add_bytes(tail).fold(), naive_sum(bytes));
    }

    #[test]
    fn ethernet_round_trips_and_etherparse_agrees(
        dst in mac(),
        src in mac(),
        ethertype in any::<u16>(),
    ) {
        prop_assume!(![0x8100, 0x88a8].contains(&ethertype));
        let ethernet = Ethernet { dst, src, vlan_id: None, ethertype };
        let mut frame = [0xa5; 20];
        prop_assert_eq!(ethernet.emit(&mut frame), ethernet::HEADER_BYTES);
        prop_assert_eq!(Ethernet::parse(&frame), Ok((ethernet, ethernet::HEADER_BYTES)));
        let (theirs, rest) = Ethernet2Header::from_slice(&frame).unwrap();
        prop_assert_eq!(theirs.destination, dst.0);
        prop_assert_eq!(theirs.source, src.0);
        prop_assert_eq!(theirs.ether_type.0, ethertype);
        prop_assert_eq!(rest, [0xa5; 6]);
    }

    #[test]
    fn mac_addresses_survive_print_and_parse(mac in mac()) {
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
    }

    #[test]
    fn no_text_makes_the_mac_parser_panic(text in any::<String>()) {
        if let Ok(mac) = text.parse::<Mac>() {
            prop_assert_eq!(mac.to_string(), text.to_lowercase());
        }
    }

    #[test]
    fn arp_round_trips_and_etherparse_agrees(
        is_request in any::<bool>(),
        sender_mac in mac(),
        sender_ip in address(),
        target_mac in mac(),
        target_ip in address(),
    ) {
        let operation = if is_request { ArpOperation::Request } else { ArpOperation::Reply };
        let arp = Arp { operation, sender_mac, sender_ip, target_mac, target_ip };
        let mut packet = [0xa5; 46];
        prop_assert_eq!(arp.emit(&mut packet), arp::BYTES);
        prop_assert_eq!(Arp::parse(&packet), Ok(arp));
        let theirs = ArpEthIpv4Packet {
            operation: etherparse::ArpOperation(if is_request { 1 } else { 2 }),
            sender_mac: sender_mac.0,
            sender_ipv4: sender_ip.octets(),
            target_mac: target_mac.0,
            target_ipv4: target_ip.octets(),
        };
        let read = ArpPacket::from_slice(&packet).unwrap().try_eth_ipv4().unwrap();
        prop_assert_eq!(&read, &theirs);
        prop_assert_eq!(Arp::parse(&theirs.to_bytes()), Ok(arp));
    }

    #[test]
    fn ipv4_round_trips_and_etherparse_agrees(ipv4 in any_ipv4(), payload_len in 0_u16..1500) {
        let mut packet = vec![0xa5; ipv4::HEADER_BYTES + usize::from(payload_len) + 3];
        prop_assert_eq!(ipv4.emit(&mut packet, payload_len), ipv4::HEADER_BYTES);
        let payload = ipv4::HEADER_BYTES..ipv4::HEADER_BYTES + usize::from(payload_len);
        prop_assert_eq!(Ipv4::parse(&packet), Ok((ipv4, payload)));

        let (theirs, _) = Ipv4Header::from_slice(&packet).unwrap();
        prop_assert_eq!(theirs.calc_header_checksum(), theirs.header_checksum);
        let mut expected = their_ipv4(&ipv4, payload_len);
        expected.header_checksum = expected.calc_header_checksum();
        prop_assert_eq!(theirs, expected);
    }

    #[test]
    fn ipv4_headers_with_options_are_read_as_etherparse_wrote_them(
        ipv4 in any_ipv4(),
        words in vec(any::<[u8; 4]>(), 0..=10),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let mut theirs = their_ipv4(&ipv4, 0);
        theirs.options = words.as_flattened().try_into().unwrap();
        theirs.set_payload_len(payload.len()).unwrap();
        theirs.header_checksum = theirs.calc_header_checksum();
        let mut packet = theirs.to_bytes().to_vec();
        packet.extend_from_slice(&payload);
        let (ours, range) = Ipv4::parse(&packet).unwrap();
        prop_assert_eq!(ours, ipv4);
        prop_assert_eq!(&packet[range], &payload[..]);
    }

    #[test]
    fn tcp_round_trips(tcp in any_tcp(), payload in vec(any::<u8>(), 0..64)) {
        let segment = emit_segment(&tcp, &payload);
        let expected = as_emitted(&tcp);
        prop_assert_eq!(tcp.header_len(), naive_header_len(&expected.options));
        for policy in POLICIES {
            let parsed = Tcp::parse(&segment, SRC, DST, policy).unwrap();
            prop_assert_eq!(parsed.tcp, expected);
            prop_assert_eq!(parsed.payload_offset, tcp.header_len());
        }
    }

    #[test]
    fn etherparse_reads_the_segments_we_emit(
        tcp in any_tcp(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let segment = emit_segment(&tcp, &payload);
        let (theirs, rest) = TcpHeader::from_slice(&segment).unwrap();
        assert_same_tcp(&theirs, &as_emitted(&tcp));
        prop_assert_eq!(rest, &payload[..]);
        let checksum =
            theirs.calc_checksum_ipv4_raw(SRC.octets(), DST.octets(), &payload).unwrap();
        prop_assert_eq!(theirs.checksum, checksum);
    }

    #[test]
    fn we_read_the_segments_that_etherparse_emits(
        tcp in any_tcp(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let tcp = as_emitted(&tcp);
        let theirs = their_tcp(&tcp, &payload);
        let mut segment = theirs.to_bytes().to_vec();
        segment.extend_from_slice(&payload);
        let parsed = Tcp::parse(&segment, SRC, DST, ChecksumPolicy::Verify).unwrap();
        prop_assert_eq!(parsed.tcp, tcp);
        prop_assert_eq!(&segment[parsed.payload_offset..], &payload[..]);
    }

    #[test]
    fn a_flip_of_any_bit_breaks_the_tcp_checksum(
        tcp in any_tcp(),
        payload in vec(any::<u8>(), 0..64),
        bit in any::<prop::sample::Index>(),
    ) {
        let mut segment = emit_segment(&tcp, &payload);
        let bit = bit.index(segment.len() * 8);
        segment[bit / 8] ^= 0x80 >> (bit % 8);
        prop_assert!(Tcp::parse(&segment, SRC, DST, ChecksumPolicy::Verify).is_err());
    }

    #[test]
    fn a_tagged_frame_of_etherparse_is_read_layer_by_layer(
        tags in vec(1_u16..0x1000, 0..=2),
        port in any::<u16>(),
        payload in vec(any::<u8>(), 0..64),
    ) {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let vlan_id = |at: usize| VlanId::try_new(tags[at]).unwrap();
        let builder = match tags.len() {
            0 => builder.ipv4(SRC.octets(), DST.octets(), 64),
            1 => builder.single_vlan(vlan_id(0)).ipv4(SRC.octets(), DST.octets(), 64),
            _ => builder.double_vlan(vlan_id(0), vlan_id(1)).ipv4(SRC.octets(), DST.octets(), 64),
        };
        let mut frame = Vec::new();
        builder.tcp(port, 80, 1, 2).syn().write(&mut frame, &payload).unwrap();

        let (ethernet, packet_offset) = Ethernet::parse(&frame).unwrap();
        prop_assert_eq!(ethernet.src, Mac([2, 0, 0, 0, 0, 1]));
        prop_assert_eq!(ethernet.dst, Mac([2, 0, 0, 0, 0, 2]));
        prop_assert_eq!(ethernet.vlan_id, tags.first().copied());
        prop_assert_eq!(ethernet.ethertype, ethernet::TYPE_IPV4);
        let packet = &frame[packet_offset..];
        let (ipv4, range) = Ipv4::parse(packet).unwrap();
        prop_assert_eq!((ipv4.src, ipv4.dst, ipv4.protocol), (SRC, DST, ipv4::PROTOCOL_TCP));
        let segment = &packet[range];
        let parsed = Tcp::parse(segment, SRC, DST, ChecksumPolicy::Verify).unwrap();
        prop_assert_eq!((parsed.tcp.src_port, parsed.tcp.flags), (port, Flags::SYN));
        prop_assert_eq!(&segment[parsed.payload_offset..], &payload[..]);
    }

    #[test]
    fn an_echo_of_etherparse_becomes_the_reply_that_etherparse_would_write(
        id in any::<u16>(),
        seq in any::<u16>(),
        payload in vec(any::<u8>(), 0..80),
    ) {
        let write = |kind: fn(IcmpEchoHeader) -> Icmpv4Type| {
            let header = Icmpv4Header::with_checksum(kind(IcmpEchoHeader { id, seq }), &payload);
            [&header.to_bytes()[..], &payload].concat()
        };
        let mut message = write(Icmpv4Type::EchoRequest);
        prop_assert_eq!(Icmp::parse(&message), Ok(Icmp::EchoRequest));
        icmp::turn_echo_into_reply(&mut message);
        prop_assert_eq!(Icmp::parse(&message), Ok(Icmp::EchoReply));
        prop_assert_eq!(&message[4..], &write(Icmpv4Type::EchoReply)[4..]);
        prop_assert_eq!(naive_sum(&message), 0xffff);
    }

    #[test]
    fn no_quote_makes_the_icmp_parser_panic(
        kind in prop::sample::select(vec![3_u8, 11, 12]),
        header in any::<[u8; 7]>(),
        version_and_header_len in 0x3f_u8..=0x50,
        mut quoted in vec(any::<u8>(), 0..80),
    ) {
        // Most of these come as far as the TCP header that the quoted bytes may or may not hold.
        if quoted.len() >= ipv4::HEADER_BYTES {
            quoted[0] = version_and_header_len;
            quoted[6..8].fill(0);
            quoted[9] = ipv4::PROTOCOL_TCP;
        }
        let mut message = [&[kind], &header[..], &quoted].concat();
        message[2..4].fill(0);
        let checksum = !naive_sum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let header_len = usize::from(version_and_header_len & 0xf) * 4;
        let is_quote = version_and_header_len >> 4 == 4
            && header_len >= 20
            && quoted.len() >= header_len + 8;
        match Icmp::parse(&message).unwrap() {
            Icmp::Unreachable { quote, .. }
            | Icmp::TimeExceeded { quote, .. }
            | Icmp::ParameterProblem { quote, .. } => prop_assert_eq!(quote.is_some(), is_quote),
            other => panic!("{other:?} is not an error message"),
        }
    }

    #[test]
    fn an_unreachable_of_etherparse_names_the_segment_it_quotes(
        mtu in any::<u16>(),
        tcp in any_tcp(),
        n_option_words in 0_usize..=10,
        n_quoted in 8_usize..20,
    ) {
        let mut header = their_ipv4(
            &Ipv4 {
                src: SRC,
                dst: DST,
                protocol: ipv4::PROTOCOL_TCP,
                ttl: 9,
                dscp: 0,
                ecn: 0,
                id: 1,
                dont_fragment: true,
                more_fragments: false,
                fragment_offset: 0,
            },
            1480,
        );
        header.options = vec![1; n_option_words * 4].as_slice().try_into().unwrap();
        let quoted = [&header.to_bytes()[..], &emit_segment(&tcp, &[])[..n_quoted]].concat();
        let kind = Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu },
        );
        let icmp = Icmpv4Header::with_checksum(kind, &quoted);
        let message = [&icmp.to_bytes()[..], &quoted].concat();
        let Tcp { src_port, dst_port, seq, .. } = tcp;
        let quote = Some(Quote { src: SRC, dst: DST, src_port, dst_port, seq });
        let code = icmp::CODE_FRAGMENTATION_NEEDED;
        prop_assert_eq!(Icmp::parse(&message), Ok(Icmp::Unreachable { code, mtu, quote }));
    }
}

/// Every option kind with every length at every data offset, against the rules in their shortest
/// form. Behind the option there are zeros, which end the list.
#[test]
fn every_option_kind_and_length_is_judged_by_the_rules() {
    for data_offset in 6..=15_u8 {
        let header_len = usize::from(data_offset) * 4;
        for kind in 0..=u8::MAX {
            for len in 0..=u8::MAX {
                let mut segment = [0; tcp::HEADER_BYTES_MAX];
                segment[12] = data_offset << 4;
                segment[20] = kind;
                segment[21] = len;
                let parsed =
                    Tcp::parse(&segment[..header_len], SRC, DST, ChecksumPolicy::Trust).unwrap();
                let options = parsed.tcp.options;
                let legal = option_is_legal(kind, usize::from(len), header_len - 20);
                let at = format!("kind {kind} length {len} data offset {data_offset}");
                assert_eq!(options.malformed, !legal, "{at}");
                assert_eq!(options.mss.is_some(), legal && kind == 2, "{at}");
                assert_eq!(options.window_scale.is_some(), legal && kind == 3, "{at}");
                assert_eq!(options.sack_permitted, legal && kind == 4, "{at}");
                assert_eq!(options.timestamps.is_some(), legal && kind == 8, "{at}");
                let n_blocks = if legal && kind == 5 { (usize::from(len) - 2) / 8 } else { 0 };
                assert_eq!(options.sack.len(), n_blocks, "{at}");
            }
        }
    }
}

fn option_is_legal(kind: u8, len: usize, room: usize) -> bool {
    match kind {
        0 => true,
        // After the NOP, `len` stands where a kind does, and a zero where its length does.
        1 => len <= 1,
        2 => len == 4,
        3 => len == 3,
        4 => len == 2,
        5 => [10, 18, 26, 34].contains(&len) && len <= room,
        8 => len == 10 && len <= room,
        _ => (2..=room).contains(&len),
    }
}

#[test]
fn every_data_offset_is_held_against_every_segment_length() {
    for data_offset in 0..=15_u8 {
        for len in 0..=80 {
            let mut segment = [0; 80];
            segment[12] = data_offset << 4;
            let header_len = usize::from(data_offset) * 4;
            let parsed = Tcp::parse(&segment[..len], SRC, DST, ChecksumPolicy::Trust);
            let expected = if len < 20 {
                Err(WireError::Truncated)
            } else if header_len < 20 {
                Err(WireError::BadHeaderLength)
            } else if header_len > len {
                Err(WireError::Truncated)
            } else {
                Ok(header_len)
            };
            let found = parsed.map(|parsed| parsed.payload_offset);
            assert_eq!(found, expected, "data offset {data_offset}, {len} bytes");
        }
    }
}

#[test]
fn every_ipv4_header_and_total_length_is_held_against_every_packet_length() {
    for header_words in 0..=15_u8 {
        for total_len in 0..=80_u8 {
            for len in 0..=80 {
                let mut packet = [0; 80];
                (packet[0], packet[3]) = (0x40 | header_words, total_len);
                let header_len = usize::from(header_words) * 4;
                let checksum = !naive_sum(&packet[..header_len]);
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
                let total_len = usize::from(total_len);
                let expected = if len < 20 {
                    Err(WireError::Truncated)
                } else if header_len < 20 {
                    Err(WireError::BadHeaderLength)
                } else if header_len > len {
                    Err(WireError::Truncated)
                } else if total_len < header_len {
                    Err(WireError::BadTotalLength)
                } else if total_len > len {
                    Err(WireError::Truncated)
                } else {
                    Ok(header_len..total_len)
                };
                let found = Ipv4::parse(&packet[..len]).map(|(_, payload)| payload);
                assert_eq!(found, expected, "{header_len}, {total_len}, {len} bytes");
            }
        }
    }
}
