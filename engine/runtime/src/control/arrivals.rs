//! Whether what the driver told of its hash still holds while the engine runs. The driver is asked
//! once a second, and what the workers saw is held against what was foretold. A change is survived:
//! new connections get their ports by the new classes, old ones go on and have their frames handed
//! over. Either is said aloud, and ends the engine where the configuration
//! demands a hash that holds.

use super::server::Server;
use crate::engine::Arrivals;
use crate::sys::interface::Interface;
use crate::worker::Desk;
use barewire_api::config::RssUse;
use barewire_api::control::{HandedOver, RssChange, RssStatus};
use barewire_api::unit::grouped;
use barewire_stack::stats::Counter;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tracing::warn;

/// How often the driver is asked.
const EVERY: Duration = Duration::from_secs(1);

/// Changes that are remembered.
const CHANGES_MAX: usize = 8;

/// Frames that a worker must have compared before they prove anything. Of a hash that is wrong about
/// every second arrives elsewhere, or more; frames that were damaged on their way are few, and before
/// anything is concluded the driver has been asked whether it has changed.
const CHECKED_MIN: u64 = 16;

/// What the control thread remembers.
#[derive(Debug)]
pub(super) struct ArrivalWatch {
    asked_at: Instant,
    /// The driver did not answer, and that was said.
    is_blind: bool,
    /// Compared and mismatched frames of each worker when the classes were made.
    before: Vec<(u64, u64)>,
    changes: VecDeque<RssChange>,
}

impl ArrivalWatch {
    pub(super) fn new(n_workers: usize, now: Instant) -> Self {
        let before = vec![(0, 0); n_workers];
        ArrivalWatch { asked_at: now, is_blind: false, before, changes: VecDeque::new() }
    }
}

impl Server {
    /// Asks the driver, when it is time, and draws the conclusions.
    pub(super) fn watch_arrivals(&mut self, now: Instant) {
        if now.duration_since(self.arrivals.asked_at) < EVERY {
            return;
        }
        self.arrivals.asked_at = now;
        let config = &self.own.site.config.interface;
        let asked = Interface::named(&config.dev).map_err(|error| error.to_string());
        let surveyed = asked.and_then(|interface| {
            Arrivals::survey(&interface, config.rss).map_err(|error| error.to_string())
        });
        match surveyed {
            Ok(arrivals) => {
                self.arrivals.is_blind = false;
                let changes = arrivals.changes_since(&self.own.site.arrivals);
                if !changes.is_empty() {
                    self.on_rss_changed(arrivals, &changes, now);
                } else if let Some(why) = self.wrong_prophecy() {
                    self.own.site.arrivals.give_up(why);
                    self.renew_ports("the queue of connections was foretold wrongly", now);
                }
            }
            Err(error) if !self.arrivals.is_blind => {
                self.arrivals.is_blind = true;
                warn!("rss: {error}");
            }
            Err(_) => {}
        }
    }

    fn on_rss_changed(&mut self, arrivals: Arrivals, changes: &[String], now: Instant) {
        let (n_queues, n_workers) = (arrivals.n_queues() as usize, self.own.crew.len());
        if arrivals.n_queues() != self.own.site.arrivals.n_queues() {
            arrivals.write_back(&self.own.site.interface.name);
        }
        self.own.site.arrivals = arrivals;
        let mut what = changes.join(", ");
        if n_queues < n_workers {
            what += &format!(
                "; workers {n_queues} to {} have no queue any more and receive nothing, give it back \
                 with `ethtool -L {} combined {n_workers}`",
                n_workers - 1,
                self.own.site.interface.name
            );
        }
        self.renew_ports(&what, now);
        if n_queues < n_workers && self.own.site.config.interface.rss == RssUse::Required {
            self.give_up(format!("interface.rss = \"required\", and {what}"));
        }
    }

    /// A worker that saw many frames arrive at another queue than was foretold.
    fn wrong_prophecy(&self) -> Option<String> {
        self.own.site.arrivals.rss()?;
        let (worker, checked, mismatched) = misled(&self.arrivals.before, &self.counted())?;
        Some(format!(
            "worker {worker} compared {} frames, and {} of them had been foretold for another queue",
            grouped(checked),
            grouped(mismatched)
        ))
    }

    /// Compared and mismatched frames of each worker.
    fn counted(&self) -> Vec<(u64, u64)> {
        let of = |worker, name| self.own.statistics.of_worker(worker, name);
        (0..self.own.crew.len())
            .map(|worker| (of(worker, "rss_checked"), of(worker, "rss_mismatched")))
            .collect()
    }

    /// Gives every worker its ports as they are now, and says why.
    fn renew_ports(&mut self, what: &str, now: Instant) {
        let (site, crew) = (&self.own.site, &self.own.crew);
        let stray = site.arrivals.stray_text(&site.interface.name, site.n_queues);
        let stray = stray.map_or(String::new(), |stray| format!("; {stray}"));
        let what = format!("{what}: {}{stray}", site.arrivals.reason());
        warn!("rss of `{}`: {what}", site.interface.name);
        for (worker, member) in crew.members().iter().enumerate() {
            let ports = site.arrivals.queue_ports(member.queue);
            let renew = move |desk: &mut Desk<'_>| {
                desk.stack.set_queue_ports(ports);
                if let Some(load) = &mut desk.apps.load {
                    load.on_hash_changed();
                }
                // The page is older: what was counted by the old classes must not speak against the new.
                [Counter::RssChecked, Counter::RssMismatched].map(|of| desk.stack.stats().get(of))
            };
            match crew.ask(worker, renew) {
                Ok([checked, mismatched]) => {
                    self.arrivals.before[worker] = (checked, mismatched);
                }
                Err(error) => warn!("worker {worker} keeps its old ports: {error}"),
            }
        }
        if let Err(refused) = site.arrivals.check(&site.interface.name, site.n_queues) {
            self.give_up(refused.to_string());
        }
        let uptime_ms = now.duration_since(self.started).as_millis() as u64;
        if self.arrivals.changes.len() == CHANGES_MAX {
            self.arrivals.changes.pop_front();
        }
        self.arrivals.changes.push_back(RssChange { uptime_ms, what });
    }

    /// What is known of arrivals, with what was counted and what changed.
    pub(super) fn rss_status(&self) -> RssStatus {
        let counted = self.counted();
        RssStatus {
            checked: counted.iter().map(|&(checked, _)| checked).sum(),
            mismatched: counted.iter().map(|&(_, mismatched)| mismatched).sum(),
            changes: self.arrivals.changes.iter().cloned().collect(),
            ..self.own.site.arrivals.status()
        }
    }

    /// Frames handed over, by pair of workers.
    pub(super) fn handed_over(&self) -> Vec<HandedOver> {
        let pairs = self.own.statistics.handed_over().into_iter();
        pairs
            .map(|(from, to, frames)| HandedOver { from: from as u16, to: to as u16, frames })
            .collect()
    }
}

/// The first worker whose frames arrive elsewhere too often, with what it compared since `before` and
/// how much of that was wrong.
fn misled(before: &[(u64, u64)], now: &[(u64, u64)]) -> Option<(usize, u64, u64)> {
    before.iter().zip(now).enumerate().find_map(|(worker, (before, now))| {
        let checked = now.0.saturating_sub(before.0);
        let mismatched = now.1.saturating_sub(before.1);
        let is_misled = checked >= CHECKED_MIN && mismatched * 4 > checked;
        is_misled.then_some((worker, checked, mismatched))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_given_up_for_many_frames_and_not_for_a_few() {
        let before = [(1_000, 900), (0, 0)];
        assert_eq!(misled(&before, &[(2_000, 910), (15, 15)]), None, "1 %, and too few to tell");
        assert_eq!(misled(&before, &[(2_000, 1_150), (100, 25)]), None, "a quarter");
        assert_eq!(misled(&before, &[(2_000, 910), (16, 8)]), Some((1, 16, 8)));
        assert_eq!(misled(&before, &[(1_100, 975), (16, 8)]), Some((0, 100, 75)));
    }
}
