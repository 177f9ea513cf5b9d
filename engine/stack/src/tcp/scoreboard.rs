//! What is in flight: one record for each segment between SND.UNA and SND.NXT, in sequence order,
//! with the time it was last sent and whether it was selectively acknowledged or is taken for lost
//! (the scoreboard of RFC 6675, with the times of RFC 8985). What that means for the sender is
//! decided in `recovery`.
//!
//! The first record lies in the connection, so that a request and its response borrow nothing; all
//! others come from one pool per stack. When the pool or the connection's bound is used up, the next
//! segment waits for an acknowledgement, as behind a full window.

use super::seq::Seq;
use crate::wire::tcp::SackBlocks;

const NIL: u32 = u32::MAX;

/// The place of the record that lies in the connection.
const FIRST: u32 = u32::MAX - 1;

/// What is known of a segment in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// In the network, as far as we know.
    #[default]
    InFlight,
    /// Selectively acknowledged.
    Sacked,
    /// Lost, and not sent again yet.
    Lost,
}

/// One segment that is not cumulatively acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// Its first sequence number.
    pub start: Seq,
    /// Sequence numbers it takes, those of SYN and FIN included.
    pub len: u32,
    /// The microsecond of its last transmission, wrapping.
    pub sent_us: u32,
    /// What is known of it.
    pub fate: Fate,
    /// It was sent more than once: an acknowledgement says nothing about the round trip (Karn).
    pub retransmitted: bool,
}

impl Segment {
    /// The number behind its last.
    pub fn end(&self) -> Seq {
        self.start + self.len
    }
}

/// The records that all connections of a stack share.
#[derive(Debug)]
pub struct Segments {
    slots: Vec<Slot>,
    /// Head of the free list, through `next`.
    free: u32,
    n_max: u32,
    n_used: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    segment: Segment,
    next: u32,
}

impl Segments {
    /// A pool of at most `n_max` records; its memory is taken now and becomes resident with use.
    pub fn new(n_max: u32) -> Self {
        assert!(n_max < FIRST, "the last two numbers mean something else");
        Segments { slots: Vec::with_capacity(n_max as usize), free: NIL, n_max, n_used: 0 }
    }

    /// Segments in use.
    pub fn n_used(&self) -> u32 {
        self.n_used
    }

    /// Bytes of the records in use.
    pub fn bytes(&self) -> usize {
        self.n_used as usize * size_of::<Slot>()
    }

    fn take(&mut self, segment: Segment) -> Option<u32> {
        let slot = Slot { segment, next: NIL };
        let at = if self.free != NIL {
            let at = self.free;
            self.free = self.slots[at as usize].next;
            self.slots[at as usize] = slot;
            at
        } else if (self.slots.len() as u32) < self.n_max {
            self.slots.push(slot);
            self.slots.len() as u32 - 1
        } else {
            return None;
        };
        self.n_used += 1;
        Some(at)
    }

    fn give(&mut self, at: u32) {
        self.slots[at as usize].next = self.free;
        self.free = at;
        self.n_used -= 1;
    }
}

/// The scoreboard of one connection.
#[derive(Debug)]
pub struct Scoreboard {
    first: Segment,
    /// The second record, and the last; both [`NIL`] when there is at most one.
    second: u32,
    tail: u32,
    /// Segments, that in the connection included.
    n: u32,
    n_sacked: u32,
    n_retransmitted: u32,
    sacked_bytes: u32,
    lost_bytes: u32,
}

impl Default for Scoreboard {
    fn default() -> Self {
        Scoreboard {
            first: Segment::default(),
            second: NIL,
            tail: NIL,
            n: 0,
            n_sacked: 0,
            n_retransmitted: 0,
            sacked_bytes: 0,
            lost_bytes: 0,
        }
    }
}

impl Scoreboard {
    /// Nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Segments in flight.
    pub fn len(&self) -> u32 {
        self.n
    }

    /// Segments that were selectively acknowledged.
    pub fn n_sacked(&self) -> u32 {
        self.n_sacked
    }

    /// Bytes that were selectively acknowledged.
    pub fn sacked_bytes(&self) -> u32 {
        self.sacked_bytes
    }

    /// Bytes that are lost and not sent again yet.
    pub fn lost_bytes(&self) -> u32 {
        self.lost_bytes
    }

    /// Only holes and retransmissions can put segments out of the order of their sending.
    pub fn is_in_order(&self) -> bool {
        self.n_sacked == 0 && self.n_retransmitted == 0
    }

    /// The oldest segment.
    pub fn first(&self) -> Option<&Segment> {
        (self.n > 0).then_some(&self.first)
    }

    /// The segments in sequence order.
    pub fn iter<'a>(&'a self, records: &'a Segments) -> impl Iterator<Item = &'a Segment> {
        let mut at = if self.n > 0 { FIRST } else { NIL };
        std::iter::from_fn(move || {
            let segment = (at != NIL).then(|| self.get(records, at))?;
            at = self.next(records, at);
            Some(segment)
        })
    }

    /// One more segment may be sent: a first one always, others while the pool and the connection's
    /// bound of `n_max` allow.
    pub fn has_room(&self, records: &Segments, n_max: u32) -> bool {
        self.n == 0 || (self.n < n_max && records.n_used < records.n_max)
    }

    /// A new segment behind all others was sent, for which there was room.
    pub fn push(&mut self, records: &mut Segments, segment: Segment) {
        self.n += 1;
        if self.n == 1 {
            self.first = segment;
            return;
        }
        let last = if self.tail == NIL { FIRST } else { self.tail };
        let at = records.take(segment).expect("a segment is sent when its record is free");
        self.set_next(records, last, at);
        self.tail = at;
    }

    /// A new segment was sent while nothing is in flight.
    #[inline]
    pub fn set_lone(&mut self, segment: Segment) {
        debug_assert_eq!(self.n, 0, "a lone segment is the only one");
        (self.first, self.n) = (segment, 1);
    }

    /// The only segment in flight, sent once, if everything before `una` is acknowledged and it with
    /// that: then nothing is in flight. A request and its response are such segments.
    #[inline]
    pub fn take_lone(&mut self, una: Seq) -> Option<Segment> {
        let is_lone = self.n == 1 && self.first.end().le(una);
        let is_plain = self.first.fate == Fate::InFlight && !self.first.retransmitted;
        if !is_lone || !is_plain {
            return None;
        }
        self.n = 0;
        Some(self.first)
    }

    /// Everything before `una` is acknowledged. `each` is shown what that removes, in order.
    pub fn acknowledge(
        &mut self,
        records: &mut Segments,
        una: Seq,
        mut each: impl FnMut(&Segment),
    ) {
        while self.n > 0 && self.first.end().le(una) {
            let segment = self.first;
            each(&segment);
            self.forget_fate(&segment);
            self.n_retransmitted -= u32::from(segment.retransmitted);
            self.pop_first(records);
        }
        if self.n > 0 && self.first.start.lt(una) {
            // A part of the first: as if it had been two segments.
            let part = una - self.first.start;
            let fate = self.first.fate;
            self.set_fate_bytes(fate, part, false);
            self.first.start = una;
            self.first.len -= part;
        }
    }

    /// Marks what lies inside of `blocks` as received; `each` is shown every segment for which
    /// that is news. A block that ends inside a segment covers the part before it if a record can
    /// be had to tell the parts apart.
    pub fn sack(
        &mut self,
        records: &mut Segments,
        blocks: &SackBlocks,
        mut each: impl FnMut(&Segment),
    ) {
        for (left, right) in blocks.iter() {
            let (left, right) = (Seq(left), Seq(right));
            let mut at = if self.n > 0 { FIRST } else { NIL };
            while at != NIL {
                let segment = *self.get(records, at);
                if segment.start.ge(right) {
                    break;
                }
                let inside = segment.start.ge(left);
                if segment.fate != Fate::Sacked {
                    if inside && segment.end().le(right) {
                        each(&segment);
                        self.mark(records, at, Fate::Sacked);
                    } else if inside && self.split(records, at, right - segment.start) {
                        continue;
                    } else if segment.end().gt(left) && !inside {
                        self.split(records, at, left - segment.start);
                    }
                }
                at = self.next(records, at);
            }
        }
    }

    /// Asks `is_lost` of every segment in flight, oldest first, until it answers `None`; returns
    /// how many bytes were marked as lost.
    pub fn mark_lost(
        &mut self,
        records: &mut Segments,
        mut is_lost: impl FnMut(&Segment) -> Option<bool>,
    ) -> u32 {
        let before = self.lost_bytes;
        let mut at = if self.n > 0 { FIRST } else { NIL };
        while at != NIL {
            let segment = *self.get(records, at);
            if segment.fate == Fate::InFlight {
                match is_lost(&segment) {
                    None => break,
                    Some(true) => self.mark(records, at, Fate::Lost),
                    Some(false) => {}
                }
            }
            at = self.next(records, at);
        }
        self.lost_bytes - before
    }

    /// The receiver has thrown away what it had acknowledged selectively (RFC 2018 section 8).
    pub fn forget_sacks(&mut self, records: &mut Segments) {
        let mut at = if self.n > 0 { FIRST } else { NIL };
        while at != NIL {
            if self.get(records, at).fate == Fate::Sacked {
                self.mark(records, at, Fate::InFlight);
            }
            at = self.next(records, at);
        }
    }

    /// The oldest segment that is lost, at most `len_max` numbers of it, is sent again now: returns
    /// it as it leaves.
    pub fn resend(
        &mut self,
        records: &mut Segments,
        sent_us: u32,
        len_max: u32,
    ) -> Option<Segment> {
        if self.lost_bytes == 0 {
            return None;
        }
        let mut at = FIRST;
        while self.get(records, at).fate != Fate::Lost {
            at = self.next(records, at);
        }
        Some(self.resend_at(records, at, sent_us, len_max))
    }

    /// The newest segment, whatever its fate, is sent again now as a probe: returns its last
    /// `len_max` numbers, or what can be told apart of it.
    pub fn resend_last(
        &mut self,
        records: &mut Segments,
        sent_us: u32,
        len_max: u32,
    ) -> Option<Segment> {
        if self.n == 0 {
            return None;
        }
        let last = if self.tail == NIL { FIRST } else { self.tail };
        let len = self.get(records, last).len;
        if len > len_max {
            self.split(records, last, len - len_max);
        }
        let last = if self.tail == NIL { FIRST } else { self.tail };
        Some(self.resend_at(records, last, sent_us, len_max))
    }

    /// Gives all records back.
    pub fn clear(&mut self, records: &mut Segments) {
        while self.n > 0 {
            self.pop_first(records);
        }
        *self = Scoreboard::default();
    }

    fn resend_at(
        &mut self,
        records: &mut Segments,
        at: u32,
        sent_us: u32,
        len_max: u32,
    ) -> Segment {
        if self.get(records, at).len > len_max {
            // If no record is left for the rest, it goes with this one, and waits for the next
            // timeout if it was lost too.
            self.split(records, at, len_max);
        }
        if self.get(records, at).fate != Fate::InFlight {
            self.mark(records, at, Fate::InFlight);
        }
        self.note_retransmitted(records, at, sent_us);
        let segment = self.get(records, at);
        Segment { len: segment.len.min(len_max), ..*segment }
    }

    /// The time of its first sending is no longer known.
    fn note_retransmitted(&mut self, records: &mut Segments, at: u32, sent_us: u32) {
        let segment = self.get_mut(records, at);
        let was_so = std::mem::replace(&mut segment.retransmitted, true);
        segment.sent_us = sent_us;
        self.n_retransmitted += u32::from(!was_so);
    }

    fn get<'a>(&'a self, records: &'a Segments, at: u32) -> &'a Segment {
        if at == FIRST { &self.first } else { &records.slots[at as usize].segment }
    }

    fn get_mut<'a>(&'a mut self, records: &'a mut Segments, at: u32) -> &'a mut Segment {
        if at == FIRST { &mut self.first } else { &mut records.slots[at as usize].segment }
    }

    fn next(&self, records: &Segments, at: u32) -> u32 {
        if at == FIRST { self.second } else { records.slots[at as usize].next }
    }

    fn set_next(&mut self, records: &mut Segments, at: u32, next: u32) {
        if at == FIRST {
            self.second = next;
        } else {
            records.slots[at as usize].next = next;
        }
    }

    /// Cuts the record after `len` numbers; false when there is no record for the second part.
    fn split(&mut self, records: &mut Segments, at: u32, len: u32) -> bool {
        let whole = *self.get(records, at);
        if len == 0 || len >= whole.len {
            return false;
        }
        let rest = Segment { start: whole.start + len, len: whole.len - len, ..whole };
        let Some(new) = records.take(rest) else { return false };
        let next = self.next(records, at);
        self.set_next(records, new, next);
        self.set_next(records, at, new);
        self.get_mut(records, at).len = len;
        if next == NIL {
            self.tail = new;
        }
        self.n += 1;
        self.n_sacked += u32::from(whole.fate == Fate::Sacked);
        self.n_retransmitted += u32::from(whole.retransmitted);
        true
    }

    fn pop_first(&mut self, records: &mut Segments) {
        self.n -= 1;
        if self.second != NIL {
            let at = self.second;
            let Slot { segment, next } = records.slots[at as usize];
            records.give(at);
            self.first = segment;
            self.second = next;
            if next == NIL {
                self.tail = NIL;
            }
        }
    }

    fn mark(&mut self, records: &mut Segments, at: u32, fate: Fate) {
        let old = *self.get(records, at);
        self.forget_fate(&old);
        self.set_fate_bytes(fate, old.len, true);
        self.n_sacked += u32::from(fate == Fate::Sacked);
        self.get_mut(records, at).fate = fate;
    }

    /// Takes a record out of the sums.
    fn forget_fate(&mut self, segment: &Segment) {
        self.set_fate_bytes(segment.fate, segment.len, false);
        self.n_sacked -= u32::from(segment.fate == Fate::Sacked);
    }

    fn set_fate_bytes(&mut self, fate: Fate, len: u32, more: bool) {
        let sum = match fate {
            Fate::InFlight => return,
            Fate::Sacked => &mut self.sacked_bytes,
            Fate::Lost => &mut self.lost_bytes,
        };
        *sum = if more { *sum + len } else { *sum - len };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(board: &mut Scoreboard, records: &mut Segments, n: u32) {
        for i in 0..n {
            let segment =
                Segment { start: Seq(i * 100), len: 100, sent_us: i, ..Segment::default() };
            board.push(records, segment);
        }
    }

    fn blocks(list: &[(u32, u32)]) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        for &(left, right) in list {
            assert!(blocks.push(left, right));
        }
        blocks
    }

    fn fates(board: &Scoreboard, records: &Segments) -> String {
        let letter = |fate| match fate {
            Fate::InFlight => '.',
            Fate::Sacked => 's',
            Fate::Lost => 'L',
        };
        board.iter(records).map(|segment| letter(segment.fate)).collect()
    }

    #[test]
    fn one_segment_borrows_nothing_and_more_do() {
        let (mut board, mut records) = (Scoreboard::default(), Segments::new(8));
        sent(&mut board, &mut records, 1);
        assert_eq!((records.n_used(), board.len()), (0, 1));
        board.acknowledge(&mut records, Seq(100), |_| {});
        sent(&mut board, &mut records, 4);
        assert_eq!((records.n_used(), board.len()), (3, 4));
        let mut seen = Vec::new();
        board.acknowledge(&mut records, Seq(250), |segment| seen.push(segment.start));
        assert_eq!(seen, [Seq(0), Seq(100)]);
        assert_eq!(board.first().map(|s| (s.start, s.len)), Some((Seq(250), 50)));
        board.clear(&mut records);
        assert_eq!((records.n_used(), board.is_empty()), (0, true));
    }

    #[test]
    fn sacks_are_news_once_and_split_what_they_cover_in_part() {
        let (mut board, mut records) = (Scoreboard::default(), Segments::new(16));
        sent(&mut board, &mut records, 5);
        let mut news = 0;
        board.sack(&mut records, &blocks(&[(100, 200), (350, 420)]), |segment| news += segment.len);
        assert_eq!((news, board.sacked_bytes(), board.n_sacked()), (170, 170, 3));
        assert_eq!(fates(&board, &records), ".s..ss.");
        board.sack(&mut records, &blocks(&[(100, 200), (350, 420)]), |_| news += 1);
        assert_eq!(news, 170);
        board.acknowledge(&mut records, Seq(200), |_| {});
        assert_eq!((board.sacked_bytes(), fates(&board, &records).as_str()), (70, "..ss."));
    }

    #[test]
    fn lost_segments_are_resent_oldest_first_and_in_pieces() {
        let (mut board, mut records) = (Scoreboard::default(), Segments::new(16));
        sent(&mut board, &mut records, 4);
        board.sack(&mut records, &blocks(&[(100, 200)]), |_| {});
        let lost = board.mark_lost(&mut records, |s| (s.start.lt(Seq(300))).then_some(true));
        assert_eq!((lost, fates(&board, &records).as_str()), (200, "LsL."));
        let again = board.resend(&mut records, 50, 60).expect("something is lost");
        assert_eq!((again.start, again.len, board.lost_bytes()), (Seq(0), 60, 140));
        let again = board.resend(&mut records, 51, 60).expect("the rest of it");
        assert_eq!((again.start, again.len), (Seq(60), 40));
        let again = board.resend(&mut records, 52, 100).expect("the next hole");
        assert_eq!((again.start, again.len), (Seq(200), 100));
        assert!(board.resend(&mut records, 53, 100).is_none());
        assert!(!board.is_in_order());
        let last = board.resend_last(&mut records, 54, 30).expect("the tail");
        assert_eq!((last.start, last.len), (Seq(370), 30));
    }

    #[test]
    fn without_records_there_is_room_for_one() {
        let (mut board, mut records) = (Scoreboard::default(), Segments::new(2));
        sent(&mut board, &mut records, 3);
        assert!(!board.has_room(&records, 100), "the pool is used up");
        let mut other = Scoreboard::default();
        assert!(other.has_room(&records, 100));
        sent(&mut other, &mut records, 1);
        assert!(!other.has_room(&records, 100));
        board.acknowledge(&mut records, Seq(100), |_| {});
        assert!(other.has_room(&records, 100) && !other.has_room(&records, 1));
    }

    proptest! {
        /// Whatever is acknowledged, marked and resent: the sums are those of the records.
        #[test]
        fn the_sums_are_those_of_the_records(ops in prop::collection::vec((0u8..5, 0u32..3000, 1u32..900), 1..60)) {
            let (mut board, mut records) = (Scoreboard::default(), Segments::new(20));
            let (mut una, mut nxt) = (0u32, 0u32);
            for (op, a, b) in ops {
                match op {
                    0 if board.has_room(&records, 30) => {
                        let segment = Segment { start: Seq(nxt), len: b, ..Segment::default() };
                        board.push(&mut records, segment);
                        nxt += b;
                    }
                    0 => {}
                    1 => {
                        una = (una + a).min(nxt);
                        board.acknowledge(&mut records, Seq(una), |_| {});
                    }
                    2 => board.sack(&mut records, &blocks(&[(una + a, una + a + b)]), |_| {}),
                    3 => {
                        board.mark_lost(&mut records, |s| Some(s.start.lt(Seq(una + a))));
                    }
                    _ => {
                        board.resend(&mut records, a, b);
                    }
                }
                let sum = |fate| board.iter(&records).filter(|s| s.fate == fate).map(|s| s.len).sum::<u32>();
                prop_assert_eq!(board.sacked_bytes(), sum(Fate::Sacked));
                prop_assert_eq!(board.lost_bytes(), sum(Fate::Lost));
                let again = board.iter(&records).filter(|s| s.retransmitted).count();
                prop_assert_eq!(board.n_retransmitted as usize, again);
                let mut at = Seq(una);
                for segment in board.iter(&records) {
                    prop_assert_eq!(segment.start, at);
                    prop_assert!(segment.len > 0);
                    at = segment.end();
                }
                prop_assert_eq!(at, Seq(nxt.max(una)));
                prop_assert_eq!(board.len().saturating_sub(1), records.n_used());
            }
        }
    }
}
