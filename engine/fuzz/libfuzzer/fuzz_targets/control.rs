//! libFuzzer runs `barewire_fuzz::control`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| barewire_fuzz::control::run(bytes));
