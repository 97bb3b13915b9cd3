//! Our terminal handed through to a command: what is typed goes in as it is, what the command writes comes out as it is.
//!
//! The command gets the far side of a pseudo-terminal, never our own terminal: with that it could type into the shell that
//! started us (TIOCSTI).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// How often the size of our terminal is looked at.
const SIZE_PAUSE: Duration = Duration::from_millis(200);
/// How long the last output may take when nobody writes any more.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// The two terminals, connected. Dropped, ours is as it was.
#[derive(Debug)]
pub struct Relay {
    before: Termios,
    dry: Receiver<()>,
}

impl Relay {
    /// Connects our standard input and output, a terminal, with a new one, whose far side is returned.
    ///
    /// # Errors
    /// When there are no more pseudo-terminals, or ours is none.
    pub fn begin() -> io::Result<(Self, OwnedFd)> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&near)?;
        unlockpt(&near)?;
        let far = ioctl_tiocgptpeer(&near, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        tcsetwinsize(&near, tcgetwinsize(&stdin)?)?;
        let (typed, size, near) = (near.try_clone()?, near.try_clone()?, File::from(near));
        // These threads end with the process: one waits for keys, one for changes.
        thread::spawn(move || io::copy(&mut io::stdin().lock(), &mut File::from(typed)));
        thread::spawn(move || {
            let mut known = None;
            loop {
                thread::sleep(SIZE_PAUSE);
                if let Ok(now) = tcgetwinsize(io::stdin())
                    && known
                        .as_ref()
                        .is_none_or(|(rows, columns)| (*rows, *columns) != (now.ws_row, now.ws_col))
                {
                    known = Some((now.ws_row, now.ws_col));
                    let _gone = tcsetwinsize(&size, now);
                }
            }
        });
        let (done, dry) = channel();
        let raw = before.clone();
        thread::spawn(move || {
            show(near, raw);
            let _nobody_waits = done.send(());
        });
        Ok((Self { before, dry }, far))
    }
}

/// Shows what the command writes until nobody has the far side open. From the first output on our terminal passes on every
/// key; before, what we say ourselves stands on lines of its own.
fn show(mut near: File, mut raw: Termios) {
    raw.make_raw();
    let mut stdout = io::stdout();
    let mut buffer = [0; 16 << 10];
    let mut began = false;
    loop {
        match near.read(&mut buffer) {
            Ok(count) if count > 0 => {
                if !began {
                    began = true;
                    let _not_ours = tcsetattr(io::stdin(), OptionalActions::Now, &raw);
                }
                let shown = buffer.get(..count).unwrap_or_default();
                if stdout.write_all(shown).and_then(|()| stdout.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // EIO: nobody has the far side open.
            Ok(_) | Err(_) => return,
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _still_written_to = self.dry.recv_timeout(DRAIN_PATIENCE);
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
