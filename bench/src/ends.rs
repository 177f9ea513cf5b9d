//! The two ends of the in-process wire: their addresses, and what their stacks are made with. Nothing
//! in here runs.

use barewire_api::config::Prefix;
use barewire_stack::stack::{self, Resolver, StackConfig};
use barewire_stack::tcp::TcpConfig;
use barewire_stack::tcp::isn::Secret;
use barewire_stack::wire::ethernet::Mac;
use barewire_stack::wire::tcp::ChecksumPolicy;
use std::net::{Ipv4Addr, SocketAddrV4};

/// What both ends may buffer, per worker, unless a run needs more.
pub const BUFFER_BYTES_MAX: usize = 64 << 20;

/// Where the server listens.
pub const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 1), 7000);
/// The client's own address, beside those that its connections come from.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// Where connections come from.
pub const SOURCES: &str = "10.1.0.0/16";

/// The address of each end; all queues of an interface have the same.
pub const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
/// That of the client.
pub const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// A fixed secret: nobody attacks a wire in memory, and runs are alike.
pub const SECRET: [u8; 32] = [2; 32];

/// The stack that listens at [`SERVER`].
pub fn server(connections_max: u32) -> StackConfig {
    config(*SERVER.ip(), SERVER_MAC, connections_max, Vec::new())
}

/// The stack that owns [`SOURCES`].
pub fn client(connections_max: u32) -> StackConfig {
    let sources: Prefix = SOURCES.parse().expect("a prefix");
    let sources = stack::Prefix { addr: sources.addr(), len: sources.len() };
    config(CLIENT, CLIENT_MAC, connections_max, vec![sources])
}

fn config(
    addr: Ipv4Addr,
    mac: Mac,
    connections_max: u32,
    prefixes: Vec<stack::Prefix>,
) -> StackConfig {
    StackConfig {
        mac,
        addresses: vec![stack::Prefix { addr, len: 24 }],
        prefixes,
        gateway: None,
        resolver: Resolver::Arp,
        ttl: 64,
        dscp: 0,
        rx_checksum: ChecksumPolicy::Verify,
        connections_max,
        syn_backlog_max: connections_max,
        time_wait_max: connections_max,
        neighbors_max: 4096,
        resets_per_second_max: 1000,
        buffer_bytes_max: BUFFER_BYTES_MAX,
        secret: Secret::new(SECRET),
        tcp: TcpConfig::default(),
    }
}
