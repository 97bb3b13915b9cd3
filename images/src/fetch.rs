//! The only connections of this crate: HTTP downloads that survive what networks do.
//!
//! Resets, timeouts, 429 and 5xx are tried again with growing pauses; a download goes on where it broke off if the
//! server proves that the file is the same. Redirects are few and never leave https; passwords never follow one to
//! another host and never appear in an error.
//!
//! `endpoint` knows where a registry is, `challenge` and `access` how it is logged in to, `session` how it is asked.

mod access;
mod challenge;
mod client;
mod document;
mod download;
mod endpoint;
mod error;
mod retry;
mod session;
mod settings;

pub use document::fetch_document;
pub use error::FetchError;
pub use settings::{Anonymous, Credential, Credentials, FetchSettings, Refresh, RegistrySettings, Resolved};

pub(crate) use download::{Begun, Download, Piece, Request, Validators};
pub(crate) use session::Session;
