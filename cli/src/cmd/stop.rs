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
        let process = format!("/proc/{}", client.pid);
        let deadline = Instant::now() + STOP_TIME_MAX;
        while Path::new(&process).exists() {
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
