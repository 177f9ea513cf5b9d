//! The other side for tests of the command: a daemon's control socket played by a thread, a
//! directory of its own, and the command run to its end.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use barewire_api::control::{PROTOCOL_VERSION, Request, Response, from_line, to_line};

/// A directory that goes away with its owner.
#[derive(Debug)]
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("barewire-test-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).expect("makes a directory");
        Dir(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("a path of ours is text")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("removes its directory");
    }
}

/// A control socket whose requests, after the greeting, are answered by a closure.
#[derive(Debug)]
pub struct Daemon {
    dir: Dir,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    pub fn new(answer: impl FnMut(Request) -> Response + Send + 'static) -> Self {
        Daemon::with_page(0, answer)
    }

    /// A daemon whose statistics page is the open file number `page_fd` of this process.
    pub fn with_page(
        page_fd: u32,
        answer: impl FnMut(Request) -> Response + Send + 'static,
    ) -> Self {
        Daemon::within(Dir::new(), page_fd, answer)
    }

    /// A daemon with its socket `sock` in `dir`.
    pub fn within(
        dir: Dir,
        page_fd: u32,
        mut answer: impl FnMut(Request) -> Response + Send + 'static,
    ) -> Self {
        let listener = UnixListener::bind(dir.join("sock")).expect("binds its socket");
        let pid_file = dir.join("pid");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // The thread ends with the test's process: it only waits.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A script that plays the daemon's process has written its number there.
                let pid = std::fs::read_to_string(&pid_file);
                let pid = pid.ok().and_then(|pid| pid.trim().parse().ok());
                let greeting = Response::Hello {
                    protocol: PROTOCOL_VERSION,
                    version: "test".into(),
                    pid: pid.unwrap_or(std::process::id()),
                    page_fd,
                };
                serve(stream.expect("accepts"), &greeting, &seen, &mut answer);
            }
        });
        Daemon { dir, requests }
    }

    pub fn path(&self) -> &str {
        // Leaked so that one borrow serves a whole command line; a few bytes per test.
        self.dir.join("sock").display().to_string().leak()
    }

    /// Waits until such a request has come.
    pub fn await_request(&self, is_it: impl Fn(&Request) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.requests.lock().expect("no test panics while it holds this").iter().any(&is_it)
        {
            assert!(Instant::now() < deadline, "the request did not come");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn last_request(&self) -> Request {
        let requests = self.requests.lock().expect("no test panics while it holds this");
        requests.last().expect("was asked something").clone()
    }
}

fn serve(
    stream: UnixStream,
    greeting: &Response,
    seen: &Mutex<Vec<Request>>,
    answer: &mut impl FnMut(Request) -> Response,
) {
    let mut writer = stream.try_clone().expect("clones its socket");
    for line in BufReader::new(stream).lines() {
        let line = line.expect("reads a line");
        let request: Request = from_line(line.as_bytes()).expect("is sent requests");
        let response = match &request {
            Request::Hello { protocol } => {
                assert_eq!(*protocol, PROTOCOL_VERSION);
                greeting.clone()
            }
            request => {
                seen.lock().expect("no test panics while it holds this").push(request.clone());
                answer(request.clone())
            }
        };
        // The command may be gone, as when the reader of its output has left.
        if writer.write_all(to_line(&response).as_bytes()).is_err() {
            return;
        }
    }
}

/// Held by whoever writes a program or starts one. A process that is just being started has our open
/// files for a moment, and the kernel runs no program that somebody has open for writing.
pub static PROGRAMS: Mutex<()> = Mutex::new(());

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub out: String,
    pub err: String,
    pub status: i32,
}

/// Runs the built command to its end.
pub fn barewire(line: &[&str]) -> Ended {
    end(command(line))
}

/// Starts the built command.
pub fn command(line: &[&str]) -> Child {
    spawn(Path::new(env!("CARGO_BIN_EXE_barewire")), line)
}

pub fn spawn(program: &Path, line: &[&str]) -> Child {
    let _starting = PROGRAMS.lock().expect("no test panics while it holds this");
    Command::new(program)
        .args(line)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts the command")
}

pub fn end(child: Child) -> Ended {
    let ended = child.wait_with_output().expect("ends");
    Ended {
        out: String::from_utf8(ended.stdout).expect("prints text"),
        err: String::from_utf8(ended.stderr).expect("prints text"),
        status: ended.status.code().expect("is not ended by a signal"),
    }
}
