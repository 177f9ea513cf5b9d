//! The control protocol: one JSON object per line over a Unix stream socket, a response to each
//! request in order. This file has the types and their line form; it opens no socket. Both sides
//! bound the length of a line before they read it, and every list in a response is paged or bounded
//! by the configuration.

mod conn;
mod status;

use std::net::{Ipv4Addr, SocketAddrV4};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use conn::{ConnFilter, ConnId, ConnPage, ConnRow, ConnState, Role};
pub use status::{
    Frames, HandedOver, HashFunction, HashedFields, RecordBytes, RssChange, RssStatus, Status,
    WorkerStatus, XdpMode,
};

use crate::config::{Config, Listen, ListenAddr, LoadPlan};
use crate::failure::Failure;
use crate::impair::{Direction, Impairment, Impairments};
use crate::report::{LoadPhase, LoadReport};
use crate::text::{SyntaxError, word_enum};
use crate::unit::Span;

/// The version of this protocol; both sides refuse another one.
pub const PROTOCOL_VERSION: u32 = 1;

/// Longest request line in bytes, the newline included: a full payload fits, however it is escaped.
pub const REQUEST_BYTES_MAX: usize = 128 << 10;

/// Longest response line in bytes, the newline included: a full page of connections fits.
pub const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// The most rows of one [`ConnPage`].
pub const CONNS_MAX: u32 = 256;

/// The most bytes that one [`Request::Send`] carries, once decoded.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 10;

/// The most received bytes that the daemon keeps for [`Request::Recv`]; beyond them the connection's
/// window closes.
pub const RECEIVED_BYTES_MAX: usize = 16 << 10;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Who is there? Answered by [`Response::Hello`].
    Hello {
        /// The client's [`PROTOCOL_VERSION`].
        protocol: u32,
    },
    /// Answered by [`Response::Status`].
    Status,
    /// What the daemon was made with. Answered by [`Response::Config`].
    Config,
    /// A page of the connection tables. Answered by [`Response::Conns`].
    Conns {
        /// Where the last page ended; absent for the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cursor: Option<u64>,
        /// Rows wanted, 1 to [`CONNS_MAX`].
        limit: u32,
        /// Which rows.
        #[serde(default)]
        filter: ConnFilter,
    },
    /// Opens one connection by hand. Answered when it is established, by [`Response::Connected`], or
    /// has failed, by [`Response::Failed`].
    Connect {
        /// Where to.
        remote: SocketAddrV4,
        /// From which of the engine's addresses; the first when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        local: Option<Ipv4Addr>,
        /// From which port; chosen by the engine when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        src_port: Option<u16>,
        /// How long to wait for the outcome; when it passes the attempt is aborted.
        timeout: Span,
    },
    /// Sends on a connection opened by hand. Answered by [`Response::Sent`].
    Send {
        /// Which connection.
        id: ConnId,
        /// What to send.
        payload: Payload,
    },
    /// Takes what a connection opened by hand has received. Answered by [`Response::Received`] as
    /// soon as `bytes_min` are there, the peer has closed, or `timeout` has passed.
    Recv {
        /// Which connection.
        id: ConnId,
        /// How many bytes to wait for, up to [`RECEIVED_BYTES_MAX`].
        bytes_min: u32,
        /// How long to wait.
        timeout: Span,
    },
    /// Closes a connection with a FIN. Answered by [`Response::Done`].
    Close {
        /// Which connection.
        id: ConnId,
    },
    /// Aborts a connection with a RST. Answered by [`Response::Done`].
    Abort {
        /// Which connection.
        id: ConnId,
    },
    /// Adds a listener. Answered by [`Response::Done`].
    ListenAdd {
        /// Where, and what runs there.
        listen: Listen,
    },
    /// Removes a listener; its connections stay. Answered by [`Response::Done`].
    ListenRemove {
        /// Where.
        port: ListenAddr,
    },
    /// Starts a load test; one at a time. Answered by [`Response::Done`].
    LoadStart {
        /// The test.
        plan: LoadPlan,
    },
    /// Answered by [`Response::Load`].
    LoadStatus,
    /// Ends the load test early; its report stays to be read. Answered by [`Response::Done`].
    LoadStop,
    /// Impairs the engine's own frames of a direction, in the place of what the direction had.
    /// Answered by [`Response::Impairments`].
    ImpairSet {
        /// Which frames.
        direction: Direction,
        /// What happens to them.
        impairment: Impairment,
        /// What the draws come from; drawn by the daemon when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seed: Option<u32>,
    },
    /// Ends the impairment of a direction; frames that are held back leave at once. Answered by
    /// [`Response::Impairments`].
    ImpairOff {
        /// Which frames.
        direction: Direction,
    },
    /// Accepts no more connections; those that exist run on. Answered by [`Response::Done`].
    Drain,
    /// Ends the daemon. Answered by [`Response::Done`] before it goes.
    Stop,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "kebab-case")]
pub enum Response {
    /// Who is there.
    Hello {
        /// The daemon's [`PROTOCOL_VERSION`].
        protocol: u32,
        /// The daemon's version.
        version: String,
        /// Its process.
        pid: u32,
        /// Number of the statistics page among its open files: clients read it from
        /// `/proc/PID/fd/FD`.
        page_fd: u32,
    },
    /// The state of the daemon.
    Status(Box<Status>),
    /// The configuration with all that it left open, and the listeners there are now.
    Config(Box<Config>),
    /// A page of connections.
    Conns(ConnPage),
    /// The connection is established.
    Connected {
        /// Its handle.
        id: ConnId,
        /// Its local end.
        local: SocketAddrV4,
    },
    /// The connection could not be established.
    Failed {
        /// Why.
        reason: Failure,
    },
    /// How much of the payload the connection took; the rest found no room in its send buffer.
    Sent {
        /// Bytes taken.
        bytes: u64,
    },
    /// What a connection has received since it was last asked.
    Received {
        /// The bytes in hexadecimal, at most [`RECEIVED_BYTES_MAX`] of them.
        hex: String,
        /// All that this connection has ever received.
        bytes_total: u64,
        /// The peer has closed its side, or the connection has ended.
        end: bool,
    },
    /// The state of the load test.
    Load(Box<LoadProgress>),
    /// What happens to the engine's own frames now.
    Impairments(Impairments),
    /// It was done.
    Done,
    /// It was not done.
    Error {
        /// What kind of refusal.
        code: ErrorCode,
        /// One sentence: expected, found, fix.
        message: String,
    },
}

word_enum! {
    /// Kinds of refusal, for programs.
    pub enum ErrorCode: "the word of a control error" {
        /// The line is not a request.
        BadRequest = "bad-request",
        /// The line is longer than [`REQUEST_BYTES_MAX`].
        TooLong = "too-long",
        /// The client speaks another version.
        BadVersion = "bad-version",
        /// There is no such connection, listener or load test.
        NotFound = "not-found",
        /// The request is well-formed and refused: a bad plan, a port that is taken.
        Refused = "refused",
        /// A load test runs already, or too many requests are waiting.
        Busy = "busy",
        /// A worker did not answer in time.
        TimedOut = "timed-out",
        /// The daemon is on its way out.
        Stopping = "stopping",
    }
}

/// Bytes to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// The bytes of this text.
    Text(String),
    /// The bytes of these pairs of hexadecimal digits.
    Hex(String),
    /// This many zero bytes.
    Zeros(u32),
}

impl Payload {
    /// The bytes, at least one and at most [`PAYLOAD_BYTES_MAX`].
    pub fn bytes(&self) -> Result<Vec<u8>, SyntaxError> {
        let (n, found) = match self {
            Payload::Text(text) => (text.len(), "a text"),
            Payload::Hex(hex) => (hex.len() / 2, "hexadecimal digits"),
            Payload::Zeros(n) => (*n as usize, "zeros"),
        };
        if n == 0 || n > PAYLOAD_BYTES_MAX {
            let expected = format!("from 1 to {PAYLOAD_BYTES_MAX} bytes");
            return Err(SyntaxError::new(expected, &format!("{n} bytes of {found}")));
        }
        match self {
            Payload::Text(text) => Ok(text.clone().into_bytes()),
            Payload::Hex(hex) => from_hex(hex),
            Payload::Zeros(n) => Ok(vec![0; *n as usize]),
        }
    }
}

/// The bytes in hexadecimal, two digits each.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of pairs of hexadecimal digits.
pub fn from_hex(hex: &str) -> Result<Vec<u8>, SyntaxError> {
    let refused = || SyntaxError::new("pairs of hexadecimal digits such as 68656c6c6f", hex);
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or_else(refused);
    if !hex.len().is_multiple_of(2) {
        return Err(refused());
    }
    let pair = |pair: &[u8]| Ok((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
    hex.as_bytes().chunks_exact(2).map(pair).collect()
}

/// How a load test stands; absolute figures, so that a reader that misses some loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadProgress {
    /// What it is at.
    pub phase: LoadPhase,
    /// Milliseconds since the first open.
    pub elapsed_ms: u64,
    /// Connections planned.
    pub planned: u64,
    /// Opens begun.
    pub opened: u64,
    /// Connections that are established now.
    pub open: u64,
    /// The most that were established at the same time.
    pub peak_open: u64,
    /// Connections that ended well.
    pub closed: u64,
    /// Connections that ended badly, their opening included.
    pub failed: u64,
    /// The same by reason; reasons with 0 are absent.
    pub failures: std::collections::BTreeMap<Failure, u64>,
    /// Requests sent.
    pub requests: u64,
    /// Whole and right responses.
    pub responses: u64,
    /// Resident memory of the daemon in bytes.
    pub bytes_resident: u64,
    /// The engine impaired its own frames during the test.
    #[serde(default)]
    pub impaired: bool,
    /// The report, once the test is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<LoadReport>>,
}

/// Why a line is not a message.
#[derive(Debug, thiserror::Error)]
#[error("expected a line of JSON in the control protocol, version {PROTOCOL_VERSION}: {0}")]
pub struct LineError(#[from] serde_json::Error);

/// A message as one line, its newline included.
pub fn to_line<T: Serialize>(message: &T) -> String {
    let mut line = serde_json::to_string(message).expect("every message has a JSON form");
    line.push('\n');
    line
}

/// The message of one line, with or without its newline.
pub fn from_line<T: DeserializeOwned>(line: &[u8]) -> Result<T, LineError> {
    Ok(serde_json::from_slice(line)?)
}
