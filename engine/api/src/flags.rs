//! The configuration from command-line flags, the same for the daemon and for `barewire serve`. A
//! flag is laid over the file of `--config`; `--set` reaches every key that has no flag of its own.

use std::io::Read;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser};

use crate::config::{
    CONFIG_BYTES_MAX, Config, ConfigError, Listen, Mode, OnMissing, Ownership, Poll, Prefix,
    RssUse, RxChecksum, parse_addr,
};
use crate::unit::Count;

/// The command line of the daemon. It is described here, so that the command that starts the daemon,
/// and the manual page, cannot differ from it.
#[derive(Parser, Clone, Debug)]
#[command(name = "barewired", version, about = "The barewire daemon: a TCP engine on AF_XDP")]
pub struct DaemonLine {
    /// What makes the configuration.
    #[command(flatten)]
    pub flags: Flags,

    /// Path of the control socket [default: /run/barewire.sock]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Check the configuration, print it in full, and touch nothing
    #[arg(long)]
    pub check: bool,

    /// Write every frame, cut to 256 bytes, to this pcapng file, until it has 1 GiB
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,

    /// Stop when the standard input ends, and so when the process that holds it is gone
    #[arg(long)]
    pub stop_on_eof: bool,
}

impl DaemonLine {
    /// The checked configuration.
    pub fn to_config(&self) -> Result<Config, ConfigError> {
        let is_stdin = self.flags.config.as_deref() == Some(Path::new("-"));
        if self.stop_on_eof && is_stdin {
            return Err(ConfigError::new(
                "--stop-on-eof",
                "expected a standard input that stays open, found it in use by --config -",
                "give the configuration as a file",
            ));
        }
        let config = self.flags.to_config(self.control.as_deref())?;
        config.check()?;
        Ok(config)
    }
}

/// Flags that make a [`Config`].
#[derive(Args, Clone, Debug, Default)]
pub struct Flags {
    /// Read this configuration first; `-` is the standard input
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The network device
    #[arg(long, value_name = "IF")]
    pub dev: Option<String>,

    /// How many queues to serve, from queue 0 on [default: all receive queues of the device]
    #[arg(long, value_name = "N")]
    pub queues: Option<u32>,

    /// How frames cross: auto, zerocopy, copy, generic [default: auto]
    #[arg(long, value_name = "MODE")]
    pub mode: Option<Mode>,

    /// Who holds the addresses: owned (the engine alone), shared (the kernel keeps them)
    /// [default: owned]
    #[arg(long, value_name = "WHO")]
    pub ownership: Option<Ownership>,

    /// An address of the engine with the length of its network, such as 10.99.0.2/24
    #[arg(long = "addr", value_name = "ADDR/LEN", value_delimiter = ',')]
    pub addresses: Vec<Prefix>,

    /// A further prefix, every address of which the engine owns, such as 10.1.0.0/16
    #[arg(long = "prefix", value_name = "PREFIX", value_delimiter = ',')]
    pub prefixes: Vec<Prefix>,

    /// Next hop for destinations off the link
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pub gateway: Option<Ipv4Addr>,

    /// Listen, such as 8080=echo, 80=http:10MiB, 10.99.0.2:7000=discard
    #[arg(long, value_name = "PORT=APP")]
    pub listen: Vec<Listen>,

    /// Pin the XDP program, so that it outlives the daemon
    #[arg(long)]
    pub persist: bool,

    /// What becomes of our frames on a queue without a socket: pass, drop [default: pass]
    #[arg(long, value_name = "WHAT")]
    pub on_missing: Option<OnMissing>,

    /// Compute checksums of received segments: auto, verify, trust [default: auto]
    #[arg(long, value_name = "HOW")]
    pub rx_checksum: Option<RxChecksum>,

    /// Open from ports that the NIC answers at the queue of their worker: auto (where the driver tells
    /// its hash), required, observe (never; frames are handed over) [default: auto]
    #[arg(long, value_name = "HOW")]
    pub rss: Option<RssUse>,

    /// What a worker does when nothing happens: adaptive (sleep), busy (spin) [default: adaptive]
    #[arg(long, value_name = "HOW")]
    pub poll: Option<Poll>,

    /// CPUs of the workers, one each, such as 2,3
    #[arg(long, value_name = "CPU,...", value_delimiter = ',')]
    pub cpus: Vec<u32>,

    /// Connections at the same time, such as 1m [default: 2m]
    #[arg(long, value_name = "N")]
    pub connections_max: Option<Count>,

    /// Set any key of the configuration, such as tcp.delayed_ack=10ms
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Flags {
    /// The configuration that the flags mean, over that of `--config`. Not checked yet: callers may
    /// add to it before they call [`Config::check`].
    pub fn to_config(&self, control: Option<&Path>) -> Result<Config, ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::parse(&read_config(path)?)?,
            None => Config::default(),
        };
        self.lay_over(&mut config);
        if let Some(path) = control {
            config.control.path = path.to_owned();
        }
        for assignment in &self.set {
            config = with_key(&config, assignment).map_err(|error| ConfigError {
                place: format!("--set {assignment}: {}", error.place),
                ..error
            })?;
        }
        Ok(config)
    }

    fn lay_over(&self, config: &mut Config) {
        let interface = &mut config.interface;
        if let Some(dev) = &self.dev {
            interface.dev.clone_from(dev);
        }
        interface.queues = self.queues.or(interface.queues);
        interface.gateway = self.gateway.or(interface.gateway);
        interface.mode = self.mode.unwrap_or(interface.mode);
        interface.ownership = self.ownership.unwrap_or(interface.ownership);
        interface.on_missing = self.on_missing.unwrap_or(interface.on_missing);
        interface.rx_checksum = self.rx_checksum.unwrap_or(interface.rx_checksum);
        interface.rss = self.rss.unwrap_or(interface.rss);
        interface.poll = self.poll.unwrap_or(interface.poll);
        interface.persist |= self.persist;
        // A list on the command line replaces that of the file: otherwise nothing could be taken out.
        for (flags, file) in
            [(&self.addresses, &mut interface.addresses), (&self.prefixes, &mut interface.prefixes)]
        {
            if !flags.is_empty() {
                file.clone_from(flags);
            }
        }
        if !self.cpus.is_empty() {
            interface.cpus.clone_from(&self.cpus);
        }
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        config.tcp.connections_max = self.connections_max.unwrap_or(config.tcp.connections_max);
    }
}

/// The text of a configuration file, or of the standard input for `-`; never more than fits.
fn read_config(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let room = CONFIG_BYTES_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(room).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(room).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(ConfigError::new(
            format!("--config {}", path.display()),
            format!("expected a file that can be read, found: {error}"),
            "check the path and its permissions",
        )),
    }
}

/// `config` with `section.key=value` set. The value is TOML, or else a bare string: `10ms` needs no
/// quotes.
fn with_key(config: &Config, assignment: &str) -> Result<Config, ConfigError> {
    let shape = || {
        ConfigError::new(
            "KEY=VALUE",
            "expected a section, a key and a value",
            "write it as tcp.delayed_ack=10ms",
        )
    };
    let (path, value) = assignment.split_once('=').ok_or_else(shape)?;
    let (section, key) = path.split_once('.').ok_or_else(shape)?;
    let (section, key) = (section.trim(), key.trim());
    let mut table: toml::Table =
        config.to_toml().parse().expect("what to_toml writes is a TOML table");
    let place = table.entry(section).or_insert_with(|| toml::Table::new().into());
    let place = place.as_table_mut().ok_or_else(shape)?;
    place.insert(key.to_owned(), parse_value(value.trim()));
    Config::from_table(table)
}

fn parse_value(text: &str) -> toml::Value {
    let parsed = format!("value = {text}").parse::<toml::Table>();
    let bare = || toml::Value::String(text.to_owned());
    parsed.ok().and_then(|mut table| table.remove("value")).unwrap_or_else(bare)
}
