//! What the driver of an interface says of its receive side scaling: hash function, key, indirection
//! table, and what of a TCP segment is hashed. Asked over ethtool, as the driver has it at the moment;
//! whether that is enough to foretell a queue is not judged here. The one thing that is ever
//! written is what was read: drivers forget to give it to their device again.

use super::{ethtool, interface};
use std::io;

const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_GRSSH: u32 = 0x46;
const ETHTOOL_SRSSH: u32 = 0x47;
const TCP_V4_FLOW: u32 = 0x01;

/// Words of `struct ethtool_rxfh` before the table and the key.
const RXFH_WORDS: usize = 6;

/// Sizes beyond these are no answer: the largest table of a driver has 4,096 places, the longest key
/// 52 bytes.
const TABLE_LEN_MAX: usize = 1 << 16;
const KEY_BYTES_MAX: usize = 256;

/// What a driver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssFacts {
    /// How it hashes.
    pub function: HashFunction,
    /// It turns the input so that both directions of a flow hash alike (RXH_XFRM_*).
    pub is_symmetric: bool,
    /// The key; empty when it does not tell.
    pub key: Vec<u8>,
    /// The queue in each place of the indirection table; empty when it does not tell.
    pub table: Vec<u32>,
    /// What of a TCP segment over IPv4 is hashed, as RXH_* bits; absent when it does not tell.
    pub tcp_v4_fields: Option<u32>,
    /// Receive queues in use; absent when it has no such notion.
    pub n_rx_queues: Option<u32>,
}

/// Hash functions of ethtool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashFunction {
    /// ETH_RSS_HASH_TOP.
    Toeplitz,
    /// ETH_RSS_HASH_XOR.
    Xor,
    /// ETH_RSS_HASH_CRC32.
    Crc32,
    /// Another one, or none named.
    Unknown,
}

impl RssFacts {
    /// RXH_IP_SRC | RXH_IP_DST: the addresses alone.
    pub const ADDRESSES: u32 = 0x30;
    /// The same with RXH_L4_B_0_1 | RXH_L4_B_2_3: the ports as well.
    pub const ADDRESSES_AND_PORTS: u32 = 0xf0;

    /// What the driver of the interface called `name` says, or `None` when it has no receive side
    /// scaling to tell of, as a veth.
    pub fn of(name: &str) -> io::Result<Option<RssFacts>> {
        let mut sizes = [0u32; RXFH_WORDS];
        sizes[0] = ETHTOOL_GRSSH;
        if !ethtool::ask(name, &mut sizes)? {
            return Ok(None);
        }
        let (table_len, key_bytes) = (sizes[2] as usize, sizes[3] as usize);
        if table_len > TABLE_LEN_MAX || key_bytes > KEY_BYTES_MAX {
            return Err(impossible(table_len, key_bytes));
        }
        let mut answer = vec![0u32; RXFH_WORDS + table_len + key_bytes.div_ceil(4)];
        answer[..RXFH_WORDS].copy_from_slice(&sizes);
        answer[0] = ETHTOOL_GRSSH;
        // When the table changes its size between the two, the kernel refuses: EINVAL.
        if !ethtool::ask(name, answer.as_mut_slice())? {
            return Ok(None);
        }
        let mut facts = RssFacts::parse(&answer)?;
        facts.tcp_v4_fields = tcp_v4_fields(name)?;
        facts.n_rx_queues = interface::channels(name)?.map(|(rx, _)| rx);
        Ok(Some(facts))
    }

    /// Writes table and key to the driver of the interface called `name`, which gives them to its
    /// device. False when it takes none, or when there is nothing to write.
    pub fn write(&self, name: &str) -> io::Result<bool> {
        if self.table.is_empty() || self.key.is_empty() || self.is_symmetric {
            return Ok(false);
        }
        ethtool::ask(name, self.to_words(ETHTOOL_SRSSH).as_mut_slice())
    }

    /// The form of ETHTOOL_GRSSH and ETHTOOL_SRSSH; hash function 0 stands for no change.
    fn to_words(&self, command: u32) -> Vec<u32> {
        let mut words = vec![command, 0, self.table.len() as u32, self.key.len() as u32, 0, 0];
        words.extend(&self.table);
        words.extend(self.key.chunks(4).map(|bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_ne_bytes(word)
        }));
        words
    }

    /// Reads the answer to ETHTOOL_GRSSH, in words of the machine.
    fn parse(answer: &[u32]) -> io::Result<RssFacts> {
        let Some((head, config)) = answer.split_at_checked(RXFH_WORDS) else {
            return Err(impossible(0, 0));
        };
        let (table_len, key_bytes) = (head[2] as usize, head[3] as usize);
        if table_len > config.len() || key_bytes > (config.len() - table_len) * 4 {
            return Err(impossible(table_len, key_bytes));
        }
        let (table, rest) = config.split_at(table_len);
        let key: Vec<u8> =
            rest.iter().flat_map(|word| word.to_ne_bytes()).take(key_bytes).collect();
        let [function, transform, _, _] = head[4].to_ne_bytes();
        Ok(RssFacts {
            function: match function {
                1 => HashFunction::Toeplitz,
                2 => HashFunction::Xor,
                4 => HashFunction::Crc32,
                _ => HashFunction::Unknown,
            },
            is_symmetric: transform != 0,
            // Drivers that cannot tell the key leave the place as it is.
            key: if key.iter().all(|&byte| byte == 0) { Vec::new() } else { key },
            table: table.to_vec(),
            tcp_v4_fields: None,
            n_rx_queues: None,
        })
    }
}

/// `struct ethtool_rxnfc` of linux/ethtool.h, of which this command uses the first three fields.
#[repr(C)]
struct FlowHash {
    cmd: u32,
    flow_type: u32,
    data: u64,
    rest: [u64; 32],
}

fn tcp_v4_fields(name: &str) -> io::Result<Option<u32>> {
    let mut answer =
        FlowHash { cmd: ETHTOOL_GRXFH, flow_type: TCP_V4_FLOW, data: 0, rest: [0; 32] };
    let answered = match ethtool::ask(name, &mut answer) {
        // What a driver without flow types of its own says.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        answered => answered?,
    };
    Ok(answered.then_some(answer.data as u32))
}

fn impossible(table_len: usize, key_bytes: usize) -> io::Error {
    io::Error::other(format!(
        "the driver tells of an indirection table of {table_len} places and a key of {key_bytes} \
         bytes, which its answer does not hold"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as the kernel lays it out: a table of 8 places, a key of 5 bytes, Toeplitz.
    fn answer() -> Vec<u32> {
        let bytes = |bytes| u32::from_ne_bytes(bytes);
        let head = [ETHTOOL_GRSSH, 0, 8, 5, bytes([1, 0, 0, 0]), 0];
        let table = [0, 1, 2, 3, 0, 1, 2, 3];
        let key = [bytes([0x6d, 0x5a, 0x56, 0xda]), bytes([0x25, 0, 0, 0])];
        head.into_iter().chain(table).chain(key).collect()
    }

    #[test]
    fn the_answer_of_a_driver_is_read() {
        let facts = RssFacts::parse(&answer()).expect("an answer");
        assert_eq!(facts.function, HashFunction::Toeplitz);
        assert!(!facts.is_symmetric);
        assert_eq!(facts.table, [0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(facts.key, [0x6d, 0x5a, 0x56, 0xda, 0x25]);
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let facts = RssFacts::parse(&answer()).expect("an answer");
        let mut expected = answer();
        (expected[0], expected[4]) = (ETHTOOL_SRSSH, 0);
        assert_eq!(facts.to_words(ETHTOOL_SRSSH), expected);
        assert!(!RssFacts { key: Vec::new(), ..facts }.write("lo").expect("nothing is asked"));
    }

    #[test]
    fn what_a_driver_leaves_out_is_empty() {
        let mut silent = answer();
        silent[14..].fill(0);
        silent[4] = u32::from_ne_bytes([2, 1, 0, 0]);
        let facts = RssFacts::parse(&silent).expect("an answer");
        assert_eq!((facts.key.len(), facts.function), (0, HashFunction::Xor));
        assert!(facts.is_symmetric);
        let none = RssFacts::parse(&[ETHTOOL_GRSSH, 0, 0, 0, 0, 0]).expect("an answer");
        assert_eq!((none.table.len(), none.function), (0, HashFunction::Unknown));
    }

    #[test]
    fn an_answer_that_is_cut_short_is_refused() {
        let whole = answer();
        for len in 0..whole.len() {
            let parsed = RssFacts::parse(&whole[..len]);
            assert!(parsed.is_err(), "{len} words: {parsed:?}");
        }
    }

    #[test]
    fn the_loopback_interface_has_nothing_to_tell() {
        assert_eq!(RssFacts::of("lo").expect("the kernel answers"), None);
    }
}
