//! `runner image pull` and `import`: images come into the store.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use images::{FetchSettings, ImportSource, LocalName, Reference, Rootfs};
use jobs::ImageSpec;

use super::ids;
use crate::cli::ImageSettings;
use crate::commands::launch::fetch_settings;
use crate::commands::{Class, CommandError};
use crate::report::{Reporter, Sink, image as show};
use crate::run::error::RunError;
use crate::run::feed::Feed;
use crate::run::identity::Lease;
use crate::run::image::Images;
use crate::sandbox::zygote::Zygote;

/// Pulls each image; the first that cannot be had ends it.
pub(super) fn pull(
    zygote: &Arc<Zygote>,
    settings: &ImageSettings,
    specs: &[ImageSpec],
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let source = Source::new(zygote, settings)?;
    for spec in specs {
        let rootfs = source.follow(settings, async |images, feed| images.obtain(spec, None, feed).await)?;
        show::pulled(out, &rootfs);
    }
    Ok(0)
}

/// Imports one image.
pub(super) fn import(
    zygote: &Arc<Zygote>,
    settings: &ImageSettings,
    text: &str,
    name: &LocalName,
    out: &mut Sink,
) -> Result<u8, CommandError> {
    let source = Source::new(zygote, settings)?;
    let from = if text == "-" {
        ImportSource::Stream(Box::new(std::io::stdin()))
    } else {
        let reference = Reference::parse(text, &source.base);
        ImportSource::Reference(reference.map_err(|error| CommandError::new(Class::Usage, error))?)
    };
    let rootfs = source.follow(settings, async |images, feed| images.import(from, name, feed).await)?;
    show::imported(out, name, &rootfs);
    Ok(0)
}

/// What all pulls of one call share.
struct Source<'s> {
    zygote: &'s Arc<Zygote>,
    lease: Lease,
    base: PathBuf,
    fetch: FetchSettings,
}

impl<'s> Source<'s> {
    fn new(zygote: &'s Arc<Zygote>, settings: &ImageSettings) -> Result<Self, CommandError> {
        let base = std::env::current_dir().map_err(|error| CommandError::new(Class::Usage, error))?;
        let lease = ids(zygote, &settings.home)?;
        Ok(Self { zygote, lease, base, fetch: fetch_settings(&settings.sources) })
    }

    /// Shows the progress of one pull.
    fn follow(
        &self,
        settings: &ImageSettings,
        pull: impl AsyncFnOnce(&Images<'_>, &mut Feed) -> Result<Rootfs, RunError>,
    ) -> Result<Rootfs, CommandError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| CommandError::new(Class::Host, error))?;
        let reporter = Rc::new(RefCell::new(Reporter::new(settings.report)));
        let shown = Rc::clone(&reporter);
        let show = Box::new(move |event: Option<&crate::event::Event>| {
            let mut reporter = shown.borrow_mut();
            match event {
                Some(event) => reporter.event(event, Instant::now()),
                None => reporter.tick(Instant::now()),
            }
        });
        let mut feed = Feed::new(String::new(), None, show);
        let images = Images {
            home: &settings.home,
            base: &self.base,
            zygote: Arc::clone(self.zygote),
            identity: self.lease.identity,
            fetch: &self.fetch,
        };
        let pulled = runtime.block_on(pull(&images, &mut feed));
        reporter.borrow_mut().finish();
        Ok(pulled?)
    }
}
