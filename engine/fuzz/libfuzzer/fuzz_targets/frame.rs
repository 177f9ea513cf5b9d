//! libFuzzer runs `barewire_fuzz::frame`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| barewire_fuzz::frame::run(bytes));
