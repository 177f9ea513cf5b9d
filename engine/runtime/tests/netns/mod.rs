//! A test in a network namespace of its own: the test binary starts itself again, for that one test,
//! under `unshare --net`, and the namespace disappears with that process. Needs root, and fails
//! without it.

use std::env;
use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "BAREWIRE_TEST_NETNS";

/// Runs `body` in a fresh namespace. `test` is the full name of the calling test.
pub(crate) fn isolated(test: &str, body: impl FnOnce()) {
    if env::var(INSIDE).as_deref() == Ok(test) {
        return body();
    }
    let binary = env::current_exe().expect("a test knows its own binary");
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .output()
        .expect("unshare (util-linux) runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "in a new network namespace (this needs root):\n{text}");
    assert!(text.contains("1 passed"), "`{test}` is not the name of a test:\n{text}");
}

/// Runs one command line and returns what it printed.
pub(crate) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().expect("a command")).args(words).output();
    let output = output.unwrap_or_else(|e| panic!("{line}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
