//! Every bad configuration is refused with a sentence that says where, what was expected, what was
//! found and what to do; every good one survives the way to a file and back.

use barewire_api::Config;
use barewire_api::config::{LoadMode, LoadProtocol, Mode};
use barewire_api::unit::{Count, Rate, Span};

const INTERFACE: &str = "[interface]\ndev = 'd0'\naddresses = ['10.99.0.2/24']\n";

const LOAD: &str = "[interface]\ndev = 'd0'\naddresses = ['10.99.0.2/24']\n\
    prefixes = ['10.1.0.0/16']\n[load]\nsrc = ['10.1.0.0/16']\ndst = ['10.99.0.1:7000']\n";

fn refusal(text: &str) -> String {
    let checked = Config::parse(text).and_then(|config| config.check());
    checked.expect_err(&format!("must be refused:\n{text}")).to_string()
}

/// Each row: what follows `[interface]` with a device and an address, and what the refusal says.
#[test]
fn bad_values_are_refused_in_a_sentence() {
    for (text, parts) in [
        ("mod = 'copy'", &["line 4, interface", "found `mod`", "did you mean `mode`?"][..]),
        (
            "mode = 'fast'",
            &["interface.mode", "expected auto, zerocopy, copy or generic", "`fast`"],
        ),
        ("gateway = 'fd00::1'", &["interface.gateway", "IPv4"]),
        ("gateway = '10.99.0.2'", &["interface.gateway", "which the engine owns"]),
        ("queues = 0", &["interface.queues: expected from 1 to 256, found 0"]),
        ("queues = 2\ncpus = [1]", &["expected a CPU for each of 2 queues, found 1"]),
        ("cpus = [1, 1]", &["expected each CPU once, found 1 twice"]),
        ("rx_max = 3000", &["interface.rx_max: expected a power of two", "3000", "use 4096"]),
        ("fill_max = 1", &["interface.fill_max: expected a power of two", "use 64"]),
        ("frame_bytes = 1500", &["interface.frame_bytes: expected 2048 or 4096, found 1500"]),
        ("frames_max = 10", &["interface.frames_max: expected from 9344", "found 10"]),
        ("impair_frames_max = 255", &["impair_frames_max: expected from 256", "found 255"]),
        ("[impair]\ntx = {}", &["impair.tx: expected a fault, found none"]),
        ("[impair.rx]\nloss = '101%'", &["impair.rx.loss", "a share from 0% to 100%", "`101%`"]),
        ("[impair.rx]\nlost = '1%'", &["found `lost`", "did you mean `loss`?"]),
        ("prefixes = ['10.1.0.5/16']", &["without host bits", "10.1.0.0/16 or 10.1.0.5/32"]),
        ("prefixes = ['224.0.0.0/8']", &["expected a prefix of unicast addresses"]),
        ("prefixes = ['fd00::/64']", &["IPv6 is not supported yet by the stack"]),
        ("prefixes = ['10.1.0.0/16', '10.1.2.0/24']", &["expected separate prefixes"]),
        ("ownership = 'shared'\nprefixes = ['10.1.0.0/16']", &["expected none with shared"]),
        ("port_range = '5-1'", &["interface.port_range", "expected a port range"]),
        ("port_range = '0-9'", &["expected a port from 1 to 65535, found `0`"]),
        ("[tpc]", &["the top level", "found `tpc`", "did you mean `tcp`?"]),
        ("[tcp]\nrto_mni = '1s'", &["line 5, tcp", "found `rto_mni`", "did you mean `rto_min`?"]),
        ("[tcp]\nrto_min = 5", &["tcp.rto_min: expected a duration with its unit", "`5`"]),
        ("[tcp]\nrto_min = '2min'", &["tcp.rto_min: expected from 1ms to 60s, found 120s"]),
        ("[tcp]\ndelayed_ack = '1s'", &["tcp.delayed_ack: expected from 0 to 500ms, found 1s"]),
        (
            "[tcp]\nconnections_max = '1e12'",
            &["expected from 1 to 100,000,000", "found 1,000,000,"],
        ),
        ("[tcp]\nmss = 9", &["tcp.mss: expected from 88 to 9,176, found 9"]),
        ("[tcp]\nttl = 0", &["tcp.ttl: expected from 1 to 255, found 0"]),
        ("[tcp]\nttl = 700", &["tcp.ttl"]),
        ("[tcp]\ndscp = 64", &["tcp.dscp: expected from 0 to 63, found 64"]),
        ("[tcp]\nwindow_scale = false", &["expected at most 65535 without scaling"]),
        ("[tcp]\nbuffer_bytes_max = '1KiB'", &["tcp.buffer_bytes_max: expected from 262,144"]),
        ("[[listen]]\nport = 0\napp = 'echo'", &["expected a port from 1 to 65535, found `0`"]),
        ("[[listen]]\nport = 70000\napp = 'echo'", &["expected a port", "found `70000`"]),
        ("[[listen]]\nport = 80\napp = 'ehco'", &["expected an application: echo, discard"]),
        ("[[listen]]\nport = 80", &["missing field `app`"]),
        (
            "[[listen]]\nport = '10.5.5.5:80'\napp = 'echo'",
            &["that the engine owns, found 10.5.5.5"],
        ),
        (
            "[[listen]]\nport = 80\napp = 'echo'\n[[listen]]\nport = '10.99.0.2:80'\napp = 'http'",
            &["expected one listener per port", "80=echo and 10.99.0.2:80=http"],
        ),
        ("[control]\npath = 'x.sock'", &["control.path: expected an absolute path", "`x.sock`"]),
        ("[control", &["line 4"]),
        ("addresses = []", &["line 4", "duplicate key"]),
    ] {
        let error = refusal(&format!("{INTERFACE}{text}\n"));
        for part in parts {
            assert!(error.contains(part), "`{text}`: expected `{part}` in\n  {error}");
        }
    }
}

#[test]
fn a_device_and_an_address_are_needed() {
    assert!(refusal("").contains("interface.dev: expected the name of a network device"));
    assert!(refusal("interface.dev = 'd0'").contains("give --addr, such as --addr 10.99.0.2/24"));
    assert!(refusal("interface.dev = 'a/b'").contains("found `a/b`"));
    for address in ["10.99.0.0/24", "10.99.0.255/24", "127.0.0.1/8", "0.0.0.0/0", "224.0.0.1/24"] {
        let text = format!("interface.dev = 'd0'\ninterface.addresses = ['{address}']");
        assert!(refusal(&text).contains("expected the address of a host"), "{address}");
    }
}

/// Each row: what follows a plan with sources and a destination, and what the refusal says.
#[test]
fn impossible_plans_are_refused_with_the_arithmetic() {
    for (text, parts) in [
        ("connections = '1e12'", &["load.connections: expected from 1 to 100,000,000"][..]),
        (
            "connections = '3m'",
            &["at most tcp.connections_max = 2,000,000", "--connections-max 6m"],
        ),
        ("connections = 0", &["load.connections: expected from 1"]),
        ("conections = 5", &["found `conections`", "did you mean `connections`?"]),
        ("mode = 'rrr'", &["load.mode", "expected hold, rr or cps", "`rrr`"]),
        ("mode = 'rr'\nduration = 0", &["load.duration", "give --duration"]),
        ("protocol = 'ftp'", &["load.protocol", "expected echo, http or http:/PATH"]),
        ("protocol = 'http:x y'", &["expected echo, http or http:/PATH"]),
        ("stateless = true\nmode = 'rr'", &["load.stateless", "found mode rr", "use mode hold"]),
        ("stateless = true\nmode = 'cps'", &["found mode cps", "or leave out --stateless"]),
        ("stateless = true\nprotocol = 'http'", &["found protocol http", "use protocol echo"]),
        ("stateless = true\nrequest_bytes = 537", &["request_bytes: expected from 1 to 536"]),
        ("sample = '101%'", &["load.sample", "a share from 0% to 100%"]),
        ("request_bytes = 0", &["load.request_bytes: expected from 1 to 1,048,576, found 0"]),
        ("outstanding_max = 0", &["load.outstanding_max: expected from 1"]),
        ("timeout = 0", &["load.timeout: expected from 1ms"]),
        ("rate = 0", &["load.rate: expected from 1"]),
        (
            "mode = 'cps'\nrate = '10m'\nsrc_ports = '1024-1087'\nduration = '10s'",
            &["10m/s with tuples in TIME_WAIT for 60s", "--close rst"],
        ),
    ] {
        let error = refusal(&format!("{LOAD}{text}\n"));
        for part in parts {
            assert!(error.contains(part), "`{text}`: expected `{part}` in\n  {error}");
        }
    }
    for (from, to, part) in [
        ("10.99.0.1:7000", "10.99.0.1:0", "expected a port from 1 to 65535"),
        ("10.99.0.1:7000", "10.99.0.2:7", "expected another machine, found 10.99.0.2:7"),
        ("'10.99.0.1:7000'", "", "give --dst"),
        ("'10.99.0.1:7000'", "'10.99.0.1:7', '10.99.0.1:7'", "found 10.99.0.1:7 twice"),
        ("src = ['10.1.0.0/16']", "src = ['10.2.0.0/16']", "add \"10.2.0.0/16\" to"),
        ("src = ['10.1.0.0/16']", "src = ['10.1.0.0/24', '10.1.0.5/32']", "expected separate"),
    ] {
        let error = refusal(&LOAD.replace(from, to));
        assert!(error.contains(part), "{to}: expected `{part}` in\n  {error}");
    }
}

#[test]
fn a_plan_without_enough_addresses_says_how_many_it_needs() {
    let text = LOAD.replace("src = ['10.1.0.0/16']", "src = ['10.1.0.0/29']\nconnections = '1m'");
    assert_eq!(
        refusal(&text),
        "load.connections: 1,000,000 connections need 16 source addresses (64,512 tuples each for \
         one destination); --src 10.1.0.0/29 has 6; use at least --src 10.1.0.0/27"
    );
    let enough = text.replace("10.1.0.0/29", "10.1.0.0/27");
    assert_eq!(Config::parse(&enough).and_then(|config| config.check()), Ok(()));
}

#[test]
fn a_plan_with_shared_ownership_stays_in_its_port_range() {
    let shared = "[interface]\ndev = 'd0'\nownership = 'shared'\n[load]\ndst = ['10.9.0.1:80']\n";
    assert_eq!(Config::parse(shared).and_then(|config| config.check()), Ok(()));
    let error = refusal(&format!("{shared}src_ports = '1024-2000'\n"));
    assert!(error.contains("expected ports of interface.port_range 61000-65535"), "{error}");
}

#[test]
fn a_configuration_survives_the_way_to_a_file_and_back() {
    let text = format!(
        "{LOAD}mode = 'cps'\nprotocol = 'http:/bytes/10'\nrate = '1.5m/s'\nramp = '250ms'\n\
         [[listen]]\nport = 80\napp = 'small-writes:10x10'\n[tcp]\nkeepalive = '90s'\n\
         [impair]\nseed = 7\ntx = {{ loss = '0.5%', rate = '100mbit' }}\nrx = {{ delay = '5ms' }}\n"
    );
    let config = Config::parse(&text).expect("a good configuration");
    let plan = config.load.as_ref().expect("a plan");
    assert_eq!(plan.mode, LoadMode::ConnectionsPerSecond);
    assert_eq!(plan.protocol, LoadProtocol::Http { path: "/bytes/10".into() });
    assert_eq!(plan.rate, Some(Rate(1_500_000)));
    assert_eq!(config.tcp.keepalive, Span::from_secs(90));
    assert_eq!(config.impair.rx.map(|rx| rx.delay), Some(Span::from_millis(5)));
    assert_eq!(config.interface.mode, Mode::Auto);
    assert_eq!(Config::parse(&config.to_toml()).as_ref(), Ok(&config), "{}", config.to_toml());
    assert_eq!(Config::parse(&Config::default().to_toml()), Ok(Config::default()));
}

#[test]
fn the_lower_of_rate_and_ramp_paces_the_opens() {
    let mut plan = Config::parse(LOAD).expect("a good configuration").load.expect("a plan");
    plan.connections = Count(1_000_000);
    assert_eq!(plan.opens_per_second(), None);
    plan.ramp = Span::from_secs(5);
    assert_eq!(plan.opens_per_second(), Some(200_000.0));
    plan.rate = Some(Rate(50_000));
    assert_eq!(plan.opens_per_second(), Some(50_000.0));
}

#[test]
fn a_file_that_is_no_configuration_is_refused_before_it_is_read() {
    let error = refusal(&"#".repeat(2 << 20));
    assert!(error.contains("expected at most 1048576 bytes, found 2097152"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = Config::parse(&text).and_then(|config| config.check());
    }

    #[test]
    fn no_value_panics(key in 0usize..12, n: i64) {
        let keys = ["interface.rx_max", "interface.frames_max", "interface.queues", "tcp.mss",
            "tcp.ttl", "tcp.rto_min", "tcp.window_bytes_max", "load.connections", "load.rate",
            "load.ramp", "load.request_bytes", "load.outstanding_max"];
        let text = format!("{} = {n}\n[load]\ndst = ['10.9.0.1:80']\n", keys[key]);
        let _ = Config::parse(&text).and_then(|config| config.check());
    }
}
