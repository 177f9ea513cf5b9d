//! The statistics page: counters in memory that the daemon shares with whoever may read it. This is
//! the layout only, computed on both sides from the same numbers; mapping the memory is not done
//! here, and neither is the list of counters: the page carries its own table of names, units and
//! help, so a reader needs no daemon of the same version.
//!
//! The page is an array of 64-bit words in the byte order of the machine:
//!
//! ```text
//! header   8 words   magic, layout version, blocks, counters, start (Unix ms), pid, 0, 0
//! table    32 words per counter   name 40 bytes, unit 16, kind 8, help 192
//! blocks   one per worker, then one of the daemon; each padded to whole cache lines
//! ```
//!
//! A word has one writer. Readers see each word whole and at its own time: sums over words are
//! exact only while nothing moves.

use crate::text::word_enum;

/// First word of the page. Written last, so that a page with it is complete.
pub const MAGIC: u64 = u64::from_le_bytes(*b"barewire");

/// Version of the layout.
pub const LAYOUT_VERSION: u64 = 1;

/// The most counters of a page.
pub const COUNTERS_MAX: usize = 1_024;

/// The most blocks of a page: a worker for each of 256 queues, and the daemon.
pub const BLOCKS_MAX: usize = 257;

/// Longest name of a counter, in bytes.
pub const NAME_BYTES_MAX: usize = 40;

/// Longest unit, in bytes.
pub const UNIT_BYTES_MAX: usize = 16;

/// Longest help text, in bytes.
pub const HELP_BYTES_MAX: usize = 192;

const WORD: usize = size_of::<u64>();
const HEADER_WORDS: usize = 8;
const ENTRY_WORDS: usize = (NAME_BYTES_MAX + UNIT_BYTES_MAX + WORD + HELP_BYTES_MAX) / WORD;
/// Words of a cache line: two workers never write to the same one.
const LINE_WORDS: usize = 8;

word_enum! {
    /// What a counter's number means.
    pub enum CounterKind: "count, gauge, use, drop, end or warn" {
        /// Events since the start.
        Count = "count",
        /// How many there are now.
        Gauge = "gauge",
        /// Received frames put to one use, since the start.
        Use = "use",
        /// Frames dropped for one reason, since the start.
        Drop = "drop",
        /// Connections that ended in one way, since the start.
        End = "end",
        /// Events since the start that an operator should look at.
        Warn = "warn",
    }
}

impl CounterKind {
    /// True when a number other than 0 deserves attention.
    pub fn is_trouble(self) -> bool {
        matches!(self, CounterKind::Drop | CounterKind::Warn)
    }
}

/// A counter as its owner declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterDef<'a> {
    /// Its name, unique on the page.
    pub name: &'a str,
    /// What it counts in: `frames`, `bytes`.
    pub unit: &'a str,
    /// What its number means.
    pub kind: CounterKind,
    /// One sentence: what it means and, for trouble, what to do.
    pub help: &'a str,
}

/// Why there can be no page with these counters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// More blocks or counters than a page has.
    #[error(
        "a statistics page has 1 to {} workers and 1 to {COUNTERS_MAX} counters, \
         found {n_workers} and {n_counters}",
        BLOCKS_MAX - 1
    )]
    Size {
        /// Workers asked for.
        n_workers: usize,
        /// Counters asked for.
        n_counters: usize,
    },
    /// A text that is empty or does not fit its place.
    #[error("counter `{name}`: its {part} is {found} bytes, expected 1 to {max}")]
    Text {
        /// The counter.
        name: String,
        /// Which text.
        part: &'static str,
        /// Its length.
        found: usize,
        /// The room.
        max: usize,
    },
    /// Two counters of one name.
    #[error("counter `{0}` is there twice")]
    Duplicate(String),
}

/// The writer's view: where everything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    n_workers: usize,
    n_counters: usize,
    /// Header and table, with 0 for the magic.
    head: Vec<u64>,
}

impl Layout {
    /// The layout for so many workers and these counters, in this order.
    pub fn new(n_workers: usize, counters: &[CounterDef<'_>]) -> Result<Layout, LayoutError> {
        let n_counters = counters.len();
        let fits = (1..BLOCKS_MAX).contains(&n_workers) && (1..=COUNTERS_MAX).contains(&n_counters);
        if !fits {
            return Err(LayoutError::Size { n_workers, n_counters });
        }
        let mut head = vec![0; HEADER_WORDS];
        head[1] = LAYOUT_VERSION;
        head[2] = n_workers as u64 + 1;
        head[3] = n_counters as u64;
        for (idx, counter) in counters.iter().enumerate() {
            if counters[..idx].iter().any(|other| other.name == counter.name) {
                return Err(LayoutError::Duplicate(counter.name.to_owned()));
            }
            write_text(&mut head, counter, "name", counter.name, NAME_BYTES_MAX)?;
            write_text(&mut head, counter, "unit", counter.unit, UNIT_BYTES_MAX)?;
            head.push(counter.kind as u64);
            write_text(&mut head, counter, "help", counter.help, HELP_BYTES_MAX)?;
        }
        Ok(Layout { n_workers, n_counters, head })
    }

    /// Words of the whole page.
    pub fn words(&self) -> usize {
        self.head.len() + (self.n_workers + 1) * stride(self.n_counters)
    }

    /// Bytes of the whole page.
    pub fn bytes(&self) -> usize {
        self.words() * WORD
    }

    /// Header and table, to be stored from word 0 on before [`MAGIC`] goes to word 0.
    pub fn head(&self, start_unix_ms: u64, pid: u32) -> Vec<u64> {
        let mut head = self.head.clone();
        head[4] = start_unix_ms;
        head[5] = u64::from(pid);
        head
    }

    /// The first word of worker number `worker`'s block; its counters follow in order.
    pub fn worker_block(&self, worker: usize) -> usize {
        assert!(worker < self.n_workers, "worker {worker} of {}", self.n_workers);
        self.head.len() + worker * stride(self.n_counters)
    }

    /// The first word of the block of the daemon: what no worker counts, such as the verdicts of the
    /// XDP program.
    pub fn daemon_block(&self) -> usize {
        self.head.len() + self.n_workers * stride(self.n_counters)
    }

    /// How many counters a block has.
    pub fn n_counters(&self) -> usize {
        self.n_counters
    }

    /// How many workers.
    pub fn n_workers(&self) -> usize {
        self.n_workers
    }
}

/// Words from one block to the next.
fn stride(n_counters: usize) -> usize {
    n_counters.next_multiple_of(LINE_WORDS)
}

fn write_text(
    head: &mut Vec<u64>,
    counter: &CounterDef<'_>,
    part: &'static str,
    text: &str,
    max: usize,
) -> Result<(), LayoutError> {
    if text.is_empty() || text.len() > max {
        let name = counter.name.to_owned();
        return Err(LayoutError::Text { name, part, found: text.len(), max });
    }
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(max, 0);
    head.extend(bytes.chunks_exact(WORD).map(|word| {
        u64::from_ne_bytes(word.try_into().expect("chunks of a word are as long as a word"))
    }));
    Ok(())
}

/// Why bytes are not a statistics page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It does not begin as one.
    #[error("this is no statistics page of barewire, or the daemon has not finished making it")]
    Magic,
    /// It is one of another version.
    #[error(
        "the statistics page has layout version {0}, expected {LAYOUT_VERSION}: use the barewire command of the same version as the daemon"
    )]
    Version(u64),
    /// Its sizes are impossible, or it is cut short.
    #[error("the statistics page is damaged: {0}")]
    Damaged(&'static str),
}

/// The reader's view: one moment of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// When the daemon started, in Unix milliseconds.
    pub start_unix_ms: u64,
    /// The daemon's process.
    pub pid: u32,
    /// The counters in their order.
    pub counters: Vec<PageCounter>,
}

/// One counter of a [`Page`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageCounter {
    /// Its name.
    pub name: String,
    /// What it counts in.
    pub unit: String,
    /// What its number means.
    pub kind: CounterKind,
    /// One sentence about it.
    pub help: String,
    /// Its value at each worker.
    pub workers: Vec<u64>,
    /// Its value at the daemon.
    pub daemon: u64,
}

impl PageCounter {
    /// The sum over workers and daemon.
    pub fn total(&self) -> u64 {
        self.workers.iter().fold(self.daemon, |sum, &n| sum.saturating_add(n))
    }
}

impl Page {
    /// Reads a page from a copy of its bytes. Nothing in them is trusted.
    pub fn parse(bytes: &[u8]) -> Result<Page, PageError> {
        let words: Vec<u64> = bytes
            .chunks_exact(WORD)
            .map(|word| u64::from_ne_bytes(word.try_into().expect("chunks are words")))
            .collect();
        if words.len() < HEADER_WORDS || words[0] != MAGIC {
            return Err(PageError::Magic);
        }
        if words[1] != LAYOUT_VERSION {
            return Err(PageError::Version(words[1]));
        }
        let n_blocks = usize::try_from(words[2]).unwrap_or(0);
        let n_counters = usize::try_from(words[3]).unwrap_or(0);
        if !(2..=BLOCKS_MAX).contains(&n_blocks) || !(1..=COUNTERS_MAX).contains(&n_counters) {
            return Err(PageError::Damaged("impossible numbers of workers and counters"));
        }
        let table = HEADER_WORDS + n_counters * ENTRY_WORDS;
        if words.len() < table + n_blocks * stride(n_counters) {
            return Err(PageError::Damaged("it is shorter than its header says"));
        }
        let value = |block: usize, idx: usize| words[table + block * stride(n_counters) + idx];
        let counters = (0..n_counters)
            .map(|idx| {
                let entry = HEADER_WORDS * WORD + idx * ENTRY_WORDS * WORD;
                let workers = (0..n_blocks - 1).map(|block| value(block, idx)).collect();
                read_entry(&bytes[entry..][..ENTRY_WORDS * WORD], workers, value(n_blocks - 1, idx))
            })
            .collect::<Result<_, _>>()?;
        let pid = u32::try_from(words[5]).map_err(|_| PageError::Damaged("impossible pid"))?;
        Ok(Page { start_unix_ms: words[4], pid, counters })
    }

    /// The counter of that name.
    pub fn counter(&self, name: &str) -> Option<&PageCounter> {
        self.counters.iter().find(|counter| counter.name == name)
    }
}

fn read_entry(entry: &[u8], workers: Vec<u64>, daemon: u64) -> Result<PageCounter, PageError> {
    let (name, rest) = entry.split_at(NAME_BYTES_MAX);
    let (unit, rest) = rest.split_at(UNIT_BYTES_MAX);
    let (kind, help) = rest.split_at(WORD);
    let kind = u64::from_ne_bytes(kind.try_into().expect("split at a word"));
    let kind = usize::try_from(kind).ok().and_then(|kind| CounterKind::ALL.get(kind));
    Ok(PageCounter {
        name: read_text(name)?,
        unit: read_text(unit)?,
        kind: *kind.ok_or(PageError::Damaged("unknown kind of counter"))?,
        help: read_text(help)?,
        workers,
        daemon,
    })
}

fn read_text(bytes: &[u8]) -> Result<String, PageError> {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..len]);
    text.map(str::to_owned).map_err(|_| PageError::Damaged("a name is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTERS: [CounterDef<'static>; 2] = [
        CounterDef {
            name: "rx_frames",
            unit: "frames",
            kind: CounterKind::Count,
            help: "Frames received.",
        },
        CounterDef {
            name: "drop_checksum",
            unit: "segments",
            kind: CounterKind::Drop,
            help: "Segments with a wrong checksum.",
        },
    ];

    fn written() -> Vec<u8> {
        let layout = Layout::new(3, &COUNTERS).expect("a layout");
        let mut words = layout.head(1_700_000_000_000, 42);
        words.resize(layout.words(), 0);
        for worker in 0..3 {
            words[layout.worker_block(worker)] = 10 + worker as u64;
        }
        words[layout.daemon_block() + 1] = 7;
        words[0] = MAGIC;
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let page = Page::parse(&written()).expect("a page");
        assert_eq!((page.pid, page.start_unix_ms), (42, 1_700_000_000_000));
        let rx = page.counter("rx_frames").expect("the counter");
        assert_eq!((rx.workers.as_slice(), rx.daemon, rx.total()), (&[10, 11, 12][..], 0, 33));
        let drop = page.counter("drop_checksum").expect("the counter");
        assert_eq!(
            (drop.total(), drop.kind, drop.unit.as_str()),
            (7, CounterKind::Drop, "segments")
        );
        assert_eq!(drop.help, "Segments with a wrong checksum.");
    }

    #[test]
    fn blocks_do_not_share_cache_lines() {
        let layout = Layout::new(2, &COUNTERS).expect("a layout");
        assert!(layout.worker_block(0).is_multiple_of(LINE_WORDS));
        assert_eq!(layout.worker_block(1) - layout.worker_block(0), LINE_WORDS);
    }

    #[test]
    fn impossible_layouts_are_refused() {
        assert!(matches!(Layout::new(0, &COUNTERS), Err(LayoutError::Size { .. })));
        assert!(matches!(Layout::new(1, &[]), Err(LayoutError::Size { .. })));
        let twice = [COUNTERS[0], COUNTERS[0]];
        assert_eq!(Layout::new(1, &twice), Err(LayoutError::Duplicate("rx_frames".into())));
        let long = [CounterDef { unit: "a unit that is too long", ..COUNTERS[0] }];
        let error = Layout::new(1, &long).expect_err("too long").to_string();
        assert_eq!(error, "counter `rx_frames`: its unit is 23 bytes, expected 1 to 16");
    }

    #[test]
    fn damaged_pages_are_refused() {
        let whole = written();
        let with = |word: usize, value: u64| {
            let mut bytes = whole.clone();
            bytes[word * WORD..][..WORD].copy_from_slice(&value.to_ne_bytes());
            Page::parse(&bytes)
        };
        assert_eq!(with(0, 0), Err(PageError::Magic));
        assert_eq!(with(1, 9), Err(PageError::Version(9)));
        assert!(matches!(with(2, u64::MAX), Err(PageError::Damaged(_))));
        assert!(matches!(with(3, 1_000), Err(PageError::Damaged(_))));
        assert!(matches!(with(8 + 7, 99), Err(PageError::Damaged(_))));
        for len in 0..whole.len() {
            assert!(Page::parse(&whole[..len]).is_err(), "cut to {len} bytes");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_page_panics(at in 0usize..1_000, byte: u8) {
            let mut bytes = written();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Page::parse(&bytes);
        }
    }
}
