//! Target `config`: what people write. The first byte of the input chooses the kind (a file, one
//! `--set`, a command line of the daemon, a quantity); the rest is text. Nothing may panic, and
//! whatever is accepted must survive being printed and read again.

use crate::tape::Tape;
use barewire_api::Config;
use barewire_api::config::{Listen, LoadProtocol, PortRange, Prefix, parse_destination};
use barewire_api::control::ConnId;
use barewire_api::flags::{DaemonLine, Flags};
use barewire_api::unit::{Bytes, Count, Rate, Span, grouped};
use clap::Parser;
use std::fmt::{Debug, Display};
use std::str::FromStr;

/// Reads one text.
pub fn run(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let kind = tape.below(4);
    let Ok(text) = std::str::from_utf8(tape.rest()) else { return };
    match kind {
        0 => file(text),
        1 => assignment(text),
        2 => command_line(text),
        _ => quantities(text),
    }
}

fn file(text: &str) {
    match Config::parse(text) {
        Ok(config) => accepted(&config),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A configuration of the right form, whether or not it makes sense.
fn accepted(config: &Config) {
    let printed = config.to_toml();
    assert_eq!(Config::parse(&printed).as_ref(), Ok(config), "{printed}");
    let checked = config.check();
    let (Ok(()), Some(plan)) = (checked, &config.load) else { return };
    // The arithmetic of a plan that was found possible must be possible.
    let tuples = plan.tuples(&config.interface);
    assert!(tuples.len() >= plan.connections.0, "{printed}");
    let n_workers = 3;
    let mut total = 0;
    for worker in 0..n_workers {
        let share = tuples.share(worker, n_workers).expect("a worker of three");
        total += share.part_of(plan.connections.0);
        assert_eq!(share.tuple(share.len()), None);
        if let Some(last) = share.len().checked_sub(1) {
            let tuple = share.tuple(last).expect("the last tuple of a share");
            assert!(plan.source_ports(&config.interface).contains(tuple.local.port()));
        }
    }
    assert_eq!(total, plan.connections.0);
    assert!(plan.opens_per_second().is_none_or(|rate| rate > 0.0));
}

fn assignment(text: &str) {
    let flags = Flags { set: vec![text.to_owned()], ..Flags::default() };
    if let Ok(config) = flags.to_config(None) {
        accepted(&config);
    }
}

/// Words as a shell would give them; a line that reads a file is left alone.
fn command_line(text: &str) {
    let words = std::iter::once("barewired").chain(text.split_whitespace());
    let Ok(line) = DaemonLine::try_parse_from(words) else { return };
    if line.flags.config.is_some() {
        return;
    }
    if let Ok(config) = line.flags.to_config(line.control.as_deref()) {
        accepted(&config);
    }
    if let Ok(config) = line.to_config() {
        assert_eq!(config.check(), Ok(()));
    }
}

fn quantities(text: &str) {
    reads_back::<Count>(text);
    reads_back::<Bytes>(text);
    reads_back::<Span>(text);
    reads_back::<Rate>(text);
    reads_back::<Prefix>(text);
    reads_back::<PortRange>(text);
    reads_back::<Listen>(text);
    reads_back::<LoadProtocol>(text);
    reads_back::<ConnId>(text);
    if let Ok(destination) = parse_destination(text) {
        assert_eq!(parse_destination(&destination.to_string()), Ok(destination));
    }
    if let Ok(n) = text.parse::<u64>() {
        assert_eq!(grouped(n).replace(',', "").parse(), Ok(n));
    }
}

fn reads_back<T>(text: &str)
where
    T: FromStr + Display + PartialEq + Debug,
    T::Err: Debug + PartialEq + Display,
{
    match text.parse::<T>() {
        Ok(value) => assert_eq!(value.to_string().parse(), Ok(value), "{text}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
