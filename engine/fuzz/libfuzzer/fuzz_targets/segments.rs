//! libFuzzer runs `barewire_fuzz::segments`.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| barewire_fuzz::segments::run(bytes));
