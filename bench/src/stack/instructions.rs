//! Instructions of a request and its response, counted in runs of this program under valgrind. The clock
//! of a case is invented and its secrets are fixed: the same program counts the same each time.

use super::case::{Case, Contestant};
use crate::callgrind;
use crate::rig::Failure;

/// Instructions for each request of a case, what is around the stacks included.
pub(super) fn of(case: Case) -> Result<f64, Failure> {
    eprintln!("counting     the instructions of {case} ...");
    let function = match case.contestant {
        Contestant::Barewire => "*barewire::Pair::exchange",
        Contestant::Smoltcp => "*smoltcp::Pair::exchange",
    };
    let (name, requests) = (case.to_string(), case.counted.to_string());
    let args = ["stack", "--only", &name, "--requests", &requests].map(str::to_owned);
    let (total, _) = callgrind::count(function, &args)?;
    Ok(total / case.counted as f64)
}
