//! Starts `barewired`: in place of this process for `serve`, as a child for a load test. What the
//! daemon does is told in its configuration only.

use std::env;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use barewire_api::Config;
use barewire_api::control::Request;

use crate::client::Client;
use crate::exit::Error;

const PROGRAM: &str = "barewired";

/// How long the daemon may take to attach, and to let go. A queue that another process has just
/// given up can stay busy for seconds.
const START_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// How long it may take to let go when something has gone wrong already.
const DROP_TIME_MAX: Duration = Duration::from_secs(3);

/// Time between two looks at something that takes a while.
const LOOK: Duration = Duration::from_millis(20);

/// Becomes the daemon. It reads the configuration from its standard input, a file without a name,
/// and everything else of this process is its own: signals, terminal, exit status. Returns only when
/// that fails.
pub(crate) fn become_daemon(config: &Config) -> Result<std::convert::Infallible, Error> {
    let program = find()?;
    let file = nameless_file(&config.to_toml())
        .map_err(|error| Error::file("write a file in", &env::temp_dir(), &error))?;
    let error = Command::new(&program).args(["--config", "-"]).stdin(file).exec();
    Err(Error::file("run", &program, &error))
}

/// A daemon of our own that ends with us.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    control: PathBuf,
    /// Configuration, and the socket unless the user named one.
    dir: PathBuf,
}

impl Daemon {
    /// Starts a daemon. Its control socket is at `control`, or in a directory that only we can enter.
    pub(crate) fn start(mut config: Config, control: Option<&Path>) -> Result<Self, Error> {
        let program = find()?;
        let dir = private_dir()
            .map_err(|error| Error::file("make a directory in", &env::temp_dir(), &error))?;
        config.control.path = control.map_or_else(|| dir.join("control.sock"), Path::to_owned);
        let started = Self::spawn(&program, &dir, &config);
        let child = started.map_err(|error| {
            remove(&dir);
            Error::file("run", &program, &error)
        })?;
        Ok(Daemon { child, control: config.control.path, dir })
    }

    fn spawn(program: &Path, dir: &Path, config: &Config) -> io::Result<Child> {
        let file = dir.join("barewired.toml");
        std::fs::write(&file, config.to_toml())?;
        Command::new(program)
            .arg("--config")
            .arg(file)
            // The pipe ends with this process, however that ends, and the daemon with the pipe.
            .arg("--stop-on-eof")
            .stdin(Stdio::piped())
            // Our standard output is for the report alone.
            .stdout(io::stderr())
            // Ctrl-C is for us: the daemon must live on until it has given the report.
            .process_group(0)
            .spawn()
    }

    /// A connection to the daemon, as soon as it listens.
    pub(crate) fn client(&mut self) -> Result<Client, Error> {
        let deadline = Instant::now() + START_TIME_MAX;
        loop {
            if let Some(status) = self.try_wait()? {
                return Err(ended_early(status));
            }
            // Another daemon may hold the socket; then ours is about to end and to say so.
            match Client::open(Some(&self.control)) {
                Ok(client) if client.pid == self.child.id() => return Ok(client),
                _ if Instant::now() < deadline => sleep(LOOK),
                Ok(_) => return Err(self.not_ready("another daemon answers")),
                Err(error) => return Err(self.not_ready(&error.to_string())),
            }
        }
    }

    /// Ends the daemon and waits for it. It checks its own books as it ends: a bad end is an error.
    pub(crate) fn stop(mut self, client: &mut Client) -> Result<(), Error> {
        client.order(&Request::Stop)?;
        let deadline = Instant::now() + STOP_TIME_MAX;
        while Instant::now() < deadline {
            match self.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(ended_early(status)),
                None => sleep(LOOK),
            }
        }
        Err(Error::Environment(format!("{PROGRAM} did not stop in time and was killed")))
    }

    fn not_ready(&self, found: &str) -> Error {
        let (control, time) = (self.control.display(), START_TIME_MAX.as_secs());
        Error::Environment(format!("{PROGRAM} was not ready at {control} after {time} s: {found}"))
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        let waited = self.child.try_wait();
        waited.map_err(|error| Error::Environment(format!("cannot watch {PROGRAM}: {error}")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The end of the pipe is an order to stop; one that does not follow it is killed. Errors here
        // mean that the daemon has ended, which is what this is for.
        drop(self.child.stdin.take());
        let deadline = Instant::now() + DROP_TIME_MAX;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            sleep(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove(&self.dir);
    }
}

/// The daemon has printed the reason; its exit status tells whose fault it was.
fn ended_early(status: ExitStatus) -> Error {
    match status.code() {
        Some(2) => Error::Usage(format!("{PROGRAM} refused its configuration, see above")),
        _ => Error::Environment(format!("{PROGRAM} ended with {status}, see above")),
    }
}

/// `barewired` beside this program, or in PATH.
fn find() -> Result<PathBuf, Error> {
    let beside = env::current_exe().ok().map(|exe| exe.with_file_name(PROGRAM));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|dir| dir.join(PROGRAM));
    beside.into_iter().chain(in_path).find(|program| program.is_file()).ok_or_else(|| {
        Error::Environment(format!(
            "found no {PROGRAM} beside this program or in PATH: build it with `cargo build \
             --release`, or install both"
        ))
    })
}

/// A file with `text` that nobody else can open.
fn nameless_file(text: &str) -> io::Result<File> {
    let dir = private_dir()?;
    let path = dir.join("barewired.toml");
    let written = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.rewind()?;
            Ok(file)
        });
    remove(&dir);
    written
}

/// A new directory that only we can enter.
fn private_dir() -> io::Result<PathBuf> {
    const ATTEMPTS_MAX: u32 = 100;
    for attempt in 0..ATTEMPTS_MAX {
        let dir = env::temp_dir().join(format!("barewire-{}-{attempt}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| dir),
        }
    }
    Err(io::Error::other(format!("{ATTEMPTS_MAX} names of ours are taken: remove barewire-*")))
}

fn remove(dir: &Path) {
    if let Err(error) = std::fs::remove_dir_all(dir) {
        eprintln!("barewire: cannot remove {}: {error}", dir.display());
    }
}
