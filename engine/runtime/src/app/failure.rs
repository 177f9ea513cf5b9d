//! What the stack's refusals and ends are called in reports and on the control socket. It judges
//! nothing: whether an end was wanted is known only to whoever opened the connection.

use barewire_api::failure::Failure;
use barewire_stack::stack::ConnectError;
use barewire_stack::tcp::End;

/// Why an open was refused before a packet was sent.
pub fn of_refusal(error: ConnectError) -> Failure {
    match error {
        ConnectError::NotOurAddress => Failure::NotOurAddress,
        ConnectError::BadRemote => Failure::NoRoute,
        ConnectError::InUse => Failure::TupleInUse,
        ConnectError::Full => Failure::ConnectionsMax,
        ConnectError::NoPort => Failure::NoPort,
    }
}

/// How a connection ended that nobody here ended; `opened` tells whether its handshake was
/// complete. Nothing for an orderly close.
pub fn of_end(end: End, opened: bool) -> Option<Failure> {
    match end {
        End::Closed => None,
        End::Refused => Some(Failure::Refused),
        End::Unreachable => Some(Failure::Unreachable),
        End::NoNeighbor => Some(Failure::NoNeighbor),
        End::Reset => Some(Failure::Reset),
        End::TimedOut if opened => Some(Failure::DataTimedOut),
        End::TimedOut => Some(Failure::ConnectTimedOut),
        End::Aborted => Some(Failure::Stopped),
    }
}
