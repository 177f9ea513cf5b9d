//! What a pair of ends does in one round, the same for every pair: how many connections, how many bytes
//! each way, how long; and what either end tells of it afterwards. Who the ends are is not known here.

use barewire_api::report::Percentiles;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The shape of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// All connections are opened; then one request after the other, `in_flight` at a time, for the
    /// duration.
    RequestResponse,
    /// Connect, one request with a FIN, one response with a FIN; `in_flight` at a time, for the duration.
    ConnectionsPerSecond,
    /// All connections are opened, `in_flight` handshakes at a time, and held for the duration; then
    /// each is asked once, to see that it is there.
    Open,
    /// A request of one line and a long response, on every connection, for the duration.
    Bulk,
}

/// What happens in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) shape: Shape,
    /// Connections open at the same time.
    pub(crate) connections: u32,
    /// Handshakes, or requests without their response, at the same time.
    pub(crate) in_flight: u32,
    /// Of a request and of its response; with [`Shape::Bulk`] of the response's body.
    pub(crate) bytes: u32,
    /// Of the link.
    pub(crate) mtu: u32,
    /// The kernel's ends may pass segments larger than a frame to each other.
    pub(crate) segmentation_offload: bool,
    pub(crate) duration_ms: u64,
}

impl Task {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(self.duration_ms)
    }

    /// Frames of a umem must hold the MTU, their headroom and an Ethernet header.
    pub(crate) fn frame_bytes(&self) -> u32 {
        if self.mtu > 1770 { 4096 } else { 2048 }
    }

    /// The request line of [`Shape::Bulk`].
    pub(crate) fn get(&self) -> String {
        format!("GET /bytes/{} HTTP/1.1\r\nHost: versus\r\n\r\n", self.bytes)
    }
}

/// What the client's end counted and timed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Driven {
    /// What the rate is made of: responses, connections opened, or frames.
    pub(crate) count: u64,
    /// In this time.
    pub(crate) duration_ns: u64,
    pub(crate) opened: u64,
    pub(crate) failed: u64,
    /// The reasons, for people.
    pub(crate) failures: String,
    pub(crate) bytes_sent: u64,
    pub(crate) connect: Percentiles,
    pub(crate) request: Percentiles,
}

impl Driven {
    /// Events per second.
    pub(crate) fn rate(&self) -> f64 {
        if self.duration_ns == 0 { 0.0 } else { self.count as f64 * 1e9 / self.duration_ns as f64 }
    }
}

/// What the server's end counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Served {
    pub(crate) accepted: u64,
    pub(crate) bytes_received: u64,
    pub(crate) failed: u64,
}

impl Served {
    pub(crate) fn merge(&mut self, other: Served) {
        self.accepted += other.accepted;
        self.bytes_received += other.bytes_received;
        self.failed += other.failed;
    }
}

/// What does not add up between both ends of a round; empty when everything does.
pub(crate) fn complaints(driven: &Driven, served: &Served) -> Vec<String> {
    let mut complaints = Vec::new();
    if driven.failed > 0 {
        complaints.push(format!("{} failed ({})", driven.failed, driven.failures));
    }
    if served.failed > 0 {
        complaints.push(format!("{} failed on the server", served.failed));
    }
    for (what, ours, theirs) in [
        ("opened", driven.opened, served.accepted),
        ("request bytes", driven.bytes_sent, served.bytes_received),
    ] {
        if ours != theirs {
            complaints.push(format!("{what}: {ours} by the client, {theirs} at the server"));
        }
    }
    if driven.count == 0 {
        complaints.push("nothing was done".to_owned());
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_adds_up_or_says_what_does_not() {
        let driven = Driven {
            count: 10,
            duration_ns: 2_000_000_000,
            opened: 5,
            bytes_sent: 640,
            ..Driven::default()
        };
        let served = Served { accepted: 5, bytes_received: 640, failed: 0 };
        assert_eq!(complaints(&driven, &served), [""; 0]);
        assert_eq!(driven.rate(), 5.0);

        let failed = Driven { failed: 2, failures: "reset".to_owned(), ..driven.clone() };
        assert_eq!(complaints(&failed, &served), ["2 failed (reset)"]);
        let short = Served { bytes_received: 576, ..served };
        let words = "request bytes: 640 by the client, 576 at the server";
        assert_eq!(complaints(&driven, &short), [words]);
        let nothing = complaints(&Driven::default(), &Served::default());
        assert_eq!(nothing, ["nothing was done"]);
        assert_eq!(Driven::default().rate(), 0.0);
    }
}
