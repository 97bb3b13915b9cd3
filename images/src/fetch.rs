//! The only connections of this crate: HTTP downloads that survive what networks do.
//!
//! Resets, timeouts, 429 and 5xx are tried again with growing pauses; a download goes on where it broke off if the
//! server proves that the file is the same. Redirects are few and never leave https; passwords never follow one to
//! another host and never appear in an error.

mod client;
mod download;
mod error;
mod retry;
mod settings;

pub use error::FetchError;
pub use settings::FetchSettings;

pub(crate) use download::{Begun, Download, Piece, Validators};
