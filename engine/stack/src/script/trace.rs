//! What happened in a play so far, for the reader of a failure.

use crate::time::Instant;
use std::fmt;

/// Lines kept: the newest are those that matter.
const LINES_MAX: usize = 200;

/// Lines with the time since the play began.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    begun: Instant,
    lines: Vec<String>,
    n_forgotten: usize,
}

impl Trace {
    pub(super) fn new(begun: Instant) -> Trace {
        Trace { begun, lines: Vec::new(), n_forgotten: 0 }
    }

    pub(super) fn note(&mut self, at: Instant, text: &str) {
        if self.lines.len() == LINES_MAX {
            self.lines.remove(0);
            self.n_forgotten += 1;
        }
        let ms = at.since(self.begun).as_micros() as f64 / 1e3;
        self.lines.push(format!("{ms:>12.3} ms  {text}"));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.n_forgotten > 0 {
            writeln!(f, "({} lines before)", self.n_forgotten)?;
        }
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}
