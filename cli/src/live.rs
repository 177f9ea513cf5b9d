//! The line that a load test prints each second: what moved, with its rate; zeros are left out,
//! failures and an impaired path carry a star. It is made from two moments of the test and knows no clock.

use std::fmt::Write;

use barewire_api::control::LoadProgress;
use barewire_api::report::LoadPhase;
use barewire_api::unit::grouped;

/// The line for `now`, with rates since `before`.
pub(crate) fn line(before: &LoadProgress, now: &LoadProgress) -> String {
    let mut line = format!("{:>4}s {:<8}", now.elapsed_ms / 1_000, now.phase);
    let elapsed_ms = now.elapsed_ms.saturating_sub(before.elapsed_ms).max(1);
    push(&mut line, "open", now.open, None);
    for (name, was, is) in [
        ("opened", before.opened, now.opened),
        ("responses", before.responses, now.responses),
        ("closed", before.closed, now.closed),
    ] {
        let rate = is.saturating_sub(was).saturating_mul(1_000) / elapsed_ms;
        push(&mut line, name, is, Some(rate));
    }
    // While connections close, what is resident tells of those that were open.
    if now.phase != LoadPhase::Close
        && let Some(bytes) = now.bytes_resident.checked_div(now.open)
    {
        push(&mut line, "bytes/conn", bytes, None);
    }
    if now.impaired {
        line.push_str("  *impaired");
    }
    if now.failed > 0 {
        let reasons: Vec<String> =
            now.failures.iter().map(|(failure, n)| format!("{} {failure}", grouped(*n))).collect();
        push(&mut line, "*failed", now.failed, None);
        add(&mut line, format_args!(" ({})", reasons.join(", ")));
    }
    line
}

/// Appends `name n` and the rate, unless there is nothing to say.
fn push(line: &mut String, name: &str, n: u64, rate: Option<u64>) {
    if n == 0 {
        return;
    }
    add(line, format_args!("  {name} {}", grouped(n)));
    if let Some(rate) = rate.filter(|&rate| rate > 0) {
        add(line, format_args!(" (+{}/s)", grouped(rate)));
    }
}

fn add(line: &mut String, text: std::fmt::Arguments<'_>) {
    line.write_fmt(text).expect("a String takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use barewire_api::failure::Failure;

    use super::*;

    #[test]
    fn zeros_are_left_out_and_failures_are_starred() {
        let before = LoadProgress::default();
        let now = LoadProgress {
            phase: LoadPhase::Ramp,
            elapsed_ms: 2_000,
            opened: 400_000,
            open: 399_000,
            ..LoadProgress::default()
        };
        let text = "   2s ramp      open 399,000  opened 400,000 (+200,000/s)";
        assert_eq!(line(&before, &now), text);
        let later = LoadProgress {
            phase: LoadPhase::Hold,
            elapsed_ms: 3_000,
            failed: 3,
            failures: BTreeMap::from([(Failure::Refused, 1), (Failure::Reset, 2)]),
            bytes_resident: 399_000 * 300,
            impaired: true,
            ..now.clone()
        };
        assert_eq!(
            line(&now, &later),
            "   3s hold      open 399,000  opened 400,000  bytes/conn 300  *impaired  *failed 3 (1 refused, 2 reset)"
        );
    }
}
