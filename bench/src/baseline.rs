//! Instructions that single operations and requests take, beside those that are committed with the
//! source: a change that makes something slower is seen in the change that does it. They are counted
//! by valgrind and depend on the compiler and its flags, not on the machine's load; so they are
//! compared only with what the same compiler made.

use crate::callgrind;
use crate::rig::Failure;
use crate::stack::Only;
use barewire_bench::micro::OPERATIONS;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How much worse anything may become, in percent.
const WORSE_MAX: f64 = 3.0;

/// Requests that are counted beside the operations: those whose connections are soon open.
const CASES: [&str; 3] = ["barewire_1", "barewire_16", "barewire_1k"];

/// What to do.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Compare with what is committed, or write what is to be committed
    #[arg(value_enum)]
    action: Action,
    /// Where it is
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.json"))]
    file: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    Check,
    Write,
}

/// What is committed.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Baseline {
    made_with: Maker,
    /// Of one operation, or one request and its response.
    instructions: BTreeMap<String, f64>,
}

/// What compiled the program.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Maker {
    rustc: String,
    target: String,
    flags: String,
}

/// How a count compares.
#[derive(Debug, PartialEq)]
enum Change {
    Worse(String),
    Better(String),
    /// On one side only.
    Unmatched(String),
}

/// Counts, and compares or writes.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    callgrind::check("leave the baseline to a machine that has it")?;
    let committed = match options.action {
        Action::Check => Some(read(&options.file)?),
        Action::Write => None,
    };
    if let Some(committed) = &committed {
        committed.made_with.check_same(&Maker::of_this())?;
    }
    let found = Baseline { made_with: Maker::of_this(), instructions: count()? };
    match committed {
        Some(committed) => committed.compare(&found.instructions),
        None => write(&options.file, &found),
    }
}

fn count() -> Result<BTreeMap<String, f64>, Failure> {
    let names = OPERATIONS.iter().map(|operation| operation.name).chain(CASES);
    names
        .map(|name| {
            let instructions = Only::named(name).expect("they are named here").instructions()?;
            // A tenth of an instruction is nobody's.
            Ok((name.to_owned(), (instructions * 10.0).round() / 10.0))
        })
        .collect()
}

fn read(file: &Path) -> Result<Baseline, Failure> {
    let wrong = |found: String| {
        let file = file.display();
        Failure::Machine(format!(
            "{file}: expected a baseline, found {found}; write it with `barewire-bench baseline write`"
        ))
    };
    let text = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn write(file: &Path, baseline: &Baseline) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(baseline).expect("a baseline has a JSON form");
    text.push('\n');
    fs::write(file, text).map_err(|e| Failure::Os("write the baseline", e))?;
    println!("{}: {} counts written", file.display(), baseline.instructions.len());
    Ok(())
}

impl Maker {
    /// What compiled this program.
    fn of_this() -> Self {
        Maker {
            rustc: env!("BENCH_RUSTC").to_owned(),
            target: env!("BENCH_TARGET").to_owned(),
            flags: env!("BENCH_FLAGS").to_owned(),
        }
    }

    fn check_same(&self, found: &Maker) -> Result<(), Failure> {
        if self == found {
            return Ok(());
        }
        Err(Failure::Incomparable(format!(
            "the baseline was made with {self}, this program with {found}: build it with the same, or \
             write the baseline anew from a source that is known to be good (`barewire-bench baseline \
             write`) and commit it by itself"
        )))
    }
}

impl std::fmt::Display for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} for {} ({})", self.rustc, self.target, self.flags)
    }
}

impl Baseline {
    /// Prints what has changed; an error when anything is worse than it may be.
    fn compare(&self, found: &BTreeMap<String, f64>) -> Result<(), Failure> {
        let changes = self.changes(found);
        let mut failures = Vec::new();
        for change in changes {
            match change {
                Change::Better(text) => {
                    println!("better: {text}; write the baseline anew to keep it so");
                }
                Change::Worse(text) | Change::Unmatched(text) => failures.push(text),
            }
        }
        if failures.is_empty() {
            println!("{} counts, none more than {WORSE_MAX} % above the baseline", found.len());
            return Ok(());
        }
        failures
            .push("what is meant to be so is written with `barewire-bench baseline write`".into());
        Err(Failure::Sums(failures))
    }

    fn changes(&self, found: &BTreeMap<String, f64>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, &now) in found {
            let Some(&before) = self.instructions.get(name) else {
                changes.push(Change::Unmatched(format!("{name} is not in the baseline")));
                continue;
            };
            let percent = (now / before - 1.0) * 100.0;
            let text = format!("{name}: {before} instructions before, {now} now ({percent:+.1} %)");
            if now > before * (1.0 + WORSE_MAX / 100.0) {
                changes.push(Change::Worse(text));
            } else if now < before * (1.0 - WORSE_MAX / 100.0) {
                changes.push(Change::Better(text));
            }
        }
        let gone = self.instructions.keys().filter(|name| !found.contains_key(*name));
        changes
            .extend(gone.map(|name| Change::Unmatched(format!("{name} is not counted any more"))));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, f64)]) -> BTreeMap<String, f64> {
        of.iter().map(|&(name, n)| (name.to_owned(), n)).collect()
    }

    fn baseline(of: &[(&str, f64)]) -> Baseline {
        Baseline { made_with: Maker::of_this(), instructions: counts(of) }
    }

    #[test]
    fn three_percent_more_is_let_through_and_a_little_more_is_not() {
        let baseline = baseline(&[("parse", 100.0), ("send", 1000.0)]);
        assert_eq!(baseline.changes(&counts(&[("parse", 103.0), ("send", 970.0)])), []);
        let worse = baseline.compare(&counts(&[("parse", 103.2), ("send", 1000.0)]));
        let text = worse.expect_err("it is worse").to_string();
        assert!(text.contains("parse: 100 instructions before, 103.2 now (+3.2 %)"), "{text}");
        assert!(!text.contains("send") && text.contains("baseline write"), "{text}");
    }

    #[test]
    fn better_is_told_and_no_failure() {
        let baseline = baseline(&[("parse", 100.0)]);
        let found = counts(&[("parse", 90.0)]);
        assert!(matches!(&baseline.changes(&found)[..], [Change::Better(_)]));
        baseline.compare(&found).expect("better is good");
    }

    #[test]
    fn what_is_on_one_side_only_fails() {
        let changes = baseline(&[("old", 1.0)]).changes(&counts(&[("new", 1.0)]));
        assert!(changes.iter().all(|change| matches!(change, Change::Unmatched(_))));
        assert_eq!(changes.len(), 2);
    }

    #[test]
    fn another_compiler_is_refused_with_a_status_of_its_own() {
        let other = Maker { rustc: "rustc 1.0.0".to_owned(), ..Maker::of_this() };
        let failure = other.check_same(&Maker::of_this()).expect_err("it is another");
        assert_eq!(failure.status(), 4);
        assert!(failure.to_string().contains("made with rustc 1.0.0 for "), "{failure}");
        Maker::of_this().check_same(&Maker::of_this()).expect("it is the same");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let file = std::env::temp_dir().join(format!("baseline-{}", std::process::id()));
        let baseline = baseline(&[("parse", 100.5)]);
        write(&file, &baseline).expect("it can be written");
        assert_eq!(read(&file).expect("it can be read"), baseline);
        fs::write(&file, "{}").expect("it can be written");
        let failure = read(&file).expect_err("it is no baseline").to_string();
        fs::remove_file(&file).expect("it is there");
        assert!(failure.contains("expected a baseline"), "{failure}");
    }
}
