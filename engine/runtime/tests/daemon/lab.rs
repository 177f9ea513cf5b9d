//! What these tests share: a veth pair between the test's own network namespace, where
//! the daemon runs, and a second one, where the kernel is the peer; and a daemon that is ended with
//! its test.
//!
//! ```text
//!   this namespace                                    the peer's, held open by a sleeping process
//!   kernel 10.99.0.9/24  d0 ---- veth, 2 queues ---- d1  kernel 10.99.0.1/24
//!   engine 10.99.0.2
//! ```

use crate::netns::run;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const ENGINE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub(crate) const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 9);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
pub(crate) const FAR: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);

/// Flags of a daemon that owns [`ENGINE`].
pub(crate) const OWNED: [&str; 4] = ["--dev", "d0", "--addr", "10.99.0.2/24"];

/// Longest wait for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `done` gives something.
pub(crate) fn eventually<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "in {PATIENCE:?} it never came to: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Gives this thread, and the processes that it starts, a bpffs of their own in the usual place.
pub(crate) fn mount_bpffs() {
    unshare(CloneFlags::CLONE_NEWNS).expect("this needs root");
    let (none, place) = (None::<&str>, "/sys/fs/bpf");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("a private view");
    mount(Some("bpf"), place, Some("bpf"), MsFlags::empty(), none).expect("the kernel has bpffs");
}

/// The peer's namespace; it lives as long as this.
pub(crate) struct Peer {
    sleeper: Child,
}

impl Peer {
    /// Makes both ends of the veth pair.
    pub(crate) fn new() -> Self {
        run("ip link add d0 numrxqueues 2 numtxqueues 2 type veth \
             peer name d1 numrxqueues 2 numtxqueues 2");
        let peer = Peer::alone();
        run(&format!("ip link set d1 netns {}", peer.pid()));
        run("ip link set lo up");
        run(&format!("ip addr add {KERNEL}/24 dev d0"));
        run("ip link set d0 up");
        peer.run(&format!("ip addr add {PEER}/24 dev d1"));
        peer.run("ip link set lo up");
        peer.run("ip link set d1 up");
        eventually("the link is up", || run("ip link show d0").contains("LOWER_UP").then_some(()));
        peer
    }

    /// Makes this one a router, and a third namespace with [`FAR`] behind it. The router sends packets
    /// of at most `mtu` bytes there, and nobody else knows.
    pub(crate) fn router_to_far(&self, mtu: u32) -> Self {
        let far = Peer::alone();
        self.run("ip link add r0 type veth peer name r1");
        self.run(&format!("ip link set r1 netns {}", far.pid()));
        self.run(&format!("ip addr add {ROUTER}/24 dev r0"));
        self.run(&format!("ip link set r0 mtu {mtu} up"));
        self.run("sysctl -q -w net.ipv4.ip_forward=1");
        far.run(&format!("ip addr add {FAR}/24 dev r1"));
        far.run("ip link set r1 up");
        // What it sends must fit the router's link, which drops what is larger and tells nobody; what it
        // says that it takes does not follow from that.
        far.run(&format!("ip route add default via {ROUTER} mtu {mtu} advmss 1460"));
        far
    }

    /// A namespace with nothing in it.
    fn alone() -> Self {
        let mut sleeper = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo ready; exec sleep 300"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (util-linux) runs");
        let mut ready = [0; 6];
        let output = sleeper.stdout.as_mut().expect("it is piped");
        output.read_exact(&mut ready).expect("the sleeper speaks");
        Peer { sleeper }
    }

    fn pid(&self) -> u32 {
        self.sleeper.id()
    }

    /// Runs a command line in the peer's namespace.
    pub(crate) fn run(&self, line: &str) -> String {
        run(&format!("nsenter -t {} -n {line}", self.pid()))
    }

    /// Runs `body` on a thread in the peer's namespace: its sockets are the peer's kernel's.
    pub(crate) fn within<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        let path = format!("/proc/{}/ns/net", self.pid());
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                let namespace = File::open(path).expect("the sleeper lives");
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("this needs root");
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// True when `addr` answers one ping within a second.
    pub(crate) fn pings(&self, addr: Ipv4Addr) -> bool {
        let pid = self.pid().to_string();
        let line = ["-t", &pid, "-n", "ping", "-c1", "-W1", &addr.to_string()].map(str::to_owned);
        let ping = Command::new("nsenter").args(line).stdout(Stdio::null()).status();
        ping.expect("nsenter and ping run").success()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.sleeper.kill().ok();
        self.sleeper.wait().ok();
    }
}

/// A running daemon and what it printed.
pub(crate) struct Daemon {
    child: Child,
    output: Arc<Mutex<String>>,
    pub(crate) control: PathBuf,
}

impl Daemon {
    /// Starts a daemon and waits until it is ready.
    pub(crate) fn start(args: &[&str]) -> Self {
        Daemon::start_at(&control_path(), args)
    }

    /// The same with a control socket of a certain path.
    pub(crate) fn start_at(control: &Path, args: &[&str]) -> Self {
        let mut daemon = Daemon::spawn(control, args);
        eventually("the daemon is ready", || {
            let output = daemon.output();
            let ended = daemon.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "the daemon ended:\n{output}");
            output.lines().any(|line| line.ends_with("ready")).then_some(())
        });
        daemon
    }

    /// Starts a daemon that must refuse, and returns its exit status and what it printed.
    pub(crate) fn refused(args: &[&str]) -> (i32, String) {
        let mut daemon = Daemon::spawn(&control_path(), args);
        let status = daemon.wait();
        (status.code().expect("it was not killed"), daemon.output())
    }

    fn spawn(control: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_barewired"))
            .arg("--control")
            .arg(control)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon runs");
        let output = Arc::new(Mutex::new(String::new()));
        let stderr = child.stderr.take().expect("it is piped");
        let sink = Arc::clone(&output);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut output = sink.lock().expect("nobody panics with it");
                output.push_str(&line);
                output.push('\n');
            }
        });
        Daemon { child, output, control: control.to_owned() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().expect("nobody panics with it").clone()
    }

    /// Sends it a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        run(&format!("kill -{name} {}", self.pid()));
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = eventually("the daemon ends", || self.child.try_wait().expect("our child"));
        // Its last line is on its way through the pipe.
        thread::sleep(Duration::from_millis(50));
        status
    }

    /// Ends it by a signal; its books must balance.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.wait();
        let output = self.output();
        assert!(status.success(), "{status}:\n{output}");
        assert!(output.contains("barewired: ended: "), "{output}");
        output
    }

    /// A connection to its control socket.
    pub(crate) fn client(&self) -> Client {
        let stream = UnixStream::connect(&self.control).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client { stream: BufReader::new(stream) }
    }

    /// The answer to one request on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> String {
        self.client().ask(request)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_file(&self.control).ok();
        if thread::panicking() {
            eprintln!("the daemon's output:\n{}", self.output());
        }
    }
}

/// A client of the control socket that says anything.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Sends a line and returns the line that comes back.
    pub(crate) fn ask(&mut self, request: &str) -> String {
        self.send(format!("{request}\n").as_bytes()).expect("the daemon takes it");
        self.answer()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next line, empty at the end of the stream.
    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(_) => line.trim_end().to_owned(),
            // What we were still sending was refused with the connection.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
            Err(error) => panic!("no answer in {PATIENCE:?}: {error}"),
        }
    }
}

/// A path that no other test uses.
pub(crate) fn control_path() -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("barewired-test-{}-{number}.sock", std::process::id()))
}
