//! `barewire stop`: ends the daemon, and returns when its process is gone.

use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use barewire_api::control::Request;
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};

/// How long the daemon may take to go.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

const LOOK: Duration = Duration::from_millis(20);

#[derive(Args, Debug)]
pub(crate) struct Stop {}

impl Stop {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let mut client = Client::open(control)?;
        client.order(&Request::Stop)?;
        let deadline = Instant::now() + STOP_TIME_MAX;
        while lives(client.pid) {
            if Instant::now() >= deadline {
                return Err(Error::Environment(format!(
                    "the daemon (pid {}) took the order and has not ended: its own output says why",
                    client.pid
                )));
            }
            sleep(LOOK);
        }
        writeln!(out, "stopped")?;
        Ok(Verdict::Passed)
    }
}

/// A process that has ended, and only its parent has not looked, lives no more.
fn lives(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the name, which stands in brackets and may hold some itself.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X'))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_lives_until_it_ends() {
        assert!(lives(std::process::id()));
        let mut child = Command::new("true").spawn().expect("runs");
        let deadline = Instant::now() + STOP_TIME_MAX;
        while lives(child.id()) {
            assert!(Instant::now() < deadline, "ended and not waited for, it seems to live");
            sleep(LOOK);
        }
        child.wait().expect("ends");
        assert!(!lives(child.id()));
    }
}
