//! Where the archive is: the options of an object store, and how it is opened.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::reader::Reader;

/// Where the archive is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Archive store")]
pub struct StoreConfig {
    /// Where the archive is: a directory (a path, or `file:///srv/archive`) or `s3://bucket/prefix`.
    #[arg(id = "store", long = "store", value_name = "URL", env = "TABLECAST_STORE")]
    pub url: StoreUrl,
    /// How to get in.
    #[command(flatten)]
    pub access: StoreAccess,
}

/// Where a gateway finds tables that are over.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Archive store")]
pub struct ArchiveConfig {
    /// Where the archive is, as for the archiver: tables that are over are shown from there. Without it they are
    /// answered as `archived`.
    #[arg(
        id = "archive_url",
        long = "archive-url",
        value_name = "URL",
        env = "TABLECAST_GATEWAY_ARCHIVE_URL"
    )]
    pub url: Option<StoreUrl>,
    /// How to get in.
    #[command(flatten)]
    pub access: StoreAccess,
}

impl ArchiveConfig {
    /// Opens the archive for reading, if there is one.
    ///
    /// # Errors
    /// As [`StoreConfig::open`].
    pub fn open(&self) -> Result<Option<Reader>, StoreError> {
        let Some(url) = self.url.clone() else {
            return Ok(None);
        };
        let store = StoreConfig { url, access: self.access.clone() };
        Ok(Some(Reader::new(store.open(Purpose::Read)?)))
    }
}

/// What it takes to use a store.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StoreAccess {
    /// The address of an S3 store that is not AWS, as in `https://s3.example.org:8333`.
    #[arg(long, value_name = "URL", env = "TABLECAST_S3_ENDPOINT")]
    pub s3_endpoint: Option<String>,

    /// The S3 region. Stores other than AWS mostly do not care.
    #[arg(long, env = "TABLECAST_S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,

    /// Allow an endpoint without TLS: whoever is on the way reads and changes the archive.
    #[arg(long, env = "TABLECAST_S3_ALLOW_HTTP")]
    pub s3_allow_http: bool,

    /// The S3 access key. Better given by the environment: arguments are seen by every process.
    #[arg(long, value_name = "KEY", env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
    pub s3_access_key_id: Option<Secret>,

    /// The secret of the access key.
    #[arg(long, value_name = "SECRET", env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub s3_secret_access_key: Option<Secret>,

    /// The token that belongs to temporary keys.
    #[arg(long, value_name = "TOKEN", env = "AWS_SESSION_TOKEN", hide_env_values = true)]
    pub s3_session_token: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// A kind of store, and the place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory, created when it is opened.
    Directory(PathBuf),
    /// A bucket, and the folder in it.
    S3 {
        /// Must exist.
        bucket: String,
        /// May be empty.
        prefix: String,
    },
    /// The memory of this process, for tests.
    Memory,
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Memory => f.write_str("memory:"),
        }
    }
}

/// A text that names no store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Of a kind that cannot be written to.
    #[error("a store is a path, file:///path or s3://bucket/prefix; {0}:// is not supported")]
    Scheme(String),
    /// `s3://` without a bucket.
    #[error("s3:// needs a bucket, as in s3://games/archive")]
    NoBucket,
    /// A directory that depends on where the process starts.
    #[error("file:// needs an absolute path with three slashes, as in file:///srv/archive")]
    Relative,
    /// Nothing.
    #[error("a store is a path, file:///path or s3://bucket/prefix")]
    Empty,
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        match text.split_once("://") {
            None if text.is_empty() => Err(StoreUrlError::Empty),
            None => Ok(Self::Directory(text.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Directory(path.into())),
            Some(("file", _)) => Err(StoreUrlError::Relative),
            Some(("s3", place)) => {
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                if bucket.is_empty() {
                    return Err(StoreUrlError::NoBucket);
                }
                Ok(Self::S3 {
                    bucket: bucket.to_owned(),
                    prefix: prefix.trim_matches('/').to_owned(),
                })
            }
            Some((scheme, _)) => Err(StoreUrlError::Scheme(scheme.to_owned())),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be made, entered or written.
    #[error(
        "the archive's directory {path} cannot be used: check that it can be created and written"
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// In the system's words.
        source: std::io::Error,
    },
    /// The same, by the store's own check.
    #[error("the store {url} cannot be opened")]
    Open {
        /// Which.
        url: StoreUrl,
        /// In the store's words.
        source: object_store::Error,
    },
    /// No keys.
    #[error("the store {url} needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")]
    NoCredentials {
        /// Which.
        url: StoreUrl,
    },
    /// Plain text, and nobody said that this is fine.
    #[error(
        "the endpoint {endpoint} of store {url} has no TLS: use https, or allow it by --s3-allow-http"
    )]
    NoTls {
        /// Which.
        url: StoreUrl,
        /// Its address.
        endpoint: String,
    },
}

/// What a store is opened for: how long to insist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The archiver has patience, and a loop of its own.
    Write,
    /// Somebody waits for the answer.
    Read,
}

impl Purpose {
    /// Tries after the first, time for all of them, time for each.
    fn limits(self) -> (usize, Duration, Duration) {
        match self {
            Self::Write => (3, Duration::from_secs(20), Duration::from_secs(15)),
            Self::Read => (2, Duration::from_secs(5), Duration::from_secs(3)),
        }
    }
}

impl StoreConfig {
    /// A directory, for a process that decides by itself where its archive is.
    pub fn directory(path: PathBuf) -> Self {
        Self { url: StoreUrl::Directory(path), access: StoreAccess::default() }
    }

    /// Opens the store. Makes a missing directory, but does not talk to a remote store yet.
    ///
    /// # Errors
    /// If the configuration cannot work, or the directory cannot be used.
    pub fn open(&self, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, StoreError> {
        match &self.url {
            StoreUrl::Memory => Ok(Arc::new(InMemory::new())),
            StoreUrl::Directory(path) => {
                let at = |source| StoreError::Directory { path: path.clone(), source };
                let path = std::path::absolute(path).map_err(at)?;
                std::fs::create_dir_all(&path).map_err(at)?;
                let store =
                    LocalFileSystem::new_with_prefix(&path).map_err(|e| self.unopened(e))?;
                Ok(Arc::new(store.with_fsync(true)))
            }
            StoreUrl::S3 { bucket, prefix } => self.open_s3(bucket, prefix, purpose),
        }
    }

    fn unopened(&self, source: object_store::Error) -> StoreError {
        StoreError::Open { url: self.url.clone(), source }
    }

    fn open_s3(
        &self,
        bucket: &str,
        prefix: &str,
        purpose: Purpose,
    ) -> Result<Arc<dyn ObjectStore>, StoreError> {
        // The HTTP client takes its cryptography from the process; another role may have set it already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let url = self.url.clone();
        let (Some(id), Some(secret)) =
            (&self.access.s3_access_key_id, &self.access.s3_secret_access_key)
        else {
            return Err(StoreError::NoCredentials { url });
        };
        let (max_retries, retry_timeout, request_timeout) = purpose.limits();
        let client = ClientOptions::new()
            .with_allow_http(self.access.s3_allow_http)
            .with_connect_timeout(Duration::from_secs(2))
            .with_timeout(request_timeout);
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(&self.access.s3_region)
            .with_access_key_id(&id.0)
            .with_secret_access_key(&secret.0)
            .with_client_options(client)
            .with_retry(RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries,
                retry_timeout,
            });
        if let Some(token) = &self.access.s3_session_token {
            builder = builder.with_token(&token.0);
        }
        if let Some(endpoint) = &self.access.s3_endpoint {
            if endpoint.starts_with("http://") && !self.access.s3_allow_http {
                let endpoint = endpoint.clone();
                return Err(StoreError::NoTls { url, endpoint });
            }
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|e| self.unopened(e))?;
        Ok(if prefix.is_empty() {
            Arc::new(store)
        } else {
            Arc::new(PrefixStore::new(store, Path::from(prefix)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_path_or_a_bucket() {
        for (text, url) in [
            ("data/archive", StoreUrl::Directory("data/archive".into())),
            ("file:///srv/archive", StoreUrl::Directory("/srv/archive".into())),
            (
                "s3://games/a/b/",
                StoreUrl::S3 { bucket: "games".to_owned(), prefix: "a/b".to_owned() },
            ),
            ("memory:", StoreUrl::Memory),
        ] {
            assert_eq!(text.parse(), Ok(url), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_a_store_says_what_can() {
        for (text, error) in [
            ("gs://games", StoreUrlError::Scheme("gs".to_owned())),
            ("s3://", StoreUrlError::NoBucket),
            ("file://archive", StoreUrlError::Relative),
            ("", StoreUrlError::Empty),
        ] {
            assert_eq!(text.parse::<StoreUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn an_s3_store_without_keys_or_without_tls_is_refused() {
        let mut config = StoreConfig::directory(PathBuf::new());
        config.url = "s3://games".parse().expect("a store");
        let error = config.open(Purpose::Read).expect_err("no keys");
        assert!(matches!(error, StoreError::NoCredentials { .. }), "{error}");
        config.access.s3_access_key_id = Some(Secret("id".to_owned()));
        config.access.s3_secret_access_key = Some(Secret("hush".to_owned()));
        config.access.s3_endpoint = Some("http://localhost:8333".to_owned());
        let error = config.open(Purpose::Read).expect_err("no TLS");
        assert!(matches!(error, StoreError::NoTls { .. }), "{error}");
        assert!(!format!("{config:?}").contains("hush"));
    }
}
