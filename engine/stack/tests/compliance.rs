//! `COMPLIANCE.md` is true: every test and file that it names exists, every MUST of RFC 9293 is in
//! it once, and few are not met. Whether a test shows what it is said to show is for its reader; a
//! script, at least, must say so itself. Each rule is also shown a text that breaks it.

use std::fs;
use std::path::{Path, PathBuf};

const TABLE: &str = include_str!("../COMPLIANCE.md");

/// The requirements of RFC 9293 appendix B.
const MUSTS: std::ops::RangeInclusive<u32> = 1..=69;

/// Requirements that may not be met.
const DEVIATIONS_MAX: usize = 5;

/// A sentence has so many bytes at least.
const SENTENCE_BYTES_MIN: usize = 40;

/// One row of a table.
#[derive(Debug)]
struct Row<'a> {
    id: &'a str,
    place: &'a str,
    proof: &'a str,
}

impl Row<'_> {
    fn deviates(&self) -> bool {
        self.proof.starts_with("Deviates")
    }

    /// The number of a MUST.
    fn must(&self) -> Option<u32> {
        self.id.strip_prefix("MUST-")?.parse().ok()
    }
}

fn rows(table: &str) -> Vec<Row<'_>> {
    let cells = table.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [id, _, place, proof, ..] = cells[..] else { return None };
        Some(Row { id, place, proof })
    });
    cells.filter(|row| row.id != "Id" && !row.id.starts_with("---")).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn stack() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file by its path in the tests or the source of the stack, or from the root.
fn file(path: &str) -> Option<PathBuf> {
    let places = [stack().join("tests"), stack().join("src"), stack().join("../..")];
    places.iter().map(|place| place.join(path)).find(|path| path.is_file())
}

/// Rule: what a row names exists, and a row without a proof says why.
fn is_shown(row: &Row<'_>) -> Vec<String> {
    let id = row.id;
    let mut complaints = Vec::new();
    let places: Vec<&str> = quoted(row.place).collect();
    if places.is_empty() || places.iter().any(|place| file(place).is_none()) {
        complaints.push(format!("{id}: expected a file, found {}", row.place));
    }
    let proofs: Vec<&str> = quoted(row.proof)
        .filter(|proof| proof.contains("::") || proof.ends_with(".script"))
        .collect();
    if proofs.is_empty() && !row.deviates() {
        complaints.push(format!("{id}: expected a test, found {}", row.proof));
    }
    if row.deviates() && row.proof.len() < SENTENCE_BYTES_MIN {
        complaints.push(format!("{id}: expected a sentence that says why, found {}", row.proof));
    }
    let missing = proofs.into_iter().filter_map(|proof| {
        let is_there = match proof.split_once("::") {
            Some((path, test)) => has_test(path, test),
            None => says_so(row, proof),
        };
        (!is_there).then(|| format!("{id}: expected that this test exists and covers it: {proof}"))
    });
    complaints.extend(missing);
    complaints
}

fn has_test(path: &str, test: &str) -> bool {
    let text = file(path).and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    text.contains(&format!("fn {test}("))
}

/// The script exists; one that is said to show a MUST or SHOULD says the same.
fn says_so(row: &Row<'_>, script: &str) -> bool {
    let path = stack().join("tests/conformance/scripts").join(script);
    let Ok(text) = fs::read_to_string(path) else { return false };
    let mut covered = text
        .lines()
        .filter_map(|line| line.strip_prefix("covers "))
        .flat_map(str::split_whitespace);
    row.must().is_none() || row.deviates() || covered.any(|id| id == row.id)
}

/// Rule: every MUST is there, once, and few are not met.
fn is_complete(rows: &[Row<'_>]) -> Vec<String> {
    let count = |number| rows.iter().filter(|row| row.must() == Some(number)).count();
    let odd = MUSTS.filter(|&number| count(number) != 1);
    let mut complaints: Vec<String> = odd
        .map(|number| format!("MUST-{number}: expected one row, found {}", count(number)))
        .collect();
    let unknown = rows.iter().filter(|row| row.must().is_some_and(|must| !MUSTS.contains(&must)));
    complaints.extend(unknown.map(|row| format!("{}: there is no such requirement", row.id)));
    let deviations = rows.iter().filter(|row| row.must().is_some() && row.deviates()).count();
    if deviations > DEVIATIONS_MAX {
        complaints
            .push(format!("expected {DEVIATIONS_MAX} deviations at most, found {deviations}"));
    }
    complaints
}

#[test]
fn every_row_names_tests_that_exist() {
    let complaints: Vec<String> = rows(TABLE).iter().flat_map(is_shown).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    for (line, n_complaints) in [
        ("| MUST-1 | a | `tcp/input.rs` | `window_is_unsigned.script` |", 0),
        ("| MUST-1 | a | `tcp/input.rs` | `no_such.script` |", 1),
        ("| MUST-2 | a | `tcp/input.rs` | `window_is_unsigned.script` |", 1),
        ("| RFC 1 | a | `tcp/input.rs` | `window_is_unsigned.script` |", 0),
        ("| MUST-1 | a | `tcp/no.rs` | `window_is_unsigned.script` |", 1),
        ("| MUST-1 | a | `tcp/input.rs` | `it/send.rs::no_such_test` |", 1),
        ("| MUST-1 | a | `tcp/input.rs` | `it/no.rs::nagle` |", 1),
        ("| MUST-1 | a | `tcp/input.rs` | believe me |", 1),
        ("| MUST-1 | a | `tcp/input.rs` | Deviates: no. |", 1),
    ] {
        let complaints: Vec<String> = rows(line).iter().flat_map(is_shown).collect();
        assert_eq!(complaints.len(), n_complaints, "{line}: {complaints:?}");
    }
}

#[test]
fn every_must_has_one_row_and_few_deviate() {
    assert_eq!(is_complete(&rows(TABLE)), [""; 0]);
    let without = TABLE.replace("| MUST-7 |", "| MUST-70 |");
    assert_eq!(is_complete(&rows(&without)).len(), 2);
    let twice = format!("{TABLE}\n| MUST-7 | a | `b` | `c` |\n");
    assert_eq!(is_complete(&rows(&twice)).len(), 1);
    let deviating = TABLE.replace(".rs` | `", ".rs` | Deviates: `");
    assert_eq!(is_complete(&rows(&deviating)).len(), 1);
}

/// What a script says it covers is in the table.
#[test]
fn what_scripts_cover_is_named_in_the_table() {
    let table = rows(TABLE);
    let mut complaints = Vec::new();
    let folder = stack().join("tests/conformance/scripts");
    for entry in fs::read_dir(folder).expect("the folder of scripts can be read") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = fs::read_to_string(&path).expect("a script is text");
        let covers = text.lines().filter_map(|line| line.strip_prefix("covers "));
        for id in covers.flat_map(str::split_whitespace).filter(|id| id.contains('-')) {
            let row = table.iter().find(|row| row.id == id);
            if !id.starts_with("MAY") && !row.is_some_and(|row| row.proof.contains(&name)) {
                complaints.push(format!("{id}: expected {name} in its row"));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
