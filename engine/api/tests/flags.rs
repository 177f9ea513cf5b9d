//! Flags mean what the same keys in a file mean, and no key is out of their reach.

use std::io::Write;

use barewire_api::Config;
use barewire_api::config::Mode;
use barewire_api::flags::Flags;
use barewire_api::unit::{Count, Span};
use clap::Parser;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags,
}

fn config(flags: &[&str]) -> Result<Config, String> {
    let line = Line::try_parse_from([&["barewired"], flags].concat());
    let flags = line.map_err(|error| error.to_string())?.flags;
    flags.to_config(None).map_err(|error| error.to_string())
}

#[test]
fn flags_are_a_configuration() {
    let config = config(&[
        "--dev=d0",
        "--addr=10.99.0.2/24",
        "--gateway=10.99.0.1",
        "--listen=8080=echo",
        "--listen=8085=close-unread:300ms",
        "--mode=generic",
        "--cpus=0,1",
        "--connections-max=1m",
        "--set=tcp.delayed_ack=10ms",
        "--set=tcp.nagle=false",
        "--set=interface.rx_max=4096",
        "--set=impair.tx={loss='1%',delay='5ms'}",
    ])
    .expect("good flags");
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.interface.mode, Mode::Generic);
    assert_eq!(config.interface.cpus, [0, 1]);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.tcp.connections_max, Count(1_000_000));
    assert_eq!(config.tcp.delayed_ack, Span::from_millis(10));
    assert_eq!(config.impair.tx.map(|tx| tx.delay), Some(Span::from_millis(5)));
    assert_eq!((config.tcp.nagle, config.interface.rx_max), (false, 4_096));
}

#[test]
fn a_flag_is_laid_over_the_file() {
    let mut file = tempfile();
    write!(file.1, "interface.dev = 'd0'\ninterface.persist = true\ntcp.ttl = 9").expect("writes");
    let config = config(&["--config", &file.0, "--dev", "d1"]).expect("good flags");
    assert_eq!((config.interface.dev.as_str(), config.interface.persist), ("d1", true));
    assert_eq!(config.tcp.ttl, 9);
    std::fs::remove_file(&file.0).expect("removes its file");
}

fn tempfile() -> (String, std::fs::File) {
    let path = std::env::temp_dir().join(format!("barewire-flags-{}.toml", std::process::id()));
    let file = std::fs::File::create(&path).expect("makes a file");
    (path.display().to_string(), file)
}

#[test]
fn bad_flags_say_what_was_expected() {
    for (flag, parts) in [
        ("--listen=70000=echo", &["expected a port from 1 to 65535, found `70000`"][..]),
        ("--listen=8080", &["expected PORT=APP"]),
        ("--addr=10.99.0.2", &["expected an IPv4 prefix"]),
        ("--addr=fd00::1/64", &["IPv6 is not supported yet by the stack"]),
        ("--gateway=fd00::1", &["IPv6 is not supported yet by the stack"]),
        ("--mode=fast", &["expected auto, zerocopy, copy or generic"]),
        ("--connections-max=many", &["expected a count such as"]),
        ("--config=/does/not/exist", &["--config /does/not/exist", "check the path"]),
        ("--set=tcp.rto_mni=1s", &["--set tcp.rto_mni=1s", "did you mean `rto_min`?"]),
        ("--set=tpc.rto_min=1s", &["did you mean `tcp`?"]),
        ("--set=tcp.rto_min=5", &["tcp.rto_min", "expected a duration with its unit"]),
        ("--set=rto_min", &["write it as tcp.delayed_ack=10ms"]),
    ] {
        let error = config(&[flag]).expect_err(flag);
        for part in parts {
            assert!(error.contains(part), "{flag}: expected `{part}` in\n  {error}");
        }
    }
}

/// Takes each key of a default configuration and sets it to the value it has.
#[test]
fn every_key_can_be_set() {
    let table: toml::Table = Config::default().to_toml().parse().expect("a table");
    let mut n_keys = 0;
    for (section, keys) in &table {
        for (key, value) in keys.as_table().expect("sections are tables") {
            let flag = format!("--set={section}.{key}={value}");
            assert_eq!(config(&[&flag]), Ok(Config::default()), "{flag}");
            n_keys += 1;
        }
    }
    assert!(n_keys > 40, "found only {n_keys} keys");
}
