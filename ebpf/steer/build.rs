//! Compiles `src/steer.bpf.c` with clang into an object for the BPF target. libbpf-cargo brings the
//! BPF headers and strips the paths of this machine from the object; it is a build dependency only,
//! so no C reaches whoever links this crate.

use std::env;
use std::path::Path;

use libbpf_cargo::SkeletonBuilder;

fn main() {
    let source = "src/steer.bpf.c";
    for input in [source, "src/abi.h", "src/parse.h"] {
        println!("cargo:rerun-if-changed={input}");
    }
    let out_dir = env::var("OUT_DIR").expect("cargo sets OUT_DIR for build scripts");
    let object = Path::new(&out_dir).join("steer.bpf.o");
    let compiled = SkeletonBuilder::new()
        .source(source)
        .obj(object)
        .clang_args(["-Wall", "-Wextra", "-Werror", "-idirafter", &arch_headers()])
        .build();
    if let Err(error) = compiled {
        panic!("{source} does not compile; it needs clang and the kernel headers: {error:#}");
    }
}

/// Where Debian keeps the `asm/` part of the kernel headers. clang searches it for the host's own
/// target only, and the BPF target is not it; elsewhere the folder does not exist and is ignored.
fn arch_headers() -> String {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets the target architecture");
    format!("/usr/include/{arch}-linux-gnu")
}
