//! `runner cache`: what jobs have kept for later ones.

use std::time::SystemTime;

use super::{Class, CommandError};
use crate::cli::{CacheSettings, CacheVerb};
use crate::report::{Sink, cache as show};
use crate::run::caches::{self, CacheError, CacheLimits, Caches};
use crate::run::errands::Servants;
use crate::run::error::RunError;
use crate::run::identity;
use crate::sandbox::zygote::Zygote;

impl From<CacheError> for CommandError {
    fn from(error: CacheError) -> Self {
        CommandError::new(Class::Host, error.to_string())
    }
}

/// Does what the verb says, and returns what to exit with.
///
/// # Errors
/// A key that nothing is kept under; caches that cannot be read or removed.
pub fn cache(zygote: &Zygote, settings: &CacheSettings, out: &mut Sink) -> Result<u8, CommandError> {
    let all = Caches::open(&settings.home)?;
    if let CacheVerb::List { json } = &settings.verb {
        show::list(out, &caches::list(&all, SystemTime::now())?, *json);
        return Ok(0);
    }
    // An ordinary user's files belong to ids of a user namespace.
    let lease = identity::establish(zygote, &settings.home).map_err(RunError::from)?;
    let servants = Servants { zygote, identity: lease.identity, user: (0, 0) };
    match &settings.verb {
        CacheVerb::List { .. } => {}
        CacheVerb::Remove(keys) => {
            let removed = caches::remove(&all, keys, &servants)?;
            if let Some(unknown) = keys.iter().find(|key| !removed.iter().any(|one| one.key == **key)) {
                let text = format!("nothing is kept under the key `{unknown}`");
                return Err(CommandError::new(Class::Usage, text)
                    .with_hint("`runner cache list` shows what is there".to_owned()));
            }
            show::removed(out, &removed);
        }
        &CacheVerb::Prune { older, bytes_max, dry_run, json } => {
            let limits = CacheLimits { older, bytes_max, dry_run };
            let pruned = caches::prune(&all, limits, SystemTime::now(), &servants)?;
            show::pruned(out, &pruned, limits, json);
        }
    }
    Ok(0)
}
