//! The job's root filesystem: asks `images` for it, lets servants unpack where rights are missing, tells its progress.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use images::unpack::{UnpackError, UnpackFault, UnpackOptions, UnpackSummary};
use images::{
    Digest, FetchSettings, InProcess, Ownership, Progress, PullEvent, Reference, RemoveError, Rootfs, Store,
    Unpacker, obtain,
};
use jobs::{ImageSpec, User};
use tokio::sync::mpsc;

use super::errands::Servants;
use super::error::RunError;
use super::feed::Feed;
use crate::event::What;
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
}

/// Unpacks inside the step's user namespace: an ordinary user cannot give files to other ids from outside.
struct ByServant {
    zygote: Arc<Zygote>,
    identity: Identity,
    user: (u32, u32),
    flavour: String,
}

impl Unpacker for ByServant {
    fn unpack(
        &self,
        source: Box<dyn Read + Send>,
        target: OwnedFd,
        options: &UnpackOptions,
    ) -> Result<UnpackSummary, UnpackError> {
        let servants = Servants { zygote: &self.zygote, identity: self.identity, user: self.user };
        match servants.unpack(source, target.as_fd(), options) {
            Ok(result) => result,
            Err(error) => {
                Err(UnpackError { entry: None, fault: UnpackFault::Source { what: error.to_string() } })
            }
        }
    }

    fn flavour(&self) -> &str {
        &self.flavour
    }

    fn ownership(&self) -> Ownership {
        Ownership::Mapped
    }

    fn remove(&self, parent: BorrowedFd<'_>, name: &str) -> Result<(), RemoveError> {
        let servants = Servants { zygote: &self.zygote, identity: self.identity, user: self.user };
        servants.remove(parent, name).map_err(|_| RemoveError {
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
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let settings = FetchSettings::default();
        let pull =
            obtain(&reference, sha256, &store, self.unpacker(user), &settings, Arc::new(Channel(sender)));
        tokio::pin!(pull);
        let mut moment = Moment::default();
        loop {
            tokio::select! {
                done = &mut pull => {
                    while let Ok(event) = receiver.try_recv() {
                        tell(feed, &spec.reference, &mut moment, event);
                    }
                    return Ok(done?);
                }
                Some(event) = receiver.recv() => tell(feed, &spec.reference, &mut moment, event),
            }
        }
    }

    fn unpacker(&self, user: Option<&User>) -> Arc<dyn Unpacker> {
        let user = match user {
            Some(User::Id { uid, gid }) => (*uid, gid.unwrap_or(*uid)),
            Some(User::Root | User::Caller | User::Name(_)) | None => (0, 0),
        };
        match self.identity {
            Identity::Root { .. } => Arc::new(InProcess::KEEP),
            Identity::Single => Arc::new(InProcess::CALLER),
            Identity::Subids => Arc::new(ByServant {
                zygote: Arc::clone(&self.zygote),
                identity: self.identity,
                user,
                flavour: format!("u{}-{}", user.0, user.1),
            }),
        }
    }
}

/// Says what a pull is doing.
fn tell(feed: &Feed, image: &str, moment: &mut Moment, event: PullEvent) {
    let note = match event {
        PullEvent::Started { total, .. } => {
            *moment = Moment { state: "started", bytes: 0, total };
            None
        }
        PullEvent::Bytes { done } => {
            (moment.state, moment.bytes) = ("progress", done);
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
