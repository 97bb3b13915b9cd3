#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| images_fuzz::reference(bytes));
