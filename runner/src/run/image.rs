//! The job's root filesystem: asks `images` for it, lets servants unpack where rights are missing, tells its progress.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use images::unpack::{UnpackError, UnpackFault, UnpackOptions, UnpackSummary};
use images::{
    Digest, FetchSettings, ImportSource, InProcess, LocalName, Ownership, Progress, PullEvent, Reference,
    Refresh, RemoveError, Rootfs, Store, TreeError, Unpacker, copy_image, import, obtain,
};
use jobs::{ImageSpec, Pull, User};
use tokio::sync::mpsc;

use super::errands::Servants;
use super::error::RunError;
use super::feed::Feed;
use super::users::Accounts;
use crate::event::{LayerPull, What};
use crate::sandbox::ids::Identity;
use crate::sandbox::zygote::Zygote;

/// Where images come from and go to.
pub struct Images<'i> {
    /// The home directory.
    pub home: &'i Path,
    /// Relative paths start here.
    pub base: &'i Path,
    /// Who starts servants.
    pub zygote: Arc<Zygote>,
    /// Whose ids files get.
    pub identity: Identity,
    /// How images are come by.
    pub fetch: &'i FetchSettings,
}

/// Unpacks inside the step's user namespace: an ordinary user cannot give files to other ids from outside.
struct ByServant {
    zygote: Arc<Zygote>,
    identity: Identity,
    user: (u32, u32),
    flavour: String,
}

impl ByServant {
    fn servants(&self) -> Servants<'_> {
        Servants { zygote: &self.zygote, identity: self.identity, user: self.user }
    }
}

impl Unpacker for ByServant {
    fn unpack(
        &self,
        source: Box<dyn Read + Send>,
        target: OwnedFd,
        record: Option<File>,
        options: &UnpackOptions,
    ) -> Result<UnpackSummary, UnpackError> {
        let record = record.as_ref().map(AsFd::as_fd);
        match self.servants().unpack(source, target.as_fd(), record, options) {
            Ok(result) => result,
            Err(error) => {
                Err(UnpackError { entry: None, fault: UnpackFault::Source { what: error.to_string() } })
            }
        }
    }

    fn record(&self, tree: OwnedFd, out: File) -> Result<Digest, TreeError> {
        self.servants().record(tree.as_fd(), out.as_fd()).unwrap_or_else(|error| {
            let errno = rustix::io::Errno::IO;
            Err(TreeError { action: "list inside the user namespace", path: error.to_string(), errno })
        })
    }

    fn pack(&self, tree: OwnedFd, out: File) -> std::io::Result<()> {
        self.servants().pack(tree.as_fd(), out.as_fd()).map_err(std::io::Error::other)
    }

    fn flavour(&self) -> &str {
        &self.flavour
    }

    fn ownership(&self) -> Ownership {
        Ownership::Mapped
    }

    fn remove(&self, parent: BorrowedFd<'_>, name: &str) -> Result<(), RemoveError> {
        self.servants().remove(parent, name).map_err(|_| RemoveError {
            name: name.to_owned(),
            action: "remove it inside the user namespace",
            errno: rustix::io::Errno::IO,
        })
    }
}

/// Hands progress from whatever thread to the feed's.
struct Channel(mpsc::UnboundedSender<PullEvent>);

impl Progress for Channel {
    fn event(&self, event: PullEvent) {
        let _nobody_listens = self.0.send(event);
    }
}

impl Images<'_> {
    /// Makes the image ready for steps that run as `user`.
    ///
    /// # Errors
    /// [`ImageError`]; nothing half-made stays.
    pub async fn obtain(
        &self,
        spec: &ImageSpec,
        user: Option<&User>,
        feed: &Feed,
    ) -> Result<Rootfs, RunError> {
        let reference = Reference::parse(&spec.reference, self.base)?;
        let sha256 = spec.sha256.as_deref().map(|hex| hex.parse::<Digest>()).transpose()?;
        let store = Store::open(&self.home.join("store"))?;
        let settings = asked(self.fetch, spec.pull);
        let wanted = Wanted { spec, reference: &reference, sha256, store: &store, settings: &settings };
        let rootfs = self.obtain_as(&wanted, numbers(user), feed).await?;
        // With subids the layers lie in the store as the step's user sees them. Who that is may stand in the image only.
        let named = match (self.identity, user, rootfs.config.user.as_deref()) {
            (Identity::Subids { .. }, Some(User::Name(name)), _) => Some(name.as_str()),
            (Identity::Subids { .. }, None, name) => name,
            _ => None,
        };
        let Some(user) = named.and_then(|name| Accounts::read(&rootfs.layers).by_config(name)) else {
            return Ok(rootfs);
        };
        if user.uid == 0 && user.gid == 0 {
            return Ok(rootfs);
        }
        let user = (user.uid, user.gid);
        if let Some(digest) = rootfs.digest {
            // Whether it came to anything shows below: what is missing is obtained.
            let _copied = copy_image(digest, &store, self.unpacker((0, 0)), self.unpacker(user)).await?;
        }
        let settings = asked(&settings, Some(Pull::Missing));
        let wanted = Wanted { settings: &settings, ..wanted };
        self.obtain_as(&wanted, user, feed).await
    }

    async fn obtain_as(
        &self,
        wanted: &Wanted<'_>,
        user: (u32, u32),
        feed: &Feed,
    ) -> Result<Rootfs, RunError> {
        let Wanted { spec, reference, sha256, store, settings } = *wanted;
        let (sender, receiver) = mpsc::unbounded_channel();
        let pull = obtain(reference, sha256, store, self.unpacker(user), settings, Arc::new(Channel(sender)));
        follow(pull, receiver, &spec.reference, feed).await
    }

    /// Brings an image into the store under a name of the user's own.
    ///
    /// # Errors
    /// [`ImageError`]; nothing half-made stays.
    pub async fn import(
        &self,
        source: ImportSource,
        name: &LocalName,
        feed: &Feed,
    ) -> Result<Rootfs, RunError> {
        let store = Store::open(&self.home.join("store"))?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let import =
            import(source, name, &store, self.unpacker((0, 0)), self.fetch, Arc::new(Channel(sender)));
        follow(import, receiver, &format!("local:{}", name.as_str()), feed).await
    }

    fn unpacker(&self, user: (u32, u32)) -> Arc<dyn Unpacker> {
        unpacker(&self.zygote, self.identity, user)
    }
}

/// Waits for a pull and tells what it does.
async fn follow(
    pull: impl Future<Output = Result<Rootfs, images::ImageError>>,
    mut receiver: mpsc::UnboundedReceiver<PullEvent>,
    image: &str,
    feed: &Feed,
) -> Result<Rootfs, RunError> {
    tokio::pin!(pull);
    let mut moment = Moment::default();
    loop {
        tokio::select! {
            done = &mut pull => {
                while let Ok(event) = receiver.try_recv() {
                    tell(feed, image, &mut moment, event);
                }
                return Ok(done?);
            }
            Some(event) = receiver.recv() => tell(feed, image, &mut moment, event),
        }
    }
}

/// Who writes the trees of images for steps that run as `user`.
pub fn unpacker(zygote: &Arc<Zygote>, identity: Identity, user: (u32, u32)) -> Arc<dyn Unpacker> {
    match identity {
        Identity::Root { .. } => Arc::new(InProcess::KEEP),
        Identity::Single => Arc::new(InProcess::CALLER),
        Identity::Subids { .. } => Arc::new(ByServant {
            zygote: Arc::clone(zygote),
            identity,
            user,
            flavour: format!("u{}-{}", user.0, user.1),
        }),
    }
}

/// One image as the job wants it.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    spec: &'w ImageSpec,
    reference: &'w Reference,
    sha256: Option<Digest>,
    store: &'w Store,
    settings: &'w FetchSettings,
}

/// The ids that a user is known by before the image is there.
fn numbers(user: Option<&User>) -> (u32, u32) {
    match user {
        Some(User::Id { uid, gid }) => (*uid, gid.unwrap_or(*uid)),
        Some(User::Root | User::Caller | User::Name(_)) | None => (0, 0),
    }
}

/// The settings as the job's `pull` wants them.
fn asked(settings: &FetchSettings, pull: Option<Pull>) -> FetchSettings {
    let mut settings = settings.clone();
    match pull {
        Some(Pull::Missing) => settings.refresh = Refresh::Missing,
        Some(Pull::Always) => settings.refresh = Refresh::Always,
        Some(Pull::Never) => settings.offline = true,
        None => {}
    }
    settings
}

/// Says what a pull is doing.
fn tell(feed: &Feed, image: &str, moment: &mut Moment, event: PullEvent) {
    let mut layer = None;
    let note = match event {
        PullEvent::Started { total, .. } => {
            *moment = Moment { state: "started", bytes: 0, total };
            None
        }
        PullEvent::Bytes { done } => {
            (moment.state, moment.bytes) = ("progress", done);
            None
        }
        PullEvent::Layer { number, layers, done, total, finished } => {
            moment.state = "progress";
            layer = Some(LayerPull { number, layers, bytes: done, total, finished });
            None
        }
        PullEvent::Waiting { .. } => {
            moment.state = "waiting";
            Some("another run is pulling it".to_owned())
        }
        PullEvent::Retrying { attempt, why, after } => {
            moment.state = "retrying";
            Some(format!("{why}; try {attempt} in {:.1} s", after.as_secs_f64()))
        }
        PullEvent::Finished { bytes, cached, .. } => {
            (moment.state, moment.bytes) = (if cached { "cached" } else { "finished" }, bytes);
            None
        }
    };
    let what = What::ImagePull {
        image: image.to_owned(),
        state: moment.state,
        bytes: moment.bytes,
        total: moment.total,
        layer,
        note,
    };
    feed.send(None, None, what);
}

/// How far a pull is.
#[derive(Debug, Default)]
struct Moment {
    state: &'static str,
    bytes: u64,
    total: Option<u64>,
}
