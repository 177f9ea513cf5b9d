//! Tells the program what compiled it: instructions are compared only between equals.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let of = |name: &str| env::var(name).unwrap_or_default();
    let rustc = Command::new(of("RUSTC")).arg("--version").output().expect("cargo names its rustc");
    let rustc = String::from_utf8_lossy(&rustc.stdout);
    println!("cargo:rustc-env=BENCH_RUSTC={}", rustc.trim());
    println!("cargo:rustc-env=BENCH_TARGET={}", of("TARGET"));
    // What Cargo.toml says is under version control; what overrides it is not.
    let mut flags = vec![format!("opt-level={}", of("OPT_LEVEL"))];
    for name in ["LTO", "CODEGEN_UNITS", "OVERFLOW_CHECKS"] {
        let name = format!("CARGO_PROFILE_RELEASE_{name}");
        println!("cargo:rerun-if-env-changed={name}");
        flags.extend(env::var(&name).map(|value| format!("{name}={value}")));
    }
    let rustflags = of("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " ");
    flags.extend((!rustflags.is_empty()).then_some(rustflags));
    println!("cargo:rustc-env=BENCH_FLAGS={}", flags.join(" "));
}
