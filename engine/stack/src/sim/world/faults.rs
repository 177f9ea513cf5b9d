//! What goes wrong in a world, and its end: faults of the plan, the attacker's volleys, and what a
//! test plants.

use super::{Event, World};
use crate::sim::Hooks;
use crate::sim::attacker;
use crate::sim::nic::{Queue, TABLE_LEN};
use crate::sim::plan::Fault;
use crate::sim::worker::flip_next_byte;
use crate::time::Duration;

impl World<'_> {
    pub(super) fn begin_fault(&mut self, number: usize) {
        let now = self.agenda.now();
        let plan = self.plan.faults[number];
        let until = now + plan.lasts;
        self.trace.line(now, || format!("fault {plan:?}"));
        match plan.fault {
            Fault::Partition { from, to, both } => {
                self.links.cut(from, to, until);
                if both {
                    self.links.cut(to, from, until);
                }
            }
            Fault::FillEmpty(host, queue) => self.queue(host, queue).unfilled_until = until,
            Fault::TxFull(host, queue) => self.queue(host, queue).tx_full_until = until,
            Fault::LateCompletions(host, queue, late) => {
                self.queue(host, queue).late = (until, late);
            }
            Fault::Pause(host, worker) => self.hosts[host].workers[worker].paused_until = until,
            Fault::Rehash(host) => {
                let n_queues = u64::from(self.plan.hosts[host].n_queues);
                let queues = (0..TABLE_LEN).map(|_| self.dice.below(n_queues) as u16);
                let queues = queues.collect();
                let mut key = [0; 40];
                for bytes in key.chunks_mut(8) {
                    bytes.copy_from_slice(&self.dice.draw().to_be_bytes());
                }
                let key = (self.dice.below(2) == 0).then_some(key);
                let it = &mut self.hosts[host];
                it.steering.rehash(queues, key);
                it.arrivals.on_change();
                if it.arrivals.is_told() {
                    self.agenda.enter(until, Event::ReadRss(host));
                }
            }
        }
    }

    fn queue(&mut self, host: usize, queue: usize) -> &mut Queue {
        &mut self.hosts[host].workers[queue].queue
    }

    pub(super) fn attack(&mut self, event: &Event) {
        let host = self.dice.below(self.hosts.len() as u64) as usize;
        match event {
            Event::Flood => {
                for _ in 0..self.plan.attack.flood_segments {
                    let frame = attacker::flood(&mut self.dice, host);
                    self.inject(host, &frame);
                }
            }
            Event::Garbage => {
                let frame = attacker::garbage(&mut self.dice, host);
                self.inject(host, &frame);
            }
            _ => {
                let n_workers = self.hosts[host].workers.len() as u64;
                let worker = self.dice.below(n_workers) as usize;
                let stack = &self.hosts[host].workers[worker].stack;
                let Some(forgery) = attacker::forge(&mut self.dice, host, stack) else { return };
                if let Some((tuple, seq)) = forgery.reset {
                    self.oracle.note_forged(&tuple, seq);
                }
                self.inject(host, &forgery.frame);
            }
        }
    }

    /// Does what a test asked for, as soon as it can be done.
    pub(super) fn plant(&mut self) {
        let Hooks { flips_byte, forgets_frame, plants_state, misreads_rss: _ } = self.hooks;
        if flips_byte {
            flip_next_byte(&mut self.oracle);
        }
        if forgets_frame {
            self.hosts[0].workers[0].forgets = true;
        }
        if let Some(state) = plants_state {
            let mut workers = self.hosts.iter_mut().flat_map(|host| &mut host.workers);
            if !workers.any(|worker| worker.plant(state)) {
                let at = self.agenda.now() + Duration::from_millis(1);
                self.agenda.enter(at, Event::Plant);
            }
        }
    }

    /// Faults stop.
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        let now = self.agenda.now();
        self.quiet = true;
        self.trace.line(now, || "quiet".to_owned());
        self.links.set(self.plan.calm, self.plan.calm, &mut self.dice);
        self.links.mend(now);
        for worker in self.hosts.iter_mut().flat_map(|host| &mut host.workers) {
            worker.paused_until = now;
            worker.queue.unfilled_until = now;
            worker.queue.tx_full_until = now;
            worker.queue.late = (now, Duration::ZERO);
        }
        self.visit(|worker, scene| worker.run_all(scene))
    }
}
