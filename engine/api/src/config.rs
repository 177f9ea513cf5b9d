//! The configuration of the daemon as a typed TOML file: one section per file of this folder, every
//! bound a field named `*_max`. [`Config::parse`] reads, [`Config::check`] refuses everything that can
//! be known to be wrong without a machine; what needs one (does the device exist, does the kernel
//! hold that address) is the daemon's question.

mod impair;
mod interface;
mod listen;
mod load;
mod prefix;
mod tcp;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use impair::Impair;
pub use interface::{
    FRAMES_MAX, HugePages, IMPAIR_FRAMES_MIN, Interface, Mode, OnMissing, Ownership, PREFIXES_MAX,
    Poll, QUEUES_MAX, RING_MAX, RING_MIN, RssUse, RxChecksum,
};
pub use listen::{APP_BYTES_MAX, AppSpec, LISTENERS_MAX, Listen, ListenAddr};
pub use load::{CloseWith, DESTINATIONS_MAX, LoadMode, LoadPlan, LoadProtocol, parse_destination};
pub(crate) use prefix::parse_addr;
pub use prefix::{PortRange, Prefix};
pub use tcp::{CONNECTIONS_MAX, CongestionControl, Ecn, SynCookies, Tcp};

use crate::unit::grouped;

/// The largest configuration that is read, in bytes.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;

/// Everything the daemon is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The device, its queues, and what the engine owns on it.
    pub interface: Interface,
    /// Limits and timers of the stack.
    pub tcp: Tcp,
    /// Where the daemon accepts connections.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listen: Vec<Listen>,
    /// How the daemon is talked to.
    pub control: Control,
    /// Faults that the engine does to its own frames.
    #[serde(skip_serializing_if = "Impair::is_absent")]
    pub impair: Impair,
    /// A load test to run at once; the daemon ends with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadPlan>,
}

/// `[control]`: the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Path of the Unix socket.
    pub path: PathBuf,
}

/// Where the control socket is when nobody says.
pub const CONTROL_PATH: &str = "/run/barewire.sock";

/// Longest path of a Unix socket: `sun_path` less the final zero.
const CONTROL_PATH_BYTES_MAX: usize = 107;

impl Default for Control {
    fn default() -> Self {
        Control { path: CONTROL_PATH.into() }
    }
}

/// Why a configuration is refused: where, what was expected and found, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}; {fix}")]
pub struct ConfigError {
    /// The line, the key or the flag.
    pub place: String,
    /// What was expected and what was found.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl ConfigError {
    /// An error at `place`.
    pub fn new(
        place: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        ConfigError { place: place.into(), problem: problem.into(), fix: fix.into() }
    }
}

impl Config {
    /// Reads a configuration; only its form is checked, [`Config::check`] does the rest.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        if text.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::new(
                "configuration",
                format!("expected at most {CONFIG_BYTES_MAX} bytes, found {}", text.len()),
                "is this the right file?",
            ));
        }
        toml::from_str(text).map_err(|error| {
            let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
            let line = before.matches('\n').count() + 1;
            // A second reading, as a plain table, knows the key and not the line.
            match text.parse::<toml::Table>() {
                Ok(table) => match Config::from_table(table) {
                    Err(error) => {
                        ConfigError { place: format!("line {line}, {}", error.place), ..error }
                    }
                    Ok(_) => explained(format!("line {line}"), error.message()),
                },
                Err(_) => explained(format!("line {line}"), error.message()),
            }
        })
    }

    /// The configuration that a TOML table means.
    pub(crate) fn from_table(table: toml::Table) -> Result<Config, ConfigError> {
        Config::deserialize(table).map_err(|error| {
            // The second line of the text, "in `a.b`", is where toml tells the path of the key.
            let text = error.to_string();
            let path = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
            explained(path.unwrap_or("the top level").to_owned(), error.message())
        })
    }

    /// The configuration as a file that reads back as the same configuration.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every field has a TOML form")
    }

    /// Refuses everything that can be known to be wrong without a machine.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.interface.check()?;
        self.tcp.check()?;
        self.check_listeners()?;
        self.check_control()?;
        self.impair.check()?;
        match &self.load {
            Some(plan) => plan.check(&self.interface, &self.tcp),
            None => Ok(()),
        }
    }

    fn check_listeners(&self) -> Result<(), ConfigError> {
        in_range("listen", self.listen.len() as u64, 0, LISTENERS_MAX as u64)?;
        for (idx, listen) in self.listen.iter().enumerate() {
            self.check_listener(listen, &self.listen[..idx])?;
        }
        Ok(())
    }

    /// Refuses `listen` beside the `others` that are there already; also for a listener that is added
    /// while the daemon runs.
    pub fn check_listener(&self, listen: &Listen, others: &[Listen]) -> Result<(), ConfigError> {
        let clash = others.iter().find(|other| {
            let either_any = listen.at.addr.is_none() || other.at.addr.is_none();
            other.at.port == listen.at.port && (either_any || other.at.addr == listen.at.addr)
        });
        if let Some(other) = clash {
            return Err(ConfigError::new(
                "listen",
                format!("expected one listener per port, found {other} and {listen}"),
                "remove one or give it another port",
            ));
        }
        match listen.at.addr {
            Some(addr)
                if self.interface.ownership == Ownership::Owned && !self.interface.owns(addr) =>
            {
                Err(ConfigError::new(
                    "listen",
                    format!("expected an address that the engine owns, found {}", listen.at),
                    format!("add {addr} to interface.addresses, or give only the port"),
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_control(&self) -> Result<(), ConfigError> {
        let bytes = self.control.path.as_os_str().len();
        if self.control.path.is_absolute() && bytes <= CONTROL_PATH_BYTES_MAX {
            return Ok(());
        }
        Err(ConfigError::new(
            "control.path",
            format!(
                "expected an absolute path of at most {CONTROL_PATH_BYTES_MAX} bytes, found `{}`",
                self.control.path.display()
            ),
            format!("use {CONTROL_PATH}"),
        ))
    }
}

/// Refuses `n` outside `min..=max`.
pub(crate) fn in_range(place: &str, n: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&n) {
        return Ok(());
    }
    Err(ConfigError::new(
        place,
        format!("expected from {} to {}, found {}", grouped(min), grouped(max), grouped(n)),
        "choose a number in that range",
    ))
}

/// Turns the message of the TOML reader into ours. For an unknown key that message lists the known
/// ones between backticks, so the nearest can be named without a second list of keys.
fn explained(place: String, message: &str) -> ConfigError {
    let message = message.trim().replace('\n', ", ");
    let Some(listed) = message.strip_prefix("unknown field ") else {
        return ConfigError::new(place, message, "correct this value");
    };
    let mut words = listed.split('`').skip(1).step_by(2);
    let found = words.next().unwrap_or_default();
    let known: Vec<&str> = words.collect();
    // Letters that changed places are the commonest slip, and count as one.
    let nearness = strsim::normalized_damerau_levenshtein;
    let nearest =
        known.iter().copied().max_by(|a, b| nearness(a, found).total_cmp(&nearness(b, found)));
    let fix = match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => "remove it".to_owned(),
    };
    ConfigError::new(place, format!("expected a key that is known, found `{found}`"), fix)
}
