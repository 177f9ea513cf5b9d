//! What is measured: each case is a contestant, a number of connections, and how the requests come. The
//! pairs of stacks that the cases run on are opened when they are first needed, and kept.

use super::{barewire, smoltcp};
use crate::rig::Failure;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// Whose stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contestant {
    Barewire,
    Smoltcp,
}

/// How requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// So densely that each acknowledgement travels with the next segment: two segments a request.
    Dense,
    /// So far apart on one connection that each response is acknowledged by itself: three segments.
    Spread,
    /// As far apart, on connections that sleep on both ends and wake for it.
    Asleep,
}

/// One thing that is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(super) contestant: Contestant,
    pub(super) connections: u64,
    pub(super) manner: Manner,
    /// In names of figures.
    pub(super) suffix: &'static str,
    /// Requests of one round.
    pub(super) requests: u64,
    /// Requests whose instructions are counted.
    pub(super) counted: u64,
}

/// All of them, in the order in which a round takes them.
pub(super) const CASES: [Case; 9] = [
    case(Contestant::Barewire, 1, "1", 200_000, 20_000),
    case(Contestant::Smoltcp, 1, "1", 100_000, 20_000),
    case(Contestant::Barewire, 16, "16", 400_000, 20_000),
    case(Contestant::Smoltcp, 16, "16", 100_000, 20_000),
    case(Contestant::Barewire, 1_000, "1k", 400_000, 50_000),
    case(Contestant::Smoltcp, 1_000, "1000", 10_000, 2_000),
    case(Contestant::Barewire, 1_000_000, "1m", 1_000_000, 20_000),
    Case {
        manner: Manner::Spread,
        ..case(Contestant::Barewire, 1_000_000, "1m_spread", 1_000_000, 50_000)
    },
    Case {
        manner: Manner::Asleep,
        ..case(Contestant::Barewire, 1_000_000, "1m_asleep", 1_000_000, 20_000)
    },
];

const fn case(
    contestant: Contestant,
    connections: u64,
    suffix: &'static str,
    requests: u64,
    counted: u64,
) -> Case {
    Case { contestant, connections, manner: Manner::Dense, suffix, requests, counted }
}

impl Case {
    /// Its place among [`CASES`].
    pub(super) fn number(&self) -> usize {
        let is_it = |case: &Case| case.to_string() == self.to_string();
        CASES.iter().position(is_it).expect("cases are made in here")
    }

    /// The name of one of its figures, as JSON has it.
    pub(super) fn figure(&self, what: &str) -> String {
        match self.contestant {
            Contestant::Barewire => format!("{what}_{}", self.suffix),
            Contestant::Smoltcp => format!("smoltcp_{what}_{}", self.suffix),
        }
    }

    /// Opening it under valgrind takes a minute or more.
    pub(super) fn is_large(&self) -> bool {
        self.connections > 100_000
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contestant = match self.contestant {
            Contestant::Barewire => "barewire",
            Contestant::Smoltcp => "smoltcp",
        };
        write!(f, "{contestant}_{}", self.suffix)
    }
}

/// Two stacks of a contestant, with so many connections between them.
pub(super) enum Pair {
    Barewire(Box<barewire::Pair>),
    Smoltcp(Box<smoltcp::Pair>),
}

/// Those that were opened.
#[derive(Default)]
pub(super) struct Pairs(BTreeMap<(Contestant, u64), Pair>);

impl Pairs {
    /// The pair of a case, opened for exchanges of up to `n` requests.
    pub(super) fn of(&mut self, case: Case, n: u64) -> Result<&mut Pair, Failure> {
        Ok(match self.0.entry((case.contestant, case.connections)) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(none) => none.insert(Pair::open(case, n)?),
        })
    }

    /// The sums of all.
    pub(super) fn audit(&self) -> Result<(), String> {
        self.0.values().try_for_each(Pair::audit)
    }
}

impl Pair {
    fn open(case: Case, n: u64) -> Result<Self, Failure> {
        let connections = case.connections;
        Ok(match case.contestant {
            Contestant::Barewire => Pair::Barewire(Box::new(barewire::Pair::open(connections, n)?)),
            Contestant::Smoltcp => Pair::Smoltcp(Box::new(smoltcp::Pair::open(connections)?)),
        })
    }

    pub(super) fn prepare(&mut self, manner: Manner) -> Result<(), Failure> {
        match self {
            Pair::Barewire(pair) => pair.prepare(manner),
            // It has one manner: a socket does not sleep, and its requests come densely.
            Pair::Smoltcp(_) => Ok(()),
        }
    }

    pub(super) fn exchange(&mut self, n: u64) -> Result<(), Failure> {
        match self {
            Pair::Barewire(pair) => pair.exchange(n),
            Pair::Smoltcp(pair) => pair.exchange(n),
        }
    }

    pub(super) fn n_frames(&self) -> u64 {
        match self {
            Pair::Barewire(pair) => pair.n_frames(),
            Pair::Smoltcp(pair) => pair.n_frames(),
        }
    }

    fn audit(&self) -> Result<(), String> {
        match self {
            Pair::Barewire(pair) => pair.audit(),
            Pair::Smoltcp(pair) => pair.audit(),
        }
    }
}
