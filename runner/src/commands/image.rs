//! `runner image`: unpack a tarball, and the life of the store.

mod pull;
mod store;
mod unpack;

pub use unpack::unpack;

use std::path::Path;
use std::sync::Arc;

use images::{ExportError, LifeError, Reference, Store};

use super::{Class, CommandError};
use crate::cli::{ImageSettings, StoreVerb};
use crate::report::Sink;
use crate::run::error::RunError;
use crate::run::identity::{self, Lease};
use crate::sandbox::zygote::Zygote;

/// Does what concerns the store.
///
/// # Errors
/// An image that is not there, or cannot be had; a store that cannot be read or written.
pub fn image(zygote: Zygote, settings: &ImageSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let zygote = Arc::new(zygote);
    match &settings.verb {
        StoreVerb::Pull(specs) => pull::pull(&zygote, settings, specs, out),
        StoreVerb::Import { source, name } => pull::import(&zygote, settings, source, name, out),
        StoreVerb::List => store::list(settings, out),
        StoreVerb::Inspect(image) => store::inspect(settings, image, out),
        StoreVerb::Remove(images) => store::remove(&zygote, settings, images, out),
        StoreVerb::Prune(limits) => store::prune(&zygote, settings, limits, out),
        StoreVerb::Verify(images) => store::verify(&zygote, settings, images, out),
        StoreVerb::Export { image, target, form } => {
            store::export_image(&zygote, settings, image, (target, *form), out)
        }
    }
}

fn open(home: &Path) -> Result<Store, CommandError> {
    Ok(Store::open(&home.join("store")).map_err(RunError::from)?)
}

/// Settles whose ids files have: an ordinary user's layers belong to ids of a user namespace.
fn ids(zygote: &Zygote, home: &Path) -> Result<Lease, CommandError> {
    Ok(identity::establish(zygote, home).map_err(RunError::from)?)
}

/// The names by which an image may be meant, as the store has them: what was typed, and completed as references are.
fn meant(text: &str) -> Vec<String> {
    let base = std::env::current_dir().unwrap_or_default();
    let completed = Reference::parse(text, &base).ok().map(|reference| reference.to_string());
    completed.into_iter().chain([text.to_owned()]).collect()
}

impl From<LifeError> for CommandError {
    fn from(error: LifeError) -> Self {
        let (class, hint) = match &error {
            LifeError::Store(_) => (Class::Host, None),
            LifeError::Pulling => (Class::Host, Some("try again when it is done")),
            LifeError::Unknown(_) => (Class::Usage, Some("`runner image list` shows what is there")),
            LifeError::Ambiguous(_) => (Class::Usage, Some("give more digits")),
            LifeError::InUse(_) => (Class::Host, Some("wait until the run has ended, or cancel it")),
        };
        let wrapped = Self::new(class, error);
        match hint {
            Some(hint) => wrapped.with_hint(hint),
            None => wrapped,
        }
    }
}

impl From<ExportError> for CommandError {
    fn from(error: ExportError) -> Self {
        let exists = matches!(&error, ExportError::Path { source, .. } if source.kind() == std::io::ErrorKind::AlreadyExists);
        let missing = matches!(&error, ExportError::Missing { .. });
        let wrapped = Self::new(if exists { Class::Usage } else { Class::Host }, error);
        match (exists, missing) {
            (true, _) => wrapped.with_hint("name a file or directory that does not exist"),
            (_, true) => wrapped.with_hint("pull the image again"),
            (false, false) => wrapped,
        }
    }
}
