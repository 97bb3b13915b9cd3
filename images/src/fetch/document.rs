//! A small file from a server, whole in memory.

use super::error::FetchError;
use super::settings::FetchSettings;
use super::{Begun, Download, Piece, Request};
use crate::progress::Silent;
use crate::reference::ImageUrl;

/// Fetches a file of at most `bytes_max` bytes. What was promised about it is the caller's to test.
///
/// # Errors
/// Those of any download; a file that is larger.
pub async fn fetch_document(
    url: &ImageUrl,
    bytes_max: u64,
    settings: &FetchSettings,
) -> Result<Vec<u8>, FetchError> {
    let request = Request { bytes_max: Some(bytes_max), ..Request::plain(url) };
    let mut bytes = Vec::new();
    // Without validators nobody is told that nothing has changed.
    let Begun::Body(mut download) = Download::begin(request, None, settings, &Silent).await? else {
        return Ok(bytes);
    };
    loop {
        match download.piece().await? {
            Piece::Bytes(piece) => bytes.extend_from_slice(piece.as_ref()),
            Piece::Restart => bytes.clear(),
            Piece::End => return Ok(bytes),
        }
    }
}
