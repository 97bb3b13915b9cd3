//! Secrets out of a stream, wherever its pieces are cut.

use super::{MASK, Secrets};

/// One stream's state: what may be the beginning of a secret is held back until it is known.
#[derive(Debug, Default)]
pub struct Masker {
    /// Bytes that are held back.
    held: Vec<u8>,
    /// How many of them, from the first, belong to a secret already.
    masked: usize,
    /// What was let through last was a mask: the rest of the same secrets adds none.
    in_mask: bool,
}

impl Masker {
    /// Takes a piece, and returns what may be seen by now.
    pub fn push(&mut self, secrets: &Secrets, piece: &[u8]) -> Vec<u8> {
        let Some(finder) = &secrets.finder else { return piece.to_vec() };
        let mut bytes = std::mem::take(&mut self.held);
        let known = std::mem::take(&mut self.masked);
        bytes.extend_from_slice(piece);
        let mut hidden = vec![(0, known)];
        // Secrets may overlap: all of each is hidden.
        hidden.extend(finder.find_overlapping_iter(&bytes).map(|found| (found.start(), found.end())));
        hidden.sort_unstable();
        let until = first_beginning(secrets, &bytes);
        let seen = self.let_through(&bytes[..until], &hidden);
        let rest = hidden.iter().filter(|(start, end)| *start <= until && *end > until).map(|(_, end)| *end);
        self.masked = rest.max().map_or(0, |end| end.min(bytes.len()) - until);
        bytes.drain(..until);
        self.held = bytes;
        seen
    }

    /// The stream is over: returns what was held back.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let hidden = [(0, std::mem::take(&mut self.masked))];
        self.let_through(&held, &hidden)
    }

    /// Returns bytes with masks for what is hidden; `hidden` ascends by its beginnings.
    fn let_through(&mut self, bytes: &[u8], hidden: &[(usize, usize)]) -> Vec<u8> {
        let mut seen = Vec::with_capacity(bytes.len());
        let mut at = 0;
        for &(start, end) in hidden.iter().filter(|(start, end)| start < end) {
            if start >= bytes.len() {
                break;
            }
            if start > at {
                seen.extend_from_slice(&bytes[at..start]);
                self.in_mask = false;
            }
            if !self.in_mask && end > at {
                seen.extend_from_slice(MASK);
                self.in_mask = true;
            }
            at = at.max(end.min(bytes.len()));
        }
        if at < bytes.len() {
            seen.extend_from_slice(&bytes[at..]);
            self.in_mask = false;
        }
        seen
    }
}

/// The first place from which on everything may be the beginning of a secret; the end if there is none.
fn first_beginning(secrets: &Secrets, bytes: &[u8]) -> usize {
    let earliest = bytes.len().saturating_sub(secrets.overlap());
    (earliest..bytes.len()).find(|at| secrets.may_become_one(&bytes[*at..])).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn secrets(values: &[&str]) -> Secrets {
        let named = values.iter().enumerate();
        Secrets::new(named.map(|(at, value)| (format!("S{at}"), value.as_bytes().to_vec())).collect())
    }

    /// Masks a text that comes in pieces cut at these places.
    fn masked(secrets: &Secrets, text: &[u8], cuts: &[usize]) -> Vec<u8> {
        let mut masker = Masker::default();
        let (mut out, mut from) = (Vec::new(), 0);
        for cut in cuts.iter().copied().chain([text.len()]) {
            let cut = cut.clamp(from, text.len());
            out.extend(masker.push(secrets, &text[from..cut]));
            from = cut;
        }
        out.extend(masker.finish());
        out
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let secrets = secrets(&["s3cret-one", "s3cret-one-and-more", "one-and-m0re!"]);
        let cases = [
            ("nothing here s3cret-on", "nothing here s3cret-on"),
            ("a s3cret-one b", "a *** b"),
            ("a s3cret-one-and-more b", "a *** b"),
            ("a s3cret-one-and-m0re! b", "a *** b"),
            ("s3cret-ones3cret-one", "***"),
            ("s3cret-one s3cret-one", "*** ***"),
            ("s3s3cret-one", "s3***"),
            ("", ""),
        ];
        for (text, expected) in cases {
            for cut in 0..=text.len() {
                let out = masked(&secrets, text.as_bytes(), &[cut]);
                assert_eq!(String::from_utf8_lossy(&out), expected, "{text} cut at {cut}");
            }
            let every: Vec<usize> = (0..text.len()).collect();
            assert_eq!(masked(&secrets, text.as_bytes(), &every), expected.as_bytes(), "{text} byte by byte");
        }
    }

    #[test]
    fn what_cannot_become_a_secret_is_not_held_back() {
        let secrets = secrets(&["s3cret-one"]);
        let mut masker = Masker::default();
        assert_eq!(masker.push(&secrets, b"prompt: "), b"prompt: ");
        assert_eq!(masker.push(&secrets, b"x s3cret"), b"x ");
        assert_eq!(masker.push(&secrets, b"ary\n"), b"s3cretary\n");
        assert!(masker.finish().is_empty());
    }

    proptest! {
        #[test]
        fn no_cut_lets_a_secret_through_or_changes_what_is_seen(
            words in prop::collection::vec(
                prop_oneof![
                    Just("tok3n-AB".to_owned()), Just("n-ABtok3".to_owned()), Just("tok3n".to_owned()),
                    Just("dG9rM24tQUI".to_owned()), "[a-z0-9 -]{0,6}",
                ],
                0..12,
            ),
            cuts in prop::collection::vec(0_usize..120, 0..10),
        ) {
            let secrets = secrets(&["tok3n-AB", "n-ABtok3n"]);
            let text = words.concat();
            let mut cuts = cuts;
            cuts.sort_unstable();
            let out = masked(&secrets, text.as_bytes(), &cuts);
            prop_assert_eq!(&out, &masked(&secrets, text.as_bytes(), &[]));
            prop_assert!(secrets.find(&out).is_none(), "{}", String::from_utf8_lossy(&out));
            if secrets.find(text.as_bytes()).is_none() {
                prop_assert_eq!(out, text.into_bytes());
            }
        }
    }
}
