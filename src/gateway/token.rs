//! Who is who: tokens are JSON Web Tokens signed with the secret that all gateways share. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::domain::{Identity, PlayerId, Timestamp};

/// HS256 needs a key as long as its hash.
const SECRET_BYTES_MIN: usize = 32;
/// Clocks of different machines differ by less.
const LEEWAY_MS: u64 = 5_000;
/// The longest name that is shown to others, in characters.
pub(super) const NAME_CHARS_MAX: usize = 24;

/// The secret that tokens are signed with. Prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(Arc<[u8]>);

impl TokenSecret {
    /// A secret that no other process knows: for one gateway alone.
    pub fn random() -> Self {
        Self(rand::random::<[u8; SECRET_BYTES_MIN]>().as_slice().into())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(redacted)")
    }
}

/// The text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token secret has at least {SECRET_BYTES_MIN} bytes, as `openssl rand -hex 32` prints them"
)]
pub struct SecretTooShort;

impl FromStr for TokenSecret {
    type Err = SecretTooShort;

    fn from_str(text: &str) -> Result<Self, SecretTooShort> {
        if text.len() < SECRET_BYTES_MIN {
            return Err(SecretTooShort);
        }
        Ok(Self(text.as_bytes().into()))
    }
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    /// The player.
    sub: PlayerId,
    /// As shown to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Seconds since the Unix epoch.
    exp: u64,
    #[serde(default)]
    iat: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<u64>,
}

/// A player as a token names it, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The player.
    pub identity: Identity,
    /// When the token stops to be good.
    pub expires_at: Timestamp,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// Not signed by us, not yet good, or no token at all.
    #[error("this is no token of ours")]
    Bad,
}

/// Signs and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    encoding: Arc<EncodingKey>,
    decoding: Arc<DecodingKey>,
    validation: Arc<Validation>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

impl Tokens {
    /// With this secret.
    pub fn new(secret: &TokenSecret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked against the time we are given, not against the machine's.
        validation.validate_exp = false;
        validation.required_spec_claims = ["exp", "sub"].map(str::to_owned).into();
        Self {
            encoding: Arc::new(EncodingKey::from_secret(&secret.0)),
            decoding: Arc::new(DecodingKey::from_secret(&secret.0)),
            validation: Arc::new(validation),
        }
    }

    /// A token for this player.
    pub fn issue(&self, identity: &Identity, now: Timestamp, ttl: Duration) -> (String, Timestamp) {
        let iat = now.as_millis() / 1000;
        let exp = iat.saturating_add(ttl.as_secs());
        let claims = Claims {
            sub: identity.player.clone(),
            name: Some(identity.name.clone()),
            exp,
            iat,
            nbf: None,
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("our own claims are plain data, and HMAC takes any key");
        (token, from_secs(exp))
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// If it is not, or no longer, a token of ours.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Bearer, TokenError> {
        let token = decode::<Claims>(token, &self.decoding, &self.validation);
        let Ok(claims) = token.map(|token| token.claims) else {
            return Err(TokenError::Bad);
        };
        let expires_at = from_secs(claims.exp);
        if expires_at.plus_millis(LEEWAY_MS) <= now {
            return Err(TokenError::Expired);
        }
        let starts_at = from_secs(claims.nbf.unwrap_or(0));
        if starts_at > now.plus_millis(LEEWAY_MS) {
            return Err(TokenError::Bad);
        }
        let name = match claims.name {
            Some(name) => shown_name(&name).ok_or(TokenError::Bad)?,
            None => claims.sub.as_str().chars().take(NAME_CHARS_MAX).collect(),
        };
        Ok(Bearer { identity: Identity { player: claims.sub, name }, expires_at })
    }
}

fn from_secs(secs: u64) -> Timestamp {
    Timestamp::from_millis(secs.saturating_mul(1000))
}

/// A name as it may be shown to others; nothing if it may not.
pub(super) fn shown_name(name: &str) -> Option<String> {
    let name = name.trim();
    let is_long = name.chars().nth(NAME_CHARS_MAX).is_some();
    if name.is_empty() || is_long || name.chars().any(is_deceptive) {
        return None;
    }
    Some(name.to_owned())
}

/// Control characters, and those that turn the direction of the text around them.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn tokens() -> Tokens {
        Tokens::new(&"0123456789abcdef0123456789abcdef".parse().unwrap())
    }

    fn nok() -> Identity {
        Identity { player: "guest-1".parse().unwrap(), name: "Nok".to_owned() }
    }

    #[test]
    fn a_token_names_its_player_until_it_expires() {
        let (token, expires_at) = tokens().issue(&nok(), NOW, HOUR);
        let bearer = tokens().check(&token, NOW).unwrap();
        assert_eq!(bearer.identity, nok());
        assert_eq!(bearer.expires_at, expires_at);
        let late = expires_at.plus_millis(LEEWAY_MS);
        assert_eq!(tokens().check(&token, late), Err(TokenError::Expired));
    }

    #[test]
    fn a_token_of_another_secret_or_algorithm_is_not_taken() {
        let other = Tokens::new(&TokenSecret::random());
        let (token, _) = other.issue(&nok(), NOW, HOUR);
        assert_eq!(tokens().check(&token, NOW), Err(TokenError::Bad));
        // {"alg":"none"} with the claims of a good one.
        let (token, _) = tokens().issue(&nok(), NOW, HOUR);
        let claims = token.split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
        assert_eq!(tokens().check(&unsigned, NOW), Err(TokenError::Bad));
        assert_eq!(tokens().check("", NOW), Err(TokenError::Bad));
    }

    #[test]
    fn a_secret_is_long_and_never_printed() {
        assert_eq!("short".parse::<TokenSecret>(), Err(SecretTooShort));
        let printed = format!("{:?}", TokenSecret::random());
        assert_eq!(printed, "TokenSecret(redacted)");
    }

    #[test]
    fn a_name_is_short_and_plain() {
        assert_eq!(shown_name("  Nok "), Some("Nok".to_owned()));
        for bad in ["", "   ", "a\nb", "\u{202e}kon", &"x".repeat(25)] {
            assert_eq!(shown_name(bad), None, "{bad:?}");
        }
        assert!(shown_name(&"ก".repeat(24)).is_some());
    }
}
