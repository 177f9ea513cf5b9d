//! A page of the connection tables. One page is one job for one worker, which looks at a bounded
//! number of records; the cursor says where the next one starts. Connections that come and go
//! between two pages may be missed; none is shown twice, unless its record was used again.

use super::request::{Refusal, app_name};
use crate::engine::Crew;
use crate::worker::Desk;
use barewire_api::config::AppSpec;
use barewire_api::control::{
    CONNS_MAX, ConnFilter, ConnId, ConnPage, ConnRow, ConnState, ErrorCode, Role,
};
use barewire_stack::stack::ConnInfo;
use barewire_stack::tcp::State;

/// Records that one job looks at: at tens of nanoseconds each, well under a millisecond.
const SLOTS_MAX: u32 = 4_096;

/// The page at `cursor`: the worker in the upper half, its record in the lower.
pub(super) fn page(
    crew: &Crew,
    apps: &[AppSpec],
    cursor: Option<u64>,
    limit: u32,
    filter: ConnFilter,
) -> Result<ConnPage, Refusal> {
    if !(1..=CONNS_MAX).contains(&limit) {
        let message = format!("limit: expected from 1 to {CONNS_MAX} rows, found {limit}");
        return Err(Refusal::new(ErrorCode::BadRequest, message));
    }
    let cursor = cursor.unwrap_or(0);
    let (worker, first) = ((cursor >> 32) as usize, cursor as u32);
    if worker >= crew.len() {
        let message = format!("cursor: expected one from the page before, found {cursor}");
        return Err(Refusal::new(ErrorCode::BadRequest, message));
    }
    let (found, next) = crew.ask(worker, move |desk| look(desk, first, limit as usize, filter))?;
    let names: Vec<String> = apps.iter().map(AppSpec::to_string).collect();
    let row = |(state, conn): (ConnState, ConnInfo)| {
        let app = conn.app.map_or_else(String::new, |app| app_name(&names, app));
        to_row(worker as u16, state, &conn, app)
    };
    let at = |worker: usize, slot: u32| (worker as u64) << 32 | u64::from(slot);
    let next_worker = (worker + 1 < crew.len()).then(|| at(worker + 1, 0));
    Ok(ConnPage {
        rows: found.into_iter().map(row).collect(),
        next: next.map(|slot| at(worker, slot)).or(next_worker),
    })
}

/// The worker's part: some connections, and the record to go on with.
fn look(
    desk: &mut Desk<'_>,
    first: u32,
    limit: usize,
    filter: ConnFilter,
) -> (Vec<(ConnState, ConnInfo)>, Option<u32>) {
    let n_slots = desk.stack.n_slots();
    let last = first.saturating_add(SLOTS_MAX).min(n_slots);
    let mut found = Vec::new();
    for slot in first..last {
        if found.len() == limit {
            return (found, Some(slot));
        }
        let Some(conn) = desk.stack.conn_info(slot) else { continue };
        let Some(state) = state_of(conn.state) else { continue };
        if filter.admits(state, conn.local, conn.remote) {
            found.push((state, conn));
        }
    }
    (found, (last < n_slots).then_some(last))
}

/// Nothing for a connection that has ended and is about to go.
fn state_of(state: State) -> Option<ConnState> {
    Some(match state {
        State::Closed => return None,
        State::SynSent => ConnState::SynSent,
        State::SynReceived => ConnState::SynReceived,
        State::Established => ConnState::Established,
        State::FinWait1 => ConnState::FinWait1,
        State::FinWait2 => ConnState::FinWait2,
        State::CloseWait => ConnState::CloseWait,
        State::Closing => ConnState::Closing,
        State::LastAck => ConnState::LastAck,
        State::TimeWait => ConnState::TimeWait,
    })
}

fn to_row(worker: u16, state: ConnState, conn: &ConnInfo, app: String) -> ConnRow {
    let (recv_bytes, send_bytes) = conn.buffered;
    ConnRow {
        id: ConnId { worker, slot: conn.id.slot, generation: conn.id.generation },
        local: conn.local,
        remote: conn.remote,
        state,
        role: if conn.passive { Role::Passive } else { Role::Active },
        app,
        dormant: conn.dormant,
        snd_una: conn.snd_una,
        snd_nxt: conn.snd_nxt,
        snd_wnd: conn.snd_wnd,
        rcv_nxt: conn.rcv_nxt,
        rcv_wnd: conn.rcv_wnd,
        cwnd: conn.cwnd,
        ssthresh: conn.ssthresh,
        srtt_us: u64::from(conn.srtt_us),
        rttvar_us: u64::from(conn.rttvar_us),
        rto_us: conn.rto_us,
        mss: conn.mss,
        path_mtu: conn.path_mtu,
        retransmits: u64::from(conn.retries),
        send_bytes: u64::from(send_bytes),
        recv_bytes: u64::from(recv_bytes),
        timestamps: conn.timestamps,
        sack: conn.sack,
        window_scale: conn.window_scale,
        ecn: conn.ecn,
        congestion: conn.congestion.to_owned(),
        phase: conn.phase.to_owned(),
        pipe_bytes: u64::from(conn.pipe),
    }
}
