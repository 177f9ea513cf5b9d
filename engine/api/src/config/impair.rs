//! `[impair]`: the faults with which the daemon starts; `barewire impair` changes them while it runs.

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::impair::Impairment;

/// The faults of each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Impair {
    /// What its draws come from; drawn by the daemon when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u32>,
    /// Of the frames that the engine sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tx: Option<Impairment>,
    /// Of the frames that it receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rx: Option<Impairment>,
}

impl Impair {
    /// True when it says nothing.
    pub fn is_absent(&self) -> bool {
        *self == Impair::default()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (place, impairment) in [("impair.tx", self.tx), ("impair.rx", self.rx)] {
            if let Some(impairment) = impairment {
                impairment.check(place)?;
            }
        }
        Ok(())
    }
}
