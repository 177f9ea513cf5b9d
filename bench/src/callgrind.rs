//! Instructions where time is too coarse: the program runs itself again under valgrind, which counts
//! what is executed in one function and all that it calls, and nothing else. Instructions do not
//! depend on what else the machine does.

use crate::rig::Failure;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs, io, process};

/// Refuses a machine without valgrind; `leave_out` says how to do without it.
pub(crate) fn check(leave_out: &str) -> Result<(), Failure> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failure::Machine(format!(
            "expected valgrind to count instructions, found none; install the package valgrind, or \
             {leave_out}"
        ))),
    }
}

/// Runs this program with `args` and counts the instructions of `function`. The sum, and what the run
/// printed.
pub(crate) fn count(function: &str, args: &[String]) -> Result<(f64, Vec<u8>), Failure> {
    let os = |what| move |error: io::Error| Failure::Os(what, error);
    let program = env::current_exe().map_err(os("find this program"))?;
    let file = env::temp_dir().join(format!("barewire-bench-callgrind-{}", process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(args);
    let output = valgrind.stderr(Stdio::inherit()).output().map_err(os("run valgrind"))?;
    let text = fs::read_to_string(&file);
    // Nothing is left behind, also when the run failed.
    let _ = fs::remove_file(&file);
    if !output.status.success() {
        return Err(Failure::Machine(format!("the run under valgrind failed: {}", output.status)));
    }
    let total = total(&text.map_err(os("read what callgrind wrote"))?, &file)?;
    Ok((total, output.stdout))
}

/// The sum over everything that was collected.
fn total(text: &str, file: &Path) -> Result<f64, Failure> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    line.and_then(|total| total.trim().parse().ok()).filter(|&total: &f64| total > 0.0).ok_or_else(
        || {
            Failure::Machine(format!(
                "expected a sum of instructions from callgrind, found none in {}; is this a release \
                 build with symbols?",
                file.display()
            ))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_found_and_none_is_an_error() {
        let file = Path::new("/tmp/out");
        assert_eq!(total("events: Ir\ntotals: 1234\n", file).expect("it is there"), 1234.0);
        for text in ["", "totals: 0\n", "totals: many\n"] {
            let failure = total(text, file).expect_err("nothing was counted").to_string();
            assert!(failure.contains("found none in /tmp/out"), "{failure}");
        }
    }
}
