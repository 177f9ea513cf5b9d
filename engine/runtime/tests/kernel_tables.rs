//! What `sys` reads from the kernel's tables (interfaces, addresses, neighbours, routes), against
//! tables that the test wrote.
//!
//! ```text
//!   10.7.0.1/24  d0 ------- veth ------- d1  10.7.0.2/24
//!   this namespace                       a second one, held open by a sleeping process
//! ```

mod netns;

use barewire_engine::sys::interface::{Interface, KernelAddress, kernel_addresses};
use barewire_engine::sys::route::Route;
use barewire_engine::sys::{neighbour, route};
use netns::{isolated, run};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 3);
const MAC_THERE: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// The second namespace lives as long as this.
struct Peer {
    sleeper: Child,
}

impl Peer {
    fn new() -> Self {
        run("ip link add d0 address 02:00:00:00:00:01 type veth \
             peer name d1 address 02:00:00:00:00:02");
        let sleeper = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) runs");
        let mut peer = Peer { sleeper };
        // One line on its output says that the namespace is there.
        let mut ready = [0; 6];
        let output = peer.sleeper.stdout.as_mut().expect("it is piped");
        std::io::Read::read_exact(output, &mut ready).expect("the sleeper speaks");

        let pid = peer.sleeper.id();
        run(&format!("ip link set d1 netns {pid}"));
        run(&format!("nsenter -t {pid} -n ip addr add {THERE}/24 dev d1"));
        run(&format!("nsenter -t {pid} -n ip link set d1 up"));
        run(&format!("ip addr add {HERE}/24 dev d0"));
        run("ip link set d0 up");
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It is ours and still sleeps; if it is gone already, so is the namespace.
        self.sleeper.kill().ok();
        self.sleeper.wait().ok();
    }
}

#[test]
fn an_interface_is_described_as_it_was_made() {
    isolated("an_interface_is_described_as_it_was_made", || {
        run("ip link add d0 address 02:00:00:00:00:01 mtu 1400 numtxqueues 2 numrxqueues 3 \
             type veth peer name d1");
        let down = Interface::named("d0").expect("it is there");
        assert_eq!((down.mac, down.mtu, down.up), ([2, 0, 0, 0, 0, 1], 1400, false));
        assert_eq!(down.driver, "veth");
        assert_eq!((down.n_tx_queues, down.n_rx_queues, down.n_queues()), (2, 3, 2));
        run("ip link set d0 up");
        assert_eq!(Interface::named("d0").expect("it is there"), Interface { up: true, ..down });

        run("ip tuntap add t0 mode tun");
        let error = Interface::named("t0").expect_err("no Ethernet").to_string();
        assert!(error.contains("`t0` has link type 65534, not Ethernet"), "{error}");
    });
}

#[test]
fn addresses_of_the_kernel_are_all_found() {
    isolated("addresses_of_the_kernel_are_all_found", || {
        run("ip link add d0 type veth peer name d1");
        run("ip addr add 10.7.0.1/24 dev d0");
        run("ip addr add 10.8.0.1 peer 10.8.0.9/32 dev d1");
        run("ip addr add fd00::7/64 dev d0 nodad");
        let ifindex = |name| Interface::named(name).expect("it is there").ifindex;
        let row = |name, address: &str, prefix_bits| KernelAddress {
            ifindex: ifindex(name),
            address: address.parse::<IpAddr>().expect("an address"),
            prefix_bits,
        };
        let found = kernel_addresses().expect("the kernel answers");
        for expected in
            [row("d0", "10.7.0.1", 24), row("d1", "10.8.0.1", 32), row("d0", "fd00::7", 64)]
        {
            assert!(found.contains(&expected), "{expected:?} in {found:?}");
        }
    });
}

#[test]
fn a_neighbour_is_unknown_then_resolved() {
    isolated("a_neighbour_is_unknown_then_resolved", || {
        let _peer = Peer::new();
        let ifindex = Interface::named("d0").expect("it is there").ifindex;
        let lookup = |address| neighbour::lookup(ifindex, address).expect("the kernel answers");
        assert_eq!(lookup(THERE), None);
        neighbour::resolve("d0", THERE).expect("sends");
        neighbour::resolve("d0", NOBODY).expect("sends");
        let begin = Instant::now();
        while lookup(THERE).is_none() {
            assert!(begin.elapsed() < Duration::from_secs(10), "{}", run("ip neigh"));
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(lookup(THERE), Some(MAC_THERE));
        assert_eq!(lookup(NOBODY), None, "asked, and nobody answers");
        let error = neighbour::resolve("d7", THERE).expect_err("no such interface").to_string();
        assert!(error.contains("`d7`"), "{error}");
    });
}

#[test]
fn a_route_names_interface_gateway_and_source() {
    isolated("a_route_names_interface_gateway_and_source", || {
        let _peer = Peer::new();
        let ifindex = Interface::named("d0").expect("it is there").ifindex;
        let far = Ipv4Addr::new(192, 0, 2, 1);
        let lookup = |address| route::lookup(address).expect("the kernel answers");
        assert_eq!(lookup(far), None);
        run("ip route add default via 10.7.0.2");
        let direct = Route { ifindex, gateway: None, source: Some(HERE), local: false };
        assert_eq!(lookup(THERE), Some(direct));
        assert_eq!(lookup(far), Some(Route { gateway: Some(THERE), ..direct }));
        assert!(lookup(HERE).is_some_and(|route| route.local));
    });
}
