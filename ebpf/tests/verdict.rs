//! The compiled program in the real verifier, and its decisions: BPF_PROG_TEST_RUN over a table of
//! frames, each with the verdict that must count it. Needs root. That a redirected frame arrives at
//! a socket is the business of the engine's own tests.

mod frame;
#[expect(dead_code, reason = "these tests attach nothing and use its check for root only")]
mod lab;

use std::os::fd::AsFd;

use barewire_ebpf::{Action, Error, Listener, LoadOptions, LocalPorts, OnMissing, Steer, Verdict};
use socket2::{Domain, Socket, Type};

use frame::{
    ARP, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, LLDP, ROUTING, TCP, UDP, arp,
    ethernet, extension, fragment, icmp, ipv4, ipv6, solicitation, syn, tagged, tcp, with_byte,
};

/// Owned: 10.1.0.0/16 and 2001:db8:1::/48. Shared: port 7000 of 10.0.0.2 and 2001:db8::2, port 80
/// of any, ports 40000-49999 of 10.0.0.2, and 50000 alone of any.
fn loaded(on_missing: OnMissing) -> Steer {
    lab::require_root();
    let steer = Steer::load(&LoadOptions { n_queues: 2, on_missing }).expect("the verifier agrees");
    let address = |text: &str| text.parse().expect("an address");
    steer.add_prefix(address("10.1.0.0"), 16).expect("a prefix");
    steer.add_prefix(address("2001:db8:1::"), 48).expect("a prefix");
    steer.add_listener(Some(address("10.0.0.2")), 7000).expect("a listener");
    steer.add_listener(Some(address("2001:db8::2")), 7000).expect("a listener");
    steer.add_listener(None, 80).expect("a listener");
    steer.set_port_range(Some(address("10.0.0.2")), 40000..=49999).expect("a port range");
    steer.set_port_range(None, 50000..=50000).expect("a port range");
    steer
}

/// A program as above with a socket in the slot of queue 0, which is where test runs arrive. The
/// socket must live as long as the slot shall be taken; it need not be bound for that.
fn loaded_with_xsk() -> (Steer, Socket) {
    let steer = loaded(OnMissing::Pass);
    let xsk = Socket::new(Domain::from(AF_XDP), Type::RAW, None).expect("an AF_XDP socket");
    steer.set_xsk(0, xsk.as_fd()).expect("the slot takes an AF_XDP socket");
    (steer, xsk)
}

const AF_XDP: i32 = 44;

/// What the program did with one frame: the action it returned, and the one counter that moved.
fn verdict_of(steer: &Steer, frame: &[u8]) -> (Action, Verdict) {
    let before = steer.verdicts().expect("counters");
    let action = steer.test_run(frame).expect("the program runs");
    let after = steer.verdicts().expect("counters");
    let moved: Vec<_> = before.iter().zip(&after).filter(|(was, is)| was.1 != is.1).collect();
    let [((verdict, was), (_, is))] = moved[..] else { panic!("counters that moved: {moved:?}") };
    assert_eq!(is - was, 1, "one frame counts once");
    (action, *verdict)
}

fn assert_verdicts(rows: &[(&str, Vec<u8>, Verdict)]) {
    let (steer, _xsk) = loaded_with_xsk();
    for (name, frame, verdict) in rows {
        assert_eq!(verdict_of(&steer, frame), (verdict.action(), *verdict), "{name}");
    }
}

const OWNED: [u8; 4] = [10, 1, 2, 3];
const HOST: [u8; 4] = [10, 0, 0, 2];
const OWNED_V6: &str = "2001:db8:1::5";
const HOST_V6: &str = "2001:db8::2";

#[test]
fn link_layer() {
    let syn = tcp("10.0.0.2", 7000);
    let request = arp(1, OWNED);
    assert_verdicts(&[
        ("ARP request for us", request.clone(), Verdict::Redirect),
        ("ARP reply to us", arp(2, OWNED), Verdict::Redirect),
        ("ARP request, padded to 60", [&request[..], &[0; 18]].concat(), Verdict::Redirect),
        ("ARP request for the host", arp(1, HOST), Verdict::PassArp),
        ("ARP just outside the prefix", arp(1, [10, 2, 0, 0]), Verdict::PassArp),
        ("ARP for another hardware", with_byte(request.clone(), 15, 6), Verdict::PassMalformed),
        ("ARP with long addresses", with_byte(request.clone(), 19, 16), Verdict::PassMalformed),
        ("neither ARP nor IP", ethernet(LLDP, &[0; 46]), Verdict::PassEthertype),
        ("an 802.3 length", ethernet(46, &[0; 46]), Verdict::PassEthertype),
        ("priority tag", tagged(0x8100, 0xa000, &syn), Verdict::Redirect),
        ("priority tag on ARP", tagged(0x8100, 0, &request), Verdict::Redirect),
        ("VLAN 5", tagged(0x8100, 5, &syn), Verdict::PassVlan),
        ("VLAN 4095 with priority", tagged(0x8100, 0xffff, &syn), Verdict::PassVlan),
        ("VLAN 5 on ARP for us", tagged(0x8100, 5, &request), Verdict::PassVlan),
        ("802.1ad with VLAN 5", tagged(0x88a8, 5, &syn), Verdict::PassVlan),
        ("QinQ", tagged(0x88a8, 5, &tagged(0x8100, 7, &syn)), Verdict::PassVlan),
        ("QinQ, inner 0", tagged(0x88a8, 5, &tagged(0x8100, 0, &syn)), Verdict::PassVlan),
        ("QinQ, outer 0", tagged(0x88a8, 0, &tagged(0x8100, 7, &syn)), Verdict::PassVlan),
        (
            "three tags",
            tagged(0x8100, 0, &tagged(0x8100, 0, &tagged(0x8100, 0, &syn))),
            Verdict::PassEthertype,
        ),
    ]);
}

#[test]
fn ipv4_owned() {
    let to = |protocol, payload: &[u8]| ipv4(OWNED, protocol, &[], 0, payload);
    assert_verdicts(&[
        ("SYN to any port", tcp("10.1.2.3", 1), Verdict::Redirect),
        ("SYN to the first address", tcp("10.1.0.0", 1), Verdict::Redirect),
        ("SYN to the last address", tcp("10.1.255.255", 1), Verdict::Redirect),
        ("SYN just outside the prefix", tcp("10.2.0.0", 1), Verdict::PassPort),
        ("SYN with options", ipv4(OWNED, TCP, &[1; 40], 0, &syn(1)), Verdict::Redirect),
        ("echo request", to(ICMP, &icmp(8, 4)), Verdict::Redirect),
        ("unreachable", to(ICMP, &icmp(3, 32)), Verdict::Redirect),
        ("empty TCP, for the stack to count", to(TCP, &[]), Verdict::Redirect),
        ("UDP", to(UDP, &[0; 8]), Verdict::DropProtocol),
        ("ICMPv6 inside IPv4", to(ICMPV6, &icmp(128, 4)), Verdict::DropProtocol),
        ("first fragment", ipv4(OWNED, TCP, &[], 0x2000, &syn(1)), Verdict::DropFragment),
        ("later fragment", ipv4(OWNED, TCP, &[], 0x2001, &syn(1)), Verdict::DropFragment),
        ("last fragment", ipv4(OWNED, UDP, &[], 0x0001, &[0; 8]), Verdict::DropFragment),
        ("don't fragment is none", ipv4(OWNED, TCP, &[], 0x4000, &syn(1)), Verdict::Redirect),
    ]);
}

#[test]
fn ipv4_shared() {
    let to = |protocol, payload: &[u8]| ipv4(HOST, protocol, &[], 0, payload);
    assert_verdicts(&[
        ("SYN to the listener", tcp("10.0.0.2", 7000), Verdict::Redirect),
        ("SYN to its port elsewhere", tcp("10.0.0.3", 7000), Verdict::PassPort),
        ("SYN to ssh", tcp("10.0.0.2", 22), Verdict::PassPort),
        ("SYN to port 0", tcp("10.0.0.2", 0), Verdict::PassPort),
        ("SYN to the port of any", tcp("10.0.0.2", 80), Verdict::Redirect),
        ("SYN to the port of any, elsewhere", tcp("192.0.2.1", 80), Verdict::Redirect),
        ("port numbers are big-endian", tcp("10.0.0.2", 80u16.swap_bytes()), Verdict::PassPort),
        ("below the range", tcp("10.0.0.2", 39999), Verdict::PassPort),
        ("first of the range", tcp("10.0.0.2", 40000), Verdict::Redirect),
        ("last of the range", tcp("10.0.0.2", 49999), Verdict::Redirect),
        ("above it is the range of any", tcp("10.0.0.2", 50000), Verdict::Redirect),
        ("above both", tcp("10.0.0.2", 50001), Verdict::PassPort),
        ("the range, elsewhere", tcp("10.0.0.3", 40000), Verdict::PassPort),
        ("options", ipv4(HOST, TCP, &[1; 4], 0, &syn(7000)), Verdict::Redirect),
        ("all options", ipv4(HOST, TCP, &[1; 40], 0, &syn(7000)), Verdict::Redirect),
        ("options, other port", ipv4(HOST, TCP, &[1; 8], 0, &syn(22)), Verdict::PassPort),
        ("echo request", to(ICMP, &icmp(8, 4)), Verdict::PassProtocol),
        ("UDP to the number", to(UDP, &syn(7000)[..8]), Verdict::PassProtocol),
        ("first fragment", ipv4(HOST, TCP, &[], 0x2000, &syn(7000)), Verdict::DropFragment),
        ("first fragment to ssh", ipv4(HOST, TCP, &[], 0x2000, &syn(22)), Verdict::PassPort),
        ("later fragment", ipv4(HOST, TCP, &[], 0x2001, &syn(7000)), Verdict::PassFragment),
        ("fragment of UDP", ipv4(HOST, UDP, &[], 0x2000, &[0; 8]), Verdict::PassProtocol),
        ("ports and no more", to(TCP, &syn(7000)[..4]), Verdict::Redirect),
        ("cut in the port", to(TCP, &syn(7000)[..3]), Verdict::PassMalformed),
    ]);
}

#[test]
fn ipv4_malformed() {
    let syn_frame = tcp("10.1.2.3", 7000);
    let padded = |payload: &[u8]| [ipv4(HOST, TCP, &[], 0, payload), syn(7000)].concat();
    assert_verdicts(&[
        ("version 5", with_byte(syn_frame.clone(), 14, 0x55), Verdict::PassMalformed),
        ("header of 16 bytes", with_byte(syn_frame.clone(), 14, 0x44), Verdict::PassMalformed),
        ("header longer than the packet", with_byte(syn_frame.clone(), 14, 0x4f), {
            Verdict::PassMalformed
        }),
        ("total length below the header", with_byte(syn_frame.clone(), 17, 19), {
            Verdict::PassMalformed
        }),
        ("total length above the frame", with_byte(syn_frame, 17, 41), Verdict::PassMalformed),
        ("ports in the padding only", padded(&[]), Verdict::PassMalformed),
        ("padding behind the packet", padded(&syn(7000)), Verdict::Redirect),
        ("IPv6 inside the IPv4 type", ethernet(0x0800, &[0x60; 40]), Verdict::PassMalformed),
        ("IPv4 inside the IPv6 type", ethernet(0x86dd, &[0x45; 40]), Verdict::PassMalformed),
    ]);
}

#[test]
fn ipv6_owned() {
    let to = |next, payload: &[u8]| ipv6(OWNED_V6, next, payload);
    let group = "ff02::1:ff00:5";
    let around = |next, payload: &[u8]| extension(next, 1, payload);
    assert_verdicts(&[
        ("SYN", tcp(OWNED_V6, 1), Verdict::Redirect),
        ("echo request", to(ICMPV6, &icmp(128, 4)), Verdict::Redirect),
        ("packet too big", to(ICMPV6, &icmp(2, 44)), Verdict::Redirect),
        ("advertisement", to(ICMPV6, &icmp(136, 20)), Verdict::Redirect),
        ("solicitation", ipv6(group, ICMPV6, &solicitation(OWNED_V6)), Verdict::Redirect),
        ("unicast solicitation", to(ICMPV6, &solicitation(OWNED_V6)), Verdict::Redirect),
        ("solicitation for the host", ipv6(group, ICMPV6, &solicitation(HOST_V6)), {
            Verdict::PassProtocol
        }),
        ("cut solicitation", ipv6(group, ICMPV6, &solicitation(OWNED_V6)[..23]), {
            Verdict::PassMalformed
        }),
        ("router advertisement", ipv6("ff02::1", ICMPV6, &icmp(134, 12)), Verdict::PassProtocol),
        ("UDP", to(UDP, &[0; 8]), Verdict::DropProtocol),
        ("ICMP inside IPv6", to(ICMP, &icmp(8, 4)), Verdict::DropProtocol),
        ("hop-by-hop options", to(HOP_BY_HOP, &around(TCP, &syn(1))), Verdict::Redirect),
        ("options, then UDP", to(DESTINATION_OPTIONS, &around(UDP, &[0; 8])), {
            Verdict::DropProtocol
        }),
        ("fragment", to(FRAGMENT, &fragment(TCP, 1, &syn(1))), Verdict::DropFragment),
        ("atomic fragment", to(FRAGMENT, &fragment(TCP, 0, &syn(1))), Verdict::DropFragment),
    ]);
}

#[test]
fn ipv6_shared() {
    let to = |next, payload: &[u8]| ipv6(HOST_V6, next, payload);
    let options = |next, payload: &[u8]| extension(next, 1, payload);
    let four = options(
        ROUTING,
        &options(DESTINATION_OPTIONS, &options(DESTINATION_OPTIONS, &options(TCP, &syn(7000)))),
    );
    assert_verdicts(&[
        ("SYN to the listener", tcp(HOST_V6, 7000), Verdict::Redirect),
        ("SYN to ssh", tcp(HOST_V6, 22), Verdict::PassPort),
        ("SYN to its port elsewhere", tcp("2001:db8::3", 7000), Verdict::PassPort),
        ("SYN to the port of any", tcp("2001:db8::3", 80), Verdict::Redirect),
        ("SYN to the range of any", tcp(HOST_V6, 50000), Verdict::Redirect),
        ("the IPv4 listener's bytes in IPv6", tcp("a00:2::", 7000), Verdict::PassPort),
        ("echo request", to(ICMPV6, &icmp(128, 4)), Verdict::PassProtocol),
        ("one extension", to(HOP_BY_HOP, &options(TCP, &syn(7000))), Verdict::Redirect),
        ("a long extension", to(DESTINATION_OPTIONS, &extension(TCP, 128, &syn(7000))), {
            Verdict::Redirect
        }),
        ("four extensions", to(HOP_BY_HOP, &four), Verdict::Redirect),
        ("five extensions", to(HOP_BY_HOP, &options(HOP_BY_HOP, &four)), Verdict::PassProtocol),
        ("extension longer than the packet", to(HOP_BY_HOP, &[TCP, 9, 0, 0, 0, 0, 0, 0]), {
            Verdict::PassMalformed
        }),
        ("no next header", to(59, &[]), Verdict::PassProtocol),
        ("first fragment", to(FRAGMENT, &fragment(TCP, 1, &syn(7000))), Verdict::DropFragment),
        ("first fragment to ssh", to(FRAGMENT, &fragment(TCP, 1, &syn(22))), Verdict::PassPort),
        ("later fragment", to(FRAGMENT, &fragment(TCP, 0x0009, &syn(7000))), {
            Verdict::PassFragment
        }),
        ("later fragment of options", to(FRAGMENT, &fragment(HOP_BY_HOP, 0x0009, &[TCP; 8])), {
            Verdict::PassProtocol
        }),
        ("payload length above the frame", with_byte(tcp(HOST_V6, 7000), 19, 21), {
            Verdict::PassMalformed
        }),
        ("jumbogram", with_byte(tcp(HOST_V6, 7000), 19, 0), Verdict::PassMalformed),
    ]);
}

#[test]
fn a_frame_cut_anywhere_is_passed_as_malformed() {
    let (steer, _xsk) = loaded_with_xsk();
    let options = extension(FRAGMENT, 2, &fragment(TCP, 0, &syn(7000)));
    for frame in [
        arp(1, OWNED),
        ipv4(OWNED, TCP, &[1; 12], 0, &syn(1)),
        ipv4(HOST, TCP, &[1; 12], 0, &syn(7000)),
        tagged(0x88a8, 0, &tagged(0x8100, 0, &tcp("10.0.0.2", 7000))),
        ipv6(HOST_V6, HOP_BY_HOP, &options),
        ipv6("ff02::1:ff00:5", ICMPV6, &solicitation(OWNED_V6)),
    ] {
        assert_ne!(verdict_of(&steer, &frame).1, Verdict::PassMalformed, "whole");
        for len in ETHERNET_HEADER_LEN..frame.len() {
            let found = verdict_of(&steer, &frame[..len]);
            assert_eq!(found, (Action::Pass, Verdict::PassMalformed), "{len} of {}", frame.len());
        }
        // The kernel itself runs no program over less than an Ethernet header.
        let shorter = steer.test_run(&frame[..ETHERNET_HEADER_LEN - 1]);
        assert!(matches!(shorter, Err(Error::TestRun { len: 13, .. })), "{shorter:?}");
    }
}

const ETHERNET_HEADER_LEN: usize = 14;

#[test]
fn every_frame_is_counted_once_whatever_its_bytes() {
    let (steer, _xsk) = loaded_with_xsk();
    let seeds = [
        arp(1, OWNED),
        tagged(0x8100, 0, &ipv4(HOST, TCP, &[1; 8], 0, &syn(7000))),
        ipv6(HOST_V6, HOP_BY_HOP, &extension(TCP, 2, &syn(7000))),
        ipv6(OWNED_V6, ICMPV6, &solicitation(OWNED_V6)),
    ];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |bound: usize| {
        // xorshift64: the same frames in every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % bound as u64) as usize
    };
    let runs = 20_000;
    for _ in 0..runs {
        let mut frame = seeds[below(seeds.len())].clone();
        for _ in 0..1 + below(4) {
            let at = 12 + below(frame.len() - 12);
            frame[at] = below(256) as u8;
        }
        steer.test_run(&frame).expect("a drop, a pass or a redirect");
    }
    let verdicts = steer.verdicts().expect("counters");
    assert_eq!(verdicts.iter().map(|(_, frames)| frames).sum::<u64>(), runs);
}

#[test]
fn an_empty_slot_passes_or_drops_as_configured() {
    let steer = loaded(OnMissing::Pass);
    let ours = [tcp("10.0.0.2", 7000), arp(1, OWNED), ipv4(OWNED, ICMP, &[], 0, &icmp(8, 4))];
    for frame in &ours {
        assert_eq!(verdict_of(&steer, frame), (Action::Pass, Verdict::MissingPass));
    }
    steer.set_on_missing(OnMissing::Drop).expect("the config takes it");
    assert_eq!(steer.on_missing().expect("the config"), OnMissing::Drop);
    for frame in &ours {
        assert_eq!(verdict_of(&steer, frame), (Action::Drop, Verdict::MissingDrop));
    }
    let ssh = tcp("10.0.0.2", 22);
    assert_eq!(verdict_of(&steer, &ssh), (Action::Pass, Verdict::PassPort), "not ours");
}

#[test]
fn a_slot_empties_when_its_socket_is_cleared_or_closed() {
    let (steer, xsk) = loaded_with_xsk();
    let frame = tcp("10.0.0.2", 7000);
    assert_eq!(verdict_of(&steer, &frame).1, Verdict::Redirect);
    steer.clear_xsk(0).expect("a slot");
    assert_eq!(verdict_of(&steer, &frame).1, Verdict::MissingPass);
    steer.clear_xsk(0).expect("that it is empty already is no error");
    steer.set_xsk(0, xsk.as_fd()).expect("again");
    assert_eq!(verdict_of(&steer, &frame).1, Verdict::Redirect);
    drop(xsk);
    assert_eq!(verdict_of(&steer, &frame).1, Verdict::MissingPass);
}

#[test]
fn the_kill_switch_passes_everything() {
    let (steer, _xsk) = loaded_with_xsk();
    steer.set_enabled(false).expect("the config takes it");
    for frame in [
        tcp("10.0.0.2", 7000),
        arp(1, OWNED),
        ipv4(OWNED, UDP, &[], 0, &[0; 8]),
        ethernet(ARP, &[]),
    ] {
        assert_eq!(verdict_of(&steer, &frame), (Action::Pass, Verdict::PassDisabled));
    }
    steer.set_enabled(true).expect("the config takes it");
    assert_eq!(verdict_of(&steer, &tcp("10.0.0.2", 7000)).1, Verdict::Redirect);
}

#[test]
fn rules_can_be_listed_and_given_back() {
    let (steer, _xsk) = loaded_with_xsk();
    let host = Some(HOST.into());
    let owned: Vec<String> = steer.prefixes().iter().map(|prefix| prefix.to_string()).collect();
    assert_eq!(owned.len(), 2);
    assert!(owned.contains(&"10.1.0.0/16".into()) && owned.contains(&"2001:db8:1::/48".into()));
    assert_eq!(steer.listeners().len(), 3);
    assert!(steer.listeners().contains(&Listener { address: host, port: 7000 }));
    let ranges = steer.port_ranges().expect("port ranges");
    assert_eq!(ranges.len(), 2);
    assert!(ranges.contains(&LocalPorts { address: host, ports: 40000..=49999 }));
    assert!(ranges.contains(&LocalPorts { address: None, ports: 50000..=50000 }));

    assert!(steer.remove_prefix([10, 1, 0, 0].into(), 16).expect("a prefix"));
    assert!(!steer.remove_prefix([10, 1, 0, 0].into(), 16).expect("a prefix"));
    assert!(steer.remove_listener(host, 7000).expect("a listener"));
    assert!(!steer.remove_listener(host, 7000).expect("a listener"));
    assert!(steer.remove_port_range(host).expect("a range"));
    assert!(!steer.remove_port_range(host).expect("a range"));
    assert_eq!(verdict_of(&steer, &arp(1, OWNED)).1, Verdict::PassArp);
    assert_eq!(verdict_of(&steer, &tcp("10.0.0.2", 7000)).1, Verdict::PassPort);
    assert_eq!(verdict_of(&steer, &tcp("10.0.0.2", 40000)).1, Verdict::PassPort);
}

#[test]
fn bad_rules_are_refused_in_words() {
    let (steer, xsk) = loaded_with_xsk();
    let refused = |result: Result<(), Error>| result.expect_err("refused").to_string();
    assert!(refused(steer.set_xsk(2, xsk.as_fd())).contains("loaded for 2 queues"));
    assert!(refused(steer.add_prefix([10, 1, 2, 3].into(), 16)).contains("write 10.1.0.0/16"));
    assert!(refused(steer.add_listener(None, 0)).contains("port 0"));
    let empty = std::ops::RangeInclusive::new(9, 8);
    assert!(refused(steer.set_port_range(None, empty)).contains("9-8 is empty"));
    let file = std::fs::File::open("/dev/null").expect("a file");
    assert!(refused(steer.set_xsk(1, file.as_fd())).contains("map xsks"));
}

#[test]
fn a_full_map_says_how_much_it_holds() {
    let (steer, _xsk) = loaded_with_xsk();
    let ports = 1000..=u16::MAX;
    let full = ports.map(|port| steer.add_listener(None, port)).find_map(Result::err);
    let full = full.expect("the map is bounded").to_string();
    assert!(full.contains("map listeners, which has room for 1024 entries"), "{full}");
}
