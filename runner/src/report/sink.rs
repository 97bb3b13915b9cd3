//! Where text goes. A reader that has left ends the writing quietly; it never ends the run.

use std::fmt;
use std::io::{self, IsTerminal, Write};

/// One output. Errors are kept, not raised: a report must not change what a run does.
pub struct Sink {
    out: Box<dyn Write + Send>,
    error: Option<io::Error>,
}

impl fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sink").field("error", &self.error).finish_non_exhaustive()
    }
}

impl Sink {
    /// Writes to the process's standard output: what was asked for.
    pub fn results() -> Self {
        Self::new(Box::new(io::stdout()))
    }

    /// Writes to the process's standard error: everything else.
    pub fn words() -> Self {
        Self::new(Box::new(io::stderr()))
    }

    /// Writes to anything.
    pub fn new(out: Box<dyn Write + Send>) -> Self {
        Self { out, error: None }
    }

    /// Writes bytes as they are; after the first error nothing is written any more.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.error.is_none() {
            self.error = self.out.write_all(bytes).err();
        }
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) {
        // One write for the line and its end, so that lines of several processes do not mix.
        self.write(format!("{text}\n").as_bytes());
    }

    /// Hands on what is buffered.
    pub fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.out.flush().err();
        }
    }

    /// Whether the reader has left.
    pub fn is_broken(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns why writing stopped, a reader that left excepted.
    pub fn error(&self) -> Option<&io::Error> {
        self.error.as_ref().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }
}

/// Whether standard output and standard error are terminals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terminals {
    /// Standard input is one.
    pub stdin: bool,
    /// Standard output is one.
    pub stdout: bool,
    /// Standard error is one.
    pub stderr: bool,
}

impl Terminals {
    /// Asks the kernel.
    pub fn probe() -> Self {
        Self {
            stdin: io::stdin().is_terminal(),
            stdout: io::stdout().is_terminal(),
            stderr: io::stderr().is_terminal(),
        }
    }
}

/// Whether standard output is a regular file.
pub fn stdout_is_file() -> bool {
    rustix::fs::fstat(io::stdout())
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is_one() {
        let mut left = Sink::new(Box::new(Failing(io::ErrorKind::BrokenPipe)));
        left.line("x");
        left.line("y");
        assert!(left.is_broken() && left.error().is_none());
        let mut full = Sink::new(Box::new(Failing(io::ErrorKind::StorageFull)));
        full.line("x");
        assert!(!full.is_broken() && full.error().is_some());
    }
}
