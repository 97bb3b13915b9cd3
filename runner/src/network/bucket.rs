//! A bandwidth cap: bytes per second, with a little saved up.

use std::time::{Duration, Instant};

/// What may be saved up is what comes in within this time: short enough that a cap is one, long enough for few wakings.
const SAVED: Duration = Duration::from_millis(50);
/// At least this much can be saved up: a packet of full length.
const SAVED_BYTES_MIN: u64 = 64 << 10;

/// Bytes that may pass now.
#[derive(Debug)]
pub struct Bucket {
    rate: Option<u64>,
    bytes: u64,
    filled: Instant,
}

impl Bucket {
    /// One that lets `rate` bytes a second pass; `None`: all.
    pub fn new(rate: Option<u64>, now: Instant) -> Self {
        Self { rate, bytes: rate.map_or(0, saved), filled: now }
    }

    /// How many bytes may pass now.
    pub fn available(&mut self, now: Instant) -> u64 {
        let Some(rate) = self.rate else { return u64::MAX };
        let nanos = now.saturating_duration_since(self.filled).as_nanos();
        let fresh = (u128::from(rate) * nanos / 1_000_000_000) as u64;
        // What is less than a byte stays in the clock.
        let counted = u128::from(fresh) * 1_000_000_000 / u128::from(rate.max(1));
        self.filled += Duration::from_nanos(u64::try_from(counted).unwrap_or(u64::MAX));
        self.bytes = self.bytes.saturating_add(fresh).min(saved(rate));
        self.bytes
    }

    /// Takes bytes that have passed.
    pub fn take(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// How long until `bytes`, or as many as can be saved up, may pass.
    pub fn wait(&self, bytes: u64) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        let missing = bytes.min(saved(rate)).saturating_sub(self.bytes);
        Duration::from_nanos((u128::from(missing) * 1_000_000_000 / u128::from(rate.max(1))) as u64)
    }
}

fn saved(rate: u64) -> u64 {
    ((u128::from(rate) * SAVED.as_millis() / 1000) as u64).max(SAVED_BYTES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_passes_than_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(1 << 20), start);
        let mut passed = 0;
        for millis in 0..=1000 {
            let now = start + Duration::from_millis(millis);
            let bytes = bucket.available(now).min(9_000);
            bucket.take(bytes);
            passed += bytes;
        }
        let most = (1 << 20) + SAVED_BYTES_MIN;
        assert!((1 << 20..=most).contains(&passed), "{passed}");
    }

    #[test]
    fn a_slow_cap_still_lets_bytes_through() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(10), start);
        bucket.take(u64::MAX);
        assert_eq!(bucket.available(start + Duration::from_millis(99)), 0);
        assert_eq!(bucket.available(start + Duration::from_millis(100)), 1);
        assert_eq!(bucket.wait(2), Duration::from_millis(100));
    }

    #[test]
    fn without_a_cap_all_passes() {
        let mut bucket = Bucket::new(None, Instant::now());
        bucket.take(1 << 40);
        assert_eq!(bucket.available(Instant::now()), u64::MAX);
        assert_eq!(bucket.wait(1), Duration::ZERO);
    }
}
