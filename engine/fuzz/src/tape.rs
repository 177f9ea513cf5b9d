//! The bytes of a fuzz input as a tape of draws. Past its end it draws zeros, so that every input is
//! a whole program, and a shorter one is the same program with quiet choices at its end.

/// Draws from the front of the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Tape<'a> {
    bytes: &'a [u8],
}

impl<'a> Tape<'a> {
    /// A tape of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Tape { bytes }
    }

    /// Nothing but zeros is left.
    pub fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next byte.
    pub fn u8(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((&byte, rest)) => {
                self.bytes = rest;
                byte
            }
            None => 0,
        }
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    /// A number below `n`, from one byte; `n` is from 1 to 256.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.u8()) % n
    }

    /// One of these, by one byte.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Up to `n` bytes, fewer at the end of the tape.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(n.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// A distance: mostly none or a small one, sometimes any.
    pub fn distance(&mut self) -> i32 {
        let byte = self.u8();
        let small = i32::from(byte & 0x3f) - 32;
        match byte >> 6 {
            0 => 0,
            1 => small,
            2 => small * 100,
            _ => self.u32() as i32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_draws_its_bytes_and_then_zeros() {
        let mut tape = Tape::new(&[1, 2, 3, 0x41, 9]);
        assert_eq!((tape.u8(), tape.u16()), (1, 0x0203));
        assert_eq!(tape.distance(), 1 - 32);
        assert!(!tape.is_over());
        assert_eq!(tape.take(7), [9]);
        assert!(tape.is_over());
        assert_eq!((tape.u32(), tape.distance(), tape.one_of(&[7, 8])), (0, 0, 7));
    }
}
