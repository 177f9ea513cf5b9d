//! The limit: frames that go forth and back between two AF_XDP sockets without TCP, and without ever
//! sleeping. Device, umem, rings and steering program are the engine's, with its defaults; what is missing
//! is all that the engine does between receiving a frame and sending one.

use super::end::{Stop, say_ready};
use super::lab::{CLIENT, SERVER, Side};
use super::task::{Driven, Served, Shape, Task};
use crate::rig::Failure;
use barewire_api::report::Latency;
use barewire_ebpf::{AttachMode, LoadOptions, OnMissing, Steer};
use barewire_engine::sys::clock;
use barewire_engine::sys::rlimit;
use barewire_engine::xdp::{XdpDevice, XdpOptions};
use barewire_stack::device::{Batch, Device, Frame};
use barewire_stack::time::{Duration, Instant};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;

/// The /24 of both ends' addresses.
const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 0);

/// Ethernet, IPv4 and TCP headers; TCP's with timestamps.
const HEADER_BYTES: u32 = 14 + 20 + 20 + 12;

const ETHERNET_BYTES: u16 = 14;

/// Where IPv4 says how long the packet is.
const IP_LEN: std::ops::Range<usize> = 16..18;

/// The time of sending lies where TCP's options would.
const STAMP: std::ops::Range<usize> = 54..62;

/// Frames in flight when they are as long as the link takes: a quarter of a ring.
const BULK_FRAMES: u32 = 512;

/// With long frames, every second is answered, by one without payload: as TCP acknowledges them.
const BULK_FRAMES_PER_ANSWER: u32 = 2;

/// After that the frames that are still out are lost.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A socket on the one queue of an interface.
struct Port {
    device: XdpDevice,
    /// Redirects to the socket, as long as it lives.
    _steer: Steer,
}

impl Port {
    fn open(side: Side, task: &Task) -> Result<Port, Failure> {
        let machine = |error: &dyn std::fmt::Display| Failure::Machine(format!("raw: {error}"));
        rlimit::raise_memlock().map_err(|error| machine(&error))?;
        let mut options = XdpOptions::new(side.interface(), 0);
        options.frame_bytes = task.frame_bytes();
        let device = XdpDevice::open(&options).map_err(|error| machine(&error))?;
        let load = LoadOptions { n_queues: 1, on_missing: OnMissing::Drop };
        let mut steer = Steer::load(&load).map_err(|error| machine(&error))?;
        let (ifindex, ifname) = (device.interface().ifindex, side.interface());
        steer.attach(ifindex, ifname, AttachMode::Native).map_err(|error| machine(&error))?;
        steer.set_xsk(0, device.as_fd()).map_err(|error| machine(&error))?;
        steer.add_prefix(NETWORK.into(), 24).map_err(|error| machine(&error))?;
        Ok(Port { device, _steer: steer })
    }

    /// Sends all of `batch`: no ring is smaller than what may be in flight.
    fn send(&mut self, batch: &mut Batch) {
        while !batch.is_empty() {
            self.device.tx_batch(batch);
        }
    }
}

/// Sends frames back until told to stop.
pub(crate) fn reflect(task: &Task, stop: &Stop) -> Result<Served, Failure> {
    let mut port = Port::open(Side::Server, task)?;
    say_ready()?;
    let per_answer = u64::from(per_answer(task));
    let [mut received, mut out] = [Batch::new(), Batch::new()];
    let (mut n, mut bytes) = (0_u64, 0);
    while !stop.is_set() {
        port.device.rx_batch(&mut received);
        for mut frame in received.drain(received.len()) {
            bytes += u64::from(frame.len());
            n += 1;
            if n.is_multiple_of(per_answer) {
                let len = answer_bytes(task, frame.len());
                let bytes = port.device.bytes_mut(&mut frame);
                swap_ends(bytes);
                bytes[IP_LEN].copy_from_slice(&(len - ETHERNET_BYTES).to_be_bytes());
                out.push(frame.with_len(len));
            } else {
                port.device.release(frame);
            }
        }
        port.send(&mut out);
    }
    Ok(Served { bytes_received: bytes, ..Served::default() })
}

/// Sends frames, as many at a time as the task has requests in flight, and counts those that return.
pub(crate) fn drive(task: &Task) -> Result<Driven, Failure> {
    let mut port = Port::open(Side::Client, task)?;
    let mut sender = Sender::new(&port, task);
    let begun = clock::now();
    let until = begun + Duration::from_nanos(task.duration().as_nanos() as u64);
    let [mut received, mut out] = [Batch::new(), Batch::new()];
    let (mut now, mut active_at) = (begun, begun);
    while now < until || sender.unanswered > 0 {
        if now < until {
            sender.begin(&mut port, &mut out, now);
        }
        port.send(&mut out);
        port.device.rx_batch(&mut received);
        now = clock::now();
        if !received.is_empty() {
            active_at = now;
        } else if now.since(active_at) > SILENCE_MAX {
            break;
        }
        for frame in received.drain(received.len()) {
            sender.on_answer(&mut port, frame, now < until, now);
        }
    }
    Ok(sender.driven(task))
}

/// What is out, and what has come back.
struct Sender {
    /// All headers, addressed to the other end.
    header: [u8; HEADER_BYTES as usize],
    frame_bytes: u16,
    per_answer: u32,
    unanswered: u32,
    unanswered_max: u32,
    n_sent: u64,
    n_counted: u64,
    latency: Latency,
}

impl Sender {
    fn new(port: &Port, task: &Task) -> Self {
        let (frame_bytes, unanswered_max) = match task.shape {
            Shape::Bulk => (14 + task.mtu, BULK_FRAMES / BULK_FRAMES_PER_ANSWER),
            _ => (HEADER_BYTES + task.bytes, task.in_flight.min(task.connections)),
        };
        let frame_bytes = frame_bytes as u16;
        Sender {
            header: header(port.device.interface().mac, frame_bytes),
            frame_bytes,
            per_answer: per_answer(task),
            unanswered: 0,
            unanswered_max,
            n_sent: 0,
            n_counted: 0,
            latency: Latency::new(),
        }
    }

    /// Sends as many frames as may be out.
    fn begin(&mut self, port: &mut Port, out: &mut Batch, now: Instant) {
        let per_answer = self.per_answer as usize;
        while self.unanswered < self.unanswered_max && out.room() >= per_answer {
            for _ in 0..per_answer {
                let Some(mut frame) = port.device.alloc() else { return };
                let bytes = port.device.bytes_mut(&mut frame);
                bytes[..self.header.len()].copy_from_slice(&self.header);
                bytes[STAMP].copy_from_slice(&now.as_nanos().to_be_bytes());
                out.push(frame.with_len(self.frame_bytes));
            }
            self.n_sent += u64::from(self.per_answer);
            self.unanswered += 1;
        }
    }

    fn on_answer(&mut self, port: &mut Port, frame: Frame, counts: bool, now: Instant) {
        let mut stamp = [0; 8];
        stamp.copy_from_slice(&port.device.bytes(&frame)[STAMP]);
        self.latency.record(now.as_nanos().saturating_sub(u64::from_be_bytes(stamp)));
        self.unanswered -= 1;
        self.n_counted += u64::from(counts) * u64::from(self.per_answer);
        port.device.release(frame);
    }

    fn driven(&self, task: &Task) -> Driven {
        Driven {
            count: self.n_counted,
            duration_ns: task.duration().as_nanos() as u64,
            failed: self.unanswered.into(),
            failures: "frames that did not come back".to_owned(),
            bytes_sent: self.n_sent * u64::from(self.frame_bytes),
            request: self.latency.percentiles(),
            ..Driven::default()
        }
    }
}

fn per_answer(task: &Task) -> u32 {
    if task.shape == Shape::Bulk { BULK_FRAMES_PER_ANSWER } else { 1 }
}

fn answer_bytes(task: &Task, len: u16) -> u16 {
    if task.shape == Shape::Bulk { HEADER_BYTES as u16 } else { len }
}

/// Headers of a TCP segment to the server. Nobody computes a checksum, as nobody looks at one.
fn header(mac: [u8; 6], frame_bytes: u16) -> [u8; HEADER_BYTES as usize] {
    let mut header = [0; HEADER_BYTES as usize];
    header[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    header[6..12].copy_from_slice(&mac);
    header[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0]);
    header[IP_LEN].copy_from_slice(&(frame_bytes - ETHERNET_BYTES).to_be_bytes());
    // Time to live and protocol.
    header[22..24].copy_from_slice(&[64, 6]);
    header[26..30].copy_from_slice(&CLIENT.octets());
    header[30..34].copy_from_slice(&SERVER.ip().octets());
    header[36..38].copy_from_slice(&SERVER.port().to_be_bytes());
    // Its own length, in words: 32 bytes.
    header[46] = 8 << 4;
    header
}

/// To where it came from: MAC and IPv4 addresses.
fn swap_ends(frame: &mut [u8]) {
    let (one, other) = frame[..12].split_at_mut(6);
    one.swap_with_slice(other);
    let (one, other) = frame[26..34].split_at_mut(4);
    one.swap_with_slice(other);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_swapped_and_nothing_else() {
        let there = header([2, 0, 0, 0, 0, 2], 130);
        let mut back = there;
        swap_ends(&mut back);
        assert_eq!((&back[..6], &back[6..12]), (&there[6..12], &there[..6]));
        assert_eq!((&back[26..30], &back[30..34]), (&there[30..34], &there[26..30]));
        assert_eq!((&back[12..26], &back[34..]), (&there[12..26], &there[34..]));
        swap_ends(&mut back);
        assert_eq!(back, there);
    }
}
