//! Options that say whose tokens are taken.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::token::{CheckingKey, Jwks, JwksError, JwksUrl, KeyError, Policy, TokenSecret, Tokens};

/// Whose tokens are taken.
#[derive(Args, Clone, Debug, Default)]
pub struct AuthConfig {
    /// Secret that players' tokens are signed with (HS256), at least 32 bytes. All gateways share it.
    #[arg(long, env = "TABLECAST_GATEWAY_TOKEN_SECRET", hide_env_values = true)]
    pub token_secret: Option<TokenSecret>,
    /// File with a public key in PEM, RSA (RS256) or Ed25519 (`EdDSA`), whose tokens are taken. May be repeated.
    #[arg(long, value_name = "FILE", env = "TABLECAST_GATEWAY_TOKEN_KEY", value_delimiter = ',')]
    pub token_key: Vec<PathBuf>,
    /// URL of a JSON Web Key Set with public keys whose tokens are taken.
    #[arg(long, value_name = "URL", env = "TABLECAST_GATEWAY_JWKS_URL")]
    pub jwks_url: Option<JwksUrl>,
    /// How long that set is good before it is fetched again. A token by an unknown key fetches it at once.
    #[arg(long, env = "TABLECAST_GATEWAY_JWKS_MAX_AGE", default_value = "10m", value_parser = humantime::parse_duration)]
    pub jwks_max_age: Duration,
    /// Take only tokens with this `iss`.
    #[arg(long, value_name = "NAME", env = "TABLECAST_GATEWAY_TOKEN_ISSUER")]
    pub token_issuer: Option<String>,
    /// Take only tokens with this `aud`. May be repeated: any of them will do.
    #[arg(
        long,
        value_name = "NAME",
        env = "TABLECAST_GATEWAY_TOKEN_AUDIENCE",
        value_delimiter = ','
    )]
    pub token_audience: Vec<String>,
}

/// Why tokens cannot be checked with these options.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file that cannot be read.
    #[error("the key {} cannot be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file that holds no key.
    #[error("the key {} cannot be used", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// No client for HTTP.
    #[error("sets of keys cannot be fetched")]
    Jwks(#[from] JwksError),
}

impl AuthConfig {
    /// Whether there is anything to check a token with.
    pub fn has_keys(&self) -> bool {
        self.token_secret.is_some() || !self.token_key.is_empty() || self.jwks_url.is_some()
    }

    /// What checks tokens. Reads the files; fetches nothing.
    ///
    /// # Errors
    /// If a file holds no public key.
    pub fn tokens(&self) -> Result<Tokens, AuthError> {
        let keys = self.token_key.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?;
        let jwks = self.jwks_url.clone().map(|url| Jwks::new(url, self.jwks_max_age));
        let policy =
            Policy { issuer: self.token_issuer.clone(), audience: self.token_audience.clone() };
        Ok(Tokens::with(self.token_secret.as_ref(), keys, jwks.transpose()?, policy))
    }
}

fn read_key(path: &Path) -> Result<CheckingKey, AuthError> {
    let path = path.to_owned();
    match std::fs::read(&path) {
        Ok(pem) => CheckingKey::from_pem(&pem).map_err(|source| AuthError::NoKey { path, source }),
        Err(source) => Err(AuthError::Unreadable { path, source }),
    }
}
