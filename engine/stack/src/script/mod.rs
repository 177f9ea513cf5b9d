//! Readable protocol scripts: send these segments, expect those. A script tells one behaviour of
//! TCP as a peer sees it, and knows neither clock nor wire: whoever plays it implements [`Wire`],
//! in virtual time around one stack or in real time over a socket. Which scripts there are is not
//! known in here, and there is no I/O.
//!
//! # The language
//!
//! One statement a line; `#` begins a comment. First come the facts about the script:
//!
//! ```text
//! covers MUST-40 B26              requirements and cases that it shows
//! app echo                        what runs on the connection, as listeners name it, or `hand`
//! set tcp.nagle=false             configuration of the stack
//! kernel differs: it does that    played against a kernel, it must fail, and why
//! kernel skip: nobody can know    not played against a kernel, and why
//! veth skip: takes hours          played in virtual time only, and why
//! ```
//!
//! then what happens. T is the tester, who plays; D is the stack under test.
//!
//! ```text
//! open mss=1460 sackok ts=100 ws=7   T opens: SYN, SYN|ACK, ACK
//! > ACK|PSH seq=1 len=10             T sends a segment
//! < * len=10                         flags: all but PSH, `+FIN` for FIN among others, or any
//! < ACK ack=11 !sack within 500ms    a matching segment comes; others before it are passed over
//! no RST for 1s                      no matching segment comes
//! silent 400ms                       no segment at all comes
//! wait 1s                            time passes; what comes is passed over
//! receive 60000 within 5s            so many bytes come in order, each segment acknowledged
//! receive to=60001 within 5s         everything before this number
//! received 101                       everything before this number has come
//! alive | gone                       D takes a byte of data | answers an ACK with RST
//! icmp 3/4 mtu=1200 quote=1          an ICMP error that quotes D's segment with this number
//! connect | connect to=IP fails      D opens | must refuse to
//! call send 100                      D's application: send, read, shutdown, close, abort
//! told closed within 1s              D's application is told of an event
//! untold closed for 100ms            it is not
//! flow b                             the statements that follow are about another connection
//! flood 100 SYN                      so many segments from other ports
//! isn +300000                        T's next connection on the same ports has these numbers
//! repeat 20 { ... }                  several lines up to `}`
//! ```
//!
//! Numbers count from each side's initial sequence number, so the first byte of data is 1; `ack=+5`
//! is five more than T acknowledged last, and `ack=all` in a segment of D everything that T sent in
//! order. What is left out of a segment is what an orderly peer would write: the next number, the
//! acknowledgement of everything that came, the window of before, a timestamp where agreed. Windows
//! are as in the header, unscaled.

mod check;
mod flow;
mod frame;
mod options;
mod parse;
mod play;
mod segment;
mod statement;
mod trace;

pub use parse::{ParseError, parse};
pub use play::{Ends, Failure, Wire, play};
pub use segment::pattern_byte;
pub use statement::{App, Call, Script, Told};
