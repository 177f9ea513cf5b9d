//! Bytes that a connection holds for a while: queues of chunks borrowed from one pool per stack.
//! A chunk is borrowed when bytes come and returned when the last of them goes, so an idle
//! connection holds none. The pool is the bound on all buffered bytes of a stack; it is reserved
//! once and its pages become resident only when first used.

/// Bytes of one chunk: a full Ethernet segment fits, and half of a page is not wasted on a request.
pub const CHUNK_BYTES: usize = 2048;

/// No chunk.
pub(super) const NIL: u32 = u32::MAX;

/// The chunks that all connections of a stack share.
#[derive(Debug)]
pub struct Pool {
    bytes: Vec<u8>,
    chunks: Vec<Chunk>,
    /// Head of the free list, last returned first: the warm chunk is used again.
    free: u32,
    n_used: u32,
}

/// What is in a chunk: `len` bytes from `start`, beginning at sequence number `seq` where the
/// holder cares. `next` chains the chunks of a queue, or of the free list.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    next: u32,
    seq: u32,
    start: u16,
    len: u16,
}

impl Pool {
    /// A pool of at least `bytes_max` bytes, rounded up to whole chunks.
    pub fn new(bytes_max: usize) -> Self {
        let n = bytes_max.div_ceil(CHUNK_BYTES).max(1);
        assert!(n < NIL as usize, "a pool holds less than 2^32 chunks");
        // A zeroed vector comes from the allocator as untouched pages; the links that thread the
        // free list are the only part written now.
        let chunks = (0..n as u32).map(|i| Chunk { next: i + 1, seq: 0, start: 0, len: 0 });
        let mut chunks: Vec<Chunk> = chunks.collect();
        if let Some(last) = chunks.last_mut() {
            last.next = NIL;
        }
        Pool { bytes: vec![0; n * CHUNK_BYTES], chunks, free: 0, n_used: 0 }
    }

    /// Chunks in use.
    pub fn n_used(&self) -> u32 {
        self.n_used
    }

    /// Chunks still free.
    pub fn n_free(&self) -> u32 {
        self.chunks.len() as u32 - self.n_used
    }

    /// Free chunks that a send may take. An eighth of the pool is kept for reception: two ends with
    /// nothing free but what they want to send would wait for each other for ever.
    pub fn n_sendable(&self) -> u32 {
        self.n_free().saturating_sub(self.chunks.len() as u32 / 8)
    }

    fn take(&mut self) -> Option<u32> {
        let idx = self.free;
        let chunk = self.chunks.get_mut(idx as usize)?;
        self.free = chunk.next;
        *chunk = Chunk { next: NIL, seq: 0, start: 0, len: 0 };
        self.n_used += 1;
        Some(idx)
    }

    /// A chunk with these bytes, if they fit one.
    #[inline]
    fn take_for(&mut self, bytes: &[u8]) -> Option<u32> {
        if bytes.is_empty() || bytes.len() > CHUNK_BYTES {
            return None;
        }
        let idx = self.free;
        let chunk = self.chunks.get_mut(idx as usize)?;
        self.free = chunk.next;
        *chunk = Chunk { next: NIL, seq: 0, start: 0, len: bytes.len() as u16 };
        self.n_used += 1;
        let start = idx as usize * CHUNK_BYTES;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        Some(idx)
    }

    #[inline]
    fn give(&mut self, idx: u32) {
        self.chunks[idx as usize].next = self.free;
        self.free = idx;
        self.n_used -= 1;
    }

    fn chunk(&mut self, idx: u32) -> &mut Chunk {
        &mut self.chunks[idx as usize]
    }

    /// The bytes of a chunk.
    pub(super) fn data(&self, idx: u32) -> &[u8] {
        let chunk = self.chunks[idx as usize];
        let start = idx as usize * CHUNK_BYTES + usize::from(chunk.start);
        &self.bytes[start..start + usize::from(chunk.len)]
    }

    /// The chunk behind a chunk of a queue; [`NIL`] behind the last.
    pub(super) fn next(&self, idx: u32) -> u32 {
        self.chunks[idx as usize].next
    }

    /// Room behind the data of a chunk, in bytes.
    fn tail_room(&self, idx: u32) -> usize {
        let chunk = self.chunks[idx as usize];
        CHUNK_BYTES - usize::from(chunk.start) - usize::from(chunk.len)
    }

    /// Appends what fits to the data of a chunk; returns how many bytes did.
    fn extend(&mut self, idx: u32, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.tail_room(idx));
        let chunk = &mut self.chunks[idx as usize];
        let end = idx as usize * CHUNK_BYTES + usize::from(chunk.start) + usize::from(chunk.len);
        self.bytes[end..end + n].copy_from_slice(&bytes[..n]);
        chunk.len += n as u16;
        n
    }
}

/// A queue of bytes in chunks of a [`Pool`]. It is plain data: whoever drops one that is not empty
/// leaks its chunks, which the pool's count shows.
#[derive(Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
    len: u32,
}

impl Queue {
    /// An empty queue.
    pub const fn new() -> Self {
        Queue { head: NIL, tail: NIL, len: 0 }
    }

    /// Bytes in the queue.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True when it holds no bytes, and so no chunks.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends as many of `bytes` as `n_chunks_max` chunks more, and the pool, have room for; returns
    /// how many.
    #[inline]
    pub fn append(&mut self, pool: &mut Pool, bytes: &[u8], n_chunks_max: u32) -> usize {
        if self.tail == NIL
            && n_chunks_max > 0
            && let Some(idx) = pool.take_for(bytes)
        {
            (self.head, self.tail, self.len) = (idx, idx, bytes.len() as u32);
            return bytes.len();
        }
        self.append_chunks(pool, bytes, n_chunks_max)
    }

    /// Out of line, as the other long ways: a request and its response take the short ones.
    #[inline(never)]
    fn append_chunks(&mut self, pool: &mut Pool, bytes: &[u8], n_chunks_max: u32) -> usize {
        let mut n_chunks = 0;
        let mut done = 0;
        if self.tail != NIL {
            done = pool.extend(self.tail, bytes);
        }
        while done < bytes.len() && n_chunks < n_chunks_max {
            let Some(idx) = pool.take() else { break };
            n_chunks += 1;
            done += pool.extend(idx, &bytes[done..]);
            self.link(pool, idx);
        }
        self.len += done as u32;
        done
    }

    /// The chunk in which all bytes lie, if it is one.
    #[inline]
    pub(super) fn only_chunk(&self) -> Option<u32> {
        (self.head == self.tail && self.head != NIL).then_some(self.head)
    }

    /// The chunk at the front; [`NIL`] when the queue is empty.
    pub(super) fn head(&self) -> u32 {
        self.head
    }

    /// The first bytes that lie together; empty only when the queue is.
    pub fn front<'p>(&self, pool: &'p Pool) -> &'p [u8] {
        if self.head == NIL { &[] } else { pool.data(self.head) }
    }

    /// Copies bytes from `offset` on into `buf`; returns how many there were.
    #[inline]
    pub fn copy_to(&self, pool: &Pool, offset: u32, buf: &mut [u8]) -> usize {
        // A request lies in one chunk.
        if let Some(bytes) = self.front(pool).get(offset as usize..)
            && let Some(bytes) = bytes.get(..buf.len())
        {
            buf.copy_from_slice(bytes);
            return buf.len();
        }
        self.copy_chunks(pool, offset, buf)
    }

    #[inline(never)]
    fn copy_chunks(&self, pool: &Pool, offset: u32, buf: &mut [u8]) -> usize {
        let (mut skip, mut done, mut idx) = (offset as usize, 0, self.head);
        while idx != NIL && done < buf.len() {
            let data = pool.data(idx);
            if skip < data.len() {
                let n = (data.len() - skip).min(buf.len() - done);
                buf[done..done + n].copy_from_slice(&data[skip..skip + n]);
                done += n;
                skip = 0;
            } else {
                skip -= data.len();
            }
            idx = pool.chunks[idx as usize].next;
        }
        done
    }

    /// Removes the first `n` bytes, at most all; returns how many.
    #[inline]
    pub fn consume(&mut self, pool: &mut Pool, n: u32) -> u32 {
        let done = n.min(self.len);
        self.len -= done;
        if self.len == 0 && self.head == self.tail && self.head != NIL {
            // All of the only chunk.
            pool.give(self.head);
            (self.head, self.tail) = (NIL, NIL);
        } else {
            self.consume_chunks(pool, done);
        }
        done
    }

    /// Takes `n` bytes, no more than there are, from the chunks.
    #[inline(never)]
    fn consume_chunks(&mut self, pool: &mut Pool, n: u32) {
        let mut left = n;
        while left > 0 {
            let chunk = pool.chunk(self.head);
            let part = left.min(u32::from(chunk.len));
            chunk.start += part as u16;
            chunk.len -= part as u16;
            left -= part;
            if chunk.len == 0 {
                let next = chunk.next;
                pool.give(self.head);
                self.head = next;
            }
        }
        if self.head == NIL {
            self.tail = NIL;
        }
    }

    /// Moves bytes from the front of `other` to the end of this queue without copying them: all of
    /// them, or as many whole chunks as hold no more than `max` bytes. Returns how many bytes.
    pub fn splice(&mut self, pool: &mut Pool, other: &mut Queue, max: u32) -> u32 {
        let (mut last, mut done) = (other.tail, other.len);
        if done > max {
            (last, done) = (NIL, 0);
            let mut idx = other.head;
            while done + u32::from(pool.chunk(idx).len) <= max {
                let chunk = *pool.chunk(idx);
                done += u32::from(chunk.len);
                (last, idx) = (idx, chunk.next);
            }
        }
        if last == NIL {
            return 0;
        }
        if self.tail == NIL {
            self.head = other.head;
        } else {
            pool.chunk(self.tail).next = other.head;
        }
        self.tail = last;
        self.len += done;
        other.head = std::mem::replace(&mut pool.chunk(last).next, NIL);
        other.len -= done;
        if other.head == NIL {
            other.tail = NIL;
        }
        done
    }

    /// Gives all chunks back.
    pub fn clear(&mut self, pool: &mut Pool) {
        self.consume(pool, u32::MAX);
    }

    fn link(&mut self, pool: &mut Pool, idx: u32) {
        if self.tail == NIL {
            self.head = idx;
        } else {
            pool.chunk(self.tail).next = idx;
        }
        self.tail = idx;
    }
}

impl Default for Queue {
    fn default() -> Self {
        Queue::new()
    }
}

/// Received segments that wait for an earlier one (RFC 9293 section 3.10.7.4, seventh step): a
/// chain of chunks in sequence order that never overlap. It holds at most `segments_max` chunks,
/// so that a peer which sends every second byte cannot take the pool or make an insertion long.
#[derive(Debug)]
pub struct Reassembly {
    head: u32,
    n_chunks: u16,
}

/// What became of an out-of-order segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it is held.
    All,
    /// All of it was held before.
    Twice,
    /// The connection's or the pool's bound was reached; the part that is held is kept.
    Full,
}

impl Reassembly {
    /// Nothing out of order.
    pub const fn new() -> Self {
        Reassembly { head: NIL, n_chunks: 0 }
    }

    /// True when no segment waits.
    pub fn is_empty(&self) -> bool {
        self.head == NIL
    }

    /// Keeps `bytes`, which begin at sequence number `seq`, except what is held already. Numbers
    /// are taken relative to `base` (RCV.NXT), below which nothing may lie.
    pub fn insert(
        &mut self,
        pool: &mut Pool,
        base: u32,
        mut seq: u32,
        mut bytes: &[u8],
        segments_max: u16,
    ) -> Kept {
        let offset = |seq: u32| seq.wrapping_sub(base);
        let mut kept = Kept::Twice;
        let (mut before, mut at) = (NIL, self.head);
        while !bytes.is_empty() {
            // Pass the chunks that end at or before the new bytes, and cut what they overlap.
            while at != NIL {
                let chunk = *pool.chunk(at);
                let end = chunk.seq.wrapping_add(u32::from(chunk.len));
                if offset(chunk.seq) > offset(seq) {
                    break;
                }
                if offset(end) > offset(seq) {
                    let held = (end.wrapping_sub(seq) as usize).min(bytes.len());
                    bytes = &bytes[held..];
                    seq = end;
                }
                (before, at) = (at, chunk.next);
            }
            let gap = if at == NIL { u32::MAX } else { pool.chunk(at).seq.wrapping_sub(seq) };
            let fits = bytes.len().min(gap as usize);
            if fits == 0 {
                break;
            }
            let done = self.place(pool, before, at, seq, &bytes[..fits], segments_max);
            if done < fits {
                return Kept::Full;
            }
            kept = Kept::All;
            bytes = &bytes[fits..];
            seq = seq.wrapping_add(fits as u32);
            // The new chunks lie behind `before` now; walk on from there.
            at = if before == NIL { self.head } else { pool.chunk(before).next };
        }
        kept
    }

    /// Puts bytes that overlap nothing between two neighbours of the chain; returns how many.
    fn place(
        &mut self,
        pool: &mut Pool,
        mut before: u32,
        after: u32,
        seq: u32,
        bytes: &[u8],
        segments_max: u16,
    ) -> usize {
        let mut done = 0;
        if before != NIL {
            let chunk = *pool.chunk(before);
            if chunk.seq.wrapping_add(u32::from(chunk.len)) == seq {
                done = pool.extend(before, bytes);
            }
        }
        while done < bytes.len() {
            if self.n_chunks >= segments_max {
                break;
            }
            let Some(idx) = pool.take() else { break };
            pool.chunk(idx).seq = seq.wrapping_add(done as u32);
            done += pool.extend(idx, &bytes[done..]);
            pool.chunk(idx).next = after;
            if before == NIL {
                self.head = idx;
            } else {
                pool.chunk(before).next = idx;
            }
            before = idx;
            self.n_chunks += 1;
        }
        done
    }

    /// Moves what has become in order (begins at or before `nxt`) to the end of `queue`; returns
    /// the new RCV.NXT.
    pub fn drain_to(&mut self, pool: &mut Pool, nxt: u32, queue: &mut Queue) -> u32 {
        let mut nxt = nxt;
        while self.head != NIL {
            let idx = self.head;
            let chunk = *pool.chunk(idx);
            let overlap = nxt.wrapping_sub(chunk.seq);
            if overlap as i32 > i32::from(chunk.len) {
                self.pop(chunk.next);
                pool.give(idx);
                continue;
            }
            if (overlap as i32) < 0 {
                break;
            }
            self.pop(chunk.next);
            let fresh = chunk.len - overlap as u16;
            if fresh == 0 {
                pool.give(idx);
                continue;
            }
            let kept = pool.chunk(idx);
            kept.start += overlap as u16;
            kept.len = fresh;
            kept.next = NIL;
            queue.link(pool, idx);
            queue.len += u32::from(fresh);
            nxt = nxt.wrapping_add(u32::from(fresh));
        }
        nxt
    }

    /// The runs of bytes that wait, as (left, right) edges in sequence order.
    pub fn runs<'p>(&self, pool: &'p Pool) -> impl Iterator<Item = (u32, u32)> + use<'p> {
        let mut at = self.head;
        std::iter::from_fn(move || {
            let first = *pool.chunks.get(at as usize)?;
            let mut right = first.seq.wrapping_add(u32::from(first.len));
            at = first.next;
            while let Some(chunk) = pool.chunks.get(at as usize).filter(|c| c.seq == right) {
                right = right.wrapping_add(u32::from(chunk.len));
                at = chunk.next;
            }
            Some((first.seq, right))
        })
    }

    /// Gives all chunks back.
    pub fn clear(&mut self, pool: &mut Pool) {
        while self.head != NIL {
            let idx = self.head;
            let next = pool.chunk(idx).next;
            self.pop(next);
            pool.give(idx);
        }
    }

    fn pop(&mut self, next: u32) {
        self.head = next;
        self.n_chunks -= 1;
    }
}

impl Default for Reassembly {
    fn default() -> Self {
        Reassembly::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(queue: &Queue, pool: &Pool) -> Vec<u8> {
        let mut bytes = vec![0; queue.len() as usize];
        assert_eq!(queue.copy_to(pool, 0, &mut bytes), bytes.len());
        bytes
    }

    #[test]
    fn a_queue_takes_no_more_than_the_pool_has_and_gives_all_back() {
        let mut pool = Pool::new(3 * CHUNK_BYTES);
        let mut queue = Queue::new();
        let bytes: Vec<u8> = (0..4 * CHUNK_BYTES).map(|i| (i % 251) as u8).collect();
        assert_eq!(queue.append(&mut pool, &bytes, u32::MAX), 3 * CHUNK_BYTES);
        assert_eq!(pool.n_free(), 0);
        assert_eq!(queue.consume(&mut pool, 3000), 3000);
        assert_eq!(content(&queue, &pool), &bytes[3000..3 * CHUNK_BYTES]);
        let mut part = [0; 10];
        queue.copy_to(&pool, 100, &mut part);
        assert_eq!(part, bytes[3100..3110]);
        queue.clear(&mut pool);
        assert_eq!((pool.n_used(), queue.len()), (0, 0));
    }

    #[test]
    fn an_eighth_of_the_pool_is_kept_for_reception() {
        let mut pool = Pool::new(16 * CHUNK_BYTES);
        let mut queue = Queue::new();
        let bytes = [7; 17 * CHUNK_BYTES];
        let n_max = pool.n_sendable();
        assert_eq!(queue.append(&mut pool, &bytes, n_max), 14 * CHUNK_BYTES);
        assert_eq!((pool.n_sendable(), pool.n_free()), (0, 2));
        assert_eq!(queue.append(&mut pool, &bytes, u32::MAX), 2 * CHUNK_BYTES);
        queue.clear(&mut pool);
    }

    #[test]
    fn splice_moves_bytes_without_new_chunks() {
        let mut pool = Pool::new(8 * CHUNK_BYTES);
        let (mut a, mut b) = (Queue::new(), Queue::new());
        a.append(&mut pool, b"one", u32::MAX);
        b.append(&mut pool, b"two", u32::MAX);
        a.splice(&mut pool, &mut b, u32::MAX);
        assert_eq!(content(&a, &pool), b"onetwo");
        assert_eq!((pool.n_used(), b.len()), (2, 0));
        b.append(&mut pool, b"three", u32::MAX);
        a.splice(&mut pool, &mut b, u32::MAX);
        a.clear(&mut pool);
        assert_eq!(pool.n_used(), 0);
    }

    #[test]
    fn splice_moves_the_whole_chunks_that_fit() {
        let mut pool = Pool::new(8 * CHUNK_BYTES);
        let (mut a, mut b) = (Queue::new(), Queue::new());
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES).map(|i| (i % 251) as u8).collect();
        b.append(&mut pool, &bytes, u32::MAX);
        let chunk = CHUNK_BYTES as u32;
        for (max, moved) in [(chunk - 1, 0), (2 * chunk + 5, 2 * chunk), (chunk, chunk), (9, 0)] {
            assert_eq!(a.splice(&mut pool, &mut b, max), moved, "at most {max}");
        }
        assert_eq!(content(&a, &pool), bytes);
        a.append(&mut pool, b"end", u32::MAX);
        b.append(&mut pool, b"new", u32::MAX);
        assert_eq!((a.len(), content(&b, &pool)), (3 * chunk + 3, b"new".to_vec()));
        a.clear(&mut pool);
        b.clear(&mut pool);
        assert_eq!(pool.n_used(), 0);
    }

    #[test]
    fn every_second_byte_stops_at_the_bound_and_not_at_the_pool() {
        let mut pool = Pool::new(64 * CHUNK_BYTES);
        let mut reassembly = Reassembly::new();
        let mut kept = 0;
        for i in 0..100 {
            if reassembly.insert(&mut pool, 0, 1 + 2 * i, b"x", 16) == Kept::All {
                kept += 1;
            }
        }
        assert_eq!((kept, pool.n_used()), (16, 16));
        assert_eq!(reassembly.runs(&pool).count(), 16);
        reassembly.clear(&mut pool);
        assert_eq!(pool.n_used(), 0);
    }

    proptest! {
        /// Segments of a known stream in any order, overlapping at will, come out as the stream,
        /// and the runs that are reported are exactly what is held.
        #[test]
        fn any_order_of_segments_gives_the_stream(
            base in any::<u32>(),
            segments in prop::collection::vec((0usize..9000, 1usize..3000), 1..60),
        ) {
            let stream: Vec<u8> = (0..12_000).map(|i| (i * 7 % 256) as u8).collect();
            let mut pool = Pool::new(64 * CHUNK_BYTES);
            let (mut queue, mut reassembly, mut nxt) = (Queue::new(), Reassembly::new(), base);
            let mut held = vec![false; stream.len()];
            for (start, len) in segments {
                let seq = base.wrapping_add(start as u32);
                let behind = nxt.wrapping_sub(seq) as i32;
                let cut = behind.max(0) as usize;
                if cut >= len { continue; }
                let bytes = &stream[start + cut..start + len];
                let kept = reassembly.insert(&mut pool, nxt, seq.wrapping_add(cut as u32), bytes, 1000);
                prop_assert_ne!(kept, Kept::Full);
                held[start..start + len].fill(true);
                nxt = reassembly.drain_to(&mut pool, nxt, &mut queue);
                let done = nxt.wrapping_sub(base) as usize;
                let expected = held.iter().position(|h| !h).unwrap_or(held.len());
                prop_assert_eq!(done, expected);
                for (left, right) in reassembly.runs(&pool) {
                    let (l, r) = (left.wrapping_sub(base) as usize, right.wrapping_sub(base) as usize);
                    prop_assert!(l < r && l > done);
                    prop_assert!(held[l..r].iter().all(|&h| h));
                    prop_assert!(!held[l - 1] && !held.get(r).copied().unwrap_or(false));
                }
            }
            let got = content(&queue, &pool);
            prop_assert_eq!(&got[..], &stream[..got.len()]);
            queue.clear(&mut pool);
            reassembly.clear(&mut pool);
            prop_assert_eq!(pool.n_used(), 0);
        }
    }
}
