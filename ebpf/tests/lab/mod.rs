//! A network of our own to attach programs in: the calling thread moves into new network and mount
//! namespaces, which end with it, and gets a bpffs at `/sys/fs/bpf` there. Needs root, and says so.

use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

/// Panics when not run by root: a test that skips would count as passed.
pub(crate) fn require_root() {
    assert!(geteuid().is_root(), "this test loads BPF programs and needs root: sudo -E cargo test");
}

/// Moves this thread into namespaces of its own.
pub(crate) fn enter() {
    require_root();
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("new namespaces");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), none).expect("a bpffs");
}

/// Makes a veth pair in this thread's network namespace, and returns the number of its first end.
/// Each end is the name and, if need be, options in the words of `ip link`.
pub(crate) fn veth(end: &str, peer: &str) -> u32 {
    ip(&format!("link add {end} type veth peer name {peer}"));
    let name = |end: &str| end.split(' ').next().expect("a name").to_string();
    let (name, peer) = (name(end), name(peer));
    ip(&format!("link set {name} up"));
    ip(&format!("link set {peer} up"));
    if_nametoindex(name.as_str()).expect("the interface just made")
}

/// Runs `ip` with these words and expects success.
pub(crate) fn ip(words: &str) {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {stderr}");
}
