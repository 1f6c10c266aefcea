//! A set of public keys at a URL, kept fresh: rotation needs no restart, and an outage of the URL no luck.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::metrics;
use super::keys::CheckingKey;

/// The largest set that is read.
const SET_BYTES_MAX: usize = 256 * 1024;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// However many unknown keys are named, the URL is not asked more often.
const GAP: Duration = Duration::from_secs(5);
/// After a failure the next try does not wait for the cache to grow old.
const RETRY: Duration = Duration::from_secs(15);

/// Where a set of keys is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// The text is no URL of a set of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a URL without a password is wanted, as in https://accounts.example.com/.well-known/jwks.json"
)]
pub struct NoJwksUrl;

impl FromStr for JwksUrl {
    type Err = NoJwksUrl;

    fn from_str(text: &str) -> Result<Self, NoJwksUrl> {
        let url: Url = text.parse().map_err(|_no_url| NoJwksUrl)?;
        let is_web = matches!(url.scheme(), "https" | "http");
        // The URL is logged, and a password must not be.
        let is_open = url.username().is_empty() && url.password().is_none();
        (is_web && is_open).then_some(Self(url)).ok_or(NoJwksUrl)
    }
}

/// Why a set of keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum JwksError {
    /// No connection, or no answer in time.
    #[error("the set of keys cannot be fetched")]
    Fetch(#[from] reqwest::Error),
    /// Larger than any set is.
    #[error("the answer is larger than {SET_BYTES_MAX} bytes: this is no set of keys")]
    TooBig,
    /// Something else is there.
    #[error("the answer is no JSON Web Key Set")]
    NoSet(#[from] serde_json::Error),
}

/// What is known of the set.
#[derive(Clone, Debug)]
struct Known {
    keys: Arc<[CheckingKey]>,
    has_fetched: bool,
    is_fresh: bool,
    attempts: u64,
    attempted_at: Option<Instant>,
}

/// A set of keys at a URL.
#[derive(Debug)]
pub struct Jwks {
    url: Url,
    max_age: Duration,
    client: reqwest::Client,
    known: watch::Sender<Known>,
    wanted: Notify,
}

impl Jwks {
    /// A set of which nothing is known yet.
    ///
    /// # Errors
    /// If there can be no TLS.
    pub fn new(url: JwksUrl, max_age: Duration) -> Result<Arc<Self>, JwksError> {
        let JwksUrl(url) = url;
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::limited(3))
            // What began with TLS does not go on without.
            .https_only(url.scheme() == "https")
            .build()?;
        let (known, _) = watch::channel(Known {
            keys: Arc::new([]),
            has_fetched: false,
            is_fresh: false,
            attempts: 0,
            attempted_at: None,
        });
        Ok(Arc::new(Self { url, max_age, client, known, wanted: Notify::new() }))
    }

    /// The keys of the last set that could be had.
    pub(super) fn keys(&self) -> Arc<[CheckingKey]> {
        Arc::clone(&self.known.borrow().keys)
    }

    pub(super) fn has_fetched(&self) -> bool {
        self.known.borrow().has_fetched
    }

    /// Asks for the set at once, and waits for what comes of it.
    ///
    /// # Errors
    /// If it was asked for a moment ago, or could not be had: when it is worth another try.
    pub(super) async fn ask_anew(&self) -> Result<(), Duration> {
        let mut states = self.known.subscribe();
        let attempts = states.borrow_and_update().attempts;
        let wait = self.gap_left();
        if !wait.is_zero() {
            return Err(wait);
        }
        self.wanted.notify_one();
        let fetched = timeout(PATIENCE + GAP, states.wait_for(|known| known.attempts > attempts));
        match fetched.await {
            Ok(Ok(known)) if known.is_fresh => Ok(()),
            _ => Err(GAP),
        }
    }

    /// Keeps the set fresh until stopped.
    pub(in crate::gateway) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let is_fresh = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                is_fresh = self.refresh() => is_fresh,
            };
            let now = Instant::now();
            let due = now + if is_fresh { self.max_age } else { RETRY.min(self.max_age) };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep_until(due) => {}
                () = self.wanted_again() => {}
            }
        }
    }

    /// How long the URL is not to be asked.
    fn gap_left(&self) -> Duration {
        let next = self.known.borrow().attempted_at.map(|last| last + GAP);
        next.map_or(Duration::ZERO, |next| next.saturating_duration_since(Instant::now()))
    }

    /// Somebody asks for a fresh set, and not on account of the last attempt.
    async fn wanted_again(&self) {
        loop {
            self.wanted.notified().await;
            if self.gap_left().is_zero() {
                return;
            }
        }
    }

    /// Asks for the set once. What is known stays when it cannot be had.
    async fn refresh(&self) -> bool {
        let fetched = self.fetch().await;
        metrics::jwks_refreshed(fetched.is_ok());
        let url = &self.url;
        match &fetched {
            Ok(keys) if keys.is_empty() => {
                warn!(%url, "the set of keys at {url} has none for RS256 or EdDSA");
            }
            Ok(_) => {}
            Err(error) => {
                let error: &dyn std::error::Error = error;
                let kept = self.keys().len();
                warn!(%url, error, keys = kept, "the set of keys at {url} cannot be had: {kept} are kept");
            }
        }
        let is_fresh = fetched.is_ok();
        self.known.send_modify(|known| {
            known.attempts += 1;
            known.attempted_at = Some(Instant::now());
            known.is_fresh = is_fresh;
            if let Ok(keys) = fetched {
                if !known.has_fetched || !have_same_names(&known.keys, &keys) {
                    info!(%url, ?keys, "{} keys are at {url}", keys.len());
                }
                metrics::jwks_keys(keys.len());
                known.keys = keys.into();
                known.has_fetched = true;
            }
        });
        is_fresh
    }

    /// Asks for the set, once and for all: for a process that only checks a token.
    ///
    /// # Errors
    /// If it cannot be had.
    pub async fn fetch_once(&self) -> Result<(), JwksError> {
        let keys = self.fetch().await?;
        self.known.send_modify(|known| {
            known.keys = keys.into();
            known.has_fetched = true;
            known.attempted_at = Some(Instant::now());
        });
        Ok(())
    }

    async fn fetch(&self) -> Result<Vec<CheckingKey>, JwksError> {
        let mut answer = self.client.get(self.url.clone()).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > SET_BYTES_MAX {
                return Err(JwksError::TooBig);
            }
            body.extend_from_slice(&chunk);
        }
        keys_of(&body)
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The keys that we can use; others are for others.
fn keys_of(body: &[u8]) -> Result<Vec<CheckingKey>, JwksError> {
    let set: Set = serde_json::from_slice(body)?;
    Ok(set.keys.iter().filter_map(CheckingKey::from_jwk).collect())
}

fn have_same_names(before: &[CheckingKey], after: &[CheckingKey]) -> bool {
    before.iter().map(CheckingKey::kid).eq(after.iter().map(CheckingKey::kid))
}

#[cfg(test)]
mod tests;
