//! A segment of D as a script sees it: its numbers counted from each side's initial one. Whether it
//! is what the script expects is decided here; whether it is sound, in `check`.

use super::statement::{Comparison, Field, FlagPattern, Pattern, Term, Value};
use crate::time::Instant;
use crate::wire::ipv4::Ipv4;
use crate::wire::tcp::{Flags, Tcp};
use std::fmt;

/// A received segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) at: Instant,
    pub(super) ip: Ipv4,
    pub(super) tcp: Tcp,
    /// Counted from D's initial sequence number.
    pub(super) seq: i64,
    /// Counted from T's initial sequence number.
    pub(super) ack: i64,
    pub(super) payload: Vec<u8>,
    /// The SACK blocks, counted from T's initial sequence number.
    pub(super) sack: Vec<(i64, i64)>,
}

/// The byte at offset `at` of a stream, both of what T sends and of what comes back: printable, and
/// of a period that divides no segment size.
pub fn pattern_byte(at: u64) -> u8 {
    b'!' + (at % 89) as u8
}

/// `number` counted from `base`, as far as half of the number space lets tell.
pub(super) fn counted_from(base: u32, number: u32) -> i64 {
    i64::from(number.wrapping_sub(base).cast_signed())
}

impl Segment {
    /// Numbers that the segment takes.
    pub(super) fn span(&self) -> i64 {
        let bit = |flag| i64::from(self.tcp.flags.contains(flag));
        self.payload.len() as i64 + bit(Flags::SYN) + bit(Flags::FIN)
    }

    /// Tells whether it is such a segment; `all` is the end of what T sent in order.
    pub(super) fn matches(&self, pattern: &Pattern, all: i64) -> bool {
        let without_push = Flags::from_bits(self.tcp.flags.bits() & !Flags::PSH.bits());
        let has_flags = match pattern.flags {
            FlagPattern::Exactly(flags) => flags == without_push,
            FlagPattern::Among(flags) => self.tcp.flags.contains(flags),
        };
        has_flags
            && pattern.push.is_none_or(|push| push == self.tcp.flags.contains(Flags::PSH))
            && pattern.terms.iter().all(|term| self.holds(term, all))
    }

    fn holds(&self, term: &Term, all: i64) -> bool {
        match term {
            Term::Has(field) => self.value(*field).is_some(),
            Term::Lacks(field) => self.value(*field).is_none(),
            Term::Sack(blocks) => self.sack == *blocks,
            Term::Compare(field, comparison, wanted) => {
                let wanted = match *wanted {
                    Value::Number(number) => number,
                    Value::All => all,
                };
                self.value(*field).is_some_and(|found| match comparison {
                    Comparison::Is => found == wanted,
                    Comparison::IsNot => found != wanted,
                    Comparison::AtMost => found <= wanted,
                    Comparison::AtLeast => found >= wanted,
                })
            }
        }
    }

    fn value(&self, field: Field) -> Option<i64> {
        let (tcp, options) = (&self.tcp, &self.tcp.options);
        match field {
            Field::Seq => Some(self.seq),
            Field::Ack => tcp.flags.contains(Flags::ACK).then_some(self.ack),
            Field::Len => Some(self.payload.len() as i64),
            Field::End => Some(self.seq + self.span()),
            Field::Window => Some(i64::from(tcp.window)),
            Field::Urgent => tcp.flags.contains(Flags::URG).then_some(i64::from(tcp.urgent)),
            Field::Mss => options.mss.map(i64::from),
            Field::WindowScale => options.window_scale.map(i64::from),
            Field::SackPermitted => options.sack_permitted.then_some(1),
            Field::Sack => (!self.sack.is_empty()).then_some(self.sack.len() as i64),
            Field::Stamp => options.timestamps.map(|stamps| i64::from(stamps.value)),
            Field::Echo => options.timestamps.map(|stamps| i64::from(stamps.echo)),
            Field::Ttl => Some(i64::from(self.ip.ttl)),
            Field::Dscp => Some(i64::from(self.ip.dscp)),
            Field::Ecn => Some(i64::from(self.ip.ecn)),
            Field::WireSeq => Some(i64::from(tcp.seq)),
            Field::WireAck => Some(i64::from(tcp.ack)),
        }
    }
}

impl fmt::Display for Segment {
    /// As the script would write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tcp, options) = (&self.tcp, &self.tcp.options);
        write!(f, "{:?} seq={}", tcp.flags, self.seq)?;
        if tcp.flags.contains(Flags::ACK) {
            write!(f, " ack={}", self.ack)?;
        }
        write!(f, " len={} win={}", self.payload.len(), tcp.window)?;
        if tcp.flags.contains(Flags::URG) {
            write!(f, " urp={}", tcp.urgent)?;
        }
        for (name, value) in
            [("mss", options.mss.map(i64::from)), ("ws", self.value(Field::WindowScale))]
        {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        if options.sack_permitted {
            f.write_str(" sackok")?;
        }
        if let Some(stamps) = options.timestamps {
            write!(f, " ts={} tsecr={}", stamps.value, stamps.echo)?;
        }
        for (idx, (left, right)) in self.sack.iter().enumerate() {
            write!(f, "{}{left}-{right}", if idx == 0 { " sack=" } else { "," })?;
        }
        Ok(())
    }
}
