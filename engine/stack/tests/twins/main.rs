//! The negative twins of the scripts: the stack is built with one planted fault at a time, and the
//! script that is there for it must fail; without a fault it must pass. This takes some minutes of
//! building, so that it runs only when asked: `cargo test -p barewire-stack --test twins`.

mod fault;

use fault::Fault;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

/// A workspace of one crate, built in a folder of its own.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    /// Locked as long as the copy is in use.
    _turn: File,
}

impl Copy {
    fn make() -> Copy {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("twins");
        let (tree, target) = (place.join("tree"), place.join("target"));
        fs::create_dir_all(&place).expect("makes a folder");
        let turn = File::create(place.join("lock")).expect("makes a lock");
        turn.lock().expect("waits for its turn");
        let _ = fs::remove_dir_all(&tree);
        let root = stack().join("../..");
        copy_folder(stack(), &tree.join("engine/stack"));
        fs::copy(root.join("Cargo.lock"), tree.join("Cargo.lock")).expect("copies the lock file");
        let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("reads the manifest");
        let manifest = with_one_member(&manifest).expect("the manifest lists its members");
        fs::write(tree.join("Cargo.toml"), manifest).expect("writes the manifest");
        Copy { tree, target, _turn: turn }
    }

    /// Runs the scripts, or one of them.
    fn run(&self, script: Option<&str>) -> Output {
        let mut command = Command::new(env!("CARGO"));
        command.args(["test", "--offline", "--package", "barewire-stack", "--test", "conformance"]);
        if let Some(script) = script {
            command.args(["--", "--exact", script]);
        }
        command
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env_remove("RUSTFLAGS");
        command.output().expect("cargo runs")
    }

    /// Plants the fault, asks its script, and takes the fault out again; an error when nobody
    /// noticed.
    fn try_fault(&self, fault: &Fault) -> Result<(), String> {
        let path = self.tree.join("engine/stack").join(&fault.file);
        let sound = fs::read_to_string(&path)
            .map_err(|error| format!("{}.fault: {}: {error}", fault.name, fault.file))?;
        fs::write(&path, fault.plant(&sound)?).expect("writes the fault");
        let output = self.run(Some(&fault.script));
        fs::write(&path, sound).expect("takes the fault out");
        let out = String::from_utf8_lossy(&output.stdout);
        if out.contains(&format!("test {} ... FAILED", fault.script)) {
            return Ok(());
        }
        let errors = String::from_utf8_lossy(&output.stderr);
        let errors: Vec<&str> = errors.lines().filter(|line| line.starts_with("error")).collect();
        Err(format!(
            "{}.fault: expected that {} fails, found {}\n{}",
            fault.name,
            fault.script,
            if output.status.success() { "that it passes" } else { "no such result" },
            errors.join("\n")
        ))
    }
}

fn stack() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The manifest of the workspace with this crate as its only member.
fn with_one_member(manifest: &str) -> Option<String> {
    let (before, rest) = manifest.split_once("members = [")?;
    let (_, after) = rest.split_once(']')?;
    Some(format!("{before}members = [\"engine/stack\"]{after}"))
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes a folder");
    for entry in fs::read_dir(from).expect("reads a folder") {
        let entry = entry.expect("an entry");
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        let is_built = ["target", "fuzz"].iter().any(|name| entry.file_name() == *name);
        match path.is_dir() {
            true if is_built => {}
            true => copy_folder(&path, &copy),
            false => {
                fs::copy(&path, &copy).expect("copies a file");
            }
        }
    }
}

#[test]
fn every_planted_fault_is_caught() {
    let faults = fault::all(stack());
    let copy = Copy::make();
    let sound = copy.run(None);
    let [out, errors] = [&sound.stdout, &sound.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(sound.status.success(), "expected that the sound stack passes:\n{out}\n{errors}");
    let mut complaints = Vec::new();
    for fault in &faults {
        let begun = Instant::now();
        let result = copy.try_fault(fault);
        let verdict = if result.is_ok() { "caught by" } else { "NOT caught by" };
        let seconds = begun.elapsed().as_secs();
        println!("{} {verdict} {} ({seconds} s)", fault.name, fault.script);
        complaints.extend(result.err());
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    println!("{} faults, each caught", faults.len());
}

#[test]
fn a_fault_must_fit_the_source_exactly_once() {
    let text = "# why\nfile src/a.rs\ncaught by b\n--- was\n    x();\n--- is\n    y();\n";
    let fault = Fault::parse("a", text).expect("a fault");
    assert_eq!(fault.plant("{\n    x();\n}").as_deref(), Ok("{\n    y();\n}"));
    assert!(fault.plant("{\n    z();\n}").is_err_and(|error| error.contains("found it 0 times")));
    assert!(fault.plant("    x();\n    x();").is_err_and(|error| error.contains("2 times")));
    assert!(Fault::parse("a", "file src/a.rs\n--- was\n--- is\n").is_err());
}
