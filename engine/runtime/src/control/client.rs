//! One client of the control socket: bytes in, lines out, lines in, bytes out, without ever waiting.
//! Every buffer and every delay is bounded, so that a client that stalls, floods or stops in the
//! middle of a line costs nobody else anything. What the lines say is not known here.

use crate::sys::poll::Interest;
use barewire_api::control::{REQUEST_BYTES_MAX, Response, to_line};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a client may take to finish a line it has begun, or to take an answer.
const STALL_MAX: Duration = Duration::from_secs(5);

/// How long a client may say nothing between two requests.
const SILENCE_MAX: Duration = Duration::from_secs(300);

/// Bytes read at one time, so that clients take turns.
const READ_BYTES: usize = 16 << 10;

/// A line, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line, without its newline.
    Whole(Vec<u8>),
    /// It has no end within [`REQUEST_BYTES_MAX`].
    TooLong,
    /// Not yet.
    None,
}

/// A connected client.
#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    /// Received and not yet a line; at most a line and one read more.
    input: Vec<u8>,
    /// Not yet taken by the client: one answer, for the next request waits for it.
    output: Vec<u8>,
    /// Its request has not been answered.
    is_waiting: bool,
    /// It has closed its direction: what it sent before is still answered.
    has_finished: bool,
    /// It gets what is in `output`, and nothing is read any more.
    is_leaving: bool,
    is_gone: bool,
    /// When it last got on with what it is at.
    moved_at: Instant,
}

impl Client {
    pub(super) fn new(stream: UnixStream, now: Instant) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Client {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            is_waiting: false,
            has_finished: false,
            is_leaving: false,
            is_gone: false,
            moved_at: now,
        })
    }

    /// What to wait for on its socket.
    pub(super) fn interest(&self) -> Interest<'_> {
        Interest::new(self.stream.as_fd()).read(self.wants_input()).write(!self.output.is_empty())
    }

    /// The socket is ready: moves what can be moved.
    pub(super) fn on_ready(&mut self, now: Instant) {
        let (reads, writes) = (self.wants_input(), !self.output.is_empty());
        if writes {
            self.flush(now);
        }
        if reads {
            self.read(now);
        }
        // Ready without having been asked: the other end is gone.
        self.is_gone |= !reads && !writes;
    }

    /// The next request, if one is there and the last one is answered.
    pub(super) fn next_line(&mut self, now: Instant) -> Line {
        if self.is_waiting || self.is_leaving || !self.output.is_empty() {
            return Line::None;
        }
        let within = self.input.len().min(REQUEST_BYTES_MAX);
        match self.input[..within].iter().position(|&byte| byte == b'\n') {
            Some(end) => {
                let mut line: Vec<u8> = self.input.drain(..=end).collect();
                line.truncate(end);
                self.is_waiting = true;
                self.moved_at = now;
                Line::Whole(line)
            }
            None if within == REQUEST_BYTES_MAX => Line::TooLong,
            None => Line::None,
        }
    }

    /// A request can be taken at once, without anything having to arrive.
    pub(super) fn has_line(&self) -> bool {
        !self.is_waiting
            && !self.is_leaving
            && self.output.is_empty()
            && self.input.contains(&b'\n')
    }

    /// Answers the request that was taken last.
    pub(super) fn answer(&mut self, response: &Response, now: Instant) {
        self.output.extend(to_line(response).into_bytes());
        self.is_waiting = false;
        self.moved_at = now;
        self.flush(now);
    }

    /// Answers, and hears no more of it.
    pub(super) fn dismiss(&mut self, response: &Response, now: Instant) {
        self.is_leaving = true;
        self.input.clear();
        self.answer(response, now);
    }

    /// Nothing is left to do for it, or it has stalled.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let patience = match (self.input.is_empty(), self.output.is_empty()) {
            (true, true) if self.is_leaving => return true,
            (_, true) if self.has_finished && !self.is_waiting && !self.has_line() => return true,
            (true, true) => SILENCE_MAX,
            _ => STALL_MAX,
        };
        // While it waits for us, its silence is our doing.
        self.is_gone || (!self.is_waiting && now.duration_since(self.moved_at) > patience)
    }

    /// It has not taken its answer yet.
    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty() && !self.is_gone
    }

    fn wants_input(&self) -> bool {
        !self.is_waiting
            && !self.is_leaving
            && !self.has_finished
            && self.output.is_empty()
            && self.input.len() < REQUEST_BYTES_MAX
    }

    fn read(&mut self, now: Instant) {
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.has_finished = true,
            Ok(n) => {
                // The clock of a line starts with its first byte and does not start again.
                if self.input.is_empty() {
                    self.moved_at = now;
                }
                self.input.extend_from_slice(&chunk[..n]);
            }
            Err(error) if is_transient(&error) => {}
            Err(_) => self.is_gone = true,
        }
    }

    fn flush(&mut self, now: Instant) {
        while !self.output.is_empty() && !self.is_gone {
            match self.stream.write(&self.output) {
                Ok(0) => self.is_gone = true,
                Ok(n) => {
                    self.output.drain(..n);
                    self.moved_at = now;
                }
                Err(error) if is_transient(&error) => return,
                Err(_) => self.is_gone = true,
            }
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Client, UnixStream, Instant) {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let now = Instant::now();
        (Client::new(ours, now).expect("a client"), theirs, now)
    }

    fn line(client: &mut Client, now: Instant) -> String {
        match client.next_line(now) {
            Line::Whole(line) => String::from_utf8(line).expect("text"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_waits_for_the_answer_to_the_one_before() {
        let (mut client, mut theirs, now) = pair();
        theirs.write_all(b"one\ntwo\nthr").expect("there is room");
        client.on_ready(now);
        assert_eq!(line(&mut client, now), "one");
        assert_eq!(client.next_line(now), Line::None);
        client.answer(&Response::Done, now);
        assert!(client.has_line());
        assert_eq!(line(&mut client, now), "two");
        client.answer(&Response::Done, now);
        assert_eq!(client.next_line(now), Line::None);
        assert!(!client.is_over(now + STALL_MAX) && client.is_over(now + STALL_MAX * 2));
    }

    #[test]
    fn what_was_sent_before_a_half_close_is_answered() {
        let (mut client, mut theirs, now) = pair();
        theirs.write_all(b"one\ntwo\n").expect("there is room");
        theirs.shutdown(std::net::Shutdown::Write).expect("half-closes");
        for expected in ["one", "two"] {
            client.on_ready(now);
            assert!(!client.is_over(now));
            assert_eq!(line(&mut client, now), expected);
            client.answer(&Response::Done, now);
        }
        client.on_ready(now);
        assert!(client.is_over(now));
        drop(client);
        let mut text = String::new();
        theirs.read_to_string(&mut text).expect("both answers");
        assert_eq!(text, to_line(&Response::Done).repeat(2));
    }

    #[test]
    fn the_longest_line_is_taken_and_a_longer_one_is_not() {
        for (len, fits) in [(REQUEST_BYTES_MAX - 1, true), (REQUEST_BYTES_MAX, false)] {
            let (mut client, mut theirs, now) = pair();
            theirs.set_nonblocking(true).expect("can be");
            let mut bytes = vec![b'x'; len];
            bytes.push(b'\n');
            let mut sent = 0;
            let mut taken = client.next_line(now);
            while taken == Line::None {
                sent += theirs.write(&bytes[sent..]).unwrap_or(0);
                client.on_ready(now);
                taken = client.next_line(now);
            }
            assert!(client.input.capacity() <= 2 * (REQUEST_BYTES_MAX + READ_BYTES));
            assert_eq!(matches!(taken, Line::Whole(line) if line.len() == len), fits, "{len}");
        }
    }

    #[test]
    fn silence_is_forgiven_only_while_we_owe_the_answer() {
        let (mut client, mut theirs, now) = pair();
        assert!(client.is_over(now + SILENCE_MAX * 2));
        theirs.write_all(b"one\n").expect("there is room");
        client.on_ready(now);
        line(&mut client, now);
        assert!(!client.is_over(now + SILENCE_MAX * 2));
        drop(theirs);
        client.on_ready(now);
        assert!(client.is_over(now), "it hung up while it waited");
    }

    #[test]
    fn an_answer_that_is_not_taken_ends_the_client() {
        let (mut client, _theirs, now) = pair();
        let message = "x".repeat(1 << 20);
        let code = barewire_api::control::ErrorCode::Refused;
        client.answer(&Response::Error { code, message }, now);
        assert!(client.has_output() && !client.is_over(now + STALL_MAX));
        assert_eq!(client.next_line(now), Line::None);
        assert!(client.is_over(now + STALL_MAX * 2));
    }
}
