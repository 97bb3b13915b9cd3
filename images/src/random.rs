//! Random numbers from the kernel, for names that must not collide and for jitter.

use std::hash::{BuildHasher as _, RandomState};

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns 64 random bits.
pub(crate) fn number() -> u64 {
    let mut bytes = [0; 8];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(count) if count == bytes.len() => u64::from_ne_bytes(bytes),
        // Older than Linux 3.17, or interrupted: the standard library's seed, told apart by process.
        _ => RandomState::new().hash_one(std::process::id()),
    }
}
