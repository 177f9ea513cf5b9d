//! libFuzzer runs `barewire_fuzz::options`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| barewire_fuzz::options::run(bytes));
