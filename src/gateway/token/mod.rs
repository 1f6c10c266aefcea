//! Who is who: tokens are JSON Web Tokens, signed with the secret that all gateways share or with a key of
//! which they have the public half.

mod claims;
mod jwks;
mod keys;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Header, decode_header};

use crate::domain::{Identity, Seat, TableId, Timestamp};
use crate::runtime::clock::Clock;

pub use claims::{Audience, Claims, Policy, SeatClaim};
pub(super) use claims::{NAME_CHARS_MAX, shown_name};
pub use jwks::{Jwks, JwksError, JwksUrl};
pub use keys::{CheckingKey, KeyError, SecretTooShort, SigningKey, TokenSecret};

/// What the ids of guests begin with.
pub(super) const GUEST: &str = "guest-";

/// A player as a token names it, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// The player.
    pub identity: Identity,
    /// When the token stops to be good.
    pub expires_at: Timestamp,
    /// The one seat that the player may take, if the token is for that alone.
    pub seat: Option<SeatBound>,
}

impl Bearer {
    /// When it is not believed any more: a little later, because clocks differ.
    pub fn ends_at(&self) -> Timestamp {
        self.expires_at.plus_millis(claims::LEEWAY_MS)
    }
}

/// The seat that a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeatBound {
    /// Where.
    pub table: TableId,
    /// Which seat there.
    pub seat: Seat,
}

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was good once.
    #[error("the token has expired")]
    Expired,
    /// It will be good.
    #[error("the token is not good yet: see its `nbf`, and the clocks")]
    NotYet,
    /// No token at all, or without `exp`.
    #[error("this is no JSON Web Token with an `exp`, or its claims have wrong types")]
    Malformed,
    /// Nobody whom we know signed it.
    #[error("the token is not signed with a key of this deployment")]
    NotOurs,
    /// Its `iss` is another.
    #[error("the token's `iss` is not the one of --token-issuer")]
    WrongIssuer,
    /// It is for others.
    #[error("the token's `aud` is not one of --token-audience")]
    WrongAudience,
    /// Neither `sub` nor `tc`, or they make no id.
    #[error(
        "the token names no player: `sub` has 1 to 128 printable characters without spaces, fewer in a seat token"
    )]
    NoPlayer,
    /// It cannot be shown.
    #[error("the token's `name` has not 1 to {NAME_CHARS_MAX} characters that can be shown")]
    BadName,
    /// A key that the set may have by now.
    #[error("the token is signed with a key that is not known yet")]
    UnknownKey,
    /// Whether the key is good cannot be known now.
    #[error("the token's key is not known, and the set of keys cannot be had now")]
    KeysUnavailable {
        /// When it is worth another try.
        retry_after: Duration,
    },
}

impl TokenError {
    /// The metric label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Malformed => "malformed",
            Self::NotOurs => "not_ours",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::NoPlayer => "no_player",
            Self::BadName => "bad_name",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnavailable { .. } => "keys_unavailable",
        }
    }
}

/// Signs and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    signer: Option<Arc<SigningKey>>,
    secret: Option<Arc<CheckingKey>>,
    keys: Arc<[CheckingKey]>,
    jwks: Option<Arc<Jwks>>,
    policy: Arc<Policy>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

impl Tokens {
    /// With this secret alone.
    pub fn new(secret: &TokenSecret) -> Self {
        Self::with(Some(secret), vec![], None, Policy::default())
    }

    /// With all of these.
    pub fn with(
        secret: Option<&TokenSecret>,
        keys: Vec<CheckingKey>,
        jwks: Option<Arc<Jwks>>,
        policy: Policy,
    ) -> Self {
        Self {
            signer: secret.map(SigningKey::of_secret).map(Arc::new),
            secret: secret.map(CheckingKey::of_secret).map(Arc::new),
            keys: keys.into(),
            jwks,
            policy: Arc::new(policy),
        }
    }

    /// The set of keys that is to be kept fresh.
    pub fn jwks(&self) -> Option<&Arc<Jwks>> {
        self.jwks.as_ref()
    }

    /// A token for this player.
    ///
    /// # Panics
    /// Without a secret: configurations in which tokens are issued have one.
    pub fn issue(&self, identity: &Identity, now: Timestamp, ttl: Duration) -> (String, Timestamp) {
        let iat = now.as_millis() / 1000;
        let exp = iat.saturating_add(ttl.as_secs());
        let claims = Claims {
            sub: Some(identity.player.as_str().to_owned()),
            name: Some(identity.name.clone()),
            iss: self.policy.issuer.clone(),
            aud: self.policy.audience.first().cloned().map(Audience::One),
            exp: Some(exp),
            iat: Some(iat),
            ..Claims::default()
        };
        let signer = self.signer.as_ref().expect("tokens are issued with the secret");
        let token = signer.sign(&claims);
        (
            token.expect("our own claims are plain data, and HMAC takes any key"),
            claims::from_secs(exp),
        )
    }

    /// Who shows this token, as far as is known without waiting.
    ///
    /// # Errors
    /// If it is not, or no longer, a token of ours; [`TokenError::UnknownKey`] if [`Tokens::check_anew`] may know more.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Bearer, TokenError> {
        let header = decode_header(token).map_err(|_no_token| TokenError::Malformed)?;
        let fixed = self.secret.as_deref().into_iter().chain(self.keys.iter());
        for key in fixed.filter(|key| key.may_have_signed(&header)) {
            if let Some(claims) = opened(key, token)? {
                return self.policy.judge(claims, now);
            }
        }
        let Some(jwks) = &self.jwks else { return Err(TokenError::NotOurs) };
        let known = jwks.keys();
        for key in known.iter().filter(|key| key.may_have_signed(&header)) {
            if let Some(claims) = opened(key, token)? {
                return self.policy.judge(claims, now);
            }
        }
        let may_be_there = matches!(header.alg, Algorithm::RS256 | Algorithm::EdDSA)
            && (!jwks.has_fetched() || names_another_key(&header, &known));
        Err(if may_be_there { TokenError::UnknownKey } else { TokenError::NotOurs })
    }

    /// The same, once the set of keys was asked for anew.
    ///
    /// # Errors
    /// As for [`Tokens::check`], but never [`TokenError::UnknownKey`].
    pub async fn check_anew(&self, token: &str, clock: Clock) -> Result<Bearer, TokenError> {
        let asked = match &self.jwks {
            Some(jwks) => jwks.ask_anew().await,
            None => Ok(()),
        };
        match (self.check(token, clock.now()), asked) {
            (Err(TokenError::UnknownKey), Err(retry_after)) => {
                Err(TokenError::KeysUnavailable { retry_after })
            }
            (Err(TokenError::UnknownKey), Ok(())) => Err(TokenError::NotOurs),
            (known, _) => known,
        }
    }

    /// The guest who shows a token that we issued, for another one that is good for longer.
    pub(super) fn check_guest(&self, token: &str, now: Timestamp) -> Option<Identity> {
        let claims = self.secret.as_ref()?.open(token).ok()?;
        let bearer = self.policy.judge(claims, now).ok()?;
        let is_guest = bearer.seat.is_none() && bearer.identity.player.as_str().starts_with(GUEST);
        is_guest.then_some(bearer.identity)
    }
}

/// What a token says of itself, whoever signed it: for people to read, and for no decision.
pub fn read_unchecked(token: &str) -> Option<serde_json::Value> {
    let said = jsonwebtoken::dangerous::insecure_decode::<serde_json::Value>(token).ok()?;
    Some(serde_json::json!({ "header": said.header, "claims": said.claims }))
}

/// What the token says; nothing if it was another key that signed it.
fn opened(key: &CheckingKey, token: &str) -> Result<Option<Claims>, TokenError> {
    key.open(token).map(Some).or_else(|error| {
        let kind = error.kind();
        let is_misread =
            matches!(kind, ErrorKind::Json(_) | ErrorKind::Base64(_) | ErrorKind::Utf8(_));
        if is_misread { Err(TokenError::Malformed) } else { Ok(None) }
    })
}

/// Whether the token says that it is signed with a key that the set has not.
fn names_another_key(header: &Header, known: &[CheckingKey]) -> bool {
    let is_unknown = |kid: &str| known.iter().all(|key| key.kid() != Some(kid));
    header.kid.as_deref().is_some_and(is_unknown)
}
