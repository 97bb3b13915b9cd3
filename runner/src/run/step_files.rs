//! What a step hands on by files: `$RUNNER_OUTPUT`, `$RUNNER_ENV`, `$RUNNER_PATH`, `$RUNNER_SUMMARY`. They lie in the
//! job's layer, so what a step writes to them is in its own upper directory when it ends, and is read from there by
//! handle: no link is followed, nothing but a regular file is read, and no more of it than fits.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use thiserror::Error;

use super::layer::HANDED;

/// Most bytes of one file: what GitHub takes of a summary, and more than any value needs.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most values of one file.
const VALUES_MAX: usize = 10_000;
/// Longest name of a value, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The files, each with the variables that lead to it: ours, and GitHub's for scripts that know those.
pub const FILES: [(&str, [&str; 2]); 4] = [
    ("output", ["RUNNER_OUTPUT", "GITHUB_OUTPUT"]),
    ("env", ["RUNNER_ENV", "GITHUB_ENV"]),
    ("path", ["RUNNER_PATH", "GITHUB_PATH"]),
    ("summary", ["RUNNER_SUMMARY", "GITHUB_STEP_SUMMARY"]),
];

/// Variables that later steps do not take from a file: with them, whoever can write a line there runs code in every
/// program of every later step. The job file can set them.
const REFUSED: [&str; 6] = ["BASH_ENV", "ENV", "LD_AUDIT", "LD_PRELOAD", "NODE_OPTIONS", "PROMPT_COMMAND"];
/// Beginnings of the variables that we set ourselves.
const REFUSED_PREFIXES: [&str; 2] = ["GITHUB_", "RUNNER_"];

/// What a step handed on.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Handed {
    /// Name and value; of a name given twice the last.
    pub outputs: Vec<(String, String)>,
    /// Variables for later steps.
    pub env: Vec<(String, String)>,
    /// Directories for the front of later steps' PATH, the last one first.
    pub path: Vec<String>,
    /// Markdown.
    pub summary: Vec<u8>,
    /// Variables that were not taken.
    pub refused: Vec<String>,
}

/// A file that cannot be understood. The step fails for it.
#[derive(Debug, Error)]
#[error("${variable}: {why}")]
pub struct HandedError {
    /// The file's variable.
    variable: &'static str,
    why: Why,
}

#[derive(Debug, Error)]
enum Why {
    #[error("cannot read the file: {0}")]
    Read(io::Error),
    #[error("it is no longer a regular file")]
    Kind,
    #[error("it has more than {FILE_BYTES_MAX} bytes")]
    Large,
    #[error("it is not UTF-8 text")]
    Text,
    #[error("it has more than {VALUES_MAX} values")]
    Many,
    #[error("line {0} is neither NAME=VALUE nor NAME<<MARK")]
    Line(usize),
    #[error(
        "line {0} has the name {1:?}: letters, digits, `_` and `-`, a letter or `_` first, at most {NAME_BYTES_MAX}"
    )]
    Name(usize, String),
    #[error("the value that begins in line {0} is not ended by a line {1:?}")]
    Unclosed(usize, String),
    #[error("line {0} has a NUL character")]
    Nul(usize),
    #[error("line {0} is no absolute path")]
    Relative(usize),
}

impl HandedError {
    /// What the step's author can do about it.
    pub fn hint(&self) -> &'static str {
        match self.why {
            Why::Line(_) | Why::Unclosed(..) => {
                "a value of several lines is written NAME<<MARK, its lines, and a line MARK; docs/job-file.md"
            }
            Why::Large | Why::Many => "hand large things on as files of the workspace",
            Why::Read(_) | Why::Kind => "add lines to the file, and leave the file itself as it is",
            Why::Text | Why::Name(..) | Why::Nul(_) | Why::Relative(_) => {
                "docs/job-file.md says what these files hold"
            }
        }
    }
}

/// Where a file lies inside.
pub fn path_of(file: &str) -> String {
    format!("{HANDED}/{file}")
}

/// Reads what the step with this upper directory handed on.
///
/// # Errors
/// The first file that cannot be read or understood.
pub fn read(upper: &Path) -> Result<Handed, HandedError> {
    let mut handed = Handed::default();
    let [(_, [first, _]), ..] = FILES;
    let directory = directory(upper).map_err(|why| HandedError { variable: first, why })?;
    let Some(directory) = directory else { return Ok(handed) };
    for (file, [variable, _]) in FILES {
        let failed = |why| HandedError { variable, why };
        let Some(bytes) = content(&directory, file).map_err(failed)? else { continue };
        if file == "summary" {
            handed.summary = bytes;
            continue;
        }
        let text = String::from_utf8(bytes).map_err(|_| failed(Why::Text))?;
        match file {
            "output" => handed.outputs = last_of_each(pairs(&text).map_err(failed)?),
            "env" => {
                let (refused, env): (Vec<_>, Vec<_>) =
                    pairs(&text).map_err(failed)?.into_iter().partition(|(name, _)| is_refused(name));
                handed.env = last_of_each(env);
                handed.refused = last_of_each(refused).into_iter().map(|(name, _)| name).collect();
            }
            _ => handed.path = directories(&text).map_err(failed)?,
        }
    }
    Ok(handed)
}

/// What the step has put there is not followed anywhere.
const WITHIN: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);

/// Opens the directory of the files; `None` when the step never wrote to one.
fn directory(upper: &Path) -> Result<Option<OwnedFd>, Why> {
    let read = |errno: Errno| Why::Read(errno.into());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match openat(CWD, upper.join("u"), flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other.map_err(read)?,
    };
    match openat2(&root, HANDED.trim_start_matches('/'), flags, Mode::empty(), WITHIN) {
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::LOOP | Errno::NOTDIR) => Err(Why::Kind),
        other => other.map(Some).map_err(read),
    }
}

/// Returns a file's bytes; `None` when the step never wrote to it.
fn content(directory: &OwnedFd, file: &str) -> Result<Option<Vec<u8>>, Why> {
    let read = |errno: Errno| Why::Read(errno.into());
    // A fifo must not block us, a terminal must not become ours.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat2(directory, file, flags, Mode::empty(), WITHIN) {
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::NXIO | Errno::NOTDIR) => return Err(Why::Kind),
        other => std::fs::File::from(other.map_err(read)?),
    };
    if !file.metadata().map_err(Why::Read)?.is_file() {
        return Err(Why::Kind);
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Why::Read)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(Why::Large) } else { Ok(Some(bytes)) }
}

fn is_refused(name: &str) -> bool {
    REFUSED.contains(&name) || name == "CI" || REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a variable of this name is taken from a file.
pub fn is_handed(name: &str) -> bool {
    is_name(name) && !is_refused(name)
}

fn is_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.len() <= NAME_BYTES_MAX
        && name.starts_with(first)
        && name.chars().all(|c| first(c) || c.is_ascii_digit() || c == '-')
}

/// Reads `NAME=VALUE` lines, and `NAME<<MARK`, lines, `MARK`. Whichever of `=` and `<<` comes first decides.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Why> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let number = index + 1;
        if line.is_empty() {
            continue;
        }
        let (name, value) = match (line.find('='), line.find("<<")) {
            (equals, Some(heredoc)) if equals.is_none_or(|equals| heredoc < equals) => {
                let mark = &line[heredoc + 2..];
                if mark.is_empty() {
                    return Err(Why::Line(number));
                }
                let mut value: Vec<&str> = Vec::new();
                loop {
                    match lines.next() {
                        Some((_, line)) if line == mark => break,
                        Some((_, line)) => value.push(line),
                        None => return Err(Why::Unclosed(number, mark.to_owned())),
                    }
                }
                (&line[..heredoc], value.join("\n"))
            }
            (Some(equals), _) => (&line[..equals], line[equals + 1..].to_owned()),
            (None, _) => return Err(Why::Line(number)),
        };
        if !is_name(name) {
            return Err(Why::Name(number, name.chars().take(60).collect()));
        }
        if value.contains('\0') {
            return Err(Why::Nul(number));
        }
        pairs.push((name.to_owned(), value));
        if pairs.len() > VALUES_MAX {
            return Err(Why::Many);
        }
    }
    Ok(pairs)
}

fn last_of_each(pairs: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut seen = std::collections::HashSet::new();
    let mut last: Vec<_> = pairs.into_iter().rev().filter(|(name, _)| seen.insert(name.clone())).collect();
    last.reverse();
    last
}

fn directories(text: &str) -> Result<Vec<String>, Why> {
    let mut directories = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        match line {
            _ if !line.starts_with('/') => return Err(Why::Relative(index + 1)),
            _ if line.contains('\0') => return Err(Why::Nul(index + 1)),
            _ if directories.len() >= VALUES_MAX => return Err(Why::Many),
            _ => directories.push(line.to_owned()),
        }
    }
    directories.reverse();
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn upper(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("u").join(HANDED.trim_start_matches('/'));
        fs::create_dir_all(&place).unwrap();
        for (name, bytes) in files {
            fs::write(place.join(name), bytes).unwrap();
        }
        dir
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_are_read_as_github_reads_them() {
        let table: [(&str, &[(&str, &str)]); 8] = [
            ("", &[]),
            ("a=1\n\nb=\r\nc-d=x=y\n", &[("a", "1"), ("b", ""), ("c-d", "x=y")]),
            ("a<<E\nx\n\ny=z\nE\nb=2", &[("a", "x\n\ny=z"), ("b", "2")]),
            ("a<<E\nE\n", &[("a", "")]),
            ("a<<=\n1\n=\n", &[("a", "1")]),
            ("a=b<<c\n", &[("a", "b<<c")]),
            ("a<<E\n E\nE\n", &[("a", " E")]),
            ("a=1\na=2\n", &[("a", "1"), ("a", "2")]),
        ];
        for (text, expected) in table {
            assert_eq!(pairs(text).unwrap(), owned(expected), "{text:?}");
        }
        assert_eq!(
            last_of_each(owned(&[("a", "1"), ("b", "2"), ("a", "3")])),
            owned(&[("b", "2"), ("a", "3")])
        );
    }

    #[test]
    fn what_is_malformed_is_told_with_its_line() {
        let table: [(&str, &[u8], &str); 12] = [
            ("output", b"a=1\nnothing\n", "$RUNNER_OUTPUT: line 2 is neither NAME=VALUE nor NAME<<MARK"),
            ("output", b"a<<\n", "$RUNNER_OUTPUT: line 1 is neither"),
            (
                "output",
                b"a<<E\nx\n",
                "$RUNNER_OUTPUT: the value that begins in line 1 is not ended by a line \"E\"",
            ),
            ("output", b"=1\n", "$RUNNER_OUTPUT: line 1 has the name \"\""),
            ("output", b"a b=1\n", "$RUNNER_OUTPUT: line 1 has the name \"a b\""),
            ("output", b"1=1\n", "$RUNNER_OUTPUT: line 1 has the name \"1\""),
            ("output", b"a=\xff\n", "$RUNNER_OUTPUT: it is not UTF-8 text"),
            ("env", b"a=\0\n", "$RUNNER_ENV: line 1 has a NUL character"),
            ("env", "ü=1\n".as_bytes(), "$RUNNER_ENV: line 1 has the name"),
            ("path", b"/opt\nbin\n", "$RUNNER_PATH: line 2 is no absolute path"),
            ("path", b"/a\0b\n", "$RUNNER_PATH: line 1 has a NUL character"),
            (
                "summary",
                &vec![b'x'; FILE_BYTES_MAX as usize + 1],
                "$RUNNER_SUMMARY: it has more than 1048576 bytes",
            ),
        ];
        for (file, bytes, text) in table {
            let error = read(upper(&[(file, bytes)]).path()).unwrap_err();
            assert!(error.to_string().starts_with(text), "{error}");
            assert!(!error.hint().is_empty());
        }
        let many = "a=1\n".repeat(VALUES_MAX + 1);
        assert!(read(upper(&[("output", many.as_bytes())]).path()).is_err());
    }

    #[test]
    fn variables_that_would_run_code_are_refused_by_name() {
        let text = b"A=1\nLD_PRELOAD=/x\nGITHUB_ENV=/y\nRUNNER_X=1\nPATH_X=2\nCI=no\n";
        let handed =
            read(upper(&[("env", text), ("path", b"/a\n\n/b\n"), ("summary", b"# s\xff")]).path()).unwrap();
        assert_eq!(handed.env, owned(&[("A", "1"), ("PATH_X", "2")]));
        assert_eq!(handed.refused, ["LD_PRELOAD", "GITHUB_ENV", "RUNNER_X", "CI"]);
        assert_eq!(
            (handed.path, handed.summary.as_slice()),
            (vec!["/b".into(), "/a".into()], &b"# s\xff"[..])
        );
    }

    #[test]
    fn links_fifos_and_directories_are_not_read() {
        let kinds: [fn(&Path); 4] = [
            |path| symlink("/etc/passwd", path).unwrap(),
            |path| {
                let mode = Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            },
            |path| fs::create_dir(path).unwrap(),
            |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()),
        ];
        for make in kinds {
            let dir = upper(&[]);
            make(&dir.path().join("u/run/runner/handed/output"));
            let error = read(dir.path()).unwrap_err();
            assert_eq!(error.to_string(), "$RUNNER_OUTPUT: it is no longer a regular file");
        }
        let dir = upper(&[]);
        fs::remove_dir(dir.path().join("u/run/runner/handed")).unwrap();
        symlink("/etc", dir.path().join("u/run/runner/handed")).unwrap();
        assert!(read(dir.path()).is_err());
        assert_eq!(read(upper(&[]).path()).unwrap(), Handed::default());
        assert_eq!(read(tempfile::tempdir().unwrap().path()).unwrap(), Handed::default());
    }
}
