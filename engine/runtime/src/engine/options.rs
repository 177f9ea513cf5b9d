//! What a program that embeds the engine gives it beside the configuration, and what a configuration
//! file cannot hold.

use crate::app::{self, App};
use crate::tap::CaptureOptions;
use barewire_api::config::AppSpec;
use std::fmt;
use std::sync::Arc;

/// Options of [`Engine::start_with`](super::Engine::start_with).
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    /// Where the applications of listeners come from.
    pub apps: AppMaker,
    /// Writes every frame to a file.
    pub capture: Option<CaptureOptions>,
}

/// Makes the applications of listeners, one for each worker. By default they are those that ship
/// with the engine.
#[derive(Clone)]
pub struct AppMaker(Arc<Make>);

type Make = dyn Fn(&AppSpec) -> Box<dyn App> + Send + Sync;

impl AppMaker {
    /// Asks `make` for what runs where a listener says so. It may answer with applications of its
    /// own for some, and leave the rest to [`app::make`].
    pub fn new(make: impl Fn(&AppSpec) -> Box<dyn App> + Send + Sync + 'static) -> Self {
        AppMaker(Arc::new(make))
    }

    pub(crate) fn make(&self, spec: &AppSpec) -> Box<dyn App> {
        (self.0)(spec)
    }
}

impl Default for AppMaker {
    fn default() -> Self {
        AppMaker::new(app::make)
    }
}

impl fmt::Debug for AppMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppMaker(..)")
    }
}
