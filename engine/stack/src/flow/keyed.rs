//! The hash of every table that a peer could fill: keyed, so that nobody outside can choose entries that
//! collide.

use siphasher::sip::SipHasher13;
use std::hash::BuildHasher;

/// A key for hash tables, of 128 secret bits.
#[derive(Clone, Copy, Debug)]
pub struct Keyed(pub [u64; 2]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}
