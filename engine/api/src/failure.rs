//! Why a connection failed: one word for files and counters, one sentence for people. Failures of
//! the control protocol itself are not in here.

use crate::text::word_enum;

word_enum! {
    /// How a connection, its opening, or its one request came to a bad end.
    pub enum Failure: "the word of a connection failure" {
        /// The peer answered the SYN with a reset.
        Refused = "refused",
        /// The peer reset the established connection.
        Reset = "reset",
        /// The SYN was retransmitted to the limit without an answer.
        ConnectTimedOut = "connect-timed-out",
        /// Data was retransmitted to the limit without an acknowledgement.
        DataTimedOut = "data-timed-out",
        /// No whole response in the plan's `timeout`.
        ResponseTimedOut = "response-timed-out",
        /// The close did not finish in the plan's `timeout`.
        CloseTimedOut = "close-timed-out",
        /// ICMP says that the destination cannot be reached.
        Unreachable = "unreachable",
        /// The next hop does not answer ARP.
        NoNeighbor = "no-neighbor",
        /// No route to the destination.
        NoRoute = "no-route",
        /// Every local port for this destination is in use.
        NoPort = "no-port",
        /// The asked-for local port is in use for this destination.
        TupleInUse = "tuple-in-use",
        /// The asked-for local address is not the engine's.
        NotOurAddress = "not-our-address",
        /// The connection limit of the worker is reached.
        ConnectionsMax = "connections-max",
        /// The buffer pool of the worker is used up.
        BufferBytesMax = "buffer-bytes-max",
        /// The response is not what the protocol promises.
        WrongResponse = "wrong-response",
        /// The peer closed before the response was whole.
        ClosedEarly = "closed-early",
        /// The engine stopped first.
        Stopped = "stopped",
    }
}

impl Failure {
    /// The sentence for people, with what to look at.
    pub const fn sentence(self) -> &'static str {
        match self {
            Failure::Refused => "connection refused: nothing listens on that port",
            Failure::Reset => "connection reset by the peer",
            Failure::ConnectTimedOut => "timed out: no answer to the SYN and its retransmissions",
            Failure::DataTimedOut => "timed out: the peer stopped acknowledging data",
            Failure::ResponseTimedOut => "timed out: no whole response in time",
            Failure::CloseTimedOut => "timed out: the peer did not finish the close",
            Failure::Unreachable => "destination unreachable, says an ICMP message",
            Failure::NoNeighbor => {
                "the next hop does not answer ARP: check the gateway and the link"
            }
            Failure::NoRoute => "no route to the destination: give a gateway",
            Failure::NoPort => "every local port for this destination is in use: add addresses",
            Failure::TupleInUse => "the local port is in use for this destination: choose another",
            Failure::NotOurAddress => "the local address is not one of the engine's",
            Failure::ConnectionsMax => "the connection limit is reached: raise tcp.connections_max",
            Failure::BufferBytesMax => "the buffers are used up: raise tcp.buffer_bytes_max",
            Failure::WrongResponse => "the response is not what was asked for",
            Failure::ClosedEarly => "the peer closed before the response was whole",
            Failure::Stopped => "the engine was stopped first",
        }
    }
}
