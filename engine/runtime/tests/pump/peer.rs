//! The other side of an application under test: a client that says what it was told to, keeps what
//! it hears, and may be slow or deaf. It is an application itself.

use barewire_engine::app::{App, Io};
use barewire_stack::stack::{ConnId, Event};
use barewire_stack::tcp::{End, Events};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What is said and heard on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) to_say: Vec<u8>,
    said: usize,
    /// Our direction ends when everything is said.
    finishes: bool,
    /// Bytes that are taken at one event; 0 for a deaf one.
    pub(crate) hears_max: usize,
    pub(crate) heard: Vec<u8>,
    pub(crate) opened: bool,
    /// The server has finished.
    pub(crate) finished: bool,
    pub(crate) end: Option<End>,
}

impl Conversation {
    /// Says `bytes` and stays.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Conversation {
            to_say: bytes.to_vec(),
            said: 0,
            finishes: false,
            hears_max: usize::MAX,
            heard: Vec::new(),
            opened: false,
            finished: false,
            end: None,
        }
    }

    /// Says `bytes` and finishes.
    pub(crate) fn then_finish(bytes: &[u8]) -> Self {
        Conversation { finishes: true, ..Conversation::new(bytes) }
    }

    /// Hears nothing for now.
    pub(crate) fn deaf(self) -> Self {
        Conversation { hears_max: 0, ..self }
    }

    pub(crate) fn finish(&mut self) {
        self.finishes = true;
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.to_say.extend_from_slice(bytes);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Everything was handed to the stack.
    pub(crate) fn is_said(&self) -> bool {
        self.said == self.to_say.len()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Peer {
    pub(crate) conversations: HashMap<ConnId, Conversation>,
}

impl Peer {
    /// Says and hears what is possible.
    pub(crate) fn act(&mut self, io: &mut Io<'_>, id: ConnId) {
        let Some(talk) = self.conversations.get_mut(&id) else { return };
        if talk.opened {
            talk.said += io.send(id, &talk.to_say[talk.said..]);
        }
        let mut room = talk.hears_max;
        while room > 0 {
            let bytes = io.peek(id);
            let n = bytes.len().min(room);
            if n == 0 {
                break;
            }
            talk.heard.extend_from_slice(&bytes[..n]);
            io.discard(id, n);
            room -= n;
        }
        if talk.finishes && talk.opened && talk.is_said() {
            io.shutdown(id);
        }
    }
}

/// The worker's end of a peer that the test looks at between two turns.
#[derive(Debug)]
pub(crate) struct Shared(pub(crate) Arc<Mutex<Peer>>);

impl App for Shared {
    fn on_event(&mut self, io: &mut Io<'_>, event: &Event) {
        let mut peer = self.0.lock().unwrap();
        if let Some(talk) = peer.conversations.get_mut(&event.id) {
            talk.opened |= event.events.contains(Events::OPENED);
            talk.finished |= event.events.contains(Events::FINISHED);
        }
        peer.act(io, event.id);
        if let Some(talk) = peer.conversations.get_mut(&event.id) {
            talk.end = event.end.or(talk.end);
        }
    }
}
