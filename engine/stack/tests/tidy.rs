//! The architecture as a test: which folder may use which, where unsafe code may be, what the pure
//! stack must not touch, sizes, names, and that every counter counts. It reads the source of the
//! whole workspace as text and knows no more of Rust than comments, strings, braces and the place of
//! the unit tests. Each rule is also shown a text that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold the workspace.
const HOUSE: &[&str] = &["bench", "cli", "deploy", "ebpf", "engine"];

/// Lines of code of one file, tests, comments and empty lines not counted.
const FILE_LINES_MAX: usize = 600;

/// Lines of one function, from its name to its last brace.
const FUNCTION_LINES_MAX: usize = 100;

/// Lines above an unsafe block among which its reason must stand.
const SAFETY_LINES_MAX: usize = 12;

/// Where unsafe code may be. Requests of io_uring name memory by its address.
const UNSAFE_IN: &[&str] = &[
    "engine/runtime/src/xdp/",
    "engine/runtime/src/sys/",
    "ebpf/src/program.rs",
    "bench/src/versus/uring_server.rs",
];

/// What each crate may use of ours.
const CRATES: &[(&str, &str)] = &[
    ("engine/stack", ""),
    ("engine/api", "barewire-stack"),
    ("engine/fuzz", "barewire-api barewire-stack"),
    ("engine/fuzz/libfuzzer", "barewire-fuzz"),
    ("ebpf/steer", ""),
    ("ebpf", "barewire-steer"),
    ("engine/runtime", "barewire-api barewire-ebpf barewire-stack"),
    ("cli", "barewire-api barewire-steer"),
    ("bench", "barewire-api barewire-ebpf barewire-engine barewire-stack"),
];

/// What each module may use of the modules beside it, and of the crates below. A module that is not
/// here may use nothing.
const ARROWS: &[(&str, &str)] = &[
    // The stack. Time, counters and formats stand on nothing.
    ("stack::time", ""),
    ("stack::stats", ""),
    ("stack::wire", ""),
    ("stack::flow", "stack::wire"),
    ("stack::tcp", "stack::flow stack::stats stack::time stack::wire"),
    ("stack::device", "stack::time"),
    ("stack::script", "stack::time stack::wire"),
    ("stack::dice", ""),
    ("stack::impair", "stack::dice stack::time stack::wire"),
    ("stack::stack", "stack::device stack::flow stack::stats stack::tcp stack::time stack::wire"),
    (
        "stack::crowd",
        "stack::dice stack::flow stack::stack stack::stats stack::tcp stack::time stack::wire",
    ),
    (
        "stack::sim",
        "stack::device stack::dice stack::flow stack::impair stack::stack stack::stats stack::tcp \
         stack::time stack::wire",
    ),
    ("stack::bin", "stack::sim"),
    // The engine. Nothing below a worker calls upward; applications see connections only.
    ("runtime::sys", "stack::time"),
    ("runtime::xdp", "runtime::sys stack::device"),
    ("runtime::tap", "runtime::sys stack::time"),
    ("runtime::app", "api stack::flow stack::stack stack::tcp stack::time"),
    (
        "runtime::load",
        "api runtime::app stack::crowd stack::dice stack::flow stack::stack stack::stats \
         stack::tcp stack::time",
    ),
    (
        "runtime::worker",
        "api runtime::app runtime::load runtime::sys runtime::tap runtime::xdp stack",
    ),
    (
        "runtime::control",
        "api ebpf runtime::app runtime::engine runtime::load runtime::sys runtime::worker stack",
    ),
    (
        "runtime::engine",
        "api ebpf runtime::app runtime::control runtime::load runtime::sys runtime::tap \
         runtime::worker runtime::xdp stack",
    ),
    ("runtime::lib", "api runtime"),
    ("runtime::bin", "api runtime"),
];

/// What the stack must not know: clocks, threads, locks, randomness, files, sockets, printing.
const IMPURE: &[&str] = &[
    "std::time",
    "std::thread",
    "thread::spawn",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "TcpStream",
    "UdpSocket",
    "Mutex",
    "RwLock",
    "Atomic",
    "HashMap::new",
    "HashSet::new",
    "RandomState",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "libc::",
    "tracing::",
];

/// Words that say nothing about what is in a file.
const EMPTY_NAMES: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "manager", "handler", "wrapper"];

/// Marks of work that is not done; pieced together, so that this file does not hold them.
const UNDONE: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const UNDONE_MACROS: &[&str] = &["todo!", "unimplemented!", "dbg!"];

/// One file of Rust.
struct Source {
    /// From the root of the workspace.
    path: String,
    /// As it is.
    text: String,
    /// Without comments and without what is in strings; lines stay where they are.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Source { path: path.to_owned(), text: text.to_owned(), code: blank(text) }
    }

    /// The code without its unit tests, which come last; nothing for a file of tests.
    fn production(&self) -> &str {
        let is_test = self.path.contains("/tests/") || self.path.contains("/benches/");
        let end = if is_test { 0 } else { self.code.find("#[cfg(test)]").unwrap_or(usize::MAX) };
        &self.code[..end.min(self.code.len())]
    }

    /// Its crate and module in our words, such as `stack::tcp`.
    fn module(&self) -> Option<String> {
        let (folder, inside) = self.path.split_once("/src/")?;
        let top = inside.split('/').next()?.trim_end_matches(".rs");
        Some(format!("{}::{top}", folder.rsplit('/').next()?))
    }
}

/// All files of the house, from the root of the workspace.
fn files() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().expect("the workspace is two folders up");
    let mut folders: Vec<PathBuf> = HOUSE.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the house can be read") {
            let path = entry.expect("an entry can be read").path();
            let is_built = path.file_name().is_some_and(|name| name == "target");
            match path.is_dir() {
                true if is_built => {}
                true => folders.push(path),
                false => files.push(path.strip_prefix(&root).expect("it is below").to_owned()),
            }
        }
    }
    files.sort();
    files
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let rust = files().into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    let sources: Vec<Source> = rust
        .map(|path| {
            let text = fs::read_to_string(root.join(&path)).expect("source is text");
            Source::new(path.to_str().expect("names are text"), &text)
        })
        .collect();
    assert!(sources.len() > 50, "found the workspace");
    sources
}

/// Fails with every complaint of `rule`.
fn hold(rule: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Where `blank` is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    LineComment,
    /// So many deep: they nest.
    BlockComment(u32),
    /// A string that ends with a quote and so many `#`; the plain one knows escapes.
    Text {
        hashes: Option<usize>,
    },
}

/// Puts spaces in the place of comments and of what is in strings and characters.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut place = Place::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, len) = step(place, &chars[at..], at.checked_sub(1).map(|before| chars[before]));
        for &c in &chars[at..at + len] {
            let is_kept = c == '\n' || (place == Place::Code && next == Place::Code && len == 1);
            out.push(if is_kept { c } else { ' ' });
        }
        place = next;
        at += len;
    }
    out
}

/// Where the text goes on after its first few characters, and how many those are.
fn step(place: Place, rest: &[char], before: Option<char>) -> (Place, usize) {
    let starts = |with: &str| with.chars().enumerate().all(|(idx, c)| rest.get(idx) == Some(&c));
    let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    match place {
        Place::Code if starts("//") => (Place::LineComment, 2),
        Place::Code if starts("/*") => (Place::BlockComment(1), 2),
        Place::Code if starts("\"") => (Place::Text { hashes: None }, 1),
        Place::Code if starts("r") && !is_word => {
            let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
            match rest.get(1 + hashes) {
                Some('"') => (Place::Text { hashes: Some(hashes) }, 2 + hashes),
                _ => (Place::Code, 1),
            }
        }
        // A character, and no lifetime: 'x' or an escape.
        Place::Code if starts("'\\") => {
            let end = rest[3..].iter().position(|&c| c == '\'').expect("a character ends");
            (Place::Code, 4 + end)
        }
        Place::Code if starts("'") && rest.get(2) == Some(&'\'') => (Place::Code, 3),
        Place::Code => (Place::Code, 1),
        Place::LineComment if starts("\n") => (Place::Code, 1),
        Place::BlockComment(1) if starts("*/") => (Place::Code, 2),
        Place::BlockComment(depth) if starts("*/") => (Place::BlockComment(depth - 1), 2),
        Place::BlockComment(depth) if starts("/*") => (Place::BlockComment(depth + 1), 2),
        Place::Text { hashes: None } if starts("\\") => (place, rest.len().min(2)),
        Place::Text { hashes: None } if starts("\"") => (Place::Code, 1),
        Place::Text { hashes: Some(n) } if starts("\"") => {
            let is_end = rest.iter().skip(1).take(n).filter(|&&c| c == '#').count() == n;
            if is_end { (Place::Code, 1 + n) } else { (place, 1) }
        }
        place => (place, 1),
    }
}

/// Positions of `word` in `code` that are no part of a longer word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let opens = !word.starts_with(is_part) || !code[..at].ends_with(is_part);
        let closes = !word.ends_with(is_part) || !code[at + word.len()..].starts_with(is_part);
        opens && closes
    })
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The modules and crates that `source` names in its production code, in our words.
fn uses(source: &Source) -> Vec<(usize, String)> {
    let code = source.production();
    let own = source.module().unwrap_or_default();
    let own = own.split("::").next().unwrap_or_default().to_owned();
    let mut uses = Vec::new();
    for (root, name) in [
        ("crate", own.as_str()),
        ("barewire_stack", "stack"),
        ("barewire_api", "api"),
        ("barewire_engine", "runtime"),
        ("barewire_ebpf", "ebpf"),
        ("barewire_steer", "steer"),
    ] {
        for at in words(code, root) {
            let Some(inside) = code[at + root.len()..].strip_prefix("::") else { continue };
            for module in first_names(inside) {
                uses.push((line_of(code, at), format!("{name}::{module}")));
            }
        }
    }
    uses
}

/// The first name of a path, or of each path between braces.
fn first_names(path: &str) -> Vec<&str> {
    let name = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let Some(group) = path.strip_prefix('{') else {
        return vec![&path[..name(path).unwrap_or(path.len())]];
    };
    let mut names = Vec::new();
    let mut depth = 0;
    let mut is_first = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            _ if is_first && !c.is_whitespace() => {
                is_first = false;
                names.push(&group[at..at + name(&group[at..]).unwrap_or(group.len() - at)]);
            }
            _ => {}
        }
    }
    names
}

/// Rule: a module uses only what its arrows point to.
fn follows_arrows(source: &Source) -> Vec<String> {
    let Some(module) = source.module() else { return Vec::new() };
    let is_ours = ["stack::", "runtime::"].iter().any(|name| module.starts_with(name));
    if !is_ours || module == "stack::lib" {
        return Vec::new();
    }
    let allowed = ARROWS.iter().find(|(from, _)| *from == module).map_or("", |(_, to)| to);
    let may = |used: &str| {
        let whole = used.split("::").next().unwrap_or_default();
        used == module || allowed.split_whitespace().any(|to| to == used || to == whole)
    };
    let own = uses(source).into_iter().filter(|(_, used)| !may(used));
    own.map(|(line, used)| {
        let path = &source.path;
        format!("{path}:{line}: expected {module} to use only [{allowed}], found {used}")
    })
    .collect()
}

#[test]
fn modules_use_only_what_their_arrows_point_to() {
    hold(follows_arrows);
    let wrong = Source::new("engine/stack/src/wire/arp.rs", "use crate::{tcp::Seq, wire::Mac};");
    assert_eq!(follows_arrows(&wrong).len(), 1, "wire must not know tcp");
    let wrong = Source::new("engine/runtime/src/xdp/ring.rs", "use barewire_stack::tcp::Seq;");
    assert_eq!(follows_arrows(&wrong).len(), 1, "xdp must not know tcp");
    let new = Source::new("engine/runtime/src/plugin.rs", "use crate::sys::clock;");
    assert_eq!(follows_arrows(&new).len(), 1, "a new module has no arrows");
    let right =
        Source::new("engine/stack/src/tcp/seq.rs", "use crate::time::Instant; // crate::stack");
    assert_eq!(follows_arrows(&right), [""; 0]);
}

/// Rule: a manifest names only those of our crates that its arrow points to.
fn depends_as_drawn(folder: &str, manifest: &str, allowed: &str) -> Vec<String> {
    let start = manifest.find("\n[dependencies]").map_or(manifest.len(), |at| at + 15);
    let section = manifest[start..].split("\n[").next().unwrap_or_default();
    let ours = section.lines().filter(|line| line.starts_with("barewire-"));
    let names = ours.map(|line| line.split(['.', ' ', '=']).next().unwrap_or_default());
    let wrong = names.filter(|name| !allowed.split_whitespace().any(|to| to == *name));
    wrong.map(|name| format!("{folder}: expected only [{allowed}], found {name}")).collect()
}

#[test]
fn crates_depend_as_drawn() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut complaints = Vec::new();
    for path in files().iter().filter(|path| path.ends_with("Cargo.toml")) {
        let folder = path.parent().and_then(Path::to_str).expect("a folder with a name");
        let Some((_, allowed)) = CRATES.iter().find(|(crate_folder, _)| *crate_folder == folder)
        else {
            complaints.push(format!("{folder}: expected an arrow for this crate, found none"));
            continue;
        };
        let manifest = fs::read_to_string(root.join(path)).expect("a manifest is text");
        complaints.extend(depends_as_drawn(folder, &manifest, allowed));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    let wrong =
        "[package]\n\n[dependencies]\nbarewire-api.workspace = true\nlibc.workspace = true\n";
    assert_eq!(depends_as_drawn("engine/stack", wrong, "").len(), 1);
    assert_eq!(depends_as_drawn("cli", wrong, "barewire-api"), [""; 0]);
}

/// Rule: the stack moves frames as tokens and knows no device that does.
fn knows_no_device(source: &Source) -> Vec<String> {
    if !source.path.starts_with("engine/stack/src/stack/") {
        return Vec::new();
    }
    let code = source.production();
    let found = words(code, "Device").map(|at| line_of(code, at));
    found.map(|line| format!("{}:{line}: expected no device here", source.path)).collect()
}

#[test]
fn the_stack_knows_frames_and_no_device() {
    hold(knows_no_device);
    let wrong = Source::new("engine/stack/src/stack/mod.rs", "use crate::device::{Device, Frame};");
    assert_eq!(knows_no_device(&wrong).len(), 1);
}

/// Rule: unsafe code only where it may be, and there with its reason.
fn keeps_unsafe_in_place(source: &Source) -> Vec<String> {
    let Source { path, text, code } = source;
    let may = UNSAFE_IN.iter().any(|place| path.starts_with(place));
    let lines: Vec<&str> = text.lines().collect();
    let mut complaints = Vec::new();
    for at in words(code, "unsafe") {
        let line = line_of(code, at);
        let rest = code[at + "unsafe".len()..].trim_start();
        let above = &lines[line.saturating_sub(SAFETY_LINES_MAX + 1)..line];
        let is_reasoned = above.iter().any(|line| line.contains("SAFETY:"));
        if !may {
            complaints.push(format!("{path}:{line}: expected no unsafe code here"));
        } else if (rest.starts_with('{') || rest.starts_with("impl")) && !is_reasoned {
            complaints.push(format!("{path}:{line}: expected `// SAFETY:` above, found none"));
        }
    }
    complaints
}

#[test]
fn unsafe_code_is_in_its_place_and_has_its_reason() {
    hold(keeps_unsafe_in_place);
    let block = "fn f() {\n    // SAFETY: it is ours.\n    unsafe { g() }\n}\n";
    assert_eq!(keeps_unsafe_in_place(&Source::new("cli/src/main.rs", block)).len(), 1);
    let place = "engine/runtime/src/sys/mmap.rs";
    assert_eq!(keeps_unsafe_in_place(&Source::new(place, block)), [""; 0]);
    let bare = block.replace("SAFETY", "Surely");
    assert_eq!(keeps_unsafe_in_place(&Source::new(place, &bare)).len(), 1);
    let comment = Source::new("cli/src/main.rs", "// unsafe\nconst A: &str = \"unsafe\";\n");
    assert_eq!(keeps_unsafe_in_place(&comment), [""; 0]);
}

/// Rule: each counter of the list in `stats` is named by code elsewhere that can count it.
fn counts_everything(stats: &Source, others: &[Source]) -> Vec<String> {
    let start = stats.text.find("\ncounters! {").expect("stats.rs holds the list of counters");
    let list = stats.text[start + 1..].lines().skip(1).take_while(|line| !line.starts_with('}'));
    let counters: Vec<&str> = list.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(!counters.is_empty(), "the list of counters is not empty");
    let is_counted = |counter: &&str| {
        let name = format!("Counter::{counter}");
        others.iter().any(|source| words(source.production(), &name).next().is_some())
    };
    let idle = counters.into_iter().filter(|counter| !is_counted(counter));
    idle.map(|counter| format!("{}: nothing counts {counter}", stats.path)).collect()
}

#[test]
fn every_counter_is_counted() {
    let is_stats = |source: &Source| source.path == "engine/stack/src/stats.rs";
    let is_engine = |source: &Source| source.path.starts_with("engine/");
    let (stats, others): (Vec<Source>, Vec<Source>) = sources().into_iter().partition(is_stats);
    let others: Vec<Source> = others.into_iter().filter(is_engine).collect();
    assert_eq!(counts_everything(&stats[0], &others), [""; 0]);

    let list = "//! List.\ncounters! {\n    RxFrames \"rx_frames\";\n    Idle \"idle\";\n}\n";
    let stats = Source::new("engine/stack/src/stats.rs", list);
    let other = Source::new("engine/stack/src/a.rs", "c.inc(Counter::RxFrames); // Counter::Idle");
    assert_eq!(counts_everything(&stats, &[other]).len(), 1);
}

/// Rule: no file is so long that nobody reads it.
fn is_short(source: &Source) -> Vec<String> {
    let n = source.production().lines().filter(|line| !line.trim().is_empty()).count();
    if n <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{}: expected at most {FILE_LINES_MAX} lines of code, found {n}", source.path)]
}

#[test]
fn files_are_short() {
    hold(is_short);
    let line = "let a = 1;\n";
    let long = Source::new("cli/src/a.rs", &line.repeat(FILE_LINES_MAX + 1));
    assert_eq!(is_short(&long).len(), 1);
    let tested = format!("{line}// a\n\n#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(700));
    assert_eq!(is_short(&Source::new("cli/src/a.rs", &tested)), [""; 0]);
}

/// Rule: no function is so long that it does not fit a screen or two.
fn has_short_functions(source: &Source) -> Vec<String> {
    let code = &source.code;
    let mut complaints = Vec::new();
    for at in words(code, "fn") {
        let Some(end) = end_of_function(&code[at..]) else { continue };
        let n = code[at..at + end].matches('\n').count() + 1;
        if n > FUNCTION_LINES_MAX {
            let (path, line) = (&source.path, line_of(code, at));
            complaints.push(format!(
                "{path}:{line}: expected a function of at most {FUNCTION_LINES_MAX} lines, found {n}"
            ));
        }
    }
    complaints
}

/// Where the body of a function ends, counted from its `fn`; nothing when it has no body.
fn end_of_function(code: &str) -> Option<usize> {
    let mut brackets = 0;
    let mut braces = 0;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if brackets == 0 && braces == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(at),
            '}' => braces -= 1,
            _ => {}
        }
        if brackets < 0 || braces < 0 {
            return None;
        }
    }
    None
}

#[test]
fn functions_are_short() {
    hold(has_short_functions);
    let body = "    a();\n".repeat(FUNCTION_LINES_MAX);
    let long = format!("fn f(a: [u8; 4]) -> u8 {{\n{body}}}\n");
    assert_eq!(has_short_functions(&Source::new("cli/src/a.rs", &long)).len(), 1);
    let short = format!("fn f();\nfn g() {{\n}}\nconst A: u8 = {{\n{body}}};\n");
    assert_eq!(has_short_functions(&Source::new("cli/src/a.rs", &short)), [""; 0]);
}

/// Rule: what is in the tree is done.
fn is_done(source: &Source) -> Vec<String> {
    let Source { path, text, code } = source;
    let marks =
        UNDONE.iter().flat_map(|mark| words(text, mark).map(|at| (line_of(text, at), *mark)));
    let calls = UNDONE_MACROS
        .iter()
        .flat_map(|call| words(code, call).map(|at| (line_of(code, at), *call)));
    marks.chain(calls).map(|(line, found)| format!("{path}:{line}: found {found}")).collect()
}

#[test]
fn nothing_is_left_undone() {
    hold(is_done);
    let wrong = format!("// {}: later\nfn f() {{ todo!() }}\n", UNDONE[0]);
    assert_eq!(is_done(&Source::new("cli/src/a.rs", &wrong)).len(), 2);
    let right = Source::new("cli/src/a.rs", "const A: &str = \"todo!\";\n");
    assert_eq!(is_done(&right), [""; 0]);
}

/// Rule: a file is named after what it holds.
fn is_named(path: &Path) -> Vec<String> {
    let parts = path.components().filter_map(|part| part.as_os_str().to_str());
    let empty = parts.filter(|part| {
        let name = part.split('.').next().unwrap_or_default();
        name.split(['_', '-']).any(|word| EMPTY_NAMES.contains(&word))
    });
    empty.map(|part| format!("{}: '{part}' does not say what it is", path.display())).collect()
}

#[test]
fn files_are_named_after_what_they_hold() {
    let complaints: Vec<String> = files().iter().flat_map(|path| is_named(path)).collect();
    assert_eq!(complaints, [""; 0]);
    assert_eq!(is_named(Path::new("cli/src/util.rs")).len(), 1);
    assert_eq!(is_named(Path::new("engine/common/src/tcp_helpers.rs")).len(), 2);
    assert_eq!(is_named(Path::new("engine/stack/src/tcp/utility_curve.rs")), [""; 0]);
}

/// Rule: a file says first what it is.
fn opens_with_its_purpose(source: &Source) -> Vec<String> {
    if source.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![format!("{}:1: expected `//!` and what this file is", source.path)]
}

#[test]
fn files_open_with_their_purpose() {
    hold(opens_with_its_purpose);
    assert_eq!(opens_with_its_purpose(&Source::new("cli/src/a.rs", "use std::io;\n")).len(), 1);
}

/// Rule: the stack is a function of its arguments; its programs, which drive it, are not.
fn is_pure(source: &Source) -> Vec<String> {
    let is_program = source.path.starts_with("engine/stack/src/bin/");
    if is_program || !source.path.starts_with("engine/stack/src/") {
        return Vec::new();
    }
    let code = source.production();
    let found = IMPURE.iter().flat_map(|impure| {
        let is_atomic = *impure == "Atomic";
        // The atomic types begin with this word; all others are whole ones.
        let whole: Vec<usize> = words(code, impure).collect();
        let starts = code.match_indices("Atomic").map(|(at, _)| at);
        let places = if is_atomic { starts.collect() } else { whole };
        places.into_iter().map(move |at| (line_of(code, at), *impure))
    });
    let path = &source.path;
    found
        .map(|(line, what)| format!("{path}:{line}: expected a pure stack, found {what}"))
        .collect()
}

#[test]
fn the_stack_is_pure() {
    hold(is_pure);
    let path = "engine/stack/src/tcp/mod.rs";
    for wrong in
        ["use std::time::Instant;", "static A: AtomicU64 = z();", "println!();", "HashMap::new()"]
    {
        assert_eq!(is_pure(&Source::new(path, wrong)).len(), 1, "{wrong}");
    }
    let right =
        "use crate::time::Instant; // std::time\n#[cfg(test)]\nmod tests { use std::time; }\n";
    assert_eq!(is_pure(&Source::new(path, right)), [""; 0]);
    assert_eq!(is_pure(&Source::new("engine/runtime/src/sys/clock.rs", "use std::time;")), [""; 0]);
    assert_eq!(is_pure(&Source::new("engine/stack/src/bin/sim.rs", "println!();")), [""; 0]);
    assert_eq!(is_pure(&Source::new("engine/stack/src/sim/world.rs", "println!();")).len(), 1);
}

#[test]
fn comments_strings_and_characters_are_blanked() {
    let text = "a /* b /* c */ d */ e // f\n'g' 'h \"i \\\" j\" r#\"k\"l\"# '\\'' m";
    let code = blank(text);
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["a", "e", "'h", "m"]);
    assert_eq!(code.matches('\n').count(), 1);
}
