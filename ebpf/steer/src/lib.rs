//! The steering XDP program as an object file, and the contract for its maps. This crate compiles
//! the C beside this file, describes what is in its maps and names the ways to attach it; it loads
//! nothing and links no C, so that both loaders share it: `barewire-ebpf` (libbpf, for the engine) and the CLI (aya).

pub mod abi;
pub mod attach;

/// The compiled `steer.bpf.c`: an ELF object for the BPF target with BTF. The program in it is
/// [`abi::PROGRAM`], its maps are [`abi::MAPS`].
pub static OBJECT: &[u8] = &ALIGNED.0;

/// ELF readers cast the headers in place, so the object starts where a header may.
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);

static ALIGNED: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/steer.bpf.o")));
