//! Connections opened by hand, from the side of the control thread: which worker opens one, and what
//! a client waits for. The connections themselves live with the workers' `Hand`.

use super::request::{Refusal, Reply};
use super::server::Server;
use crate::app::Io;
use crate::app::hand::{Hand, HandError, Received};
use crate::engine::Crew;
use crate::worker::{Apps, Desk};
use barewire_api::config::{Ownership, PortRange};
use barewire_api::control::{ConnId, ErrorCode, Payload, RECEIVED_BYTES_MAX, Response, to_hex};
use barewire_api::failure::Failure;
use barewire_stack::flow::FourTuple;
use barewire_stack::stack;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Instant;

/// The worker that opens where it is not known at which queue answers arrive; they find their way
/// over the hand-off ring.
const OPENER: usize = 0;

/// Ports tried of each worker that are free there and in use at another.
const PORT_TRIES_MAX: usize = 16;

/// An answer that is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    id: ConnId,
    deadline: Instant,
    awaited: Awaited,
}

#[derive(Clone, Copy, Debug)]
enum Awaited {
    /// The outcome of an opening, from this local end.
    Outcome(SocketAddrV4),
    /// So many received bytes.
    Bytes(usize),
}

impl Wait {
    /// The answer, once it is there or its time is over.
    pub(super) fn poll(&self, crew: &Crew, now: Instant) -> Option<Response> {
        let is_late = now >= self.deadline;
        let polled = match self.awaited {
            Awaited::Outcome(local) => self.poll_outcome(crew, local, is_late),
            Awaited::Bytes(bytes_min) => self.poll_bytes(crew, bytes_min, is_late),
        };
        polled.unwrap_or_else(|refusal| Some(refusal.into()))
    }

    /// Nobody waits any more: an opening is given up.
    pub(super) fn abandon(&self, crew: &Crew) {
        if let Awaited::Outcome(_) = self.awaited {
            // A worker that is gone has no connection to forget.
            let _ = on_hand(crew, self.id, |hand, io, id| {
                hand.forget(io, id);
                Ok(())
            });
        }
    }

    fn poll_outcome(
        &self,
        crew: &Crew,
        local: SocketAddrV4,
        is_late: bool,
    ) -> Result<Option<Response>, Refusal> {
        let outcome = on_hand(crew, self.id, |hand, _, id| hand.outcome(id))?;
        Ok(match outcome {
            Some(Ok(())) => Some(Response::Connected { id: self.id, local }),
            Some(Err(reason)) => Some(Response::Failed { reason }),
            None if is_late => {
                self.abandon(crew);
                Some(Response::Failed { reason: Failure::ConnectTimedOut })
            }
            None => None,
        })
    }

    fn poll_bytes(
        &self,
        crew: &Crew,
        bytes_min: usize,
        is_late: bool,
    ) -> Result<Option<Response>, Refusal> {
        let bytes_min = if is_late { 0 } else { bytes_min };
        let received = on_hand(crew, self.id, move |hand, io, id| hand.receive(io, id, bytes_min))?;
        Ok(received.map(|Received { bytes, bytes_total, end }| Response::Received {
            hex: to_hex(&bytes),
            bytes_total,
            end,
        }))
    }
}

/// Opens a connection. Its tuple is free at every worker, for each has a table of its own.
pub(super) fn connect(
    server: &Server,
    remote: SocketAddrV4,
    local: Option<Ipv4Addr>,
    src_port: Option<u16>,
    deadline: Instant,
) -> Result<Reply, Refusal> {
    let local = local.unwrap_or_else(|| first_address(server));
    let ports = match src_port {
        Some(0) => {
            return Err(Refusal::new(
                ErrorCode::BadRequest,
                "expected a source port from 1 to 65535, found 0",
            ));
        }
        _ => match server.own.site.config.interface.ownership {
            Ownership::Owned => PortRange::UNRESERVED,
            Ownership::Shared => server.own.site.config.interface.port_range,
        },
    };
    let in_use = if src_port.is_some() { Failure::TupleInUse } else { Failure::NoPort };
    let opener = match src_port {
        Some(port) => {
            let local = SocketAddrV4::new(local, port);
            let opener = arrival(server, local, remote);
            is_free(&server.own.crew, local, remote)?.then_some((opener, local))
        }
        None => free_endpoint(&server.own.crew, local, remote, ports)?,
    };
    let Some((opener, local)) = opener else {
        return Ok(Response::Failed { reason: in_use }.into());
    };
    let opened = server.own.crew.ask(opener, move |desk| {
        let Desk { now, stack, apps, .. } = desk;
        apps.hand.connect(&mut Io::new(stack, *now, Apps::HAND), local, remote)
    })?;
    Ok(match opened {
        Err(reason) => Response::Failed { reason }.into(),
        Ok(id) => Reply::Later(Wait {
            id: ConnId { worker: opener as u16, slot: id.slot, generation: id.generation },
            deadline,
            awaited: Awaited::Outcome(local),
        }),
    })
}

/// The worker at whose queue answers arrive, where that is known and the queue is served.
fn arrival(server: &Server, local: SocketAddrV4, remote: SocketAddrV4) -> usize {
    let rss = server.own.site.arrivals.rss();
    let queue = rss.map(|rss| usize::from(rss.queue(&FourTuple::new(local, remote))));
    queue.filter(|&queue| queue < server.own.crew.len()).unwrap_or(OPENER)
}

/// The first worker that has a port between the two ends which no worker uses, and that port.
fn free_endpoint(
    crew: &Crew,
    local: Ipv4Addr,
    remote: SocketAddrV4,
    ports: PortRange,
) -> Result<Option<(usize, SocketAddrV4)>, Refusal> {
    for worker in 0..crew.len() {
        for _ in 0..PORT_TRIES_MAX {
            let port = crew.ask(worker, move |desk| {
                desk.stack.free_port(desk.now, local, remote, ports.lo()..=ports.hi())
            })?;
            // Where a NIC hashes addresses alone, another worker has all ports to this peer.
            let Ok(port) = port else { break };
            let local = SocketAddrV4::new(local, port);
            if is_free(crew, local, remote)? {
                return Ok(Some((worker, local)));
            }
        }
    }
    Ok(None)
}

/// No worker has a connection between the two ends.
fn is_free(crew: &Crew, local: SocketAddrV4, remote: SocketAddrV4) -> Result<bool, Refusal> {
    let tuple = FourTuple::new(local, remote);
    let is_free = crew.ask_all(move |desk| desk.stack.conn_between(&tuple).is_none())?;
    Ok(is_free.into_iter().all(|is_free| is_free))
}

/// Sends on a connection.
pub(super) fn send(crew: &Crew, id: ConnId, payload: &Payload) -> Result<Response, Refusal> {
    let bytes =
        payload.bytes().map_err(|error| Refusal::new(ErrorCode::BadRequest, error.to_string()))?;
    let bytes = on_hand(crew, id, move |hand, io, id| hand.send(io, id, &bytes))?;
    Ok(Response::Sent { bytes })
}

/// Waits for received bytes.
pub(super) fn recv(id: ConnId, bytes_min: u32, deadline: Instant) -> Result<Reply, Refusal> {
    let bytes_min = bytes_min as usize;
    if bytes_min > RECEIVED_BYTES_MAX {
        let message =
            format!("bytes_min: expected at most {RECEIVED_BYTES_MAX}, found {bytes_min}");
        return Err(Refusal::new(ErrorCode::BadRequest, message));
    }
    Ok(Reply::Later(Wait { id, deadline, awaited: Awaited::Bytes(bytes_min) }))
}

/// Closes a connection.
pub(super) fn close(crew: &Crew, id: ConnId) -> Result<(), Refusal> {
    on_hand(crew, id, |hand, io, id| hand.close(io, id))
}

/// Aborts a connection.
pub(super) fn abort(crew: &Crew, id: ConnId) -> Result<(), Refusal> {
    on_hand(crew, id, |hand, io, id| hand.abort(io, id))
}

/// Runs `job` at the hand that has the connection.
fn on_hand<R: Send + 'static>(
    crew: &Crew,
    id: ConnId,
    job: impl FnOnce(&mut Hand, &mut Io<'_>, stack::ConnId) -> Result<R, HandError> + Send + 'static,
) -> Result<R, Refusal> {
    if usize::from(id.worker) >= crew.len() {
        return Err(Refusal::not_found(HandError::Unknown.to_string()));
    }
    let conn = stack::ConnId { slot: id.slot, generation: id.generation };
    let done = crew.ask(usize::from(id.worker), move |desk| {
        let Desk { now, stack, apps, .. } = desk;
        job(&mut apps.hand, &mut Io::new(stack, *now, Apps::HAND), conn)
    })?;
    done.map_err(|error| Refusal::not_found(error.to_string()))
}

/// The address of connections that name none.
fn first_address(server: &Server) -> Ipv4Addr {
    let interface = &server.own.site.config.interface;
    let of_prefix = || interface.prefixes.first().and_then(|prefix| prefix.host(0));
    let first = interface.addresses.first().map(|address| address.addr());
    first.or_else(of_prefix).expect("a checked configuration has an address or a prefix")
}
