//! The kernel as the stack under test, with a few lines of `std::net` for each application of the
//! engine: what they do on the wire is what those do.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use barewire_stack::script::{Call, Script, Told, pattern_byte};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;

use super::peer::{Subject, told_of};
use super::{Numbered, Side, address, app_name};
use crate::engine::KERNEL;
use crate::lab::{End, Lab};

/// How often an application looks whether the test is over.
const PATIENCE: Duration = Duration::from_millis(20);

/// What the applications and the testers share.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    /// Resets that applications met, by the tester's address.
    resets: Mutex<Vec<Ipv4Addr>>,
    /// Connections that nobody serves.
    by_hand: Mutex<BTreeMap<Ipv4Addr, TcpStream>>,
}

pub struct KernelSide<'a> {
    lab: &'a Lab,
    shared: Arc<Shared>,
    /// The listener of each application, with Nagle or without.
    ports: BTreeMap<(String, bool), u16>,
    threads: Vec<JoinHandle<()>>,
}

/// The application of a script, and whether Nagle is on for it.
fn kind(script: &Script) -> (String, bool) {
    let mut nagle = true;
    for (key, value) in &script.settings {
        assert_eq!(key, "tcp.nagle", "a kernel has no setting for one socket: skip it");
        nagle = value == "true";
    }
    (app_name(script).unwrap_or("hand").to_owned(), nagle)
}

impl<'a> KernelSide<'a> {
    pub fn start<'s>(lab: &'a Lab, scripts: impl Iterator<Item = &'s Numbered>) -> Self {
        let shared = Arc::new(Shared::default());
        let mut side = KernelSide { lab, shared, ports: BTreeMap::new(), threads: Vec::new() };
        for numbered in scripts {
            let kind = kind(&numbered.script);
            if side.ports.contains_key(&kind) {
                continue;
            }
            let listener = lab.within(End::Server, || TcpListener::bind((KERNEL, 0)));
            let listener = listener.expect("listens");
            listener.set_nonblocking(true).expect("does not block");
            let port = listener.local_addr().expect("has an address").port();
            let shared = Arc::clone(&side.shared);
            let (app, nagle) = kind.clone();
            side.threads.push(thread::spawn(move || listen(&listener, &app, nagle, &shared)));
            side.ports.insert(kind, port);
        }
        side
    }
}

impl Side for KernelSide<'_> {
    fn stack(&self, script: &Script) -> SocketAddrV4 {
        address(KERNEL, self.ports[&kind(script)])
    }

    fn subject<'a>(&'a self, numbered: &Numbered, tester: SocketAddrV4) -> Box<dyn Subject + 'a> {
        let (_, nagle) = kind(&numbered.script);
        Box::new(KernelSubject { side: self, tester, nagle, trying: None, end: None, sent: 0 })
    }
}

impl Drop for KernelSide<'_> {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "an application panicked");
        }
    }
}

fn listen(listener: &TcpListener, app: &str, nagle: bool, shared: &Arc<Shared>) {
    let mut served = Vec::new();
    while !shared.is_over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, SocketAddr::V4(from))) => {
                stream.set_nonblocking(false).expect("blocks");
                stream.set_nodelay(!nagle).expect("sets Nagle");
                stream.set_read_timeout(Some(PATIENCE)).expect("sets its patience");
                let (app, shared) = (app.to_owned(), Arc::clone(shared));
                served.push(thread::spawn(move || serve(stream, *from.ip(), &app, &shared)));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
            }
            // A tester that reset before it was accepted.
            Err(_) => {}
        }
    }
    for thread in served {
        thread.join().expect("an application does not panic");
    }
}

/// Reads once; `None` when the connection is over.
fn read(stream: &mut TcpStream, from: Ipv4Addr, shared: &Shared) -> Option<Vec<u8>> {
    let mut buf = vec![0; 64 << 10];
    while !shared.is_over.load(Ordering::Relaxed) {
        match stream.read(&mut buf) {
            Ok(0) => return None,
            Ok(n) => {
                buf.truncate(n);
                return Some(buf);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => {
                if error.kind() == ErrorKind::ConnectionReset {
                    shared.resets.lock().expect("nobody panicked").push(from);
                }
                return None;
            }
        }
    }
    None
}

fn serve(mut stream: TcpStream, from: Ipv4Addr, app: &str, shared: &Shared) {
    let (name, rest) = app.split_once(':').unwrap_or((app, ""));
    match name {
        "echo" => {
            while let Some(bytes) = read(&mut stream, from, shared) {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
        }
        "discard" => while read(&mut stream, from, shared).is_some() {},
        "burst" => {
            stream.set_write_timeout(Some(Duration::from_secs(5))).expect("sets its patience");
            let n: usize = rest.parse().expect("burst:N");
            while let Some(bytes) = read(&mut stream, from, shared) {
                if stream.write_all(&vec![0; n * bytes.len()]).is_err() {
                    return;
                }
            }
        }
        "close-after" => drop(read(&mut stream, from, shared)),
        "close-unread" => {
            let waits = |error: std::io::Error| error.kind() == ErrorKind::WouldBlock;
            while stream.peek(&mut [0]).is_err_and(waits) {}
            thread::sleep(Duration::from_millis(300));
        }
        "never-read" => {
            while !shared.is_over.load(Ordering::Relaxed) {
                thread::sleep(PATIENCE);
            }
        }
        "hand" => {
            shared.by_hand.lock().expect("nobody panicked").insert(from, stream);
        }
        _ => panic!("no such application: {app}"),
    }
}

struct KernelSubject<'a> {
    side: &'a KernelSide<'a>,
    tester: SocketAddrV4,
    nagle: bool,
    /// A connect that has not come to its end.
    trying: Option<Receiver<Result<TcpStream, ErrorKind>>>,
    /// How it ended.
    end: Option<Told>,
    /// Bytes sent by hand.
    sent: u64,
}

impl KernelSubject<'_> {
    /// A thread in the namespace connects.
    fn connect(&self, to: SocketAddrV4) -> Receiver<Result<TcpStream, ErrorKind>> {
        let namespace = Path::new("/run/netns").join(self.side.lab.namespace(End::Server));
        let namespace = File::open(namespace).expect("the namespace exists");
        let (sender, receiver) = channel();
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("enters the namespace");
            let stream = TcpStream::connect(to).map_err(|error| error.kind());
            // A script that is over does not hear of it.
            let _ = sender.send(stream);
        });
        receiver
    }

    /// Takes the outcome of the open up, if there is one within so much time.
    fn take_up(&mut self, patience: Duration) {
        let Some(trying) = &self.trying else { return };
        let Ok(outcome) = trying.recv_timeout(patience) else { return };
        self.trying = None;
        self.end = match outcome {
            Ok(stream) => {
                stream.set_nodelay(!self.nagle).expect("sets Nagle");
                self.streams().insert(*self.tester.ip(), stream);
                Some(Told::Opened)
            }
            Err(error) => told_of(error),
        };
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, BTreeMap<Ipv4Addr, TcpStream>> {
        self.side.shared.by_hand.lock().expect("nobody panicked")
    }

    /// The kernel has no connection with this tester, or one that only rests.
    fn is_over(&self) -> bool {
        let line = format!("ss -Htan dst {}", self.tester.ip());
        let ended = self.side.lab.run(End::Server, &line).expect_status(0);
        ended.out.lines().all(|line| line.starts_with("TIME-WAIT"))
    }
}

impl Subject for KernelSubject<'_> {
    fn call(&mut self, call: &Call) -> Result<(), String> {
        match call {
            Call::Connect => {
                self.trying = Some(self.connect(self.tester));
                return Ok(());
            }
            Call::ConnectTo(addr) => {
                let outcome = self.connect(SocketAddrV4::new(*addr, 7)).recv();
                let outcome = outcome.map_err(|error| error.to_string())?;
                return outcome.map(|_| ()).map_err(|error| error.to_string());
            }
            _ => self.take_up(Duration::from_secs(2)),
        }
        let from = *self.tester.ip();
        let mut streams = self.streams();
        let stream = streams.get_mut(&from).ok_or("no connection")?;
        let result = match call {
            Call::Send(n) => {
                let bytes: Vec<u8> =
                    (self.sent..self.sent + u64::from(*n)).map(pattern_byte).collect();
                stream.write_all(&bytes)
            }
            Call::Read(n) => stream.read_exact(&mut vec![0; *n as usize]),
            Call::Shutdown => stream.shutdown(Shutdown::Write),
            Call::Abort => {
                let now = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(stream, Linger, &now).expect("sets its end");
                streams.remove(&from);
                Ok(())
            }
            Call::Close | Call::Connect | Call::ConnectTo(_) => {
                streams.remove(&from);
                Ok(())
            }
        };
        drop(streams);
        if let Call::Send(n) = call {
            self.sent += u64::from(*n);
        }
        result.map_err(|error| error.to_string())
    }

    fn is_told(&mut self, told: Told) -> bool {
        self.take_up(Duration::ZERO);
        match told {
            Told::Closed | Told::Aborted => self.is_over(),
            Told::Reset => {
                let resets = self.side.shared.resets.lock().expect("nobody panicked");
                resets.contains(self.tester.ip())
            }
            // The kernel calls a port that ICMP says is unreachable refused.
            Told::Unreachable => matches!(self.end, Some(Told::Unreachable | Told::Refused)),
            told => self.end == Some(told),
        }
    }
}
