//! What an outsider must not predict: initial sequence numbers (RFC 6528: a keyed function of the
//! four-tuple plus a clock of 4 microseconds), the per-connection offset of the timestamp clock (RFC
//! 7323 section 5.4), the hash in SYN cookies, and where the choice of a port starts. The keys are an
//! argument: nothing in here is random by itself.

use super::Opening;
use super::seq::Seq;
use crate::flow::FourTuple;
use crate::time::Instant;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// Keys for everything that is derived from four-tuples.
#[derive(Clone, Copy)]
pub struct Secret {
    keys: [u64; 4],
    worker: u16,
}

impl Secret {
    /// A secret from 32 random bytes.
    pub fn new(seed: [u8; 32]) -> Self {
        let word = |i: usize| {
            let bytes = std::array::from_fn(|b| seed[8 * i + b]);
            u64::from_le_bytes(bytes)
        };
        Secret { keys: [word(0), word(1), word(2), word(3)], worker: 0 }
    }

    /// The secret of one worker: the same as that of the others, but for the cookies. Only the worker
    /// that made a cookie opens a connection from it, so that no two ever do.
    #[must_use]
    pub fn of_worker(self, worker: u16) -> Self {
        Secret { worker, ..self }
    }

    /// What a connection is opened with: two halves of one hash.
    pub fn opening(&self, tuple: &FourTuple, now: Instant) -> Opening {
        let hash = self.hash(tuple, 0, &[]);
        // M advances every 4 us (RFC 9293 section 3.4.1).
        let clock = (now.as_nanos() / 4_000) as u32;
        let iss = Seq((hash as u32).wrapping_add(clock));
        Opening { iss, timestamp_offset: (hash >> 32) as u32 }
    }

    /// ISN = M + F(tuple, secret).
    pub fn isn(&self, tuple: &FourTuple, now: Instant) -> Seq {
        self.opening(tuple, now).iss
    }

    /// Where the connection's timestamp clock starts.
    pub fn timestamp_offset(&self, tuple: &FourTuple) -> u32 {
        self.opening(tuple, Instant::ZERO).timestamp_offset
    }

    /// The hash in a SYN cookie, over all that the cookie is bound to.
    pub fn cookie(&self, tuple: &FourTuple, bound: [u8; 10]) -> u64 {
        let [high, low] = self.worker.to_be_bytes();
        let mut bytes = [high; 12];
        bytes[1] = low;
        bytes[2..].copy_from_slice(&bound);
        self.hash(tuple, 1, &bytes)
    }

    /// Where the choice of a local port to a peer starts (RFC 6056 section 3.3.3).
    pub fn port_offset(&self, tuple: &FourTuple) -> u64 {
        self.hash(tuple, 2, &[])
    }

    /// The key of the connection table's hash.
    pub fn table_key(&self) -> [u64; 2] {
        [self.keys[2], self.keys[3]]
    }

    fn hash(&self, tuple: &FourTuple, purpose: u8, more: &[u8]) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.keys[0], self.keys[1]);
        hasher.write(&tuple.to_bytes());
        hasher.write_u8(purpose);
        hasher.write(more);
        hasher.finish()
    }
}

impl std::fmt::Debug for Secret {
    /// Never prints the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use std::net::SocketAddrV4;

    fn tuple(port: u16) -> FourTuple {
        let local = SocketAddrV4::new([10, 0, 0, 1].into(), port);
        FourTuple::new(local, SocketAddrV4::new([10, 0, 0, 2].into(), 80))
    }

    #[test]
    fn isns_follow_the_clock_for_one_tuple_and_nothing_across_tuples() {
        let secret = Secret::new([7; 32]);
        let later = Instant::ZERO + Duration::from_millis(100);
        let step = secret.isn(&tuple(1), later) - secret.isn(&tuple(1), Instant::ZERO);
        assert_eq!(step, 25_000);
        let mut isns: Vec<u32> = (1..1000).map(|p| secret.isn(&tuple(p), later).0).collect();
        isns.sort_unstable();
        isns.dedup();
        assert_eq!(isns.len(), 999);
        let other = Secret::new([8; 32]);
        assert_ne!(secret.isn(&tuple(1), later), other.isn(&tuple(1), later));
    }

    #[test]
    fn the_secret_does_not_print() {
        assert_eq!(format!("{:?}", Secret::new([9; 32])), "Secret(..)");
    }
}
