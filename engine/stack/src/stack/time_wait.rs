//! Connections in TIME-WAIT of which the application knows nothing more, in the order in which they
//! came to rest: all rest equally long, so the first is always the next whose time is over, and no
//! timer is kept for any. A record takes 24 bytes. When the peer's FIN comes again its rest begins
//! anew, and the record moves to the end.
//!
//! Pages of records begin anew after a thirty-second part of 2 MSL, and all of a page go together,
//! when the last one's time is over: a rest is never shorter than 2 MSL, and by less than that part
//! longer.

use crate::flow::{FourTuple, RECORDS_MAX};
use crate::tcp::Tick;
use crate::tcp::resting::Resting;
use crate::time::Duration;
use std::collections::VecDeque;

/// Records of one page.
const PAGE: u32 = 1024;

/// Pages there can be, for their records are numbered below [`RECORDS_MAX`].
const PAGES_MAX: u32 = RECORDS_MAX / PAGE - 2;

/// Parts of 2 MSL after which a page takes no more.
const PARTS: u64 = 32;

/// Between two challenge ACKs of a connection lie so many milliseconds, or at least as many between
/// the one before and the one after (RFC 5961 section 5.3).
const CHALLENGE_MS: i32 = 500;

/// One connection at rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    pub(super) tuple: FourTuple,
    pub(super) resting: Resting,
}

/// One bit for each record of a page.
type Bits = [u64; PAGE as usize / 64];

#[derive(Debug)]
struct Page {
    records: Vec<Rest>,
    /// Which of them still rest.
    live: Bits,
    n_live: u32,
    /// Which of them have answered with a challenge ACK since.
    challenged: Bits,
    challenged_since: Tick,
    /// When it was begun, and when the last rest of its records began.
    begun: Tick,
    last: Tick,
}

/// All of a stack.
#[derive(Debug)]
pub(super) struct TimeWait {
    pages: VecDeque<Box<Page>>,
    /// Number of the first page, wrapping with the numbers of records.
    first: u32,
    len: u32,
    /// Record of the first page at which the search for the oldest begins.
    cursor: u32,
    rest: Duration,
}

impl TimeWait {
    /// A rest takes `rest`.
    pub(super) fn new(rest: Duration) -> Self {
        TimeWait { pages: VecDeque::new(), first: 0, len: 0, cursor: 0, rest }
    }

    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// Positions in the order of rest are below this, for [`TimeWait::nth`].
    pub(super) fn n_positions(&self) -> u32 {
        self.pages.len() as u32 * PAGE
    }

    /// Bytes of memory that they take.
    pub(super) fn bytes(&self) -> usize {
        let page = size_of::<Page>() + PAGE as usize * size_of::<Rest>();
        self.pages.len() * page + self.pages.capacity() * size_of::<Box<Page>>()
    }

    /// No more can be numbered before the oldest goes.
    pub(super) fn is_full(&self) -> bool {
        self.pages.len() as u32 >= PAGES_MAX
    }

    /// A rest that began at `now`, or a little earlier than others did; its number.
    pub(super) fn push(&mut self, now: Tick, rest: Rest) -> u32 {
        let part_ms = (self.rest.as_millis() / PARTS) as i32;
        let takes_more = self.pages.back().is_some_and(|page| {
            (page.records.len() as u32) < PAGE && now.until(page.begun) <= part_ms
        });
        if !takes_more {
            self.pages.push_back(Box::new(Page::new(now)));
        }
        let number = self.first.wrapping_add(self.pages.len() as u32 - 1);
        let page = self.pages.back_mut().expect("one was just added, or takes more");
        let idx = page.records.len() as u32;
        page.records.push(rest);
        set(&mut page.live, idx, true);
        page.n_live += 1;
        if now.until(page.last) > 0 {
            page.last = now;
        }
        self.len += 1;
        (number.wrapping_mul(PAGE) + idx) % RECORDS_MAX
    }

    /// The record with this number, which rests.
    pub(super) fn at(&self, number: u32) -> &Rest {
        let (page, idx) = self.split(number);
        &self.pages[page].records[idx as usize]
    }

    /// Record number `position` of those that rest, in the order in which they go, if it still rests.
    pub(super) fn nth(&self, position: u32) -> Option<(u32, &Rest)> {
        let page = self.pages.get((position / PAGE) as usize)?;
        let idx = position % PAGE;
        let number = self.first.wrapping_mul(PAGE).wrapping_add(position) % RECORDS_MAX;
        has(&page.live, idx).then(|| (number, &page.records[idx as usize]))
    }

    /// The rest with this number is over.
    pub(super) fn remove(&mut self, number: u32) {
        let (page, idx) = self.split(number);
        let page = &mut self.pages[page];
        debug_assert!(has(&page.live, idx), "it rests");
        set(&mut page.live, idx, false);
        page.n_live -= 1;
        self.len -= 1;
        if page.n_live == 0 && page.records.len() as u32 == PAGE {
            // An empty page keeps its number, not its memory.
            page.records = Vec::new();
        }
        self.drop_empty();
    }

    /// Whether a rest that began anew now would end noticeably later.
    pub(super) fn is_stale(&self, now: Tick, number: u32) -> bool {
        let (page, _) = self.split(number);
        now.until(self.pages[page].last) > (self.rest.as_millis() / PARTS) as i32
    }

    /// The oldest, if any.
    pub(super) fn oldest(&mut self) -> Option<u32> {
        self.drop_empty();
        let page = self.pages.front()?;
        while !has(&page.live, self.cursor) {
            self.cursor += 1;
        }
        Some(self.first.wrapping_mul(PAGE).wrapping_add(self.cursor) % RECORDS_MAX)
    }

    /// The oldest, if its rest is over.
    pub(super) fn expired(&mut self, now: Tick) -> Option<u32> {
        self.next().filter(|next| next.is_due(now))?;
        self.oldest()
    }

    /// When the first rest ends.
    pub(super) fn next(&self) -> Option<Tick> {
        let page = self.pages.front().filter(|_| self.len > 0)?;
        Some(page.last.plus(self.rest))
    }

    /// Whether the record may send a challenge ACK now.
    pub(super) fn may_challenge(&mut self, now: Tick, number: u32) -> bool {
        let (page, idx) = self.split(number);
        let page = &mut self.pages[page];
        if now.until(page.challenged_since) >= CHALLENGE_MS {
            page.challenged = Bits::default();
        }
        !has(&page.challenged, idx)
    }

    /// The record has sent one.
    pub(super) fn note_challenge(&mut self, now: Tick, number: u32) {
        let (page, idx) = self.split(number);
        let page = &mut self.pages[page];
        if page.challenged == Bits::default() {
            page.challenged_since = now;
        }
        set(&mut page.challenged, idx, true);
    }

    /// Number of a record to its page, counted from the first, and its place in it.
    fn split(&self, number: u32) -> (usize, u32) {
        let page = (number / PAGE).wrapping_sub(self.first) % (RECORDS_MAX / PAGE);
        (page as usize, number % PAGE)
    }

    /// Pages at the front in which nothing rests go. The last one stays while it takes more.
    fn drop_empty(&mut self) {
        while self.pages.front().is_some_and(|page| page.n_live == 0) {
            self.pages.pop_front();
            self.first = self.first.wrapping_add(1);
            self.cursor = 0;
        }
    }
}

impl Page {
    fn new(now: Tick) -> Self {
        Page {
            // Touched as it fills.
            records: Vec::with_capacity(PAGE as usize),
            live: Bits::default(),
            n_live: 0,
            challenged: Bits::default(),
            challenged_since: now,
            begun: now,
            last: now,
        }
    }
}

fn has(bits: &Bits, idx: u32) -> bool {
    bits[idx as usize / 64] >> (idx % 64) & 1 == 1
}

fn set(bits: &mut Bits, idx: u32, on: bool) {
    let bit = 1 << (idx % 64);
    let word = &mut bits[idx as usize / 64];
    *word = if on { *word | bit } else { *word & !bit };
}
