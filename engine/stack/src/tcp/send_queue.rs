//! The bytes that a connection sends. They are read in order and stay until they are acknowledged, so the
//! queue remembers in which chunk it was read last: reading on from there takes no walk from the front
//! of all that is in flight. What may be sent is decided elsewhere.

use super::buffer::{NIL, Pool, Queue};

/// What a connection has to send, and has sent without an acknowledgement.
#[derive(Debug)]
pub(super) struct SendQueue {
    queue: Queue,
    /// The chunk that was read last, unless it is gone.
    mark: u32,
    /// Bytes of the queue in front of that chunk.
    before: u32,
}

impl SendQueue {
    /// An empty queue.
    pub(super) const fn new() -> Self {
        SendQueue { queue: Queue::new(), mark: NIL, before: 0 }
    }

    /// Bytes in the queue.
    pub(super) fn len(&self) -> u32 {
        self.queue.len()
    }

    /// True when it holds no bytes, and so no chunks.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The chunk in which all bytes of the queue lie, if it is one.
    #[inline]
    pub(super) fn only_chunk(&self) -> Option<u32> {
        self.queue.only_chunk()
    }

    /// As [`Queue::append`].
    pub(super) fn append(&mut self, pool: &mut Pool, bytes: &[u8], n_chunks_max: u32) -> usize {
        self.queue.append(pool, bytes, n_chunks_max)
    }

    /// As [`Queue::splice`].
    pub(super) fn splice(&mut self, pool: &mut Pool, other: &mut Queue, max: u32) -> u32 {
        self.queue.splice(pool, other, max)
    }

    /// As [`Queue::consume`].
    #[inline]
    pub(super) fn consume(&mut self, pool: &mut Pool, n: u32) -> u32 {
        let done = self.queue.consume(pool, n);
        if self.before < done {
            (self.mark, self.before) = (NIL, 0);
        } else {
            self.before -= done;
        }
        done
    }

    /// Copies bytes from `offset` on into `buf`; returns how many there were.
    pub(super) fn copy_to(&mut self, pool: &Pool, offset: u32, buf: &mut [u8]) -> usize {
        if self.mark == NIL || offset < self.before {
            (self.mark, self.before) = (self.queue.head(), 0);
        }
        let (mut skip, mut done) = ((offset - self.before) as usize, 0);
        while self.mark != NIL {
            let data = pool.data(self.mark);
            let data_from = data.get(skip..).unwrap_or(&[]);
            let n = data_from.len().min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&data_from[..n]);
            done += n;
            let next = pool.next(self.mark);
            if done == buf.len() || next == NIL {
                break;
            }
            skip = skip.saturating_sub(data.len());
            self.before += data.len() as u32;
            self.mark = next;
        }
        done
    }

    /// Gives all chunks back.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        self.consume(pool, u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::buffer::CHUNK_BYTES;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is appended, read and consumed, from wherever: what is read is what was appended.
        #[test]
        fn any_piece_is_read_as_it_was_written(
            steps in prop::collection::vec((0u8..4, 0usize..3 * CHUNK_BYTES, 0usize..5000), 1..60),
        ) {
            let mut pool = Pool::new(64 * CHUNK_BYTES);
            let (mut queue, mut model) = (SendQueue::new(), Vec::new());
            let mut written = 0u32;
            for (step, n, at) in steps {
                let bytes: Vec<u8> = (written..).take(n).map(|i| ((i * 7) >> 3) as u8).collect();
                match step {
                    0 => {
                        let done = queue.append(&mut pool, &bytes, u32::MAX);
                        model.extend_from_slice(&bytes[..done]);
                        written += done as u32;
                    }
                    1 => {
                        let mut other = Queue::new();
                        other.append(&mut pool, &bytes, u32::MAX);
                        let len = other.len();
                        prop_assert_eq!(queue.splice(&mut pool, &mut other, u32::MAX), len);
                        model.extend_from_slice(&bytes[..len as usize]);
                        written += len;
                    }
                    2 => {
                        let done = queue.consume(&mut pool, at as u32) as usize;
                        prop_assert_eq!(done, at.min(model.len()));
                        model.drain(..done);
                    }
                    _ => {
                        let from = at.min(model.len());
                        let mut piece = vec![0; n];
                        let done = queue.copy_to(&pool, from as u32, &mut piece);
                        prop_assert_eq!(done, n.min(model.len() - from));
                        prop_assert!(piece[..done] == model[from..from + done]);
                    }
                }
                prop_assert_eq!(queue.len() as usize, model.len());
            }
            queue.clear(&mut pool);
            prop_assert_eq!(pool.n_used(), 0);
        }
    }
}
