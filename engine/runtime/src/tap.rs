//! A tap on the frames of the workers, into a pcapng file. A worker copies a frame into a record that
//! was allocated at the start and goes on; a thread of its own writes the file. When the thread falls
//! behind, frames are missed and counted, and the worker never waits. The tap filters nothing and
//! does not rotate files: it ends at its limits.

use crate::sys::clock;
use barewire_stack::time::Instant;
use crossbeam_queue::ArrayQueue;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

/// Most bytes kept of one frame: no frame of a umem is larger.
pub const SNAP_BYTES_MAX: u32 = 4096;

/// Records between workers and file: at 1 M frames/s enough for two of the writer's pauses.
const N_RECORDS: usize = 4096;
/// How long the writer sleeps when there is nothing to write.
const PAUSE: Duration = Duration::from_millis(2);
/// A packet block without its data: fields, flags, end of options, both lengths, padding.
const BLOCK_BYTES_MAX: u64 = 48;

/// Where to write, and when to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    /// The file, replaced when it is there, readable by its owner only.
    pub path: PathBuf,
    /// Bytes kept of each frame, 1 to [`SNAP_BYTES_MAX`].
    pub snap_bytes: u32,
    /// The capture ends after this many frames.
    pub frames_max: u64,
    /// The capture ends before the file grows beyond this.
    pub bytes_max: u64,
}

/// Which way a frame went, as the engine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received.
    In,
    /// Transmitted.
    Out,
}

/// What became of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CaptureReport {
    /// Frames in the file.
    pub written: u64,
    /// Frames that were offered before the end and are not in the file.
    pub missed: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
}

/// A capture that could not start, or broke off.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The options make no sense.
    #[error("snap_bytes must be from 1 to {SNAP_BYTES_MAX}, and is {0}")]
    SnapBytes(u32),
    /// The file could not be opened.
    #[error("cannot write the capture to {path}: {source}", path = path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Writing failed; what was written before stays.
    #[error("the capture to {path} broke off after {written} frames: {source}", path = path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// How far it came.
        written: u64,
        /// Why.
        source: PcapError,
    },
}

/// A capture in progress.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<CaptureReport, CaptureError>>,
}

/// A worker's end of a capture.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    /// Index of the pcapng interface that stands for the worker's queue.
    interface_id: u32,
}

/// Records go round: workers take empty ones and give full ones, the writer the other way. Both
/// queues have room for all records, so giving never fails.
#[derive(Debug)]
struct Shared {
    empty: ArrayQueue<Record>,
    full: ArrayQueue<Record>,
    missed: AtomicU64,
    /// Nothing is accepted any more: a limit was reached, the file broke, or `stop` was called.
    ended: AtomicBool,
}

#[derive(Debug)]
struct Record {
    interface_id: u32,
    direction: Direction,
    at: Instant,
    /// Length of the frame on the wire.
    frame_len: u32,
    /// What was kept of it: `snap_len` bytes.
    data: Box<[u8]>,
    snap_len: usize,
}

impl Capture {
    /// Opens the file and starts its thread. Each name in `queues` becomes an interface in the file
    /// and gets the tap of the same index.
    pub fn start(
        options: &CaptureOptions,
        queues: &[String],
    ) -> Result<(Self, Vec<Tap>), CaptureError> {
        if !(1..=SNAP_BYTES_MAX).contains(&options.snap_bytes) {
            return Err(CaptureError::SnapBytes(options.snap_bytes));
        }
        let open = |source| CaptureError::Open { path: options.path.clone(), source };
        let mut how = OpenOptions::new();
        let file = how.write(true).create(true).truncate(true).mode(0o600).open(&options.path);
        let writer = Writer::new(file.map_err(open)?, options, queues)?;
        let shared = Arc::new(Shared::new(options.snap_bytes));
        let thread = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("capture".into()).spawn(move || writer.run(&shared))
        };
        let thread = thread.map_err(open)?;
        let tap = |interface_id| Tap { shared: Arc::clone(&shared), interface_id };
        let taps = (0..queues.len() as u32).map(tap).collect();
        Ok((Capture { shared, thread }, taps))
    }

    /// True once a limit was reached or the file broke: [`Capture::stop`] tells which.
    pub fn has_ended(&self) -> bool {
        self.shared.ended.load(Ordering::Acquire)
    }

    /// Ends the capture: what was accepted is written, the file closed.
    pub fn stop(self) -> Result<CaptureReport, CaptureError> {
        self.shared.ended.store(true, Ordering::Release);
        let report = self.thread.join().expect("the writer returns its errors");
        report.map(|report| CaptureReport {
            // What a worker was just copying when the writer left counts as missed too.
            missed: self.shared.missed.load(Ordering::Acquire) + self.shared.full.len() as u64,
            ..report
        })
    }
}

impl Tap {
    /// Copies `frame` into the capture, if it still runs and its thread keeps up. Never waits, never
    /// allocates.
    pub fn offer(&self, direction: Direction, at: Instant, frame: &[u8]) {
        if self.shared.ended.load(Ordering::Acquire) {
            return;
        }
        let Some(mut record) = self.shared.empty.pop() else {
            self.shared.missed.fetch_add(1, Ordering::AcqRel);
            return;
        };
        let snap_len = frame.len().min(record.data.len());
        record.data[..snap_len].copy_from_slice(&frame[..snap_len]);
        let frame_len = frame.len() as u32;
        let interface_id = self.interface_id;
        let record = Record { interface_id, direction, at, frame_len, snap_len, ..record };
        self.shared.full.push(record).expect("there is room for every record");
    }
}

impl Shared {
    fn new(snap_bytes: u32) -> Self {
        let empty = ArrayQueue::new(N_RECORDS);
        for _ in 0..N_RECORDS {
            let record = Record {
                interface_id: 0,
                direction: Direction::In,
                at: Instant::ZERO,
                frame_len: 0,
                data: vec![0; snap_bytes as usize].into_boxed_slice(),
                snap_len: 0,
            };
            empty.push(record).expect("there is room for every record");
        }
        let full = ArrayQueue::new(N_RECORDS);
        Shared { empty, full, missed: AtomicU64::new(0), ended: AtomicBool::new(false) }
    }
}

/// The thread's side: the file and its limits.
struct Writer {
    pcapng: PcapNgWriter<BufWriter<File>>,
    options: CaptureOptions,
    /// Time of day at [`Instant::ZERO`].
    origin: Duration,
    report: CaptureReport,
}

impl Writer {
    fn new(file: File, options: &CaptureOptions, queues: &[String]) -> Result<Self, CaptureError> {
        let since_1970 = clock::boot_time().duration_since(SystemTime::UNIX_EPOCH);
        let broken =
            |source| CaptureError::Write { path: options.path.clone(), written: 0, source };
        let mut writer = Writer {
            pcapng: PcapNgWriter::new(BufWriter::new(file)).map_err(broken)?,
            options: options.clone(),
            origin: since_1970.unwrap_or_default(),
            // The section header: 28 bytes.
            report: CaptureReport { bytes: 28, ..CaptureReport::default() },
        };
        for name in queues {
            let block = InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: options.snap_bytes,
                options: vec![
                    InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                    // Timestamps count 10^-9 s.
                    InterfaceDescriptionOption::IfTsResol(9),
                ],
            };
            let n_bytes = writer.pcapng.write_pcapng_block(block).map_err(broken)?;
            writer.report.bytes += n_bytes as u64;
        }
        Ok(writer)
    }

    /// Writes until the end, and says how it came to it.
    fn run(mut self, shared: &Shared) -> Result<CaptureReport, CaptureError> {
        let outcome = self.drain(shared);
        shared.ended.store(true, Ordering::Release);
        let flushed = self.pcapng.get_mut().flush().map_err(PcapError::IoError);
        outcome.and(flushed).map(|()| self.report).map_err(|source| CaptureError::Write {
            path: self.options.path,
            written: self.report.written,
            source,
        })
    }

    fn drain(&mut self, shared: &Shared) -> Result<(), PcapError> {
        loop {
            // Read before the queue is looked at: what was accepted before the end is written.
            let ended = shared.ended.load(Ordering::Acquire);
            while let Some(record) = shared.full.pop() {
                if self.is_full() {
                    shared.missed.fetch_add(1, Ordering::AcqRel);
                    return Ok(());
                }
                self.write(&record)?;
                shared.empty.push(record).expect("there is room for every record");
            }
            if ended || self.is_full() {
                return Ok(());
            }
            self.pcapng.get_mut().flush().map_err(PcapError::IoError)?;
            thread::sleep(PAUSE);
        }
    }

    fn is_full(&self) -> bool {
        let next = BLOCK_BYTES_MAX + u64::from(self.options.snap_bytes);
        self.report.written >= self.options.frames_max
            || self.report.bytes.saturating_add(next) > self.options.bytes_max
    }

    fn write(&mut self, record: &Record) -> Result<(), PcapError> {
        // epb_flags: bits 0 and 1 are the direction.
        let flags = match record.direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        let n_bytes = self.pcapng.write_pcapng_block(EnhancedPacketBlock {
            interface_id: record.interface_id,
            timestamp: self.origin + Duration::from_nanos(record.at.as_nanos()),
            original_len: record.frame_len,
            data: Cow::Borrowed(&record.data[..record.snap_len]),
            options: vec![EnhancedPacketOption::Flags(flags)],
        })?;
        self.report.written += 1;
        self.report.bytes += n_bytes as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcapng::{Block, PcapNgReader};
    use std::fs;

    fn options(name: &str) -> CaptureOptions {
        let file = format!("barewire-tap-{}-{name}.pcapng", std::process::id());
        CaptureOptions {
            path: std::env::temp_dir().join(file),
            snap_bytes: 64,
            frames_max: 1000,
            bytes_max: 1 << 20,
        }
    }

    /// The packets of a capture file: interface, flags option, original length, data.
    fn packets(options: &CaptureOptions) -> Vec<(u32, u32, u32, Vec<u8>, Duration)> {
        let file = File::open(&options.path).expect("the file is there");
        let mut reader = PcapNgReader::new(file).expect("a pcapng file");
        let mut found = Vec::new();
        while let Some(block) = reader.next_block() {
            if let Block::EnhancedPacket(packet) = block.expect("a sound block") {
                let [EnhancedPacketOption::Flags(flags)] = packet.options[..] else {
                    panic!("one flags option")
                };
                let data = packet.data.to_vec();
                found.push((
                    packet.interface_id,
                    flags,
                    packet.original_len,
                    data,
                    packet.timestamp,
                ));
            }
        }
        found
    }

    #[test]
    fn what_is_offered_is_in_the_file_in_order_and_cut_to_the_snap_length() {
        let options = options("order");
        let queues = ["d0 queue 0".to_owned(), "d0 queue 1".to_owned()];
        let (capture, taps) = Capture::start(&options, &queues).expect("starts");
        let at = clock::now();
        taps[0].offer(Direction::In, at, &[1; 60]);
        taps[1].offer(Direction::Out, at, &[2; 1514]);
        let report = capture.stop().expect("no trouble");
        let size = fs::metadata(&options.path).expect("the file is there").len();
        assert_eq!(report, CaptureReport { written: 2, missed: 0, bytes: size });

        let found = packets(&options);
        let brief: Vec<_> = found.iter().map(|p| (p.0, p.1, p.2, p.3.clone())).collect();
        assert_eq!(brief, [(0, 1, 60, vec![1; 60]), (1, 2, 1514, vec![2; 64])]);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        assert!(now.abs_diff(found[0].4) < Duration::from_secs(60), "{:?}", found[0].4);
        fs::remove_file(&options.path).expect("removed");
    }

    #[test]
    fn a_capture_ends_at_its_limits_and_accounts_for_every_frame() {
        for (frames_max, bytes_max) in [(3, 1 << 20), (1000, 28 + 40 + 3 * (64 + 48))] {
            let options = CaptureOptions { frames_max, bytes_max, ..options("limits") };
            let (capture, taps) = Capture::start(&options, &["q".to_owned()]).expect("starts");
            let n_offered = 10;
            for _ in 0..n_offered {
                taps[0].offer(Direction::In, Instant::ZERO, &[0; 64]);
            }
            while !capture.has_ended() {
                thread::sleep(PAUSE);
            }
            taps[0].offer(Direction::In, Instant::ZERO, &[0; 64]);
            let report = capture.stop().expect("no trouble");
            assert_eq!(report.written, 3, "{report:?}");
            assert!(report.written + report.missed <= n_offered, "{report:?}");
            assert!(report.bytes <= bytes_max, "{report:?}");
            assert_eq!(packets(&options).len(), 3);
            fs::remove_file(&options.path).expect("removed");
        }
    }

    #[test]
    fn a_worker_that_outruns_the_file_misses_frames_and_never_waits() {
        let unlimited = options("outrun");
        let options = CaptureOptions { frames_max: u64::MAX, bytes_max: u64::MAX, ..unlimited };
        let (capture, taps) = Capture::start(&options, &["q".to_owned()]).expect("starts");
        let n_offered = 3 * N_RECORDS as u64;
        for _ in 0..n_offered {
            taps[0].offer(Direction::In, Instant::ZERO, &[7; 64]);
        }
        let report = capture.stop().expect("no trouble");
        assert_eq!(report.written + report.missed, n_offered);
        fs::remove_file(&options.path).expect("removed");
    }

    #[test]
    fn what_cannot_be_opened_is_told() {
        let nowhere = CaptureOptions { path: "/nowhere/x.pcapng".into(), ..options("nowhere") };
        let error = Capture::start(&nowhere, &[]).expect_err("no such directory");
        assert!(error.to_string().contains("/nowhere/x.pcapng"), "{error}");
        let zero = CaptureOptions { snap_bytes: 0, ..options("zero") };
        assert!(Capture::start(&zero, &[]).is_err());
    }
}
