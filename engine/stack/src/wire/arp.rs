//! ARP for IPv4 over Ethernet (RFC 826), the only kind there is. It says what a packet states, not
//! whether to believe it: that is for the neighbour table.

use std::net::Ipv4Addr;

use super::ethernet::{Mac, TYPE_IPV4};
use super::{WireError, ipv4_at, u16_at};

/// Length of a packet in bytes. Frames that carry one are padded beyond it.
pub const BYTES: usize = 28;

const HARDWARE_ETHERNET: u16 = 1;
const HARDWARE_ADDRESS_BYTES: u8 = 6;
const PROTOCOL_ADDRESS_BYTES: u8 = 4;
const OPERATION_REQUEST: u16 = 1;
const OPERATION_REPLY: u16 = 2;

/// What an ARP packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: ArpOperation,
    /// The Ethernet address of the sender, as it claims.
    pub sender_mac: Mac,
    /// The IPv4 address of the sender; 0.0.0.0 in a probe (RFC 5227).
    pub sender_ip: Ipv4Addr,
    /// The Ethernet address of the target; meaningless in a request.
    pub target_mac: Mac,
    /// The IPv4 address asked for, or that of the asker in a reply.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Reads a packet; bytes after it are padding.
    pub fn parse(packet: &[u8]) -> Result<Arp, WireError> {
        let packet = packet.first_chunk::<BYTES>().ok_or(WireError::Truncated)?;
        let formats = (u16_at(packet, 0), u16_at(packet, 2), packet[4], packet[5]);
        if formats != (HARDWARE_ETHERNET, TYPE_IPV4, HARDWARE_ADDRESS_BYTES, PROTOCOL_ADDRESS_BYTES)
        {
            return Err(WireError::Malformed);
        }
        let operation = match u16_at(packet, 6) {
            OPERATION_REQUEST => ArpOperation::Request,
            OPERATION_REPLY => ArpOperation::Reply,
            _ => return Err(WireError::Malformed),
        };
        Ok(Arp {
            operation,
            sender_mac: Mac::at(packet, 8),
            sender_ip: ipv4_at(packet, 14),
            target_mac: Mac::at(packet, 18),
            target_ip: ipv4_at(packet, 24),
        })
    }

    /// Writes the packet and returns its length.
    ///
    /// # Panics
    /// When `buf` is shorter than [`BYTES`].
    pub fn emit(&self, buf: &mut [u8]) -> usize {
        let operation = match self.operation {
            ArpOperation::Request => OPERATION_REQUEST,
            ArpOperation::Reply => OPERATION_REPLY,
        };
        buf[0..2].copy_from_slice(&HARDWARE_ETHERNET.to_be_bytes());
        buf[2..4].copy_from_slice(&TYPE_IPV4.to_be_bytes());
        buf[4] = HARDWARE_ADDRESS_BYTES;
        buf[5] = PROTOCOL_ADDRESS_BYTES;
        buf[6..8].copy_from_slice(&operation.to_be_bytes());
        buf[8..14].copy_from_slice(&self.sender_mac.0);
        buf[14..18].copy_from_slice(&self.sender_ip.octets());
        buf[18..24].copy_from_slice(&self.target_mac.0);
        buf[24..28].copy_from_slice(&self.target_ip.octets());
        BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_hardware_protocol_or_operation_is_malformed() {
        let mut packet = [0; BYTES];
        Arp {
            operation: ArpOperation::Request,
            sender_mac: Mac([2, 0, 0, 0, 0, 1]),
            sender_ip: Ipv4Addr::new(192, 0, 2, 1),
            target_mac: Mac::ZERO,
            target_ip: Ipv4Addr::new(192, 0, 2, 2),
        }
        .emit(&mut packet);
        assert!(Arp::parse(&packet).is_ok());
        // The first eight bytes are fixed but for the operation; 1 and 2 are its only legal values.
        for offset in 0..8 {
            let mut bent = packet;
            bent[offset] ^= 0x40;
            assert_eq!(Arp::parse(&bent), Err(WireError::Malformed), "offset {offset}");
        }
        for operation in [0, 3, 8, 9] {
            let mut bent = packet;
            bent[7] = operation;
            assert_eq!(Arp::parse(&bent), Err(WireError::Malformed), "operation {operation}");
        }
    }
}
