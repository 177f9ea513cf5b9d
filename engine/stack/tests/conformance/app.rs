//! What runs on the connections of a script: a few lines for each application that the engine
//! ships, which does on the wire what that one does.

use barewire_stack::script::{App, pattern_byte};
use barewire_stack::stack::{ConnId, Event, Stack};
use barewire_stack::tcp::Events;
use barewire_stack::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
enum Kind {
    Hand,
    Echo,
    Discard,
    /// Bytes for each byte.
    Burst(u64),
    CloseAfter(u64),
    NeverRead,
    CloseUnread(Duration),
    /// How many pieces, of how many bytes.
    SmallWrites(u64, u64),
}

/// One connection.
#[derive(Debug, Default)]
struct Talk {
    received: u64,
    sent: u64,
    is_finished: bool,
    closes_at: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Running {
    kind: Kind,
    talks: Vec<(ConnId, Talk)>,
}

impl Running {
    pub(crate) fn new(app: &App) -> Self {
        let App::Named(name) = app else { return Running { kind: Kind::Hand, talks: Vec::new() } };
        let (name, rest) = name.split_once(':').unwrap_or((name, ""));
        let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("no number: {text}"));
        let kind = match name {
            "echo" => Kind::Echo,
            "discard" => Kind::Discard,
            "burst" => Kind::Burst(number(rest)),
            "close-after" => Kind::CloseAfter(number(rest)),
            "never-read" => Kind::NeverRead,
            "close-unread" => {
                Kind::CloseUnread(Duration::from_millis(number(rest.trim_end_matches("ms"))))
            }
            "small-writes" => {
                let (count, bytes) = rest.split_once('x').expect("small-writes:COUNTxBYTES");
                Kind::SmallWrites(number(count), number(bytes))
            }
            _ => panic!("no such application: {name}"),
        };
        Running { kind, talks: Vec::new() }
    }

    pub(crate) fn on_event(&mut self, stack: &mut Stack, now: Instant, event: &Event) {
        let id = event.id;
        if event.end.is_some() {
            self.talks.retain(|(other, _)| *other != id);
            return;
        }
        if !self.talks.iter().any(|(other, _)| *other == id) {
            self.talks.push((id, Talk::default()));
        }
        let kind = self.kind;
        let Some((_, talk)) = self.talks.iter_mut().find(|(other, _)| *other == id) else { return };
        talk.is_finished |= event.events.contains(Events::FINISHED);
        let is_over = match kind {
            Kind::Hand => false,
            Kind::Echo => {
                stack.echo(now, id);
                talk.is_finished && stack.peek(id).is_empty()
            }
            Kind::Discard => {
                stack.discard(now, id, usize::MAX);
                talk.is_finished
            }
            Kind::Burst(n) => {
                talk.received += n * stack.discard(now, id, usize::MAX) as u64;
                talk.sent += zeros(stack, now, id, talk.received - talk.sent);
                talk.is_finished && talk.sent == talk.received
            }
            Kind::CloseAfter(n) => {
                talk.received += stack.discard(now, id, usize::MAX) as u64;
                talk.is_finished || talk.received >= n
            }
            Kind::NeverRead => talk.is_finished,
            Kind::CloseUnread(after) => {
                if !stack.peek(id).is_empty() {
                    talk.closes_at = talk.closes_at.or(Some(now + after));
                }
                talk.is_finished && talk.closes_at.is_none()
            }
            Kind::SmallWrites(count, bytes) => {
                stack.discard(now, id, usize::MAX);
                while talk.sent < count * bytes && zeros(stack, now, id, bytes) == bytes {
                    talk.sent += bytes;
                }
                talk.is_finished
            }
        };
        if is_over {
            stack.close(now, id);
        }
    }

    pub(crate) fn on_turn(&mut self, stack: &mut Stack, now: Instant) {
        for (id, talk) in &mut self.talks {
            if talk.closes_at.is_some_and(|at| at <= now) {
                talk.closes_at = None;
                stack.close(now, *id);
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.talks.iter().filter_map(|(_, talk)| talk.closes_at).min()
    }

    /// Sends the next `n` bytes of the stream that a script expects of an application by hand.
    pub(crate) fn send(&mut self, stack: &mut Stack, now: Instant, id: ConnId, n: u32) -> usize {
        if !self.talks.iter().any(|(other, _)| *other == id) {
            self.talks.push((id, Talk::default()));
        }
        let Some((_, talk)) = self.talks.iter_mut().find(|(other, _)| *other == id) else {
            return 0;
        };
        let bytes: Vec<u8> = (talk.sent..talk.sent + u64::from(n)).map(pattern_byte).collect();
        let done = stack.send(now, id, &bytes);
        talk.sent += done as u64;
        done
    }
}

fn zeros(stack: &mut Stack, now: Instant, id: ConnId, n: u64) -> u64 {
    stack.send(now, id, &vec![0; n as usize]) as u64
}
