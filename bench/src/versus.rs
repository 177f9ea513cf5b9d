//! barewire against the kernel's TCP and against raw AF_XDP, in one run: the same tasks for pairs of ends
//! of all kinds, in short rounds that take turns, so that whatever the machine does besides meets all of
//! them alike. What is kept of a round is its ratios to the others of that round.
//!
//! - `scenario`: what is measured, and the goals
//! - `task`: what both ends of a round do and tell
//! - `lab`, `player`: namespaces, and the processes in them
//! - `end`: such a process; `engine`, `epoll_client`, `epoll_server`, `uring_server`, `raw`: who plays it
//! - `lanes`: more connections than a process may have descriptors
//! - `table`, `plot`: what comes out

mod end;
mod engine;
mod epoll_client;
mod epoll_server;
mod lab;
mod lanes;
mod player;
mod plot;
mod raw;
mod scenario;
mod table;
mod task;
mod uring_server;

pub(crate) use end::{Options as EndOptions, run as run_end};

use crate::rig::Failure;
use barewire_api::ConfigError;
use clap::Args;
use end::{Contestant, Order};
use lab::{Lab, Side};
use player::{Player, Trouble};
use scenario::{Pair, Scenario};
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::fs::{self, DirBuilder};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use std::{env, io, process};
use table::{Round, Sample, Section};
use task::{Task, complaints};

/// Rounds, and seconds of each, of a quick run.
const QUICK: (usize, f64) = (2, 0.3);

/// How long the start and the end of a process may take, and how many connections a second at least
/// are opened and closed.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS_PER_SECOND_MIN: u64 = 2_000;

/// What to run.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds of each pair
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = parse_rounds)]
    rounds: usize,
    /// How long a round measures
    #[arg(long, value_name = "S", default_value_t = 1.5, value_parser = parse_seconds)]
    seconds: f64,
    /// Two rounds of 0.3 s, and not the scenarios with 100,000 connections
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Only the scenario of this name, or all whose first word it is, such as `rr 64` or `rr`
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only pairs with this in their name, such as `raw` or `epoll <->`
    #[arg(long, value_name = "NAME")]
    pair: Option<String>,
    /// Fail when a goal is missed
    #[arg(long)]
    goals: bool,
    /// Write everything there as JSON; `-` is the standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the goals there, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

fn parse_rounds(text: &str) -> Result<usize, String> {
    let refused = || format!("expected a number from 1 to 100, found `{text}`");
    text.parse().ok().filter(|n| (1..=100).contains(n)).ok_or_else(refused)
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let refused = || format!("expected seconds from 0.1 to 60, found `{text}`");
    text.parse().ok().filter(|s| (0.1..=60.0).contains(s)).ok_or_else(refused)
}

/// All that a run found.
#[derive(Debug, Serialize)]
struct Report<'a> {
    rounds: usize,
    seconds: f64,
    kernel: String,
    skipped: &'a [String],
    scenarios: &'a [Section],
}

/// Runs everything, prints it, and leaves nothing behind.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    lab::check()?;
    let (rounds, seconds) = if options.quick { QUICK } else { (options.rounds, options.seconds) };
    let mut scenarios = scenario::all((seconds * 1e3) as u64, options.quick);
    choose(options, &mut scenarios)?;
    let mut skipped = Vec::new();
    if let Err(why) = uring_server::check() {
        for scenario in &mut scenarios {
            scenario.retain(|pair| pair.server != Contestant::IoUring);
        }
        skipped.push(format!("io_uring: {why}"));
    }
    skipped.iter().for_each(|what| eprintln!("versus: skipped {what}"));
    let mut stage = Stage::new()?;
    let mut sections = Vec::new();
    for scenario in &scenarios {
        let section = stage.play(scenario, rounds)?;
        println!("{section}");
        sections.push(section);
    }
    drop(stage);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.trim().to_owned();
    let report = Report { rounds, seconds, kernel, skipped: &skipped, scenarios: &sections };
    publish(options, &report)?;
    judge(options, &sections)
}

/// Leaves the scenarios and pairs that were asked for.
fn choose(options: &Options, scenarios: &mut Vec<Scenario>) -> Result<(), Failure> {
    let part = options.pair.as_deref().unwrap_or_default();
    if let Some(only) = options.only.as_deref() {
        scenarios.retain(|s| s.name == only || s.name.split(' ').next() == Some(only));
    }
    for scenario in scenarios.iter_mut() {
        let shape = scenario.task.shape;
        scenario.retain(|pair| pair.name(shape).contains(part));
    }
    scenarios.retain(|scenario| !scenario.pairs.is_empty());
    if scenarios.is_empty() {
        let all = scenario::all(0, options.quick);
        let names: Vec<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        return Err(Failure::Plan(ConfigError::new(
            "--only, --pair",
            format!("expected one of {}, and a part of a pair's name", names.join(", ")),
            "give the first word of several scenarios, or leave both out for all",
        )));
    }
    Ok(())
}

fn publish(options: &Options, report: &Report<'_>) -> Result<(), Failure> {
    if let Some(path) = &options.json {
        let mut json = serde_json::to_string_pretty(report).expect("a report has a JSON form");
        json.push('\n');
        let written = match path.to_str() {
            Some("-") => io::stdout().write_all(json.as_bytes()),
            _ => fs::write(path, json),
        };
        written.map_err(|error| Failure::Os("write the report", error))?;
    }
    match &options.plot {
        Some(path) => plot::draw(report.scenarios, path)
            .map_err(|why| Failure::Machine(format!("could not draw {}: {why}", path.display()))),
        None => Ok(()),
    }
}

/// A failed round fails the run; a missed goal does where that was asked for. The table has named both.
fn judge(options: &Options, sections: &[Section]) -> Result<(), Failure> {
    let failed: usize = sections.iter().map(Section::n_failed).sum();
    let missed: usize = sections.iter().map(Section::n_missed).sum();
    let mut broken = Vec::new();
    if failed > 0 {
        broken.push(format!("{failed} rounds failed: the table says why"));
    }
    if options.goals && missed > 0 {
        broken.push(format!("{missed} goals were missed: the table says by how much"));
    }
    if broken.is_empty() { Ok(()) } else { Err(Failure::Sums(broken)) }
}

/// Where rounds are played: a wire for each combination of ends, laid when it is first needed.
struct Stage {
    labs: Vec<(Vec<Side>, Lab)>,
    interrupted: Arc<AtomicBool>,
    folder: Folder,
}

impl Stage {
    fn new() -> Result<Self, Failure> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))
                .map_err(|error| Failure::Os("listen to signals", error))?;
        }
        Ok(Stage { labs: Vec::new(), interrupted, folder: Folder::new()? })
    }

    /// All rounds of a scenario. Each round begins with another pair.
    fn play(&mut self, scenario: &Scenario, rounds: usize) -> Result<Section, Failure> {
        let n = scenario.pairs.len();
        let mut played: Vec<Vec<Round>> = vec![Vec::new(); n];
        for round in 0..rounds {
            for turn in 0..n {
                let at = (turn + round) % n;
                eprintln!(
                    "versus: {}, round {} of {rounds}: {}",
                    scenario.name,
                    round + 1,
                    scenario.pairs[at].name(scenario.task.shape)
                );
                played[at].push(self.play_pair(&scenario.pairs[at], &scenario.task)?);
            }
        }
        Ok(Section::new(scenario, &played))
    }

    fn play_pair(&mut self, pair: &Pair, task: &Task) -> Result<Round, Failure> {
        let Pair { client, server, mtu, segmentation_offload } = *pair;
        let task = Task { mtu, segmentation_offload, ..*task };
        self.lay_wire(pair)?;
        let lab = self.lab(pair).expect("it was laid");
        lab.adjust(mtu, segmentation_offload)?;
        let order = |side: Side, contestant| {
            let control = self.folder.0.join(format!("{}.sock", side.interface()));
            Order { side, contestant, task, control }
        };
        let (server, client) = (order(Side::Server, server), order(Side::Client, client));
        match self.play_round(lab, &server, &client) {
            Ok(sample) => {
                let complaints = complaints(&sample.driven, &sample.served);
                Ok(if complaints.is_empty() { Ok(sample) } else { Err(complaints.join("; ")) })
            }
            Err(Trouble::Round(why)) => Ok(Err(why)),
            Err(Trouble::All(failure)) => Err(failure),
        }
    }

    fn play_round(&self, lab: &Lab, server: &Order, client: &Order) -> Result<Sample, Trouble> {
        let many = u64::from(client.task.connections) / CONNECTIONS_PER_SECOND_MIN;
        let patience = PATIENCE + client.task.duration() + Duration::from_secs(many);
        let mut server = Player::start(lab, server, &self.interrupted)?;
        server.ready(PATIENCE)?;
        let client = Player::start(lab, client, &self.interrupted)?;
        let driven = client.driven(patience)?;
        let served = server.served(PATIENCE)?;
        Ok(Sample { driven, served })
    }

    fn lay_wire(&mut self, pair: &Pair) -> Result<(), Failure> {
        if self.lab(pair).is_none() {
            let kernel = kernel_ends(pair);
            let lab = Lab::new(&kernel)?;
            self.labs.push((kernel, lab));
        }
        Ok(())
    }

    fn lab(&self, pair: &Pair) -> Option<&Lab> {
        let kernel = kernel_ends(pair);
        self.labs.iter().find(|(ends, _)| *ends == kernel).map(|(_, lab)| lab)
    }
}

fn kernel_ends(pair: &Pair) -> Vec<Side> {
    let ends = [(Side::Server, pair.server), (Side::Client, pair.client)];
    let is_kernel = |contestant| matches!(contestant, Contestant::Epoll | Contestant::IoUring);
    ends.into_iter()
        .filter(|&(_, contestant)| is_kernel(contestant))
        .map(|(side, _)| side)
        .collect()
}

/// A folder for control sockets, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let path = env::temp_dir().join(format!("barewire-versus-{}", process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| Failure::Os("make a folder for control sockets", error))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing in it but sockets.
        let _ = fs::remove_dir_all(&self.0);
    }
}
