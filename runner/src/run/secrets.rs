//! Secrets: their values, and what of them must not be seen. Values and bytes only; nothing here reads or writes files.

mod encodings;
mod masker;

use std::borrow::Cow;
use std::fmt;

use aho_corasick::AhoCorasick;

use encodings::forms;
pub use masker::Masker;

/// Shortest value, in bytes: a shorter one stands in any output by chance, and hiding it would hide the output.
pub const BYTES_MIN: usize = 6;
/// Shortest value that has only letters of one case, or only digits: shorter ones are words and numbers.
pub const PLAIN_BYTES_MIN: usize = 12;
/// Longest value, in bytes: a key with its certificates is a tenth of it.
pub const BYTES_MAX: usize = 64 * 1024;
/// What stands in the place of a secret.
pub const MASK: &[u8] = b"***";

/// Why a value cannot be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    /// Too short to be told from other text.
    #[error("it has fewer than {BYTES_MIN} bytes")]
    Short,
    /// A word or a number.
    #[error("it has fewer than {PLAIN_BYTES_MIN} bytes, all of one kind: it would be found in any text")]
    Plain,
    /// Too long.
    #[error("it has more than {BYTES_MAX} bytes")]
    Long,
    /// It cannot be hidden where it stands by itself.
    #[error("it is white space")]
    Blank,
}

/// Tests whether a value can be hidden without hiding everything else.
///
/// # Errors
/// Why not.
pub fn strong(value: &[u8]) -> Result<(), WeakSecret> {
    let value = value.trim_ascii();
    let kinds = [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit];
    match value.len() {
        0 => Err(WeakSecret::Blank),
        length if length < BYTES_MIN => Err(WeakSecret::Short),
        length if length > BYTES_MAX => Err(WeakSecret::Long),
        length if length < PLAIN_BYTES_MIN && kinds.iter().any(|is| value.iter().all(is)) => {
            Err(WeakSecret::Plain)
        }
        _ => Ok(()),
    }
}

/// All secrets of a run.
#[derive(Default)]
pub struct Secrets {
    values: Vec<(String, Vec<u8>)>,
    /// Every form in which one must not be seen, ascending.
    forms: Vec<Vec<u8>>,
    /// Whose form each is.
    owners: Vec<usize>,
    finder: Option<AhoCorasick>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

impl Secrets {
    /// Takes values that are strong.
    pub fn new(values: Vec<(String, Vec<u8>)>) -> Self {
        let mut all: Vec<(Vec<u8>, usize)> = Vec::new();
        for (owner, (_, value)) in values.iter().enumerate() {
            all.extend(forms(value).into_iter().map(|form| (form, owner)));
        }
        all.sort();
        all.dedup_by(|one, other| one.0 == other.0);
        let (forms, owners): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        // Only more forms than memory can hold make it fail.
        let finder = if forms.is_empty() { None } else { AhoCorasick::new(&forms).ok() };
        Self { values, forms, owners, finder }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// Lines of the values that are long enough to be hidden, for whoever hides texts line by line.
    pub fn lines(&self) -> Vec<String> {
        let values = self.values.iter().filter_map(|(_, value)| std::str::from_utf8(value).ok());
        let lines = values.flat_map(|value| value.split(['\r', '\n'])).map(str::trim);
        let mut lines: Vec<String> =
            lines.filter(|line| line.len() >= BYTES_MIN).map(str::to_owned).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    /// Names the first secret that is in these bytes, and where it begins.
    pub fn find(&self, bytes: &[u8]) -> Option<(&str, usize)> {
        let found = self.finder.as_ref()?.find(bytes)?;
        let owner = self.owners.get(found.pattern().as_usize())?;
        Some((self.values.get(*owner)?.0.as_str(), found.start()))
    }

    /// Bytes that must be kept of what was looked through, so that nothing is missed at the border of two pieces.
    pub fn overlap(&self) -> usize {
        self.forms.iter().map(Vec::len).max().unwrap_or(1).saturating_sub(1)
    }

    /// Returns text with every secret in it replaced.
    pub fn masked<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.find(text.as_bytes()).is_none() {
            return Cow::Borrowed(text);
        }
        let mut masker = Masker::default();
        let mut bytes = masker.push(self, text.as_bytes());
        bytes.extend(masker.finish());
        Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Whether the bytes are the beginning of a form, and not all of it.
    fn may_become_one(&self, bytes: &[u8]) -> bool {
        let at = self.forms.partition_point(|form| form.as_slice() <= bytes);
        self.forms.get(at).is_some_and(|form| form.starts_with(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_no_secrets() {
        for weak in ["", " \n", "true", "12345", "password", "87654321", "ABCDEFGHIJK", "  short\n"] {
            assert!(strong(weak.as_bytes()).is_err(), "{weak}");
        }
        for good in ["pass-word", "Password", "s3cret", "correcthorsebattery", "123456789012"] {
            assert_eq!(strong(good.as_bytes()), Ok(()), "{good}");
        }
        assert_eq!(strong(&vec![b'x'; BYTES_MAX + 1]), Err(WeakSecret::Long));
    }

    #[test]
    fn a_secret_is_named_where_it_is_found() {
        let secrets = Secrets::new(vec![
            ("ONE".to_owned(), b"s3cret-one".to_vec()),
            ("TWO".to_owned(), b"s3cret-two\n".to_vec()),
        ]);
        assert_eq!(secrets.find(b"x s3cret-two y"), Some(("TWO", 2)));
        assert_eq!(secrets.find(b"s3cret-tw"), None);
        assert_eq!(secrets.masked("a s3cret-one b"), "a *** b");
        assert_eq!(secrets.get("TWO"), Some(&b"s3cret-two\n"[..]), "a file's newline is the value's");
        assert!(Secrets::default().find(b"anything").is_none());
        let key = Secrets::new(vec![("KEY".to_owned(), b"{\r\n  \"a\": \"bcdef\"\n}\n".to_vec())]);
        assert_eq!(key.lines(), ["\"a\": \"bcdef\""], "a brace alone would hide every brace");
        assert_eq!(format!("{secrets:?}"), "[\"ONE\", \"TWO\"]");
    }
}
