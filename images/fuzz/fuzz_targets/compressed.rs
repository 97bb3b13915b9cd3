#![no_main]

#[path = "../checks.rs"]
#[allow(dead_code, reason = "each target needs a part of this")]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::compressed(bytes));
