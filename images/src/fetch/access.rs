//! Logging in to a registry for one repository: what is shown is learned once and shared by all its downloads.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::challenge::{self, Challenge};
use super::client::connection_error;
use super::error::FetchError;
use super::settings::{Credential, Credentials, FetchSettings};
use crate::reference::ImageUrl;

/// Bytes of a token server's answer; real tokens have 2 to 10 KB.
const TOKEN_BYTES_MAX: usize = 256 << 10;
/// How long a token holds whose server does not say (the token specification).
const TOKEN_SECONDS_DEFAULT: u64 = 60;
/// The longest that a token is kept; a process lives shorter, and clocks could overflow.
const TOKEN_SECONDS_MAX: u64 = 86_400;
/// A token is given up so long before its end, since a request takes its time.
const TOKEN_MARGIN: Duration = Duration::from_secs(5);
/// Tries to get a token, each with the usual pauses between them.
const TOKEN_TRIES_MAX: u32 = 3;

/// How we are known to a registry.
#[derive(Debug)]
pub(super) struct Access {
    client: Client,
    /// By which credentials are found: the registry's host and port.
    registry: String,
    /// `repository:library/alpine:pull`.
    scope: String,
    credentials: Arc<dyn Credentials>,
    granted: Mutex<Option<Granted>>,
}

/// The value of `Authorization` that the registry takes.
#[derive(Debug, Clone)]
struct Granted {
    value: HeaderValue,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Access {
    pub(super) fn new(
        client: Client,
        registry: &str,
        repository: &str,
        credentials: Arc<dyn Credentials>,
    ) -> Access {
        let scope = format!("repository:{repository}:pull");
        Access { client, registry: registry.to_owned(), scope, credentials, granted: Mutex::new(None) }
    }

    /// Returns what to show, if that is known already.
    pub(super) async fn known(&self) -> Option<HeaderValue> {
        let granted = self.granted.lock().await;
        let granted = granted.as_ref()?;
        granted.until.is_none_or(|until| Instant::now() < until).then(|| granted.value.clone())
    }

    /// Returns what to show after a refusal with these headers; `None` when nothing better is to be had.
    ///
    /// `shown` is what was refused: if another download has got something newer meanwhile, that is taken.
    pub(super) async fn obtain(
        &self,
        url: &ImageUrl,
        headers: &HeaderMap,
        shown: Option<HeaderValue>,
        settings: &FetchSettings,
    ) -> Result<Option<HeaderValue>, FetchError> {
        let mut granted = self.granted.lock().await;
        if let Some(newer) = granted.as_ref()
            && shown.as_ref() != Some(&newer.value)
        {
            return Ok(Some(newer.value.clone()));
        }
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let Some(challenge) = challenge::read(values) else { return Ok(None) };
        *granted = match challenge {
            // The password was refused.
            Challenge::Basic if shown.is_some() => None,
            Challenge::Basic => self.basic(url).await?,
            Challenge::Bearer { realm, service, scope } => {
                let realm = self.realm(url, &realm)?;
                Some(self.token(&realm, service, scope, settings).await?)
            }
        };
        Ok(granted.as_ref().map(|granted| granted.value.clone()))
    }

    async fn basic(&self, url: &ImageUrl) -> Result<Option<Granted>, FetchError> {
        Ok(match self.credential(url).await? {
            Some(Credential::Password { user, password }) => {
                let value = self.client.get(url.url().clone()).basic_auth(user, Some(password)).build();
                let value = value
                    .ok()
                    .and_then(|request| request.headers().get(reqwest::header::AUTHORIZATION).cloned());
                value.map(|value| Granted { value: sensitive(value), until: None })
            }
            Some(Credential::IdentityToken(_)) => {
                let what = "the registry wants a password, and only an identity token is known".to_owned();
                return Err(FetchError::Login { url: url.to_string(), what });
            }
            None => None,
        })
    }

    /// Asks whoever knows, which may start a program of the user's.
    async fn credential(&self, url: &ImageUrl) -> Result<Option<Credential>, FetchError> {
        let failed = |what: String| FetchError::Login { url: url.to_string(), what };
        let (credentials, registry) = (self.credentials.clone(), self.registry.clone());
        let found = tokio::task::spawn_blocking(move || credentials.find(&registry)).await;
        found.map_err(|error| failed(error.to_string()))?.map_err(failed)
    }

    /// Judges where the registry sends us for a token: never from https to http, where anybody could listen.
    fn realm(&self, url: &ImageUrl, realm: &str) -> Result<ImageUrl, FetchError> {
        let failed = |what: &str| FetchError::Login { url: url.to_string(), what: what.to_owned() };
        let realm =
            ImageUrl::parse(realm).map_err(|_| failed("it names no usable place to get a token from"))?;
        if url.url().scheme() == "https" && realm.url().scheme() != "https" {
            return Err(failed("it sends us to an unencrypted place for a token"));
        }
        Ok(realm)
    }

    async fn token(
        &self,
        realm: &ImageUrl,
        service: Option<String>,
        scope: Option<String>,
        settings: &FetchSettings,
    ) -> Result<Granted, FetchError> {
        let credential = self.credential(realm).await?;
        let scope = scope.unwrap_or_else(|| self.scope.clone());
        let mut tries = 0;
        loop {
            tries += 1;
            let answer =
                self.ask_token(realm, service.as_deref(), &scope, credential.as_ref(), settings).await;
            match answer {
                Err(error) if error.is_passing() && tries < TOKEN_TRIES_MAX => {
                    tokio::time::sleep(super::retry::pause(tries, None, settings)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn ask_token(
        &self,
        realm: &ImageUrl,
        service: Option<&str>,
        scope: &str,
        credential: Option<&Credential>,
        settings: &FetchSettings,
    ) -> Result<Granted, FetchError> {
        let failed = |what: String| FetchError::Login { url: realm.to_string(), what };
        let mut fields: Vec<(&str, &str)> = vec![("scope", scope)];
        fields.extend(service.map(|service| ("service", service)));
        let mut url = realm.url().clone();
        let request = match credential {
            Some(Credential::IdentityToken(token)) => {
                fields.extend([
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                    ("client_id", "runner"),
                ]);
                self.client
                    .post(url)
                    .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form(&fields))
            }
            Some(Credential::Password { user, password }) => {
                url.query_pairs_mut().extend_pairs(&fields).append_pair("account", user);
                self.client.get(url).basic_auth(user, Some(password))
            }
            None => {
                url.query_pairs_mut().extend_pairs(&fields);
                self.client.get(url)
            }
        };
        let bytes = answer(realm, request, settings).await?;
        let answer: TokenAnswer =
            serde_json::from_slice(&bytes).map_err(|_| failed("its answer is no token".to_owned()))?;
        let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| failed("its answer holds no token".to_owned()))?;
        let value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| failed("its token has characters that no token has".to_owned()))?;
        let holds =
            Duration::from_secs(answer.expires_in.unwrap_or(TOKEN_SECONDS_DEFAULT).min(TOKEN_SECONDS_MAX));
        let until = Some(Instant::now() + holds.saturating_sub(TOKEN_MARGIN));
        Ok(Granted { value: sensitive(value), until })
    }
}

/// Sends a request for a token and reads the answer, bounded in time and length.
async fn answer(
    realm: &ImageUrl,
    request: reqwest::RequestBuilder,
    settings: &FetchSettings,
) -> Result<Vec<u8>, FetchError> {
    let url = || realm.to_string();
    let asked = timeout(settings.headers_timeout, async {
        let mut response = request.send().await?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > TOKEN_BYTES_MAX {
                break;
            }
        }
        Ok((status, bytes))
    });
    let Ok(asked) = asked.await else {
        let what = format!("no token within {} s", settings.headers_timeout.as_secs_f32());
        return Err(FetchError::Stalled { url: url(), what });
    };
    let (status, bytes) = asked.map_err(|error| connection_error(realm, error))?;
    if !status.is_success() {
        return Err(FetchError::Status { url: url(), status: status.to_string(), code: status.as_u16() });
    }
    if bytes.len() > TOKEN_BYTES_MAX {
        return Err(FetchError::TooLarge { url: url(), max: TOKEN_BYTES_MAX as u64 });
    }
    Ok(bytes)
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// Keeps the value out of debug output.
fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}
