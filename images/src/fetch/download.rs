//! One download as a sequence of pieces, whatever it takes: retries, resumption, restarts.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE, RETRY_AFTER,
};
use reqwest::{Client, Response, StatusCode};
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::client::{client, connection_error};
use super::error::FetchError;
use super::retry::{pause, retry_after};
use super::settings::FetchSettings;
use crate::progress::{Progress, PullEvent};
use crate::reference::ImageUrl;

/// By what a server tells one state of a file from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

/// The answer to the first request.
pub(crate) enum Begun<'a> {
    /// The file is as the validators say.
    NotModified,
    /// Its bytes follow.
    Body(Box<Download<'a>>),
}

/// What comes next in a download.
pub(crate) enum Piece<B> {
    /// Further bytes.
    Bytes(B),
    /// The file is complete, as far as the server's own words go.
    End,
    /// The server could not go on where it broke off: the bytes after this are the file from its start.
    Restart,
}

/// What is asked for, and how.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) url: ImageUrl,
    /// Made for this URL when there is none.
    pub(super) client: Option<Client>,
    /// The media types that are understood.
    pub(super) accept: Option<&'static str>,
    /// Whom to show which credentials, once they are asked for.
    pub(super) access: Option<Arc<Access>>,
    /// The name is the digest of the content: whatever broke off can go on without a validator.
    pub(super) immutable: bool,
    /// If nobody speaks TLS there, another way is tried at once.
    pub(super) probing: bool,
    /// The most bytes to accept.
    pub(super) bytes_max: Option<u64>,
}

impl Request {
    /// A file behind a URL.
    pub(crate) fn plain(url: &ImageUrl) -> Request {
        let url = url.clone();
        Request {
            url,
            client: None,
            accept: None,
            access: None,
            immutable: false,
            probing: false,
            bytes_max: None,
        }
    }
}

/// A download under way.
pub(crate) struct Download<'a> {
    client: Client,
    request: Request,
    settings: &'a FetchSettings,
    progress: &'a dyn Progress,
    response: Option<Response>,
    validators: Validators,
    received: u64,
    total: Option<u64>,
    content_type: Option<String>,
    tries: u32,
    may_resume: bool,
    started: Instant,
    window_waited: Duration,
    window_bytes: u64,
}

impl<'a> Download<'a> {
    /// Sends the first request; with `known`, the server may say that nothing has changed.
    pub(crate) async fn begin(
        request: Request,
        known: Option<&Validators>,
        settings: &'a FetchSettings,
        progress: &'a dyn Progress,
    ) -> Result<Begun<'a>, FetchError> {
        let mut download = Download {
            client: request.client.clone().map_or_else(|| client(&request.url, settings, None), Ok)?,
            request,
            settings,
            progress,
            response: None,
            validators: Validators::default(),
            received: 0,
            total: None,
            content_type: None,
            tries: 0,
            may_resume: true,
            started: Instant::now(),
            window_waited: Duration::ZERO,
            window_bytes: 0,
        };
        let mut conditions = HeaderMap::new();
        for (name, value) in known
            .iter()
            .flat_map(|known| [(IF_NONE_MATCH, &known.etag), (IF_MODIFIED_SINCE, &known.last_modified)])
        {
            if let Some(Ok(value)) = value.as_ref().map(|value| value.parse()) {
                conditions.insert(name, value);
            }
        }
        loop {
            let response = match download.request(conditions.clone()).await {
                Ok(response) => response,
                Err((error, wanted)) => {
                    download.recover(error, wanted).await?;
                    continue;
                }
            };
            if response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
                return Ok(Begun::NotModified);
            }
            match download.accept_whole(response) {
                Ok(()) => return Ok(Begun::Body(Box::new(download))),
                Err(error) => download.recover(error, None).await?,
            }
        }
    }

    /// Returns the bytes that the server promised.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Returns what the server says that it is.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// Returns by what this state of the file can be asked for again.
    pub(crate) fn validators(&self) -> &Validators {
        &self.validators
    }

    /// Returns the next piece; retries whatever may pass.
    pub(crate) async fn piece(&mut self) -> Result<Piece<impl AsRef<[u8]> + Send + use<>>, FetchError> {
        loop {
            let failure = match self.read().await {
                Ok(Some(bytes)) => return Ok(Piece::Bytes(bytes)),
                Ok(None) => return Ok(Piece::End),
                Err(failure) => failure,
            };
            self.response = None;
            let mut failure = (failure, None);
            loop {
                self.recover(failure.0, failure.1).await?;
                match self.go_on().await {
                    Ok(Piece::Bytes(())) => break,
                    Ok(Piece::End) => return Ok(Piece::End),
                    Ok(Piece::Restart) => return Ok(Piece::Restart),
                    Err(again) => failure = again,
                }
            }
        }
    }

    /// Reads from the open response, watching rate and length.
    async fn read(&mut self) -> Result<Option<impl AsRef<[u8]> + Send + use<>>, FetchError> {
        let url = || self.request.url.to_string();
        let Some(response) = &mut self.response else { return Ok(None) };
        let chunk = loop {
            self.settings
                .total_timeout
                .checked_sub(self.started.elapsed())
                .ok_or_else(|| FetchError::Deadline { url: url(), limit: self.settings.total_timeout })?;
            let before = Instant::now();
            let left = self.settings.stall_window.saturating_sub(self.window_waited);
            let result = timeout(left, response.chunk()).await;
            self.window_waited += before.elapsed();
            match result {
                Ok(Ok(chunk)) => break chunk,
                Ok(Err(error)) if error.is_timeout() || error.is_connect() => {
                    return Err(connection_error(&self.request.url, error));
                }
                Ok(Err(_)) => {
                    return Err(FetchError::BrokenOff {
                        url: url(),
                        received: self.received,
                        total: self.total,
                    });
                }
                Err(_) => end_window(
                    &mut self.window_waited,
                    &mut self.window_bytes,
                    &self.request.url,
                    self.settings,
                )?,
            }
        };
        let Some(chunk) = chunk else {
            return match self.total {
                Some(total) if total != self.received => {
                    Err(FetchError::BrokenOff { url: url(), received: self.received, total: self.total })
                }
                _ => Ok(None),
            };
        };
        self.window_bytes += chunk.len() as u64;
        if self.window_waited >= self.settings.stall_window {
            // Before the chunk counts: it is not handed on, and the next try must ask for it again.
            end_window(&mut self.window_waited, &mut self.window_bytes, &self.request.url, self.settings)?;
        }
        self.received += chunk.len() as u64;
        if self.received > self.bytes_max() {
            return Err(FetchError::TooLarge { url: url(), max: self.bytes_max() });
        }
        if self.total.is_some_and(|total| self.received > total) {
            let what = format!("it sent more than the {} bytes it promised", self.total.unwrap_or_default());
            return Err(FetchError::Inconsistent { url: url(), what });
        }
        Ok(Some(chunk))
    }

    /// Asks for the rest, or for everything once more. `Bytes` means that the rest is coming.
    async fn go_on(&mut self) -> Result<Piece<()>, (FetchError, Option<Duration>)> {
        let mut headers = HeaderMap::new();
        // Without a strong validator the rest could be that of another file.
        let strong = self.validators.etag.as_ref().filter(|etag| !etag.starts_with("W/"));
        let etag = strong.and_then(|etag| etag.parse().ok());
        if self.may_resume
            && self.received > 0
            && (etag.is_some() || self.request.immutable)
            && let Ok(range) = format!("bytes={}-", self.received).parse()
        {
            headers.insert(RANGE, range);
            if let Some(etag) = etag {
                headers.insert(IF_RANGE, etag);
            }
        }
        let resuming = !headers.is_empty();
        let response = self.request(headers).await?;
        let status = response.status();
        if resuming && status == StatusCode::PARTIAL_CONTENT {
            self.accept_rest(response).map_err(|error| (error, None))?;
            return Ok(Piece::Bytes(()));
        }
        if resuming && status == StatusCode::RANGE_NOT_SATISFIABLE {
            let (_, total) = content_range(response.headers());
            // Nothing is left: the connection broke right after the last byte, or the length was not known.
            if total == Some(self.received) && self.total.is_none_or(|known| known == self.received) {
                return Ok(Piece::End);
            }
            self.may_resume = false;
            let what = format!("it has no bytes after {}, though it promised more", self.received);
            return Err((FetchError::Inconsistent { url: self.request.url.to_string(), what }, None));
        }
        self.accept_whole(response).map_err(|error| (error, None))?;
        Ok(Piece::Restart)
    }

    /// Takes a response that has the whole file.
    fn accept_whole(&mut self, response: Response) -> Result<(), FetchError> {
        if response.status() != StatusCode::OK {
            return Err(self.status_error(response.status()));
        }
        let text = |name: HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
        };
        let total = response.content_length();
        if total.is_some_and(|total| total > self.bytes_max()) {
            return Err(FetchError::TooLarge { url: self.request.url.to_string(), max: self.bytes_max() });
        }
        self.content_type = text(CONTENT_TYPE);
        self.validators = Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) };
        (self.received, self.total, self.may_resume) = (0, total, true);
        self.response = Some(response);
        Ok(())
    }

    /// Takes a response that has the bytes from `received` on.
    fn accept_rest(&mut self, response: Response) -> Result<(), FetchError> {
        let (start, total) = content_range(response.headers());
        let fits =
            start == Some(self.received) && (total.is_none() || self.total.is_none() || total == self.total);
        if !fits {
            self.may_resume = false;
            let what = format!("asked to go on after {} bytes, it sent another part", self.received);
            return Err(FetchError::Inconsistent { url: self.request.url.to_string(), what });
        }
        self.total = self.total.or(total);
        self.response = Some(response);
        Ok(())
    }

    /// Sends one request and turns refusals into errors, with the pause that the server asks for.
    ///
    /// A registry that asks for credentials gets them in a second request at once: that is how it is spoken to.
    async fn request(&mut self, headers: HeaderMap) -> Result<Response, (FetchError, Option<Duration>)> {
        self.tries += 1;
        (self.window_waited, self.window_bytes) = (Duration::ZERO, 0);
        let access = self.request.access.clone();
        let shown = match &access {
            Some(access) => access.known().await,
            None => None,
        };
        let mut response = self.send(headers.clone(), shown.clone()).await.map_err(|error| (error, None))?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(access) = access
        {
            let asked = access.obtain(&self.request.url, response.headers(), shown, self.settings).await;
            if let Some(granted) = asked.map_err(|error| (error, None))? {
                response = self.send(headers, Some(granted)).await.map_err(|error| (error, None))?;
            }
        }
        let status = response.status();
        if status.is_success() || matches!(status.as_u16(), 304 | 416) {
            return Ok(response);
        }
        let wanted = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let wanted = wanted.and_then(|value| retry_after(value, SystemTime::now()));
        Err((self.status_error(status), wanted))
    }

    async fn send(
        &self,
        headers: HeaderMap,
        authorization: Option<HeaderValue>,
    ) -> Result<Response, FetchError> {
        let url = self.request.url.url().clone();
        let mut request = self.client.get(url).header(ACCEPT_ENCODING, "identity").headers(headers);
        if let Some(accept) = self.request.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let limit = self.settings.headers_timeout;
        match timeout(limit, request.send()).await {
            Ok(result) => result.map_err(|error| connection_error(&self.request.url, error)),
            Err(_) => {
                let what = format!("no answer within {} s", limit.as_secs_f32());
                Err(FetchError::Stalled { url: self.request.url.to_string(), what })
            }
        }
    }

    fn bytes_max(&self) -> u64 {
        self.request.bytes_max.unwrap_or(self.settings.bytes_max)
    }

    /// Waits before the next try, or gives up.
    async fn recover(&mut self, error: FetchError, wanted: Option<Duration>) -> Result<(), FetchError> {
        if !error.is_passing() || self.request.probing && error.is_unconnected() {
            return Err(error);
        }
        if self.tries >= self.settings.tries_max {
            return Err(FetchError::Exhausted { tries: self.tries, last: Box::new(error) });
        }
        let after = pause(self.tries, wanted, self.settings);
        if self.started.elapsed() + after > self.settings.total_timeout {
            return Err(FetchError::Deadline {
                url: self.request.url.to_string(),
                limit: self.settings.total_timeout,
            });
        }
        self.progress.event(PullEvent::Retrying { attempt: self.tries + 1, why: error.to_string(), after });
        sleep(after).await;
        Ok(())
    }

    fn status_error(&self, status: StatusCode) -> FetchError {
        FetchError::Status {
            url: self.request.url.to_string(),
            status: status.to_string(),
            code: status.as_u16(),
        }
    }
}

/// Ends a span of waiting; too few bytes in it mean that the server only keeps us busy.
fn end_window(
    waited: &mut Duration,
    bytes: &mut u64,
    url: &ImageUrl,
    settings: &FetchSettings,
) -> Result<(), FetchError> {
    let least = (settings.rate_bytes_per_second_min as f64 * settings.stall_window.as_secs_f64()) as u64;
    if *bytes < least {
        let window = settings.stall_window.as_secs_f32();
        let what = format!("only {bytes} bytes came within {window} s, expected at least {least}");
        return Err(FetchError::Stalled { url: url.to_string(), what });
    }
    (*waited, *bytes) = (Duration::ZERO, 0);
    Ok(())
}

/// Reads `Content-Range: bytes START-END/TOTAL`; either number may be missing.
fn content_range(headers: &HeaderMap) -> (Option<u64>, Option<u64>) {
    let parse = || {
        let value = headers.get(CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
        Some((range.split_once('-').and_then(|(start, _)| start.parse().ok()), total.parse().ok()))
    };
    parse().unwrap_or_default()
}
