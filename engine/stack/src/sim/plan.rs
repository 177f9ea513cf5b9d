//! Everything that a seed decides before a run begins: the hosts and their configuration, the links
//! in each phase, the faults of rings and workers, the flows and what their applications do, and
//! what an attacker sends. Most features are absent from most seeds, so that each meets the others in
//! many combinations.

use super::draw::{between, chance, pick, scaled, span};
use super::nic::Rings;
use super::script::{Finish, FlowPlan, Script};
use crate::dice::{Dice, Ratio};
use crate::impair::Impairment;
use crate::stack::{Prefix, Resolver, StackConfig};
use crate::tcp::TcpConfig;
use crate::tcp::config::{CongestionControl, Ecn, SynCookies};
use crate::tcp::isn::Secret;
use crate::time::Duration;
use crate::wire::ethernet::Mac;
use crate::wire::tcp::ChecksumPolicy;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Ports at which every host listens.
pub(super) const LISTEN_PORTS: std::ops::Range<u16> = 7000..7003;

/// The next hop for everything that is not on the link; frames to it vanish.
pub(super) const ROUTER_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
pub(super) const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 254]);

/// A millisecond.
const MS: Duration = Duration::from_millis(1);

/// What one seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// When faults stop, counted from the begin.
    pub quiet_after: Duration,
    /// The hosts.
    pub hosts: Vec<HostPlan>,
    /// ARP meets no faults of links.
    pub spares_arp: bool,
    /// The links when they have no faults: delay, jitter and rate.
    pub calm: Impairment,
    /// The links while they have faults; each phase lasts until the next or until all is quiet.
    pub phases: Vec<Phase>,
    /// The path is narrower than the links of the hosts, all the time.
    pub narrow: Option<Narrow>,
    /// How often a router marks a packet that may be marked instead of dropping it (RFC 3168).
    pub marks: Ratio,
    /// Faults of hosts and partitions.
    pub faults: Vec<FaultPlan>,
    /// The connections.
    pub flows: Vec<FlowPlan>,
    /// What somebody off the path does.
    pub attack: AttackPlan,
}

/// One host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// Queues of its NIC, with a worker each.
    pub n_queues: u16,
    /// What each of its stacks is made with.
    pub config: StackConfig,
    /// The rings of each queue.
    pub rings: Rings,
    /// Frames that may wait in the inbox of a worker.
    pub handoff_max: usize,
    /// How long one turn takes.
    pub turn: Duration,
    /// The key of the NIC.
    pub rss_key: [u8; 40],
    /// Its driver tells key and table, and ports are chosen by them.
    pub tells_rss: bool,
}

/// A path on which not every packet fits.
#[derive(Clone, Copy, Debug)]
pub struct Narrow {
    /// The longest packet that passes.
    pub mtu: u16,
    /// The router tells how much would fit; old ones only say that it was too much.
    pub tells: bool,
}

/// What links do for a while.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// From when on.
    pub from: Duration,
    /// To hosts of a higher number.
    pub up: Impairment,
    /// To hosts of a lower number.
    pub down: Impairment,
}

/// A fault that has a time.
#[derive(Clone, Copy, Debug)]
pub struct FaultPlan {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// Faults of hosts, and partitions.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing passes from one host to another, nor back if `both`.
    Partition {
        /// The sender.
        from: usize,
        /// The receiver.
        to: usize,
        /// In both directions.
        both: bool,
    },
    /// The fill ring of a queue is not refilled.
    FillEmpty(usize, usize),
    /// The transmit ring of a queue takes nothing.
    TxFull(usize, usize),
    /// The completions of a queue come so much later.
    LateCompletions(usize, usize, Duration),
    /// A worker does not turn.
    Pause(usize, usize),
    /// The indirection table of a host is drawn anew, and perhaps the key; it lasts until the driver
    /// is asked again.
    Rehash(usize),
}

/// What somebody off the path sends; each is a number of volleys over the time of faults.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttackPlan {
    /// Volleys of SYN from nowhere.
    pub floods: u32,
    /// SYN of each volley.
    pub flood_segments: u32,
    /// Volleys of segments that claim to be of a live connection.
    pub forgeries: u32,
    /// Volleys of frames that make no sense.
    pub garbage: u32,
}

impl Plan {
    /// Draws the plan of a seed.
    pub fn draw(seed: u64) -> Plan {
        let mut dice = Dice::new(seed);
        // In half of the seeds nothing may kill a connection, so that every graceful flow must
        // complete; the others may be as harsh as they like.
        let gentle = chance(&mut dice, 50);
        let quiet_after = span(&mut dice, MS * 200, Duration::from_secs(60));
        let n_hosts = pick(&mut dice, &[2, 2, 2, 3, 4]);
        let hosts: Vec<HostPlan> =
            (0..n_hosts).map(|n| HostPlan::draw(&mut dice, n, gentle)).collect();
        let calm = draw_calm(&mut dice);
        let attack = AttackPlan::draw(&mut dice, gentle);
        let phases = draw_phases(&mut dice, calm, quiet_after, gentle);
        let faults = draw_faults(&mut dice, &hosts, quiet_after, gentle);
        let mut plan = Plan {
            seed,
            quiet_after,
            hosts,
            spares_arp: gentle || chance(&mut dice, 60),
            calm,
            phases,
            narrow: chance(&mut dice, 15).then(|| Narrow {
                mtu: between(&mut dice, 576, 1499) as u16,
                tells: chance(&mut dice, 70),
            }),
            marks: Ratio::from_ppm(if chance(&mut dice, 30) {
                scaled(&mut dice, 1_000, 300_000) as u32
            } else {
                0
            }),
            faults,
            flows: Vec::new(),
            attack,
        };
        plan.draw_flows(&mut dice);
        plan
    }

    /// True when nothing in the plan can rightly keep a graceful flow from completing.
    pub fn is_survivable(&self) -> bool {
        let lossy = Ratio::from_percent(5);
        let mild = |spec: &Impairment| spec.loss.ppm() + spec.corrupt.ppm() <= lossy.ppm();
        let links = self.phases.iter().all(|phase| mild(&phase.up) && mild(&phase.down));
        let cut = self.faults.iter().filter(|plan| plan.fault.stops_traffic());
        let cut_ms: u64 = cut.map(|plan| plan.lasts.as_millis()).sum();
        // An ACK that is lost on the way to a cookie leaves a client that believes in a connection,
        // and a server that knows of none.
        let remembers = self.attack.floods == 0
            && self.hosts.iter().all(|host| host.config.tcp.syn_cookies != SynCookies::Always);
        let patient = self.hosts.iter().all(|host| {
            let tcp = &host.config.tcp;
            let alive =
                tcp.keepalive + tcp.keepalive_interval * u64::from(tcp.keepalive_probes_max);
            tcp.syn_retries_max >= 5
                && tcp.retries_max >= 10
                && tcp.rto_min >= MS * 100
                && (tcp.keepalive.is_zero() || alive >= Duration::from_secs(60))
        });
        let arp = self.spares_arp || self.hosts.iter().all(|host| host.has_kernel());
        links && cut_ms <= 10_000 && patient && arp && remembers
    }

    /// True when flow `number` completes if nothing keeps it from it.
    pub fn is_graceful(&self, number: usize) -> bool {
        let flow = &self.flows[number];
        flow.simultaneous.is_none() && flow.scripts.iter().all(Script::is_graceful)
    }

    fn draw_flows(&mut self, dice: &mut Dice) {
        let n_flows = scaled(dice, 1, 40);
        for number in 0..n_flows {
            let flow = self.draw_flow(dice, number as u16);
            self.flows.push(flow);
        }
    }

    fn draw_flow(&self, dice: &mut Dice, number: u16) -> FlowPlan {
        let client = dice.below(self.hosts.len() as u64) as usize;
        let other = 1 + dice.below(self.hosts.len() as u64 - 1) as usize;
        let server = (client + other) % self.hosts.len();
        let life = self.quiet_after.max(MS);
        let bytes_max = self.bytes_max(client, server);
        let simultaneous = chance(dice, 8).then(|| span(dice, Duration::from_micros(1), MS * 20));
        let mut scripts = [0, 1].map(|_| Script::draw(dice, bytes_max, life));
        if chance(dice, 20) && simultaneous.is_none() {
            scripts[1].echo = true;
            if matches!(scripts[1].finish, Finish::Close | Finish::CloseEarly | Finish::Linger) {
                scripts[1].finish = Finish::AfterPeer;
            }
        }
        let server_port = match simultaneous {
            Some(_) => 50_000 + number,
            None => LISTEN_PORTS.start + (number % LISTEN_PORTS.len() as u16),
        };
        FlowPlan {
            client,
            worker: dice.below(u64::from(self.hosts[client].n_queues)) as usize,
            server,
            ports: (20_000 + number, server_port),
            open_at: Duration::from_nanos(dice.below(life.as_nanos() * 4 / 5)),
            lives: if chance(dice, 25) { between(dice, 2, 4) as u32 } else { 1 },
            simultaneous,
            scripts,
        }
    }

    /// As much as arrives between two hosts in well under the time that is left after all is quiet.
    fn bytes_max(&self, client: usize, server: usize) -> u64 {
        let slowest = [client, server].map(|host| {
            let tcp = &self.hosts[host].config.tcp;
            let lap = (self.calm.delay + self.calm.jitter + self.hosts[host].turn) * 2
                + tcp.delayed_ack
                + MS * 5;
            let window = u64::from(tcp.window_bytes_max.min(tcp.send_bytes_max));
            let laps = 30_000_000_000 / lap.as_nanos();
            (window * laps).min(u64::from(tcp.mss) * 600)
        });
        let by_rate = match self.calm.rate_bytes_per_second {
            0 => u64::MAX,
            rate => rate / 2,
        };
        slowest[0].min(slowest[1]).min(by_rate).clamp(64, 512 << 10)
    }
}

impl Fault {
    fn stops_traffic(self) -> bool {
        !matches!(self, Fault::Rehash(_))
    }
}

impl HostPlan {
    fn draw(dice: &mut Dice, number: u8, gentle: bool) -> HostPlan {
        let tcp = draw_tcp(dice, gentle);
        let mut rss_key = [0; 40];
        for bytes in rss_key.chunks_mut(8) {
            bytes.copy_from_slice(&dice.draw().to_be_bytes());
        }
        let mut secret = [0; 32];
        for bytes in secret.chunks_mut(8) {
            bytes.copy_from_slice(&dice.draw().to_be_bytes());
        }
        HostPlan {
            n_queues: pick(dice, &[1, 1, 2, 3, 4]),
            config: StackConfig {
                mac: mac_of(number.into()),
                addresses: vec![Prefix { addr: ip_of(number.into()), len: 24 }],
                prefixes: Vec::new(),
                gateway: Some(ROUTER_IP),
                resolver: pick(dice, &[Resolver::Arp, Resolver::Arp, Resolver::Kernel]),
                ttl: 64,
                dscp: 0,
                rx_checksum: ChecksumPolicy::Verify,
                connections_max: 1 << 12,
                syn_backlog_max: pick(dice, &[64, 128, 1024]),
                time_wait_max: 1 << 12,
                neighbors_max: 16,
                resets_per_second_max: pick(dice, &[100, 10_000]),
                buffer_bytes_max: 32 << 20,
                secret: Secret::new(secret),
                tcp,
            },
            rings: Rings {
                n_frames: pick(dice, &[64, 128, 256, 512]),
                rx_max: scaled(dice, 16, 256) as usize,
                tx_max: scaled(dice, 4, 256) as usize,
            },
            handoff_max: scaled(dice, 16, 256) as usize,
            turn: span(dice, Duration::from_micros(2), Duration::from_micros(500)),
            rss_key,
            tells_rss: chance(dice, 60),
        }
    }

    fn has_kernel(&self) -> bool {
        self.config.resolver == Resolver::Kernel
    }
}

impl AttackPlan {
    fn draw(dice: &mut Dice, gentle: bool) -> AttackPlan {
        let mut some = |percent, max| {
            if chance(dice, percent) { scaled(dice, 1, max) as u32 } else { 0 }
        };
        AttackPlan {
            floods: if gentle { 0 } else { some(20, 20) },
            flood_segments: some(100, 200),
            forgeries: some(25, 500),
            garbage: some(10, 50),
        }
    }
}

/// The address of a host.
pub(super) fn ip_of(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, host as u8 + 1)
}

/// The MAC address of a host.
pub(super) fn mac_of(host: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, host as u8 + 1])
}

/// The host with a MAC address, if there is one.
pub(super) fn host_of(mac: Mac) -> Option<usize> {
    let [2, 0, 0, 0, 0, number] = mac.0 else { return None };
    usize::from(number).checked_sub(1)
}

/// The two ends of a flow: what its client and what its server has.
pub(super) fn endpoints(flow: &FlowPlan) -> (SocketAddrV4, SocketAddrV4) {
    let client = SocketAddrV4::new(ip_of(flow.client), flow.ports.0);
    (client, SocketAddrV4::new(ip_of(flow.server), flow.ports.1))
}

/// The knobs, within the bounds of the configuration file.
fn draw_tcp(dice: &mut Dice, gentle: bool) -> TcpConfig {
    let window_scale = chance(dice, 70);
    let window_max = if window_scale { 1 << 20 } else { 65_535 };
    let rto_min_ms =
        if gentle { pick(dice, &[100, 200, 200, 1000]) } else { scaled(dice, 1, 1000) };
    let (keepalive_s, interval_s) = (scaled(dice, 1, 60), scaled(dice, 1, 75));
    let keepalive_s = if gentle { keepalive_s.max(20) } else { keepalive_s };
    TcpConfig {
        mss: if chance(dice, 60) { 1460 } else { scaled(dice, 88, 1460) as u16 },
        window_bytes_max: scaled(dice, 2_048, window_max) as u32,
        send_bytes_max: scaled(dice, 2_048, 1 << 20) as u32,
        reassembly_segments_max: scaled(dice, 1, 256) as u16,
        rto_min: MS * rto_min_ms,
        rto_max: Duration::from_secs(pick(dice, &[60, 120])),
        syn_retries_max: if gentle { pick(dice, &[5, 6]) } else { between(dice, 0, 6) as u8 },
        retries_max: if gentle { pick(dice, &[10, 15]) } else { between(dice, 1, 15) as u8 },
        delayed_ack: MS * pick(dice, &[1, 40, 40, 200, 499]),
        dormant_after: MS * pick(dice, &[500, 500, 1000, 20_000]),
        time_wait: Duration::from_secs(scaled(dice, 1, 60)),
        fin_wait2: Duration::from_secs(scaled(dice, 1, 60)),
        keepalive: Duration::from_secs(if chance(dice, 30) { keepalive_s } else { 0 }),
        keepalive_interval: Duration::from_secs(if gentle {
            interval_s.max(10)
        } else {
            interval_s
        }),
        keepalive_probes_max: between(dice, if gentle { 5 } else { 1 }, 9) as u8,
        nagle: chance(dice, 50),
        timestamps: chance(dice, 70),
        sack: chance(dice, 75),
        window_scale,
        initial_window_segments: between(dice, 1, 10) as u32,
        congestion: pick(dice, &[CongestionControl::Cubic, CongestionControl::NewReno]),
        ecn: pick(dice, &[Ecn::Off, Ecn::Accept, Ecn::Request]),
        syn_cookies: if gentle {
            SynCookies::Auto
        } else {
            pick(dice, &[SynCookies::Auto, SynCookies::Always, SynCookies::Off])
        },
        pmtu_min: pick(dice, &[552, 140]),
        pmtu_raise: Duration::from_secs(pick(dice, &[0, 10, 600])),
        pmtu_black_hole: chance(dice, 30),
        retries_r1: between(dice, 3, 8) as u8,
        user_timeout: Duration::from_secs(if gentle { 0 } else { pick(dice, &[0, 0, 5, 120]) }),
    }
}

/// The links without faults: a data centre, a continent, or a slow line.
fn draw_calm(dice: &mut Dice) -> Impairment {
    let delay = span(dice, Duration::from_micros(2), MS * 300);
    let jitter = if chance(dice, 40) {
        span(dice, Duration::from_nanos(100), delay)
    } else {
        Duration::ZERO
    };
    let rate = if chance(dice, 25) { scaled(dice, 20_000, 100_000_000) } else { 0 };
    Impairment {
        delay,
        jitter,
        rate_bytes_per_second: rate,
        backlog_max: span(dice, MS * 20, MS * 500),
        ..Impairment::default()
    }
}

fn draw_phases(
    dice: &mut Dice,
    calm: Impairment,
    quiet_after: Duration,
    gentle: bool,
) -> Vec<Phase> {
    if chance(dice, 15) {
        return Vec::new();
    }
    let harsh = !gentle && chance(dice, 70);
    let n = between(dice, 1, 3);
    let phases = (0..n).map(|i| {
        let up = draw_faulty(dice, calm, harsh);
        let down = if chance(dice, 30) { draw_faulty(dice, calm, harsh) } else { up };
        Phase { from: Duration::from_nanos(quiet_after.as_nanos() / n * i), up, down }
    });
    phases.collect()
}

fn draw_faulty(dice: &mut Dice, calm: Impairment, harsh: bool) -> Impairment {
    let mut ratio = |percent, max_ppm| {
        if chance(dice, percent) {
            Ratio::from_ppm(scaled(dice, 100, max_ppm) as u32)
        } else {
            Ratio::NEVER
        }
    };
    let loss_ppm = if harsh { 400_000 } else { 38_000 };
    Impairment {
        loss: ratio(60, loss_ppm),
        duplicate: ratio(40, 300_000),
        corrupt: ratio(30, loss_ppm / 4),
        reorder: ratio(40, 400_000),
        ..calm
    }
}

fn draw_faults(
    dice: &mut Dice,
    hosts: &[HostPlan],
    quiet_after: Duration,
    gentle: bool,
) -> Vec<FaultPlan> {
    if chance(dice, 40) {
        return Vec::new();
    }
    let n = scaled(dice, 1, 8);
    let faults = (0..n).map(|_| {
        let at = Duration::from_nanos(dice.below(quiet_after.as_nanos()));
        let left = Duration::from_nanos(quiet_after.as_nanos() - at.as_nanos());
        let longest = Duration::from_secs(if gentle { 1 } else { pick(dice, &[2, 30]) });
        let lasts = span(dice, Duration::from_micros(100), longest).min(left);
        FaultPlan { at, lasts, fault: Fault::draw(dice, hosts) }
    });
    faults.collect()
}

impl Fault {
    fn draw(dice: &mut Dice, hosts: &[HostPlan]) -> Fault {
        let host = dice.below(hosts.len() as u64) as usize;
        let queue = dice.below(u64::from(hosts[host].n_queues)) as usize;
        match between(dice, 0, 5) {
            0 => {
                let other = 1 + dice.below(hosts.len() as u64 - 1) as usize;
                let both = chance(dice, 70);
                Fault::Partition { from: host, to: (host + other) % hosts.len(), both }
            }
            1 => Fault::FillEmpty(host, queue),
            2 => Fault::TxFull(host, queue),
            3 => {
                Fault::LateCompletions(host, queue, span(dice, Duration::from_micros(10), MS * 500))
            }
            4 => Fault::Pause(host, queue),
            _ => Fault::Rehash(host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_draws_the_same_plan() {
        for seed in 0..50 {
            assert_eq!(format!("{:?}", Plan::draw(seed)), format!("{:?}", Plan::draw(seed)));
        }
        assert_ne!(format!("{:?}", Plan::draw(1)), format!("{:?}", Plan::draw(2)));
    }

    #[test]
    fn plans_of_all_kinds_are_drawn() {
        let plans: Vec<Plan> = (0..500).map(Plan::draw).collect();
        let count = |is: &dyn Fn(&Plan) -> bool| plans.iter().filter(|plan| is(plan)).count();
        let n_survivable = count(&Plan::is_survivable);
        assert!((200..300).contains(&n_survivable), "{n_survivable}");
        assert!(count(&|plan| plan.hosts.iter().any(|host| host.n_queues > 1)) > 200);
        assert!(count(&|plan| plan.attack.forgeries > 0) > 50);
        assert!(count(&|plan| plan.flows.iter().any(|flow| flow.simultaneous.is_some())) > 50);
        assert!(
            count(&|plan| plan.faults.iter().any(|f| matches!(f.fault, Fault::Rehash(_)))) > 50
        );
    }

    #[test]
    fn hosts_have_addresses_of_their_own() {
        assert_eq!(host_of(mac_of(3)), Some(3));
        assert_eq!(host_of(Mac::BROADCAST), None);
        assert_ne!(ip_of(0), ip_of(1));
    }
}
