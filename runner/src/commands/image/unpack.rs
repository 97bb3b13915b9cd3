//! `runner image unpack`: a tarball becomes a plain directory, under the same rules as an image.

use std::sync::Arc;

use images::{Digest, FetchSettings, Ownership, Reference, Silent, UnpackLimits, UnpackOptions};

use crate::cli::UnpackSettings;
use crate::commands::{Class, CommandError};
use crate::report::{Sink, image as show};
use crate::run::error::RunError;

/// Unpacks and says what came of it.
///
/// # Errors
/// A source that cannot be had or is refused; a directory that is not empty.
pub fn unpack(settings: &UnpackSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let base = std::env::current_dir().map_err(|error| CommandError::new(Class::Usage, error))?;
    let reference =
        Reference::parse(&settings.source, &base).map_err(|error| CommandError::new(Class::Usage, error))?;
    let digest = settings.sha256.as_deref().map(|hex| hex.parse::<Digest>()).transpose();
    let digest = digest.map_err(|error| CommandError::new(Class::Usage, error))?;
    let defaults = UnpackLimits::default();
    let limits = UnpackLimits {
        bytes_max: settings.bytes_max.unwrap_or(defaults.bytes_max),
        entries_max: settings.entries_max.unwrap_or(defaults.entries_max),
        ..defaults
    };
    let root = rustix::process::geteuid().is_root();
    let ownership = if root { Ownership::Keep } else { Ownership::Caller };
    let options = UnpackOptions { ownership, limits, layer: settings.layer, stack: false };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CommandError::new(Class::Host, error))?;
    let fetch = FetchSettings::default();
    let unpacked = images::unpack_to_directory(
        &reference,
        digest,
        &settings.directory,
        &options,
        &fetch,
        Arc::new(Silent),
    );
    let summary = runtime.block_on(unpacked).map_err(RunError::from)?;
    show::unpacked(out, &settings.directory, &summary);
    Ok(0)
}
