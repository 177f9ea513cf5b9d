//! Two namespaces of a test's own, made and removed by `deploy/lab.sh`, and ways to run something in
//! them: a command, or a function on a thread of this process. One lab at a time exists, because two
//! engines that share two CPUs with two others prove nothing about time.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;

/// Makes and removes the namespaces.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/lab.sh");

/// One side of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Interface `server0`.
    Server,
    /// Interface `client0`.
    Client,
}

impl End {
    pub fn name(self) -> &'static str {
        match self {
            End::Server => "server",
            End::Client => "client",
        }
    }

    pub fn dev(self) -> &'static str {
        match self {
            End::Server => "server0",
            End::Client => "client0",
        }
    }
}

/// The namespaces, and a directory for files.
#[derive(Debug)]
pub struct Lab {
    name: String,
    dir: PathBuf,
    /// Removes all of it when its input ends, and so also when this process is killed.
    keeper: Child,
    /// Locked for as long as the lab exists, by whatever test process.
    _turn: File,
}

impl Lab {
    /// A lab whose ends have two queues. `kernel` are the ends that the kernel gets, with its
    /// address there.
    pub fn new(kernel: &[(End, &str)]) -> Lab {
        assert!(geteuid().is_root(), "this test makes network namespaces and needs root");
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let turn = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lab.lock");
        let turn = File::create(turn).expect("makes the lock of the lab");
        turn.lock().expect("waits for its turn");

        let name = format!("e2e{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(format!("barewire-{name}"));
        fs::create_dir(&dir).expect("makes a directory");
        // Tests of other users must get through it.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("opens its directory");
        let keeper = start_keeper(&name, &dir);
        let lab = Lab { name, dir, keeper, _turn: turn };
        let mut up = Command::new(SCRIPT);
        up.args(["up", "--names", &lab.name]);
        for (end, address) in kernel {
            up.args(["--kernel", &format!("{}={address}", end.name())]);
        }
        Ended::of(&mut up).expect_status(0);
        lab
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    pub fn namespace(&self, end: End) -> String {
        format!("barewire-{}-{}", self.name, end.name())
    }

    /// A command that runs in the namespace of `end`; words are separated by spaces.
    pub fn command(&self, end: End, line: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(end)]).args(line.split_whitespace());
        command.stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, end: End, line: &str) -> Ended {
        Ended::of(&mut self.command(end, line))
    }

    /// Starts a command that goes on, with its output in a file of the lab.
    pub fn start(&self, end: End, line: &str, log: &str) -> Running {
        let log = self.path(log);
        let file = File::create(&log).expect("makes a log");
        let mut command = self.command(end, line);
        command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        Running { child: command.spawn().expect("starts"), line: line.to_owned(), log }
    }

    /// Runs `body` on a thread in the namespace of `end`. Sockets that it makes stay there, wherever
    /// they are used.
    pub fn within<T: Send>(&self, end: End, body: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new("/run/netns").join(self.namespace(end)));
        let namespace = namespace.expect("the namespace exists");
        let entered = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("enters the namespace");
            body()
        };
        let joined = thread::scope(|scope| scope.spawn(entered).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// What the kernel says of the interface of `end`.
    pub fn link(&self, end: End) -> String {
        self.run(end, &format!("ip -d link show dev {}", end.dev())).expect_status(0).out
    }

    /// The interface carries no XDP program, at once or within a second.
    pub fn expect_nothing_attached(&self, end: End) {
        within_a_second("the XDP program is off", || {
            let link = self.link(end);
            !link.contains("prog/xdp") && !link.contains("xdp")
        });
    }

    /// One echo request; true when it was answered within half a second.
    pub fn pings(&self, from: End, addr: &str) -> bool {
        self.run(from, &format!("ping -n -c 1 -W 0.5 {addr}")).status == 0
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let ended = self.keeper.wait().expect("the keeper can be waited for");
        assert!(ended.success() || thread::panicking(), "the lab was not removed: {ended}");
    }
}

/// Waits in the background for the end of its input, in a process group that no signal to the tests
/// reaches.
fn start_keeper(name: &str, dir: &Path) -> Child {
    let keep = "cat > /dev/null; rm -rf \"$3\"; exec \"$1\" down --names \"$2\"";
    Command::new("sh")
        .args(["-c", keep, "keeper", SCRIPT, name])
        .arg(dir)
        .stdin(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("starts the keeper of the lab")
}

/// Waits for something that takes the kernel a moment.
pub fn within_a_second(what: &str, is_so: impl FnMut() -> bool) {
    await_that(what, Duration::from_secs(1), is_so);
}

/// Waits until something is so, and fails when it takes longer than `time_max`.
pub fn await_that(what: &str, time_max: Duration, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + time_max;
    while !is_so() {
        assert!(Instant::now() < deadline, "expected within {time_max:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ended {
    line: String,
    pub out: String,
    pub err: String,
    pub status: i32,
}

impl Ended {
    pub fn of(command: &mut Command) -> Ended {
        let line = format!("{command:?}");
        let output = command.output().unwrap_or_else(|error| panic!("{line}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        // Ended by a signal, it has no status of its own.
        Ended { line, out, err, status: output.status.code().unwrap_or(-1) }
    }

    #[track_caller]
    pub fn expect_status(self, status: i32) -> Ended {
        let Ended { line, out, err, status: found } = &self;
        assert_eq!(*found, status, "{line}\n{out}\n{err}");
        self
    }

    /// The sentence of an error holds these words.
    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Ended {
        for word in words {
            assert!(self.err.contains(word), "expected '{word}': {}\n{}", self.line, self.err);
        }
        self
    }
}

/// A command that goes on, ended with its owner.
#[derive(Debug)]
pub struct Running {
    pub child: Child,
    line: String,
    log: PathBuf,
}

impl Running {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        Ended::of(Command::new("kill").args(["-s", name, &pid])).expect_status(0);
    }

    /// Waits for its end: the status, or -1 when a signal ended it.
    #[track_caller]
    pub fn wait(&mut self, time_max: Duration) -> i32 {
        let deadline = Instant::now() + time_max;
        loop {
            if let Some(status) = self.child.try_wait().expect("can be waited for") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "{} goes on:\n{}", self.line, self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{} said:\n{}", self.line, self.log());
        }
        // It has ended already when the test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
