//! Two lists side by side: what has changed, in words. Neither is held as a whole.

use std::cmp::Ordering;
use std::io::{self, Read};

use super::Lines;

/// What is different between two trees.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// In words, as many as were asked for at most.
    pub(crate) list: Vec<String>,
    /// How many further ones there are.
    pub(crate) more: u64,
}

impl Differences {
    fn add(&mut self, path: &[u8], what: &str, max: usize) {
        if self.list.len() >= max {
            self.more += 1;
            return;
        }
        let path = if path.is_empty() { ".".to_owned() } else { crate::unpack::shown_name(path) };
        self.list.push(format!("{path}: {what}"));
    }
}

/// Compares a tree as it was and as it is, both in the order of a walk.
pub(crate) fn compare<A: Read, B: Read>(
    mut was: Lines<A>,
    mut is: Lines<B>,
    with_owners: bool,
    max: usize,
) -> io::Result<Differences> {
    let mut found = Differences::default();
    let (mut old, mut new) = (was.next().transpose()?, is.next().transpose()?);
    loop {
        let order = match (&old, &new) {
            (None, None) => return Ok(found),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => walked_before(old, new),
        };
        match (order, old.as_ref(), new.as_ref()) {
            (Ordering::Less, Some((path, _)), _) => found.add(path, "missing", max),
            (Ordering::Greater, _, Some((path, _))) => found.add(path, "was not there", max),
            (_, Some((path, old)), Some((_, new))) => {
                old.changes(new, with_owners).iter().for_each(|what| found.add(path, what, max));
            }
            _ => {}
        }
        if order.is_le() {
            old = was.next().transpose()?;
        }
        if order.is_ge() {
            new = is.next().transpose()?;
        }
    }
}

/// The order of a walk: names are sorted, and what is in a directory follows it at once.
fn walked_before(one: &[u8], other: &[u8]) -> Ordering {
    let is_slash = |byte: &u8| *byte == b'/';
    match (one.is_empty(), other.is_empty()) {
        (false, false) => one.split(is_slash).cmp(other.split(is_slash)),
        // The root comes first.
        (one, other) => other.cmp(&one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_in_the_order_of_a_walk() {
        let walked: [&[u8]; 7] = [b"", b"a", b"a/b", b"a/b/c", b"a.b", b"ab", b"b"];
        for (one, path) in walked.iter().enumerate() {
            for (other, than) in walked.iter().enumerate() {
                assert_eq!(walked_before(path, than), one.cmp(&other), "{path:?} {than:?}");
            }
        }
    }
}
