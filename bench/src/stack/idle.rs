//! What connections cost on which nothing happens but keepalive: a minute of the life of a server whose
//! connections were opened one after the other, so that their probes are spread evenly. The minute is
//! invented, the CPU time of the server's turns in it is real. A turn is taken whenever there is something
//! to do, as a worker does that sleeps in between; what the sleep itself costs the kernel is not in it.

use super::barewire::{BATCH, TICK, receive, transmit};
use super::wire::Wire;
use crate::rig::{self, Failure};
use crate::scale::plan;
use barewire_bench::ends;
use barewire_engine::sys::clock;
use barewire_stack::stack::{Stack, StackConfig};
use barewire_stack::stats::{Counter, Kind};
use barewire_stack::tcp::TcpConfig;
use barewire_stack::time::{Duration, Instant};

/// How long it is watched.
const MINUTE: Duration = Duration::from_secs(60);

/// What a minute of idleness takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) connections: u64,
    pub(super) keepalive: Duration,
    /// Keepalive probes that the server sent.
    pub(super) probes: u64,
    /// CPU time of the server in percent of one core.
    pub(super) percent: f64,
}

struct Ends {
    server: Stack,
    client: Stack,
    up: Wire,
    down: Wire,
    now: Instant,
    server_cpu: Duration,
}

/// A minute of `n` connections whose server probes after so long.
pub(super) fn measure(n: u64, keepalive: Duration) -> Result<Idle, Failure> {
    let mut ends = Ends::new(n, keepalive);
    ends.open(n, keepalive)?;
    let probes = ends.server.stats().get(Counter::TcpProbes);
    ends.server_cpu = Duration::ZERO;
    let end = ends.now + MINUTE;
    while ends.now < end {
        ends.sleep(end);
        ends.turn();
    }
    ends.audit(n)?;
    Ok(Idle {
        connections: n,
        keepalive,
        probes: ends.server.stats().get(Counter::TcpProbes) - probes,
        percent: ends.server_cpu.as_secs_f64() / MINUTE.as_secs_f64() * 100.0,
    })
}

impl Ends {
    fn new(n: u64, keepalive: Duration) -> Self {
        let now = Instant::ZERO + Duration::from_secs(1_000);
        let tcp = TcpConfig { keepalive, ..TcpConfig::default() };
        Ends {
            server: rig::listener(StackConfig { tcp, ..ends::server(n as u32) }, now),
            client: rig::client(n as u32, now),
            up: Wire::new(BATCH),
            down: Wire::new(BATCH),
            now,
            server_cpu: Duration::ZERO,
        }
    }

    /// Opens all connections in the time in which each of them probes once.
    fn open(&mut self, n: u64, keepalive: Duration) -> Result<(), Failure> {
        let (plan, n_turns) = (plan(), n.div_ceil(BATCH as u64));
        let pause = Duration::from_nanos(keepalive.as_nanos() / n_turns);
        for first in (0..n).step_by(BATCH) {
            for number in first..n.min(first + BATCH as u64) {
                let tuple = plan.tuple(number);
                let opened =
                    self.client.connect(self.now, tuple.local(), tuple.remote(), 0, number);
                opened.expect("the plan's tuples are free");
            }
            let next = self.now + pause;
            // A handshake is over at once, and what is due in the pause happens when it is.
            (0..3).for_each(|_| self.turn());
            while self.now < next {
                self.sleep(next);
                self.turn();
            }
        }
        match self.server.stats().get(Counter::ConnsEstablished) {
            opened if opened == n => Ok(()),
            opened => Err(Failure::Sums(vec![format!("idle: {opened} of {n} were opened")])),
        }
    }

    /// Goes to when something is to be done, but not beyond `end`.
    fn sleep(&mut self, end: Instant) {
        let wake_at = [&self.server, &self.client].map(|stack| stack.poll_timeout(self.now));
        let next = wake_at.into_iter().flatten().min().unwrap_or(end);
        self.now = next.max(self.now + TICK).min(end);
    }

    fn turn(&mut self) {
        let began_at = clock::thread_cpu();
        receive(&mut self.server, self.now, &mut self.up, &mut self.down);
        visit(&mut self.server, self.now, &mut self.down);
        self.server_cpu = self.server_cpu + (clock::thread_cpu() - began_at);
        receive(&mut self.client, self.now, &mut self.down, &mut self.up);
        visit(&mut self.client, self.now, &mut self.up);
    }

    fn audit(&self, n: u64) -> Result<(), Failure> {
        for stack in [&self.server, &self.client] {
            stack.audit().map_err(|broken| Failure::Sums(vec![broken]))?;
            let stats = stack.stats();
            if stats.sum(Kind::End) > 0 || stats.get(Counter::ConnsOpen) != n {
                let what = format!("idle: expected {n} connections open, found {stats:?}");
                return Err(Failure::Sums(vec![what]));
            }
        }
        Ok(())
    }
}

/// What is due happens, and what there is to send goes out.
fn visit(stack: &mut Stack, now: Instant, wire: &mut Wire) {
    stack.on_timeout(now);
    while let Some(event) = stack.poll_event() {
        stack.event_done(&event);
    }
    transmit(stack, now, wire);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_is_probed_once_in_its_time() {
        let idle = measure(6_400, Duration::from_secs(120)).expect("it runs");
        // Half of the time has passed: half of the connections, give or take a batch at each edge.
        assert!((3_072..=3_328).contains(&idle.probes), "{idle:?}");
        assert!(idle.percent > 0.0, "{idle:?}");
    }
}
