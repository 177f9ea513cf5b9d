//! The hashes of every table that a peer could fill: keyed, so that nobody outside can choose entries
//! that collide. Tables that are asked for every segment have a short one of their own.

use super::FourTuple;
use siphasher::sip::SipHasher13;
use std::hash::BuildHasher;

/// A key for hash tables, of 128 secret bits.
#[derive(Clone, Copy, Debug)]
pub struct Keyed(pub [u64; 2]);

impl Keyed {
    /// The hash of a tuple: two multiplications to 128 bits, folded. Each half of the product depends
    /// on the secret, so that no tuples are known to collide; unlike SipHash it does not claim to
    /// hide its key from somebody who sees hashes, and nobody does: they stay in the table.
    #[inline]
    pub fn hash(&self, tuple: &FourTuple) -> u64 {
        // An odd constant with as many ones as zeros: the golden ratio in 64 bits.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let (addresses, ports) = tuple.to_words();
        let first = fold(addresses ^ self.0[0], ports ^ self.0[1]);
        fold(first ^ self.0[1], SPREAD)
    }
}

/// The product of two words, its upper half added to its lower without carry.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product >> 64) as u64 ^ product as u64
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    /// Flows as they come, of few addresses and ports in a row, fill buckets like dice would: with the
    /// bits that choose a group, and with those that choose a place in it.
    #[test]
    fn flows_in_a_row_spread_evenly() {
        const N: usize = 1 << 20;
        for key in [[1, 2], [u64::MAX, 0], [0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321]] {
            let mut counts = [vec![0_u32; 4096], vec![0_u32; 4096]];
            for n in 0..N as u32 {
                let local = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 80);
                let remote =
                    SocketAddrV4::new(Ipv4Addr::from(0x0a01_0000 + (n >> 14)), (n & 0x3fff) as u16);
                let hash = Keyed(key).hash(&FourTuple::new(local, remote));
                counts[0][(hash >> 32) as usize % 4096] += 1;
                counts[1][(hash as u32 >> 20) as usize] += 1;
            }
            for counts in counts {
                // 256 on average; six times the deviation of chance is 96.
                assert!(counts.iter().all(|&n| (160..352).contains(&n)), "key {key:?}");
            }
        }
    }
}
