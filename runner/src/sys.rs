//! The only `unsafe` of the project: thin typed wrappers over system calls that return errno.
//!
//! No policy and no wording here. What `rustix` and `nix` wrap safely is called there directly.

pub mod clone;
pub mod identity;
pub mod mount;
pub mod probe;
pub mod process;
pub mod signal;
pub mod socket;
pub mod tun;
pub mod watch;
