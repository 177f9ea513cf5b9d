//! Target `options`: the options of a TCP header. The input is what stands between the fixed header
//! and the data, at most 40 bytes. The parser is held against a second reading of RFC 9293 section
//! 3.1 that knows nothing of it, and what it reads must survive being written and read again.

use barewire_stack::wire::tcp::{
    ChecksumPolicy, Flags, HEADER_BYTES, HEADER_BYTES_MAX, Options, SackBlocks, Tcp, Timestamps,
};
use std::net::Ipv4Addr;

/// Reads one set of options.
pub fn run(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(HEADER_BYTES_MAX - HEADER_BYTES)];
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    let options = parse(&padded);
    assert_eq!(options, read_again(&padded), "two readings of {padded:02x?}");
    survives(&options);
}

fn parse(padded: &[u8]) -> Options {
    let mut segment = vec![0; HEADER_BYTES];
    segment[12] = (((HEADER_BYTES + padded.len()) / 4) << 4) as u8;
    segment.extend_from_slice(padded);
    let any = Ipv4Addr::UNSPECIFIED;
    let parsed = Tcp::parse(&segment, any, any, ChecksumPolicy::Trust).expect("a whole header");
    assert_eq!(parsed.payload_offset, segment.len());
    parsed.tcp.options
}

/// What is written reads back as it was, but for SACK blocks that found no room.
fn survives(options: &Options) {
    let tcp = Tcp { flags: Flags::ACK, options: *options, ..Tcp::default() };
    let mut header = [0; HEADER_BYTES_MAX];
    let len = tcp.emit(&mut header);
    assert_eq!(len, tcp.header_len());
    assert!(len.is_multiple_of(4));
    let again = parse(&header[HEADER_BYTES..len]);
    let kept: Vec<_> = options.sack.iter().take(again.sack.len()).collect();
    assert_eq!(again.sack.iter().collect::<Vec<_>>(), kept);
    assert!(options.sack.len() - kept.len() <= 2, "two blocks fit beside everything else");
    assert_eq!(again, Options { malformed: false, sack: again.sack, ..*options });
}

/// The same by hand: one option after the other, until the first that cannot be.
fn read_again(bytes: &[u8]) -> Options {
    let mut options = Options::default();
    let mut at = 0;
    while at < bytes.len() && bytes[at] != 0 {
        if bytes[at] == 1 {
            at += 1;
            continue;
        }
        let len = bytes.get(at + 1).map_or(0, |&len| usize::from(len));
        if len < 2 || at + len > bytes.len() || !is_read(&mut options, &bytes[at..at + len]) {
            options.malformed = true;
            break;
        }
        at += len;
    }
    options
}

/// False when the length is wrong for the kind.
fn is_read(options: &mut Options, option: &[u8]) -> bool {
    let word = |at: usize| {
        u32::from_be_bytes([option[at], option[at + 1], option[at + 2], option[at + 3]])
    };
    match (option[0], option.len()) {
        (2, 4) => options.mss = Some(u16::from_be_bytes([option[2], option[3]])),
        (3, 3) => options.window_scale = Some(option[2].min(14)),
        (4, 2) => options.sack_permitted = true,
        (5, 10 | 18 | 26 | 34) => {
            for at in (2..option.len()).step_by(8) {
                options.sack.push(word(at), word(at + 4));
            }
        }
        (8, 10) => options.timestamps = Some(Timestamps { value: word(2), echo: word(6) }),
        (2..=5 | 8, _) => return false,
        _ => {}
    }
    options.sack.len() <= SackBlocks::N_MAX
}
