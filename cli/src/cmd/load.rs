//! `barewire load`: a load test, on a daemon of its own (`--dev` or `--config`) or on one that runs
//! already (`--control`). Follows the test with a line per second, prints its report, and judges it;
//! the traffic and the measuring are the daemon's.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use barewire_api::Config;
use barewire_api::config::{
    CONNECTIONS_MAX, CloseWith, LoadMode, LoadPlan, LoadProtocol, PortRange, Prefix,
    parse_destination,
};
use barewire_api::control::{LoadProgress, Request};
use barewire_api::flags::Flags;
use barewire_api::report::LoadReport;
use barewire_api::unit::{Count, Rate, Ratio, Span, grouped};
use clap::Args;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::client::Client;
use crate::daemon::Daemon;
use crate::exit::{Error, Verdict};
use crate::expect::Expectation;
use crate::live;

/// How often a running test is looked at, and how often that is printed.
const LOOK: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(1);

/// How long an interrupted test may take to give its report.
const REPORT_TIME_MAX: Duration = Duration::from_secs(20);

#[derive(Args, Debug)]
pub(crate) struct Load {
    /// hold: open all, keep them open, exchange on each; rr: one request after the other on each;
    /// cps: connect, one request, close
    #[arg(value_name = "hold|rr|cps")]
    shape: LoadMode,

    #[command(flatten)]
    plan: PlanFlags,

    #[command(flatten)]
    engine: Flags,

    /// Write the report as JSON; `-` is the standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Fail unless the report meets this, such as 'p99<1ms' or 'peak_open>=1m'
    #[arg(long, value_name = "CONDITION")]
    expect: Vec<Expectation>,

    /// So many failed connections are no failure of the test
    #[arg(long, value_name = "N", default_value = "0")]
    allow_failed: Count,

    /// Check configuration and plan, print them in full, and start nothing
    #[arg(long)]
    check: bool,
}

/// Flags that make a [`LoadPlan`], over that of `--config`.
#[derive(Args, Debug)]
struct PlanFlags {
    /// Where connections come from, such as 10.1.0.0/16 [default: the engine's addresses]
    #[arg(long, value_name = "PREFIX", value_delimiter = ',')]
    src: Vec<Prefix>,

    /// Their local ports [default: 1024-65535]
    #[arg(long, value_name = "LO-HI")]
    src_ports: Option<PortRange>,

    /// Where they go; more than one share the load
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', value_parser = parse_destination)]
    dst: Vec<SocketAddrV4>,

    /// How many at the same time, such as 1m [default: 1k]
    #[arg(long, value_name = "N")]
    connections: Option<Count>,

    /// Opens per second at most, such as 200k
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,

    /// Spread the opens evenly over this time
    #[arg(long, value_name = "TIME")]
    ramp: Option<Span>,

    /// How long the test goes on after the ramp [default: 10s]
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,

    /// What is asked and answered: echo, http, http:/PATH [default: echo]
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<LoadProtocol>,

    /// Size of a request with echo [default: 64]
    #[arg(long, value_name = "BYTES")]
    request_bytes: Option<u32>,

    /// hold: requests on each connection, one after the other [default: 1]
    #[arg(long, value_name = "N")]
    exchanges: Option<u32>,

    /// hold: the share of connections, chosen at random, that has these requests [default: 100%]
    #[arg(long, value_name = "PART")]
    sample: Option<Ratio>,

    /// hold, echo: clients that keep two bits per connection, to test a server with any number of
    /// connections from a small machine
    #[arg(long)]
    stateless: bool,

    /// Handshakes, and requests without their response, per worker [default: 1024]
    #[arg(long, value_name = "N")]
    outstanding_max: Option<u32>,

    /// How long a handshake, a response or a close may take [default: 10s]
    #[arg(long, value_name = "TIME")]
    timeout: Option<Span>,

    /// How connections end: fin, rst [default: fin]
    #[arg(long, value_name = "HOW")]
    close: Option<CloseWith>,
}

impl PlanFlags {
    fn lay_over(self, plan: &mut LoadPlan) {
        if !self.src.is_empty() {
            plan.src = self.src;
        }
        if !self.dst.is_empty() {
            plan.dst = self.dst;
        }
        plan.src_ports = self.src_ports.or(plan.src_ports);
        plan.connections = self.connections.unwrap_or(plan.connections);
        plan.rate = self.rate.or(plan.rate);
        plan.ramp = self.ramp.unwrap_or(plan.ramp);
        plan.duration = self.duration.unwrap_or(plan.duration);
        if let Some(protocol) = self.protocol {
            plan.protocol = protocol;
        }
        plan.request_bytes = self.request_bytes.unwrap_or(plan.request_bytes);
        plan.exchanges = self.exchanges.unwrap_or(plan.exchanges);
        plan.sample = self.sample.unwrap_or(plan.sample);
        plan.stateless |= self.stateless;
        plan.outstanding_max = self.outstanding_max.unwrap_or(plan.outstanding_max);
        plan.timeout = self.timeout.unwrap_or(plan.timeout);
        plan.close = self.close.unwrap_or(plan.close);
    }
}

impl Load {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let has_engine = self.engine.dev.is_some() || self.engine.config.is_some();
        let mut config = self.engine.to_config(None)?;
        let mut plan = config.load.take().unwrap_or_default();
        plan.mode = self.shape;
        if !has_engine {
            self.need_running(&config, control)?;
        }
        self.plan.lay_over(&mut plan);
        if has_engine {
            fit_engine(&mut config, &plan, &self.engine);
            Config { load: Some(plan.clone()), ..config.clone() }.check()?;
        }
        if self.check {
            write!(out, "{}", Config { load: Some(plan), ..config }.to_toml())?;
            return Ok(Verdict::Passed);
        }

        // Before the test: a report that finds no place would be a test for nothing.
        let json = self.json.as_deref().map(Json::open).transpose()?;
        let interrupted = watch_signals()?;
        let report = if has_engine {
            let mut daemon = Daemon::start(config, control)?;
            let mut client = daemon.client()?;
            let report = follow(&mut client, plan, &interrupted)?;
            // The report goes out even when the daemon's own books turn out wrong.
            print(&report, json, out)?;
            daemon.stop(&mut client)?;
            report
        } else {
            let report = follow(&mut Client::open(control)?, plan, &interrupted)?;
            print(&report, json, out)?;
            report
        };
        Ok(judge(&report, &self.expect, self.allow_failed))
    }

    /// Refuses flags that a daemon that runs already would not hear of.
    fn need_running(&self, config: &Config, control: Option<&Path>) -> Result<(), Error> {
        let refused = if control.is_none() {
            "expected where to run the test, found nothing; give --dev to start an engine for it, or \
             --control for one that runs"
        } else if self.check {
            "expected an engine to check the plan against, found none; give --dev, or leave out \
             --check: a daemon that runs checks the plan itself"
        } else if *config != Config::default() {
            "expected no flags for the engine, which runs already; leave them out, or give --dev to \
             start another"
        } else {
            return Ok(());
        };
        Err(Error::Usage(refused.to_owned()))
    }
}

/// Makes an engine from flags fit the plan where nobody said otherwise: it owns the sources, and may
/// hold the connections.
fn fit_engine(config: &mut Config, plan: &LoadPlan, flags: &Flags) {
    for src in &plan.src {
        let prefixes = &mut config.interface.prefixes;
        if !prefixes.iter().any(|prefix| prefix.covers(src)) {
            prefixes.push(*src);
        }
    }
    // Stateless clients have no records in the stack.
    if flags.connections_max.is_none() && flags.config.is_none() && !plan.stateless {
        let connections_max = &mut config.tcp.connections_max;
        *connections_max = plan.connections.min(Count(CONNECTIONS_MAX)).max(*connections_max);
    }
}

/// A flag that SIGINT, SIGTERM and SIGHUP set. The second of them ends this process at once.
fn watch_signals() -> Result<Arc<AtomicBool>, Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let again = Arc::clone(&interrupted);
        let first = Arc::clone(&interrupted);
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, again)
            .and_then(|_| signal_hook::flag::register(signal, first))
            .map_err(|error| Error::Environment(format!("cannot catch signals: {error}")))?;
    }
    Ok(interrupted)
}

/// Starts the test and returns its report, also when it is interrupted.
fn follow(
    client: &mut Client,
    plan: LoadPlan,
    interrupted: &AtomicBool,
) -> Result<LoadReport, Error> {
    client.order(&Request::LoadStart { plan })?;
    let mut before = LoadProgress::default();
    let mut line_due = Instant::now() + LINE;
    let mut deadline = None;
    loop {
        sleep(LOOK);
        let now = client.load_progress()?;
        if let Some(report) = now.report {
            return Ok(*report);
        }
        if interrupted.load(Ordering::Relaxed) && deadline.is_none() {
            client.order(&Request::LoadStop)?;
            deadline = Some(Instant::now() + REPORT_TIME_MAX);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::Environment("the interrupted test gave no report".to_owned()));
        }
        if Instant::now() >= line_due {
            eprintln!("{}", live::line(&before, &now));
            before = now;
            line_due += LINE;
        }
    }
}

/// Where the report goes as JSON.
enum Json {
    StandardOutput,
    File(File),
}

impl Json {
    fn open(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Ok(Json::StandardOutput);
        }
        File::create(path).map(Json::File).map_err(|error| Error::file("write", path, &error))
    }
}

/// The report as text, and as JSON where that is wanted. The text makes room for JSON on the
/// standard output.
fn print(report: &LoadReport, json: Option<Json>, out: &mut dyn Write) -> Result<(), Error> {
    match json {
        None => write!(out, "{report}")?,
        Some(Json::StandardOutput) => {
            write!(io::stderr(), "{report}")?;
            serde_json::to_writer_pretty(&mut *out, report).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        Some(Json::File(mut file)) => {
            write!(out, "{report}")?;
            serde_json::to_writer_pretty(&mut file, report).map_err(io::Error::from)?;
            writeln!(file)?;
        }
    }
    Ok(())
}

/// Says on the standard error what is not as it should be.
fn judge(report: &LoadReport, expect: &[Expectation], allow_failed: Count) -> Verdict {
    let mut complaints: Vec<String> =
        expect.iter().filter_map(|expectation| expectation.unmet(report)).collect();
    if report.failed > allow_failed.0 {
        complaints.push(format!(
            "expected at most {} failed connections, found {}",
            grouped(allow_failed.0),
            grouped(report.failed)
        ));
    }
    if report.interrupted {
        complaints.push("the test was interrupted before its end".to_owned());
    }
    if !report.adds_up() {
        complaints.push("opened, closed, open and failed connections do not add up".to_owned());
    }
    if !report.frames.balances() {
        complaints.push(format!(
            "expected {} frames, found {}",
            grouped(report.frames.total),
            grouped(report.frames.accounted())
        ));
    }
    for complaint in &complaints {
        eprintln!("barewire: {complaint}");
    }
    if complaints.is_empty() { Verdict::Passed } else { Verdict::Failed }
}
