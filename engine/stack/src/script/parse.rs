//! Text to [`Script`]. Every complaint says the line, what was expected and what was found. What a
//! statement means is not known here.

use super::statement::{
    Action, App, Bounds, Call, Checksum, Comparison, Field, FlagPattern, Host, Icmp, Number,
    Pattern, Script, Shape, Station, Step, Term, Told, Value,
};
use crate::time::Duration;
use crate::wire::tcp::Flags;
use std::fmt;
use std::str::FromStr;

/// How long an expected segment may take when the script does not say.
const WITHIN: Duration = Duration::from_millis(500);

/// How long it must be silent when the script does not say.
const SILENT: Duration = Duration::from_millis(400);

const FLAGS: &[(&str, Flags)] = &[
    ("FIN", Flags::FIN),
    ("SYN", Flags::SYN),
    ("RST", Flags::RST),
    ("PSH", Flags::PSH),
    ("ACK", Flags::ACK),
    ("URG", Flags::URG),
    ("ECE", Flags::ECE),
    ("CWR", Flags::CWR),
    ("NONE", Flags::NONE),
];

/// Why a text is no script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What was expected, and what was found.
    pub message: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for ParseError {}

type Parsed<T> = Result<T, String>;

/// Reads a script.
pub fn parse(text: &str) -> Result<Script, ParseError> {
    let mut script = Script::default();
    // The statements, and those of every `repeat` that is open, with its count and line.
    let mut blocks: Vec<(u32, usize, Vec<Step>)> = vec![(1, 0, Vec::new())];
    for (idx, line) in text.lines().enumerate() {
        let line_number = idx + 1;
        let fail = |message| ParseError { line: line_number, message };
        let text = without_comment(line);
        if text.is_empty() || fact(&mut script, text).map_err(fail)? {
            continue;
        }
        if let Some(n) = text.strip_prefix("repeat ").and_then(|rest| rest.strip_suffix('{')) {
            blocks.push((number(n.trim()).map_err(fail)?, line_number, Vec::new()));
            continue;
        }
        let step = if text == "}" && blocks.len() > 1 {
            let (n, line, steps) = blocks.pop().unwrap_or_default();
            Step { line, text: format!("repeat {n}"), action: Action::Repeat(n, steps) }
        } else {
            let action = action(text).map_err(fail)?;
            Step { line: line_number, text: text.to_owned(), action }
        };
        if let Some((_, _, steps)) = blocks.last_mut() {
            steps.push(step);
        }
    }
    let (_, line, steps) = blocks.pop().unwrap_or_default();
    if !blocks.is_empty() {
        return Err(ParseError { line, message: "expected `}` for this `repeat`".to_owned() });
    }
    if steps.is_empty() {
        return Err(ParseError { line: 1, message: "expected statements, found none".to_owned() });
    }
    script.steps = steps;
    Ok(script)
}

fn without_comment(line: &str) -> &str {
    let end = if line.starts_with('#') { Some(0) } else { line.find(" #") };
    line[..end.unwrap_or(line.len())].trim()
}

/// A line that says something about the script; false when it is a statement.
fn fact(script: &mut Script, text: &str) -> Parsed<bool> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "covers" => script.covers.extend(rest.split_whitespace().map(str::to_owned)),
        "app" if rest == "hand" => script.app = App::Hand,
        "app" if !rest.is_empty() => script.app = App::Named(rest.to_owned()),
        "set" => {
            let Some((key, value)) = rest.split_once('=') else {
                return expected("a setting such as `tcp.nagle=false`", rest);
            };
            script.settings.push((key.to_owned(), value.to_owned()));
        }
        "kernel" | "veth" => {
            let reason = |verb| rest.strip_prefix(verb).map(|reason| reason.trim().to_owned());
            match (word, reason("differs:"), reason("skip:")) {
                ("kernel", Some(reason), _) => script.kernel_differs = Some(reason),
                ("kernel", _, Some(reason)) => script.kernel_skip = Some(reason),
                ("veth", _, Some(reason)) => script.veth_skip = Some(reason),
                _ => return expected("`kernel differs:`, `kernel skip:` or `veth skip:`", text),
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn action(text: &str) -> Parsed<Action> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match verb {
        "open" => Action::Open(Box::new(shape(&format!("SYN {rest}"))?)),
        ">" => Action::Send(Box::new(shape(rest)?)),
        "<" => {
            let (rest, bounds) = bounds(rest)?;
            Action::Expect(pattern(&rest)?, bounds)
        }
        "no" => {
            let Some((rest, time)) = rest.rsplit_once(" for ") else {
                return expected("`no SEGMENT for TIME`", text);
            };
            Action::Never(pattern(rest)?, duration(time)?)
        }
        "silent" if rest.is_empty() => Action::Silent(SILENT),
        "silent" => Action::Silent(duration(rest)?),
        "wait" => Action::Wait(duration(rest)?),
        "receive" => {
            let (rest, bounds) = bounds(rest)?;
            let number = match rest.strip_prefix("to=") {
                Some(end) => Number::At(number(end)?),
                None => Number::Further(number(&rest)?),
            };
            Action::Receive(number, bounds.within)
        }
        "received" => Action::Received(number(rest)?),
        "alive" => Action::Alive,
        "gone" => Action::Gone,
        "icmp" => Action::Icmp(icmp(rest)?),
        "connect" => connect(rest)?,
        "call" => Action::Call(call(rest)?, true),
        "told" => {
            let (rest, bounds) = bounds(rest)?;
            Action::Told(named(Told::NAMES, &rest)?, bounds.within)
        }
        "untold" => {
            let Some((rest, time)) = rest.rsplit_once(" for ") else {
                return expected("`untold EVENT for TIME`", text);
            };
            Action::Untold(named(Told::NAMES, rest)?, duration(time)?)
        }
        "flow" => Action::Flow(rest.to_owned()),
        "flood" => {
            let Some((n, segment)) = rest.split_once(' ') else {
                return expected("`flood COUNT SEGMENT`", text);
            };
            Action::Flood(number(n)?, Box::new(shape(segment)?))
        }
        "isn" => Action::Isn(number(rest.trim_start_matches('+'))?),
        _ => return expected("a statement", text),
    })
}

fn connect(rest: &str) -> Parsed<Action> {
    if rest.is_empty() {
        return Ok(Action::Call(Call::Connect, true));
    }
    match rest.strip_prefix("to=").and_then(|rest| rest.strip_suffix(" fails")) {
        Some(addr) => Ok(Action::Call(Call::ConnectTo(number(addr)?), false)),
        None => expected("`connect` or `connect to=ADDRESS fails`", rest),
    }
}

fn call(rest: &str) -> Parsed<Call> {
    Ok(match rest.split_once(' ').unwrap_or((rest, "")) {
        ("send", n) => Call::Send(number(n)?),
        ("read", n) => Call::Read(number(n)?),
        ("shutdown", "") => Call::Shutdown,
        ("close", "") => Call::Close,
        ("abort", "") => Call::Abort,
        _ => return expected("send N, read N, shutdown, close or abort", rest),
    })
}

/// Takes `after TIME` and `within TIME` from the end of a statement.
fn bounds(text: &str) -> Parsed<(String, Bounds)> {
    let mut bounds = Bounds { after: Duration::ZERO, within: WITHIN };
    let mut rest = Vec::new();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "after" => bounds.after = duration(words.next().unwrap_or_default())?,
            "within" => bounds.within = duration(words.next().unwrap_or_default())?,
            word => rest.push(word),
        }
    }
    Ok((rest.join(" "), bounds))
}

fn flags(word: &str) -> Parsed<Flags> {
    word.split('|').try_fold(Flags::NONE, |sum, name| Ok(sum | named(FLAGS, name)?))
}

/// A segment that T sends: flags, then words.
fn shape(text: &str) -> Parsed<Shape> {
    let mut words = text.split_whitespace();
    let mut shape = Shape { flags: flags(words.next().unwrap_or_default())?, ..Shape::default() };
    for word in words {
        match word.split_once('=') {
            Some((key, value)) => shape_field(&mut shape, key, value)?,
            None => shape_word(&mut shape, word)?,
        }
    }
    Ok(shape)
}

fn shape_field(shape: &mut Shape, key: &str, value: &str) -> Parsed<()> {
    let damage = &mut shape.damage;
    match key {
        "seq" => shape.seq = Some(number(value)?),
        "ack" => {
            shape.ack = Some(match value.strip_prefix('+') {
                Some(further) => Number::Further(number(further)?),
                None => Number::At(number(value)?),
            });
        }
        "len" => shape.len = number(value)?,
        "win" => shape.window = Some(number(value)?),
        "urp" => shape.urgent = number(value)?,
        "mss" => shape.mss = Some(number(value)?),
        "ws" => shape.window_scale = Some(number(value)?),
        "sack" => shape.sack = blocks(value)?,
        "ts" => shape.stamp = Some(number(value)?),
        "tsecr" => shape.echo = Some(number(value)?),
        "options" => shape.raw_options = Some(hex(value)?),
        "ecn" => shape.ecn = number(value)?,
        "from" => shape.from = Some(host(value)?),
        "to" => shape.to = Some(host(value)?),
        "port" => shape.port = Some(number(value)?),
        "to_port" => shape.to_port = Some(number(value)?),
        "offset" => damage.data_offset = Some(number(value)?),
        "ip_options" => damage.ip_options = hex(value)?,
        "fragment" => damage.fragment_offset = number(value)?,
        "cut" => damage.cut = Some(number(value)?),
        "vlan" => damage.vlans.push(number(value)?),
        "trailing" => damage.trailing = number(value)?,
        "station" => {
            let stations = [
                ("broadcast", Station::Broadcast),
                ("multicast", Station::Multicast),
                ("other", Station::Other),
            ];
            damage.station = named(&stations, value)?;
        }
        _ => return expected("a field of a segment", key),
    }
    Ok(())
}

fn shape_word(shape: &mut Shape, word: &str) -> Parsed<()> {
    match word {
        "sackok" => shape.sack_permitted = true,
        "!ts" => shape.is_unstamped = true,
        "bad_checksum" => shape.damage.checksum = Checksum::Wrong,
        "zero_checksum" => shape.damage.checksum = Checksum::Zero,
        "more_fragments" => shape.damage.more_fragments = true,
        _ => return expected("a property of a segment", word),
    }
    Ok(())
}

fn host(value: &str) -> Parsed<Host> {
    Ok(match value {
        "stack" => Host::Stack,
        "net_broadcast" => Host::NetBroadcast,
        addr => Host::At(number(addr)?),
    })
}

/// A segment that D should or should not send: flags, `+` and flags that must be among them, or `*`
/// for any; then terms.
fn pattern(text: &str) -> Parsed<Pattern> {
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    let mut pattern =
        Pattern { flags: FlagPattern::Among(Flags::NONE), push: None, terms: Vec::new() };
    if first != "*" {
        let all = flags(first.trim_start_matches('+'))?;
        let but_push = Flags::from_bits(all.bits() & !Flags::PSH.bits());
        pattern.push = all.contains(Flags::PSH).then_some(true);
        pattern.flags = match first.starts_with('+') {
            true => FlagPattern::Among(but_push),
            false => FlagPattern::Exactly(but_push),
        };
    }
    for word in words {
        if word == "!PSH" {
            pattern.push = Some(false);
        } else {
            pattern.terms.push(term(word)?);
        }
    }
    Ok(pattern)
}

fn term(word: &str) -> Parsed<Term> {
    if let Some(name) = word.strip_prefix('!') {
        return Ok(Term::Lacks(named(Field::NAMES, name)?));
    }
    let comparisons = [
        ("!=", Comparison::IsNot),
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("=", Comparison::Is),
    ];
    for (sign, comparison) in comparisons {
        if let Some((name, value)) = word.split_once(sign) {
            return Ok(match named(Field::NAMES, name)? {
                Field::Sack => Term::Sack(blocks(value)?),
                field if value == "all" => Term::Compare(field, comparison, Value::All),
                field => Term::Compare(field, comparison, Value::Number(number(value)?)),
            });
        }
    }
    Ok(Term::Has(named(Field::NAMES, word)?))
}

/// `101-201,301-401`.
fn blocks(value: &str) -> Parsed<Vec<(i64, i64)>> {
    let block = |text: &str| match text.split_once('-') {
        Some((left, right)) => Ok((number(left)?, number(right)?)),
        None => expected("a block such as `101-201`", text),
    };
    value.split(',').map(block).collect()
}

/// `3/4 mtu=1200 quote=1`.
fn icmp(text: &str) -> Parsed<Icmp> {
    let mut words = text.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let Some((kind, code)) = kind.split_once('/') else {
        return expected("an ICMP type and code such as `3/4`", kind);
    };
    let mut icmp = Icmp { kind: number(kind)?, code: number(code)?, mtu: 0, quote: 1, port: None };
    for word in words {
        match word.split_once('=') {
            Some(("mtu", value)) => icmp.mtu = number(value)?,
            Some(("quote", value)) => icmp.quote = number(value)?,
            Some(("port", value)) => icmp.port = Some(number(value)?),
            _ => return expected("mtu=N, quote=N or port=N", word),
        }
    }
    Ok(icmp)
}

fn duration(text: &str) -> Parsed<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let n: u64 = number(&text[..end])?;
    Ok(match &text[end..] {
        "us" => Duration::from_micros(n),
        "ms" => Duration::from_millis(n),
        "s" => Duration::from_secs(n),
        "m" => Duration::from_secs(60 * n),
        "h" => Duration::from_secs(3600 * n),
        _ => return expected("a time in us, ms, s, m or h", text),
    })
}

/// Bytes as pairs of hexadecimal digits.
fn hex(text: &str) -> Parsed<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex {
        return expected("pairs of hexadecimal digits", text);
    }
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|error| error.to_string());
    (0..text.len()).step_by(2).map(pair).collect()
}

fn number<T: FromStr>(text: &str) -> Parsed<T> {
    text.parse().or_else(|_| expected("a number or address that fits", text))
}

fn named<T: Copy>(names: &[(&str, T)], name: &str) -> Parsed<T> {
    match names.iter().find(|(known, _)| *known == name) {
        Some((_, value)) => Ok(*value),
        None => {
            let all: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
            expected(&format!("one of {}", all.join(", ")), name)
        }
    }
}

fn expected<T>(what: &str, found: &str) -> Parsed<T> {
    Err(format!("expected {what}, found `{found}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_with_its_facts_and_statements() {
        let script = parse(
            "# what it shows\ncovers MUST-1 A19\napp hand\nset tcp.nagle=false\n\
             kernel differs: it does not # indeed\n\nopen mss=1460 ts=7\n\
             repeat 2 {\n    > ACK|PSH len=5 ack=+2\n}\n< ACK ack<=6 !sack after 1ms within 2s\n",
        )
        .expect("a script");
        assert_eq!(script.covers, ["MUST-1", "A19"]);
        assert_eq!(script.app, App::Hand);
        assert_eq!(script.settings, [("tcp.nagle".to_owned(), "false".to_owned())]);
        assert_eq!(script.kernel_differs.as_deref(), Some("it does not"));
        let [open, repeat, expect] = &script.steps[..] else { panic!("{:?}", script.steps) };
        assert!(matches!(&open.action, Action::Open(s) if s.mss == Some(1460)));
        let Action::Repeat(2, inner) = &repeat.action else { panic!("{repeat:?}") };
        assert!(matches!(&inner[0].action, Action::Send(s) if s.ack == Some(Number::Further(2))));
        let Action::Expect(pattern, bounds) = &expect.action else { panic!("{expect:?}") };
        assert_eq!((pattern.terms.len(), expect.line), (2, 11));
        assert_eq!((bounds.after.as_millis(), bounds.within.as_millis()), (1, 2000));
    }

    #[test]
    fn a_complaint_says_the_line_and_what_was_expected() {
        for (text, line, words) in [
            ("open\n> SIN seq=1", 2, "one of FIN, SYN"),
            ("open\n\n< ACK ack=x", 3, "a number"),
            ("> ACK colour=red", 1, "a field of a segment, found `colour`"),
            ("wait 5", 1, "a time in us"),
            ("repeat 3 {\nopen", 1, "expected `}`"),
            ("}", 1, "a statement"),
            ("covers MUST-1", 1, "expected statements"),
            ("no ACK", 1, "no SEGMENT for TIME"),
            ("> SYN options=020", 1, "hexadecimal"),
            ("set tcp.nagle", 1, "a setting"),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text}");
            assert!(error.message.contains(words), "{text}: {error}");
        }
    }
}
