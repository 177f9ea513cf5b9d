//! `barewire send`: bytes on a connection opened by hand, and optionally what comes back.

use std::io::Write;
use std::path::Path;

use barewire_api::control::{ConnId, Payload, RECEIVED_BYTES_MAX, Request, Response, from_hex};
use barewire_api::unit::Span;
use clap::Args;

use crate::client::Client;
use crate::exit::{Error, Verdict};

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("payload").required(true))]
pub(crate) struct Send {
    /// The connection, as `connect` printed it
    id: ConnId,

    /// Send this text
    #[arg(long, group = "payload")]
    text: Option<String>,

    /// Send the bytes of these hexadecimal digits
    #[arg(long, group = "payload", value_name = "DIGITS")]
    hex: Option<String>,

    /// Send so many zero bytes
    #[arg(long, group = "payload", value_name = "N")]
    zeros: Option<u32>,

    /// Wait for so many bytes to come back, and print them
    #[arg(long, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=RECEIVED_BYTES_MAX as i64))]
    expect_reply: Option<u32>,

    /// How long to wait for them
    #[arg(long, value_name = "TIME", default_value = "10s")]
    timeout: Span,
}

impl Send {
    pub(crate) fn run(self, control: Option<&Path>, out: &mut dyn Write) -> Result<Verdict, Error> {
        let (id, expect_reply, timeout) = (self.id, self.expect_reply, self.timeout);
        let payload = self.into_payload();
        let wanted = payload.bytes()?.len() as u64;
        let mut client = Client::open(control)?;
        match client.ask(&Request::Send { id, payload })? {
            Response::Sent { bytes } => {
                writeln!(out, "sent {bytes}")?;
                if bytes < wanted {
                    eprintln!("barewire: the send buffer had room for {bytes} of {wanted} bytes");
                    return Ok(Verdict::Failed);
                }
            }
            other => return Err(client.unexpected(&other)),
        }
        match expect_reply {
            Some(bytes_min) => await_reply(&mut client, id, bytes_min, timeout, out),
            None => Ok(Verdict::Passed),
        }
    }

    fn into_payload(self) -> Payload {
        match (self.text, self.hex, self.zeros) {
            (Some(text), ..) => Payload::Text(text),
            (None, Some(hex), _) => Payload::Hex(hex),
            (None, None, zeros) => Payload::Zeros(zeros.unwrap_or(0)),
        }
    }
}

/// Prints what has come back: as text when it is text, else as hexadecimal digits.
fn await_reply(
    client: &mut Client,
    id: ConnId,
    bytes_min: u32,
    timeout: Span,
    out: &mut dyn Write,
) -> Result<Verdict, Error> {
    let request = Request::Recv { id, bytes_min, timeout };
    let (hex, end) = match client.ask_patiently(&request, timeout.0)? {
        Response::Received { hex, end, .. } => (hex, end),
        other => return Err(client.unexpected(&other)),
    };
    let bytes = from_hex(&hex)?;
    let is_text = |text: &str| text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    match std::str::from_utf8(&bytes) {
        Ok(text) if is_text(text) => writeln!(out, "{text}")?,
        _ => writeln!(out, "{hex}")?,
    }
    if bytes.len() >= bytes_min as usize {
        return Ok(Verdict::Passed);
    }
    let why = if end { "before the peer closed".to_owned() } else { format!("in {timeout}") };
    eprintln!("barewire: expected {bytes_min} bytes, found {} {why}", bytes.len());
    Ok(Verdict::Failed)
}
