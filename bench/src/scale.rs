//! Many connections: what each takes in memory, and what a lookup and a request cost among them. Real
//! handshakes between the engine's server and either a stack like it or a stateless crowd, over the
//! in-process wire, in one thread. One line of JSON comes out; text for people goes to the standard
//! error.

mod clients;
mod field;
mod instructions;

use crate::rig::Failure;
use barewire_api::unit::{Count, Ratio, grouped};
use barewire_engine::sys::clock;
use barewire_engine::sys::memory::{available_bytes, resident_bytes};
use barewire_stack::dice::{self, Dice};
use barewire_stack::stack::Memory;
use barewire_stack::stats::Counter;
use barewire_stack::time::{Duration, Instant};
use clap::Args;
pub(crate) use clients::plan;
use field::{Field, Turns};
use serde::Serialize;
use std::cell::Cell;
use std::io::Write;
use std::path::PathBuf;

/// Lookups that are timed.
const LOOKUPS: u64 = 1_000_000;

/// Connections that are opened to learn what one of them takes, before all of them are.
const REHEARSAL: u64 = 20_000;

/// The least share of connections that exchange a request.
const SAMPLE_PPM_MIN: u32 = 10_000;

/// How long a connection stays awake at most when nothing happens on it: far longer than it does.
const AWAKE_MAX: Duration = Duration::from_secs(10);

/// Closes that the server begins in one turn.
const CLOSES_MAX: u64 = 256;

/// Goals, in bytes and microseconds.
const IDLE_BYTES_MAX: f64 = 72.0;
const TIME_WAIT_BYTES_MAX: f64 = 32.0;
const TURN_US_MAX: f64 = 1_000.0;

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Connections open at the same time
    #[arg(long, value_name = "N", default_value = "1m")]
    connections: Count,
    /// A crowd that keeps two bits per connection plays the clients
    #[arg(long)]
    stateless: bool,
    /// The share of connections, chosen at random, that exchange a request; at least 1%
    #[arg(long, value_name = "PART", default_value = "1%")]
    sample: Ratio,
    /// The share that is closed at the end, half of it by the server
    #[arg(long, value_name = "PART", default_value = "10%")]
    close: Ratio,
    /// Count instructions too: this program runs itself under valgrind, with 1 k, 1 M and 10 M
    /// connections as far as N goes
    #[arg(long)]
    callgrind: bool,
    /// Fail when a goal is missed: 72 bytes an idle connection, 32 in TIME-WAIT, 1 ms a turn
    #[arg(long)]
    goals: bool,
    /// Write the line of JSON there; `-` is the standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    json: PathBuf,
}

/// What a run measured. Bytes are those of records, table and buffers, as the stack accounts for them;
/// `resident` ones are those of the whole process, as the kernel does.
#[derive(Debug, Serialize)]
struct Outcome {
    connections: u64,
    stateless: bool,
    bytes_per_connection_server: f64,
    bytes_per_connection_client: f64,
    /// Of both ends together, everything that the process took on since nothing was open.
    resident_bytes_per_connection: f64,
    opens_per_second: f64,
    /// Of the server, while the connections were opened.
    turns_while_growing: Turns,
    lookups: u64,
    lookup_ns: f64,
    requests: u64,
    /// CPU time of the server for one request, everything included.
    request_ns: f64,
    closed: u64,
    time_waits: u64,
    /// Absent when nothing was closed by the server.
    time_wait_bytes: Option<f64>,
    server_bytes_open: usize,
    server_bytes_closed: usize,
    resident_bytes_open: u64,
    resident_bytes_closed: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    instructions: Vec<instructions::Instructions>,
}

/// Runs and prints; an error when a sum does not hold, or a goal is missed where that matters.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if options.callgrind {
        instructions::check()?;
    }
    check(options)?;
    let mut outcome = measure(options)?;
    if options.callgrind {
        outcome.instructions = instructions::run(options)?;
    }
    let mut line = serde_json::to_string(&outcome).expect("an outcome has a JSON form");
    line.push('\n');
    let written = match options.json.to_str() {
        Some("-") => std::io::stdout().write_all(line.as_bytes()),
        _ => std::fs::write(&options.json, line),
    };
    written.map_err(|error| Failure::Os("write the outcome", error))?;
    if options.goals { outcome.check_goals() } else { Ok(()) }
}

/// Refuses what cannot be done before the first connection.
fn check(options: &Options) -> Result<(), Failure> {
    let n = options.connections.0;
    let tuples = plan().n_tuples().min(u64::from(u32::MAX));
    let refuse = |what: &str, found: String, fix: &str| {
        Err(Failure::Plan(barewire_api::ConfigError::new(what, found, fix)))
    };
    if n == 0 || n > tuples {
        let found = format!("expected 1 to {} connections, found {}", grouped(tuples), grouped(n));
        return refuse("--connections", found, "choose a number in that range");
    }
    if options.sample.ppm() < SAMPLE_PPM_MIN {
        let found = format!("expected at least 1%, found {}", options.sample);
        return refuse("--sample", found, "ask more connections: fewer are no sample");
    }
    check_memory(options)
}

/// Opens a few to learn what one takes, and refuses what the machine has no memory for.
fn check_memory(options: &Options) -> Result<(), Failure> {
    let n = options.connections.0;
    if n <= REHEARSAL {
        return Ok(());
    }
    let mut field = Field::new(REHEARSAL, options.stateless)?;
    open(&mut field, REHEARSAL)?;
    fall_asleep(&mut field)?;
    let server = total(field.server_memory()) as f64 / REHEARSAL as f64;
    let client = field.clients.bytes() as f64 / REHEARSAL as f64;
    let per_connection = server + client;
    // A quarter more: a table that grows has places for connections that are still to come.
    let needed = (per_connection * n as f64 * 1.25) as u64;
    let available = available_bytes().map_err(|e| Failure::Os("read the available memory", e))?;
    eprintln!(
        "memory       {} connections x ({server:.1} bytes on the server + {client:.2} on the client) \
         and a quarter: {} of {} that are available",
        grouped(n),
        mib(needed),
        mib(available)
    );
    if needed <= available {
        return Ok(());
    }
    Err(Failure::Machine(format!(
        "{} connections x {per_connection:.1} bytes and a quarter need {}, and {} are available: use \
         at most --connections {}{}",
        grouped(n),
        mib(needed),
        mib(available),
        grouped((available as f64 / per_connection / 1.25) as u64),
        if options.stateless { "" } else { ", or --stateless clients" }
    )))
}

fn measure(options: &Options) -> Result<Outcome, Failure> {
    let n = options.connections.0;
    let resident = || resident_bytes().map_err(|e| Failure::Os("read resident memory", e));
    let mut field = Field::new(n, options.stateless)?;
    let resident_before = resident()?;

    let began_at = clock::now();
    open(&mut field, n)?;
    let took = clock::now() - began_at;
    let turns = field.turns();
    fall_asleep(&mut field)?;
    let (server_bytes, client_bytes) = (total(field.server_memory()), field.clients.bytes());
    let resident_open = resident()?;
    eprintln!("opened       {} in {:.1} s", grouped(n), took.as_secs_f64());

    let lookups = LOOKUPS.min(100 * n);
    let lookup_ns = look_up(&mut field, n, lookups).as_nanos() as f64 / lookups as f64;
    let (requests, request_ns) = ask(&mut field, n, options.sample)?;
    eprintln!("answered     {} requests on connections chosen at random", grouped(requests));

    let n_closed = part(n, options.close);
    let time_wait_bytes = close_by_server(&mut field, n, n_closed / 2)?;
    close_by_clients(&mut field, n_closed / 2..n_closed)?;
    let time_waits = field.server_counter(Counter::ConnsTimeWait);
    forget(&mut field)?;
    field.audit()?;
    let per_connection = |bytes: u64| bytes as f64 / n as f64;
    Ok(Outcome {
        connections: n,
        stateless: options.stateless,
        bytes_per_connection_server: per_connection(server_bytes as u64),
        bytes_per_connection_client: per_connection(client_bytes as u64),
        resident_bytes_per_connection: per_connection(
            resident_open.saturating_sub(resident_before),
        ),
        opens_per_second: n as f64 / took.as_secs_f64(),
        turns_while_growing: turns,
        lookups,
        lookup_ns,
        requests,
        request_ns,
        closed: n_closed,
        time_waits,
        time_wait_bytes,
        server_bytes_open: server_bytes,
        server_bytes_closed: total(field.server_memory()),
        resident_bytes_open: resident_open,
        resident_bytes_closed: resident()?,
        instructions: Vec::new(),
    })
}

/// Opens all connections.
fn open(field: &mut Field, n: u64) -> Result<(), Failure> {
    let mut told_at = clock::now();
    let order = |field: &mut Field, now: Instant| {
        while field.clients.open(now) {}
        if clock::now() - told_at > Duration::from_secs(5) {
            told_at = clock::now();
            eprintln!("opening      {}", grouped(field.clients.tally().established));
        }
    };
    field.run("opening", order, |field| field.clients.tally().established == n)?;
    // The last acknowledgements are still on the way.
    let is_open = |field: &mut Field| field.server_counter(Counter::ConnsEstablished) == n;
    field.run("opening", |_, _| {}, is_open)
}

/// Lets the time pass after which a connection that has nothing to do sleeps.
fn fall_asleep(field: &mut Field) -> Result<(), Failure> {
    field.jump(AWAKE_MAX);
    field.run("falling asleep", |_, _| {}, |field| field.n_awake() == 0)
}

/// Looks up connections chosen at random in the server's table. Measured by name under valgrind.
#[inline(never)]
fn look_up(field: &mut Field, n: u64, lookups: u64) -> Duration {
    let mut dice = Dice::new(1);
    let began_at = clock::now();
    let found = (0..lookups).filter(|_| field.server_id(dice.below(n)).is_some()).count();
    let took = clock::now() - began_at;
    assert_eq!(found as u64, lookups, "all of them are open");
    took
}

/// A request on each connection of a random sample. How many, and the server's time for one.
fn ask(field: &mut Field, n: u64, sample: Ratio) -> Result<(u64, f64), Failure> {
    let mut dice = Dice::new(2);
    let ratio = dice::Ratio::from_ppm(sample.ppm());
    let (next, asked) = (Cell::new(0), Cell::new(0));
    let order = |field: &mut Field, now: Instant| {
        while next.get() < n && !field.clients.is_full() {
            let idx = next.replace(next.get() + 1);
            // At least one, however few connections there are.
            if dice.happens(ratio) || idx == 0 {
                field.clients.request(now, idx);
                asked.set(asked.get() + 1);
            }
        }
    };
    let is_done =
        |field: &mut Field| next.get() == n && field.clients.tally().responded == asked.get();
    field.start_counting();
    field.run("asking", order, is_done)?;
    field.stop_counting();
    let requests = asked.get();
    Ok((requests, field.cpu_ns() / requests as f64))
}

/// The server closes the first `n_closed` connections: they rest in TIME-WAIT there. What one of them
/// takes: its record, and its part of the table.
fn close_by_server(field: &mut Field, n: u64, n_closed: u64) -> Result<Option<f64>, Failure> {
    if n_closed == 0 {
        return Ok(None);
    }
    let mut next = 0;
    let order = |field: &mut Field, now: Instant| {
        let last = (next + CLOSES_MAX).min(n_closed);
        for idx in next..last {
            let id = field.server_id(idx).expect("it is open");
            field.visit(|stack| stack.close(now, id));
        }
        next = last;
    };
    // The first of very many may have rested their time already.
    let is_done = |field: &mut Field| {
        field.clients.tally().closed == n_closed
            && field.server_counter(Counter::ConnsOpen) == n - n_closed
    };
    field.run("closing by the server", order, is_done)?;
    fall_asleep(field)?;
    let (memory, resting) = (field.server_memory(), field.server_counter(Counter::ConnsTimeWait));
    let tuples = (n - n_closed + resting) as f64;
    let bytes = memory.time_wait as f64 / resting as f64 + memory.table as f64 / tuples;
    Ok((resting > 0).then_some(bytes))
}

fn close_by_clients(field: &mut Field, range: std::ops::Range<u64>) -> Result<(), Failure> {
    let mut next = range.start;
    let order = |field: &mut Field, now: Instant| {
        while next < range.end && !field.clients.is_full() {
            field.clients.close(now, next);
            next += 1;
        }
    };
    field.run("closing by the clients", order, |field| field.clients.tally().closed == range.end)
}

/// Lets the time of everything in TIME-WAIT pass.
fn forget(field: &mut Field) -> Result<(), Failure> {
    let time_wait = field.visit(|stack| stack.config().tcp.time_wait);
    field.jump(time_wait + Duration::from_secs(1));
    let is_done = |field: &mut Field| field.server_counter(Counter::ConnsTimeWait) == 0;
    field.run("forgetting", |_, _| {}, is_done)
}

/// Everything that grows with connections.
fn total(memory: Memory) -> usize {
    memory.connections() + memory.buffers
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", grouped(bytes.div_ceil(1 << 20)))
}

fn part(n: u64, share: Ratio) -> u64 {
    (u128::from(n) * u128::from(share.ppm()) / 1_000_000) as u64
}

impl Outcome {
    fn check_goals(&self) -> Result<(), Failure> {
        let mut goals = vec![
            ("bytes of an idle connection", self.bytes_per_connection_server, IDLE_BYTES_MAX),
            ("us of the longest turn", self.turns_while_growing.cpu_max_us, TURN_US_MAX),
        ];
        goals.extend(self.time_wait_bytes.map(|b| ("bytes in TIME-WAIT", b, TIME_WAIT_BYTES_MAX)));
        let missed = goals.into_iter().filter(|&(_, found, max)| found > max);
        let missed: Vec<_> = missed
            .map(|(what, found, max)| format!("{what}: expected at most {max}, found {found:.1}"))
            .collect();
        if missed.is_empty() { Ok(()) } else { Err(Failure::Sums(missed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(connections: u64, stateless: bool) -> Options {
        Options {
            connections: Count(connections),
            stateless,
            sample: "5%".parse().expect("a share"),
            close: "20%".parse().expect("a share"),
            callgrind: false,
            goals: false,
            json: PathBuf::from("-"),
        }
    }

    #[test]
    fn clients_of_both_kinds_open_ask_and_close() {
        for stateless in [false, true] {
            let outcome = measure(&options(3_000, stateless)).expect("it runs");
            assert_eq!((outcome.closed, outcome.time_waits), (600, 300));
            // 150 expected; five standard deviations are 60.
            assert!((90..210).contains(&outcome.requests), "{outcome:?}");
            assert!(outcome.bytes_per_connection_server > 64.0, "{outcome:?}");
            assert_eq!(outcome.bytes_per_connection_client < 1.0, stateless, "{outcome:?}");
            assert!(outcome.turns_while_growing.cpu_max_us > 0.0, "{outcome:?}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_before_the_first_connection() {
        let sample = Options { sample: "0.5%".parse().expect("a share"), ..options(1_000, true) };
        for (options, status, words) in [
            (options(0, true), 2, "expected 1 to 4,2"),
            (options(u64::MAX, true), 2, "found 18,446,744,073,709,551,615"),
            (sample, 2, "expected at least 1%, found 0.5%"),
            (options(4_000_000_000, true), 3, "are available: use at most --connections "),
        ] {
            let failure = check(&options).expect_err("it cannot be");
            assert_eq!(failure.status(), status, "{failure}");
            assert!(failure.to_string().contains(words), "{failure}");
        }
    }

    #[test]
    fn a_goal_that_is_missed_is_named_with_what_was_found() {
        let outcome = measure(&options(1_000, true)).expect("it runs");
        let fat = Outcome { bytes_per_connection_server: 73.0, ..outcome };
        let failure = fat.check_goals().expect_err("one byte too many").to_string();
        assert!(failure.contains("bytes of an idle connection: expected at most 72, found 73.0"));
    }
}
