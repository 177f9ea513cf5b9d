//! Ethernet II frames and the addresses in them. VLAN tags are read past, and the VLAN is reported;
//! a tag is never written, since the engine lives on an untagged interface or lets the kernel's
//! VLAN device add the tag. IEEE 802.3 length fields are not told from types: a value below 0x600
//! is returned as the type that nobody knows.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use super::{WireError, u16_at};

/// Length of an untagged header in bytes.
pub const HEADER_BYTES: usize = 14;
/// EtherType of IPv4.
pub const TYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const TYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const TYPE_IPV6: u16 = 0x86dd;

const TYPE_VLAN: u16 = 0x8100;
const TYPE_SERVICE_VLAN: u16 = 0x88a8;
const TAG_BYTES: usize = 4;
/// One service tag and one customer tag (IEEE 802.1ad): more have no meaning at an end host.
const N_TAGS_MAX: usize = 2;
const VLAN_ID_MASK: u16 = 0x0fff;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// No station: what ARP requests carry as their target.
    pub const ZERO: Mac = Mac([0; 6]);

    /// True for group addresses, the broadcast address among them.
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True when the group bit is clear, as it is in [`Mac::ZERO`] too.
    pub fn is_unicast(self) -> bool {
        !self.is_multicast()
    }

    /// The address at a constant offset of a header whose length is proven by its type.
    pub(super) fn at<const N: usize>(header: &[u8; N], offset: usize) -> Mac {
        let mut mac = Mac::ZERO;
        mac.0.copy_from_slice(&header[offset..offset + 6]);
        mac
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Why a text is not an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacError {
    /// The text has this many groups between colons, not six.
    Groups(usize),
    /// The group at this position, counted from 1, is not two hexadecimal digits.
    Digits(usize),
}

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected six pairs of hexadecimal digits with colons between them, ")?;
        f.write_str("such as 02:00:00:00:00:01; ")?;
        match self {
            MacError::Groups(n) => write!(f, "found {n} group{}", if *n == 1 { "" } else { "s" }),
            MacError::Digits(position) => write!(f, "group {position} is not such a pair"),
        }
    }
}

impl Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Mac, MacError> {
        let n_groups = text.split(':').count();
        if n_groups != 6 {
            return Err(MacError::Groups(n_groups));
        }
        let mut mac = Mac::ZERO;
        for (position, (byte, group)) in mac.0.iter_mut().zip(text.split(':')).enumerate() {
            *byte = hex_pair(group).ok_or(MacError::Digits(position + 1))?;
        }
        Ok(mac)
    }
}

/// `from_str_radix` by itself would take a sign and a single digit as well.
fn hex_pair(group: &str) -> Option<u8> {
    let is_pair = group.len() == 2 && group.bytes().all(|b| b.is_ascii_hexdigit());
    if is_pair { u8::from_str_radix(group, 16).ok() } else { None }
}

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Whom the frame is for.
    pub dst: Mac,
    /// Who sent it.
    pub src: Mac,
    /// The VLAN: the outermost identifier that is not zero. `Some(0)` when the tags carry a
    /// priority only, `None` without a tag.
    pub vlan_id: Option<u16>,
    /// The type of the payload.
    pub ethertype: u16,
}

impl Ethernet {
    /// Reads the header; the payload begins at the offset returned and runs to the end of the
    /// frame, padding included. With more than two tags, `ethertype` is that of the third tag.
    pub fn parse(frame: &[u8]) -> Result<(Ethernet, usize), WireError> {
        let header = frame.first_chunk::<HEADER_BYTES>().ok_or(WireError::Truncated)?;
        let mut ethernet = Ethernet {
            dst: Mac::at(header, 0),
            src: Mac::at(header, 6),
            vlan_id: None,
            ethertype: u16_at(header, 12),
        };
        let mut payload_offset = HEADER_BYTES;
        for _ in 0..N_TAGS_MAX {
            if !matches!(ethernet.ethertype, TYPE_VLAN | TYPE_SERVICE_VLAN) {
                break;
            }
            let tag = frame[payload_offset..].first_chunk::<TAG_BYTES>();
            let tag = tag.ok_or(WireError::Truncated)?;
            let vlan_id = u16_at(tag, 0) & VLAN_ID_MASK;
            ethernet.vlan_id = ethernet.vlan_id.filter(|&outer| outer != 0).or(Some(vlan_id));
            ethernet.ethertype = u16_at(tag, 2);
            payload_offset += TAG_BYTES;
        }
        Ok((ethernet, payload_offset))
    }

    /// Writes an untagged header, whatever `vlan_id` holds, and returns its length.
    ///
    /// # Panics
    /// When `buf` is shorter than [`HEADER_BYTES`].
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        buf[0..6].copy_from_slice(&self.dst.0);
        buf[6..12].copy_from_slice(&self.src.0);
        buf[12..14].copy_from_slice(&self.ethertype.to_be_bytes());
        HEADER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(after_addresses: &[u8]) -> Vec<u8> {
        [&[0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2], after_addresses].concat()
    }

    #[test]
    fn tags_are_read_past_and_the_vlan_is_reported() {
        // What follows the addresses, and the VLAN, the type and the payload offset it means.
        type Row<'a> = (&'a [u8], Option<u16>, u16, usize);
        let rows: [Row<'_>; 7] = [
            (&[0x08, 0], None, TYPE_IPV4, 14),
            (&[0x81, 0, 0xf0, 7, 0x08, 0], Some(7), TYPE_IPV4, 18),
            (&[0x81, 0, 0xe0, 0, 0x08, 6], Some(0), TYPE_ARP, 18),
            (&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 0x86, 0xdd], Some(9), TYPE_IPV6, 22),
            (&[0x88, 0xa8, 0xe0, 0, 0x81, 0, 0, 7, 0x08, 0], Some(7), TYPE_IPV4, 22),
            (&[0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x08, 0], Some(0), TYPE_IPV4, 22),
            (&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 0x08, 0], Some(1), TYPE_VLAN, 22),
        ];
        for (bytes, vlan_id, ethertype, offset) in rows {
            let (ethernet, payload_offset) = Ethernet::parse(&frame(bytes)).expect("valid");
            assert_eq!(
                (ethernet.vlan_id, ethernet.ethertype, payload_offset),
                (vlan_id, ethertype, offset),
                "{bytes:02x?}"
            );
        }
    }

    #[test]
    fn a_header_cut_anywhere_is_truncated() {
        let whole = frame(&[0x88, 0xa8, 0, 9, 0x81, 0, 0, 7, 0x08, 0]);
        for len in 0..whole.len() {
            assert_eq!(Ethernet::parse(&whole[..len]), Err(WireError::Truncated), "{len} bytes");
        }
        assert!(Ethernet::parse(&whole).is_ok());
    }

    #[test]
    fn the_group_bit_decides_between_multicast_and_unicast() {
        assert!(Mac::BROADCAST.is_multicast());
        assert!(Mac([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(Mac([0x02, 0, 0, 0, 0, 1]).is_unicast());
        assert!(Mac::ZERO.is_unicast());
    }

    #[test]
    fn addresses_are_read_as_they_are_printed() {
        let mac = Mac([0x02, 0xab, 0, 0x7f, 0xff, 0x10]);
        assert_eq!(mac.to_string(), "02:ab:00:7f:ff:10");
        assert_eq!("02:ab:00:7f:ff:10".parse(), Ok(mac));
        assert_eq!("02:AB:00:7F:FF:10".parse(), Ok(mac));
    }

    #[test]
    fn a_text_that_is_no_address_says_what_is_wrong_with_it() {
        let rows = [
            ("", MacError::Groups(1)),
            ("02:00:00:00:00", MacError::Groups(5)),
            ("02-00-00-00-00-01", MacError::Groups(1)),
            ("02:00:00:00:00:01:02", MacError::Groups(7)),
            ("02:00:+1:00:00:01", MacError::Digits(3)),
            ("2:00:00:00:00:01", MacError::Digits(1)),
            ("02:00:00:00:00:0g", MacError::Digits(6)),
            ("02:00:00:00:00:\u{e9}", MacError::Digits(6)),
        ];
        for (text, error) in rows {
            assert_eq!(text.parse::<Mac>(), Err(error), "{text:?}");
        }
        assert_eq!(
            MacError::Groups(5).to_string(),
            "expected six pairs of hexadecimal digits with colons between them, \
             such as 02:00:00:00:00:01; found 5 groups"
        );
    }
}
