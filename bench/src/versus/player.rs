//! A process that plays one end, seen from outside: started in its namespace, listened to, and gone when
//! this is. That it also goes when this process does not come to that is its own doing.

use super::end::{Order, Word};
use super::lab::Lab;
use super::task::{Driven, Served};
use crate::rig::Failure;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, thread};

/// How often a wait looks whether it was interrupted.
const LOOK: Duration = Duration::from_millis(50);

/// Why an end did not do what it was to do.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The round failed, and others may not.
    Round(String),
    /// Everything is over.
    All(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::All(failure)
    }
}

/// A running end.
#[derive(Debug)]
pub(crate) struct Player<'a> {
    child: Child,
    /// A server stops when this is closed.
    input: Option<ChildStdin>,
    words: Receiver<Word>,
    interrupted: &'a AtomicBool,
    name: String,
}

impl<'a> Player<'a> {
    /// Starts an end. To be called by the main thread, for the end is ended with the thread that
    /// started it.
    pub(crate) fn start(
        lab: &Lab,
        order: &Order,
        interrupted: &'a AtomicBool,
    ) -> Result<Self, Failure> {
        let program = env::current_exe().map_err(|e| Failure::Os("find this program", e))?;
        let json = serde_json::to_string(order).expect("an order has a JSON form");
        let spawn = || {
            Command::new(program)
                .args(["versus-end", &json])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        let mut child =
            lab.within(order.side, spawn)?.map_err(|e| Failure::Os("start an end", e))?;
        let output = child.stdout.take().expect("it is piped");
        let (sender, words) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let word = serde_json::from_str(&line)
                    .unwrap_or_else(|error| Word::Failed(format!("`{line}`: {error}")));
                if sender.send(word).is_err() {
                    break;
                }
            }
        });
        let name = format!("{:?} {:?}", order.contestant, order.side).to_lowercase();
        Ok(Player { input: child.stdin.take(), child, words, interrupted, name })
    }

    /// Waits until a server can be connected to.
    pub(crate) fn ready(&self, patience: Duration) -> Result<(), Trouble> {
        match self.word(patience)? {
            Word::Ready => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Waits until a client is done.
    pub(crate) fn driven(&self, patience: Duration) -> Result<Driven, Trouble> {
        match self.word(patience)? {
            Word::Driven(driven) => Ok(*driven),
            other => Err(self.unexpected(&other)),
        }
    }

    /// Tells a server to stop, and waits for what it counted.
    pub(crate) fn served(&mut self, patience: Duration) -> Result<Served, Trouble> {
        self.input = None;
        match self.word(patience)? {
            Word::Served(served) => Ok(served),
            other => Err(self.unexpected(&other)),
        }
    }

    fn word(&self, patience: Duration) -> Result<Word, Trouble> {
        let begun = Instant::now();
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(Trouble::All(Failure::Machine("interrupted".to_owned())));
            }
            match self.words.recv_timeout(LOOK) {
                Ok(Word::Failed(why)) => {
                    return Err(Trouble::Round(format!("{}: {why}", self.name)));
                }
                Ok(word) => return Ok(word),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::Round(format!("{} ended without a word", self.name)));
                }
                Err(RecvTimeoutError::Timeout) if begun.elapsed() > patience => {
                    return Err(Trouble::Round(format!(
                        "{} said nothing for {patience:?}",
                        self.name
                    )));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn unexpected(&self, word: &Word) -> Trouble {
        Trouble::Round(format!("{} said {word:?} when that was not asked", self.name))
    }
}

impl Drop for Player<'_> {
    fn drop(&mut self) {
        // One that has ended by itself is no failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
