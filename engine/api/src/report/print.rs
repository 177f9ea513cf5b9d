//! The page of text at the end of a load test. Every figure comes from the report; the identities
//! among them are stated with both sides, so that a reader can check the sum.

use std::fmt;

use super::{LoadPhase, LoadReport, Percentiles, PhaseReport};
use crate::config::{LoadProtocol, Prefix};
use crate::unit::grouped;

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_plan(f, self)?;
        self.phases.iter().try_for_each(|phase| print_phase(f, phase))?;
        print_connections(f, self)?;
        if self.requests > 0 {
            let lost = self.requests.saturating_sub(self.responses);
            writeln!(
                f,
                "requests     {} sent, {} answered, {} not; {} bytes out, {} bytes in",
                grouped(self.requests),
                grouped(self.responses),
                grouped(lost),
                grouped(self.bytes_sent),
                grouped(self.bytes_received),
            )?;
        }
        print_percentiles(f, "connect", &self.connect)?;
        print_percentiles(f, "request", &self.request)?;
        print_memory(f, self)?;
        print_frames(f, self)?;
        print_failures(f, self)
    }
}

fn print_plan(f: &mut fmt::Formatter<'_>, report: &LoadReport) -> fmt::Result {
    let plan = &report.plan;
    write!(f, "load {}: {} connections", plan.mode, grouped(plan.connections.0))?;
    if !plan.src.is_empty() {
        let src: Vec<String> = plan.src.iter().map(Prefix::to_string).collect();
        write!(f, " from {}", src.join(","))?;
    }
    match plan.dst.as_slice() {
        [dst] => write!(f, " to {dst}")?,
        dst => write!(f, " to {} destinations", dst.len())?,
    }
    match &plan.protocol {
        LoadProtocol::Echo => write!(f, ", echo of {} bytes", plan.request_bytes)?,
        LoadProtocol::Http { path } => write!(f, ", HTTP GET {path}")?,
    }
    if plan.stateless {
        f.write_str(", stateless clients")?;
    }
    let workers = if report.n_workers == 1 { "worker" } else { "workers" };
    writeln!(f, ", {} {workers}", report.n_workers)?;
    if report.interrupted {
        writeln!(f, "* interrupted: the figures below are those of a part of the test")?;
    }
    if !report.impairments.is_none() {
        writeln!(f, "* impaired: the engine spoilt its own frames ({})", report.impairments)?;
    }
    Ok(())
}

fn print_phase(f: &mut fmt::Formatter<'_>, phase: &PhaseReport) -> fmt::Result {
    let took = duration_text(phase.duration_ns);
    let what = match phase.phase {
        LoadPhase::Ramp => "opened",
        LoadPhase::Exchange | LoadPhase::Run => "answered",
        LoadPhase::Close => "closed",
        LoadPhase::Idle | LoadPhase::Hold | LoadPhase::Done => {
            return writeln!(f, "{:<12} {took:>9}", phase.phase);
        }
    };
    let rate = grouped(phase.rate() as u64);
    writeln!(f, "{:<12} {took:>9}  {} {what}, {rate}/s", phase.phase, grouped(phase.count))
}

fn print_connections(f: &mut fmt::Formatter<'_>, report: &LoadReport) -> fmt::Result {
    writeln!(
        f,
        "connections  {} opened = {} closed + {} open + {} failed{}",
        grouped(report.opened),
        grouped(report.closed),
        grouped(report.open),
        grouped(report.failed),
        if report.adds_up() { "" } else { "   * DOES NOT ADD UP" },
    )?;
    writeln!(f, "             {} open at the same time", grouped(report.peak_open))
}

fn print_percentiles(f: &mut fmt::Formatter<'_>, name: &str, figures: &Percentiles) -> fmt::Result {
    if figures.count + figures.lost == 0 {
        return Ok(());
    }
    let text = |ns: Option<u64>| ns.map_or_else(|| "never".to_owned(), duration_text);
    write!(
        f,
        "{name:<12} p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
        text(figures.p50),
        text(figures.p90),
        text(figures.p99),
        text(figures.p999),
        text(figures.max),
    )?;
    match figures.lost {
        0 => writeln!(f),
        lost => writeln!(f, "; {} without an answer count as slower", grouped(lost)),
    }
}

fn print_memory(f: &mut fmt::Formatter<'_>, report: &LoadReport) -> fmt::Result {
    write!(f, "memory       {} bytes resident at the peak", grouped(report.bytes_resident))?;
    match report.bytes_per_connection {
        Some(bytes) => writeln!(f, ", {} per connection, all included", grouped(bytes)),
        None => writeln!(f),
    }
}

fn print_frames(f: &mut fmt::Formatter<'_>, report: &LoadReport) -> fmt::Result {
    let frames = &report.frames;
    let verdict = if frames.balances() { "conserved" } else { "* NOT CONSERVED" };
    writeln!(
        f,
        "frames       {} of {} accounted for: {verdict}",
        grouped(frames.accounted()),
        grouped(frames.total),
    )
}

fn print_failures(f: &mut fmt::Formatter<'_>, report: &LoadReport) -> fmt::Result {
    if report.failures.is_empty() {
        return writeln!(f, "errors       none");
    }
    report.failures.iter().try_for_each(|(failure, n)| {
        writeln!(f, "* {:<18} {:>12}  {}", failure.word(), grouped(*n), failure.sentence())
    })
}

/// A duration with three or four digits and the unit that suits it: `1.24ms`.
pub fn duration_text(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$}{unit}")
}
