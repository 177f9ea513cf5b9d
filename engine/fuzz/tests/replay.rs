//! Runs every target over its corpus. It finds nothing new; it keeps what was found from coming back
//! and the targets from rotting.

use barewire_fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of one input, and of all together: a corpus is a few small examples, not a hunt's store.
const INPUT_BYTES_MAX: u64 = 4 << 10;
const CORPORA_BYTES_MAX: u64 = 300 << 10;

/// Few inputs would mean that a corpus was lost.
const INPUTS_MIN: usize = 10;

fn corpora() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_input_of_every_corpus_runs() {
    for (name, target) in TARGETS {
        let inputs = entries(&corpora().join(name));
        assert!(inputs.len() >= INPUTS_MIN, "{name}: {} inputs", inputs.len());
        for path in inputs {
            let bytes = fs::read(&path).expect("an input can be read");
            // A panic says what is wrong, and the captured output of the test on which input.
            println!("{}", path.display());
            target(&bytes);
        }
    }
}

#[test]
fn corpora_are_small_and_each_belongs_to_a_target() {
    let mut total = 0;
    for folder in entries(&corpora()) {
        let is_target = TARGETS.iter().any(|(name, _)| folder.ends_with(name));
        assert!(is_target, "{}: no target reads it", folder.display());
        for path in entries(&folder) {
            let len = fs::metadata(&path).expect("an input").len();
            assert!(len <= INPUT_BYTES_MAX, "{}: {len} bytes", path.display());
            total += len;
        }
    }
    assert!(total <= CORPORA_BYTES_MAX, "{total} bytes in all corpora");
}

#[test]
fn every_target_has_its_libfuzzer_program() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer/fuzz_targets");
    let programs: Vec<String> = entries(&folder)
        .iter()
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let mut names: Vec<&str> = TARGETS.iter().map(|&(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(programs, names);
}
