//! The option bytes that T writes, and the judgement of those that D writes. It shares no code with
//! the stack's own options: what one of them does wrong the other finds.

use super::statement::Shape;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// The options of a segment, padded to whole words. `stamps` are TSval and TSecr, `blocks` the SACK
/// blocks as they are on the wire.
pub(super) fn bytes(shape: &Shape, stamps: Option<(u32, u32)>, blocks: &[(u32, u32)]) -> Vec<u8> {
    if let Some(raw) = &shape.raw_options {
        return padded(raw.clone());
    }
    let mut bytes = Vec::new();
    if let Some(mss) = shape.mss {
        bytes.extend([MSS, 4]);
        bytes.extend(mss.to_be_bytes());
    }
    if shape.sack_permitted {
        bytes.extend([SACK_PERMITTED, 2]);
    }
    if let Some(shift) = shape.window_scale {
        bytes.extend([WINDOW_SCALE, 3, shift]);
    }
    if let Some((value, echo)) = stamps {
        bytes.extend([NOP, NOP, TIMESTAMPS, 10]);
        bytes.extend(value.to_be_bytes());
        bytes.extend(echo.to_be_bytes());
    }
    if !blocks.is_empty() {
        bytes.extend([NOP, NOP, SACK, 2 + 8 * blocks.len() as u8]);
        for (left, right) in blocks {
            bytes.extend(left.to_be_bytes());
            bytes.extend(right.to_be_bytes());
        }
    }
    padded(bytes)
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(4), END);
    bytes
}

/// What is wrong with the options of a segment (RFC 9293 MUST-65, -68, -69; RFC 7323 section 2.2;
/// RFC 2018 section 2).
pub(super) fn complaint(mut bytes: &[u8], is_syn: bool) -> Option<String> {
    while let [kind, rest @ ..] = bytes {
        match *kind {
            END if rest.iter().all(|&byte| byte == 0) => return None,
            END => return Some("the padding of the options is not zero".to_owned()),
            NOP => bytes = rest,
            kind => {
                let len = rest.first().map_or(0, |&len| usize::from(len));
                if len < 2 || len > bytes.len() {
                    return Some(format!("option {kind} has the length {len}"));
                }
                if matches!(kind, MSS | WINDOW_SCALE | SACK_PERMITTED) && !is_syn {
                    return Some(format!("option {kind} stands in a segment without SYN"));
                }
                bytes = &bytes[len..];
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_written_in_whole_words() {
        let shape = Shape {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            ..Shape::default()
        };
        assert_eq!(bytes(&shape, None, &[]), [2, 4, 5, 180, 4, 2, 3, 3, 7, 0, 0, 0]);
        let shape = Shape::default();
        assert_eq!(bytes(&shape, Some((1, 2)), &[]), [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        assert_eq!(bytes(&shape, None, &[(3, 4)]), [1, 1, 5, 10, 0, 0, 0, 3, 0, 0, 0, 4]);
    }

    #[test]
    fn odd_options_are_complained_about() {
        assert_eq!(complaint(&[2, 4, 5, 180, 1, 3, 3, 7, 0, 0, 0, 0], true), None);
        assert!(complaint(&[2, 4, 5, 180], false).is_some());
        assert!(complaint(&[1, 1, 8, 0], true).is_some());
        assert!(complaint(&[1, 1, 8, 10], true).is_some());
        assert!(complaint(&[0, 0, 0, 1], true).is_some());
    }
}
