//! The simulator over a few seeds, as `cargo test` runs it: all pass, each fault that can be drawn
//! has bitten, the same seed is the same run, and the oracle finds what is planted. Thousands of
//! seeds are for `cargo run --release -p barewire-stack --bin sim`.

use barewire_stack::sim::{self, Failure, Hooks, Plan, Report};
use barewire_stack::stats::Counter;
use barewire_stack::tcp::State;

/// Seeds of one test; they take about ten seconds without optimization.
const N_SEEDS: u64 = 150;

fn run(seed: u64, hooks: Hooks) -> Result<Report, Failure> {
    sim::run(Plan::draw(seed), hooks, None)
}

#[test]
fn seeds_pass_and_meet_every_fault() {
    let mut sums = vec![0; Counter::ALL.len()];
    let mut rings = [0; 5];
    let (mut lost, mut copies, mut connections) = (0, 0, 0);
    for seed in 0..N_SEEDS {
        let report = run(seed, Hooks::default());
        let report = report.unwrap_or_else(|wrong| panic!("sim --seed {seed}: {wrong:?}"));
        for (sum, &counter) in sums.iter_mut().zip(Counter::ALL) {
            *sum += report.counters.get(counter);
        }
        let r = report.rings;
        let drops = [r.fill_empty, r.rx_full, r.handed_over, r.inbox_full, r.tx_stalls];
        for (sum, n) in rings.iter_mut().zip(drops) {
            *sum += n;
        }
        lost += report.frames.lost;
        copies += report.frames.copies;
        connections += report.connections;
    }
    assert!(lost > 1_000 && copies > 1_000, "{lost} {copies}");
    assert!(rings.iter().all(|&n| n > 0), "fill, rx, handed, inbox, tx: {rings:?}");
    assert!(connections > 500, "{connections}");
    for counter in [
        Counter::ConnsClosed,
        Counter::ConnsReset,
        Counter::ConnsAborted,
        Counter::ConnsRefused,
        Counter::ConnsTimedOut,
        Counter::TcpOutOfOrder,
        Counter::TcpTimeouts,
        Counter::TcpProbes,
        Counter::TcpChallengeAcks,
        Counter::DropTcpChecksum,
        Counter::DropPaws,
        Counter::DropRst,
        Counter::DropSyn,
        Counter::DropAck,
        Counter::DropReassembly,
        Counter::ArpRequests,
        Counter::RssChecked,
        Counter::RssMismatched,
    ] {
        let at = Counter::ALL.iter().position(|&c| c == counter);
        assert!(at.is_some_and(|at| sums[at] > 0), "nothing met {}", counter.name());
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let trace = |seed| {
        let report = run(seed, Hooks::default()).expect("these seeds pass");
        (report.trace, report.virtual_time, report.segments)
    };
    let mut traces: Vec<_> = (0..10).map(trace).collect();
    assert_eq!(traces, (0..10).map(trace).collect::<Vec<_>>());
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 10, "no two seeds are the same run");
}

/// What the oracle says of runs in which `hooks` were planted. A connection may end before what was
/// planted can show, and not every host has more than one queue, but some do.
fn found(hooks: Hooks) -> String {
    let found: Vec<String> =
        (0..10).filter_map(|seed| run(seed, hooks).err()).map(|failure| failure.what).collect();
    assert!(found.len() >= 3, "found in {} of ten runs", found.len());
    found[0].clone()
}

#[test]
fn a_byte_that_differs_is_found() {
    let what = found(Hooks { flips_byte: true, ..Hooks::default() });
    assert!(what.contains("the stream differs at offset 0"), "{what}");
}

#[test]
fn a_frame_that_is_forgotten_is_found() {
    let what = found(Hooks { forgets_frame: true, ..Hooks::default() });
    assert!(what.contains("the ledger says"), "{what}");
}

#[test]
fn a_transition_that_the_rfc_does_not_know_is_found() {
    let what = found(Hooks { plants_state: Some(State::LastAck), ..Hooks::default() });
    assert!(what.contains("an illegal transition"), "{what}");
}

#[test]
fn ports_that_answer_to_another_worker_are_found() {
    let what = found(Hooks { misreads_rss: true, ..Hooks::default() });
    assert!(what.contains("arrived at queue"), "{what}");
}
