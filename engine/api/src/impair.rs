//! The faults of a path as people ask for them: what the engine may do to its own frames, so that
//! loss, delay and disorder can be tried without a network that has them. What each fault does to
//! which frame is decided by the stack's fault model.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::config::ConfigError;
use crate::text::word_enum;
use crate::unit::{BitRate, Ratio, Span};

/// The longest delay: longer ones are no path that TCP works on.
const DELAY_MAX: Span = Span::from_secs(60);

/// The slowest line: one full frame takes 1.5 s.
const RATE_MIN: BitRate = BitRate(8_000);

word_enum! {
    /// Which frames of the engine's.
    pub enum Direction: "tx, rx or both" {
        /// Those that it sends.
        Tx = "tx",
        /// Those that it receives.
        Rx = "rx",
        /// All.
        Both = "both",
    }
}

/// What happens to the frames of one direction. The default is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Impairment {
    /// The share that is lost.
    pub loss: Ratio,
    /// The share that arrives twice.
    pub duplicate: Ratio,
    /// The share in which one bit is turned over.
    pub corrupt: Ratio,
    /// The share that overtakes: sent without the delay, or, where there is none, held back by up to
    /// 1 ms.
    pub reorder: Ratio,
    /// How late the others are.
    pub delay: Span,
    /// By how much the delay differs at most, either way; it reorders nothing.
    pub jitter: Span,
    /// What the line takes in a second; 0 for no limit.
    pub rate: BitRate,
    /// How long a frame waits for the line at most; one that would wait longer is dropped.
    pub backlog: Span,
}

impl Default for Impairment {
    fn default() -> Self {
        Impairment {
            loss: Ratio::NONE,
            duplicate: Ratio::NONE,
            corrupt: Ratio::NONE,
            reorder: Ratio::NONE,
            delay: Span::ZERO,
            jitter: Span::ZERO,
            rate: BitRate(0),
            backlog: Span::from_millis(100),
        }
    }
}

/// An impairment at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impaired {
    /// What it does.
    pub impairment: Impairment,
    /// What its draws come from: the same seed and the same frames at the same times meet the same
    /// fate.
    pub seed: u32,
}

/// The impairments of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impairments {
    /// Of the frames that the engine sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<Impaired>,
    /// Of the frames that it receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx: Option<Impaired>,
}

impl Direction {
    /// Whether it takes in the frames that the engine sends.
    pub fn is_tx(self) -> bool {
        self != Direction::Rx
    }

    /// Whether it takes in the frames that the engine receives.
    pub fn is_rx(self) -> bool {
        self != Direction::Tx
    }
}

impl Impairment {
    /// True when it changes no frame.
    pub fn is_nothing(&self) -> bool {
        Impairment { backlog: Span::ZERO, ..*self }
            == Impairment { backlog: Span::ZERO, ..Impairment::default() }
    }

    /// Refuses what cannot be meant; `place` is where it was written.
    pub fn check(&self, place: &str) -> Result<(), ConfigError> {
        let at = |key: &str| format!("{place}.{key}");
        if self.is_nothing() {
            return Err(ConfigError::new(
                place,
                "expected a fault, found none",
                "give one, such as loss 1% or delay 5ms, or leave the impairment out",
            ));
        }
        for (key, span) in [("delay", self.delay), ("backlog", self.backlog)] {
            if span > DELAY_MAX {
                let problem = format!("expected at most {DELAY_MAX}, found {span}");
                return Err(ConfigError::new(at(key), problem, "choose a shorter one"));
            }
        }
        if self.jitter > self.delay {
            return Err(ConfigError::new(
                at("jitter"),
                format!(
                    "expected at most the delay, which is {}, found {}",
                    self.delay, self.jitter
                ),
                "give a longer delay: no frame leaves before it came",
            ));
        }
        if self.rate.0 > 0 && self.rate < RATE_MIN {
            let problem = format!("expected 0 or at least {RATE_MIN}, found {}", self.rate);
            return Err(ConfigError::new(at("rate"), problem, "choose a faster line"));
        }
        Ok(())
    }
}

impl Impairments {
    /// True when frames of neither direction are touched.
    pub fn is_none(&self) -> bool {
        self.tx.is_none() && self.rx.is_none()
    }

    /// Puts `impaired` in the place of what `direction` has.
    pub fn set(&mut self, direction: Direction, impaired: Option<Impaired>) {
        if direction.is_tx() {
            self.tx = impaired;
        }
        if direction.is_rx() {
            self.rx = impaired;
        }
    }

    /// What was at work here or is in `later`: a direction that was ever impaired stays marked.
    pub fn joined(&self, later: &Impairments) -> Impairments {
        Impairments { tx: later.tx.or(self.tx), rx: later.rx.or(self.rx) }
    }
}

impl fmt::Display for Impairment {
    /// The faults that there are: `loss 1%, delay 5ms, jitter 1ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut faults = Vec::new();
        for (name, ratio) in [
            ("loss", self.loss),
            ("duplicate", self.duplicate),
            ("corrupt", self.corrupt),
            ("reorder", self.reorder),
        ] {
            if ratio > Ratio::NONE {
                faults.push(format!("{name} {ratio}"));
            }
        }
        for (name, span) in [("delay", self.delay), ("jitter", self.jitter)] {
            if !span.is_zero() {
                faults.push(format!("{name} {span}"));
            }
        }
        if self.rate.0 > 0 {
            faults.push(format!("rate {} with a backlog of {}", self.rate, self.backlog));
        }
        f.write_str(&faults.join(", "))
    }
}

impl fmt::Display for Impairments {
    /// `tx loss 1%, seed 7; rx delay 5ms, seed 7`, or `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directions = [("tx", self.tx), ("rx", self.rx)];
        let there = directions.into_iter().filter_map(|(name, impaired)| {
            let Impaired { impairment, seed } = impaired?;
            Some(format!("{name} {impairment}, seed {seed}"))
        });
        let there: Vec<String> = there.collect();
        f.write_str(if there.is_empty() { "none" } else { "" })?;
        f.write_str(&there.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn impairment() -> Impairment {
        Impairment {
            loss: "1%".parse().expect("a share"),
            reorder: "0.5%".parse().expect("a share"),
            delay: Span::from_millis(5),
            jitter: Span::from_millis(1),
            rate: "100mbit".parse().expect("a rate"),
            ..Impairment::default()
        }
    }

    #[test]
    fn it_reads_as_a_sentence() {
        let tx = Some(Impaired { impairment: impairment(), seed: 7 });
        let delay = Impairment { delay: Span::from_millis(5), ..Impairment::default() };
        let rx = Some(Impaired { impairment: delay, seed: 8 });
        assert_eq!(
            Impairments { tx, rx }.to_string(),
            "tx loss 1%, reorder 0.5%, delay 5ms, jitter 1ms, rate 100mbit with a backlog of 100ms, \
             seed 7; rx delay 5ms, seed 8"
        );
        assert_eq!(Impairments::default().to_string(), "none");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        impairment().check("impair.tx").expect("it is sound");
        let refused = |change: fn(&mut Impairment)| {
            let mut changed = impairment();
            change(&mut changed);
            changed.check("impair.tx").expect_err("must be refused").to_string()
        };
        for (error, parts) in [
            (refused(|i| *i = Impairment::default()), ["impair.tx:", "expected a fault"]),
            (refused(|i| i.delay = Span::from_secs(61)), ["impair.tx.delay", "at most 60s"]),
            (refused(|i| i.backlog = Span::from_secs(61)), ["impair.tx.backlog", "at most 60s"]),
            (refused(|i| i.jitter = Span::from_millis(6)), ["impair.tx.jitter", "which is 5ms"]),
            (refused(|i| i.rate = BitRate(7_999)), ["impair.tx.rate", "at least 8kbit"]),
        ] {
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn directions_are_set_and_remembered() {
        let impaired = Some(Impaired { impairment: impairment(), seed: 7 });
        let mut now = Impairments::default();
        assert!(now.is_none());
        now.set(Direction::Both, impaired);
        assert_eq!((now.tx, now.rx), (impaired, impaired));
        now.set(Direction::Rx, None);
        assert_eq!((now.tx, now.rx), (impaired, None));
        let before = now;
        now.set(Direction::Tx, None);
        assert!(now.is_none());
        assert_eq!(before.joined(&now), before, "it was impaired once");
    }
}
