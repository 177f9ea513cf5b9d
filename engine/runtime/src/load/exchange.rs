//! One request and its response, for echo and HTTP. Nothing of either is kept: a request is made
//! again from its seed wherever the last send ended, and a response is checked in the receive
//! buffer as it arrives. The seed differs for every request of every connection of every worker, so
//! bytes of another stream, or of an earlier request, do not pass for an answer.

use crate::app::Io;
use barewire_api::config::{LoadPlan, LoadProtocol};
use barewire_api::failure::Failure;
use barewire_stack::stack::ConnId;
use std::net::SocketAddrV4;

/// Bytes of a request made at a time, and of a response head that does not lie together.
const PIECE_BYTES: usize = 8 << 10;

/// Headers of one response.
const HEADERS_MAX: usize = 64;

/// `awaited` as long as the length of the response is not known.
const UNKNOWN: u64 = u64::MAX;

/// How far one request is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Exchange {
    seed: u64,
    /// Bytes of the response that are still to come.
    awaited: u64,
    /// Bytes of the request that are still to be queued.
    unsent: u32,
    /// Requests that follow on this connection.
    pub(super) left: u32,
    /// The peer announced that it closes after this response.
    pub(super) is_last: bool,
}

impl Exchange {
    /// All of the request is queued.
    pub(super) fn is_sent(&self) -> bool {
        self.unsent == 0
    }

    /// Throws away up to `n` bytes of the response, which belong to it; returns how many. What comes
    /// behind its last byte is more than was asked for.
    fn take(&mut self, io: &mut Io<'_>, id: ConnId, n: u64) -> Result<u64, Failure> {
        let one_more = n + u64::from(n == self.awaited);
        let taken = io.discard(id, usize::try_from(one_more).unwrap_or(usize::MAX)) as u64;
        if taken > n {
            return Err(Failure::WrongResponse);
        }
        self.awaited -= taken;
        Ok(taken)
    }
}

/// What all exchanges of a worker have in common.
#[derive(Debug)]
pub(super) struct Traffic {
    kind: Kind,
    /// What tells the seeds of this worker from those of others.
    worker: u64,
    scratch: Box<[u8]>,
}

#[derive(Debug)]
enum Kind {
    Echo { bytes: u32 },
    Http { requests: Vec<(SocketAddrV4, Vec<u8>)> },
}

impl Traffic {
    /// The traffic of worker number `worker`.
    pub(super) fn new(plan: &LoadPlan, worker: usize) -> Self {
        let kind = match &plan.protocol {
            LoadProtocol::Echo => Kind::Echo { bytes: plan.request_bytes },
            LoadProtocol::Http { path } => {
                let request = |&dst: &SocketAddrV4| {
                    let host =
                        if dst.port() == 80 { dst.ip().to_string() } else { dst.to_string() };
                    let request = format!(
                        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: barewire\r\n\r\n"
                    );
                    (dst, request.into_bytes())
                };
                let mut requests: Vec<_> = plan.dst.iter().map(request).collect();
                requests.sort_unstable_by_key(|&(dst, _)| dst);
                Kind::Http { requests }
            }
        };
        Traffic {
            kind,
            worker: mix(worker as u64),
            scratch: vec![0; PIECE_BYTES].into_boxed_slice(),
        }
    }

    /// The number of a destination, which comes back with every call that sends.
    pub(super) fn destination(&self, remote: SocketAddrV4) -> u16 {
        match &self.kind {
            Kind::Echo { .. } => 0,
            Kind::Http { requests } => requests
                .binary_search_by_key(&remote, |&(dst, _)| dst)
                .map(|idx| idx as u16)
                .expect("every tuple leads to a destination of the plan"),
        }
    }

    /// A new request on connection `id` to destination `dst`, with `left` more to follow.
    pub(super) fn begin(&self, io: &Io<'_>, id: ConnId, dst: u16, left: u32) -> Exchange {
        let conn = u64::from(id.slot) << 32 | u64::from(id.generation);
        let seed = mix(mix(self.worker ^ conn) ^ io.now().as_nanos() ^ u64::from(left));
        let (unsent, awaited) = match &self.kind {
            Kind::Echo { bytes } => (*bytes, u64::from(*bytes)),
            Kind::Http { requests } => (requests[usize::from(dst)].1.len() as u32, UNKNOWN),
        };
        Exchange { seed, awaited, unsent, left, is_last: false }
    }

    /// Queues what the connection takes of the request to destination `dst`; returns how many
    /// bytes.
    pub(super) fn send(
        &mut self,
        io: &mut Io<'_>,
        id: ConnId,
        dst: u16,
        exchange: &mut Exchange,
    ) -> u64 {
        let before = exchange.unsent;
        match &self.kind {
            Kind::Echo { bytes } => {
                while exchange.unsent > 0 {
                    // What is not taken is made again: to ask for the room first costs every small
                    // request more than that a large one now and then.
                    let n = self.scratch.len().min(exchange.unsent as usize);
                    let piece = &mut self.scratch[..n];
                    fill(exchange.seed, u64::from(bytes - exchange.unsent), piece);
                    let taken = io.send(id, piece);
                    exchange.unsent -= taken as u32;
                    if taken < n {
                        break;
                    }
                }
            }
            Kind::Http { requests } => {
                let (_, request) = &requests[usize::from(dst)];
                let rest = &request[request.len() - exchange.unsent as usize..];
                exchange.unsent -= io.send(id, rest) as u32;
            }
        }
        u64::from(before - exchange.unsent)
    }

    /// Takes what has come of the response; returns how many bytes, and whether it is whole.
    pub(super) fn receive(
        &mut self,
        io: &mut Io<'_>,
        id: ConnId,
        exchange: &mut Exchange,
    ) -> Result<(u64, bool), Failure> {
        let received = match self.kind {
            Kind::Echo { bytes } => self.receive_echo(io, id, bytes, exchange)?,
            Kind::Http { .. } => self.receive_http(io, id, exchange)?,
        };
        Ok((received, exchange.awaited == 0))
    }

    fn receive_echo(
        &self,
        io: &mut Io<'_>,
        id: ConnId,
        bytes: u32,
        exchange: &mut Exchange,
    ) -> Result<u64, Failure> {
        let before = exchange.awaited;
        while exchange.awaited > 0 {
            let offset = u64::from(bytes) - exchange.awaited;
            let front = io.peek(id);
            let n = front.len().min(exchange.awaited as usize);
            if n == 0 {
                break;
            }
            // What was not sent yet cannot come back.
            let is_right = offset + n as u64 <= u64::from(bytes - exchange.unsent)
                && matches(exchange.seed, offset, &front[..n]);
            if !is_right {
                return Err(Failure::WrongResponse);
            }
            exchange.take(io, id, n as u64)?;
        }
        Ok(before - exchange.awaited)
    }

    fn receive_http(
        &mut self,
        io: &mut Io<'_>,
        id: ConnId,
        exchange: &mut Exchange,
    ) -> Result<u64, Failure> {
        let mut received = 0;
        if exchange.awaited == UNKNOWN {
            let Some(head) = self.next_head(io, id)? else { return Ok(0) };
            io.discard(id, head.len);
            received += head.len as u64;
            exchange.awaited = head.content_bytes;
            exchange.is_last = head.is_last;
        }
        Ok(received + exchange.take(io, id, exchange.awaited)?)
    }

    /// The response head at the front of the receive buffer, once it is whole.
    fn next_head(&mut self, io: &Io<'_>, id: ConnId) -> Result<Option<ResponseHead>, Failure> {
        let front = io.peek(id);
        if front.is_empty() {
            return Ok(None);
        }
        if let Some(head) = ResponseHead::parse(front)? {
            return Ok(Some(head));
        }
        // The head goes on in another chunk, or has not arrived.
        let head_max = self.scratch.len().min(io.unread_bytes_max());
        let n = io.peek_into(id, &mut self.scratch[..head_max]);
        match ResponseHead::parse(&self.scratch[..n])? {
            None if n == head_max => Err(Failure::WrongResponse),
            head => Ok(head),
        }
    }
}

/// What matters of the head of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ResponseHead {
    len: usize,
    content_bytes: u64,
    is_last: bool,
}

impl ResponseHead {
    /// Reads a head; nothing when it is not whole. Only a 2xx with a Content-Length is a right
    /// response (RFC 9112 section 6.3).
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let len = match response.parse(bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Failure::WrongResponse),
        };
        if !response.code.is_some_and(|code| (200..300).contains(&code)) {
            return Err(Failure::WrongResponse);
        }
        let (mut content_bytes, mut is_last) = (None, response.version == Some(0));
        for header in response.headers {
            let value = std::str::from_utf8(header.value).unwrap_or("").trim();
            if header.name.eq_ignore_ascii_case("content-length") {
                content_bytes = value.parse::<u64>().ok().filter(|&n| n < UNKNOWN);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(Failure::WrongResponse);
            } else if header.name.eq_ignore_ascii_case("connection") {
                is_last = match value {
                    _ if value.eq_ignore_ascii_case("close") => true,
                    _ if value.eq_ignore_ascii_case("keep-alive") => false,
                    _ => is_last,
                };
            }
        }
        let content_bytes = content_bytes.ok_or(Failure::WrongResponse)?;
        Ok(Some(ResponseHead { len, content_bytes, is_last }))
    }
}

/// Writes the bytes from `offset` on of the stream that belongs to `seed`.
fn fill(seed: u64, offset: u64, buf: &mut [u8]) {
    let (head_len, mut number) = word_at(offset, buf.len());
    let (head, rest) = buf.split_at_mut(head_len);
    let from = (offset % 8) as usize;
    head.copy_from_slice(&word(seed, offset / 8)[from..from + head_len]);
    let (words, tail) = rest.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = word(seed, number);
        number = number.wrapping_add(1);
    }
    tail.copy_from_slice(&word(seed, number)[..tail.len()]);
}

/// True when `bytes` are those from `offset` on of the stream that belongs to `seed`.
fn matches(seed: u64, offset: u64, bytes: &[u8]) -> bool {
    let (head_len, mut number) = word_at(offset, bytes.len());
    let (head, rest) = bytes.split_at(head_len);
    let from = (offset % 8) as usize;
    if *head != word(seed, offset / 8)[from..from + head_len] {
        return false;
    }
    let (words, tail) = rest.as_chunks::<8>();
    for bytes in words {
        if *bytes != word(seed, number) {
            return false;
        }
        number = number.wrapping_add(1);
    }
    *tail == word(seed, number)[..tail.len()]
}

/// Of `len` bytes from `offset` on: how many come before the first word that is whole or begins
/// there, and the number of that word.
fn word_at(offset: u64, len: usize) -> (usize, u64) {
    let head_len = (offset.wrapping_neg() % 8) as usize;
    (head_len.min(len), offset.div_ceil(8))
}

/// Eight bytes of the stream that belongs to `seed`. Seeds are mixed well, so what tells streams apart
/// is there already; the step tells apart the words of one.
fn word(seed: u64, number: u64) -> [u8; 8] {
    seed.wrapping_add(number.wrapping_mul(STEP)).to_le_bytes()
}

/// The odd number next to 2^64 divided by the golden ratio: every bit of a word changes often.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64: every bit of the result depends on every bit of `n`.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(STEP);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_can_be_made_from_any_offset() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        for offset in 0..100 {
            let mut tail = vec![0; 100 - offset];
            fill(7, offset as u64, &mut tail);
            assert_eq!(tail, whole[offset..]);
        }
        for (from, to) in (0..=100).flat_map(|from| (from..=100).map(move |to| (from, to))) {
            let mut piece = whole[from..to].to_vec();
            assert!(matches(7, from as u64, &piece), "{from}..{to}");
            if let Some(byte) = piece.last_mut() {
                *byte ^= 1;
                assert!(!matches(7, from as u64, &piece), "{from}..{to}");
            }
        }
        let mut other = [0; 100];
        fill(9, 0, &mut other);
        assert!(whole.chunks(8).zip(other.chunks(8)).all(|(a, b)| a != b));
    }

    #[test]
    fn heads_of_responses() {
        let whole = |content_bytes, is_last| Ok(Some((content_bytes, is_last)));
        for (text, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", whole(5, false)),
            ("HTTP/1.1 206 P\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", whole(0, true)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", whole(5, true)),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\n",
                whole(5, false),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Le", Ok(None)),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n", Err(Failure::WrongResponse)),
            ("HTTP/1.1 200 OK\r\n\r\n", Err(Failure::WrongResponse)),
            ("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", Err(Failure::WrongResponse)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Failure::WrongResponse)),
            ("SSH-2.0-OpenSSH\r\n", Err(Failure::WrongResponse)),
        ] {
            let found = ResponseHead::parse(text.as_bytes());
            let found = found.map(|head| head.map(|head| (head.content_bytes, head.is_last)));
            assert_eq!(found, expected, "{text}");
        }
    }
}
