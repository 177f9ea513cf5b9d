//! libFuzzer runs `barewire_fuzz::config`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| barewire_fuzz::config::run(bytes));
