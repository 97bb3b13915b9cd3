//! The Internet checksum (RFC 1071) and its change by difference (RFC 1624).

/// Adds bytes as 16-bit words to a sum. An odd last byte counts as a word's high half.
pub fn add(mut sum: u64, bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        sum += u64::from(*last) << 8;
    }
    sum
}

/// Folds a sum to 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of what was added.
pub fn finish(sum: u64) -> u16 {
    !fold(sum)
}

/// The difference that replacing `old` by `new`, of the same even length, makes to a sum.
pub fn difference(old: &[u8], new: &[u8]) -> u64 {
    debug_assert!(old.len() == new.len() && old.len().is_multiple_of(2), "words are replaced whole");
    let complement = old.chunks_exact(2).map(|word| u64::from(!u16::from_be_bytes([word[0], word[1]])));
    add(complement.sum(), new)
}

/// Applies a difference to a finished checksum (RFC 1624, equation 3).
pub fn adjust(check: u16, difference: u64) -> u16 {
    !fold(u64::from(!check) + difference)
}

/// Applies a difference to the bare sum of a pseudo header, as it stands where a checksum is left to the hardware.
pub fn adjust_partial(sum: u16, difference: u64) -> u16 {
    fold(u64::from(sum) + difference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1071, section 3.
        assert_eq!(fold(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn by_difference_is_as_from_scratch() {
        let mut bytes: Vec<u8> = (0u32..64).map(|n| (n * 37 % 251) as u8).collect();
        for at in (0..60).step_by(2) {
            let before = finish(add(0, &bytes));
            let sum = fold(add(0, &bytes));
            let old = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            let new = [old[0] ^ 0xff, 0, old[2].wrapping_add(9), 0xff];
            bytes[at..at + 4].copy_from_slice(&new);
            assert_eq!(adjust(before, difference(&old, &new)), finish(add(0, &bytes)), "at {at}");
            assert_eq!(adjust_partial(sum, difference(&old, &new)), fold(add(0, &bytes)), "at {at}");
        }
    }
}
