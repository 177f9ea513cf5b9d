//! The other side: servers on the kernel's own TCP and UDP in one namespace of a lab, and the
//! kernel's opinion of what it was sent.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::lab::{End, Lab, Running, await_that};

/// How long a peer waits for bytes before a test has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An echo server that serves so many connections at a time, a thread for each.
#[derive(Debug)]
pub struct Echo<'a> {
    lab: &'a Lab,
    end: End,
    addr: String,
    threads: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl<'a> Echo<'a> {
    pub fn start(lab: &'a Lab, end: End, addr: &str, n_threads: usize) -> Echo<'a> {
        let listener = lab.within(end, || TcpListener::bind(addr).expect("listens"));
        let listener = Arc::new(listener);
        let is_over = Arc::new(AtomicBool::new(false));
        let threads = (0..n_threads).map(|_| {
            let (listener, is_over) = (Arc::clone(&listener), Arc::clone(&is_over));
            thread::spawn(move || serve(&listener, &is_over))
        });
        Echo { lab, end, addr: addr.to_owned(), threads: threads.collect(), is_over }
    }
}

fn serve(listener: &TcpListener, is_over: &AtomicBool) {
    let mut buf = vec![0; 64 << 10];
    while let Ok((mut stream, _)) = listener.accept() {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        // A peer that resets or falls silent ends its connection only.
        stream.set_read_timeout(Some(PATIENCE)).expect("sets its patience");
        while let Ok(n @ 1..) = stream.read(&mut buf) {
            if stream.write_all(&buf[..n]).is_err() {
                break;
            }
        }
    }
}

impl Drop for Echo<'_> {
    fn drop(&mut self) {
        // Each thread waits for a connection: it gets its last.
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            while !thread.is_finished() {
                let woken = self.lab.within(self.end, || TcpStream::connect(&self.addr));
                drop(woken);
                thread::sleep(Duration::from_millis(1));
            }
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the echo server panicked");
        }
    }
}

/// Sends `n` datagrams to a UDP echo server on `server` and counts those that come back.
pub fn echoed_datagrams(lab: &Lab, server: End, addr: &str, client: End, n: u8) -> usize {
    let echo = lab.within(server, || UdpSocket::bind(addr).expect("a UDP socket"));
    let asker = lab.within(client, || UdpSocket::bind("0.0.0.0:0").expect("a UDP socket"));
    for socket in [&echo, &asker] {
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("sets its patience");
    }
    let mut buf = [0; 16];
    let is_echoed = |idx: u8, buf: &mut [u8; 16]| {
        asker.send_to(&[idx; 8], addr).ok()?;
        let (len, from) = echo.recv_from(buf).ok()?;
        echo.send_to(&buf[..len], from).ok()?;
        let (len, _) = asker.recv_from(buf).ok()?;
        (buf[..len] == [idx; 8]).then_some(())
    };
    (0..n).filter(|&idx| is_echoed(idx, &mut buf).is_some()).count()
}

/// nginx with a short answer at `/`, which ends no connection of its own will.
#[derive(Debug)]
pub struct Nginx {
    running: Running,
}

impl Nginx {
    pub fn start(lab: &Lab, end: End, addr: &str) -> Nginx {
        let conf = lab.path("nginx.conf");
        let dir = lab.path("");
        let dir = dir.display();
        let text = format!(
            "daemon off; user root; worker_processes 2; pid {dir}/nginx.pid;\n\
             error_log {dir}/nginx.errors;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n\
             server {{ listen {addr} backlog=4096; location / {{ return 200 'it is there'; }} }} }}\n"
        );
        fs::write(&conf, text).expect("writes the configuration");
        let line = format!("nginx -c {} -e {dir}/nginx.errors", conf.display());
        let running = lab.start(end, &line, "nginx.log");
        // A connection that is tried too early would count as a reset.
        await_that("nginx listens", Duration::from_secs(5), || {
            lab.run(end, "ss -Hltn").out.contains(addr)
        });
        Nginx { running }
    }

    /// It must still run, and end when asked.
    pub fn stop(mut self) {
        self.running.signal("TERM");
        assert_eq!(self.running.wait(Duration::from_secs(10)), 0, "{}", self.running.log());
    }
}

/// What the kernel of this end has counted since its namespace was made.
pub fn nstat(lab: &Lab, end: End) -> BTreeMap<String, u64> {
    let ended = lab.run(end, "nstat -asz").expect_status(0);
    let rows = ended.out.lines().filter(|line| !line.starts_with('#'));
    let counters: BTreeMap<String, u64> = rows
        .filter_map(|row| {
            let mut words = row.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        })
        .collect();
    assert!(counters.contains_key("TcpInErrs"), "nstat knows TCP:\n{}", ended.out);
    counters
}

/// Families of counters that rise when the kernel refuses or ends something.
const COMPLAINTS: &[&str] = &[
    "IcmpInCsumErrors",
    "IcmpInErrors",
    "IpExtInCsumErrors",
    "IpExtInNoRoutes",
    "IpExtInTruncatedPkts",
    "IpInAddrErrors",
    "IpInDiscards",
    "IpInHdrErrors",
    "IpInUnknownProtos",
    "TcpEstabResets",
    "TcpExtBeyondWindow",
    "TcpExtListenDrops",
    "TcpExtOutOfWindowIcmps",
    "TcpExtPAWS",
    "TcpExtTCPACKSkippedChallenge",
    "TcpExtTCPACKSkippedPAWS",
    "TcpExtTCPAbort",
    "TcpExtTCPChallengeACK",
    "TcpExtTCPSYNChallenge",
    "TcpExtTSEcrRejected",
    "TcpInCsumErrors",
    "TcpInErrs",
    "TcpOutRsts",
];

/// Families of counters that rise when something is sent twice or comes out of turn.
const REPAIRS: &[&str] = &[
    "TcpExtTCPACKSkippedSeq",
    "TcpExtTCPDSACK",
    "TcpExtTCPFastRetrans",
    "TcpExtTCPFullUndo",
    "TcpExtTCPLossUndo",
    "TcpExtTCPLostRetransmit",
    "TcpExtTCPOFO",
    "TcpExtTCPPartialUndo",
    "TcpExtTCPRcvQDrop",
    "TcpExtTCPReno",
    "TcpExtTCPSACK",
    "TcpExtTCPSack",
    "TcpExtTCPSlowStartRetrans",
    "TcpExtTCPSpurious",
    "TcpExtTCPTimeouts",
    "TcpExtTCPZeroWindowDrop",
    "TcpRetransSegs",
];

/// The counters of these families that are not 0, each family being one that the kernel has.
pub fn raised(lab: &Lab, end: End, families: &[&str]) -> Vec<(String, u64)> {
    let counters = nstat(lab, end);
    for family in families {
        let is_known = counters.keys().any(|name| name.starts_with(family));
        assert!(is_known, "the kernel counts no {family}: it cannot complain of it");
    }
    let is_raised = |name: &str| families.iter().any(|family| name.starts_with(family));
    counters.into_iter().filter(|(name, n)| *n > 0 && is_raised(name)).collect()
}

/// The kernel of this end found nothing wrong with what it was sent, and reset nothing. A machine that
/// takes the CPU from an engine for some milliseconds makes the kernel send its last FIN again; both are
/// acknowledged, and it finds no socket for the second. So as many resets as it sent segments again are
/// its own doing.
#[track_caller]
pub fn expect_content(lab: &Lab, end: End) {
    let n_again = nstat(lab, end)["TcpRetransSegs"];
    let mut complaints = raised(lab, end, COMPLAINTS);
    complaints.retain(|(name, n)| name != "TcpOutRsts" || *n > n_again);
    assert_eq!(complaints, [], "the kernel complains");
}

/// Runs `transfer` on a path that loses nothing until nothing had to be repaired in the course of it,
/// neither by the kernel of this end nor for it. More than one try, because a machine that takes the
/// CPU from an engine for some milliseconds makes the kernel probe by itself; what an engine does
/// wrong it does each time.
#[track_caller]
pub fn expect_no_repair(lab: &Lab, end: End, mut transfer: impl FnMut()) {
    let mut tried = Vec::new();
    for _ in 0..5 {
        let before = raised(lab, end, REPAIRS);
        transfer();
        let after = raised(lab, end, REPAIRS);
        if after == before {
            return;
        }
        tried.push(after);
    }
    panic!("no transfer without repair, the counters after each: {tried:#?}");
}

/// A connection of the kernel with some patience.
pub fn connect(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap_or_else(|error| panic!("{addr}: {error}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("sets its patience");
    stream.set_write_timeout(Some(PATIENCE)).expect("sets its patience");
    stream
}

/// Bytes of which each block of a stream differs from every other.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    // Knuth's multiplier: neighbours get unlike numbers.
    let word = |idx: u64| (idx + seed).wrapping_mul(6_364_136_223_846_793_005).to_be_bytes();
    (0..len.div_ceil(8) as u64).flat_map(word).take(len).collect()
}
