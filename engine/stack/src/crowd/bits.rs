//! What a crowd remembers of each connection: two bits. One says that it is open, so that its end is
//! counted once however often it is told. The other is the lowest bit of the next sequence number
//! expected from the peer: a bare ACK that has the other one is a keepalive probe, which stands one
//! before that number, and nothing else in a segment tells the two apart.

/// Two bits for each connection: 25 MB for a hundred million.
#[derive(Debug)]
pub(super) struct Bits {
    /// 32 connections in each word.
    words: Vec<u64>,
    n: u64,
    n_open: u64,
}

const PER_WORD: u64 = 32;
const OPEN: u64 = 0b01;
const ODD: u64 = 0b10;

impl Bits {
    /// `n` connections, none of them open. All the memory is asked for at once; the machine gives a
    /// page when it is first written to.
    pub(super) fn new(n: u64) -> Self {
        Bits { words: vec![0; n.div_ceil(PER_WORD) as usize], n, n_open: 0 }
    }

    pub(super) fn n_open(&self) -> u64 {
        self.n_open
    }

    pub(super) fn bytes(&self) -> usize {
        self.words.len() * size_of::<u64>()
    }

    /// Connection `idx` is open; no connection beyond the last one is.
    pub(super) fn is_open(&self, idx: u64) -> bool {
        idx < self.n && self.get(idx) & OPEN != 0
    }

    /// The number next expected on an open connection is `next`, or another that is as odd.
    pub(super) fn expects(&self, idx: u64, next: u32) -> bool {
        (self.get(idx) & ODD != 0) == (next & 1 != 0)
    }

    /// The connection is open, and `next` is expected of it.
    pub(super) fn open(&mut self, idx: u64, next: u32) {
        self.n_open += u64::from(!self.is_open(idx));
        self.set(idx, if next & 1 == 0 { OPEN } else { OPEN | ODD });
    }

    /// The connection is open no more. False when it was not.
    pub(super) fn close(&mut self, idx: u64) -> bool {
        let was_open = self.is_open(idx);
        self.n_open -= u64::from(was_open);
        self.set(idx, 0);
        was_open
    }

    fn get(&self, idx: u64) -> u64 {
        self.words[(idx / PER_WORD) as usize] >> (idx % PER_WORD * 2)
    }

    fn set(&mut self, idx: u64, bits: u64) {
        let (word, shift) = (&mut self.words[(idx / PER_WORD) as usize], idx % PER_WORD * 2);
        *word = *word & !(0b11 << shift) | bits << shift;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_has_its_own_bits() {
        let mut bits = Bits::new(100);
        assert_eq!(bits.bytes(), 32);
        for idx in 0..100 {
            bits.open(idx, idx as u32);
            bits.open(idx, idx as u32);
        }
        assert_eq!(bits.n_open(), 100);
        assert!(!bits.is_open(100), "there is no such connection");
        for idx in 0..100 {
            assert!(bits.expects(idx, idx as u32) && !bits.expects(idx, idx as u32 + 1));
            assert!(bits.close(idx) && !bits.close(idx) && !bits.is_open(idx));
        }
        assert_eq!(bits.n_open(), 0);
    }
}
