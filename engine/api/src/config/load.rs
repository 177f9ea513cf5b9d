//! `[load]`: what a load test opens, sends and expects. The plan is checked against the arithmetic
//! of tuples before the first packet; carrying it out is the engine's part.

use std::fmt;
use std::net::SocketAddrV4;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::interface::{Interface, Ownership, PREFIXES_MAX, check_network};
use super::prefix::{PortRange, Prefix, parse_addr, parse_port};
use super::tcp::{CONNECTIONS_MAX, Tcp};
use super::{ConfigError, in_range};
use crate::plan::TuplePlan;
use crate::text::{SyntaxError, serde_as_text, word_enum};
use crate::unit::{Count, Rate, Ratio, Span, grouped};

/// The longest request of stateless clients: what every peer takes in one segment (RFC 9293 section
/// 3.7.1).
const STATELESS_REQUEST_BYTES_MAX: u32 = 536;

/// The most destinations of one plan.
pub const DESTINATIONS_MAX: usize = 1_024;

word_enum! {
    /// The shape of a load test.
    pub enum LoadMode: "hold, rr or cps" {
        /// Opens all connections, keeps them open together, then exchanges on every one.
        Hold = "hold",
        /// Opens the connections, then one request after the other on each for `duration`.
        RequestResponse = "rr",
        /// For `duration`: connect, one request, one response, close; `connections` at a time.
        ConnectionsPerSecond = "cps",
    }
}

word_enum! {
    /// How the load generator ends its connections.
    pub enum CloseWith: "fin or rst" {
        /// An orderly close, which leaves TIME_WAIT behind. With `cps` and echo our FIN goes with the
        /// request, for it is the last.
        Fin = "fin",
        /// An abort, which frees the tuple at once.
        Rst = "rst",
    }
}

/// What a request and its response look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadProtocol {
    /// `echo`: `request_bytes` go out and the same bytes must come back.
    Echo,
    /// `http` or `http:/PATH`: GET of that path, any 2xx with its whole body is the response.
    Http {
        /// The path, starting with `/`.
        path: String,
    },
}

/// One load test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadPlan {
    /// The shape of the test.
    pub mode: LoadMode,
    /// Where connections come from; the engine's `addresses` when empty.
    pub src: Vec<Prefix>,
    /// Their local ports; 1024-65535 with `owned`, `interface.port_range` with `shared` ownership.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_ports: Option<PortRange>,
    /// Where they go, spread evenly.
    pub dst: Vec<SocketAddrV4>,
    /// How many at the same time, over all workers.
    pub connections: Count,
    /// Opens per second, over all workers, at most; as fast as `outstanding_max` lets when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Spreads the opens of the ramp evenly over this time; 0: not.
    pub ramp: Span,
    /// How long the test goes on once the ramp is over.
    pub duration: Span,
    /// What a request and its response look like.
    pub protocol: LoadProtocol,
    /// Size of a request with `echo`.
    pub request_bytes: u32,
    /// `hold`: requests, one after the other, on each connection after `duration`.
    pub exchanges: u32,
    /// `hold`: the share of connections, chosen at random, that has these requests.
    pub sample: Ratio,
    /// `hold`, echo: clients that keep nothing per connection but two bits.
    pub stateless: bool,
    /// Handshakes in progress, and requests without their response, per worker.
    pub outstanding_max: u32,
    /// How long a handshake, a response or a close may take before it counts as failed.
    pub timeout: Span,
    /// How connections end.
    pub close: CloseWith,
}

impl Default for LoadPlan {
    fn default() -> Self {
        LoadPlan {
            mode: LoadMode::Hold,
            src: Vec::new(),
            src_ports: None,
            dst: Vec::new(),
            connections: Count(1_000),
            rate: None,
            ramp: Span::ZERO,
            duration: Span::from_secs(10),
            protocol: LoadProtocol::Echo,
            request_bytes: 64,
            exchanges: 1,
            sample: Ratio::WHOLE,
            stateless: false,
            outstanding_max: 1_024,
            timeout: Span::from_secs(10),
            close: CloseWith::Fin,
        }
    }
}

impl LoadPlan {
    /// The prefixes that connections come from: `src`, or each of the interface's addresses.
    pub fn sources(&self, interface: &Interface) -> Vec<Prefix> {
        if !self.src.is_empty() {
            return self.src.clone();
        }
        interface.addresses.iter().filter_map(|address| Prefix::new(address.addr(), 32)).collect()
    }

    /// The local ports that connections may use.
    pub fn source_ports(&self, interface: &Interface) -> PortRange {
        self.src_ports.unwrap_or(match interface.ownership {
            Ownership::Owned => PortRange::UNRESERVED,
            Ownership::Shared => interface.port_range,
        })
    }

    /// Every tuple of the plan.
    pub fn tuples(&self, interface: &Interface) -> TuplePlan {
        TuplePlan::new(&self.sources(interface), self.source_ports(interface), &self.dst)
    }

    /// Opens per second over all workers: the lower of `rate` and `connections / ramp`. Nothing when
    /// neither limits.
    pub fn opens_per_second(&self) -> Option<f64> {
        let rate = self.rate.map(|rate| rate.0 as f64);
        let is_ramped = !self.ramp.is_zero() && self.mode != LoadMode::ConnectionsPerSecond;
        let ramp = is_ramped.then(|| self.connections.0 as f64 / self.ramp.0.as_secs_f64());
        match (rate, ramp) {
            (Some(rate), Some(ramp)) => Some(rate.min(ramp)),
            (rate, ramp) => rate.or(ramp),
        }
    }

    /// Everything that can be known without a machine. The daemon checks a plan that arrives over
    /// the control socket with the same call.
    pub fn check(&self, interface: &Interface, tcp: &Tcp) -> Result<(), ConfigError> {
        self.check_bounds(tcp)?;
        self.check_stateless(interface)?;
        self.check_sources(interface)?;
        self.check_destinations(interface)?;
        self.check_tuples(interface)?;
        self.check_time_wait(interface, tcp)
    }

    fn check_bounds(&self, tcp: &Tcp) -> Result<(), ConfigError> {
        in_range("load.connections", self.connections.0, 1, CONNECTIONS_MAX)?;
        // Stateless clients have no records in the stack.
        if self.connections > tcp.connections_max && !self.stateless {
            return Err(ConfigError::new(
                "load.connections",
                format!(
                    "expected at most tcp.connections_max = {}, found {}",
                    grouped(tcp.connections_max.0),
                    grouped(self.connections.0)
                ),
                format!("give --connections-max {}", Count(self.connections.0.saturating_mul(2))),
            ));
        }
        if let Some(rate) = self.rate {
            in_range("load.rate", rate.0, 1, 1_000_000_000)?;
        }
        in_range("load.request_bytes", u64::from(self.request_bytes), 1, 1 << 20)?;
        in_range("load.exchanges", u64::from(self.exchanges), 0, 1_000_000)?;
        in_range("load.outstanding_max", u64::from(self.outstanding_max), 1, 1 << 20)?;
        let (ms, day) = (Span::from_millis(1), Span::from_secs(86_400));
        for (place, span, min) in [
            ("load.ramp", self.ramp, Span::ZERO),
            ("load.duration", self.duration, Span::ZERO),
            ("load.timeout", self.timeout, ms),
        ] {
            if !(min..=day).contains(&span) {
                return Err(ConfigError::new(
                    place,
                    format!("expected from {min} to {day}, found {span}"),
                    "choose a duration in that range",
                ));
            }
        }
        if self.mode != LoadMode::Hold && self.duration.is_zero() {
            return Err(ConfigError::new(
                "load.duration",
                format!("expected how long to run for mode {}, found 0", self.mode),
                "give --duration, such as --duration 10s",
            ));
        }
        Ok(())
    }

    /// Clients that keep nothing can do less.
    fn check_stateless(&self, interface: &Interface) -> Result<(), ConfigError> {
        let is_echo = self.protocol == LoadProtocol::Echo;
        let max = u64::from(STATELESS_REQUEST_BYTES_MAX);
        let (found, fix) = match () {
            () if !self.stateless => return Ok(()),
            () if self.mode != LoadMode::Hold => (format!("mode {}", self.mode), "use mode hold"),
            () if !is_echo => (format!("protocol {}", self.protocol), "use protocol echo"),
            () if interface.ownership != Ownership::Owned => {
                ("interface.ownership = \"shared\"".to_owned(), "use --ownership owned")
            }
            () => return in_range("load.request_bytes", u64::from(self.request_bytes), 1, max),
        };
        Err(ConfigError::new(
            "load.stateless",
            format!("expected mode hold, protocol echo and owned addresses, found {found}"),
            format!("{fix}, or leave out --stateless"),
        ))
    }

    fn check_sources(&self, interface: &Interface) -> Result<(), ConfigError> {
        in_range("load.src", self.src.len() as u64, 0, PREFIXES_MAX as u64)?;
        for (idx, src) in self.src.iter().enumerate() {
            check_network("load.src", src)?;
            let is_owned = interface.prefixes.iter().any(|prefix| prefix.covers(src))
                || (src.len() == 32 && interface.owns(src.addr()))
                // Which addresses the kernel holds only the daemon can know.
                || interface.ownership == Ownership::Shared;
            if !is_owned {
                return Err(ConfigError::new(
                    "load.src",
                    format!("expected addresses that the engine owns, found {src}"),
                    format!("add \"{src}\" to interface.prefixes"),
                ));
            }
            if let Some(other) = self.src[..idx].iter().find(|other| other.overlaps(src)) {
                return Err(ConfigError::new(
                    "load.src",
                    format!("expected separate prefixes, found {other} and {src}"),
                    "keep the wider one",
                ));
            }
        }
        match self.src_ports {
            Some(ports)
                if interface.ownership == Ownership::Shared
                    && !interface.port_range.covers(&ports) =>
            {
                Err(ConfigError::new(
                    "load.src_ports",
                    format!(
                        "expected ports of interface.port_range {}, found {ports}",
                        interface.port_range
                    ),
                    "answers to other ports go to the kernel: choose ports inside the range",
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_destinations(&self, interface: &Interface) -> Result<(), ConfigError> {
        if self.dst.is_empty() {
            return Err(ConfigError::new(
                "load.dst",
                "expected where to connect to, found nothing",
                "give --dst, such as --dst 10.0.0.2:7000",
            ));
        }
        in_range("load.dst", self.dst.len() as u64, 1, DESTINATIONS_MAX as u64)?;
        for (idx, dst) in self.dst.iter().enumerate() {
            if dst.port() == 0 {
                return Err(ConfigError::new(
                    "load.dst",
                    format!("expected a port from 1 to 65535, found {dst}"),
                    "give the port that the server listens on",
                ));
            }
            if interface.owns(*dst.ip()) {
                return Err(ConfigError::new(
                    "load.dst",
                    format!("expected another machine, found {dst}, which this engine owns"),
                    "choose source prefixes that do not hold the destination",
                ));
            }
            if self.dst[..idx].contains(dst) {
                return Err(ConfigError::new(
                    "load.dst",
                    format!("expected each destination once, found {dst} twice"),
                    "remove one",
                ));
            }
        }
        Ok(())
    }

    fn check_tuples(&self, interface: &Interface) -> Result<(), ConfigError> {
        let sources = self.sources(interface);
        // Shared ownership without addresses: the daemon learns them from the kernel and asks again.
        if sources.is_empty() && interface.ownership == Ownership::Shared {
            return Ok(());
        }
        let ports = self.source_ports(interface);
        let tuples = TuplePlan::new(&sources, ports, &self.dst);
        if self.connections.0 <= tuples.len() {
            return Ok(());
        }
        Err(shortage(
            &format!("{} connections", grouped(self.connections.0)),
            self.connections.0,
            &tuples,
            &sources,
        ))
    }

    /// Refuses a test that opens faster than tuples come back: it would end up with none.
    fn check_time_wait(&self, interface: &Interface, tcp: &Tcp) -> Result<(), ConfigError> {
        let (Some(needed), Some(rate)) = (self.tuples_in_time_wait(tcp), self.rate) else {
            return Ok(());
        };
        let sources = self.sources(interface);
        let tuples = self.tuples(interface);
        if needed <= tuples.len() || sources.is_empty() {
            return Ok(());
        }
        let what = format!("{rate} with tuples in TIME_WAIT for {}", tcp.time_wait);
        let error = shortage(&what, needed, &tuples, &sources);
        let fix = format!("{}, or --close rst, or a shorter tcp.time_wait", error.fix);
        Err(ConfigError { fix, ..error })
    }

    /// How many tuples are in TIME_WAIT at a time, where that is known before: a closed connection
    /// keeps its tuple for `time_wait`.
    pub fn tuples_in_time_wait(&self, tcp: &Tcp) -> Option<u64> {
        let (LoadMode::ConnectionsPerSecond, CloseWith::Fin, Some(rate)) =
            (self.mode, self.close, self.rate)
        else {
            return None;
        };
        let busy = tcp.time_wait.0.min(self.duration.0).as_secs_f64();
        // Rates are at most 1e9 and times a day, so the product is exact enough and fits.
        Some((rate.0 as f64 * busy) as u64)
    }
}

/// `what` needs more source addresses than `sources` have: says how many, and names a prefix that
/// has them.
fn shortage(what: &str, needed: u64, tuples: &TuplePlan, sources: &[Prefix]) -> ConfigError {
    let per_address = tuples.len() / tuples.addresses().max(1);
    let addresses = needed.div_ceil(per_address.max(1));
    let written: Vec<String> = sources.iter().map(Prefix::to_string).collect();
    let destinations = match tuples.destinations() {
        1 => "one destination".to_owned(),
        n => format!("{n} destinations"),
    };
    let problem = format!(
        "{what} need {} source addresses ({} tuples each for {destinations}); --src {} has {}",
        grouped(addresses),
        grouped(per_address),
        written.join(","),
        grouped(tuples.addresses()),
    );
    ConfigError::new("load.connections", problem, wider_source(sources, addresses))
}

/// The longest prefix around the first source that has so many hosts.
fn wider_source(sources: &[Prefix], addresses: u64) -> String {
    let base = sources.first().map(Prefix::network);
    let wider = base.and_then(|base| {
        (8..=30)
            .rev()
            .filter_map(|len| Prefix::new(base, len))
            .find(|prefix| prefix.hosts() >= addresses)
    });
    match wider {
        Some(wider) => format!("use at least --src {}/{}", wider.network(), wider.len()),
        None => "give more destinations, or fewer connections".to_owned(),
    }
}

/// `10.0.0.2:7000`, with sentences for a missing port and for IPv6.
pub fn parse_destination(text: &str) -> Result<SocketAddrV4, SyntaxError> {
    let (addr, port) = text
        .rsplit_once(':')
        .ok_or_else(|| SyntaxError::new("an address and port such as 10.0.0.2:7000", text))?;
    Ok(SocketAddrV4::new(parse_addr(addr)?, parse_port(port)?))
}

const PROTOCOL_EXPECTED: &str = "echo, http or http:/PATH";

/// Longest path of an HTTP request, in bytes.
const PATH_BYTES_MAX: usize = 1_024;

impl FromStr for LoadProtocol {
    type Err = SyntaxError;
    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        let is_path = |path: &str| {
            path.starts_with('/')
                && path.len() <= PATH_BYTES_MAX
                && path.bytes().all(|b| b.is_ascii_graphic())
        };
        match text.split_once(':') {
            None if text == "echo" => Ok(LoadProtocol::Echo),
            None if text == "http" => Ok(LoadProtocol::Http { path: "/".into() }),
            Some(("http", path)) if is_path(path) => Ok(LoadProtocol::Http { path: path.into() }),
            _ => Err(SyntaxError::new(PROTOCOL_EXPECTED, text)),
        }
    }
}

impl fmt::Display for LoadProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadProtocol::Echo => f.write_str("echo"),
            LoadProtocol::Http { path } if path == "/" => f.write_str("http"),
            LoadProtocol::Http { path } => write!(f, "http:{path}"),
        }
    }
}

serde_as_text! {
    LoadProtocol: PROTOCOL_EXPECTED;
}
