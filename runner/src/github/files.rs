//! The files by which a step of a workflow hands values on: `$GITHUB_OUTPUT`, `$GITHUB_ENV`, `$GITHUB_PATH`,
//! `$GITHUB_STEP_SUMMARY`. They are the workflow's own, named by our environment; what we write is only ever added.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Most bytes of one file: of a larger one, the agent takes nothing at all.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of chance in the mark that ends a value.
const MARK_BYTES: usize = 16;

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system said no.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The agent would drop all of it.
    #[error("cannot write {}: it would have more than {FILE_BYTES_MAX} bytes, and nothing of it would be taken", path.display())]
    Full {
        /// Which file.
        path: PathBuf,
    },
}

/// Adds to a file.
///
/// # Errors
/// A file that cannot be written, or that is full.
pub fn append(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if bytes.len() > room(path) {
        return Err(FileError::Full { path: path.to_path_buf() });
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(|source| FileError::Write { path: path.to_path_buf(), source })
}

/// Adds values to a file, in the form in which no value can end itself.
///
/// # Errors
/// Those of [`append`].
pub fn append_values(path: &Path, values: &[(String, String)]) -> Result<(), FileError> {
    let mut text = String::new();
    for (name, value) in values {
        let mark = mark(value).map_err(|source| FileError::Write { path: path.to_path_buf(), source })?;
        text.push_str(&format!("{name}<<{mark}\n{value}\n{mark}\n"));
    }
    append(path, text.as_bytes())
}

/// Bytes that the file has room for.
pub fn room(path: &Path) -> usize {
    let used = std::fs::metadata(path).map_or(0, |found| found.len());
    usize::try_from(FILE_BYTES_MAX.saturating_sub(used)).unwrap_or(usize::MAX)
}

/// Makes a name of an output of any text.
pub fn output_name(text: &str) -> String {
    let fits = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
    text.chars().map(|character| if fits(character) { character } else { '-' }).collect()
}

/// What ends a value: nobody can know it before, and it is not in the value.
fn mark(value: &str) -> io::Result<String> {
    loop {
        let mut chance = [0_u8; MARK_BYTES];
        let got = rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty())?;
        let digits: String = chance[..got].iter().map(|byte| format!("{byte:02x}")).collect();
        let mark = format!("ghadelimiter_{digits}");
        if got == MARK_BYTES && !value.contains(&mark) {
            return Ok(mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_ends_itself() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("output");
        std::fs::write(&file, "before=1\n").unwrap();
        let hostile = "x\nghadelimiter_0\nevil<<E\n1\nE";
        let values = [("a".to_owned(), hostile.to_owned()), ("b".to_owned(), String::new())];
        append_values(&file, &values).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines = text.lines().skip(1);
        for (name, value) in &values {
            let mark = lines.next().unwrap().strip_prefix(&format!("{name}<<")).unwrap();
            let found: Vec<&str> = lines.by_ref().take_while(|line| line != &mark).collect();
            assert_eq!(found.join("\n"), *value);
        }
        assert_eq!(lines.next(), None);
        assert_eq!(output_name("test@linux, 1-x"), "test-linux--1-x");
    }

    #[test]
    fn a_file_that_is_full_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("summary");
        std::fs::write(&file, vec![b'x'; FILE_BYTES_MAX as usize - 3]).unwrap();
        assert_eq!(room(&file), 3);
        assert!(matches!(append(&file, b"four"), Err(FileError::Full { .. })));
        append(&file, b"abc").unwrap();
        assert_eq!(room(&file), 0);
    }
}
