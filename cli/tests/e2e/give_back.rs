//! However an engine ends, the interface is the kernel's again; and an engine takes no interface that
//! is somebody else's.

use std::fs;
use std::path::Path;

use crate::engine::{Engine, KERNEL, SERVER, STOP_TIME_MAX, refused};
use crate::lab::{End, Ended, Lab, within_a_second};

fn lab() -> Lab {
    Lab::new(&[(End::Client, &format!("{KERNEL}/24"))])
}

/// The kernel takes the address that was the engine's, and answers for it.
fn expect_given_back(lab: &Lab) {
    lab.expect_nothing_attached(End::Server);
    let take = format!("addr add {SERVER}/24 dev server0");
    lab.run(End::Server, &format!("ip {take}")).expect_status(0);
    within_a_second("the kernel answers", || lab.pings(End::Client, SERVER));
    let pins = Path::new("/sys/fs/bpf/barewire/server0");
    assert!(!pins.exists(), "a pin is left");
    lab.run(End::Server, &format!("ip addr del {SERVER}/24 dev server0")).expect_status(0);
}

#[test]
fn every_signal_gives_the_interface_back() {
    let lab = lab();
    for (signal, status) in [("TERM", 0), ("INT", 0), ("KILL", -1)] {
        let mut engine = Engine::server(&lab);
        assert!(lab.link(End::Server).contains("xdp"), "the engine is attached");
        assert!(lab.pings(End::Client, SERVER), "the engine answers");
        // A connection that is open when the signal comes must not hold the end up.
        let stream = lab.within(End::Client, || crate::kernel::connect(&format!("{SERVER}:8080")));
        engine.running.signal(signal);
        assert_eq!(engine.running.wait(STOP_TIME_MAX), status, "{}", engine.running.log());
        assert_eq!(engine.control().exists(), signal == "KILL", "{signal}: the control socket");
        expect_given_back(&lab);
        drop(stream);
    }
    // The socket that the killed engine left is in nobody's way.
    Engine::server(&lab).stop();
    expect_given_back(&lab);
}

#[test]
fn a_second_engine_on_the_interface_is_refused() {
    let lab = lab();
    let engine = Engine::server(&lab);
    let second = refused(&lab, End::Server, "--addr 10.99.0.8/24 --listen 9000=echo");
    second.expect_status(3).expect_words(&["server0", "already carries", "steer", "xdp unload"]);
    assert!(lab.pings(End::Client, SERVER), "the first goes on");
    engine.stop();
}

#[test]
fn a_foreign_program_is_refused_and_stays() {
    let lab = lab();
    let (source, object) = (lab.path("foreign.c"), lab.path("foreign.o"));
    let text = "__attribute__((section(\"xdp\"), used)) int foreign(void *ctx) { return 2; }\n";
    fs::write(&source, text).expect("writes a program");
    let compile = format!("clang -O2 -target bpf -c {} -o {}", source.display(), object.display());
    lab.run(End::Server, &compile).expect_status(0);
    let attach = format!("ip link set dev server0 xdpdrv obj {} sec xdp", object.display());
    lab.run(End::Server, &attach).expect_status(0);

    let ended = refused(&lab, End::Server, &format!("--addr {SERVER}/24"));
    ended.expect_status(3).expect_words(&["server0", "already carries", "foreign", "xdp off"]);
    assert!(lab.link(End::Server).contains("prog/xdp"), "the foreign program stays");
    Ended::of(&mut lab.command(End::Server, "ip link set dev server0 xdp off")).expect_status(0);
}
