//! A conversation with a registry about one repository: documents as a whole, blobs as downloads.

use std::sync::Arc;

use super::access::Access;
use super::client::client;
use super::download::{Begun, Download, Piece, Request};
use super::endpoint::{Endpoint, endpoints};
use super::error::FetchError;
use super::settings::FetchSettings;
use crate::digest::Digest;
use crate::manifest::{ACCEPTED, MANIFEST_BYTES_MAX};
use crate::progress::Progress;
use crate::reference::RegistryName;

/// A repository with the places that may have it. Clones share connections and logins.
#[derive(Clone)]
pub(crate) struct Session {
    repository: String,
    /// The one that answered first stays first.
    places: Vec<Place>,
}

#[derive(Clone)]
struct Place {
    endpoint: Endpoint,
    client: reqwest::Client,
    access: Arc<Access>,
}

/// A document as it was sent.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
}

impl Session {
    /// Prepares to speak; nothing is sent yet.
    pub(crate) fn new(name: &RegistryName, settings: &FetchSettings) -> Result<Session, FetchError> {
        let places = endpoints(name, settings).into_iter().map(|endpoint| place(endpoint, name, settings));
        Ok(Session { repository: name.repository().to_owned(), places: places.collect::<Result<_, _>>()? })
    }

    /// Fetches the manifest or index of this tag or digest.
    pub(crate) async fn manifest(
        &mut self,
        which: &str,
        settings: &FetchSettings,
        progress: &dyn Progress,
    ) -> Result<Fetched, FetchError> {
        let rest = format!("manifests/{which}");
        self.find(&rest, Some(ACCEPTED), MANIFEST_BYTES_MAX, settings, progress).await
    }

    /// Fetches a small blob as a whole.
    pub(crate) async fn small_blob(
        &mut self,
        digest: Digest,
        bytes_max: u64,
        settings: &FetchSettings,
        progress: &dyn Progress,
    ) -> Result<Vec<u8>, FetchError> {
        let rest = format!("blobs/{digest}");
        Ok(self.find(&rest, None, bytes_max, settings, progress).await?.bytes)
    }

    /// Begins to download a blob from the first place that has it.
    pub(crate) async fn blob<'a>(
        &self,
        digest: Digest,
        bytes_max: u64,
        settings: &'a FetchSettings,
        progress: &'a dyn Progress,
    ) -> Result<Box<Download<'a>>, FetchError> {
        let mut last = None;
        for place in &self.places {
            let request =
                place.request(&self.repository, &format!("blobs/{digest}"), None, Some(bytes_max))?;
            match begin(request, settings, progress).await {
                Ok(download) => return Ok(download),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| nowhere(&self.repository)))
    }

    /// Asks one place after the other; remembers the first that answers. The last one's error is the image's own
    /// registry's, which tells most.
    async fn find(
        &mut self,
        rest: &str,
        accept: Option<&'static str>,
        bytes_max: u64,
        settings: &FetchSettings,
        progress: &dyn Progress,
    ) -> Result<Fetched, FetchError> {
        let mut last = None;
        let mut at = 0;
        while let Some(place) = self.places.get(at) {
            let request = place.request(&self.repository, rest, accept, Some(bytes_max))?;
            match whole(request, settings, progress).await {
                Ok(fetched) => {
                    self.places[..=at].rotate_right(1);
                    return Ok(fetched);
                }
                Err(error) if place.endpoint.or_http && error.is_unconnected() => {
                    let Some(plain) = place.endpoint.plain() else { return Err(error) };
                    self.places[at].endpoint = plain;
                }
                Err(error) => {
                    last = Some(error);
                    at += 1;
                }
            }
        }
        Err(last.unwrap_or_else(|| nowhere(&self.repository)))
    }
}

fn nowhere(repository: &str) -> FetchError {
    FetchError::Login { url: repository.to_owned(), what: "its registry has no address".to_owned() }
}

fn place(endpoint: Endpoint, name: &RegistryName, settings: &FetchSettings) -> Result<Place, FetchError> {
    let client = client(&endpoint.base, settings, endpoint.authority.as_deref())?;
    let credentials = settings.credentials.clone();
    let access = Access::new(client.clone(), &endpoint.registry, name.repository(), credentials);
    Ok(Place { endpoint, client, access: Arc::new(access) })
}

impl Place {
    fn request(
        &self,
        repository: &str,
        rest: &str,
        accept: Option<&'static str>,
        bytes_max: Option<u64>,
    ) -> Result<Request, FetchError> {
        let url = self.endpoint.url(repository, rest).ok_or_else(|| nowhere(repository))?;
        let (client, access) = (Some(self.client.clone()), Some(self.access.clone()));
        // What is asked for by digest can go on wherever it broke off; the digest is verified in the end.
        let immutable = rest.contains("sha256:");
        let probing = self.endpoint.or_http;
        Ok(Request { url, client, accept, access, immutable, probing, bytes_max })
    }
}

async fn begin<'a>(
    request: Request,
    settings: &'a FetchSettings,
    progress: &'a dyn Progress,
) -> Result<Box<Download<'a>>, FetchError> {
    let url = request.url.to_string();
    match Download::begin(request, None, settings, progress).await? {
        Begun::Body(download) => Ok(download),
        Begun::NotModified => {
            let what = "it says \"not modified\" without having been asked".to_owned();
            Err(FetchError::Inconsistent { url, what })
        }
    }
}

async fn whole(
    request: Request,
    settings: &FetchSettings,
    progress: &dyn Progress,
) -> Result<Fetched, FetchError> {
    let mut download = begin(request, settings, progress).await?;
    let mut bytes = Vec::new();
    loop {
        match download.piece().await? {
            Piece::Bytes(chunk) => bytes.extend_from_slice(chunk.as_ref()),
            Piece::Restart => bytes.clear(),
            Piece::End => break,
        }
    }
    Ok(Fetched { bytes, content_type: download.content_type().map(str::to_owned) })
}
