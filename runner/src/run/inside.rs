//! A look at a step that is over: a command in the root filesystem that it left.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Where an earlier step left off.
#[derive(Debug)]
pub struct Inside {
    /// Its upper directory, the topmost layer now.
    pub upper: Option<PathBuf>,
    /// A workspace that is there already.
    pub workspace: Option<PathBuf>,
    /// The far side of a pseudo-terminal, for the command to be its session's leader; without, it writes to pipes.
    pub terminal: Option<OwnedFd>,
}
