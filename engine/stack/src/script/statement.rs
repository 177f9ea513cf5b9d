//! What a script is made of, as values: the facts about it and its statements. How they are written
//! is known to `parse`, what they do to `play`.

use crate::time::Duration;
use crate::wire::tcp::Flags;
use std::net::Ipv4Addr;

/// A parsed script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Requirements and cases that it shows.
    pub covers: Vec<String>,
    /// Keys and values of the stack's configuration.
    pub settings: Vec<(String, String)>,
    /// What runs on the connection.
    pub app: App,
    /// Why a kernel fails it, if it does.
    pub kernel_differs: Option<String>,
    /// Why it is not played against a kernel, if it is not.
    pub kernel_skip: Option<String>,
    /// Why it is only played in virtual time, if so.
    pub veth_skip: Option<String>,
    /// What happens.
    pub(super) steps: Vec<Step>,
}

impl Script {
    /// True when the stack under test opens the connection.
    pub fn connects(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Call(Call::Connect, _)))
    }
}

/// What runs on the connections of the stack under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// Nothing but the `call`s of the script.
    Hand,
    /// An application by the name that a listener takes, such as `echo` or `burst:60000`.
    Named(String),
}

impl Default for App {
    fn default() -> Self {
        App::Named("echo".to_owned())
    }
}

impl App {
    /// True when what T sends comes back.
    pub fn echoes(&self) -> bool {
        *self == App::default()
    }

    /// True when the stack under test sends zeros; otherwise it is
    /// [`pattern_byte`](super::pattern_byte).
    pub fn sends_zeros(&self) -> bool {
        matches!(self, App::Named(name) if name != "echo")
    }
}

/// What a script asks the application of the stack under test to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Open a connection to the tester.
    Connect,
    /// Try to open one to an address that no peer can have.
    ConnectTo(Ipv4Addr),
    /// Send so many bytes.
    Send(u32),
    /// Read so many bytes.
    Read(u32),
    /// End the own direction.
    Shutdown,
    /// End both.
    Close,
    /// Reset.
    Abort,
}

/// What an application can be told of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The handshake completed.
    Opened,
    /// Bytes arrived.
    Readable,
    /// Urgent data are on their way.
    Urgent,
    /// The peer ended its direction.
    Finished,
    /// Both directions ended in order.
    Closed,
    /// The peer answered the open with RST.
    Refused,
    /// An ICMP error ended the open.
    Unreachable,
    /// The peer reset the connection.
    Reset,
    /// The peer fell silent.
    TimedOut,
    /// This side reset the connection.
    Aborted,
}

impl Told {
    pub(super) const NAMES: &'static [(&'static str, Told)] = &[
        ("opened", Told::Opened),
        ("readable", Told::Readable),
        ("urgent", Told::Urgent),
        ("finished", Told::Finished),
        ("closed", Told::Closed),
        ("refused", Told::Refused),
        ("unreachable", Told::Unreachable),
        ("reset", Told::Reset),
        ("timed_out", Told::TimedOut),
        ("aborted", Told::Aborted),
    ];
}

/// One statement, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Open(Box<Shape>),
    Send(Box<Shape>),
    Expect(Pattern, Bounds),
    Never(Pattern, Duration),
    Silent(Duration),
    Wait(Duration),
    /// So many bytes more, or up to this number.
    Receive(Number, Duration),
    Received(i64),
    Alive,
    Gone,
    Icmp(Icmp),
    /// A call that must succeed, or fail.
    Call(Call, bool),
    Told(Told, Duration),
    Untold(Told, Duration),
    Flow(String),
    Flood(u32, Box<Shape>),
    Isn(u32),
    Repeat(u32, Vec<Step>),
}

/// When an expected segment may come, counted from the statement before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) after: Duration,
    pub(super) within: Duration,
}

/// A number in D's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// Counted from D's initial sequence number.
    At(i64),
    /// Counted from what T acknowledged last, or has received.
    Further(i64),
}

/// A segment that T sends.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) flags: Flags,
    pub(super) seq: Option<i64>,
    pub(super) ack: Option<Number>,
    pub(super) len: u32,
    pub(super) window: Option<u16>,
    pub(super) urgent: u16,
    pub(super) mss: Option<u16>,
    pub(super) window_scale: Option<u8>,
    pub(super) sack_permitted: bool,
    pub(super) sack: Vec<(i64, i64)>,
    /// TSval from here on.
    pub(super) stamp: Option<u32>,
    pub(super) echo: Option<u32>,
    pub(super) is_unstamped: bool,
    /// Instead of all options above.
    pub(super) raw_options: Option<Vec<u8>>,
    pub(super) damage: Damage,
    pub(super) ecn: u8,
    /// Instead of T's own address and ports.
    pub(super) from: Option<Host>,
    pub(super) to: Option<Host>,
    pub(super) port: Option<u16>,
    pub(super) to_port: Option<u16>,
}

/// What is wrong or odd about a frame that T sends.
#[derive(Clone, Debug, Default)]
pub(super) struct Damage {
    pub(super) checksum: Checksum,
    pub(super) data_offset: Option<u8>,
    pub(super) ip_options: Vec<u8>,
    /// Offset in bytes.
    pub(super) fragment_offset: u16,
    pub(super) more_fragments: bool,
    /// Bytes of the segment that the packet holds, instead of all.
    pub(super) cut: Option<usize>,
    pub(super) vlans: Vec<u16>,
    pub(super) trailing: usize,
    pub(super) station: Station,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Checksum {
    #[default]
    Right,
    Wrong,
    Zero,
}

/// Which station a frame is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Station {
    #[default]
    Stack,
    Broadcast,
    Multicast,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    At(Ipv4Addr),
    /// D's own address.
    Stack,
    /// The last address of D's network.
    NetBroadcast,
}

/// A segment that D should or should not send.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// All flags but PSH, or those that must be among them.
    pub(super) flags: FlagPattern,
    pub(super) push: Option<bool>,
    pub(super) terms: Vec<Term>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlagPattern {
    Exactly(Flags),
    Among(Flags),
}

/// What a field is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(i64),
    /// The end of what T sent in order.
    All,
}

#[derive(Clone, Debug)]
pub(super) enum Term {
    Compare(Field, Comparison, Value),
    Has(Field),
    Lacks(Field),
    /// Exactly these blocks, in this order.
    Sack(Vec<(i64, i64)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Seq,
    Ack,
    Len,
    /// The number behind the segment.
    End,
    Window,
    Urgent,
    Mss,
    WindowScale,
    SackPermitted,
    Sack,
    Stamp,
    Echo,
    Ttl,
    Dscp,
    Ecn,
    /// The sequence number as it is on the wire.
    WireSeq,
    /// The acknowledgement number as it is on the wire.
    WireAck,
}

impl Field {
    pub(super) const NAMES: &'static [(&'static str, Field)] = &[
        ("seq", Field::Seq),
        ("ack", Field::Ack),
        ("len", Field::Len),
        ("end", Field::End),
        ("win", Field::Window),
        ("urp", Field::Urgent),
        ("mss", Field::Mss),
        ("ws", Field::WindowScale),
        ("sackok", Field::SackPermitted),
        ("sack", Field::Sack),
        ("ts", Field::Stamp),
        ("tsecr", Field::Echo),
        ("ttl", Field::Ttl),
        ("dscp", Field::Dscp),
        ("ecn", Field::Ecn),
        ("wire_seq", Field::WireSeq),
        ("wire_ack", Field::WireAck),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Is,
    IsNot,
    AtMost,
    AtLeast,
}

/// An ICMP error that T sends.
#[derive(Clone, Debug)]
pub(super) struct Icmp {
    pub(super) kind: u8,
    pub(super) code: u8,
    /// What the lower half of the second word holds.
    pub(super) mtu: u16,
    /// The number of the segment of D that it quotes.
    pub(super) quote: i64,
    /// T's port in the quote, instead of the connection's.
    pub(super) port: Option<u16>,
}
