//! What cannot work is refused with a sentence that says what was found and what to do, with the exit
//! status that goes with it, and nothing is attached.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::engine::{CLIENT, KERNEL, barewire, refused};
use crate::lab::{End, Lab};

/// Flags of `serve`, the exit status, and words of the sentence.
const SERVE: &[(&str, i32, &[&str])] = &[
    ("--addr 10.99.0.3/24 --queues 9", 3, &["at most 2", "found 9", "--queues 2"]),
    ("--addr 10.99.0.1/24", 3, &["10.99.0.1", "client0", "ip addr del"]),
    ("--prefix 10.99.0.0/16", 3, &["10.99.0.1", "client0"]),
    ("--ownership shared --addr 10.99.0.3/24", 3, &["10.99.0.3", "it has 10.99.0.1/24"]),
    ("--addr 10.99.0.3/24 --mode zerocopy", 3, &["zero-copy", "client0"]),
    ("", 2, &["expected an address", "--addr"]),
    ("--addr 10.99.0.3/24 --listen 0=echo", 2, &["port from 1 to 65535", "`0`"]),
    ("--addr 10.99.0.3/24 --listen 70000=echo", 2, &["port from 1 to 65535", "`70000`"]),
    ("--addr 10.99.0.3/24 --listen 80=ehco", 2, &["expected an application", "echo, discard"]),
    ("--addr 10.99.0.3/24 --connections-max 1000000000000", 2, &["from 1 to 100,000,000"]),
    ("--addr 10.99.0.0/24", 2, &["address of a host", "10.99.0.0/24"]),
    ("--addr 10.99.0.3", 2, &["10.99.0.3"]),
    ("--addr 10.99.0.3/24 --cpus 900,901", 3, &["900"]),
    ("--addr 10.99.0.3/24 --set tcp.mss=9", 2, &["tcp.mss"]),
];

/// Flags of `load hold`, likewise.
const LOAD: &[(&str, i32, &[&str])] = &[
    ("--connections 1000000000000 --src 10.1.0.0/16 --dst 10.99.0.1:7000", 2, &["100,000,000"]),
    (
        "--connections 1m --src 10.1.0.0/29 --dst 10.99.0.1:7000",
        2,
        &["need 16 source addresses", "has 6", "--src 10.1.0.0/27"],
    ),
    ("--src 10.1.0.0/24", 2, &["where to connect to", "--dst"]),
    ("--src 10.1.0.0/24 --dst 10.99.0.1:70000", 2, &["port from 1 to 65535"]),
    ("--src 10.1.0.0/24 --dst 10.1.0.7:7000", 2, &["10.1.0.7:7000", "this engine owns"]),
    ("--src 10.1.0.0/24 --dst 10.99.0.1:7000 --expect p98<1ms", 2, &["p98<1ms", "METRIC"]),
];

fn lab() -> Lab {
    Lab::new(&[(End::Client, &format!("{KERNEL}/24"))])
}

#[test]
fn a_server_that_cannot_be_is_refused() {
    let lab = lab();
    for (flags, status, words) in SERVE {
        refused(&lab, End::Client, flags).expect_status(*status).expect_words(words);
        lab.expect_nothing_attached(End::Client);
        assert!(!lab.path("refused.sock").exists(), "{flags}: a control socket is left");
    }
}

#[test]
fn a_load_test_that_cannot_be_is_refused() {
    let lab = lab();
    for (flags, status, words) in LOAD {
        let line = format!("timeout -s KILL 20 {} load hold --dev client0 {flags}", barewire());
        lab.run(End::Client, &line).expect_status(*status).expect_words(words);
        lab.expect_nothing_attached(End::Client);
    }
}

#[test]
fn an_interface_that_is_not_there_is_named_with_those_that_are() {
    let lab = lab();
    let line = format!("{} serve --dev eth7 --addr {CLIENT}/24", barewire());
    let ended = lab.run(End::Client, &line);
    ended.expect_status(3).expect_words(&["`eth7`", "found: lo, client0"]);
}

#[test]
fn an_interface_that_is_down_says_how_to_bring_it_up() {
    let lab = lab();
    lab.run(End::Client, "ip link set client0 down").expect_status(0);
    let ended = refused(&lab, End::Client, &format!("--addr {CLIENT}/24"));
    ended.expect_status(3).expect_words(&["client0", "down", "ip link set"]);
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_known_one() {
    let lab = lab();
    let file = lab.path("wrong.toml");
    let text = "[interface]\ndev = \"client0\"\naddresses = [\"10.99.0.3/24\"]\n\n[tcp]\ndelayed_akc = \"10ms\"\n";
    fs::write(&file, text).expect("writes a configuration");
    let ended = refused(&lab, End::Client, &format!("--config {}", file.display()));
    ended.expect_status(2).expect_words(&["line 6", "`delayed_akc`", "`delayed_ack`"]);
    lab.expect_nothing_attached(End::Client);
}

#[test]
fn without_root_the_reason_is_said() {
    let lab = lab();
    // The build may lie where nobody else can go.
    for name in ["barewire", "barewired"] {
        let copy = lab.path(name);
        fs::copy(Path::new(barewire()).with_file_name(name), &copy).expect("copies the program");
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("makes it runnable");
    }
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let barewire = lab.path("barewire");
    let serve = format!("{} serve --dev client0 --addr {CLIENT}/24", barewire.display());
    let control = "--control /tmp/barewire-nobody.sock";
    let ended = lab.run(End::Client, &format!("timeout -s KILL 20 {nobody} {serve} {control}"));
    ended.expect_status(3).expect_words(&["root"]);
    lab.expect_nothing_attached(End::Client);
}
