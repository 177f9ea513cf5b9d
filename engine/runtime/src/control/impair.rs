//! Faults that the engine does to its own frames: set by a client or by the configuration, drawn by
//! each worker from a seed of its own, and remembered here for whoever asks.

use super::request::Refusal;
use super::server::Server;
use crate::worker::{Desk, Way};
use barewire_api::control::ErrorCode;
use barewire_api::impair::{Direction, Impaired, Impairment, Impairments};
use barewire_api::unit::{Ratio, Span};
use barewire_stack::dice::{self, Dice};
use barewire_stack::impair::{self, Impair};
use barewire_stack::time::Duration;
use tracing::{info, warn};

impl Server {
    /// Sets what the configuration names.
    pub(super) fn start_configured_impairment(&mut self) {
        let configured = self.own.site.config.impair;
        let directions = [(Direction::Tx, configured.tx), (Direction::Rx, configured.rx)];
        for (direction, impairment) in directions {
            let Some(impairment) = impairment else { continue };
            if let Err(refusal) = self.impair(direction, impairment, configured.seed) {
                self.give_up(format!("the impairment was not set: {refusal}"));
            }
        }
    }

    /// Impairs frames of a direction from now on.
    pub(super) fn impair(
        &mut self,
        direction: Direction,
        impairment: Impairment,
        seed: Option<u32>,
    ) -> Result<Impairments, Refusal> {
        impairment.check("impair")?;
        if direction.is_rx() {
            self.own.site.check_impaired_reception(&impairment)?;
        }
        let seed = seed.map_or_else(drawn_seed, Ok)?;
        self.set_impairment(direction, Some(Impaired { impairment, seed }))
    }

    /// Touches no frame of a direction any more.
    pub(super) fn end_impairment(&mut self, direction: Direction) -> Result<Impairments, Refusal> {
        self.set_impairment(direction, None)
    }

    fn set_impairment(
        &mut self,
        direction: Direction,
        impaired: Option<Impaired>,
    ) -> Result<Impairments, Refusal> {
        self.impairments.set(direction, impaired);
        self.mark_load_impaired();
        match self.impairments.is_none() {
            true => info!("frames are impaired no longer"),
            false => warn!("frames are impaired: {}", self.impairments),
        }
        let frames_max = self.own.site.config.interface.impair_frames_max;
        let mut seeds = Dice::new(impaired.map_or(0, |impaired| u64::from(impaired.seed)));
        for worker in 0..self.own.crew.len() {
            // Both are drawn, so that what one direction meets does not depend on the other.
            let seeds = [(Way::Tx, seeds.draw()), (Way::Rx, seeds.draw())];
            self.own.crew.ask(worker, move |desk: &mut Desk<'_>| {
                for (way, seed) in seeds {
                    let is_meant =
                        if way == Way::Tx { direction.is_tx() } else { direction.is_rx() };
                    let model = impaired.map(|it| Impair::new(path(&it.impairment), seed));
                    if is_meant {
                        desk.paths.set(way, model, frames_max);
                    }
                }
            })?;
        }
        Ok(self.impairments)
    }
}

/// A seed that is short enough to be typed again.
pub(super) fn drawn_seed() -> Result<u32, Refusal> {
    let mut seed = [0; 4];
    getrandom::fill(&mut seed).map_err(|error| {
        Refusal::new(ErrorCode::Refused, format!("no seed could be drawn ({error}): give one"))
    })?;
    Ok(u32::from_le_bytes(seed))
}

/// The impairment in the terms of the fault model.
fn path(impairment: &Impairment) -> impair::Impairment {
    let ratio = |ratio: Ratio| dice::Ratio::from_ppm(ratio.ppm());
    let time = |span: Span| Duration::from_nanos(span.as_nanos());
    impair::Impairment {
        loss: ratio(impairment.loss),
        duplicate: ratio(impairment.duplicate),
        corrupt: ratio(impairment.corrupt),
        reorder: ratio(impairment.reorder),
        delay: time(impairment.delay),
        jitter: time(impairment.jitter),
        rate_bytes_per_second: impairment.rate.bytes(),
        backlog_max: time(impairment.backlog),
    }
}
